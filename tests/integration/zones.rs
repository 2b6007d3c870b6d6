//! Hours, days and ranges of a time zone: each answer equals brute force with the zone's offsets written down here.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde_json::Value;

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, contains, message};

crate::trials!(
    days_and_hours_are_those_of_the_zone_from_rollups_and_from_rows,
    rollups_and_rows_agree_in_any_zone,
    a_range_covers_the_hour_that_comes_twice_and_names_the_one_that_is_skipped,
    an_unknown_zone_is_refused_with_its_remedy,
);

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-03-28 and 2026-10-24, 00:00 UTC; Berlin sets its clocks at 01:00 UTC of the day after.
const SPRING: i64 = 1_774_656_000_000;
const AUTUMN: i64 = 1_792_800_000_000;

/// Sensor, moment and temperature: two sensors, every quarter of an hour for three days in spring and in autumn.
fn rows() -> Vec<(u128, i64, f64)> {
    let steps = (0..3 * 96_i64).flat_map(|step| [SPRING, AUTUMN].map(|start| start + step * 15 * MINUTE));
    steps
        .flat_map(|at| [1, 2].map(|sensor| (sensor, at, ((at / MINUTE + sensor as i64 * 7) % 89) as f64)))
        .collect()
}

fn lab(name: &str) -> anyhow::Result<Lab> {
    let mut lab = Lab::bare(name)?;
    // The readings of spring are older than those that are kept by default.
    lab.set("IOTCTL_SCHEMA_TTL", "1000d");
    lab.ok("-q schema apply")?;
    lab.send(rows().iter().map(|(sensor, at, temperature)| {
        message("plant-1", *sensor, *at, &format!(r#","temperature":{temperature}"#))
    }))?;
    lab.ingest()?;
    age_marks(&lab)?;
    let report = roll(&lab, &[])?;
    ensure!(report["hours"] == 144, "{report}");
    Ok(lab)
}

/// What a zone adds to UTC in minutes, in the days of the test.
fn offset(zone: &str, at: i64) -> i64 {
    match zone {
        "Europe/Berlin" if (SPRING + DAY + HOUR..AUTUMN + DAY + HOUR).contains(&at) => 120,
        "Europe/Berlin" => 60,
        "Asia/Kolkata" => 330,
        "Asia/Kathmandu" => 345,
        "America/St_Johns" => -150,
        _ => 0,
    }
}

/// The moment with the offset that the zone has then.
fn shown(zone: &str, at: i64) -> String {
    let offset = FixedOffset::east_opt(offset(zone, at) as i32 * 60).unwrap();
    let moment = DateTime::from_timestamp_millis(at).unwrap().with_timezone(&offset);
    moment.to_rfc3339_opts(SecondsFormat::Millis, zone == "UTC")
}

/// The start of the hour or day.
fn start(zone: &str, by: &str, at: i64) -> String {
    let length = if by == "day" { DAY } else { HOUR };
    let shift = offset(zone, at) * MINUTE;
    let start = at - (at + shift).rem_euclid(length);
    // Midnight may have another offset than the moment.
    let correction = if by == "day" { shift - offset(zone, start) * MINUTE } else { 0 };
    shown(zone, start + correction)
}

/// Count, lowest, highest and sum.
type Statistics = (u64, f64, f64, f64);

fn answer(lines: &[Value], key: &str) -> anyhow::Result<BTreeMap<String, Statistics>> {
    lines
        .iter()
        .map(|line| {
            let number = |name: &str| line[name].as_f64().with_context(|| format!("{name} in {line}"));
            let statistics = (number("count")? as u64, number("min")?, number("max")?, number("sum")?);
            Ok((line[key].as_str().with_context(|| line.to_string())?.to_owned(), statistics))
        })
        .collect()
}

fn stats(lab: &Lab, zone: &str, by: &str, more: &[&str]) -> anyhow::Result<BTreeMap<String, Statistics>> {
    let question =
        ["-q", "stats", "--metric", "temperature", "--agg", "count,min,max,sum", "--format", "ndjson"];
    answer(&lab.lines(&[&question[..], &["--time-zone", zone, "--by", by], more].concat())?, by)
}

fn days_and_hours_are_those_of_the_zone_from_rollups_and_from_rows() -> anyhow::Result<()> {
    let lab = lab("zones_periods")?;
    let sensor = uuid::Uuid::from_u128(1).to_string();
    for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"] {
        for by in ["day", "hour"] {
            for of_sensor in [false, true] {
                let mut expected: BTreeMap<String, Statistics> = BTreeMap::new();
                for (_, at, value) in rows().into_iter().filter(|row| !of_sensor || row.0 == 1) {
                    let line = expected.entry(start(zone, by, at)).or_insert((0, value, value, 0.0));
                    *line = (line.0 + 1, line.1.min(value), line.2.max(value), line.3 + value);
                }
                let selection: &[&str] = if of_sensor { &["--sensor", &sensor] } else { &[] };
                for raw in [&[][..], &["--raw"]] {
                    let found = stats(&lab, zone, by, &[selection, raw].concat())?;
                    ensure!(found == expected, "{zone} {by} {selection:?} {raw:?}: {found:#?} {expected:#?}");
                }
            }
        }
    }
    // The days of Berlin with 25, 23 and 24 hours, by the zone's name and by that of the machine.
    let mut local = (*lab).clone();
    local.set("TZ", "Europe/Berlin");
    let question = ["-q", "stats", "--metric", "temperature", "--by", "day", "--local", "--format", "ndjson"];
    let lines =
        local.lines(&[&question[..], &["--agg", "count,min,max,sum", "--sensor", &sensor]].concat())?;
    let days = answer(&lines, "day")?;
    ensure!(days == stats(&lab, "Europe/Berlin", "day", &["--sensor", &sensor])?, "{days:#?}");
    for (day, count) in [
        ("2026-10-25T00:00:00.000+02:00", 100),
        ("2026-03-29T00:00:00.000+01:00", 92),
        ("2026-10-26T00:00:00.000+01:00", 96),
    ] {
        ensure!(days.get(day).is_some_and(|day| day.0 == count), "{day}: {days:#?}");
    }
    // Whole hours come from rollups; in Kolkata the hour with its midnight comes from rows: 8 readings a day.
    for (zone, raw) in
        [("Europe/Berlin", "and 0 raw"), ("America/St_Johns", "and 48 raw"), ("Asia/Kolkata", "and 48 raw")]
    {
        let noted = lab.run(&["stats", "--metric", "temperature", "--by", "day", "--time-zone", zone])?;
        contains(&noted.stderr, &["1,152 values, from ", raw])?;
        contains(&noted.stdout, &[&format!("day ({zone})")])?;
    }
    Ok(())
}

fn rollups_and_rows_agree_in_any_zone() -> anyhow::Result<()> {
    let lab = lab("zones_any")?;
    let names = iotctl::time::Zone::names();
    let seed = std::process::id() as usize;
    for number in 0..10 {
        let zone = &names[(seed * 7_919 + number * 104_729) % names.len()];
        for by in ["day", "hour"] {
            let [rollups, rows] = [&[][..], &["--raw"]].map(|raw| stats(&lab, zone, by, raw));
            let (rollups, rows) = (rollups?, rows?);
            ensure!(rollups == rows, "{zone} {by}: {rollups:#?} {rows:#?}");
            ensure!(rows.values().map(|line| line.0).sum::<u64>() == 1_152, "{zone} {by}: {rows:#?}");
        }
    }
    Ok(())
}

fn a_range_covers_the_hour_that_comes_twice_and_names_the_one_that_is_skipped() -> anyhow::Result<()> {
    let lab = lab("zones_ranges")?;
    let sensor = uuid::Uuid::from_u128(1).to_string();
    let ask = |program: &crate::support::Program, zone: &[&str], from: &str, to: &str| {
        let question = ["-q", "query", "--sensor", &sensor, "--format", "ndjson", "--order", "asc"];
        program.lines(&[&question[..], zone, &["--from", from, "--to", to]].concat())
    };
    let mut local = (*lab).clone();
    local.set("TZ", "Europe/Berlin");
    let berlin = ["--time-zone", "Europe/Berlin"];
    for (program, zone) in [(&*lab, &berlin[..]), (&local, &["--local"][..])] {
        let rows = ask(program, zone, "2026-10-25 02:00", "2026-10-25 03:00")?;
        ensure!(rows.len() == 8, "{rows:#?}");
        ensure!(rows[0]["recorded_timestamp"] == "2026-10-25T02:00:00.000+02:00", "{rows:#?}");
        ensure!(rows[7]["recorded_timestamp"] == "2026-10-25T02:45:00.000+01:00", "{rows:#?}");
        ensure!(ask(program, zone, "2026-10-25", "2026-10-26")?.len() == 100);
        ensure!(ask(program, zone, "2026-03-29", "2026-03-30")?.len() == 92);
        ensure!(ask(program, zone, "2026-10-25 02:30", "2026-10-25 02:30")?.len() == 4);
        ensure!(ask(program, zone, "2026-10-25T02:30:00+01:00", "2026-10-25 03:00")?.len() == 2);
    }
    let midnight = ask(&lab, &["--time-zone", "Asia/Kathmandu"], "2026-10-25", "2026-10-25 00:30")?;
    ensure!(midnight[0]["recorded_timestamp"] == "2026-10-25T00:00:00.000+05:45", "{midnight:#?}");
    let skipped = ["query", "--sensor", &sensor, "--from", "2026-03-29 02:30"];
    let skipped = lab.fails(2, &[&skipped[..], &berlin].concat())?;
    contains(&skipped, &["does not exist in Europe/Berlin", "write 2026-03-29T03:30:00.000+02:00"])?;
    Ok(())
}

fn an_unknown_zone_is_refused_with_its_remedy() -> anyhow::Result<()> {
    let mut lab = Lab::bare("zones_unknown")?;
    // Nothing is asked of the servers.
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", crate::support::NOBODY);
    let question = ["stats", "--metric", "temperature", "--by", "day"];
    let wrong = lab.run(&[&question[..], &["--time-zone", "Europe/Berlim"]].concat())?;
    ensure!(wrong.code == Some(2), "{wrong:?}");
    contains(&wrong.stderr, &["is not a time zone", "did you mean Europe/Berlin?"])?;
    let both = lab.run(&[&question[..], &["--time-zone", "Europe/Berlin", "--local"]].concat())?;
    ensure!(both.code == Some(2) && both.stderr.contains("cannot be used with"), "{both:?}");
    lab.set("TZ", "Mars/Olympus");
    for verb in [&question[..], &["sensors"], &["silent", "--longer-than", "1h"]] {
        let wrong = lab.fails(2, &[verb, &["--local"]].concat())?;
        contains(&wrong, &["TZ=\"Mars/Olympus\" is not a time zone", "--time-zone NAME"])?;
    }
    Ok(())
}
