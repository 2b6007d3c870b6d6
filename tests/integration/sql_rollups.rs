//! Aggregates that SQL answers from rollups equal those of the raw rows, and those that are computed here from what was sent:
//! whatever is missing, late, twice there, purged, in buckets of another width, on days of 23 and 25 hours.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, contains, message};

crate::trials!(
    aggregates_from_rollups_equal_those_of_raw_rows_and_of_brute_force,
    late_readings_and_purges_are_in_the_answer_at_once,
    a_bucket_that_was_changed_counts_no_reading_twice,
    only_what_rollups_have_is_taken_from_them,
    gaps_are_filled_in_the_zone_of_the_buckets,
);

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2026-10-24T00:00:00Z: the next day has 25 hours in Berlin.
const START: i64 = 1_792_800_000_000;

#[derive(Debug, Clone, Copy)]
struct Row {
    location: &'static str,
    sensor: u128,
    at: i64,
    temperature: Option<f64>,
    rpm: Option<f64>,
}

/// Three days of five sensors, each twenty minutes, two of them at the same moments. Sensor 4 measures no temperature on the second
/// day and nothing at all (only motion) on the third; rpm is rare; sensor 2 is silent for half a day.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for step in 0..216_i64 {
        for sensor in 0..5_u128 {
            let n = step * 7 + sensor as i64 * 13;
            if n % 11 == 0 || (sensor == 2 && (50..90).contains(&step)) {
                continue;
            }
            let day = step / 72;
            let at = START + step * 20 * MINUTE + if sensor < 2 { 0 } else { sensor as i64 * 1_001 };
            let is_dumb = sensor == 4 && day > 0;
            rows.push(Row {
                location: if sensor % 2 == 0 { "plant-1" } else { "plant-2" },
                sensor,
                at,
                temperature: (n % 5 != 0 && !is_dumb).then(|| (n % 97) as f64 / 4.0 - 3.0),
                rpm: (n % 17 == 0 && !(sensor == 4 && day == 2)).then_some(900.0 + n as f64),
            });
        }
    }
    rows
}

fn messages(rows: &[Row]) -> Vec<(String, Vec<u8>)> {
    rows.iter()
        .map(|row| {
            let mut rest = String::from(r#","motion_detected":true"#);
            if let Some(value) = row.temperature {
                rest += &format!(r#","temperature":{value}"#);
            }
            if let Some(value) = row.rpm {
                rest += &format!(r#","other_metrics":{{"rpm":{value}}}"#);
            }
            message(row.location, row.sensor, row.at, &rest)
        })
        .collect()
}

fn lab(name: &str) -> anyhow::Result<Lab> {
    let mut lab = Lab::bare(name)?;
    lab.set("IOTCTL_SCHEMA_TTL", "1000d");
    lab.set("IOTCTL_SCHEMA_BUCKET", "1h");
    lab.ok("-q schema apply")?;
    Ok(lab)
}

fn rolled(lab: &Lab) -> anyhow::Result<()> {
    age_marks(lab)?;
    roll(lab, &[])?;
    Ok(())
}

/// The answers to several statements, by one run of the program.
fn answers(lab: &Lab, statements: &[String], more: &[&str]) -> anyhow::Result<Vec<Vec<Value>>> {
    let script: String =
        statements.iter().map(|statement| format!("{statement};\nSELECT 'end' AS marker;\n")).collect();
    let words = [&["-q", "sql", "--format", "ndjson", &script], more].concat();
    let mut answers = vec![Vec::new()];
    for line in lab.lines(&words[..])? {
        match line["marker"] == "end" {
            true => answers.push(Vec::new()),
            false => answers.last_mut().context("there is one")?.push(line),
        }
    }
    answers.pop();
    ensure!(answers.len() == statements.len(), "{} answers", answers.len());
    Ok(answers)
}

fn plan(lab: &Lab, statement: &str) -> anyhow::Result<String> {
    lab.ok(&["-q".to_owned(), "sql".to_owned(), format!("EXPLAIN {statement}")][..])
}

/// Numbers may differ by the order in which they were added up.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0),
        _ => match (one.as_object(), other.as_object()) {
            (Some(one), Some(other)) => {
                one.len() == other.len()
                    && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
            }
            _ => one == other,
        },
    }
}

/// All that is computed of a metric.
fn of(metric: &str) -> String {
    format!(
        "count({metric}) AS n, sum({metric}) AS sum, avg({metric}) AS avg, min({metric}) AS min, max({metric}) AS max, \
         stddev({metric}) AS stddev, var_pop({metric}) AS var_pop, first({metric}, recorded_timestamp) AS first, \
         last({metric}, recorded_timestamp) AS last, delta({metric}, recorded_timestamp) AS delta, \
         approx_percentile({metric}, 0.9) AS p90"
    )
}

/// Statements that rollups have the answer of, each in order of its lines.
fn statements() -> Vec<String> {
    let keys = [
        "time_bucket('1 day', recorded_timestamp, 'Europe/Berlin'), location",
        "time_bucket('1 hour', recorded_timestamp), device_type",
        "time_bucket('1 hour', recorded_timestamp, 'Asia/Kolkata'), iot_sensor_id",
        "time_bucket('1 week', recorded_timestamp, 'America/New_York'), iot_sensor_id",
        "time_bucket('3 months', recorded_timestamp)",
        "time_bucket(interval '6 hours', recorded_timestamp, 'Europe/Berlin')",
        "time_bucket('15 minutes', recorded_timestamp)",
        "date_trunc('day', recorded_timestamp), location",
        "date_trunc('week', recorded_timestamp)",
        "date_bin(interval '5 hours', recorded_timestamp), location",
        "date_bin(interval '1 day', recorded_timestamp, '2026-10-01T03:30:00Z'::timestamptz)",
        "recorded_timestamp::date",
        "location, device_type",
        "iot_sensor_id",
        "location",
    ];
    let conditions = [
        "",
        "WHERE recorded_timestamp >= '2026-10-24T05:30:00Z' AND recorded_timestamp < '2026-10-26T02:10:00Z'",
        "WHERE location LIKE '%-1' AND recorded_timestamp > '2026-10-25T00:00:00Z'",
        "WHERE iot_sensor_id IN ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000001')",
        "WHERE iot_sensor_id = '00000000-0000-0000-0000-000000000002' AND temperature IS NOT NULL",
        "WHERE location = 'nowhere'",
    ];
    let mut statements = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let places: Vec<_> = (1..=key.matches(", location").count()
            + key.matches(", iot").count()
            + key.matches(", device").count()
            + 1)
            .map(|place| place.to_string())
            .collect();
        let places = places.join(", ");
        // Each key with two of the conditions, and each condition with several keys.
        for condition in [conditions[number % conditions.len()], conditions[(number + 1) % conditions.len()]]
        {
            statements.push(format!(
                "SELECT {key}, {} FROM readings {condition} GROUP BY {places} ORDER BY {places}",
                of("temperature")
            ));
        }
        statements.push(format!(
            "SELECT {key}, max(metric(other_metrics, 'rpm')) AS rpm, avg(temperature) AS t \
             FROM readings GROUP BY {places} ORDER BY {places}"
        ));
    }
    for condition in conditions {
        statements.push(format!("SELECT {} FROM readings {condition}", of("temperature")));
    }
    statements.extend(
        [
            "SELECT count(*) AS n, location FROM readings WHERE metric(other_metrics, 'rpm') IS NOT NULL GROUP BY 2 ORDER BY 2",
            "SELECT date_trunc('day', recorded_timestamp) AS day, avg(temperature) AS t, count(temperature) AS n FROM readings \
             WHERE iot_sensor_id IN (SELECT iot_sensor_id FROM sensors WHERE tag(tags, 'room') = 'A12') GROUP BY 1 ORDER BY 1",
            "SELECT tag(s.tags, 'room') AS room, min(temperature) AS low, max(temperature) AS high, sum(temperature) AS sum, \
             avg(temperature) AS t, count(metric(other_metrics, 'rpm')) AS n FROM readings r JOIN sensors s \
             ON r.iot_sensor_id = s.iot_sensor_id AND r.location = s.location GROUP BY 1 ORDER BY 1",
            "SELECT count(temperature) AS n, avg(temperature) AS t FROM readings r JOIN sensors s USING (iot_sensor_id) \
             WHERE s.name = 'nothing has this name'",
            "SELECT location, avg(temperature) AS t FROM readings GROUP BY location HAVING max(temperature) > 3 ORDER BY 2",
            "SELECT s.location, d.t FROM (SELECT iot_sensor_id, avg(temperature) AS t FROM readings GROUP BY 1) d \
             JOIN sensors s ON s.iot_sensor_id = d.iot_sensor_id ORDER BY s.iot_sensor_id",
            "SELECT day, t, avg(t) OVER (ORDER BY day ROWS 1 PRECEDING) AS smooth FROM \
             (SELECT date_trunc('day', recorded_timestamp) AS day, avg(temperature) AS t FROM readings GROUP BY 1) ORDER BY day",
            "SELECT location, avg(temperature) AS t FROM readings GROUP BY location UNION ALL \
             SELECT location, avg(temperature) FROM readings WHERE recorded_timestamp < '2026-10-25T00:00:00Z' \
             GROUP BY location ORDER BY 1, 2",
        ]
        .map(str::to_owned),
    );
    statements
}

/// Each statement from rollups and from raw rows; and one of them by brute force.
fn everything_is_equal(lab: &Lab, rows: &[Row]) -> anyhow::Result<()> {
    are_equal(lab, rows, &statements())
}

/// The same with a part of the statements.
fn some_are_equal(lab: &Lab, rows: &[Row]) -> anyhow::Result<()> {
    are_equal(lab, rows, &statements().into_iter().step_by(4).collect::<Vec<_>>())
}

fn are_equal(lab: &Lab, rows: &[Row], statements: &[String]) -> anyhow::Result<()> {
    let (rolled, raw) = (answers(lab, statements, &[])?, answers(lab, statements, &["--raw"])?);
    for ((statement, rolled), raw) in statements.iter().zip(&rolled).zip(&raw) {
        ensure!(
            rolled.len() == raw.len() && rolled.iter().zip(raw).all(|(rolled, raw)| same(rolled, raw)),
            "{statement}\nfrom rollups {rolled:#?}\nfrom raw rows {raw:#?}"
        );
    }
    let by_hour = "SELECT date_trunc('hour', recorded_timestamp) AS hour, iot_sensor_id, count(temperature) AS n, \
                   sum(temperature) AS sum, max(temperature) AS max, last(temperature, recorded_timestamp) AS last \
                   FROM readings GROUP BY 1, 2 ORDER BY 1, 2";
    let mut expected: BTreeMap<(i64, u128), BTreeMap<i64, f64>> = BTreeMap::new();
    for row in rows {
        // A line without a value is a line too.
        let values = expected.entry((row.at.div_euclid(HOUR), row.sensor)).or_default();
        values.extend(row.temperature.map(|value| (row.at, value)));
    }
    let found = answers(lab, &[by_hour.to_owned()], &[])?.remove(0);
    ensure!(found.len() == expected.len(), "{} lines instead of {}", found.len(), expected.len());
    for (line, ((hour, sensor), values)) in found.iter().zip(&expected) {
        let mut wanted = json!({
            "hour": iotctl::time::display(hour * HOUR),
            "iot_sensor_id": uuid::Uuid::from_u128(*sensor).to_string(),
            "n": values.len(),
        });
        if let Some((_, last)) = values.last_key_value() {
            wanted["sum"] = json!(values.values().sum::<f64>());
            wanted["max"] = json!(values.values().copied().fold(f64::MIN, f64::max));
            wanted["last"] = json!(last);
        }
        let names = ["hour", "iot_sensor_id", "n", "sum", "max", "last"];
        ensure!(names.iter().all(|name| same(&line[name], &wanted[name])), "{line} instead of {wanted}");
    }
    Ok(())
}

fn aggregates_from_rollups_equal_those_of_raw_rows_and_of_brute_force() -> anyhow::Result<()> {
    let lab = lab("sql_rollups")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    lab.send(messages(&rows[100..200]))?;
    lab.ingest()?;
    let by_day = "SELECT time_bucket('1 day', recorded_timestamp, 'Europe/Berlin') AS day, location, avg(temperature) \
                  FROM readings GROUP BY 1, 2";
    ensure!(!plan(&lab, by_day)?.contains("SummaryScan"), "there are no rollups yet");
    some_are_equal(&lab, &rows).context("before the rollups")?;
    rolled(&lab)?;
    for sensor in [1_u128, 4] {
        lab.ok(&format!("-q sensors tag {} room=A12", uuid::Uuid::from_u128(sensor)))?;
    }
    let of_tag = "SELECT date_trunc('day', recorded_timestamp), avg(temperature) FROM readings WHERE iot_sensor_id IN \
                  (SELECT iot_sensor_id FROM sensors WHERE tag(tags, 'room') = 'A12') GROUP BY 1";
    contains(&plan(&lab, of_tag)?, &["SummaryScan", "days from rollups=6", "TableScan: sensors"])?;
    // Three UTC days of two groups; the rollups of a group have the hours that a day in Berlin begins with.
    contains(&plan(&lab, by_day)?, &["SummaryScan", "days from rollups=6, hours from rollups=0"])?;
    everything_is_equal(&lab, &rows).context("from rollups")?;

    let edges = format!(
        "{} WHERE recorded_timestamp >= '2026-10-24T05:30:00Z' GROUP BY 1",
        "SELECT iot_sensor_id, avg(temperature) FROM readings"
    );
    let said = plan(&lab, &edges)?;
    contains(
        &said,
        &["days from rollups=4", "hours from rollups=36", "partitions of raw rows=2", "of sensors"],
    )?;
    let analysed = plan(&lab, &format!("ANALYZE {edges}"))?;
    contains(&analysed, &["raw_rows=", "rollups_read=40"])?;

    // They are used: without the raw rows, the answer stays.
    lab.cql("TRUNCATE {ks}.iot_sensor_metrics")?;
    let statement = "SELECT location, count(temperature) AS n FROM readings GROUP BY 1 ORDER BY 1".to_owned();
    let count = |location: &str| {
        rows.iter().filter(|row| row.location == location && row.temperature.is_some()).count()
    };
    let found = answers(&lab, std::slice::from_ref(&statement), &[])?.remove(0);
    let expected = ["plant-1", "plant-2"].map(|location| json!({"location": location, "n": count(location)}));
    ensure!(found == expected, "{found:?}");
    let off = format!("SET iotctl.rollups = false; {statement}");
    ensure!(lab.lines(&["-q", "sql", "--format", "ndjson", off.as_str()][..])?.is_empty());
    Ok(())
}

fn late_readings_and_purges_are_in_the_answer_at_once() -> anyhow::Result<()> {
    let lab = lab("sql_late")?;
    let mut rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    rolled(&lab)?;
    let late = |location, sensor, at, temperature| Row { location, sensor, at, temperature, rpm: None };
    let more = [
        late("plant-1", 2, START + 20 * HOUR + 7, Some(99.5)),
        late("plant-2", 9, START + 30 * HOUR, Some(-40.0)),
        late("plant-1", 4, START + 60 * HOUR + 11, None),
    ];
    lab.send(messages(&more))?;
    lab.ingest()?;
    rows.extend(more);
    some_are_equal(&lab, &rows).context("late readings that are not rolled up")?;
    rolled(&lab)?;
    some_are_equal(&lab, &rows).context("late readings that are rolled up")?;

    let before = START + 26 * HOUR;
    let moment = iotctl::time::display(before);
    lab.ok(&["-q", "purge", "--location", "plant-1", "--yes", "--before", &moment])?;
    rows.retain(|row| row.location == "plant-2" || row.at >= before);
    some_are_equal(&lab, &rows).context("purged")?;
    rolled(&lab)?;
    some_are_equal(&lab, &rows).context("purged and rolled up")
}

fn a_bucket_that_was_changed_counts_no_reading_twice() -> anyhow::Result<()> {
    let mut lab = lab("sql_width")?;
    let rows = rows();
    lab.send(messages(&rows))?;
    lab.ingest()?;
    lab.set("IOTCTL_SCHEMA_BUCKET", "1d");
    let again = format!("{}_again", lab.name);
    lab.ok(&["-q", "ingest", "--until-end", "--group", &again])?;
    rolled(&lab)?;
    some_are_equal(&lab, &rows)
}

fn only_what_rollups_have_is_taken_from_them() -> anyhow::Result<()> {
    let lab = lab("sql_raw")?;
    lab.send(messages(&rows()))?;
    lab.ingest()?;
    rolled(&lab)?;
    for statement in [
        "SELECT location, avg(temperature) FROM readings WHERE temperature > 3 GROUP BY 1",
        "SELECT location, avg(temperature) FROM readings WHERE metric(other_metrics, 'rpm') IS NOT NULL GROUP BY 1",
        "SELECT location, count(DISTINCT temperature) FROM readings GROUP BY 1",
        "SELECT location, avg(temperature) FILTER (WHERE humidity > 3) FROM readings GROUP BY 1",
        "SELECT location, avg(temperature * 2) FROM readings GROUP BY 1",
        "SELECT location, count(*) FROM readings GROUP BY 1",
        "SELECT motion_detected, avg(temperature) FROM readings GROUP BY 1",
        "SELECT recorded_timestamp, avg(temperature) FROM readings GROUP BY 1",
        "SELECT location, count(motion_detected) FROM readings GROUP BY 1",
        "SELECT rate(temperature, recorded_timestamp) FROM readings",
        "SELECT location, avg(temperature) FROM readings GROUP BY ROLLUP(location)",
        "SELECT avg(temperature) FROM (SELECT * FROM readings LIMIT 5)",
        "SELECT avg(temperature) FROM latest",
    ] {
        let said = plan(&lab, statement)?;
        ensure!(!said.contains("SummaryScan"), "{statement}\n{said}");
    }
    let statement = "SELECT location, avg(temperature) FROM readings GROUP BY 1";
    contains(&plan(&lab, statement)?, &["SummaryScan"])?;
    let off = lab.ok(&["-q", "sql", "--raw", &format!("EXPLAIN {statement}")])?;
    ensure!(!off.contains("SummaryScan"), "{off}");
    Ok(())
}

fn gaps_are_filled_in_the_zone_of_the_buckets() -> anyhow::Result<()> {
    let lab = lab("sql_gaps")?;
    let reading = |at: i64, temperature: Option<f64>| Row {
        location: "plant-1",
        sensor: 1,
        at,
        temperature,
        rpm: None,
    };
    // 2026-10-24T22:00Z is midnight in Berlin; that day has 25 hours.
    lab.send(messages(&[
        reading(START + 22 * HOUR + 1, Some(10.0)),
        reading(START + 26 * HOUR + 1, Some(20.0)),
        reading(START + 27 * HOUR + 1, None),
    ]))?;
    lab.ingest()?;
    for rolls in [false, true] {
        if rolls {
            rolled(&lab)?;
        }
        let range = "WHERE recorded_timestamp >= '2026-10-24T21:30:00Z' AND recorded_timestamp < '2026-10-25T04:00:00Z'";
        let found = answers(
            &lab,
            &[
                format!(
                    "SELECT time_bucket_gapfill('1 hour', recorded_timestamp, 'Europe/Berlin') AS hour, location, \
                     avg(temperature) AS t, count(temperature) AS n, locf(avg(temperature)) AS last, \
                     round(interpolate(avg(temperature)) + 1, 3) AS way FROM readings {range} GROUP BY 1, 2 ORDER BY 1"
                ),
                "SELECT time_bucket_gapfill('1 day', recorded_timestamp, 'Europe/Berlin') AS day, max(temperature) AS t \
                 FROM readings WHERE recorded_timestamp >= '2026-10-23T22:00:00Z' AND recorded_timestamp < '2026-10-27T00:00:00Z' \
                 GROUP BY day ORDER BY day"
                    .to_owned(),
            ],
            &[],
        )?;
        let hour = |hour: i64| iotctl::time::display(START + hour * HOUR);
        let expected = [
            (21, None, None, None, None),
            (22, Some(10.0), Some(1), Some(10.0), Some(11.0)),
            (23, None, None, Some(10.0), Some(13.5)),
            (24, None, None, Some(10.0), Some(16.0)),
            (25, None, None, Some(10.0), Some(18.5)),
            (26, Some(20.0), Some(1), Some(20.0), Some(21.0)),
            (27, None, Some(0), Some(20.0), None),
        ];
        ensure!(found[0].len() == expected.len(), "{:#?}", found[0]);
        for (line, (at, t, n, last, way)) in found[0].iter().zip(expected) {
            let is_right = line["hour"] == hour(at)
                && line["location"] == "plant-1"
                && line["t"].as_f64() == t
                && line["n"].as_i64() == n
                && line["last"].as_f64() == last
                && line["way"].as_f64() == way;
            ensure!(is_right, "{line} instead of {at} {t:?} {n:?} {last:?} {way:?}");
        }
        let days: Vec<_> = found[1].iter().map(|line| (line["day"].clone(), line["t"].as_f64())).collect();
        let expected =
            [(-2, None), (22, Some(20.0)), (47, None), (71, None)].map(|(at, t)| (json!(hour(at)), t));
        ensure!(days == expected, "{days:?}");
    }
    let said = lab.fails(2, &["sql", "SELECT locf(avg(temperature)) FROM readings"][..])?;
    contains(&said, &["time_bucket_gapfill"])
}
