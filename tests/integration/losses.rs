//! Messages that never come: deleted before they were read, or not messages at all, but transaction markers. And a
//! consumer group that belongs to another program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::kafka::topics;
use nix::sys::signal::Signal;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::delivery::committed;
use crate::support::{KAFKA, Lab, Running, contains, eventually, message, scrape};

crate::trials!(
    messages_deleted_before_they_were_read_are_reported_and_noted,
    a_partition_deleted_to_its_end_is_counted_and_not_waited_for,
    messages_deleted_while_ingest_runs_are_counted,
    ingest_stops_before_lost_messages_where_it_is_told_to,
    transaction_markers_are_neither_losses_nor_lag,
    a_second_member_ends_although_the_first_owns_the_markers,
    a_consumer_group_of_another_program_ends_ingest_with_the_remedy,
);

fn readings(from: u128, count: u128) -> impl Iterator<Item = (String, Vec<u8>)> {
    let at = chrono::Utc::now().timestamp_millis();
    (from..from + count).map(move |sensor| message("plant-1", sensor, at, r#","temperature":21.5"#))
}

/// The first offset kept and the one after the last of each partition.
fn watermarks(lab: &Lab) -> anyhow::Result<Vec<(i64, i64)>> {
    Ok(lab.block_on(topics::watermarks(&lab.kafka(), &lab.name))?)
}

/// Deletes the messages before an offset of each partition.
fn delete_before(lab: &Lab, offsets: &[(i32, i64)]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
    let mut list = TopicPartitionList::new();
    for &(partition, offset) in offsets {
        list.add_partition_offset(&lab.name, partition, Offset::Offset(offset))?;
    }
    let deleted = lab.block_on(admin.delete_records(&list, &AdminOptions::new()))?;
    deleted.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)?;
    Ok(())
}

/// Deletes the older half of what each partition holds beyond `read`; returns how many messages that were.
fn delete_half(lab: &Lab, read: &[(i64, i64)]) -> anyhow::Result<u64> {
    let middles: Vec<(i32, i64)> = (0..)
        .zip(watermarks(lab)?.iter().zip(read))
        .map(|(partition, ((_, end), (_, read)))| (partition, read + (end - read) / 2))
        .collect();
    delete_before(lab, &middles)?;
    let lost = middles.iter().zip(read).map(|((_, middle), (_, read))| middle - read);
    Ok(u64::try_from(lost.sum::<i64>())?)
}

fn lost(report: &Value) -> Option<u64> {
    report["messages_lost"].as_u64()
}

fn messages_deleted_before_they_were_read_are_reported_and_noted() -> anyhow::Result<()> {
    let lab = Lab::new("lost")?;
    lab.send(readings(0, 400))?;
    let report = lab.ingest()?;
    ensure!(lost(&report) == Some(0), "{report}");
    lab.ok("-q audit")?;
    let read = watermarks(&lab)?;
    lab.send(readings(400, 400))?;
    let deleted = delete_half(&lab, &read)?;
    ensure!(deleted > 100, "only {deleted} were deleted: the test proves nothing");

    let finished = lab.run("ingest --until-end --format json")?;
    ensure!(finished.code == Some(0), "{finished:#?}");
    let report: Value = serde_json::from_str(&finished.stdout)?;
    ensure!(lost(&report) == Some(deleted), "{deleted} of {report}");
    ensure!(report["rows"] == 400 - deleted, "{report}");
    contains(
        &finished.stderr,
        &["messages were deleted before they were read", &lab.name, "partition=", "from="],
    )?;

    // Everything is committed now, and the note stays: after further runs too.
    lab.send(readings(800, 100))?;
    let report = lab.ingest()?;
    ensure!(lost(&report) == Some(0) && report["rows"] == 100, "{report}");
    let status: Value = serde_json::from_str(&lab.run("-q status --format json")?.stdout)?;
    let noted = status["kafka"]["group"]["lost"].as_array().context("the notes")?;
    let noted: u64 = noted.iter().filter_map(|lost| lost["messages"].as_u64()).sum();
    ensure!(noted == deleted, "{status}");
    contains(&lab.run("-q status")?.stdout, &[&format!("lost {deleted} messages")])?;
    contains(
        &lab.run("-q doctor")?.stdout,
        &[&format!("{deleted} messages"), "before ingest had read them"],
    )?;
    let audited = lab.run("-q audit")?;
    ensure!(audited.code == Some(1), "{audited:#?}");
    contains(&audited.stderr, &[&format!("{deleted} deleted before they were read")])?;
    Ok(())
}

fn a_partition_deleted_to_its_end_is_counted_and_not_waited_for() -> anyhow::Result<()> {
    let lab = Lab::new("lost_end")?;
    lab.send(readings(0, 200))?;
    lab.ingest()?;
    lab.send(readings(200, 200))?;
    let ends: Vec<(i32, i64)> = (0..).zip(watermarks(&lab)?).map(|(id, (_, end))| (id, end)).collect();
    delete_before(&lab, &ends)?;
    let report = lab.ingest()?;
    ensure!(lost(&report) == Some(200), "{report}");
    ensure!(committed(&lab)? == ends.iter().copied().collect(), "{:?} and not {ends:?}", committed(&lab)?);
    let report = lab.ingest()?;
    ensure!(lost(&report) == Some(0), "they are counted once: {report}");
    contains(&lab.run("-q doctor")?.stdout, &["200 messages"])?;
    Ok(())
}

fn metric(address: &str, name: &str) -> Option<f64> {
    let text = scrape(address).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn ends_within(running: &mut Running, deadline: Duration) -> anyhow::Result<()> {
    eventually("the run ends", deadline, || Ok(!running.is_running()?))
}

fn messages_deleted_while_ingest_runs_are_counted() -> anyhow::Result<()> {
    let lab = Lab::new("lost_running")?;
    let address = "127.0.42.1:19882";
    lab.send(readings(0, 400))?;
    let mut ingest = lab.spawn(&format!("-q ingest --metrics-addr {address}"))?;
    eventually("all is stored", Duration::from_secs(30), || Ok(lab.stored()? == 400))?;
    let read = watermarks(&lab)?;
    // It sleeps while its messages come and go, for less than its session.
    ingest.signal(Signal::SIGSTOP)?;
    lab.send(readings(400, 400))?;
    let deleted = delete_half(&lab, &read)?;
    ingest.signal(Signal::SIGCONT)?;
    let expected = 800 - i64::try_from(deleted)?;
    eventually("what is left is stored", Duration::from_secs(40), || Ok(lab.stored()? == expected))?;
    eventually("what was deleted is counted", Duration::from_secs(20), || {
        Ok(metric(address, "iotctl_ingest_messages_lost_total") == Some(deleted as f64))
    })?;
    ensure!(ingest.terminate()? == Some(0));
    contains(&lab.run("-q doctor")?.stdout, &[&format!("{deleted} messages")])?;
    Ok(())
}

fn ingest_stops_before_lost_messages_where_it_is_told_to() -> anyhow::Result<()> {
    let mut lab = Lab::new("lost_stop")?;
    lab.send(readings(0, 400))?;
    lab.ingest()?;
    let read = watermarks(&lab)?;
    lab.send(readings(400, 400))?;
    let deleted = delete_half(&lab, &read)?;
    lab.set("IOTCTL_INGEST_ON_LOST_MESSAGES", "stop");
    for _ in 0..2 {
        let finished = lab.run("-q ingest --until-end")?;
        ensure!(finished.code == Some(3), "{finished:#?}");
        contains(
            &finished.stderr,
            &["were deleted before they were read", "ingest.on_lost_messages", "offsets"],
        )?;
        let committed = committed(&lab)?;
        ensure!(
            (0..)
                .zip(&read)
                .all(|(partition, (_, end))| committed.get(&partition).is_none_or(|at| at == end)),
            "{committed:?} is beyond {read:?}"
        );
    }
    lab.set("IOTCTL_INGEST_ON_LOST_MESSAGES", "continue");
    let report = lab.ingest()?;
    ensure!(lost(&report) == Some(deleted), "{deleted} of {report}");
    ensure!(lab.stored()? == 800 - i64::try_from(deleted)?);
    Ok(())
}

/// Sends readings in transactions of ten, the last of them aborted.
fn send_in_transactions(lab: &Lab, from: u128, transactions: u128) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", KAFKA)
        .set("transactional.id", format!("{}-{from}", lab.name))
        .create()?;
    let deadline = Duration::from_secs(30);
    producer.init_transactions(deadline)?;
    for number in 0..=transactions {
        producer.begin_transaction()?;
        for (key, payload) in readings(from + number * 10, 10) {
            producer
                .send(BaseRecord::to(&lab.name).key(&key).payload(&payload))
                .map_err(|(error, _)| error)?;
        }
        producer.flush(deadline)?;
        match number == transactions {
            true => producer.abort_transaction(deadline)?,
            false => producer.commit_transaction(deadline)?,
        }
    }
    Ok(())
}

fn transaction_markers_are_neither_losses_nor_lag() -> anyhow::Result<()> {
    let lab = Lab::new("transactions")?;
    for run in 0..3 {
        if run < 2 {
            send_in_transactions(&lab, run * 1_000, 5)?;
        }
        let mut ingest = lab.spawn("-q ingest --until-end")?;
        ends_within(&mut ingest, Duration::from_secs(30)).with_context(|| format!("run {run}"))?;
        ensure!(lab.stored()? == [50, 100, 100][run as usize], "{} rows after run {run}", lab.stored()?);
    }
    let report = lab.ingest()?;
    ensure!(lost(&report) == Some(0) && report["messages"] == 0, "{report}");
    let status: Value = serde_json::from_str(&lab.run("-q status --format json")?.stdout)?;
    ensure!(status["kafka"]["group"]["lag_messages"] == 0, "{status}");
    ensure!(status["kafka"]["group"]["lost"].as_array().is_some_and(Vec::is_empty), "{status}");
    // A member that stays has no lag either.
    let address = "127.0.42.1:19883";
    let mut running = lab.spawn(&format!("-q ingest --metrics-addr {address}"))?;
    send_in_transactions(&lab, 5_000, 5)?;
    eventually("all is stored", Duration::from_secs(30), || Ok(lab.stored()? == 150))?;
    eventually("the lag is 0", Duration::from_secs(20), || {
        let text = scrape(address)?;
        let lags: Vec<&str> =
            text.lines().filter(|line| line.starts_with("iotctl_ingest_lag_messages{")).collect();
        Ok(lags.len() >= 4
            && lags.iter().all(|line| line.ends_with(" 0"))
            && metric(address, "iotctl_ingest_lag_seconds") == Some(0.0))
    })?;
    ensure!(metric(address, "iotctl_ingest_messages_lost_total") == Some(0.0));
    ensure!(running.terminate()? == Some(0));
    Ok(())
}

fn a_second_member_ends_although_the_first_owns_the_markers() -> anyhow::Result<()> {
    let lab = Lab::new("two_members")?;
    send_in_transactions(&lab, 0, 5)?;
    let mut first = lab.spawn("-q ingest")?;
    eventually("all is stored", Duration::from_secs(30), || Ok(lab.stored()? == 50))?;
    let mut second = lab.spawn("-q ingest --until-end")?;
    ends_within(&mut second, Duration::from_secs(40))?;
    ensure!(first.terminate()? == Some(0));
    Ok(())
}

/// A member of the lab's consumer group that shares partitions in another way than `ingest`.
fn with_foreign_member(lab: &Lab, test: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", KAFKA)
        .set("group.id", &lab.name)
        .set("client.id", "reporting-job")
        .set("partition.assignment.strategy", "range")
        .create()?;
    consumer.subscribe(&[&lab.name])?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let member = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let _ = consumer.poll(Duration::from_millis(100));
        }
    });
    let result = eventually("the other program has joined", Duration::from_secs(30), || {
        let status: Value = serde_json::from_str(&lab.run("-q status --format json")?.stdout)?;
        Ok(status["kafka"]["group"]["in_use"].is_string())
    })
    .and_then(|()| test());
    stop.store(true, Ordering::Relaxed);
    member.join().ok().context("the other program")?;
    result
}

fn a_consumer_group_of_another_program_ends_ingest_with_the_remedy() -> anyhow::Result<()> {
    let lab = Lab::new("foreign_group")?;
    lab.send(readings(0, 10))?;
    with_foreign_member(&lab, || {
        let parts =
            [&format!("{:?} is used by", lab.name), "reporting-job", "with assignor range", "kafka.group"];
        contains(&lab.run("-q status")?.stdout, &parts)?;
        let mut child = lab.command("-q ingest").stderr(std::process::Stdio::piped()).spawn()?;
        let ended = eventually("ingest ends", Duration::from_secs(30), || Ok(child.try_wait()?.is_some()));
        let _ = child.kill();
        let output = child.wait_with_output()?;
        ended?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        contains(&String::from_utf8_lossy(&output.stderr), &parts)
    })
}
