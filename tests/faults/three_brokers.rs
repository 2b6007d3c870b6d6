//! Three brokers, replication factor 3, `min.insync.replicas` 2: what `schema apply` creates where nothing else is
//! configured. One broker may fail without a pause in the acknowledgements; with two down nothing is acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use iotctl::config::KafkaConfig;
use iotctl::kafka::retention::retention;
use iotctl::kafka::topics;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bench::{BROKERS, Bench};
use crate::broker_servers as servers;
use crate::support::{complain, eventually};

crate::faults!(
    short: [],
    long: [
        topics_have_three_replicas_and_two_acknowledge,
        one_of_three_brokers_is_killed,
        one_of_three_brokers_is_frozen_for_thirty_seconds,
        two_of_three_brokers_are_killed_and_restarted,
        status_names_the_broker_that_answers_while_two_are_dead,
        status_is_not_stopped_by_a_frozen_broker,
    ]
);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bench(name: &str) -> anyhow::Result<Bench> {
    Bench::on(servers(), name)
}

fn topics_have_three_replicas_and_two_acknowledge() -> anyhow::Result<()> {
    let bench = bench("replicas")?;
    let servers = BROKERS.map(|broker| format!("{broker}:9092")).to_vec();
    let config = KafkaConfig { bootstrap_servers: servers, ..Default::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for topic in [bench.topic().to_owned(), format!("{}.dlq", bench.topic())] {
        let found = runtime.block_on(topics::describe(&config, &topic))?;
        ensure!(found.replicas == 3, "{topic}: {found:?}");
        let limits = runtime.block_on(retention(&config, &topic))?;
        ensure!(limits.min_in_sync_replicas == Some(2), "{topic}: {limits:?}");
    }
    let doctor = bench.run("-q doctor --format json")?;
    let doctor: Value = serde_json::from_str(&doctor.stdout)?;
    let checks = doctor["checks"].as_array().context("checks")?;
    let in_sync =
        checks.iter().find(|check| check["name"] == "in-sync replicas").context("in-sync replicas")?;
    ensure!(in_sync["verdict"] == "ok", "{in_sync}");
    Ok(())
}

fn one_of_three_brokers_is_killed() -> anyhow::Result<()> {
    let mut bench = bench("one_killed")?;
    bench.load(3000, 120)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let from = bench.now();
    servers().signal("kafka-2", Signal::SIGKILL)?;
    // The controllers miss it after 9 s, or later if it was the active one; then others lead its partitions, and serve its
    // consumer groups. What was on its way is stored before that.
    std::thread::sleep(seconds(12));
    let before = bench.rows();
    eventually("rows are stored while one broker of three is down", seconds(60), || {
        Ok(bench.rows() > before + 10_000)
    })?;
    let again = bench.now() - from;
    complain(&format!(
        "  10,000 rows were stored by {:.0} s after the broker was killed",
        again.as_secs_f64()
    ));
    servers().up()?;
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

fn one_of_three_brokers_is_frozen_for_thirty_seconds() -> anyhow::Result<()> {
    let mut bench = bench("one_frozen")?;
    bench.load(3000, 60)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let frozen = servers().freeze("kafka-3")?;
    std::thread::sleep(seconds(30));
    drop(frozen);
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

fn two_of_three_brokers_are_killed_and_restarted() -> anyhow::Result<()> {
    let mut bench = bench("two_killed")?;
    bench.load(3000, 60)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    servers().signal("kafka-2", Signal::SIGKILL)?;
    servers().signal("kafka-3", Signal::SIGKILL)?;
    std::thread::sleep(seconds(15));
    servers().up()?;
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

/// The status, and how long it took.
fn status(bench: &Bench) -> anyhow::Result<(Value, Duration)> {
    let begin = Instant::now();
    let finished = bench.run("-q status --format json")?;
    let took = begin.elapsed();
    let status = serde_json::from_str(&finished.stdout).with_context(|| format!("no JSON: {finished:#?}"))?;
    Ok((status, took))
}

/// Addresses of the brokers that answered, or of those that did not.
fn brokers(status: &Value, answers: bool) -> Vec<String> {
    let brokers = status["kafka"]["brokers"].as_array().into_iter().flatten();
    let mut found: Vec<_> = brokers
        .filter(|broker| broker["answers"] == answers)
        .filter_map(|broker| broker["address"].as_str().map(str::to_owned))
        .collect();
    found.sort();
    found
}

fn status_names_the_broker_that_answers_while_two_are_dead() -> anyhow::Result<()> {
    let bench = bench("status_dead")?;
    let address = |index: usize| format!("{}:9092", BROKERS[index]);
    let (whole, _) = status(&bench)?;
    ensure!(brokers(&whole, true) == [address(0), address(1), address(2)], "{whole:#}");
    servers().signal("kafka-1", Signal::SIGKILL)?;
    servers().signal("kafka-3", Signal::SIGKILL)?;
    let look = || -> anyhow::Result<()> {
        // At once, and after the controllers' session with the dead brokers has ended.
        for pause in [0, 12] {
            std::thread::sleep(seconds(pause));
            let (status, took) = status(&bench)?;
            complain(&format!("  status took {:.1} s with two brokers dead", took.as_secs_f64()));
            ensure!(brokers(&status, true) == [address(1)], "{status:#}");
            ensure!(brokers(&status, false) == [address(0), address(2)], "{status:#}");
            let attention = status["attention"].to_string();
            for dead in [address(0), address(2)] {
                ensure!(
                    attention.contains(&format!("the Kafka broker at {dead} does not answer")),
                    "{attention}"
                );
            }
            ensure!(!attention.contains("no Kafka broker answers"), "{attention}");
            ensure!(took < seconds(25), "{took:?}");
        }
        let screen = bench.run("-q status")?.stdout;
        ensure!(screen.contains(&format!("1 of 3 brokers answer ({};", address(1))), "{screen}");
        Ok(())
    };
    let looked = look();
    servers().up()?;
    looked
}

fn status_is_not_stopped_by_a_frozen_broker() -> anyhow::Result<()> {
    let bench = bench("status_frozen")?;
    // The first of the configured ones.
    let frozen = servers().freeze("kafka-1")?;
    let looked = status(&bench);
    drop(frozen);
    let (status, took) = looked?;
    complain(&format!("  status took {:.1} s with one broker frozen", took.as_secs_f64()));
    ensure!(brokers(&status, false) == [format!("{}:9092", BROKERS[0])], "{status:#}");
    ensure!(took < seconds(25), "{took:?}");
    Ok(())
}
