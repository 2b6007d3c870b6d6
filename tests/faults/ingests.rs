//! The ingests themselves: killed, stopped, joining and leaving; and one that breaks the promise.

use std::time::Duration;

use anyhow::ensure;
use iotctl::config::KafkaConfig;
use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};

use crate::bench::Bench;
use crate::support::{complain, eventually};

crate::faults!(
    short: [killed_four_times, committing_before_storing_is_found_out],
    long: [terminated_in_the_middle, killed_twenty_times, twenty_rebalances]
);

/// Random waits of up to two seconds; they are printed, so that a run that fails can be told.
fn moments(count: usize) -> Vec<Duration> {
    let moments: Vec<_> = (0..count).map(|_| Duration::from_millis(rand::random_range(0..2_000))).collect();
    complain(&format!("  waits in ms: {:?}", moments.iter().map(Duration::as_millis).collect::<Vec<_>>()));
    moments
}

/// Kills each ingest while it stores.
fn killed(name: &str, times: usize, seconds: u32) -> anyhow::Result<()> {
    let mut bench = Bench::new(name)?;
    // A member that was killed keeps its partitions until its session ends, and the next one waits that long.
    bench.set("IOTCTL_KAFKA_PROPERTIES", "session.timeout.ms=6000");
    bench.load(4000, seconds)?;
    for moment in moments(times) {
        let ingest = bench.ingest()?;
        bench.await_flow()?;
        std::thread::sleep(moment);
        bench.kill_ingest(ingest, Signal::SIGKILL)?;
    }
    bench.ingest()?;
    bench.finish().map(|_| ())
}

fn killed_four_times() -> anyhow::Result<()> {
    killed("killed", 4, 35)
}

fn killed_twenty_times() -> anyhow::Result<()> {
    killed("killed20", 20, 200)
}

fn terminated_in_the_middle() -> anyhow::Result<()> {
    let mut bench = Bench::new("terminated")?;
    bench.load(4000, 15)?;
    for moment in moments(4) {
        let ingest = bench.ingest()?;
        bench.await_flow()?;
        std::thread::sleep(moment);
        bench.kill_ingest(ingest, Signal::SIGTERM)?;
    }
    bench.finish().map(|_| ())
}

fn twenty_rebalances() -> anyhow::Result<()> {
    let mut bench = Bench::new("rebalances")?;
    bench.load(4000, 90)?;
    bench.ingest()?;
    bench.await_flow()?;
    for moment in moments(10) {
        let other = bench.ingest()?;
        std::thread::sleep(moment + Duration::from_secs(2));
        bench.kill_ingest(other, Signal::SIGTERM)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    bench.finish().map(|_| ())
}

/// The negative control: a consumer that commits what it has read and dies before it stores it. The harness is worth
/// nothing if the audit does not see that.
fn committing_before_storing_is_found_out() -> anyhow::Result<()> {
    const LOST: usize = 1_000;
    let mut bench = Bench::new("control")?;
    bench.load_with(4000, 3, "")?;
    std::thread::sleep(Duration::from_secs(4));
    let topic = bench.topic().to_owned();
    let config = KafkaConfig { bootstrap_servers: vec!["127.0.43.1:9092".into()], ..Default::default() };
    let mut client = iotctl::kafka::client_config(&config);
    client.set("group.id", &topic).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = client.create()?;
    consumer.subscribe(&[&topic])?;
    let mut taken = 0;
    eventually("messages are read", Duration::from_secs(30), || {
        while taken < LOST
            && let Some(message) = consumer.poll(Duration::from_millis(500))
        {
            message?;
            taken += 1;
        }
        Ok(taken == LOST)
    })?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    drop(consumer);
    bench.ok(&["-q", "ingest", "--until-end"])?;
    let (report, code) = bench.audit()?;
    let missing = report["troubles"]["missing"]["readings"].as_u64().unwrap_or(0);
    // A few of the thousand are repeats of others.
    ensure!(missing > 900 && missing <= LOST as u64, "{missing} missing: {report:#}");
    ensure!(code == Some(1) && report["is_sound"] == false, "exit code {code:?}: {report:#}");
    ensure!(!report["examples"].as_array().is_none_or(Vec::is_empty), "no examples: {report:#}");
    Ok(())
}
