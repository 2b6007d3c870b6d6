//! Operations on the membership that go wrong, on two nodes of their own: every state that a kill leaves has a way out,
//! and `up` never stops a node that answers.

use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::cassandra::{Session, system};
use iotctl::config::CassandraConfig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::members as servers;
use crate::support::{contains, eventually};

crate::faults!(
    short: [],
    long: [
        a_cluster_starts_again_after_a_decommission_that_lowered_replication,
        a_node_that_is_killed_while_it_leaves_has_two_ways_out,
        a_node_that_cannot_start_stops_no_node_that_answers,
    ]
);

const KEYSPACE: &str = "sensor_data_schema";

fn list() -> anyhow::Result<Value> {
    servers().json("-q node list --format json")
}

/// Name and state of every member but the first.
fn others() -> anyhow::Result<Vec<(String, String)>> {
    let list = list()?;
    let members = list["members"].as_array().context("members")?;
    let text = |member: &Value, key: &str| member[key].as_str().unwrap_or_default().to_owned();
    let all = members.iter().map(|member| (name_at(&text(member, "address")), text(member, "state")));
    Ok(all.filter(|(name, _)| name != "cassandra-1").collect())
}

/// The nodes have addresses in a row: cassandra-1 is at 127.0.43.21.
fn name_at(address: &str) -> String {
    let last = address.split(':').next().and_then(|ip| ip.rsplit('.').next()?.parse::<u32>().ok());
    format!("cassandra-{}", last.unwrap_or(0).saturating_sub(20))
}

/// The second node; one joins if there is none.
fn second() -> anyhow::Result<String> {
    if others()?.is_empty() {
        servers().ok("-q node add")?;
    }
    let others = others()?;
    ensure!(others.len() == 1 && others[0].1 == "normal", "{others:?}");
    Ok(others[0].0.clone())
}

fn pids(except: &str) -> anyhow::Result<Vec<(String, Option<i64>)>> {
    let servers = servers().status()?;
    let pid =
        |server: &Value| (server["server"].as_str().unwrap_or_default().to_owned(), server["pid"].as_i64());
    Ok(servers.iter().map(pid).filter(|(name, _)| name != except).collect())
}

fn a_cluster_starts_again_after_a_decommission_that_lowered_replication() -> anyhow::Result<()> {
    servers().ok("-q simulate --count 5000 --rate 0")?;
    servers().ok("-q ingest --until-end")?;
    let node = second()?;
    let refused = servers().run(&["-q", "node", "decommission", &node, "--yes"])?;
    ensure!(refused.code != Some(0), "{refused:#?}");
    contains(&refused.stderr, &["system_distributed", "--fix-system-replication"])?;
    servers().ok(&["-q", "node", "decommission", &node, "--yes", "--fix-system-replication"])?;
    ensure!(others()?.is_empty(), "{:?}", others()?);
    servers().ok("-q node add")?;
    servers().ok("-q down")?;
    servers().ok("-q up")?;
    ensure!(others()?.iter().map(|(_, state)| state).eq(["normal"]), "{:?}", others()?);
    servers().ok("-q audit").map(|_| ())
}

/// Begins a decommission, and kills the node while it hands its data over. Returns what iotctl says about it.
fn killed_while_it_leaves(node: &str) -> anyhow::Result<String> {
    let command = ["-q", "node", "decommission", node, "--yes", "--fix-system-replication"];
    let child = servers().command(&command).stderr(std::process::Stdio::piped()).spawn()?;
    let pid = servers().pid(node)?;
    eventually("the node leaves", Duration::from_secs(60), || {
        let journal = servers().json("-q node journal --format json")?;
        let steps = journal.as_array().and_then(|records| records.last()?["steps"].as_array().cloned());
        let steps = steps.context("steps")?;
        Ok(steps.iter().any(|step| step["what"] == "asked to hand its data over"))
    })?;
    eventually("the others see it leave", Duration::from_secs(20), || {
        Ok(others()?.iter().any(|(_, state)| state == "leaving"))
    })?;
    nix::sys::signal::kill(pid, Signal::SIGKILL)?;
    let output = child.wait_with_output()?;
    ensure!(!output.status.success(), "the decommission ended well");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn a_node_that_is_killed_while_it_leaves_has_two_ways_out() -> anyhow::Result<()> {
    let node = second()?;
    let first = servers().pid("cassandra-1")?;
    let same_first = || -> anyhow::Result<()> {
        let now: Pid = servers().pid("cassandra-1")?;
        ensure!(now == first, "cassandra-1 was restarted");
        Ok(())
    };
    let error = killed_while_it_leaves(&node)?;
    contains(&error, &["ended before the node had left", "iotctl up"])?;
    // One way: start it again, and finish.
    let up = servers().run("up")?;
    ensure!(up.code == Some(0), "{up:#?}");
    contains(&up.stderr, &["is not finished", &format!("iotctl node decommission {node}")])?;
    same_first()?;
    // A refusal by nodetool is quoted: the keyspace needs two replicas by now.
    let runtime = tokio::runtime::Runtime::new()?;
    let replication = |factor: usize| -> anyhow::Result<()> {
        let contact_points =
            servers().setting("IOTCTL_CASSANDRA_CONTACT_POINTS").split(',').map(str::to_owned).collect();
        let config = CassandraConfig { contact_points, ..Default::default() };
        runtime.block_on(async {
            let session = Session::connect(&config).await?;
            Ok(system::set_simple_replication(&session, KEYSPACE, factor).await?)
        })
    };
    replication(2)?;
    let command = ["-q", "node", "decommission", &node, "--yes", "--fix-system-replication"];
    let refused = servers().run(&command);
    replication(1)?;
    let refused = refused?;
    ensure!(refused.code == Some(1), "{refused:#?}");
    contains(&refused.stderr, &["refuses to leave: Unsupported operation: Not enough live nodes", KEYSPACE])?;
    servers().ok(&command)?;
    ensure!(others()?.is_empty(), "{:?}", others()?);

    // The other way: give up. It stays a member.
    let node = second()?;
    killed_while_it_leaves(&node)?;
    let given_up = servers().run("-q node abandon")?;
    ensure!(given_up.code == Some(0) && given_up.stdout.contains("given up"), "{given_up:#?}");
    servers().ok("-q up")?;
    same_first()?;
    ensure!(others()? == [(node, "normal".to_owned())], "{:?}", others()?);
    ensure!(list()?["unfinished"].is_null());
    servers().ok("-q audit").map(|_| ())
}

fn a_node_that_cannot_start_stops_no_node_that_answers() -> anyhow::Result<()> {
    let node = second()?;
    servers().ok("-q down")?;
    // Cassandra ends when its commit log is no directory.
    let log = servers().dir(&node).join("commitlog");
    ensure!(log.is_dir(), "{} is not a directory", log.display());
    let aside = log.with_extension("aside");
    std::fs::rename(&log, &aside)?;
    std::fs::write(&log, "")?;
    let up = servers().run("-q up");
    let after = pids(&node);
    std::fs::remove_file(&log)?;
    std::fs::rename(&aside, &log)?;
    let (up, after) = (up?, after?);
    ensure!(up.code == Some(1), "{up:#?}");
    contains(&up.stderr, &[&node, "these servers answer and keep running", "cassandra-1"])?;
    ensure!(after.iter().all(|(_, pid)| pid.is_some()), "stopped: {after:?}");
    servers().ok("-q up")?;
    ensure!(pids(&node)? == after, "other processes run now");
    Ok(())
}
