//! A node joins: the checks, the start, the streaming of what it will own, the verification. Run again after a kill at
//! any step, it continues from the state that the cluster is in.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use chrono::Utc;
use indicatif::HumanDuration;

use super::checks::{self, Refused};
use super::journal::{CleanupDue, Journal, Operation};
use super::operator::{Operator, STALL_DEADLINE};
use super::runtime::{Node, Runtime};
use super::sample;
use super::streaming::{Direction, Progress};
use super::view::{self, State, View};
use crate::config::Consistency;
use crate::servers::local::progress::ProgressLines;
use crate::servers::local::{Kind, ready};

/// How long the others may remember an attempt to join that failed.
const FORGETTING_DEADLINE: Duration = Duration::from_secs(90);

/// Adds one node, or finishes the addition that was begun.
pub async fn add(operator: &Operator, runtime: &mut Runtime) -> anyhow::Result<Journal> {
    let journal = match Journal::unfinished(&operator.journals)? {
        Some(journal) => resume(operator, journal, Operation::Add, None)?,
        None => plan(operator, runtime).await?,
    };
    carry_out(operator, runtime, journal, None).await
}

/// Puts a new node in the place of a dead one, whose tokens it takes, or finishes the replacement that was begun.
pub async fn replace(operator: &Operator, runtime: &mut Runtime, dead: Node) -> anyhow::Result<Journal> {
    let journal = match Journal::unfinished(&operator.journals)? {
        Some(journal) => resume(operator, journal, Operation::Replace, Some(&dead.name))?,
        None => plan_replacement(operator, runtime, &dead).await?,
    };
    carry_out(operator, runtime, journal, Some(dead)).await
}

/// From wherever it is to its end.
async fn carry_out(
    operator: &Operator,
    runtime: &mut Runtime,
    mut journal: Journal,
    dead: Option<Node>,
) -> anyhow::Result<Journal> {
    let node = runtime.named(&journal.record.node)?;
    let ip = node.ip();
    ensure_started(operator, runtime, &mut journal, &node, dead.as_ref()).await?;
    watch(operator, runtime, &journal, &node).await?;
    match &dead {
        Some(dead) if !journal.record.is_replaced => {
            // Off the list first: with its files aside, a node that is started again would join with no data.
            runtime.succeed(dead, &node).await?;
            let aside = runtime.set_aside(dead).await?;
            let aside = aside.map(|place| format!("; its files are in {place}")).unwrap_or_default();
            journal.record.is_replaced = true;
            journal.step(format!("{} is replaced{aside}", dead.name))?;
        }
        Some(_) => {}
        None => runtime.enlist(&node).await?,
    }
    if journal.record.host_id.is_none() {
        let view = operator.await_agreement(|view| is_missing(view, ip)).await?;
        journal.record.host_id = view.member(ip).and_then(|member| member.host_id);
        journal.step("up and normal in every node's view")?;
    }
    check_tokens(operator, ip).await?;
    sample::verify(&operator.cassandra, &journal.record.sample).await?;
    if dead.is_none() {
        let view = View::read(&operator.session).await?;
        for member in view.members.iter().filter(|member| member.ip() != ip) {
            let Node { name, address } = runtime.member(member.address)?;
            journal.record.cleanup.push(CleanupDue { node: name, address, done_at: None });
        }
    }
    let sampled = journal.record.sample.len();
    journal.finish(format!("owns its tokens; {sampled} partitions counted at ALL have all their rows"))?;
    Ok(journal)
}

fn resume(
    operator: &Operator,
    journal: Journal,
    operation: Operation,
    replaces: Option<&str>,
) -> anyhow::Result<Journal> {
    let record = &journal.record;
    ensure!(record.operation == operation && record.replaces.as_deref() == replaces, record.obstacle());
    operator
        .output
        .note(format!("continuing with {}, which was begun at {}", record.node, record.started_at));
    Ok(journal)
}

async fn plan(operator: &Operator, runtime: &Runtime) -> anyhow::Result<Journal> {
    let view = View::read(&operator.session).await?;
    let node = runtime.next(&view)?;
    let mut reasons = checks::all_is_quiet(&view, None);
    reasons.extend(room(runtime, &node, &view).await?);
    if runtime.seeds(&view).await?.contains(&node.ip()) {
        reasons.push(format!(
            "{} is a seed of the others, and a seed streams no data when it joins (remove it from their lists of seeds)",
            node.name
        ));
    }
    Refused::unless_none(format!("adding {}", node.name), reasons)?;
    let sample = sample::take(&operator.cassandra, Consistency::All).await?;
    let mut journal = Journal::begin(&operator.journals, Operation::Add, &node.name, node.address)?;
    journal.record.sample = sample;
    journal
        .step("checked: every node up and normal, one schema, room on the disk, address free, not a seed")?;
    Ok(journal)
}

async fn plan_replacement(operator: &Operator, runtime: &Runtime, dead: &Node) -> anyhow::Result<Journal> {
    let view = View::read(&operator.session).await?;
    let node = runtime.next(&view)?;
    let mut reasons = checks::all_is_quiet(&view, Some(dead.ip()));
    match view.member(dead.ip()) {
        None => reasons.push(format!("{} is not a cluster member", dead.name)),
        Some(member) if member.heard_by > 0 => reasons.push(format!(
            "{} is not dead: {} of {} nodes hear it (remove it with `iotctl node decommission {}`)",
            dead.name, member.heard_by, member.asked, dead.name
        )),
        Some(_) => {}
    }
    if runtime.is_running(dead).await? {
        reasons.push(format!("the process of {} still runs (stop it first)", dead.name));
    }
    reasons.extend(room(runtime, &node, &view).await?);
    Refused::unless_none(format!("replacing {} by {}", dead.name, node.name), reasons)?;
    // One replica is dead; afterwards the new node must have what the others have.
    let sample = sample::take(&operator.cassandra, Consistency::Quorum).await?;
    let mut journal = Journal::begin(&operator.journals, Operation::Replace, &node.name, node.address)?;
    (journal.record.sample, journal.record.replaces) = (sample, Some(dead.name.clone()));
    journal
        .step(format!("checked: no node hears {}, the others are up and normal, one schema", dead.name))?;
    Ok(journal)
}

/// Why there is no room for one more node on its disk or at its addresses.
async fn room(runtime: &Runtime, node: &Node, view: &View) -> anyhow::Result<Vec<String>> {
    let mut reasons = runtime.obstacles(node).await?;
    let load: f64 = view.members.iter().filter_map(|member| member.load_bytes).sum();
    let share = load / view.members.len().max(1) as f64;
    for disk in runtime.disks(std::slice::from_ref(node)).await? {
        reasons.extend(checks::disk_reasons(share, disk.free, &disk.place));
    }
    Ok(reasons)
}

/// Starts the node unless it runs.
async fn ensure_started(
    operator: &Operator,
    runtime: &Runtime,
    journal: &mut Journal,
    node: &Node,
    dead: Option<&Node>,
) -> anyhow::Result<()> {
    if runtime.is_running(node).await? {
        return Ok(());
    }
    match operator.state_of(node.ip()).await? {
        // It has joined, and its data is its own.
        Some(State::Normal | State::Shutdown) => {}
        _ => {
            // Nothing is there except what an earlier start of this operation has left.
            if journal.record.node_started_at.is_some()
                && let Some(aside) = runtime.set_aside(node).await?
            {
                journal.step(format!("files of a failed attempt moved to {aside}"))?;
            }
            await_forgotten(operator, node.ip()).await?;
        }
    }
    journal.record.node_started_at = Some(Utc::now());
    journal.save()?;
    let done = runtime.start(node, dead.map(Node::ip)).await?;
    journal.step(done)
}

/// While the others remember that a node is joining, no other node may join.
async fn await_forgotten(operator: &Operator, ip: IpAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while operator.state_of(ip).await? == Some(State::Joining) {
        if started.elapsed() > FORGETTING_DEADLINE {
            bail!(
                "the other nodes still see {ip} as joining, but nothing runs there (wait, and run the command again)"
            );
        }
        operator.pause("nothing was started yet").await?;
    }
    Ok(())
}

/// Shows the streaming until the node is normal and answers.
async fn watch(operator: &Operator, runtime: &Runtime, journal: &Journal, node: &Node) -> anyhow::Result<()> {
    let since = journal.record.node_started_at.unwrap_or(journal.record.started_at).timestamp_millis();
    let board = ProgressLines::new(operator.output);
    let step = board.step(&node.name, "starting");
    let (mut progress, mut moved) = (Progress::default(), Instant::now());
    let started = Instant::now();
    loop {
        let state = operator.state_of(node.ip()).await?;
        if !runtime.is_running(node).await? && started.elapsed() >= runtime.start_patience() {
            bail!(
                "{} ended while it was joining{} (run the same command again to restart it, or give up with `iotctl node \
                 abandon`)",
                node.name,
                runtime.last_words(node).await
            );
        }
        let now = Progress::read(&operator.session, node.ip(), Direction::In, since).await;
        if state == Some(State::Normal) && ready::answers(Kind::Cassandra, node.address).await {
            step.done(&format!("joined, {now}"));
            return Ok(());
        }
        if now != progress {
            (progress, moved) = (now, Instant::now());
        }
        step.set(match state {
            Some(State::Joining) => format!("joining: {}", progress.describe(started)),
            _ => "starting".into(),
        });
        ensure!(
            moved.elapsed() < STALL_DEADLINE,
            "{} has not streamed anything for {}{} (its journal is {})",
            node.name,
            HumanDuration(STALL_DEADLINE),
            runtime.last_words(node).await,
            journal.path().display()
        );
        operator.pause(&format!("{} continues to join", node.name)).await?;
    }
}

fn is_missing(view: &View, ip: IpAddr) -> Option<String> {
    view.member(ip).is_none().then(|| format!("{ip} is not known as a member yet"))
}

/// The new node must have the same tokens in the view of every node.
async fn check_tokens(operator: &Operator, ip: IpAddr) -> anyhow::Result<()> {
    let mut known = None;
    for node in operator.session.nodes() {
        let mut tokens =
            view::tokens_at(&operator.session, node.address).await?.remove(&ip).unwrap_or_default();
        tokens.sort_unstable();
        ensure!(
            !tokens.is_empty(),
            "{ip} has no tokens in the view of {} (run the command again)",
            node.address
        );
        let first = known.get_or_insert_with(|| tokens.clone());
        ensure!(
            *first == tokens,
            "{ip} has different tokens in the view of {} (run the command again)",
            node.address
        );
    }
    Ok(())
}

/// Gives up an operation that was begun and is not finished: a node that does not join, or one that does not leave.
pub async fn abandon(operator: &Operator, runtime: &Runtime) -> anyhow::Result<Journal> {
    let Some(mut journal) = Journal::unfinished(&operator.journals)? else {
        bail!("no operation is unfinished");
    };
    let (name, ip) = (journal.record.node.clone(), journal.record.address.ip());
    let (state, command) = (operator.state_of(ip).await?, journal.record.command());
    let node = runtime.named(&name)?;
    if journal.record.operation == Operation::Decommission {
        match state {
            Some(State::Normal) => journal.finish("given up; it stays a cluster member")?,
            None | Some(State::Left) => bail!("{name} has left the cluster (finish with `{command}`)"),
            Some(_) if runtime.is_running(&node).await? => bail!(
                "{name} is leaving and cannot take back what it has handed over (finish with `{command}`; if it does not \
                 leave, restart it first)"
            ),
            Some(_) => journal.finish(format!(
                "given up; the node is down in the middle of leaving: {}, or replace it with `iotctl node replace {name}`",
                runtime.restart_remedy(&node)
            ))?,
        }
        return Ok(journal);
    }
    ensure!(
        state != Some(State::Normal),
        "{name} has joined (finish with `{command}`; after that it can be decommissioned)"
    );
    runtime.stop(&node).await?;
    let aside = runtime.set_aside(&node).await?;
    let aside = aside.map(|place| format!("; its files are in {place}")).unwrap_or_default();
    journal.finish(format!("given up{aside}"))?;
    Ok(journal)
}
