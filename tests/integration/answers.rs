//! Answers equal those of a full scan of the raw rows.

use std::collections::HashMap;

use anyhow::ensure;
use scylla::value::CqlTimestamp;
use uuid::Uuid;

use crate::support::{Lab, message};

crate::trials!(
    extremes_are_those_of_a_full_scan,
    extremes_of_an_other_metric_are_those_of_a_full_scan,
    a_result_of_many_pages_comes_whole_and_in_order,
    a_filter_keeps_exactly_the_rows_that_satisfy_it,
    a_limit_gives_the_newest_rows,
    sensors_are_listed_with_their_last_reading,
    the_silent_sensors_are_those_whose_newest_raw_row_is_old,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

/// A small fleet's hours, with gaps, duplicates and late readings.
fn fleet() -> anyhow::Result<Lab> {
    let lab = Lab::new("fleet")?;
    lab.simulate(
        "--count 20000 --sensors 60 --locations 3 --start 2026-11-01T00:00:00Z --step 1m \
         --missing 0.05 --duplicate 0.02 --late 0.02",
    )?;
    lab.ingest()?;
    Ok(lab)
}

/// sensor -> (value, latest moment of that value), by looking at every row.
fn scan(
    lab: &Lab,
    metric: &str,
    is_better: fn(f64, f64) -> bool,
) -> anyhow::Result<HashMap<String, (f64, i64)>> {
    type Row = (Uuid, CqlTimestamp, Option<f32>, Option<HashMap<String, f64>>);
    let rows: Vec<Row> = lab.witness(
        "SELECT iot_sensor_id, recorded_timestamp, temperature, other_metrics FROM {ks}.iot_sensor_metrics",
    )?;
    let mut best: HashMap<String, (f64, i64)> = HashMap::new();
    for (sensor, CqlTimestamp(at), temperature, others) in rows {
        let value = match metric {
            // The shortest decimal, by the standard library.
            "temperature" => temperature.map(|value| value.to_string().parse()).transpose()?,
            _ => others.and_then(|metrics| metrics.get(metric).copied()),
        };
        let Some(value) = value else { continue };
        let entry = best.entry(sensor.to_string()).or_insert((value, at));
        if is_better(value, entry.0) || (value == entry.0 && at > entry.1) {
            *entry = (value, at);
        }
    }
    Ok(best)
}

fn assert_extremes(
    lab: &Lab,
    metric: &str,
    flag: &str,
    is_better: fn(f64, f64) -> bool,
) -> anyhow::Result<()> {
    let expected = scan(lab, metric, is_better)?;
    ensure!(!expected.is_empty(), "no sensor has {metric}");
    let answer =
        lab.lines(&["-q", "extremes", "--metric", metric, flag, "--top", "1000", "--format", "ndjson"])?;
    ensure!(answer.len() == expected.len(), "{} sensors instead of {}", answer.len(), expected.len());
    let mut last: Option<f64> = None;
    for row in &answer {
        let sensor = row["iot_sensor_id"].as_str().unwrap_or_default();
        let (value, at) = expected[sensor];
        let answered = row["value"].as_f64();
        ensure!(answered == Some(value), "{sensor}: {row} instead of {value}");
        let moment = row["recorded_timestamp"].as_str().unwrap_or_default();
        let moment = chrono::DateTime::parse_from_rfc3339(moment)?.timestamp_millis();
        ensure!(moment == at, "{sensor}: at {moment} instead of {at}");
        ensure!(last.is_none_or(|last| !is_better(value, last)), "not ranked: {row}");
        last = Some(value);
    }
    Ok(())
}

fn extremes_are_those_of_a_full_scan() -> anyhow::Result<()> {
    let lab = fleet()?;
    assert_extremes(&lab, "temperature", "--highest", |left, right| left > right)?;
    assert_extremes(&lab, "temperature", "--lowest", |left, right| left < right)
}

fn extremes_of_an_other_metric_are_those_of_a_full_scan() -> anyhow::Result<()> {
    let lab = Lab::new("other")?;
    lab.send((0..600).map(|n: u32| {
        let value = (n * 7919 % 1000) as f32 / 8.0;
        let rest = match n % 5 {
            0 => String::new(),
            _ => format!(r#","other_metrics":{{"vibration":{value}}}"#),
        };
        message("plant-1", u128::from(n % 10), START + i64::from(n) * 60_000, &rest)
    }))?;
    lab.ingest()?;
    assert_extremes(&lab, "vibration", "--highest", |left, right| left > right)
}

fn a_result_of_many_pages_comes_whole_and_in_order() -> anyhow::Result<()> {
    let lab = Lab::new("pages")?;
    // One partition, several pages, three sensors in turn.
    lab.send(
        (0..24_000)
            .map(|n| message("plant-1", n % 3, START + n as i64 * 100, &format!(r#","temperature":{n}"#))),
    )?;
    lab.ingest()?;
    let csv = lab.ok(&[
        "-q",
        "query",
        "--location",
        "plant-1",
        "--device-type",
        "thermostat",
        "--columns",
        "recorded_timestamp,temperature",
        "--order",
        "asc",
        "--format",
        "csv",
    ])?;
    let temperatures: Vec<f64> =
        csv.lines().skip(1).filter_map(|line| line.rsplit(',').next()?.parse().ok()).collect();
    ensure!(temperatures == (0..24_000).map(f64::from).collect::<Vec<_>>(), "{} rows", temperatures.len());
    Ok(())
}

fn a_filter_keeps_exactly_the_rows_that_satisfy_it() -> anyhow::Result<()> {
    let lab = Lab::new("filter")?;
    lab.send((0..200).map(|n| {
        let rest = match n % 4 {
            0 => format!(r#","temperature":{n}"#),
            1 => format!(r#","temperature":{n},"humidity":{}"#, n % 60),
            2 => format!(r#","humidity":{}"#, n % 60),
            _ => format!(r#","temperature":{n},"vibration":{n}"#),
        };
        message("plant-1", n, START + n as i64 * 1000, &rest)
    }))?;
    lab.ingest()?;
    let count = |filter: &str| -> anyhow::Result<usize> {
        let rows = lab.query("thermostat", &["--where", filter])?;
        Ok(rows.len())
    };
    let expected = (0..200).filter(|n| n % 4 == 1 && *n > 100 && n % 60 < 40).count();
    ensure!(count("temperature > 100 and humidity < 40")? == expected);
    // A missing value satisfies no comparison, nor its negation.
    ensure!(count("not (temperature > 100)")? == (0..200).filter(|n| n % 4 != 2 && *n <= 100).count());
    ensure!(count("temperature is missing")? == 50);
    ensure!(count("vibration >= 0")? == 50);
    Ok(())
}

fn a_limit_gives_the_newest_rows() -> anyhow::Result<()> {
    let lab = Lab::new("limit")?;
    lab.send(
        (0..500)
            .map(|n| message("plant-1", n % 7, START + n as i64 * 60_000, &format!(r#","temperature":{n}"#))),
    )?;
    lab.ingest()?;
    let rows = lab.query("thermostat", &["--limit", "5"])?;
    let temperatures: Vec<_> =
        rows.iter().map(|row| row["temperature"].as_f64().unwrap_or_default()).collect();
    ensure!(temperatures == [499.0, 498.0, 497.0, 496.0, 495.0], "{temperatures:?}");
    Ok(())
}

fn sensors_are_listed_with_their_last_reading() -> anyhow::Result<()> {
    let lab = Lab::new("sensors")?;
    lab.send((0..40).map(|n| {
        message(&format!("plant-{}", n % 4), n % 8, START + n as i64, &format!(r#","temperature":{n}"#))
    }))?;
    lab.ingest()?;
    let groups = lab.lines(&["-q", "sensors", "--groups", "--format", "ndjson"])?;
    ensure!(groups.len() == 4 && groups.iter().all(|group| group["sensors"] == 2), "{groups:#?}");
    let rows = lab.lines(&["-q", "sensors", "--format", "ndjson"])?;
    ensure!(rows.len() == 8, "{rows:#?}");
    let newest = rows.iter().find(|row| row["iot_sensor_id"] == "00000000-0000-0000-0000-000000000007");
    ensure!(newest.is_some_and(|row| row["temperature"] == 39.0), "{newest:?}");
    Ok(())
}

fn the_silent_sensors_are_those_whose_newest_raw_row_is_old() -> anyhow::Result<()> {
    let lab = Lab::new("silent")?;
    let now = chrono::Utc::now().timestamp_millis();
    // Sensor n has last recorded n * 10 minutes ago; an older reading arrives after it, and one comes twice.
    let ages = |n: i64| [n * 600_000, n * 600_000 + 7_200_000, n * 600_000];
    let messages = (0..12).flat_map(|n: i64| {
        ages(n).map(|age| {
            message(&format!("plant-{}", n % 3), n as u128, now - age, &format!(r#","temperature":{n}"#))
        })
    });
    lab.send(messages)?;
    lab.ingest()?;
    // The newest raw row of each sensor, by a full scan.
    let rows: Vec<(String, Uuid, CqlTimestamp)> =
        lab.witness("SELECT location, iot_sensor_id, recorded_timestamp FROM {ks}.iot_sensor_metrics")?;
    let mut newest: HashMap<(String, Uuid), i64> = HashMap::new();
    for (location, sensor, CqlTimestamp(at)) in rows {
        let known = newest.entry((location, sensor)).or_insert(i64::MIN);
        *known = at.max(*known);
    }
    ensure!(newest.len() == 12, "{newest:?}");
    let silent = |arguments: &[&str]| -> anyhow::Result<Vec<(String, String, String)>> {
        let rows = lab.lines(&[&["-q", "silent", "--format", "ndjson"], arguments].concat())?;
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Ok(rows
            .iter()
            .map(|row| (text(row, "location"), text(row, "iot_sensor_id"), text(row, "recorded_timestamp")))
            .collect())
    };
    let expected = |bound_minutes: i64, location: Option<&str>| {
        let mut expected: Vec<_> = newest
            .iter()
            .filter(|((place, _), at)| {
                **at < now - bound_minutes * 60_000 && location.is_none_or(|location| place == location)
            })
            .map(|((place, sensor), at)| (*at, place.clone(), sensor.to_string()))
            .collect();
        expected.sort();
        expected
            .into_iter()
            .map(|(at, place, sensor)| {
                let at = chrono::DateTime::from_timestamp_millis(at).unwrap_or_default();
                (place, sensor, at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
            })
            .collect::<Vec<_>>()
    };
    // The bounds lie between the ages, so that the seconds which the test takes decide nothing.
    for minutes in [45, 85] {
        let found = silent(&["--longer-than", &format!("{minutes}m")])?;
        let wanted = expected(minutes, None);
        ensure!(!wanted.is_empty() && found == wanted, "{minutes} minutes: {found:#?}, not {wanted:#?}");
    }
    let found = silent(&["--longer-than", "45m", "--location", "plant-1"])?;
    ensure!(found == expected(45, Some("plant-1")) && found.len() == 2, "{found:#?}");
    ensure!(silent(&["--longer-than", "30d"])?.is_empty());
    lab.fails(2, &["-q", "silent", "--longer-than", "soon"])?;
    Ok(())
}
