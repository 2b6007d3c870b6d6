//! A node leaves: checked, told to hand its data over, watched, verified; its process is ended and its files are moved
//! aside. Run again after a kill at any step, it goes on from the state that the cluster is in.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use indicatif::HumanDuration;
use tokio::process::Child;

use super::checks::{self, Refused, Shortages};
use super::journal::{Journal, Operation};
use super::operator::{Operator, STALL_DEADLINE};
use super::runtime::{Node, Runtime};
use super::sample;
use super::streaming::{Direction, Progress};
use super::view::{State, View};
use crate::cassandra::system;
use crate::config::Consistency;
use crate::servers::local::progress::Board;

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
    runtime: &Runtime,
    node: &Node,
    wanted: Wanted,
) -> anyhow::Result<Plan> {
    let view = View::read(&operator.session).await?;
    let mut reasons = checks::all_is_quiet(&view, None);
    let ip = node.ip();
    let Some(leaving) = view.member(ip) else {
        bail!("{} is no node of the cluster (`iotctl node list` lists them)", node.name);
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
    reasons.extend(runtime.hold(node));
    let seeds = runtime.seeds(&view).await?;
    let is_left = |seed: &IpAddr| *seed != ip && view.member(*seed).is_some();
    if nodes_left > 0 && !seeds.iter().any(is_left) {
        reasons.push(
            "it is the last seed: the others would not find each other after a restart (make another one a seed first, or \
             decommission another)"
                .into(),
        );
    }
    let load_bytes = leaving.load_bytes.unwrap_or(0.0);
    let others = view.members.iter().filter(|member| member.ip() != ip);
    let others: Vec<_> = others.map(|member| runtime.member(member.address)).collect::<Result<_, _>>()?;
    let disks = runtime.disks(&others).await?;
    let share = load_bytes / disks.len().max(1) as f64;
    reasons.extend(disks.iter().filter_map(|disk| checks::disk_reasons(share, disk.free, &disk.place)));
    Refused::unless_none(format!("decommissioning {}", node.name), reasons)?;
    Ok(Plan { name: node.name.clone(), load_bytes, nodes_left, lowered: of_system })
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
pub async fn begin(operator: &Operator, node: &Node, plan: &Plan) -> anyhow::Result<Journal> {
    let sample = sample::take(&operator.cassandra, Consistency::All).await?;
    let mut journal = Journal::begin(&operator.journals, Operation::Decommission, &node.name, node.address)?;
    journal.record.sample = sample;
    journal
        .step("checked: every node up and normal, replicas enough, room on the disk, not the last seed")?;
    for (keyspace, factor) in &plan.lowered {
        system::set_simple_replication(&operator.session, keyspace, *factor).await?;
        journal.step(format!("{keyspace} has {factor} replicas from now on"))?;
    }
    operator.session.await_schema_agreement().await?;
    Ok(journal)
}

/// From wherever it is to its end.
pub async fn carry_out(
    operator: &Operator,
    runtime: &mut Runtime,
    node: &Node,
    mut journal: Journal,
) -> anyhow::Result<Journal> {
    let ip = node.ip();
    if !is_gone(operator.state_of(ip).await?) {
        let nodetool = match operator.state_of(ip).await? {
            Some(State::Normal) => {
                let child = runtime
                    .nodetool(node, &["decommission"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .context("cannot start nodetool")?;
                journal.step("told to hand its data over")?;
                Some(child)
            }
            _ => None,
        };
        watch(operator, runtime, &mut journal, node, nodetool).await?;
        journal.step("has handed its data over and left the ring")?;
    }
    runtime.stop(node).await?;
    let aside = runtime.set_aside(node).await?;
    runtime.strike(node).await?;
    journal.step(match &aside {
        Some(place) => format!("stopped; its files are in {place}"),
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
    runtime: &Runtime,
    journal: &mut Journal,
    node: &Node,
    mut nodetool: Option<Child>,
) -> anyhow::Result<()> {
    let (ip, since) = (node.ip(), journal.record.started_at.timestamp_millis());
    let board = Board::new(operator.output);
    let step = board.step(&node.name, "leaving");
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
            runtime.is_running(node).await?,
            "{} ended while it was leaving ({}, and run the same command again)",
            node.name,
            runtime.restart_remedy(node)
        );
        if progress != seen {
            (seen, moved) = (progress, Instant::now());
        }
        ensure!(
            moved.elapsed() < STALL_DEADLINE,
            "{} has handed nothing over for {} (see its log; its journal is {})",
            node.name,
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
            bail!("{} refuses to leave: {reason} (nothing has changed)", node.name);
        }
        operator.pause(&format!("{} goes on leaving", node.name)).await?;
    }
}
