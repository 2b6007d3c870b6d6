//! Kafka: restarted, frozen, given more partitions.

use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::config::KafkaConfig;
use nix::sys::signal::Signal;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::bench::Bench;
use crate::servers;

crate::faults!(
    short: [the_broker_is_restarted],
    long: [partitions_are_added, the_broker_is_frozen_for_thirty_seconds, the_broker_is_killed]
);

fn restarted(name: &str, end: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut bench = Bench::new(name)?;
    bench.load(3000, 25)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    end()?;
    std::thread::sleep(Duration::from_secs(5));
    servers().up()?;
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

fn the_broker_is_restarted() -> anyhow::Result<()> {
    restarted("broker", || servers().terminate("kafka"))
}

/// What it had acknowledged is in the page cache of a machine that lives on.
fn the_broker_is_killed() -> anyhow::Result<()> {
    restarted("broker_killed", || servers().signal("kafka", Signal::SIGKILL))
}

fn the_broker_is_frozen_for_thirty_seconds() -> anyhow::Result<()> {
    let mut bench = Bench::new("broker_frozen")?;
    bench.load(3000, 50)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let frozen = servers().freeze("kafka")?;
    std::thread::sleep(Duration::from_secs(30));
    drop(frozen);
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}

fn partitions_are_added() -> anyhow::Result<()> {
    let mut bench = Bench::new("partitions")?;
    // The library looks for new partitions every five minutes by itself.
    bench.set("IOTCTL_KAFKA_PROPERTIES", "topic.metadata.refresh.interval.ms=1000");
    bench.load(3000, 20)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let config = KafkaConfig { bootstrap_servers: vec!["127.0.43.1:9092".into()], ..Default::default() };
    let admin: AdminClient<DefaultClientContext> = iotctl::kafka::client_config(&config).create()?;
    let more = NewPartitions::new(bench.topic(), 8);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let added = runtime.block_on(admin.create_partitions([&more], &AdminOptions::new()))?;
    added.into_iter().next().context("no answer")?.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    std::thread::sleep(Duration::from_secs(8));
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}
