//! A node leaves: checked, told to hand its data over, watched, verified; its process is ended and its files are moved
//! aside. Run again after a kill at any step, it goes on from the state that the cluster is in.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use indicatif::HumanDuration;
use tokio::process::Child;

use super::checks::{self, Refused, Shortages};
use super::journal::{Journal, Operation};
use super::operator::{Operator, STALL_DEADLINE};
use super::sample;
use super::streaming::{Direction, Progress};
use super::view::{State, View};
use crate::config::Consistency;
use crate::local::Members;
use crate::local::cluster::{LocalNode, Server};
use crate::local::progress::Board;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Lower the replication of Cassandra's own keyspaces where too few nodes would be left for it.
    pub fix_system_replication: bool,
}

/// What would be done, all checks passed.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    pub load_bytes: f64,
    pub nodes_left: usize,
    /// Keyspaces of Cassandra's own whose replication factor is lowered, and to what.
    pub lowered: Vec<(String, usize)>,
}

/// Finds out what would be done.
///
/// # Errors
/// [`Refused`], with every reason against it.
pub async fn plan(
    operator: &Operator,
    members: &Members,
    (node, server): &(LocalNode, Server),
    wanted: Wanted,
) -> anyhow::Result<Plan> {
    let view = View::read(&operator.session).await?;
    let mut reasons = checks::all_is_quiet(&view, None);
    let ip = server.address.ip();
    let Some(leaving) = view.member(ip) else {
        bail!("{} is no node of the cluster (`iotctl node list` lists them)", server.name);
    };
    let nodes_left = view.members.len() - 1;
    if nodes_left == 0 {
        reasons.push("it is the last node (`iotctl down` stops it)".into());
    }
    let Shortages { of_users, of_system } =
        checks::shortages(&view, &checks::keyspaces(&operator.session).await?, leaving);
    if nodes_left > 0 {
        reasons.extend(of_users);
        if !wanted.fix_system_replication {
            reasons.extend(of_system.iter().map(|(keyspace, left)| {
                format!(
                    "{keyspace} has more replicas than the {left} nodes left (add --fix-system-replication)"
                )
            }));
        }
    }
    if members.is_last_seed(*node) && nodes_left > 0 {
        reasons.push("it is the last seed: the others would not find each other after a restart (decommission another)".into());
    }
    let load_bytes = leaving.load_bytes.unwrap_or(0.0);
    let (free, place) = members.free_disk()?;
    reasons.extend(checks::disk_reasons(load_bytes, free, &place));
    Refused::unless_none(format!("decommissioning {}", server.name), reasons)?;
    Ok(Plan { name: server.name.clone(), load_bytes, nodes_left, lowered: of_system })
}

/// The decommission that was begun and has not ended, if there is one.
///
/// # Errors
/// When another operation has to be seen through first.
pub fn unfinished(operator: &Operator, name: &str) -> anyhow::Result<Option<Journal>> {
    let Some(journal) = Journal::unfinished(&operator.journals)? else { return Ok(None) };
    let record = &journal.record;
    ensure!(
        record.operation == Operation::Decommission && record.node == name,
        "{} of {} was begun and not ended (see it through first: `{}`)",
        record.operation,
        record.node,
        record.command()
    );
    Ok(Some(journal))
}

/// Writes down that it begins, with a sample to verify it by.
pub async fn begin(operator: &Operator, server: &Server, plan: &Plan) -> anyhow::Result<Journal> {
    let sample = sample::take(&operator.cassandra, Consistency::All).await?;
    let mut journal =
        Journal::begin(&operator.journals, Operation::Decommission, &server.name, server.address)?;
    journal.record.sample = sample;
    journal
        .step("checked: every node up and normal, replicas enough, room on the disk, not the last seed")?;
    for (keyspace, factor) in &plan.lowered {
        let cql = format!(
            "ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
        );
        operator.session.query(&cql).await?;
        journal.step(format!("{keyspace} has {factor} replicas from now on"))?;
    }
    operator.session.await_schema_agreement().await?;
    Ok(journal)
}

/// From wherever it is to its end.
pub async fn carry_out(
    operator: &Operator,
    members: &mut Members,
    (node, server): &(LocalNode, Server),
    mut journal: Journal,
) -> anyhow::Result<Journal> {
    let ip = server.address.ip();
    if !is_gone(operator.state_of(ip).await?) {
        let nodetool = match operator.state_of(ip).await? {
            Some(State::Normal) => {
                let child = members
                    .nodetool(*node, &["decommission"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .context("cannot start nodetool")?;
                journal.step("told to hand its data over")?;
                Some(child)
            }
            _ => None,
        };
        watch(operator, members, &mut journal, server, nodetool).await?;
        journal.step("has handed its data over and left the ring")?;
    }
    members.stop(&server.name).await?;
    let aside = members.set_aside(&server.name)?;
    members.strike(*node)?;
    journal.step(match &aside {
        Some(path) => format!("stopped; its files are in {}", path.display()),
        None => "stopped".into(),
    })?;
    operator
        .await_agreement(|view| view.member(ip).is_some().then(|| format!("{ip} is still known as a node")))
        .await?;
    sample::verify(&operator.cassandra, &journal.record.sample).await?;
    let sampled = journal.record.sample.len();
    journal.finish(format!("{sampled} partitions counted at ALL have all their rows"))?;
    Ok(journal)
}

fn is_gone(state: Option<State>) -> bool {
    matches!(state, None | Some(State::Left))
}

/// Shows the streaming until the others take the node for gone.
async fn watch(
    operator: &Operator,
    members: &Members,
    journal: &mut Journal,
    server: &Server,
    mut nodetool: Option<Child>,
) -> anyhow::Result<()> {
    let (ip, since) = (server.address.ip(), journal.record.started_at.timestamp_millis());
    let board = Board::new(operator.output);
    let step = board.step(&server.name, "leaving");
    let (started, begun) = (Instant::now(), Utc::now());
    let (mut seen, mut moved) = (Progress::default(), Instant::now());
    loop {
        let state = operator.state_of(ip).await?;
        let progress =
            Progress::read(&operator.session, ip, Direction::Out, since.min(begun.timestamp_millis())).await;
        if is_gone(state) {
            step.done(&format!("left, {progress}"));
            return Ok(());
        }
        ensure!(
            members.process(&server.name)?.is_some(),
            "{} ended while it was leaving (start it with `iotctl up`, and run the same command again)",
            server.name
        );
        if progress != seen {
            (seen, moved) = (progress, Instant::now());
        }
        ensure!(
            moved.elapsed() < STALL_DEADLINE,
            "{} has handed nothing over for {} (see its log; its journal is {})",
            server.name,
            HumanDuration(STALL_DEADLINE),
            journal.path().display()
        );
        step.say(format!("leaving: {}", progress.describe(started)));
        let ended = match &mut nodetool {
            Some(child) => child.try_wait()?,
            None => None,
        };
        if ended.is_some_and(|status| !status.success()) && state == Some(State::Normal) {
            let output = match nodetool.take() {
                Some(child) => child.wait_with_output().await?,
                None => bail!("nodetool is gone"),
            };
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
            let reason = said.lines().next().unwrap_or("it does not say why").to_owned();
            journal.finish(format!("the node refuses: {reason}"))?;
            bail!("{} refuses to leave: {reason} (nothing has changed)", server.name);
        }
        operator.pause(&format!("{} goes on leaving", server.name)).await?;
    }
}
