//! The delivery promise under attack: killed, joined, stopped, and still nothing lost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use iotctl::kafka::topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use scylla::value::CqlTimestamp;

use crate::support::{KAFKA, Lab, eventually, sample};

crate::trials!(
    a_commit_never_passes_a_reading_that_is_not_stored,
    two_ingests_share_the_work_and_lose_nothing_when_one_leaves,
    a_terminated_ingest_stores_and_commits_what_it_took,
    readings_sent_while_ingest_runs_are_all_found,
);

/// (sensor, moment) of every raw row, by another driver.
fn stored_keys(lab: &Lab) -> anyhow::Result<HashSet<(uuid::Uuid, i64)>> {
    let rows: Vec<(uuid::Uuid, CqlTimestamp)> =
        lab.witness("SELECT iot_sensor_id, recorded_timestamp FROM {ks}.iot_sensor_metrics")?;
    Ok(rows.into_iter().map(|(sensor, CqlTimestamp(at))| (sensor, at)).collect())
}

/// What the group has committed, by partition.
pub fn committed(lab: &Lab) -> anyhow::Result<HashMap<i32, i64>> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", KAFKA).set("group.id", &lab.name).create()?;
    let partitions = lab.block_on(topics::partitions(&lab.kafka(), &lab.name))?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(&lab.name, partition);
    }
    // Before the group has a coordinator, the broker says so.
    let mut found = None;
    eventually("the group has a coordinator", Duration::from_secs(10), || {
        found = consumer.committed_offsets(list.clone(), Duration::from_secs(10)).ok();
        Ok(found.is_some())
    })?;
    let list = found.context("committed offsets")?;
    let offsets = list.elements().into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    Ok(offsets.collect())
}

/// A line of the ledger: what the broker acknowledged, and where.
#[derive(serde::Deserialize)]
struct Acknowledged {
    sensor: uuid::Uuid,
    timestamp: chrono::DateTime<chrono::Utc>,
    partition: i32,
    offset: i64,
}

fn ledger(path: &std::path::Path) -> anyhow::Result<Vec<Acknowledged>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn a_commit_never_passes_a_reading_that_is_not_stored() -> anyhow::Result<()> {
    let lab = Lab::new("kills")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ledger");
    let count = 60_000;
    lab.simulate(&format!(
        "--count {count} --sensors 500 --start 2026-11-01T00:00:00Z --step 10s --ledger {}",
        path.display()
    ))?;
    let ledger = ledger(&path)?;
    ensure!(ledger.len() == count, "{} of {count} in the ledger", ledger.len());
    let metrics = "127.0.42.1:19479";
    let mut seen_partial = false;
    for round in 0..6 {
        let mut ingest = lab.spawn(&["-q", "ingest", "--metrics-addr", metrics])?;
        // In the middle of its work, at different moments.
        eventually("rows are stored", Duration::from_secs(20), || {
            Ok(sample(metrics, "iotctl_ingest_rows_total").is_some_and(|rows| rows > 0.0))
        })?;
        std::thread::sleep(Duration::from_millis(50 * round));
        ingest.kill()?;
        let committed = committed(&lab)?;
        let stored = stored_keys(&lab)?;
        for reading in &ledger {
            let is_committed =
                committed.get(&reading.partition).is_some_and(|&offset| reading.offset < offset);
            let is_stored = stored.contains(&(reading.sensor, reading.timestamp.timestamp_millis()));
            ensure!(
                is_stored || !is_committed,
                "offset {} of partition {} is committed and its reading is not stored",
                reading.offset,
                reading.partition
            );
        }
        seen_partial |= !stored.is_empty() && stored.len() < count;
        if committed.values().sum::<i64>() == count as i64 {
            break;
        }
    }
    lab.ingest()?;
    let stored = stored_keys(&lab)?;
    ensure!(stored.len() == count, "{} of {count} rows after the kills", stored.len());
    ensure!(seen_partial, "no kill came in the middle: the test proves nothing");
    Ok(())
}

fn two_ingests_share_the_work_and_lose_nothing_when_one_leaves() -> anyhow::Result<()> {
    let lab = Lab::new("rebalance")?;
    let addresses = ["127.0.42.1:19474", "127.0.42.1:19475"];
    let start = |address: &str| lab.spawn(&format!("-q ingest --metrics-addr {address}"));
    let mut first = start(addresses[0])?;
    let mut simulation = lab.spawn("-q simulate --rate 2000 --duration 20s --sensors 200")?;
    let is_positive = |address, name| sample(address, name).is_some_and(|value| value > 0.0);
    eventually("the first ingest stores rows", Duration::from_secs(10), || {
        Ok(is_positive(addresses[0], "iotctl_ingest_rows_total"))
    })?;
    let mut second = start(addresses[1])?;
    eventually("both have partitions and store rows", Duration::from_secs(15), || {
        let works = |address| {
            is_positive(address, "iotctl_ingest_assigned_partitions")
                && is_positive(address, "iotctl_ingest_rows_total")
        };
        Ok(addresses.into_iter().all(works))
    })?;
    ensure!(simulation.is_running()?, "the simulation ended before the first ingest left");
    ensure!(first.terminate()? == Some(0), "the first ingest did not end well");
    eventually("the simulation ends", Duration::from_secs(30), || Ok(!simulation.is_running()?))?;
    let sent: i64 = lab.block_on(topics::end_offsets(&lab.kafka(), &lab.name))?.iter().sum();
    ensure!(sent == 40_000, "{sent} messages in the topic");
    eventually("the second ingest stores the rest", Duration::from_secs(40), || {
        let committed: i64 = committed(&lab)?.values().sum();
        Ok(committed == sent)
    })?;
    let stored = lab.stored()?;
    ensure!(stored == sent, "{stored} rows of {sent} messages");
    ensure!(second.terminate()? == Some(0), "the second ingest did not end well");
    Ok(())
}

fn a_terminated_ingest_stores_and_commits_what_it_took() -> anyhow::Result<()> {
    let lab = Lab::new("sigterm")?;
    lab.simulate("--count 100000 --start 2026-11-01T00:00:00Z --step 10s")?;
    let mut ingest = lab.spawn(&["-q", "ingest"])?;
    eventually("ingest is in the middle", Duration::from_secs(20), || Ok(lab.stored()? > 0))?;
    ensure!(ingest.terminate()? == Some(0), "a stopped ingest did its work");
    let committed: i64 = committed(&lab)?.values().sum();
    let stored = lab.stored()?;
    ensure!(committed == stored, "{committed} committed, {stored} stored: a clean stop leaves no difference");
    lab.ingest()?;
    ensure!(lab.stored()? == 100_000);
    Ok(())
}

fn readings_sent_while_ingest_runs_are_all_found() -> anyhow::Result<()> {
    let lab = Lab::new("beside")?;
    let mut ingest = lab.spawn(&["-q", "ingest"])?;
    let report = lab.json("-q simulate --rate 5000 --duration 6s --format json")?;
    let sent = report["acknowledged"].as_u64().filter(|sent| *sent > 0 && report["failed"] == 0);
    let sent = sent.with_context(|| report.to_string())?;
    eventually("all rows are stored", Duration::from_secs(10), || Ok(u64::try_from(lab.stored()?)? == sent))?;
    ensure!(ingest.terminate()? == Some(0));
    Ok(())
}
