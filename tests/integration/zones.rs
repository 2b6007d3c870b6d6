//! Hours, days and ranges of a time zone: each answer equals brute force with the zone's offsets written down here.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde_json::Value;
use uuid::Uuid;

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, contains, message};

crate::trials!(
    days_and_hours_are_those_of_the_zone_from_rollups_and_from_rows,
    rollups_and_rows_agree_in_any_zone,
    any_length_of_time_and_several_names_have_a_line_each,
    a_range_is_compared_with_the_same_days_before_it,
    each_hour_is_compared_with_that_of_the_same_time_where_the_clock_is_set,
    gaps_are_filled_as_asked,
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
    let sensor = Uuid::from_u128(1).to_string();
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

/// The start of a period in Berlin, by the time of its clock.
fn start_in_berlin(by: &str, at: i64) -> String {
    let zone = "Europe/Berlin";
    let shift = offset(zone, at) * MINUTE;
    let wall = at + shift;
    let length = match by {
        "15m" => 15 * MINUTE,
        "6h" => 6 * HOUR,
        "2d" => 2 * DAY,
        _ => 7 * DAY,
    };
    // 1970-01-01 was a Thursday.
    let phase = if by == "week" { 3 * DAY } else { 0 };
    let mut begins = wall - (wall + phase).rem_euclid(length);
    if by == "month" {
        let date = DateTime::from_timestamp_millis(wall).unwrap().date_naive();
        begins = wall - wall.rem_euclid(DAY) - i64::from(chrono::Datelike::day0(&date)) * DAY;
    }
    if by == "15m" {
        return shown(zone, begins - shift);
    }
    // Of the two moments that a clock shows 02:00, the first.
    let summer = begins - 120 * MINUTE;
    shown(zone, if offset(zone, summer) == 120 { summer } else { begins - 60 * MINUTE })
}

fn any_length_of_time_and_several_names_have_a_line_each() -> anyhow::Result<()> {
    let lab = lab("zones_lengths")?;
    for by in ["15m", "6h", "2d", "week", "month"] {
        let column = if ["week", "month"].contains(&by) { by } else { "time" };
        let mut expected: BTreeMap<(String, String), Statistics> = BTreeMap::new();
        for (sensor, at, value) in rows() {
            let key = (uuid::Uuid::from_u128(sensor).to_string(), start_in_berlin(by, at));
            let line = expected.entry(key).or_insert((0, value, value, 0.0));
            *line = (line.0 + 1, line.1.min(value), line.2.max(value), line.3 + value);
        }
        for raw in ["", "--raw"] {
            for (names, order) in [("location,sensor", [0, 1]), ("sensor", [0, 1])] {
                let lines = lab.lines(&format!(
                    "-q stats --metric temperature --agg count,min,max,sum --format ndjson \
                     --time-zone Europe/Berlin --by {names},{by} {raw}"
                ))?;
                let mut found = BTreeMap::new();
                for line in &lines {
                    ensure!(line["location"] == "plant-1" && line["metric"] == "temperature", "{line}");
                    let text =
                        |name: &str| line[name].as_str().map(str::to_owned).with_context(|| line.to_string());
                    let keys = [text("iot_sensor_id")?, text(column)?];
                    let one = answer(std::slice::from_ref(line), column)?;
                    found.insert((keys[order[0]].clone(), keys[order[1]].clone()), one[&keys[1]]);
                }
                ensure!(found == expected, "{names} {by} {raw}: {found:#?} {expected:#?}");
            }
        }
    }
    // Six hours of a clock are whole hours of rollups; the seven hours of the day on which it is set back too.
    let noted = lab.run("stats --metric temperature --by 6h --time-zone Europe/Berlin")?;
    contains(&noted.stderr, &["1,152 values, from ", "and 0 raw"])?;
    contains(&noted.stdout, &["time (Europe/Berlin)"])?;
    let several = lab.lines("-q stats --metric temperature --metric humidity --by day --format ndjson")?;
    ensure!(several.len() == 6 && several.iter().all(|line| line["metric"] == "temperature"), "{several:#?}");
    for (flags, word) in [
        ("--by hour,day", "with one length of time"),
        ("--by sensor,sensor", "different names"),
        ("--by location,device-type,sensor,tag:a,tag:b", "up to 4"),
        ("--by fortnight", "15m, 6h or 3mo"),
        ("--agg median", "p99.9"),
        ("--by sensor --fill null", "periods of time"),
        ("--by day --compare 7d", "the start of a range"),
        ("--by 30m --heat-map --plot", "--by hour"),
    ] {
        let wrong = lab.run(&format!("stats --metric temperature {flags}"))?;
        ensure!(wrong.code == Some(2) && wrong.stderr.contains(word), "{flags}: {wrong:?}");
    }
    Ok(())
}

fn a_range_is_compared_with_the_same_days_before_it() -> anyhow::Result<()> {
    let lab = lab("zones_compare")?;
    let question =
        "-q stats --metric temperature --agg count,avg,max --format ndjson --time-zone Europe/Berlin";
    let days = lab.lines(&format!("{question} --by sensor,day --from 2026-10-24 --to 2026-10-27"))?;
    let of = |sensor: &Value, day: &str| {
        days.iter().find(|line| {
            line["iot_sensor_id"] == *sensor && line["day"].as_str().is_some_and(|at| at.starts_with(day))
        })
    };
    let lines =
        lab.lines(&format!("{question} --by sensor,day --from 2026-10-25 --to 2026-10-27 --compare 1d"))?;
    ensure!(lines.len() == 4, "{lines:#?}");
    for line in &lines {
        let day = line["day"].as_str().context("a day")?;
        let before = if day.starts_with("2026-10-25") { "2026-10-24" } else { "2026-10-25" };
        let before = of(&line["iot_sensor_id"], before).context("the day before")?;
        for name in ["count", "avg", "max"] {
            let (now, then) = (line[name].as_f64().context("now")?, before[name].as_f64().context("then")?);
            ensure!(line[format!("{name}_before")].as_f64() == Some(then), "{name}: {line} {before}");
            ensure!(line[format!("{name}_change")].as_f64() == Some(now - then), "{name}: {line} {before}");
        }
    }
    // The day with 25 hours is compared as a day.
    let counts: Vec<_> =
        lines.iter().map(|line| (line["count"].as_u64(), line["count_before"].as_u64())).collect();
    ensure!(counts.contains(&(Some(96), Some(100))), "{counts:?}");
    // What was there before and is not there now has a line too.
    let gone =
        lab.lines(&format!("{question} --by sensor --from 2026-11-01 --to 2026-11-02 --compare 7d"))?;
    ensure!(gone.len() == 2 && gone[0].get("count").is_none() && gone[0]["count_before"] == 100, "{gone:#?}");
    Ok(())
}

fn each_hour_is_compared_with_that_of_the_same_time_where_the_clock_is_set() -> anyhow::Result<()> {
    let lab = lab("zones_compare_hours")?;
    let ask = |aggregates: &str, from: &str, to: &str| {
        lab.lines(&format!(
            "-q stats --metric temperature --agg {aggregates} --format ndjson --time-zone Europe/Berlin --by sensor,hour \
             --from {from} --to {to} --compare 1d"
        ))
    };
    // From rollups, and with --raw.
    for aggregates in ["count,max", "count,max --raw"] {
        let hour = |lines: &[Value], name: &str| -> Vec<_> {
            let hours = lines.iter().filter(|line| line["iot_sensor_id"] == Uuid::from_u128(1).to_string());
            let of_name = hours.filter(|line| line["hour"].as_str().is_some_and(|at| at.contains(name)));
            of_name.map(|line| (line["count"].as_u64(), line["count_before"].as_u64())).collect()
        };
        // The hour that comes twice is compared with the one of the day before, both times.
        let autumn = ask(aggregates, "2026-10-25", "2026-10-26")?;
        ensure!(autumn.len() == 50, "{autumn:#?}");
        for line in &autumn {
            let at = line["hour"].as_str().context("an hour")?;
            let at = DateTime::parse_from_rfc3339(at)?;
            let wall = at.naive_local() - chrono::TimeDelta::days(1);
            let before = wall.and_utc().timestamp_millis() - 2 * HOUR;
            // The readings begin at 02:00 on the clock.
            let had = before >= AUTUMN;
            ensure!(line["count_before"].as_u64() == had.then_some(4), "{line}");
            let number: u128 = if line["iot_sensor_id"] == Uuid::from_u128(1).to_string() { 1 } else { 2 };
            let in_hour =
                |row: &&(u128, i64, f64)| row.0 == number && (before..before + HOUR).contains(&row.1);
            let max = rows().iter().filter(in_hour).map(|row| row.2).reduce(f64::max);
            ensure!(line["max_before"].as_f64() == max, "{max:?} {line}");
        }
        ensure!(hour(&autumn, "T02:00") == [(Some(4), Some(4)); 2], "{autumn:#?}");
        // The day after, the hour is compared with both.
        let after = ask(aggregates, "2026-10-26", "2026-10-27")?;
        ensure!(after.len() == 48 && hour(&after, "T02:00") == [(Some(4), Some(8))], "{after:#?}");
        // In spring the hour is skipped: it is no line of the day, and the day after it has nothing to be compared with.
        let spring = ask(aggregates, "2026-03-29", "2026-03-30")?;
        ensure!(spring.len() == 46 && hour(&spring, "T03:00") == [(Some(4), Some(4))], "{spring:#?}");
        let after = ask(aggregates, "2026-03-30", "2026-03-31")?;
        ensure!(hour(&after, "T02:00") == [(Some(4), None)], "{after:#?}");
    }
    // Nothing was measured a week later: each hour has a line all the same.
    let empty = lab.lines(
        "-q stats --metric temperature --agg count --format ndjson --time-zone Europe/Berlin --by hour \
         --from 2026-11-01 --to 2026-11-02 --compare 7d",
    )?;
    let before: u64 = empty.iter().filter_map(|line| line["count_before"].as_u64()).sum();
    ensure!((empty.len(), before) == (24, 200), "{empty:#?}");
    Ok(())
}

fn gaps_are_filled_as_asked() -> anyhow::Result<()> {
    let lab = lab("zones_gaps")?;
    let ask = |fill: &str| {
        lab.lines(&format!(
            "-q stats --metric temperature --by sensor,5m --agg count,avg --format ndjson --fill {fill} \
             --from 2026-10-25T00:00:00Z --to 2026-10-25T00:30:00Z"
        ))
    };
    for (fill, share) in
        [("null", None), ("previous", Some([0.0, 0.0])), ("linear", Some([1.0 / 3.0, 2.0 / 3.0]))]
    {
        let lines = ask(fill)?;
        ensure!(lines.len() == 12, "{fill}: {lines:#?}");
        for sensor in lines.chunks(6) {
            let counts: Vec<_> = sensor.iter().map(|line| line["count"].as_u64()).collect();
            ensure!(counts == [1, 0, 0, 1, 0, 0].map(Some), "{fill}: {sensor:#?}");
            let value = |index: usize| sensor[index]["avg"].as_f64();
            let (first, second) = (value(0).context("first")?, value(3).context("second")?);
            for (index, place) in [1, 2].into_iter().enumerate() {
                let expected = share.map(|share| first + (second - first) * share[index]);
                let is_right = match (value(place), expected) {
                    (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                    (found, expected) => found == expected,
                };
                ensure!(is_right, "{fill} {place}: {expected:?} {sensor:#?}");
            }
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
