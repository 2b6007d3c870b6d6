//! What is sent is what is stored is what is answered.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::support::{Lab, message};

crate::trials!(
    every_column_comes_back_as_it_was_sent,
    missing_values_write_no_cell_and_no_tombstone,
    replaying_a_topic_changes_nothing,
    a_late_reading_does_not_replace_the_newest_one,
    the_newest_reading_shows_no_cell_of_an_older_one,
    readings_of_two_bucket_widths_answer_as_one,
    a_second_run_reads_nothing_again,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

const FULL: &str = r#","temperature":21.5,"humidity":40.25,"pressure":1013.25,"motion_detected":true,
    "light_level":300.5,"gas_concentration":412.75,"other_metrics":{"co2_ppm":415.5,"voltage":3.25}"#;

fn every_column_comes_back_as_it_was_sent() -> anyhow::Result<()> {
    let lab = Lab::new("columns")?;
    lab.send([message("plant-1", 1, START + 1, FULL)])?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 1, "{report}");
    let rows = lab.query("thermostat", &["--order", "asc"])?;
    let expected = json!({
        "location": "plant-1", "device_type": "thermostat",
        "iot_sensor_id": "00000000-0000-0000-0000-000000000001",
        "recorded_timestamp": "2026-11-01T00:00:00.001Z",
        "temperature": 21.5, "humidity": 40.25, "pressure": 1013.25, "motion_detected": true,
        "light_level": 300.5, "gas_concentration": 412.75,
        "other_metrics": {"co2_ppm": 415.5, "voltage": 3.25},
    });
    ensure!(rows == [expected.clone()], "{rows:#?} is not {expected:#}");
    Ok(())
}

fn missing_values_write_no_cell_and_no_tombstone() -> anyhow::Result<()> {
    let lab = Lab::new("missing")?;
    lab.send([
        message("plant-1", 1, START, ""),
        message(
            "plant-1",
            2,
            START,
            r#","mode":"eco","temperature":null,"humidity":-999.0,"other_metrics":{"a":-999.0}"#,
        ),
    ])?;
    lab.ingest()?;
    let rows = lab.cql(
        "SELECT temperature, humidity, motion_detected, other_metrics, writetime(temperature), writetime(humidity) \
         FROM {ks}.iot_sensor_metrics",
    )?;
    ensure!(rows.len() == 2);
    for row in rows.iter() {
        ensure!(row.get::<Option<f32>>(0)?.is_none() && row.get::<Option<f32>>(1)?.is_none());
        ensure!(row.get::<Option<bool>>(2)?.is_none());
        ensure!(row.get::<Option<BTreeMap<String, f64>>>(3)?.is_none());
        ensure!(
            row.get::<Option<i64>>(4)?.is_none() && row.get::<Option<i64>>(5)?.is_none(),
            "a cell was written"
        );
    }
    let filled = lab.query("thermostat", &["--fill-defaults"])?;
    for row in filled {
        ensure!(
            row["temperature"] == -999.0 && row["motion_detected"] == false && row["light_level"] == 0.0,
            "{row}"
        );
        ensure!(row["other_metrics"] == json!({}), "{row}");
    }
    Ok(())
}

fn replaying_a_topic_changes_nothing() -> anyhow::Result<()> {
    let mut lab = Lab::new("replay")?;
    lab.simulate("--count 3000 --sensors 50 --duplicate 0.05 --late 0.05 --missing 0.1 --out-of-order 0.05")?;
    lab.ingest()?;
    let dump = |lab: &Lab| -> anyhow::Result<Vec<String>> {
        let rows = lab.cql("SELECT JSON * FROM {ks}.iot_sensor_metrics")?;
        let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
        rows.sort_unstable();
        Ok(rows)
    };
    let once = dump(&lab)?;
    ensure!(once.len() > 2500, "only {} rows", once.len());
    lab.set("IOTCTL_KAFKA_GROUP", "again");
    let report = lab.ingest()?;
    ensure!(report["rows"].as_u64() >= Some(once.len() as u64), "the topic was not read again: {report}");
    ensure!(dump(&lab)? == once, "the rows differ after a replay");
    Ok(())
}

fn a_late_reading_does_not_replace_the_newest_one() -> anyhow::Result<()> {
    let lab = Lab::new("late")?;
    lab.send([message("plant-1", 1, START + 60_000, r#","temperature":2"#)])?;
    lab.ingest()?;
    lab.send([message("plant-1", 1, START, r#","temperature":1"#)])?;
    lab.ingest()?;
    let rows = lab.cql("SELECT recorded_timestamp, temperature FROM {ks}.iot_latest")?;
    let row = rows.first().context("the sensor has a newest reading")?;
    ensure!(rows.len() == 1 && row.get::<i64>(0)? == START + 60_000 && row.get::<f32>(1)? == 2.0);
    Ok(())
}

fn the_newest_reading_shows_no_cell_of_an_older_one() -> anyhow::Result<()> {
    let lab = Lab::new("latest")?;
    lab.send([message("plant-1", 1, START, r#","temperature":1,"humidity":50"#)])?;
    lab.ingest()?;
    lab.send([message("plant-1", 1, START + 1000, r#","humidity":60"#)])?;
    lab.ingest()?;
    let rows = lab.query("thermostat", &["--latest"])?;
    ensure!(rows.len() == 1 && rows[0]["humidity"] == 60.0, "{rows:?}");
    ensure!(rows[0].get("temperature").is_none_or(serde_json::Value::is_null), "{rows:?}");
    Ok(())
}

fn readings_of_two_bucket_widths_answer_as_one() -> anyhow::Result<()> {
    let mut lab = Lab::new("widths")?;
    let minutes = |range: std::ops::Range<i64>| {
        range.map(|minute| {
            message("plant-1", 1, START + minute * 60_000, &format!(r#","temperature":{minute}"#))
        })
    };
    lab.send(minutes(0..180))?;
    lab.ingest()?;
    lab.set("IOTCTL_SCHEMA_BUCKET", "1d");
    lab.send(minutes(180..300))?;
    lab.ingest()?;
    // Everything once more, so that the first three hours now stand in buckets of both widths.
    lab.set("IOTCTL_KAFKA_GROUP", "again");
    lab.ingest()?;
    let rows = lab.query("thermostat", &["--order", "asc"])?;
    let temperatures: Vec<_> =
        rows.iter().map(|row| row["temperature"].as_f64().unwrap_or(f64::NAN)).collect();
    ensure!(
        temperatures == (0..300).map(f64::from).collect::<Vec<_>>(),
        "{} rows: {temperatures:?}",
        rows.len()
    );
    let sensor = lab.lines(&[
        "-q",
        "query",
        "--sensor",
        "00000000-0000-0000-0000-000000000001",
        "--from",
        "2026-11-01T02:30:00Z",
        "--to",
        "2026-11-01T03:30:00Z",
        "--format",
        "ndjson",
    ])?;
    ensure!(sensor.len() == 60, "{} rows of the sensor", sensor.len());
    ensure!(sensor[0]["temperature"] == 209.0, "newest first: {}", sensor[0]);
    Ok(())
}

fn a_second_run_reads_nothing_again() -> anyhow::Result<()> {
    let lab = Lab::new("second")?;
    lab.send((0..500).map(|n| message("plant-1", n, START, "")))?;
    ensure!(lab.ingest()?["messages"] == 500);
    let report = lab.ingest()?;
    ensure!(report["messages"] == 0, "{report}");
    Ok(())
}
