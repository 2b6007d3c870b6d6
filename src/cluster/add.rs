//! A node joins: checked, started, watched while it streams what it will own, verified. Run again after a kill at any
//! step, it goes on from the state that the cluster is in.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use indicatif::HumanDuration;

use super::checks::{self, Refused};
use super::journal::{CleanupDue, Journal, Operation};
use super::operator::{Operator, STALL_DEADLINE};
use super::sample;
use super::streaming::{Direction, Progress};
use super::view::{self, State, View};
use crate::config::Consistency;
use crate::local::cluster::{LocalNode, Server};
use crate::local::process::Process;
use crate::local::progress::Board;
use crate::local::{Kind, Members, boot, ready};

/// How long the others may remember an attempt to join that broke off.
const FORGETTING_DEADLINE: Duration = Duration::from_secs(90);

/// Adds one node, or ends the addition that was begun.
pub async fn add(operator: &Operator, members: &mut Members) -> anyhow::Result<Journal> {
    let journal = match Journal::unfinished(&operator.journals)? {
        Some(journal) => resume(operator, journal, Operation::Add, None)?,
        None => plan(operator, members).await?,
    };
    carry_out(operator, members, journal, None).await
}

/// Puts a newcomer in the place of a dead node, whose tokens it takes, or ends the replacement that was begun.
pub async fn replace(
    operator: &Operator,
    members: &mut Members,
    dead: (LocalNode, Server),
) -> anyhow::Result<Journal> {
    let journal = match Journal::unfinished(&operator.journals)? {
        Some(journal) => resume(operator, journal, Operation::Replace, Some(&dead.1.name))?,
        None => plan_replacement(operator, members, &dead.1).await?,
    };
    carry_out(operator, members, journal, Some(dead)).await
}

/// From wherever it is to its end.
async fn carry_out(
    operator: &Operator,
    members: &mut Members,
    mut journal: Journal,
    dead: Option<(LocalNode, Server)>,
) -> anyhow::Result<Journal> {
    let (mut node, server) = members.named(&journal.record.node)?;
    let ip = server.address.ip();
    let replaced = dead.as_ref().map(|(_, dead)| dead.address.ip());
    let process = ensure_started(operator, members, &mut journal, &server, replaced).await?;
    watch(operator, &journal, &process).await?;
    match &dead {
        Some((dead_node, dead)) if members.find(&dead.name)?.is_some() => {
            let aside = members.set_aside(&dead.name)?;
            // As the dead one was: on its data it bootstraps no more.
            node.is_seed = dead_node.is_seed;
            members.succeed(*dead_node, node)?;
            let aside =
                aside.map(|path| format!("; its files are in {}", path.display())).unwrap_or_default();
            journal.step(format!("{} is replaced{aside}", dead.name))?;
        }
        Some(_) => {}
        None => members.enlist(node)?,
    }
    if journal.record.host_id.is_none() {
        let view = operator.await_agreement(|view| is_missing(view, ip)).await?;
        journal.record.host_id = view.member(ip).and_then(|member| member.host_id);
        journal.step("up and normal in every node's view")?;
    }
    check_tokens(operator, ip).await?;
    sample::verify(&operator.cassandra, &journal.record.sample).await?;
    if dead.is_none() {
        let others = members.servers()?.into_iter().filter(|(_, other)| other.address != server.address);
        journal.record.cleanup = others
            .map(|(_, other)| CleanupDue { node: other.name, address: other.address, done_at: None })
            .collect();
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
    ensure!(
        record.operation == operation && record.replaces.as_deref() == replaces,
        "{} of {} was begun and not ended (see it through first: `{}`)",
        record.operation,
        record.node,
        record.command()
    );
    operator.output.note(format!("going on with {}, which was begun at {}", record.node, record.started_at));
    Ok(journal)
}

async fn plan(operator: &Operator, members: &Members) -> anyhow::Result<Journal> {
    let (_, server) = members.next()?;
    let view = View::read(&operator.session).await?;
    let mut reasons = checks::all_is_quiet(&view, None);
    reasons.extend(room(members, &server, &view)?);
    Refused::unless_none(format!("adding {}", server.name), reasons)?;
    let sample = sample::take(&operator.cassandra, Consistency::All).await?;
    let mut journal = Journal::begin(&operator.journals, Operation::Add, &server.name, server.address)?;
    journal.record.sample = sample;
    journal.step("checked: every node up and normal, one schema, room on the disk, address free")?;
    Ok(journal)
}

async fn plan_replacement(operator: &Operator, members: &Members, dead: &Server) -> anyhow::Result<Journal> {
    let (_, server) = members.next()?;
    let view = View::read(&operator.session).await?;
    let ip = dead.address.ip();
    let mut reasons = checks::all_is_quiet(&view, Some(ip));
    match view.member(ip) {
        None => reasons.push(format!("{} is no node of the cluster", dead.name)),
        Some(member) if member.heard_by > 0 => reasons.push(format!(
            "{} is not dead: {} of {} nodes hear it (`iotctl node decommission {}` lets it leave)",
            dead.name, member.heard_by, member.asked, dead.name
        )),
        Some(_) => {}
    }
    if members.process(&dead.name)?.is_some() {
        reasons.push(format!("the process of {} still runs (end it first)", dead.name));
    }
    reasons.extend(room(members, &server, &view)?);
    Refused::unless_none(format!("replacing {} by {}", dead.name, server.name), reasons)?;
    // One replica is dead; the newcomer must then have what the others have.
    let sample = sample::take(&operator.cassandra, Consistency::Quorum).await?;
    let mut journal = Journal::begin(&operator.journals, Operation::Replace, &server.name, server.address)?;
    (journal.record.sample, journal.record.replaces) = (sample, Some(dead.name.clone()));
    journal.step(format!(
        "checked: {} is dead to every node, the others are up and normal, one schema",
        dead.name
    ))?;
    Ok(journal)
}

/// What stands against one more node on this disk and at these addresses.
fn room(members: &Members, server: &Server, view: &View) -> anyhow::Result<Vec<String>> {
    let mut reasons = members.obstacles(server);
    let load: f64 = view.members.iter().filter_map(|member| member.load_bytes).sum();
    let (free, place) = members.free_disk()?;
    reasons.extend(checks::disk_reasons(load / view.members.len().max(1) as f64, free, &place));
    Ok(reasons)
}

/// The node's process, started unless it runs.
async fn ensure_started(
    operator: &Operator,
    members: &Members,
    journal: &mut Journal,
    server: &Server,
    replaced: Option<IpAddr>,
) -> anyhow::Result<Process> {
    if let Some(process) = members.process(&server.name)? {
        return Ok(process);
    }
    let ip = server.address.ip();
    match operator.state_of(ip).await? {
        // It has joined, and its data is its own.
        Some(State::Normal | State::Shutdown) => {}
        _ => {
            if let Some(aside) = members.set_aside(&server.name)? {
                journal.step(format!("a broken attempt moved to {}", aside.display()))?;
            }
            await_forgotten(operator, ip).await?;
        }
    }
    let process = members.start(server, replaced)?;
    journal.step(format!("started, pid {}", process.pid))?;
    Ok(process)
}

/// While the others remember that a node is joining, nobody else may.
async fn await_forgotten(operator: &Operator, ip: IpAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while operator.state_of(ip).await? == Some(State::Joining) {
        if started.elapsed() > FORGETTING_DEADLINE {
            bail!(
                "the other nodes still take {ip} for joining, and nothing runs there (wait, and run it again)"
            );
        }
        operator.pause("nothing was started").await?;
    }
    Ok(())
}

/// Shows the streaming until the node is normal and answers.
async fn watch(operator: &Operator, journal: &Journal, process: &Process) -> anyhow::Result<()> {
    let (ip, since) = (process.address.ip(), process.started_at.timestamp_millis());
    let board = Board::new(operator.output);
    let step = board.step(&process.name, "starting");
    let (mut progress, mut moved) = (Progress::default(), Instant::now());
    let started = Instant::now();
    loop {
        if !process.is_alive() {
            bail!(
                "{} ended while it was joining{} (run the same command again to start it anew, or give it up with \
                 `iotctl node abandon`)",
                process.name,
                boot::last_words(process)
            );
        }
        let state = operator.state_of(ip).await?;
        if state == Some(State::Normal) && ready::answers(Kind::Cassandra, process.address).await {
            step.done(&format!(
                "joined, {}",
                Progress::read(&operator.session, ip, Direction::In, since).await
            ));
            return Ok(());
        }
        let now = Progress::read(&operator.session, ip, Direction::In, since).await;
        if now != progress {
            (progress, moved) = (now, Instant::now());
        }
        step.say(match state {
            Some(State::Joining) => format!("joining: {}", progress.describe(started)),
            _ => "starting".into(),
        });
        ensure!(
            moved.elapsed() < STALL_DEADLINE,
            "{} has streamed nothing for {} (see {}; its journal is {})",
            process.name,
            HumanDuration(STALL_DEADLINE),
            process.log.display(),
            journal.path().display()
        );
        operator.pause(&format!("{} goes on joining", process.name)).await?;
    }
}

fn is_missing(view: &View, ip: IpAddr) -> Option<String> {
    view.member(ip).is_none().then(|| format!("{ip} is not known yet"))
}

/// Every node must give the newcomer the same tokens.
async fn check_tokens(operator: &Operator, ip: IpAddr) -> anyhow::Result<()> {
    let mut known = None;
    for node in operator.session.nodes() {
        let mut tokens =
            view::tokens_at(&operator.session, node.address).await?.remove(&ip).unwrap_or_default();
        tokens.sort_unstable();
        ensure!(!tokens.is_empty(), "{ip} has no tokens in the view of {} (run it again)", node.address);
        let first = known.get_or_insert_with(|| tokens.clone());
        ensure!(*first == tokens, "{ip} has other tokens in the view of {} (run it again)", node.address);
    }
    Ok(())
}

/// Gives up an addition that was begun and has not come to its end.
pub async fn abandon(operator: &Operator, members: &Members) -> anyhow::Result<Journal> {
    let Some(mut journal) = Journal::unfinished(&operator.journals)? else {
        bail!("no operation is unfinished");
    };
    let (name, ip) = (journal.record.node.clone(), journal.record.address.ip());
    ensure!(
        journal.record.operation != Operation::Decommission,
        "{name} is being decommissioned, and what it has handed over it cannot take back (see it through: `iotctl \
         node decommission {name}`)"
    );
    ensure!(
        operator.state_of(ip).await? != Some(State::Normal),
        "{name} has joined (see it through: `{}`; after that it can be decommissioned)",
        journal.record.command()
    );
    members.stop(&name).await?;
    let aside = members.set_aside(&name)?;
    let aside = aside.map(|path| format!("; its files are in {}", path.display())).unwrap_or_default();
    journal.finish(format!("given up{aside}"))?;
    Ok(journal)
}
