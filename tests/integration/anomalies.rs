//! What is unusual in stored readings, against the same worked out from the readings that were sent.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Lab, message};

crate::trials!(
    a_limit_finds_what_a_full_scan_finds,
    each_method_finds_what_it_is_for,
    questions_that_cannot_be_answered_say_why,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const STEP: i64 = 10 * 60_000;
const STEPS: i64 = 4 * 144;
const SENSORS: u128 = 5;

/// A daily cycle that all sensors share, with a little noise that is the same in each run. One reading of sensor 1 is
/// far out, and sensor 3 has the afternoon's value at night.
fn temperature(sensor: u128, step: i64) -> f32 {
    let hour = (step % 144) as f64 / 6.0;
    let noise = ((step as f64 * 7.3 + sensor as f64 * 3.1).sin() * 43_758.5).fract();
    match (sensor, step) {
        (1, 200) => 61.0,
        (3, 444) => 25.5,
        _ => (20.0 - 6.0 * (hour / 24.0 * std::f64::consts::TAU).cos() + 0.5 * noise) as f32,
    }
}

fn at(step: i64) -> i64 {
    START + step * STEP
}

fn fleet() -> anyhow::Result<Lab> {
    let lab = Lab::new("anomalies")?;
    let readings = (0..STEPS).flat_map(|step| {
        (0..SENSORS).map(move |sensor| {
            let rest = format!(r#","temperature":{}"#, temperature(sensor, step));
            message("plant-1", sensor, at(step), &rest)
        })
    });
    lab.send(readings)?;
    lab.ingest()?;
    Ok(lab)
}

fn anomalies(lab: &Lab, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let question = ["-q", "anomalies", "--metric", "temperature", "--format", "ndjson"];
    lab.lines(&[&question[..], arguments].concat())
}

/// (sensor, the moment of the worst point) of each anomaly.
fn worst(found: &[Value]) -> anyhow::Result<BTreeSet<(u128, i64)>> {
    found
        .iter()
        .map(|found| {
            let sensor: Uuid = found["iot_sensor_id"].as_str().context("a sensor")?.parse()?;
            let moment = found["worst"].as_str().context("a moment")?;
            let moment = chrono::DateTime::parse_from_rfc3339(moment)?.timestamp_millis();
            Ok((sensor.as_u128(), moment))
        })
        .collect()
}

fn a_limit_finds_what_a_full_scan_finds() -> anyhow::Result<()> {
    let lab = fleet()?;
    let found = anomalies(&lab, &["--above", "25.9", "--below", "14.1", "--join", "1s"])?;
    let readings = (0..SENSORS).flat_map(|sensor| (0..STEPS).map(move |step| (sensor, step)));
    let expected: BTreeSet<(u128, i64)> = readings
        .filter(|&(sensor, step)| !(14.1f32..=25.9).contains(&temperature(sensor, step)))
        .map(|(sensor, step)| (sensor, at(step)))
        .collect();
    ensure!(expected.len() > 100, "the limits should find something: {}", expected.len());
    ensure!(worst(&found)? == expected, "{} found, {} expected", found.len(), expected.len());
    let joined = anomalies(&lab, &["--above", "25.9", "--below", "14.1"])?;
    let points = joined.iter().map(|found| found["points"].as_u64().unwrap_or(0)).sum::<u64>();
    ensure!(points == expected.len() as u64 && joined.len() < expected.len() / 2, "{joined:#?}");
    // Means over half a day, counted from the zone's midnight: all are above the limit.
    let sensor = Uuid::from_u128(2).to_string();
    let ask =
        ["--above", "0", "--step", "12h", "--join", "1s", "--time-zone", "Asia/Kolkata", "--sensor", &sensor];
    let means = anomalies(&lab, &ask)?;
    let starts: BTreeSet<&str> = means.iter().filter_map(|found| found["from"].as_str()?.get(11..)).collect();
    ensure!(starts == ["00:00:00.000+05:30", "12:00:00.000+05:30"].into(), "{means:#?}");
    Ok(())
}

fn each_method_finds_what_it_is_for() -> anyhow::Result<()> {
    let lab = fleet()?;
    let (spike, night) = ((1, at(200)), (3, at(444)));
    let found = anomalies(&lab, &["--method", "robust-z"])?;
    ensure!(worst(&found)? == [spike].into(), "{found:#?}");
    // The score by definition, from all values of the sensor, sorted.
    let mut values: Vec<f64> = (0..STEPS).map(|step| f64::from(temperature(1, step))).collect();
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2] + values[values.len() / 2 - 1]) / 2.0
    };
    let median = middle(&mut values);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    let expected = (61.0 - median) / (1.4826 * middle(&mut distances));
    let score = found[0]["score"].as_f64().context("a score")?;
    ensure!((score - expected).abs() < 1e-3 * expected, "{score} instead of {expected}");

    for method in ["seasonal", "peers"] {
        let found = anomalies(&lab, &["--method", method])?;
        ensure!(worst(&found)? == [spike, night].into(), "{method}: {found:#?}");
    }
    let one = anomalies(&lab, &["--method", "seasonal", "--sensor", &Uuid::from_u128(3).to_string()])?;
    ensure!(worst(&one)? == [night].into(), "{one:#?}");
    let most = anomalies(&lab, &["--method", "peers", "--top", "1"])?;
    ensure!(worst(&most)? == [spike].into(), "{most:#?}");
    let calm = anomalies(&lab, &["--method", "robust-z", "--from", "2026-11-03"])?;
    ensure!(calm.is_empty(), "{calm:#?}");
    Ok(())
}

fn questions_that_cannot_be_answered_say_why() -> anyhow::Result<()> {
    let lab = Lab::new("anomalies")?;
    lab.send(
        (0..20).map(|step| message("plant-1", 1, at(step), r#","temperature":20,"other_metrics":{"rpm":5}"#)),
    )?;
    lab.ingest()?;
    let error = lab.fails(2, &["anomalies", "--metric", "rmp"])?;
    ensure!(error.contains("rpm"), "{error}");
    let error = lab.fails(1, &["anomalies", "--metric", "temperature", "--location", "plant-2"])?;
    ensure!(error.contains("plant-1"), "{error}");
    let remark = lab.run(&["anomalies", "--metric", "rpm", "--method", "seasonal"])?;
    ensure!(remark.code == Some(0) && remark.stderr.contains("a season of 1d"), "{remark:#?}");
    let remark = lab.run(&["anomalies", "--metric", "rpm", "--method", "peers"])?;
    ensure!(remark.stderr.contains("at least 3 sensors"), "{remark:#?}");
    Ok(())
}
