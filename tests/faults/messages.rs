//! The messages: half of them malformed, a ledger that cannot be written, a table that is dropped.

use std::time::Duration;

use anyhow::ensure;

use crate::bench::Bench;
use crate::lab::eventually;

crate::faults!(
    short: [half_of_the_messages_are_malformed, the_ledgers_disk_is_full],
    long: [a_table_is_dropped_and_recreated]
);

fn half_of_the_messages_are_malformed() -> anyhow::Result<()> {
    let mut bench = Bench::new("flood")?;
    bench.load_with(4000, 10, &["--malformed", "0.5"])?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    let outcome = bench.finish()?;
    let (dead, all) = (&outcome.audit["topic"]["dead_lettered"], &outcome.audit["topic"]["messages"]);
    let share = dead.as_f64().unwrap_or(0.0) / all.as_f64().unwrap_or(f64::NAN);
    ensure!((0.45..0.55).contains(&share), "{dead} of {all} messages are dead letters");
    Ok(())
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
