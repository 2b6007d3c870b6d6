//! `ingest --detect`: every alert that the readings call for, whatever happens to `ingest`, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use iotctl::kafka::topics;
use serde_json::Value;
use uuid::Uuid;

use crate::delivery::committed;
use crate::support::{Lab, eventually, message, scrape};

crate::trials!(
    alerts_are_what_a_look_at_all_readings_calls_for,
    a_killed_ingest_commits_no_reading_whose_alert_is_not_sent,
    a_stream_with_kills_has_the_alerts_of_one_without,
    what_the_rules_remember_is_lost_or_damaged_or_of_other_rules,
    alerts_are_filtered_followed_and_counted,
    a_sensor_that_stops_and_one_that_never_came_back_are_silent_until_they_send_again,
    changed_rules_are_used_without_a_restart_and_broken_ones_are_not,
    a_check_of_rules_counts_what_ingest_tells,
    the_rule_online_tells_the_alarms_of_anomalies_score,
    what_fires_is_acknowledged_for_its_episode_alone,
    labels_and_runbooks_of_new_kinds_of_rules_are_in_alerts,
    sensors_are_compared_with_their_group_as_well_when_ingest_catches_up,
    rules_that_cannot_work_and_a_missing_topic_are_said_before_anything_is_read,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const MINUTE: i64 = 60_000;

fn rules(folder: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("rules.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn ingest(lab: &Lab, rules: &Path) -> anyhow::Result<Value> {
    let rules = rules.to_str().context("a path in UTF-8")?;
    let report = lab.ok(&["-q", "ingest", "--until-end", "--detect", rules, "--format", "json"])?;
    Ok(serde_json::from_str(&report)?)
}

fn alerts(lab: &Lab, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    lab.lines(&[&["-q", "alerts", "--format", "ndjson"], arguments].concat())
}

fn text<'a>(alert: &'a Value, key: &str) -> &'a str {
    alert[key].as_str().unwrap_or_default()
}

fn minute(alert: &Value, key: &str) -> anyhow::Result<i64> {
    let moment: chrono::DateTime<chrono::Utc> = text(alert, key).parse()?;
    Ok((moment.timestamp_millis() - START) / MINUTE)
}

/// (rule, state, sensor, minute, minute of `since`).
type Said = (String, String, u128, i64, i64);

fn said(alert: &Value) -> anyhow::Result<Said> {
    let sensor: Uuid = text(alert, "iot_sensor_id").parse()?;
    Ok((
        text(alert, "rule").to_owned(),
        text(alert, "state").to_owned(),
        sensor.as_u128(),
        minute(alert, "recorded_timestamp")?,
        minute(alert, "since")?,
    ))
}

/// Quarter degrees, so that every sum and difference is exact.
fn temperature(sensor: u128, minute: i64) -> f32 {
    let noise = ((minute as f64 * 7.3 + sensor as f64 * 3.1).sin() * 43_758.5).fract();
    let wave = (minute as f64 / 40.0 + sensor as f64).sin() * 6.0;
    let spike = if (minute + sensor as i64 * 17) % 97 == 0 { 15.0 } else { 0.0 };
    (((21.0 + wave + noise + spike) * 4.0).round() / 4.0) as f32
}

/// The episodes of a series by a full look at it: `is_breach` and `is_clear` see the series up to an index.
fn episodes(
    rule: &str,
    sensor: u128,
    values: &[f32],
    hold: i64,
    is_breach: impl Fn(&[f32]) -> bool,
    is_clear: impl Fn(&[f32]) -> bool,
) -> Vec<Said> {
    let mut expected = Vec::new();
    let mut minute = 0;
    let up_to = |minute: i64| &values[..=minute as usize];
    let last = values.len() as i64;
    while minute < last {
        if !is_breach(up_to(minute)) {
            minute += 1;
            continue;
        }
        let since = minute;
        let Some(fires) = (since..last)
            .take_while(|minute| is_breach(up_to(*minute)))
            .find(|minute| minute - since >= hold)
        else {
            minute = (since..last).find(|minute| !is_breach(up_to(*minute))).unwrap_or(last);
            continue;
        };
        expected.push((rule.into(), "firing".into(), sensor, fires, since));
        minute = (fires..last).find(|minute| is_clear(up_to(*minute))).unwrap_or(last);
        if minute < last {
            expected.push((rule.into(), "resolved".into(), sensor, minute, since));
            minute += 1;
        }
    }
    expected
}

/// The definition of a robust z-score, word by word.
fn deviates(history: &[f32], readings: usize) -> bool {
    let (value, before) = history.split_last().expect("a value");
    if before.len() < 30 {
        return false;
    }
    let window = &before[before.len().saturating_sub(readings)..];
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
    };
    let centre = median(&mut window.iter().copied().map(f64::from).collect());
    let spread = median(&mut window.iter().map(|value| (f64::from(*value) - centre).abs()).collect());
    (f64::from(*value) - centre).abs() > 6.0 * 1.482_602_218_505_602 * spread
}

fn alerts_are_what_a_look_at_all_readings_calls_for() -> anyhow::Result<()> {
    let lab = Lab::new("detect")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        r#"
        [[rule]]
        name = "hot"
        severity = "critical"
        metric = "temperature"
        threshold = { above = 26, hysteresis = 1 }

        [[rule]]
        name = "long-hot"
        metric = "temperature"
        location = "plant-1"
        for = "10m"
        threshold = { above = 25, below = 12 }

        [[rule]]
        name = "unusual"
        metric = "temperature"
        robust-z = { readings = 60 }

        [[rule]]
        name = "jump"
        metric = "temperature"
        change = { rise = 9, within = "8m" }

        [[rule]]
        name = "elsewhere"
        metric = "temperature"
        location = "plant-2"
        threshold = { above = -100 }
        "#,
    )?;
    let (sensors, minutes) = (8, 600);
    let readings = (0..minutes).flat_map(|minute| {
        (0..sensors).flat_map(move |sensor| {
            let rest = format!(r#","temperature":{}"#, temperature(sensor, minute));
            let reading = message("plant-1", sensor, START + minute * MINUTE, &rest);
            // Now and then one comes twice, and one of long ago comes late: neither says anything new.
            let late = message("plant-1", sensor, START + (minute - 5) * MINUTE + 1, r#","temperature":99"#);
            if minute % 50 == 7 { vec![reading.clone(), late, reading] } else { vec![reading] }
        })
    });
    let sent = lab.send(readings)?;
    let report = ingest(&lab, &rules)?;
    ensure!(report["messages"] == sent, "{report}");

    let mut expected = Vec::new();
    for sensor in 0..sensors {
        let values: Vec<f32> = (0..minutes).map(|minute| temperature(sensor, minute)).collect();
        let last = |history: &[f32]| history.last().copied().unwrap_or_default();
        expected.extend(episodes("hot", sensor, &values, 0, |it| last(it) > 26.0, |it| last(it) <= 25.0));
        let outside = |history: &[f32]| last(history) > 25.0 || last(history) < 12.0;
        expected.extend(episodes("long-hot", sensor, &values, 10, outside, |it| !outside(it)));
        let unusual = |history: &[f32]| deviates(history, 60);
        expected.extend(episodes("unusual", sensor, &values, 0, unusual, |it| !unusual(it)));
        let jumped = |history: &[f32]| {
            let back = &history[history.len().saturating_sub(9)..];
            last(history) - back.iter().copied().fold(f32::MAX, f32::min) > 9.0
        };
        expected.extend(episodes("jump", sensor, &values, 0, jumped, |it| !jumped(it)));
    }
    let found = alerts(&lab, &[])?;
    let mut told: Vec<_> = found.iter().map(said).collect::<Result<_, _>>()?;
    told.sort();
    expected.sort();
    let by_rule = expected.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<&str, u32>, said| {
        *counts.entry(said.0.as_str()).or_default() += 1;
        counts
    });
    ensure!(
        by_rule.len() == 4 && by_rule.values().all(|count| *count >= 10),
        "too few to prove anything: {by_rule:?}"
    );
    ensure!(told == expected, "told {told:#?}\nexpected {expected:#?}");
    ensure!(report["alerts"] == expected.len(), "{report}");

    // All from the beginning, by another group: the same ids again, and people see each once.
    let mut again = Lab::bare("detect_again")?;
    for (key, value) in [("CASSANDRA_KEYSPACE", lab.name.as_str()), ("KAFKA_TOPIC", lab.name.as_str())] {
        again.set(&format!("IOTCTL_{key}"), value);
    }
    let repeated = ingest(&again, &rules)?;
    ensure!(repeated["alerts"] == expected.len(), "{repeated}");
    ensure!(alerts(&lab, &[])? == found, "the copies are seen");
    Ok(())
}

fn a_killed_ingest_commits_no_reading_whose_alert_is_not_sent() -> anyhow::Result<()> {
    let mut lab = Lab::new("detect_kills")?;
    // A member that was killed keeps its partitions until its session ends.
    lab.set("IOTCTL_KAFKA_PROPERTIES", "session.timeout.ms=6000");
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 30 }",
    )?;
    // Every other reading of a sensor begins an episode.
    let (sensors, minutes) = (200, 200);
    let is_hot = |minute: i64| minute % 2 == 1;
    lab.send((0..minutes).flat_map(|minute| {
        (0..sensors).map(move |sensor| {
            let rest = format!(r#","temperature":{}"#, if is_hot(minute) { 31 } else { 20 });
            message("plant-1", sensor, START + minute * MINUTE, &rest)
        })
    }))?;
    let total = sensors as i64 * minutes;
    let path = rules.to_str().context("a path in UTF-8")?;
    // Alerts linger for two seconds, and commits are due each second. A commit that did not wait for alerts would lose
    // those that have not left when the kill comes.
    let slowly = ["-q", "-O", "kafka.properties.linger.ms=2000", "ingest", "--detect", path];
    let sent = || -> anyhow::Result<i64> {
        let kafka = lab.kafka();
        Ok(lab.block_on(topics::end_offsets(&kafka, &kafka.alerts_topic()))?.iter().sum())
    };
    let mut was_cut = false;
    for _ in 0..3 {
        let before = sent()?;
        let mut running = lab.spawn(&slowly)?;
        eventually("alerts are sent", Duration::from_secs(30), || Ok(sent()? > before + 200))?;
        std::thread::sleep(Duration::from_millis(1_500));
        running.kill()?;
        let committed: i64 = committed(&lab)?.values().sum();
        // Of each partition, the first so many readings; half of each sensor's call for an alert.
        let told = firing(&lab)?.len() as i64;
        let slack = sensors as i64;
        ensure!(told >= committed / 2 - slack, "{told} alerts for {committed} committed readings");
        was_cut |= committed > 0 && committed < total;
    }
    ingest(&lab, &rules)?;
    let told = firing(&lab)?;
    let expected: BTreeSet<(u128, i64)> = (0..sensors)
        .flat_map(|sensor| (0..minutes).filter(|minute| is_hot(*minute)).map(move |minute| (sensor, minute)))
        .collect();
    ensure!(told == expected, "{} told, {} expected", told.len(), expected.len());
    ensure!(was_cut, "no kill came in the middle: the test proves nothing");
    ensure!(lab.stored()? == total, "{} rows of {total}", lab.stored()?);
    Ok(())
}

fn firing(lab: &Lab) -> anyhow::Result<BTreeSet<(u128, i64)>> {
    let found = alerts(lab, &["--state", "firing"])?;
    found.iter().map(|alert| said(alert).map(|(_, _, sensor, minute, _)| (sensor, minute))).collect()
}

/// Each kind of rule that remembers something.
const REMEMBERING: &str = r#"
    [[rule]]
    name = "long-hot"
    metric = "temperature"
    for = "10m"
    threshold = { above = 25, hysteresis = 1 }

    [[rule]]
    name = "unusual"
    metric = "temperature"
    robust-z = { readings = 60 }

    [[rule]]
    name = "strange"
    metric = "temperature"
    online = {}

    [[rule]]
    name = "jump"
    metric = "temperature"
    change = { rise = 9, within = "8m" }

    [[rule]]
    name = "stuck"
    metric = "temperature"
    stuck = { time = "2m", tolerance = 0.3 }

    [[rule]]
    name = "quiet"
    silent = { after = "5m" }
"#;

/// Sensor 3 stops for half an hour, and sensor 5 for good.
fn stream(sensors: u128, minutes: i64) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..minutes).flat_map(move |minute| {
        let sends = move |sensor: &u128| {
            !(*sensor == 3 && (400..430).contains(&minute) || *sensor == 5 && minute > 700)
        };
        (0..sensors).filter(sends).map(move |sensor| {
            let rest = format!(r#","temperature":{}"#, temperature(sensor, minute));
            message("plant-1", sensor, START + minute * MINUTE, &rest)
        })
    })
}

/// Everything of an alert but when it was detected.
fn without_detection(mut alert: Value) -> Value {
    if let Some(fields) = alert.as_object_mut() {
        fields.remove("detected_timestamp");
    }
    alert
}

fn a_stream_with_kills_has_the_alerts_of_one_without() -> anyhow::Result<()> {
    let (sensors, minutes) = (20, 1_500);
    let folder = tempfile::tempdir()?;
    let rules = rules(folder.path(), REMEMBERING)?;
    let path = rules.to_str().context("a path in UTF-8")?;
    let whole = Lab::new("detect_whole")?;
    let total = whole.send(stream(sensors, minutes))?;
    ingest(&whole, &rules)?;
    let expected: Vec<_> = alerts(&whole, &[])?.into_iter().map(without_detection).collect();

    let mut lab = Lab::new("detect_restarts")?;
    lab.set("IOTCTL_KAFKA_PROPERTIES", "session.timeout.ms=6000");
    // So that kills come between snapshots, within them and before the offset is committed.
    lab.set("IOTCTL_INGEST_DETECTOR_SNAPSHOT_INTERVAL", "100ms");
    lab.set("IOTCTL_INGEST_COMMIT_INTERVAL", "300ms");
    let mut readings = stream(sensors, minutes);
    let parts = 6;
    let committed_now = || -> anyhow::Result<i64> { Ok(committed(&lab)?.values().sum()) };
    let mut restored = 0.0;
    for part in 0..parts {
        let address = format!("127.0.42.1:{}", 19_480 + part);
        let mut running = lab.spawn(&["-q", "ingest", "--detect", path, "--metrics-addr", &address])?;
        let before = committed_now()?;
        // Piece by piece, so that the kill comes in the middle of work.
        for _ in 0..5 {
            let piece: Vec<_> = readings.by_ref().take(total / (parts * 5)).collect();
            lab.send(piece)?;
        }
        eventually("something is committed", Duration::from_secs(60), || Ok(committed_now()? > before + 50))?;
        restored += crate::support::sample(&address, "iotctl_ingest_detector_restored_sensors_total")
            .unwrap_or_default();
        if part % 3 == 2 {
            ensure!(running.terminate()? == Some(0), "ingest did not end well");
        } else {
            running.kill()?;
        }
    }
    lab.send(readings.collect::<Vec<_>>())?;
    ingest(&lab, &rules)?;
    let told: Vec<_> = alerts(&lab, &[])?.into_iter().map(without_detection).collect();
    let by_rule = |all: &[Value]| {
        all.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<String, u32>, alert| {
            *counts.entry(text(alert, "rule").to_owned()).or_default() += 1;
            counts
        })
    };
    ensure!(by_rule(&expected).len() == 6, "too few to prove anything: {:?}", by_rule(&expected));
    // Where the pieces of the second stream end, all sensors are silent by the clock, as they are once in the first one.
    let of_values = |all: &[Value]| -> Vec<Value> {
        all.iter().filter(|alert| text(alert, "rule") != "quiet").cloned().collect()
    };
    ensure!(
        of_values(&told) == of_values(&expected),
        "told {:?}\nexpected {:?}",
        by_rule(&told),
        by_rule(&expected)
    );
    ensure!(restored > 0.0, "no state was read back: the test proves nothing");
    // What fired before the last restart is known to fire: sensor 5 never came back.
    let quiet = alerts(&lab, &["--firing", "--rule", "quiet"])?;
    let of_five = Uuid::from_u128(5).to_string();
    ensure!(quiet.iter().any(|alert| text(alert, "iot_sensor_id") == of_five), "{quiet:?}");
    Ok(())
}

/// Other bytes in the place of all that the rules remember.
fn damage_states(lab: &Lab) -> anyhow::Result<()> {
    let table = format!("{}.iot_detector_states", lab.name);
    let key = "consumer_group, topic, kafka_partition, series, shard, iot_sensor_id";
    let rows = lab.cql(&format!("SELECT {key} FROM {table}"))?;
    ensure!(!rows.is_empty(), "nothing is kept");
    for row in rows.iter() {
        let (group, topic, partition): (&str, &str, i32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (series, shard, sensor): (i64, i32, Uuid) = (row.get(3)?, row.get(4)?, row.get(5)?);
        lab.cql(&format!(
            "INSERT INTO {table} ({key}, state) VALUES ('{group}', '{topic}', {partition}, {series}, {shard}, {sensor}, 0x01beef) \
             USING TIMESTAMP 9000000000000000000"
        ))?;
    }
    Ok(())
}

fn what_the_rules_remember_is_lost_or_damaged_or_of_other_rules() -> anyhow::Result<()> {
    let lab = Lab::new("detect_state")?;
    let folder = tempfile::tempdir()?;
    let hot = |name: &str| {
        format!("[[rule]]\nname = \"{name}\"\nmetric = \"temperature\"\nthreshold = {{ above = 30 }}\n")
    };
    let file = |name: &str| rules(folder.path(), &hot(name));
    let reading = |sensor: u128, minute: i64, value: i64| {
        message("plant-1", sensor, START + minute * MINUTE, &format!(r#","temperature":{value}"#))
    };
    let told = || -> anyhow::Result<Vec<Said>> {
        let mut told: Vec<_> = alerts(&lab, &[])?.iter().map(said).collect::<Result<_, _>>()?;
        told.sort();
        Ok(told)
    };
    let expect = |expected: &[(&str, &str, u128, i64, i64)]| -> anyhow::Result<()> {
        let mut expected: Vec<Said> = expected
            .iter()
            .map(|(rule, state, sensor, at, since)| ((*rule).into(), (*state).into(), *sensor, *at, *since))
            .collect();
        expected.sort();
        let told = told()?;
        ensure!(told == expected, "told {told:?}\nexpected {expected:?}");
        Ok(())
    };
    lab.send([reading(1, 0, 31), reading(2, 0, 31)])?;
    ingest(&lab, &file("hot")?)?;
    let mut known = vec![("hot", "firing", 1, 0, 0), ("hot", "firing", 2, 0, 0)];
    expect(&known)?;
    // The episode goes on: nothing is told twice, and its end is told though it began before.
    lab.send([reading(1, 1, 32), reading(2, 1, 20)])?;
    ingest(&lab, &file("hot")?)?;
    known.push(("hot", "resolved", 2, 1, 0));
    expect(&known)?;
    // A rule that is gone ends what it fired, once.
    ingest(&lab, &file("other")?)?;
    let found = told()?;
    ensure!(found.len() == 4 && found.contains(&("hot".into(), "resolved".into(), 1, 1, 0)), "{found:?}");
    ensure!(alerts(&lab, &["--firing"])?.is_empty(), "it still fires");
    ingest(&lab, &file("other")?)?;
    ensure!(told()? == found, "{:?}", told()?);
    // A state that cannot be read: the sensor begins anew, and says so.
    lab.send([reading(1, 2, 33)])?;
    ingest(&lab, &file("other")?)?;
    damage_states(&lab)?;
    lab.send([reading(1, 3, 34)])?;
    let path = file("other")?;
    let path = path.to_str().context("a path in UTF-8")?;
    let finished = lab.run(&["ingest", "--until-end", "--detect", path])?;
    ensure!(finished.code == Some(0) && finished.stderr.contains("cannot be read"), "{finished:?}");
    ensure!(told()?.contains(&("other".into(), "firing".into(), 1, 3, 3)), "{:?}", told()?);
    Ok(())
}

fn alerts_are_filtered_followed_and_counted() -> anyhow::Result<()> {
    let lab = Lab::new("detect_metrics")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        "[[rule]]\nname = \"hot\"\nseverity = \"critical\"\nmetric = \"temperature\"\nthreshold = { above = 30 }\n\
         [[rule]]\nname = \"damp\"\nmetric = \"humidity\"\nthreshold = { above = 80 }",
    )?;
    let path = rules.to_str().context("a path in UTF-8")?;
    let address = "127.0.42.1:19466";
    let mut running = lab.spawn(&["-q", "ingest", "--detect", path, "--metrics-addr", address])?;
    let followed = folder.path().join("followed");
    let mut follower = lab
        .command(&["-q", "alerts", "--follow", "--format", "ndjson"])
        .stdout(std::fs::File::create(&followed)?)
        .spawn()?;
    for (minute, rest) in
        [(0, r#","temperature":31,"humidity":50"#), (1, r#","temperature":20,"humidity":90"#)]
    {
        lab.send([message("plant-1", 7, START + minute * MINUTE, rest)])?;
    }
    let metrics = || scrape(address);
    eventually("the alerts are counted", Duration::from_secs(40), || {
        let text = metrics().unwrap_or_default();
        Ok([("hot", "critical", "firing"), ("hot", "critical", "resolved"), ("damp", "warning", "firing")].iter().all(
            |(rule, severity, state)| {
                text.contains(&format!(
                    "iotctl_ingest_alerts_total{{rule=\"{rule}\",severity=\"{severity}\",state=\"{state}\"}} 1"
                ))
            },
        ))
    })?;
    eventually("the follower has them", Duration::from_secs(20), || {
        Ok(std::fs::read_to_string(&followed)?.lines().count() == 3)
    })?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(follower.id())?),
        nix::sys::signal::Signal::SIGINT,
    )?;
    ensure!(follower.wait()?.success(), "a follower that is told to stop has done its work");
    ensure!(running.terminate()? == Some(0), "ingest did not end well");

    let count = |arguments: &[&str]| alerts(&lab, arguments).map(|found| found.len());
    ensure!(count(&[])? == 3);
    ensure!(count(&["--rule", "hot"])? == 2);
    ensure!(count(&["--severity", "warning"])? == 1);
    ensure!(count(&["--state", "resolved"])? == 1);
    ensure!(count(&["--location", "plant-2"])? == 0);
    ensure!(count(&["--sensor", &Uuid::from_u128(7).to_string()])? == 3);
    ensure!(count(&["--from", "2026-11-01T00:01:00Z"])? == 2);
    // What was hot has ended; what is damp goes on.
    let now: Vec<_> =
        alerts(&lab, &["--firing"])?.iter().map(|alert| text(alert, "rule").to_owned()).collect();
    ensure!(now == ["damp"], "firing: {now:?}");
    ensure!(count(&["--firing", "--rule", "hot"])? == 0);
    let none = lab.run(&["alerts", "--firing", "--rule", "hot"])?;
    ensure!(none.code == Some(0) && none.stderr.contains("nothing is firing"), "{none:?}");
    let listed: Vec<_> =
        alerts(&lab, &[])?.iter().map(|alert| text(alert, "recorded_timestamp").to_owned()).collect();
    ensure!(listed.is_sorted(), "{listed:?}");
    let ids: HashSet<String> = alerts(&lab, &[])?.iter().map(|alert| text(alert, "id").to_owned()).collect();
    ensure!(ids.len() == 3, "{ids:?}");
    let table = lab.ok(&["-q", "alerts", "--rule", "damp"])?;
    ensure!(table.contains("humidity 90 %RH: above 80"), "{table}");
    Ok(())
}

fn a_sensor_that_stops_and_one_that_never_came_back_are_silent_until_they_send_again() -> anyhow::Result<()> {
    let lab = Lab::new("detect_silence")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        "[[rule]]\nname = \"quiet\"\nsilent = { after = \"5m\" }\nlabels = { team = \"cooling\" }",
    )?;
    let now = chrono::Utc::now().timestamp_millis();
    let reading = |sensor, at| message("plant-1", sensor, at, r#","temperature":20"#);
    // Sensor 7 sent an hour ago and sensor 8 a month ago, to an ingest without rules. Sensor 9 is well.
    lab.send([reading(7, now - 60 * MINUTE), reading(8, now - 30 * 24 * 60 * MINUTE)])?;
    lab.ingest()?;
    let path = rules.to_str().context("a path in UTF-8")?;
    // Sensor 6 sends to this ingest, and is late by then.
    lab.send([reading(6, now - 10 * MINUTE), reading(9, now)])?;
    let mut running = lab.spawn(&["-q", "ingest", "--detect", path])?;
    let told = || -> anyhow::Result<BTreeSet<(u128, String)>> {
        let found = alerts(&lab, &[])?;
        found.iter().map(|alert| said(alert).map(|(_, state, sensor, ..)| (sensor, state))).collect()
    };
    let pairs = |expected: &[(u128, &str)]| -> BTreeSet<(u128, String)> {
        expected.iter().map(|(sensor, state)| (*sensor, (*state).to_owned())).collect()
    };
    let silent = pairs(&[(6, "firing"), (7, "firing")]);
    eventually("both are reported", Duration::from_secs(60), || Ok(told()? == silent))?;
    let fired = alerts(&lab, &["--sensor", &Uuid::from_u128(7).to_string()])?;
    ensure!(
        text(&fired[0], "metric") == "silence" && text(&fired[0], "labels") == "team=cooling",
        "{fired:?}"
    );
    let due: chrono::DateTime<chrono::Utc> = text(&fired[0], "recorded_timestamp").parse()?;
    ensure!(due.timestamp_millis() == now - 55 * MINUTE, "the moment is not that of the rule: {fired:?}");
    // Another ingest, after a restart, says the same.
    ensure!(running.terminate()? == Some(0), "ingest did not end well");
    running = lab.spawn(&["-q", "ingest", "--detect", path])?;
    lab.send([reading(7, now - MINUTE)])?;
    let ended = pairs(&[(6, "firing"), (7, "firing"), (7, "resolved")]);
    eventually("its end is reported", Duration::from_secs(60), || Ok(told()? == ended))?;
    ensure!(running.terminate()? == Some(0), "ingest did not end well");
    let again = alerts(&lab, &["--sensor", &Uuid::from_u128(7).to_string(), "--state", "firing"])?;
    ensure!(again == fired, "{again:?}");
    Ok(())
}

fn changed_rules_are_used_without_a_restart_and_broken_ones_are_not() -> anyhow::Result<()> {
    let lab = Lab::new("detect_reload")?;
    let folder = tempfile::tempdir()?;
    let hot = |limit: u32| {
        format!("[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = {{ above = {limit} }}\n")
    };
    let path = rules(folder.path(), &hot(30))?;
    let path = path.to_str().context("a path in UTF-8")?;
    let address = "127.0.42.1:19468";
    let mut running = lab.spawn(&["-q", "ingest", "--detect", path, "--metrics-addr", address])?;
    let metric = |name: &str| crate::support::sample(address, name);
    lab.send([message("plant-1", 1, START, r#","temperature":25"#)])?;
    eventually("the first reading is stored", Duration::from_secs(60), || {
        Ok(metric("iotctl_ingest_rows_total") == Some(1.0))
    })?;
    rules(folder.path(), "[[rule]]\nname = \"broken\"")?;
    eventually("the broken file is reported", Duration::from_secs(30), || {
        Ok(metric("iotctl_ingest_rules_refused") == Some(1.0))
    })?;
    lab.send([message("plant-1", 2, START, r#","temperature":31"#)])?;
    eventually("the old rule still judges", Duration::from_secs(60), || Ok(alerts(&lab, &[])?.len() == 1))?;
    rules(folder.path(), &hot(20))?;
    eventually("the new file is taken", Duration::from_secs(30), || {
        Ok(metric("iotctl_ingest_rules_reloads_total") == Some(1.0)
            && metric("iotctl_ingest_rules_refused") == Some(0.0))
    })?;
    lab.send([message("plant-1", 1, START + MINUTE, r#","temperature":25"#)])?;
    eventually("the new rule judges", Duration::from_secs(60), || {
        Ok(firing(&lab)? == BTreeSet::from([(1, 1), (2, 0)]))
    })?;
    ensure!(running.terminate()? == Some(0), "ingest did not end well");
    Ok(())
}

fn a_check_of_rules_counts_what_ingest_tells() -> anyhow::Result<()> {
    let lab = Lab::new("detect_check")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        r#"
        [[rule]]
        name = "hot"
        metric = "temperature"
        threshold = { above = 26, hysteresis = 1 }

        [[rule]]
        name = "unusual"
        metric = "temperature"
        robust-z = { readings = 60 }

        [[rule]]
        name = "never"
        metric = "temperature"
        threshold = { above = 1000 }
        "#,
    )?;
    let path = rules.to_str().context("a path in UTF-8")?;
    let begin = chrono::Utc::now().timestamp_millis() - 600 * MINUTE;
    lab.send((0..500).flat_map(|minute| {
        (0..5).map(move |sensor| {
            let rest = format!(r#","temperature":{}"#, temperature(sensor, minute));
            message("plant-1", sensor, begin + minute * MINUTE, &rest)
        })
    }))?;
    ingest(&lab, &rules)?;
    let checked = lab.json(&["-q", "alerts", "check", path, "--against", "24h", "--format", "json"])?;
    ensure!(checked["readings"] == 2_500, "{checked}");
    for told in checked["rules"].as_array().context("rules")? {
        let rule = text(told, "rule");
        let all = alerts(&lab, &["--rule", rule])?;
        let is_firing = |alert: &&Value| text(alert, "state") == "firing";
        let fired: Vec<_> = all.iter().filter(is_firing).collect();
        let sensors: BTreeSet<_> = fired.iter().map(|alert| text(alert, "iot_sensor_id")).collect();
        ensure!(told["episodes"] == fired.len() && told["sensors"] == sensors.len(), "{told}");
        ensure!(told["firing"] == 2 * fired.len() - all.len(), "{told}");
        ensure!((rule == "never") == fired.is_empty(), "{told}");
    }
    let table = lab.ok(&["-q", "alerts", "check", path, "--against", "24h"])?;
    ensure!(table.contains("unusual") && table.lines().count() >= 5, "{table}");
    Ok(())
}

fn the_rule_online_tells_the_alarms_of_anomalies_score() -> anyhow::Result<()> {
    let lab = Lab::new("detect_online")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(folder.path(), "[[rule]]\nname = \"strange\"\nmetric = \"temperature\"\nonline = {}")?;
    let minutes = 3_000;
    let value = |minute: i64| temperature(1, minute) + if minute % 700 > 690 { 40.0 } else { 0.0 };
    lab.send((0..minutes).map(|minute| {
        message("plant-1", 1, START + minute * MINUTE, &format!(r#","temperature":{}"#, value(minute)))
    }))?;
    ingest(&lab, &rules)?;
    let told: Vec<i64> = alerts(&lab, &["--state", "firing"])?
        .iter()
        .map(|alert| minute(alert, "recorded_timestamp"))
        .collect::<Result<_, _>>()?;
    let file = folder.path().join("series.csv");
    let rows: String = (0..minutes)
        .map(|minute| {
            let at = chrono::DateTime::from_timestamp_millis(START + minute * MINUTE).unwrap_or_default();
            format!("{},{}\n", at.to_rfc3339(), value(minute))
        })
        .collect();
    std::fs::write(&file, format!("timestamp,value\n{rows}"))?;
    let file = file.to_str().context("a path in UTF-8")?;
    let scores = lab.ok(&["-q", "anomalies", "score", file, "--output", "-"])?;
    let is_alarm = |line: &str| line.rsplit(',').next().and_then(|score| score.parse().ok()) >= Some(0.5);
    let scored: Vec<i64> = (0..)
        .zip(scores.lines().skip(1))
        .filter(|(_, line)| is_alarm(line))
        .map(|(minute, _)| minute)
        .collect();
    ensure!(told == scored && told.len() >= 3, "told {told:?}, scored {scored:?}");
    Ok(())
}

fn what_fires_is_acknowledged_for_its_episode_alone() -> anyhow::Result<()> {
    let lab = Lab::new("detect_ack")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 30 }",
    )?;
    let hot = |sensor, minute: i64, value: i64| {
        message("plant-1", sensor, START + minute * MINUTE, &format!(r#","temperature":{value}"#))
    };
    lab.send([hot(1, 0, 31), hot(2, 0, 31)])?;
    ingest(&lab, &rules)?;
    let all = alerts(&lab, &[])?;
    let sensor = Uuid::from_u128(1).to_string();
    lab.ok(&["-q", "alerts", "ack", "--rule", "hot", "--sensor", &sensor, "--comment", "on my way"])?;
    let seen = || -> anyhow::Result<Vec<(u128, bool)>> {
        let firing = alerts(&lab, &["--firing"])?;
        let seen = firing.iter().map(|alert| Ok((said(alert)?.2, alert["acknowledged_by"].is_string())));
        let mut seen = seen.collect::<anyhow::Result<Vec<_>>>()?;
        seen.sort_unstable();
        Ok(seen)
    };
    ensure!(seen()? == [(1, true), (2, false)], "{:?}", seen()?);
    let firing = alerts(&lab, &["--firing", "--sensor", &sensor])?;
    ensure!(text(&firing[0], "acknowledged_comment") == "on my way", "{firing:?}");
    // By the id of an alert.
    let firing = alerts(&lab, &["--firing", "--sensor", &Uuid::from_u128(2).to_string()])?;
    lab.ok(&["-q", "alerts", "ack", text(&firing[0], "id")])?;
    ensure!(seen()? == [(1, true), (2, true)], "{:?}", seen()?);
    // The history is as before, and what does not fire cannot be acknowledged.
    ensure!(alerts(&lab, &[])? == all, "acknowledgements are listed as alerts");
    lab.fails(2, &["-q", "alerts", "ack", "--rule", "cold"])?;
    let unnamed = lab.fails(2, &["-q", "alerts", "ack", "--sensor", &sensor])?;
    ensure!(unnamed.contains("--rule"), "{unnamed}");
    // The next episode is another one.
    lab.send([hot(1, 1, 20), hot(1, 2, 31), hot(2, 1, 31)])?;
    ingest(&lab, &rules)?;
    let again = alerts(&lab, &["--firing", "--sensor", &sensor])?;
    ensure!(again[0]["acknowledged_by"].is_null(), "{again:?}");
    Ok(())
}

fn labels_and_runbooks_of_new_kinds_of_rules_are_in_alerts() -> anyhow::Result<()> {
    let lab = Lab::new("detect_kinds")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        r#"
        [[rule]]
        name = "fast"
        metric = "temperature"
        labels = { team = "cooling", line = "3" }
        runbook = "https://wiki.example/fast"
        rate = { above = 2, per = "min" }

        [[rule]]
        name = "stuck"
        metric = "humidity"
        stuck = { readings = 4 }

        [[rule]]
        name = "night"
        metric = "temperature"
        band = { zone = "Asia/Tokyo", hours = [{ at = "09:02-09:04", above = 19 }, { at = "sun", above = 90 }] }

        [[rule]]
        name = "unlike"
        metric = "temperature"
        peers = { above = 5 }

        [[rule]]
        name = "spread"
        metric = "spread"
        expression = ".temperature - .dew_point"
        threshold = { below = 8 }

        [[rule]]
        name = "in-maintenance"
        metric = "temperature"
        threshold = { above = 0 }
        schedule = { maintenance = [{ from = "2026-11-01T00:00:00Z", to = "2026-11-01T00:04:00Z" }] }
        "#,
    )?;
    let temperatures = [20.0, 20.0, 20.0, 23.0, 23.0, 30.0];
    lab.send((0..).zip(temperatures).flat_map(|(minute, temperature)| {
        [(1, 20.0), (2, 20.0), (3, temperature)].map(|(sensor, temperature)| {
            let rest =
                format!(r#","temperature":{temperature},"humidity":{sensor},"dew_point":{}"#, sensor + 10);
            // In one partition, so that they come in this order.
            ("all".to_owned(), message("plant-1", sensor, START + minute * MINUTE, &rest).1)
        })
    }))?;
    ingest(&lab, &rules)?;
    let found = alerts(&lab, &["--sensor", &Uuid::from_u128(3).to_string()])?;
    let told: BTreeSet<(String, String, i64)> = found
        .iter()
        .map(|alert| {
            Ok((
                text(alert, "rule").into(),
                text(alert, "state").into(),
                minute(alert, "recorded_timestamp")?,
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    let expected = [
        ("fast", "firing", 3),
        ("fast", "firing", 5),
        ("fast", "resolved", 4),
        // 00:02 in UTC on a Sunday is 09:02 in Tokyo.
        ("night", "firing", 2),
        ("night", "resolved", 4),
        ("in-maintenance", "firing", 4),
        ("spread", "firing", 0),
        ("spread", "resolved", 3),
        ("stuck", "firing", 3),
        ("unlike", "firing", 5),
    ];
    let expected: BTreeSet<_> = expected
        .iter()
        .map(|(rule, state, minute)| ((*rule).to_owned(), (*state).to_owned(), *minute))
        .collect();
    ensure!(told == expected, "told {told:#?}\nexpected {expected:#?}");
    let fast = found.iter().find(|alert| text(alert, "rule") == "fast").context("no alert")?;
    ensure!(text(fast, "labels") == "line=3, team=cooling", "{fast}");
    ensure!(text(fast, "runbook") == "https://wiki.example/fast", "{fast}");
    ensure!(text(fast, "message").contains("changes by 3.00 per minute, above 2"), "{fast}");
    Ok(())
}

fn sensors_are_compared_with_their_group_as_well_when_ingest_catches_up() -> anyhow::Result<()> {
    const SENSORS: u128 = 24;
    const HOURS: i64 = 12;
    let lab = Lab::new("detect_peers")?;
    let folder = tempfile::tempdir()?;
    let rules = rules(
        folder.path(),
        "[[rule]]\nname = \"unlike\"\nmetric = \"temperature\"\npeers = { above = 5, min_sensors = 12 }",
    )?;
    // All rise and fall together; each of them is too warm for ten minutes of each twelfth hour.
    let value = |sensor: u128, minute: i64| {
        let usual = 20.0 + 10.0 * (minute as f64 / 60.0).sin();
        let is_odd = minute / 60 == sensor as i64 % HOURS && (20..30).contains(&(minute % 60));
        (usual + if is_odd { 8.0 } else { 0.0 }, is_odd)
    };
    let mut expected = BTreeSet::new();
    let mut messages = Vec::new();
    for minute in 0..HOURS * 60 {
        for sensor in 1..=SENSORS {
            let (temperature, is_odd) = value(sensor, minute);
            if is_odd && minute % 60 == 20 {
                expected.insert((sensor, minute, minute + 10));
            }
            let body = format!(r#","temperature":{temperature}"#);
            messages.push(message("plant-1", sensor, START + minute * MINUTE, &body));
        }
    }
    // After an outage everything waits in the topic, in the order in which it was sent: minutes have different timestamps.
    lab.send(
        messages
            .into_iter()
            .enumerate()
            .inspect(|(index, _)| {
                if (*index as u128).is_multiple_of(SENSORS) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
            .map(|(_, message)| message),
    )?;
    ingest(&lab, &rules)?;
    let mut told: BTreeMap<(u128, i64), i64> = BTreeMap::new();
    for alert in alerts(&lab, &["--rule", "unlike"])? {
        let (_, state, sensor, at, since) = said(&alert)?;
        let end = told.entry((sensor, since)).or_default();
        if state == "resolved" {
            *end = at;
        }
    }
    let told: BTreeSet<_> = told.into_iter().map(|((sensor, since), end)| (sensor, since, end)).collect();
    ensure!(told == expected, "told {told:#?}\nexpected {expected:#?}");
    Ok(())
}

fn rules_that_cannot_work_and_a_missing_topic_are_said_before_anything_is_read() -> anyhow::Result<()> {
    let lab = Lab::new("detect_refused")?;
    let folder = tempfile::tempdir()?;
    lab.send([message("plant-1", 1, START, r#","temperature":31"#)])?;
    let path =
        rules(folder.path(), "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { over = 1 }")?;
    let path = path.to_str().context("a path in UTF-8")?;
    let refused = lab.fails(2, &["-q", "ingest", "--until-end", "--detect", path])?;
    ensure!(refused.contains("rules.toml: line 4: unknown field `over`"), "{refused}");
    let absent = lab.fails(2, &["-q", "ingest", "--until-end", "--detect", "/nowhere/rules.toml"])?;
    ensure!(absent.contains("/nowhere/rules.toml: cannot read the rules"), "{absent}");
    rules(folder.path(), "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 1 }")?;
    lab.delete_topic(&lab.kafka().alerts_topic())?;
    let missing = lab.fails(1, &["-q", "ingest", "--until-end", "--detect", path])?;
    ensure!(
        missing.contains("-alerts\" does not exist") && missing.contains("iotctl schema apply"),
        "{missing}"
    );
    ensure!(lab.stored()? == 0, "something was stored before the topic was missed");
    Ok(())
}
