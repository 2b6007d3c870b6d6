//! The audit finds what is wrong with the table and the topic, and nothing where all is well.

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::Value;

use crate::support::{Lab, message};

crate::trials!(
    a_sound_run_is_found_sound_with_and_without_its_ledger,
    a_deleted_a_changed_and_an_invented_row_are_found,
    what_was_acknowledged_and_never_reached_the_topic_is_found,
    what_is_not_committed_is_counted_and_not_missed,
    a_reading_stored_under_two_bucket_widths_is_told_and_harmless,
    a_lost_dead_letter_is_found,
    only_the_asked_range_is_compared,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

struct Audited {
    report: Value,
    code: Option<i32>,
}

impl Audited {
    fn count(&self, kind: &str) -> u64 {
        self.report["troubles"][kind]["readings"].as_u64().unwrap_or(u64::MAX)
    }

    /// What was found of each kind: missing, not in Kafka, no dead letter, different, unexpected, stored twice.
    fn troubles(&self) -> [u64; 6] {
        ["missing", "not_in_kafka", "no_dead_letter", "different", "unexpected", "stored_twice"]
            .map(|kind| self.count(kind))
    }
}

fn audit(lab: &Lab, arguments: &[&str]) -> anyhow::Result<Audited> {
    let finished = lab.run(&[&["-q", "audit", "--format", "json"], arguments].concat())?;
    let report = serde_json::from_str(&finished.stdout)
        .map_err(|error| anyhow::anyhow!("no report ({error}): {finished:#?}"))?;
    Ok(Audited { report, code: finished.code })
}

fn a_sound_run_is_found_sound_with_and_without_its_ledger() -> anyhow::Result<()> {
    let lab = Lab::new("sound")?;
    let folder = tempfile::tempdir()?;
    let ledger = folder.path().join("ledger");
    let ledger = ledger.to_str().unwrap_or_default();
    lab.simulate(&format!(
        "--count 30000 --sensors 200 --start 2026-11-01T00:00:00Z --step 10s --late 0.02 \
         --out-of-order 0.02 --duplicate 0.05 --malformed 0.01 --ledger {ledger}"
    ))?;
    let report = lab.ingest()?;
    for arguments in [&["--ledger", ledger][..], &[]] {
        let audited = audit(&lab, arguments)?;
        ensure!(audited.code == Some(0) && audited.report["is_sound"] == true, "{:#}", audited.report);
        ensure!(audited.troubles() == [0; 6], "{:#}", audited.report);
        let compared = &audited.report["compared"];
        ensure!(compared["stored"] == lab.stored()?, "{:#}", audited.report);
        ensure!(compared["repeated_messages"].as_u64() > Some(0), "{:#}", audited.report);
        ensure!(audited.report["topic"]["dead_lettered"] == report["dead_letters"], "{:#}", audited.report);
        let entries = audited.report["ledger"]["entries"].as_u64();
        ensure!(entries == (!arguments.is_empty()).then_some(30_000), "{:#}", audited.report);
    }
    // People read the verdict in the table's last line.
    let table = lab.ok(&["-q", "audit"])?;
    ensure!(table.contains("every reading is accounted for"), "{table}");
    Ok(())
}

/// A lab with `sensors` readings of temperature 20 a minute apart, one a sensor, all stored.
fn stored(name: &str, sensors: u32) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    lab.send(
        (0..sensors).map(|n| {
            message("plant-1", u128::from(n), START + i64::from(n) * 60_000, r#","temperature":20"#)
        }),
    )?;
    lab.ingest()?;
    ensure!(lab.stored()? == i64::from(sensors));
    Ok(lab)
}

/// The primary key of the row of a sensor of [`stored`], as a WHERE clause.
fn key(lab: &Lab, sensor: u32) -> anyhow::Result<String> {
    let rows = lab.cql("SELECT bucket, recorded_timestamp, iot_sensor_id FROM {ks}.iot_sensor_metrics")?;
    let id = uuid::Uuid::from_u128(sensor.into());
    for row in rows.iter() {
        if row.get::<uuid::Uuid>(2)? == id {
            let (bucket, at): (i64, i64) = (row.get(0)?, row.get(1)?);
            return Ok(format!(
                "location = 'plant-1' AND device_type = 'thermostat' AND bucket = {bucket} \
                 AND recorded_timestamp = {at} AND iot_sensor_id = {id}"
            ));
        }
    }
    anyhow::bail!("no row of sensor {sensor}")
}

fn a_deleted_a_changed_and_an_invented_row_are_found() -> anyhow::Result<()> {
    let lab = stored("tampered", 100)?;
    lab.cql(&format!("DELETE FROM {{ks}}.iot_sensor_metrics WHERE {}", key(&lab, 10)?))?;
    lab.cql(&format!("UPDATE {{ks}}.iot_sensor_metrics SET temperature = 99 WHERE {}", key(&lab, 20)?))?;
    let invented = key(&lab, 30)?
        .replace(&uuid::Uuid::from_u128(30).to_string(), &uuid::Uuid::from_u128(777).to_string());
    lab.cql(&format!("UPDATE {{ks}}.iot_sensor_metrics SET temperature = 1 WHERE {invented}"))?;
    let audited = audit(&lab, &[])?;
    ensure!(audited.code == Some(1) && audited.report["is_sound"] == false, "{:#}", audited.report);
    ensure!(audited.troubles() == [1, 0, 0, 1, 1, 0], "{:#}", audited.report);
    ensure!(audited.report["compared"]["stored"] == 98, "{:#}", audited.report);
    let examples = audited.report["examples"].as_array().cloned().unwrap_or_default();
    for (kind, sensor) in [("missing", 10u128), ("different", 20), ("unexpected", 777)] {
        let id = uuid::Uuid::from_u128(sensor).to_string();
        let found = examples.iter().find(|example| example["kind"] == kind);
        ensure!(
            found.is_some_and(|example| example["iot_sensor_id"] == id.as_str()
                && example["location"] == "plant-1"
                && example["device_type"] == "thermostat"),
            "{kind}: {examples:#?}"
        );
    }
    // CSV has one line for each example; stderr one for the verdict.
    let finished = lab.run(&["-q", "audit", "--format", "csv"])?;
    ensure!(finished.code == Some(1) && finished.stdout.lines().count() == 4, "{finished:#?}");
    ensure!(finished.stderr.contains("1 missing, 1 different, 1 unexpected"), "{finished:#?}");
    // Another go of the same message mends what is missing: writing is idempotent.
    lab.send([message("plant-1", 10, START + 600_000, r#","temperature":20"#)])?;
    lab.ingest()?;
    ensure!(audit(&lab, &[])?.troubles() == [0, 0, 0, 1, 1, 0]);
    Ok(())
}

/// A ledger with lines of the simulator's form.
fn ledger(folder: &tempfile::TempDir, lines: &[(u128, i64, i32, i64)]) -> anyhow::Result<PathBuf> {
    let path = folder.path().join("ledger");
    let text: String = lines
        .iter()
        .map(|(sensor, at, partition, offset)| {
            let at = chrono::DateTime::from_timestamp_millis(*at).unwrap_or_default();
            let line = serde_json::json!({
                "sensor": uuid::Uuid::from_u128(*sensor), "timestamp": at, "partition": partition, "offset": offset,
            });
            format!("{line}\n")
        })
        .collect();
    // A kill in the middle of a line leaves its beginning.
    std::fs::write(&path, text + "{\"sensor\":\"0000")?;
    Ok(path)
}

fn what_was_acknowledged_and_never_reached_the_topic_is_found() -> anyhow::Result<()> {
    let lab = stored("lost_ack", 10)?;
    let folder = tempfile::tempdir()?;
    let path = ledger(&folder, &[(500, START, 0, 1_000_000)])?;
    let audited = audit(&lab, &["--ledger", path.to_str().unwrap_or_default()])?;
    ensure!(audited.code == Some(1), "{:#}", audited.report);
    ensure!(audited.troubles() == [0, 1, 0, 0, 0, 0], "{:#}", audited.report);
    ensure!(audited.report["ledger"]["unreadable_lines"] == 1, "{:#}", audited.report);
    let error = lab.fails(1, &["-q", "audit", "--ledger", "/nowhere/ledger"])?;
    ensure!(error.contains("/nowhere/ledger"), "{error}");
    Ok(())
}

fn what_is_not_committed_is_counted_and_not_missed() -> anyhow::Result<()> {
    let lab = stored("waiting", 10)?;
    lab.send((0..5).map(|n| message("plant-1", n, START + 86_400_000, r#","temperature":1"#)))?;
    let audited = audit(&lab, &[])?;
    ensure!(audited.code == Some(0), "{:#}", audited.report);
    ensure!(audited.report["topic"]["not_committed"] == 5, "{:#}", audited.report);
    ensure!(audited.report["compared"]["not_due"] == 5, "{:#}", audited.report);
    // A group that never committed owes nothing.
    let other = audit(&lab, &["--group", "nobody"])?;
    ensure!(other.code == Some(0), "{:#}", other.report);
    ensure!(other.report["topic"]["not_committed"] == 15, "{:#}", other.report);
    Ok(())
}

fn a_reading_stored_under_two_bucket_widths_is_told_and_harmless() -> anyhow::Result<()> {
    let mut lab = stored("widths", 10)?;
    lab.set("IOTCTL_SCHEMA_BUCKET", "5m");
    lab.ok(&["-q", "schema", "apply"])?;
    lab.send([message("plant-1", 7, START + 420_000, r#","temperature":20"#)])?;
    lab.ingest()?;
    ensure!(lab.stored()? == 11, "the bucket's width did not change");
    let audited = audit(&lab, &[])?;
    ensure!(audited.code == Some(0), "{:#}", audited.report);
    ensure!(audited.troubles() == [0, 0, 0, 0, 0, 1], "{:#}", audited.report);
    Ok(())
}

fn a_lost_dead_letter_is_found() -> anyhow::Result<()> {
    let lab = stored("lost_letter", 10)?;
    lab.send([("bad".to_owned(), b"{".to_vec()), message("plant-1", 1, START + 60_000, "")])?;
    let config = lab.kafka();
    lab.ingest()?;
    ensure!(audit(&lab, &[])?.code == Some(0));
    // The topic with the dead letters goes; the message is committed and nowhere.
    lab.delete_topic(&config.dead_letter_topic())?;
    let audited = audit(&lab, &[])?;
    ensure!(audited.code == Some(1), "{:#}", audited.report);
    ensure!(audited.count("no_dead_letter") == 1, "{:#}", audited.report);
    Ok(())
}

fn only_the_asked_range_is_compared() -> anyhow::Result<()> {
    let lab = stored("range", 60)?;
    lab.cql(&format!("DELETE FROM {{ks}}.iot_sensor_metrics WHERE {}", key(&lab, 10)?))?;
    let whole = audit(&lab, &["--from", "2026-11-01T00:00:00Z", "--to", "2026-11-01T00:30:00Z"])?;
    ensure!(whole.count("missing") == 1 && whole.report["rows"] == 29, "{:#}", whole.report);
    let after = audit(&lab, &["--from", "2026-11-01T00:11:00Z", "--to", "2026-11-01T00:30:00Z"])?;
    ensure!(after.code == Some(0) && after.report["rows"] == 19, "{:#}", after.report);
    Ok(())
}
