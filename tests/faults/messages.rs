//! The messages: half of them malformed, a ledger that cannot be written, a table that is dropped.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::ensure;

use crate::bench::Bench;
use crate::support::{eventually, message};

crate::faults!(
    short: [half_of_the_messages_are_malformed],
    long: [
        oversize_skewed_and_very_late_messages, questions_during_ingest, the_ledgers_disk_is_full,
        a_table_is_dropped_and_recreated
    ]
);

fn half_of_the_messages_are_malformed() -> anyhow::Result<()> {
    let mut bench = Bench::new("flood")?;
    bench.load_with(4000, 10, "--malformed 0.5")?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    let outcome = bench.finish()?;
    let (dead, all) = (&outcome.audit["topic"]["dead_lettered"], &outcome.audit["topic"]["messages"]);
    let share = dead.as_f64().unwrap_or(0.0) / all.as_f64().unwrap_or(f64::NAN);
    ensure!((0.45..0.55).contains(&share), "{dead} of {all} messages are dead letters");
    Ok(())
}

/// Each of them is stored, or in the dead-letter topic with its bytes; none holds the others up.
fn oversize_skewed_and_very_late_messages() -> anyhow::Result<()> {
    const HOUR: i64 = 3_600_000;
    let mut bench = Bench::new("odd")?;
    bench.set("IOTCTL_INGEST_MAX_MESSAGE_BYTES", "256KiB");
    bench.load(3000, 12)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let now = chrono::Utc::now().timestamp_millis();
    let of_age = |sensor: u128, age: i64| message("plant-1", sensor, now - age, r#","temperature":20"#);
    let mut odd = Vec::new();
    for number in 0..50u128 {
        // As large as the broker takes, more than ingest does.
        odd.push(message("plant-1", number, now, &format!(r#","note":"{}""#, "x".repeat(900_000))));
        // A clock hours ahead is beyond what is believed; one a second ahead is not.
        odd.push(of_age(1_000 + number, -5 * HOUR));
        odd.push(of_age(2_000 + number, -1_000));
        // Days and months late, from a gateway that was offline.
        odd.push(of_age(3_000 + number, 72 * HOUR));
        odd.push(of_age(4_000 + number, 24 * 60 * HOUR));
    }
    bench.send(odd)?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    let outcome = bench.finish()?;
    ensure!(outcome.stall <= Duration::from_secs(5), "stalled {:?}", outcome.stall);
    let letters = outcome.audit["topic"]["dead_lettered"].as_u64();
    ensure!((100..200).contains(&letters.unwrap_or(0)), "{:#}", outcome.audit["topic"]);
    Ok(())
}

/// What a question finds, it finds again: rows neither vanish nor come twice while others are written.
fn questions_during_ingest() -> anyhow::Result<()> {
    let mut bench = Bench::new("questions")?;
    bench.load(4000, 20)?;
    bench.ingest()?;
    bench.await_flow()?;
    let group = ["--location", "plant-1", "--device-type", "thermostat", "--last", "1d"];
    let columns = ["--columns", "recorded_timestamp,iot_sensor_id,temperature", "--format", "ndjson"];
    let query = [&["-q", "query"], &group[..], &columns[..]].concat();
    let extremes =
        ["-q", "extremes", "--metric", "temperature", "--last", "1d", "--top", "1", "--format", "ndjson"];
    let value = |lines: &str| -> anyhow::Result<f64> {
        let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap_or("{}"))?;
        line["temperature"].as_f64().or(line["value"].as_f64()).ok_or_else(|| anyhow::anyhow!("{line}"))
    };
    let mut earlier: HashSet<String> = HashSet::new();
    let mut highest = f64::MIN;
    for _ in 0..8 {
        let text = bench.ok(&query)?;
        let rows: HashSet<String> = text.lines().map(str::to_owned).collect();
        ensure!(rows.len() == text.lines().count(), "a row came twice");
        let vanished = earlier.difference(&rows).next();
        ensure!(vanished.is_none(), "a row vanished: {vanished:?}");
        let now = value(&bench.ok(&extremes)?)?;
        ensure!(now >= highest, "the highest value was {highest} and is {now}");
        (earlier, highest) = (rows, now);
    }
    ensure!(!earlier.is_empty(), "nothing was found");
    bench.finish().map(|_| ())
}

/// A run that cannot write down what was acknowledged must not go on as if it could.
fn the_ledgers_disk_is_full() -> anyhow::Result<()> {
    let bench = Bench::new("full")?;
    let output = bench
        .command(&["-q", "simulate", "--rate", "0", "--count", "100000", "--ledger", "/dev/full"])
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && stderr.contains("cannot write the ledger"), "{stderr}");
    // What was sent until then is ingested all the same.
    bench.finish().map(|_| ())
}

/// What the drop deleted is gone from the table, as somebody wanted; the topic still has it.
fn a_table_is_dropped_and_recreated() -> anyhow::Result<()> {
    let mut bench = Bench::new("dropped")?;
    bench.load(3000, 15)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let keyspace = bench.topic().to_owned();
    let mut config = iotctl::config::Config::default().cassandra;
    config.contact_points = vec!["127.0.43.1:9042".into()];
    config.keyspace = keyspace.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let session = runtime.block_on(iotctl::cassandra::Session::connect(&config))?;
    runtime.block_on(session.query(&format!("DROP TABLE {keyspace}.iot_sensor_metrics")))?;
    std::thread::sleep(Duration::from_secs(3));
    bench.ok(&["-q", "schema", "apply"])?;
    // It goes on by itself, or has ended with a reason; no message is given up either way.
    eventually("ingest goes on or ends", Duration::from_secs(90), || {
        let before = bench.rows();
        std::thread::sleep(Duration::from_secs(1));
        Ok(bench.rows() > before || !bench.ingest_runs(ingest)?)
    })?;
    bench.set("IOTCTL_KAFKA_GROUP", &format!("{keyspace}_again"));
    bench.finish().map(|_| ())
}
