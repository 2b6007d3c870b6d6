//! Rollups only make answers faster: each one equals that of the raw rows, which is brute force over what was sent,
//! whatever arrived late, twice, in part or in buckets of another width.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::support::{Lab, message};

crate::trials!(
    statistics_are_those_of_brute_force_from_rollups_and_from_rows,
    a_late_reading_counts_at_once_and_its_hour_is_rolled_up_again,
    a_changed_bucket_width_counts_no_reading_twice,
    what_is_not_that_of_its_rows_is_found_and_mended,
    purged_buckets_take_their_rollups_along,
    ingest_computes_rollups_beside_its_work,
    percentiles_of_pressures_are_close_from_rollups_and_exact_from_rows,
    sketches_of_an_older_version_are_read_reported_and_replaced,
);

/// 2026-11-01T00:00:00Z, so that its hours and days are over.
const START: i64 = 1_793_491_200_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A reading of the tests: location number, sensor, moment, temperature, rpm.
type Row = (u8, u128, i64, Option<f32>, Option<f32>);

/// Two days and a half of five sensors in two locations, a reading every twenty minutes, with holes: values that were
/// not measured, sensors that are silent for hours.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for step in 0..180_i64 {
        for sensor in 0..5_u128 {
            let n = step * 7 + sensor as i64 * 13;
            if n % 11 == 0 || (sensor == 3 && (40..70).contains(&step)) {
                continue;
            }
            let at = START + step * 20 * MINUTE + sensor as i64 * 1_001;
            let temperature = (n % 5 != 0).then(|| (n % 97) as f32 / 4.0 - 3.0);
            let rpm = (n % 3 == 0).then_some(900.0 + n as f32);
            rows.push(((sensor % 2) as u8, sensor + 1, at, temperature, rpm));
        }
    }
    rows
}

fn messages(rows: &[Row]) -> Vec<(String, Vec<u8>)> {
    rows.iter()
        .map(|&(location, sensor, at, temperature, rpm)| {
            let temperature = temperature.map(|value| format!(r#","temperature":{value}"#));
            let rpm = rpm.map(|value| format!(r#","other_metrics":{{"rpm":{value}}}"#));
            let rest = temperature.unwrap_or_default() + &rpm.unwrap_or_default();
            message(&format!("plant-{location}"), sensor, at, &rest)
        })
        .collect()
}

/// (values, what they are grouped by) by brute force.
fn values(rows: &[Row], metric: &str, key: impl Fn(&Row) -> String) -> BTreeMap<String, Vec<f64>> {
    // A reading is known by its sensor, group and moment: sent twice, it is one.
    let unique: BTreeMap<_, _> = rows.iter().map(|row| ((row.0, row.1, row.2), row)).collect();
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in unique.values() {
        let value = if metric == "temperature" { row.3 } else { row.4 };
        if let Some(value) = value {
            values.entry(key(row)).or_default().push(f64::from(value));
        }
    }
    values
}

/// Compares an answer of `stats` with brute force. Percentiles may differ by a share `percentile_error` of the range.
fn check(
    lines: &[Value],
    key: &str,
    expected: &BTreeMap<String, Vec<f64>>,
    percentile_error: f64,
) -> anyhow::Result<()> {
    let found: BTreeSet<&str> = lines.iter().filter_map(|line| line[key].as_str()).collect();
    let wanted: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    ensure!(found == wanted, "lines of {found:?} instead of {wanted:?}");
    for line in lines {
        let name = line[key].as_str().context("a line has a key")?;
        let mut values = expected[name].clone();
        values.sort_by(f64::total_cmp);
        let count = values.len() as f64;
        let sum: f64 = values.iter().sum();
        let mean = sum / count;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        let rank = |quantile: f64| values[((quantile * count).ceil() as usize).max(1) - 1];
        let (lowest, highest) = (values[0], values[values.len() - 1]);
        for (aggregate, exact, error) in [
            ("count", count, 0.0),
            ("min", lowest, 0.0),
            ("max", highest, 0.0),
            ("sum", sum, 1e-9 * sum.abs()),
            ("avg", mean, 1e-9 * mean.abs()),
            ("stddev", deviation, 1e-6),
            ("p50", rank(0.5), (highest - lowest) * percentile_error),
            ("p95", rank(0.95), (highest - lowest) * percentile_error),
        ] {
            let found = line[aggregate].as_f64().with_context(|| format!("{aggregate} in {line}"))?;
            ensure!((found - exact).abs() <= error + 1e-12, "{name}: {aggregate} is {exact}, not {found}");
        }
    }
    Ok(())
}

/// From sketches, for values that lie within two octaves or near zero.
const SKETCHED: f64 = 1.0 / 128.0;
/// With `--raw`.
const EXACT: f64 = 0.0;

const AGGREGATES: &str = "count,min,max,sum,avg,stddev,p50,p95";

fn stats(lab: &Lab, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    lab.lines(&[&["-q", "stats", "--agg", AGGREGATES, "--format", "ndjson"], arguments].concat())
}

fn moment(at: i64) -> String {
    iotctl::time::display(at)
}

/// All questions, each answered as it comes and from the raw rows alone, against brute force.
fn everything_is_right(lab: &Lab, rows: &[Row]) -> anyhow::Result<()> {
    let sensor_id = |sensor: u128| uuid::Uuid::from_u128(sensor).to_string();
    // From the middle of an hour of the first day to the middle of one of the third.
    let (from, to) = (START + 5 * HOUR + 30 * MINUTE, START + 50 * HOUR + 10 * MINUTE);
    let part: Vec<Row> = rows.iter().copied().filter(|row| (from..to).contains(&row.2)).collect();
    let (from, to) = (moment(from), moment(to));
    let range = ["--from", from.as_str(), "--to", to.as_str()];
    for (rows, range) in [(rows, &[][..]), (&part, &range[..])] {
        for (raw, error) in [(&[][..], SKETCHED), (&["--raw"][..], EXACT)] {
            for metric in ["temperature", "rpm"] {
                let ask = |by: &[&str]| stats(lab, &[&["--metric", metric], by, range, raw].concat());
                let by_sensor = values(rows, metric, |row| sensor_id(row.1));
                check(&ask(&["--by", "sensor"])?, "iot_sensor_id", &by_sensor, error)?;
                let by_location = values(rows, metric, |row| format!("plant-{}", row.0));
                check(&ask(&["--by", "location"])?, "location", &by_location, error)?;
                let of = |width: i64| move |row: &Row| moment(row.2.div_euclid(width) * width);
                check(&ask(&["--by", "hour"])?, "hour", &values(rows, metric, of(HOUR)), error)?;
                check(&ask(&["--by", "day"])?, "day", &values(rows, metric, of(24 * HOUR)), error)?;
                let one: Vec<Row> = rows.iter().copied().filter(|row| row.1 == 2).collect();
                let id = sensor_id(2);
                let answer = ask(&["--by", "hour", "--sensor", &id])?;
                check(&answer, "hour", &values(&one, metric, of(HOUR)), error)?;
            }
        }
        for metric in ["temperature", "rpm"] {
            let ask = |raw: &[&str]| {
                let extremes = ["-q", "extremes", "--metric", metric, "--top", "0", "--format", "ndjson"];
                lab.ok(&[&extremes[..], range, raw].concat())
            };
            let (rolled, raw) = (ask(&[])?, ask(&["--raw"])?);
            ensure!(rolled == raw, "extremes differ\n{rolled}\n{raw}");
        }
    }
    Ok(())
}

pub fn roll(lab: &Lab, arguments: &[&str]) -> anyhow::Result<Value> {
    let rollup = ["-q", "rollup", "--no-wait", "--format", "json"];
    Ok(serde_json::from_str(&lab.ok(&[&rollup[..], arguments].concat())?)?)
}

/// Marks rest for a minute; the tests make them old instead of waiting.
pub fn age_marks(lab: &Lab) -> anyhow::Result<usize> {
    let marks = lab.cql("SELECT location, device_type, hour, mark FROM {ks}.rollup_dirty")?;
    for mark in marks.iter() {
        let (location, device_type): (&str, &str) = (mark.get(0)?, mark.get(1)?);
        let (hour, id): (i64, uuid::Uuid) = (mark.get(2)?, mark.get(3)?);
        lab.cql(&format!(
            "UPDATE {{ks}}.rollup_dirty SET marked_at = 0 WHERE location = '{location}' \
             AND device_type = '{device_type}' AND hour = {hour} AND mark = {id}"
        ))?;
    }
    Ok(marks.len())
}

fn verified(lab: &Lab) -> anyhow::Result<Value> {
    let report: Value = serde_json::from_str(&lab.ok(&["-q", "rollup", "--verify", "--format", "json"])?)?;
    ensure!(report["hours"].as_u64() > Some(0), "nothing was compared: {report}");
    Ok(report)
}

fn statistics_are_those_of_brute_force_from_rollups_and_from_rows() -> anyhow::Result<()> {
    let lab = Lab::new("rollups")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    // Some of it twice.
    lab.send(messages(&rows[100..200]))?;
    lab.ingest()?;
    everything_is_right(&lab, &rows).context("before the rollups")?;

    let report = roll(&lab, &[])?;
    ensure!(report["resting_hours"].as_u64() > Some(0), "young marks rest: {report}");
    ensure!(report["hours"] == 0 && report["days"] == 0, "{report}");
    ensure!(age_marks(&lab)? > 0);
    let report = roll(&lab, &[])?;
    // Two groups of 60 hours; the last of the three days is over too.
    ensure!(report["hours"] == 120 && report["days"] == 6, "{report}");
    ensure!(report["readings"] == rows.len(), "{report}");
    ensure!(lab.cql("SELECT mark FROM {ks}.rollup_dirty")?.is_empty(), "marks were left");
    everything_is_right(&lab, &rows).context("from rollups")?;
    let verified = verified(&lab)?;
    ensure!(verified["hours"] == 120 && verified["days"] == 6, "{verified}");
    let again = roll(&lab, &[])?;
    ensure!(again["hours"] == 0 && again["days"] == 0, "{again}");

    // Rollups are used: with the raw rows gone, their answer stays.
    lab.cql("TRUNCATE {ks}.iot_sensor_metrics")?;
    let by_location = values(&rows, "temperature", |row| format!("plant-{}", row.0));
    check(
        &stats(&lab, &["--metric", "temperature", "--by", "location"])?,
        "location",
        &by_location,
        SKETCHED,
    )?;
    ensure!(stats(&lab, &["--metric", "temperature", "--by", "location", "--raw"])?.is_empty());
    Ok(())
}

fn a_late_reading_counts_at_once_and_its_hour_is_rolled_up_again() -> anyhow::Result<()> {
    let lab = Lab::new("rollups_late")?;
    let mut rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    age_marks(&lab)?;
    roll(&lab, &[])?;
    ensure!(lab.cql("SELECT mark FROM {ks}.rollup_dirty")?.is_empty(), "marks were left");

    // In an hour that has readings, in one of a sensor that was silent, and of a sensor that nobody knew.
    let late: [Row; 3] = [
        (0, 1, START + 7 * HOUR + 7, Some(99.5), None),
        (1, 4, START + 15 * HOUR + 5, Some(-40.0), Some(5.0)),
        (0, 9, START + 30 * HOUR, Some(12.25), None),
    ];
    lab.send(messages(&late))?;
    lab.ingest()?;
    rows.extend(late);
    everything_is_right(&lab, &rows).context("late readings that are not rolled up")?;
    ensure!(age_marks(&lab)? == 3, "one mark an hour");
    let report = roll(&lab, &[])?;
    ensure!(report["hours"] == 3, "only what they touch: {report}");
    ensure!(report["days"] == 3, "{report}");
    everything_is_right(&lab, &rows).context("late readings that are rolled up")?;
    verified(&lab)?;
    Ok(())
}

fn a_changed_bucket_width_counts_no_reading_twice() -> anyhow::Result<()> {
    let mut lab = Lab::new("rollups_width")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    // Another group reads the topic from its beginning and stores the same readings in buckets of a day, which hold
    // every hour's copy; and then some in buckets of ten minutes.
    lab.set("IOTCTL_SCHEMA_BUCKET", "1d");
    let group = |number: u8| format!("{}_again_{number}", lab.name);
    let (again, thrice) = (group(1), group(2));
    lab.ok(&["-q", "ingest", "--until-end", "--group", &again])?;
    lab.set("IOTCTL_SCHEMA_BUCKET", "10m");
    lab.ok(&["-q", "ingest", "--until-end", "--group", &thrice])?;
    // Buckets of two widths that start together are one partition, so that not every reading is there three times.
    ensure!(lab.stored()? > 2 * rows.len() as i64, "the copies are there");
    everything_is_right(&lab, &rows).context("before the rollups")?;
    age_marks(&lab)?;
    let report = roll(&lab, &[])?;
    ensure!(report["readings"] == rows.len(), "{report}");
    everything_is_right(&lab, &rows).context("from rollups")?;
    verified(&lab)?;
    Ok(())
}

fn what_is_not_that_of_its_rows_is_found_and_mended() -> anyhow::Result<()> {
    let lab = Lab::new("rollups_wrong")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    age_marks(&lab)?;
    roll(&lab, &[])?;
    verified(&lab)?;
    let id = uuid::Uuid::from_u128(1);
    lab.cql(&format!(
        "UPDATE {{ks}}.iot_rollups SET samples = 77 WHERE location = 'plant-0' AND device_type = 'thermostat' \
         AND hour = {} AND metric = 'temperature' AND iot_sensor_id = {id}",
        START + HOUR
    ))?;
    let failed = lab.run(&["-q", "rollup", "--verify"])?;
    ensure!(failed.code == Some(1), "{failed:?}");
    ensure!(failed.stdout.contains("differs") && failed.stderr.contains("--rebuild"), "{failed:?}");
    let rebuilt = roll(&lab, &["--rebuild", "--location", "plant-0"])?;
    ensure!(rebuilt["hours"] == 60, "{rebuilt}");
    verified(&lab)?;
    everything_is_right(&lab, &rows)?;
    Ok(())
}

fn purged_buckets_take_their_rollups_along() -> anyhow::Result<()> {
    let lab = Lab::new("rollups_purge")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    age_marks(&lab)?;
    roll(&lab, &[])?;
    let before = START + 26 * HOUR;
    let purge = ["-q", "purge", "--location", "plant-0", "--yes", "--before"];
    lab.ok(&[&purge[..], &[&moment(before)]].concat())?;
    let left: Vec<Row> = rows.iter().copied().filter(|row| row.0 == 1 || row.2 >= before).collect();
    everything_is_right(&lab, &left).context("before what is left is rolled up")?;
    roll(&lab, &[])?;
    everything_is_right(&lab, &left).context("from rollups")?;
    verified(&lab)?;
    Ok(())
}

fn ingest_computes_rollups_beside_its_work() -> anyhow::Result<()> {
    let lab = Lab::new("rollups_ingest")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    age_marks(&lab)?;
    let mut ingest = lab.spawn(&["-q", "ingest"])?;
    crate::support::eventually("rollups", std::time::Duration::from_secs(90), || {
        Ok(lab.cql("SELECT start FROM {ks}.rollup_coverage")?.len() == 126)
    })?;
    ensure!(ingest.terminate()? == Some(0));
    ensure!(lab.cql("SELECT owner FROM {ks}.rollup_leases")?.is_empty(), "the lease was kept");
    everything_is_right(&lab, &rows)?;
    verified(&lab)?;
    Ok(())
}

/// Five hours of one sensor's pressures, evenly spread from 1010 to 1020 hPa in steps of a hundredth, every 2 s.
fn pressures(lab: &Lab) -> anyhow::Result<Vec<f64>> {
    let values: Vec<f64> = (0..9_000).map(|n| f64::from(101_000 + n * 7_919 % 1_001) / 100.0).collect();
    lab.send(
        (0..)
            .zip(&values)
            .map(|(n, value)| message("plant-1", 1, START + n * 2_000, &format!(r#","pressure":{value}"#))),
    )?;
    lab.ingest()?;
    age_marks(lab)?;
    Ok(values)
}

fn percentiles_of_pressures_are_close_from_rollups_and_exact_from_rows() -> anyhow::Result<()> {
    let lab = Lab::new("rollups_pressure")?;
    let mut values = pressures(&lab)?;
    values.sort_by(f64::total_cmp);
    let report = roll(&lab, &[])?;
    ensure!(report["hours"] == 5, "{report}");
    for (by, raw, error) in [
        ("sensor", &[][..], 10.0 / 256.0),
        ("day", &[], 10.0 / 256.0),
        ("location", &[], 10.0 / 256.0),
        ("sensor", &["--raw"], 0.0),
    ] {
        let question =
            ["-q", "stats", "--metric", "pressure", "--agg", "p50,p90,p95,p99", "--format", "ndjson"];
        let lines = lab.lines(&[&question[..], &["--by", by], raw].concat())?;
        let [line] = lines.as_slice() else { anyhow::bail!("one line: {lines:?}") };
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
            let exact = values[(quantile * values.len() as f64).ceil() as usize - 1];
            let found = line[name].as_f64().context("a number")?;
            // What is stored is a 32-bit float.
            ensure!((found - exact).abs() <= error + 1e-4, "{by} {raw:?}: {name} is {exact}, not {found}");
        }
    }
    verified(&lab)?;
    Ok(())
}

fn sketches_of_an_older_version_are_read_reported_and_replaced() -> anyhow::Result<()> {
    let lab = Lab::new("rollups_sketch")?;
    pressures(&lab)?;
    roll(&lab, &[])?;
    // Version 1 of the sketch: all 1,800 values of the hour in the bucket of 1010 to 1013.99 (0xc47c).
    let old = "0x01fc8803880e";
    lab.cql(&format!(
        "UPDATE {{ks}}.iot_rollups SET sketch = {old} WHERE location = 'plant-1' AND device_type = 'thermostat' \
         AND hour = {START} AND metric = 'pressure' AND iot_sensor_id = {}",
        uuid::Uuid::from_u128(1)
    ))?;
    let question =
        ["stats", "--metric", "pressure", "--by", "hour", "--agg", "p50", "--format", "csv", "--sensor"];
    let id = uuid::Uuid::from_u128(1).to_string();
    let answer = lab.run(&[&question[..], &[&id]].concat())?;
    ensure!(answer.code == Some(0), "{answer:?}");
    let first = answer.stdout.lines().nth(1).and_then(|line| line.rsplit(',').next());
    let p50: f64 = first.context("a line")?.parse()?;
    ensure!((1010.0..1014.0).contains(&p50), "{answer:?}");
    ensure!(answer.stderr.contains("1 line come from rollups of an older version"), "{answer:?}");
    let failed = lab.run(&["-q", "rollup", "--verify"])?;
    ensure!(failed.code == Some(1), "{failed:?}");
    ensure!(failed.stdout.contains("has the percentiles of an older version"), "{failed:?}");
    ensure!(failed.stderr.contains("--rebuild"), "{failed:?}");
    roll(&lab, &["--rebuild"])?;
    verified(&lab)?;
    let answer = lab.run(&[&question[..], &[&id]].concat())?;
    ensure!(!answer.stderr.contains("older version"), "{answer:?}");
    Ok(())
}
