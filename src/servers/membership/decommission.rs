//! A node leaves: the checks, the handover of its data, the verification; then its process is ended and its files are
//! moved aside. Run again after a kill at any step, it continues from the state that the cluster is in.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use indicatif::HumanDuration;
use tokio::process::Child;

use super::checks::{self, Refused, Shortages};
use super::journal::{Journal, Operation};
use super::nodetool;
use super::operator::{Operator, STALL_DEADLINE};
use super::runtime::{Node, Runtime};
use super::sample;
use super::streaming::{Direction, Progress};
use super::view::{State, View};
use crate::cassandra::system;
use crate::config::Consistency;
use crate::servers::local::progress::ProgressLines;

/// What is requested.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// Lower the replication of Cassandra's own keyspaces if too few nodes would be left for it.
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

/// Determines what would be done.
///
/// # Errors
/// [`Refused`], with every reason.
pub async fn plan(
    operator: &Operator,
    runtime: &Runtime,
    node: &Node,
    request: Request,
) -> anyhow::Result<Plan> {
    let view = View::read(&operator.session).await?;
    let mut reasons = checks::all_is_quiet(&view, None);
    let ip = node.ip();
    let Some(leaving) = view.member(ip) else {
        bail!("{} is not a cluster member (`iotctl node list` lists them)", node.name);
    };
    let nodes_left = view.members.len() - 1;
    if nodes_left == 0 {
        reasons.push("it is the last node (`iotctl down` stops it)".into());
    }
    let Shortages { of_users, of_system } =
        checks::shortages(&view, &checks::keyspaces(&operator.session).await?, leaving);
    if nodes_left > 0 {
        reasons.extend(of_users);
        if !request.fix_system_replication {
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
            "it is the last seed: the others would not find each other after a restart (make another node a seed first, \
             or decommission another one)"
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

/// The decommission that was begun and is not finished, if there is one.
///
/// # Errors
/// If another operation has to be finished first.
pub fn unfinished(operator: &Operator, name: &str) -> anyhow::Result<Option<Journal>> {
    let Some(journal) = Journal::unfinished(&operator.journals)? else { return Ok(None) };
    let record = &journal.record;
    ensure!(record.operation == Operation::Decommission && record.node == name, record.obstacle());
    Ok(Some(journal))
}

/// Records that it begins, with a sample to verify it by.
pub async fn begin(operator: &Operator, node: &Node, plan: &Plan) -> anyhow::Result<Journal> {
    let sample = sample::take(&operator.cassandra, Consistency::All).await?;
    let mut journal = Journal::begin(&operator.journals, Operation::Decommission, &node.name, node.address)?;
    journal.record.sample = sample;
    journal.record.lowered.clone_from(&plan.lowered);
    journal
        .step("checked: every node up and normal, replicas enough, room on the disk, not the last seed")?;
    Ok(journal)
}

/// Lowers the replication factors that the plan has. Done again after a kill, it changes nothing.
async fn lower_replication(operator: &Operator, journal: &mut Journal) -> anyhow::Result<()> {
    for (keyspace, factor) in journal.record.lowered.clone() {
        system::set_simple_replication(&operator.session, &keyspace, factor).await?;
        journal.step(format!("{keyspace} has {factor} replicas from now on"))?;
    }
    Ok(operator.session.await_schema_agreement().await?)
}

/// From wherever it is to its end.
pub async fn carry_out(
    operator: &Operator,
    runtime: &mut Runtime,
    node: &Node,
    mut journal: Journal,
) -> anyhow::Result<Journal> {
    let ip = node.ip();
    let state = operator.state_of(ip).await?;
    if !is_gone(state) {
        if state == Some(State::Normal) {
            // A node that was restarted in the middle is normal again; its peers need a moment to see it so.
            operator.await_agreement(|_| None).await?;
            lower_replication(operator, &mut journal).await?;
        }
        ensure_running(runtime, node).await?;
        let run = runtime
            .nodetool(node, &["decommission"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start nodetool")?;
        journal.step("asked to hand its data over")?;
        // A node that is leaving already answers at once, and goes on.
        watch(operator, runtime, &mut journal, node, run, state == Some(State::Normal)).await?;
        journal.step("has handed its data over and left the ring")?;
    }
    runtime.stop(node).await?;
    // Off the list first: with its files aside, a node that is started again would join with no data.
    runtime.strike(node).await?;
    let aside = runtime.set_aside(node).await?;
    journal.step(match &aside {
        Some(place) => format!("stopped; its files are in {place}"),
        None => "stopped".into(),
    })?;
    operator
        .await_agreement(|view| view.member(ip).is_some().then(|| format!("{ip} is still known as a member")))
        .await?;
    sample::verify(&operator.cassandra, &journal.record.sample).await?;
    let sampled = journal.record.sample.len();
    journal.finish(format!("{sampled} partitions counted at ALL have all their rows"))?;
    Ok(journal)
}

fn is_gone(state: Option<State>) -> bool {
    matches!(state, None | Some(State::Left))
}

async fn ensure_running(runtime: &Runtime, node: &Node) -> anyhow::Result<()> {
    ensure!(
        runtime.is_running(node).await?,
        "the process of {} ended before the node had left ({}, and run the same command again)",
        node.name,
        runtime.restart_remedy(node)
    );
    Ok(())
}

/// Shows the streaming until the others know that the node has left. `nodetool` runs the decommission; `is_new` unless it
/// joins one that was begun before.
async fn watch(
    operator: &Operator,
    runtime: &Runtime,
    journal: &mut Journal,
    node: &Node,
    nodetool: Child,
    is_new: bool,
) -> anyhow::Result<()> {
    let (ip, since) = (node.ip(), journal.record.started_at.timestamp_millis());
    let board = ProgressLines::new(operator.output);
    let step = board.step(&node.name, "leaving");
    let (started, begun) = (Instant::now(), Utc::now());
    let (mut seen, mut moved) = (Progress::default(), Instant::now());
    let mut running = Some(nodetool);
    loop {
        let state = operator.state_of(ip).await?;
        let progress =
            Progress::read(&operator.session, ip, Direction::Out, since.min(begun.timestamp_millis())).await;
        if is_gone(state) {
            step.done(&format!("left, {progress}"));
            return Ok(());
        }
        ensure_running(runtime, node).await?;
        if progress != seen {
            (seen, moved) = (progress, Instant::now());
        }
        ensure!(
            moved.elapsed() < STALL_DEADLINE,
            "{} has not handed anything over for {} (see its log; its journal is {})",
            node.name,
            HumanDuration(STALL_DEADLINE),
            journal.path().display()
        );
        step.set(format!("leaving: {}", progress.describe(started)));
        if let Some(reason) = failure(&mut running).await? {
            if state == Some(State::Normal) {
                journal.finish(format!("the node refuses: {reason}"))?;
                bail!(
                    "{} refuses to leave: {reason} (it stays a cluster member with all its data)",
                    node.name
                );
            }
            // Before Cassandra 5.0, a node that is leaving already refuses the second request.
            ensure!(
                !is_new,
                "{} failed to hand its data over: {reason} (run the same command again to retry, or restart the node and \
                 give up with `iotctl node abandon`)",
                node.name
            );
        }
        operator.pause(&format!("{} continues to leave", node.name)).await?;
    }
}

/// Why nodetool has failed, once it has.
async fn failure(running: &mut Option<Child>) -> anyhow::Result<Option<String>> {
    let Some(child) = running else { return Ok(None) };
    let Some(status) = child.try_wait()? else { return Ok(None) };
    let Some(child) = running.take().filter(|_| !status.success()) else { return Ok(None) };
    Ok(Some(nodetool::reason(&child.wait_with_output().await?)))
}
