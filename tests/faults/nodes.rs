//! Cassandra's nodes: killed, frozen, and too few of them.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;

use crate::bench::{Bench, Outcome};
use crate::servers;

crate::faults!(
    short: [the_first_node_is_killed, a_node_is_frozen_for_ten_seconds, two_of_three_nodes_are_frozen],
    long: [each_node_is_killed_in_turn, a_node_is_frozen_for_thirty_seconds, two_of_three_nodes_are_down, a_rolling_restart]
);

const NODES: [&str; 3] = ["cassandra-1", "cassandra-2", "cassandra-3"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Kills a node for a few seconds, and brings it back.
fn killed(name: &str, nodes: &[&str]) -> anyhow::Result<Outcome> {
    let mut bench = Bench::new(name)?;
    bench.load(3000, 10 + 25 * u32::try_from(nodes.len())?)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    for node in nodes {
        servers().signal(node, Signal::SIGKILL)?;
        std::thread::sleep(seconds(8));
        servers().up()?;
        std::thread::sleep(seconds(2));
    }
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish()
}

fn the_first_node_is_killed() -> anyhow::Result<()> {
    // The session's view of the cluster comes from the first contact point that answers.
    met_the_goals(&killed("node_killed", &NODES[..1])?, seconds(8))
}

fn each_node_is_killed_in_turn() -> anyhow::Result<()> {
    met_the_goals(&killed("nodes_killed", &NODES)?, seconds(40))
}

/// The goals with one node of three away: a short stall, and then most of the rate. The load is 3,000 a second.
fn met_the_goals(outcome: &Outcome, away: Duration) -> anyhow::Result<()> {
    ensure!(outcome.stall <= seconds(5), "stalled {:?}", outcome.stall);
    let rate = outcome.rate(seconds(3), seconds(3) + away);
    ensure!(rate >= 0.6 * 3000.0, "{rate:.0} rows/s while a node was away");
    Ok(())
}

fn frozen(name: &str, length: u64) -> anyhow::Result<()> {
    let mut bench = Bench::new(name)?;
    bench.load(3000, u32::try_from(length)? + 15)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let frozen = servers().freeze("cassandra-2")?;
    std::thread::sleep(seconds(length));
    drop(frozen);
    std::thread::sleep(seconds(5));
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    met_the_goals(&bench.finish()?, seconds(length))
}

fn a_node_is_frozen_for_ten_seconds() -> anyhow::Result<()> {
    frozen("node_frozen", 10)
}

fn a_node_is_frozen_for_thirty_seconds() -> anyhow::Result<()> {
    frozen("node_frozen30", 30)
}

fn two_of_three_nodes_are_frozen() -> anyhow::Result<()> {
    let mut bench = Bench::new("two_frozen")?;
    bench.load(3000, 25)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let frozen = [servers().freeze("cassandra-2")?, servers().freeze("cassandra-3")?];
    // No quorum: nothing can be stored, and nothing may be given up.
    std::thread::sleep(seconds(3));
    let before = bench.rows();
    std::thread::sleep(seconds(7));
    ensure!(bench.rows() == before, "rows were stored without a quorum");
    drop(frozen);
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

fn two_of_three_nodes_are_down() -> anyhow::Result<()> {
    let mut bench = Bench::new("two_down")?;
    bench.load(3000, 60)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    servers().signal("cassandra-1", Signal::SIGKILL)?;
    servers().signal("cassandra-3", Signal::SIGKILL)?;
    std::thread::sleep(seconds(15));
    servers().up()?;
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

fn a_rolling_restart() -> anyhow::Result<()> {
    let mut bench = Bench::new("rolling")?;
    bench.load(3000, 100)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    for node in NODES {
        servers().signal(node, Signal::SIGTERM)?;
        std::thread::sleep(seconds(5));
        servers().up()?;
        std::thread::sleep(seconds(5));
    }
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}
