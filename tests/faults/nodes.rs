//! Cassandra's nodes: killed, frozen, and too few of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::cassandra::Session;
use iotctl::config::CassandraConfig;
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use crate::bench::{Bench, Outcome};
use crate::servers;
use crate::support::{complain, eventually};

crate::faults!(
    short: [a_node_is_frozen_for_ten_seconds],
    long: [
        the_first_node_is_killed, what_would_leave_a_mess_is_refused, two_of_three_nodes_are_frozen,
        each_node_is_killed_in_turn, all_nodes_are_frozen_for_a_minute, a_node_joins_and_leaves_under_load,
        an_addition_and_a_decommission_are_killed, a_node_is_frozen_for_thirty_seconds, two_of_three_nodes_are_down,
        a_rolling_restart,
        a_dead_node_is_replaced
    ]
);

const NODES: [&str; 3] = ["cassandra-1", "cassandra-2", "cassandra-3"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the load sends, and the ingest stores, in a second.
const RATE: u32 = 3000;

/// When one node was away, on the run's clock.
struct Away {
    from: Duration,
    to: Duration,
}

/// Kills nodes for a few seconds each, and brings them back.
fn killed(name: &str, nodes: &[&str], after: u64) -> anyhow::Result<()> {
    let mut bench = Bench::new(name)?;
    bench.load(RATE, 10 + 60 * u32::try_from(nodes.len())? + u32::try_from(after)?)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    std::thread::sleep(seconds(3));
    let mut aways = Vec::new();
    for node in nodes {
        let from = bench.now();
        servers().signal(node, Signal::SIGKILL)?;
        std::thread::sleep(seconds(8));
        servers().up()?;
        aways.push(Away { from, to: bench.now() });
        std::thread::sleep(seconds(2));
    }
    std::thread::sleep(seconds(after));
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    met_the_goals(&bench.finish()?, &aways)
}

fn the_first_node_is_killed() -> anyhow::Result<()> {
    // The session's view of the cluster comes from the first contact point that answers.
    killed("node_killed", &NODES[..1], 0)
}

fn each_node_is_killed_in_turn() -> anyhow::Result<()> {
    killed("nodes_killed", &NODES, 30)
}

/// The goals with one node of three away: a short stall, then most of the rate, and all of it within 30 s of the
/// node's return.
fn met_the_goals(outcome: &Outcome, aways: &[Away]) -> anyhow::Result<()> {
    ensure!(outcome.stall <= seconds(5), "stalled {:?}", outcome.stall);
    let (Some(first), Some(last), Some((end, _))) = (aways.first(), aways.last(), outcome.rates.last())
    else {
        return Ok(());
    };
    // Rates are compared with the rate before the fault: a slow or busy machine may not reach RATE at all.
    let usual = outcome.rate(seconds(2), first.from).min(f64::from(RATE));
    ensure!(usual > 0.0, "nothing was stored before the fault");
    for Away { from, to } in aways {
        let away = outcome.rate(*from, *to);
        complain(&format!("  {away:.0} rows/s of {usual:.0} while a node was away for {:?}", *to - *from));
        ensure!(away >= 0.6 * usual, "{away:.0} of {usual:.0} rows/s while a node was away");
    }
    if *end > last.to + seconds(28) {
        let back = outcome.rate(last.to + seconds(10), last.to + seconds(30));
        complain(&format!("  {back:.0} rows/s between 10 and 30 s after its return"));
        ensure!(back >= 0.95 * usual, "{back:.0} of {usual:.0} rows/s after the node's return");
    }
    Ok(())
}

fn frozen(name: &str, length: u64, after: u64) -> anyhow::Result<()> {
    let mut bench = Bench::new(name)?;
    bench.load(RATE, u32::try_from(length + after)? + 10)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    std::thread::sleep(seconds(3));
    let from = bench.now();
    let frozen = servers().freeze("cassandra-2")?;
    std::thread::sleep(seconds(length));
    drop(frozen);
    let away = Away { from, to: bench.now() };
    std::thread::sleep(seconds(after));
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    met_the_goals(&bench.finish()?, &[away])
}

fn a_node_is_frozen_for_ten_seconds() -> anyhow::Result<()> {
    frozen("node_frozen", 10, 5)
}

fn a_node_is_frozen_for_thirty_seconds() -> anyhow::Result<()> {
    frozen("node_frozen30", 30, 32)
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
        servers().terminate(node)?;
        std::thread::sleep(seconds(3));
        servers().up()?;
        std::thread::sleep(seconds(5));
    }
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

/// Longer than a consumer's session: fetching pauses, the group's membership stays, and nothing piles up.
fn all_nodes_are_frozen_for_a_minute() -> anyhow::Result<()> {
    let mut bench = Bench::new("all_frozen")?;
    bench.load(RATE, 100)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let rebalances = bench.metric(ingest, "iotctl_ingest_rebalances_total")?;
    let frozen = NODES.map(|node| servers().freeze(node));
    std::thread::sleep(seconds(60));
    drop(frozen);
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    let again = bench.metric(ingest, "iotctl_ingest_rebalances_total")?;
    ensure!(again == rebalances, "{rebalances} rebalances before and {again} after");
    let memory = bench.peak_memory(ingest)?;
    complain(&format!("  {again} rebalance(s) in all, {} MB at most", memory / 1_000_000));
    ensure!(memory < 300_000_000, "{memory} bytes");
    bench.finish().map(|_| ())
}

/// Nothing is begun, and every reason is said.
fn what_would_leave_a_mess_is_refused() -> anyhow::Result<()> {
    let bench = Bench::new("refusals")?;
    let refused = |arguments: &[&str], words: &[&str]| -> anyhow::Result<()> {
        let error = servers().ok(&[&["-q", "node"], arguments].concat()).err();
        let error = error.with_context(|| format!("{arguments:?} was not refused"))?.to_string();
        for word in words {
            ensure!(error.contains(word), "{word:?} is not in {error}");
        }
        Ok(())
    };
    // The test's own keyspace has three replicas, as Cassandra's have.
    let decommission = ["decommission", "cassandra-3", "--yes"];
    refused(&decommission, &[bench.topic(), "system_distributed", "--fix-system-replication"])?;
    refused(&["decommission", "127.0.43.9", "--yes"], &["no node here", "cassandra-1"])?;
    {
        let _taken = std::net::TcpListener::bind("127.0.43.4:9042")?;
        refused(&["add"], &["adding cassandra-4 is refused", "127.0.43.4:9042"])?;
    }
    let dir = servers().dir("cassandra-4");
    std::fs::create_dir_all(dir.join("data"))?;
    let full = refused(&["add"], &["cassandra-4 is not empty"]);
    std::fs::remove_dir_all(&dir)?;
    full?;
    {
        let _frozen = servers().freeze("cassandra-2")?;
        refused(&["add"], &["127.0.43.2"])?;
        refused(&decommission, &["127.0.43.2"])?;
    }
    eventually("the frozen node is heard again", seconds(60), || {
        let list: serde_json::Value =
            serde_json::from_str(&servers().ok(&["-q", "node", "list", "--format", "json"])?)?;
        let members = list["members"].as_array().context("members")?;
        Ok(members.len() == 3 && members.iter().all(|member| member["heard_by"] == 3))
    })?;
    refused(&["abandon"], &["no operation is unfinished"])
}

/// Requests that each node has answered to its clients.
fn requests(session: &Session, runtime: &Runtime) -> anyhow::Result<BTreeMap<IpAddr, i64>> {
    let cql = "SELECT request_count FROM system_views.clients";
    let mut counts = BTreeMap::new();
    for node in session.nodes() {
        let rows = runtime.block_on(session.query_at(node.address, cql, seconds(5)))?;
        let sum: Result<i64, _> = rows.iter().map(|row| row.get::<i64>(0)).sum();
        counts.insert(node.address.ip(), sum?);
    }
    Ok(counts)
}

/// 3 nodes, 4, and 3 again; the newcomer gets its share of the requests.
fn a_node_joins_and_leaves_under_load() -> anyhow::Result<()> {
    let mut bench = Bench::new("membership")?;
    bench.load(RATE, 150)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    bench.ok(&["-q", "node", "add"])?;
    sampled(&bench)?;
    let runtime = Runtime::new()?;
    let config = CassandraConfig { contact_points: vec!["127.0.43.1:9042".into()], ..Default::default() };
    let session = runtime.block_on(Session::connect(&config))?;
    eventually("the session knows four nodes", seconds(10), || {
        Ok(session.nodes().iter().filter(|node| node.is_up).count() == 4)
    })?;
    let before = requests(&session, &runtime)?;
    std::thread::sleep(seconds(10));
    let after = requests(&session, &runtime)?;
    let done: BTreeMap<_, _> =
        after.iter().map(|(ip, count)| (*ip, count - before.get(ip).unwrap_or(&0))).collect();
    let (all, newcomer) = (done.values().sum::<i64>(), IpAddr::from([127, 0, 43, 4]));
    let share = *done.get(&newcomer).context("the newcomer has no clients")? as f64 / all as f64;
    complain(&format!("  {:.0} % of {all} requests went to the newcomer within 10 s", share * 100.0));
    ensure!(share > 0.10, "{share} of the requests went to the newcomer: {done:?}");
    bench.ok(&["-q", "node", "cleanup"])?;
    bench.ok(&["-q", "node", "decommission", "cassandra-4", "--yes"])?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    let outcome = bench.finish()?;
    ensure!(outcome.stall <= seconds(5), "stalled {:?}", outcome.stall);
    Ok(())
}

/// The dead node's tokens go to a newcomer, and its data from the others; then the cluster becomes what it was.
fn a_dead_node_is_replaced() -> anyhow::Result<()> {
    let mut bench = Bench::new("replaced")?;
    bench.load(RATE, 150)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let early = servers().ok(&["-q", "node", "replace", "cassandra-3", "--yes"]).err();
    let early = early.context("a node that lives was replaced")?.to_string();
    ensure!(early.contains("cassandra-3 is not dead"), "{early}");
    servers().signal("cassandra-3", Signal::SIGKILL)?;
    std::thread::sleep(seconds(5));
    bench.ok(&["-q", "node", "replace", "cassandra-3", "--yes"])?;
    sampled(&bench)?;
    ensure!(addresses()? == ["127.0.43.1:9042", "127.0.43.2:9042", "127.0.43.4:9042"], "{:?}", addresses()?);
    ensure!(servers().dir("cassandra-4").exists() && !servers().dir("cassandra-3").exists());
    bench.ok(&["-q", "node", "add"])?;
    bench.ok(&["-q", "node", "decommission", "cassandra-4", "--yes"])?;
    ensure!(addresses()? == ["127.0.43.1:9042", "127.0.43.2:9042", "127.0.43.3:9042"], "{:?}", addresses()?);
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    let outcome = bench.finish()?;
    ensure!(outcome.stall <= seconds(5), "stalled {:?}", outcome.stall);
    Ok(())
}

/// The last operation was verified by rows of this bench's own.
fn sampled(bench: &Bench) -> anyhow::Result<()> {
    let journal: serde_json::Value =
        serde_json::from_str(&bench.ok(&["-q", "node", "journal", "--format", "json"])?)?;
    let sample = journal.as_array().and_then(|records| records.last()?["sample"].as_array().cloned());
    let rows: i64 = sample.iter().flatten().filter_map(|counted| counted["rows"].as_i64()).sum();
    ensure!(rows > 0, "no rows were counted: {journal:#}");
    Ok(())
}

/// The members that are up and normal.
fn addresses() -> anyhow::Result<Vec<String>> {
    let list: serde_json::Value =
        serde_json::from_str(&servers().ok(&["-q", "node", "list", "--format", "json"])?)?;
    let members = list["members"].as_array().context("members")?;
    ensure!(members.iter().all(|member| member["state"] == "normal"), "{list:#}");
    let address = |member: &serde_json::Value| member["address"].as_str().unwrap_or_default().to_owned();
    Ok(members.iter().map(address).collect())
}

/// `iotctl` is killed in the middle of both, and run again.
fn an_addition_and_a_decommission_are_killed() -> anyhow::Result<()> {
    let mut bench = Bench::new("killed_nodes")?;
    bench.load(RATE, 120)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let add = ["-q", "node", "add"];
    for moment in [1_000, 6_000, 12_000] {
        let mut killed = bench.spawn(&add)?;
        std::thread::sleep(Duration::from_millis(moment));
        killed.kill()?;
    }
    // Nothing else may begin before it is seen through.
    let other = servers().ok(&["-q", "node", "decommission", "cassandra-2", "--yes"]);
    let error = other.err().context("another operation was let in")?.to_string();
    ensure!(error.contains("was begun and is not finished"), "{error}");
    bench.ok(&add)?;
    let decommission = ["-q", "node", "decommission", "cassandra-4", "--yes"];
    for moment in [1_500, 4_000, 8_000] {
        let mut killed = bench.spawn(&decommission)?;
        std::thread::sleep(Duration::from_millis(moment));
        // It may be done by then.
        killed.kill()?;
    }
    let list = servers().ok(&["-q", "node", "list", "--format", "json"])?;
    let list: serde_json::Value = serde_json::from_str(&list)?;
    if !list["unfinished"].is_null() {
        bench.ok(&decommission)?;
    }
    let list: serde_json::Value =
        serde_json::from_str(&servers().ok(&["-q", "node", "list", "--format", "json"])?)?;
    let members = list["members"].as_array().context("members")?;
    ensure!(members.len() == 3 && list["unfinished"].is_null(), "{list:#}");
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}
