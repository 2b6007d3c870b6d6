//! What is deleted is whole buckets of before the moment, and nothing else.

use anyhow::ensure;

use crate::support::{Lab, message};

crate::trials!(
    only_whole_buckets_of_before_the_moment_go,
    nothing_is_deleted_unasked,
    rows_of_a_clock_that_is_ahead_are_deleted_or_reported,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const MINUTE: i64 = 60_000;

/// Four hours of two locations, a reading each half an hour.
fn stocked(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let readings = (0..8).flat_map(|half_hour| {
        [("plant-1", 1), ("plant-2", 2)].map(|(location, sensor)| {
            message(location, sensor, START + half_hour * 30 * MINUTE, r#","temperature":20.5"#)
        })
    });
    lab.send(readings)?;
    lab.ingest()?;
    Ok(lab)
}

fn stored(lab: &Lab, location: &str) -> anyhow::Result<Vec<String>> {
    let all = ["-q", "query", "--location", location, "--device-type", "thermostat", "--order", "asc"];
    let rows = lab.lines(&[&all[..], &["--format", "ndjson"]].concat())?;
    Ok(rows.iter().map(|row| row["recorded_timestamp"].as_str().unwrap_or_default().to_owned()).collect())
}

fn only_whole_buckets_of_before_the_moment_go() -> anyhow::Result<()> {
    let lab = stocked("purge")?;
    let purge =
        ["-q", "purge", "--location", "plant-1", "--before", "2026-11-01T02:30:00Z", "--format", "json"];
    let planned: serde_json::Value = serde_json::from_str(&lab.ok(&[&purge[..], &["--dry-run"]].concat())?)?;
    // The bucket of 02:00 reaches past the moment.
    let buckets = serde_json::json!(["2026-11-01T00:00:00.000Z", "2026-11-01T01:00:00.000Z"]);
    ensure!(planned["groups"][0]["buckets"] == buckets, "{planned:#}");
    ensure!(stored(&lab, "plant-1")?.len() == 8, "a dry run deletes nothing");

    lab.ok(&[&purge[..], &["--yes"]].concat())?;
    let left = stored(&lab, "plant-1")?;
    ensure!(left.len() == 4 && left[0].starts_with("2026-11-01T02:00"), "{left:?}");
    ensure!(stored(&lab, "plant-2")?.len() == 8, "another location was touched");
    let again: serde_json::Value = serde_json::from_str(&lab.ok(&[&purge[..], &["--yes"]].concat())?)?;
    ensure!(again["groups"].as_array().is_some_and(Vec::is_empty), "{again:#}");

    // What arrives late for a deleted bucket is stored and found.
    lab.send([message("plant-1", 1, START + 45 * MINUTE, r#","temperature":21.5"#)])?;
    lab.ingest()?;
    let left = stored(&lab, "plant-1")?;
    ensure!(left.len() == 5 && left[0].starts_with("2026-11-01T00:45"), "{left:?}");
    Ok(())
}

fn nothing_is_deleted_unasked() -> anyhow::Result<()> {
    let lab = stocked("purge_unasked")?;
    let error = lab.fails(2, &["-q", "purge", "--location", "plant-1", "--before", "now"])?;
    ensure!(error.contains("add --yes"), "{error}");
    let error = lab.fails(2, &["-q", "purge", "--before", "now", "--yes"])?;
    ensure!(error.contains("--location"), "{error}");
    let error = lab.fails(1, &["-q", "purge", "--location", "plant-9", "--before", "now", "--yes"])?;
    ensure!(error.contains("plant-9"), "{error}");
    ensure!(stored(&lab, "plant-1")?.len() == 8);
    Ok(())
}

/// Writes a reading of plant-1 in the first hour as a client would whose clock is `ahead` milliseconds ahead.
fn write_ahead(lab: &Lab, sensor: u128, ahead: i64) -> anyhow::Result<()> {
    let written_at = (chrono::Utc::now().timestamp_millis() + ahead) * 1000;
    lab.cql(&format!(
        "INSERT INTO {{ks}}.iot_sensor_metrics (location, device_type, bucket, iot_sensor_id, recorded_timestamp, \
         temperature) VALUES ('plant-1', 'thermostat', {START}, {}, {}, 1.5) USING TIMESTAMP {written_at}",
        uuid::Uuid::from_u128(sensor),
        START + 1
    ))?;
    Ok(())
}

fn rows_of_a_clock_that_is_ahead_are_deleted_or_reported() -> anyhow::Result<()> {
    let lab = stocked("purge_ahead")?;
    write_ahead(&lab, 8, 10 * MINUTE)?;
    let doctor: serde_json::Value = serde_json::from_str(&lab.run("-q doctor --format json")?.stdout)?;
    let checks = doctor["checks"].as_array().cloned().unwrap_or_default();
    let writes = checks.iter().find(|check| check["name"] == "write times");
    ensure!(writes.is_some_and(|check| check["verdict"] == "warning"), "{checks:#?}");

    let purge = ["purge", "--location", "plant-1", "--before", "2026-11-01T01:00:00Z", "--yes"];
    let done = lab.run(&purge)?;
    ensure!(done.code == Some(0) && done.stderr.contains("a clock that was ahead"), "{done:?}");
    let left = stored(&lab, "plant-1")?;
    ensure!(left.len() == 6 && left[0].starts_with("2026-11-01T01:00"), "{left:?}");

    write_ahead(&lab, 9, 3 * 24 * 60 * MINUTE)?;
    let refused = lab.run(&purge)?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("readings of 1 bucket are left"),
        "{refused:?}"
    );
    ensure!(stored(&lab, "plant-1")?.len() == 7);
    Ok(())
}
