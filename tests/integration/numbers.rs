//! Numbers are kept: what a sensor sent is what every answer holds, and a wrong value means the same wherever it stands.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, contains, message};

crate::trials!(
    an_energy_counter_keeps_every_digit_in_each_answer,
    an_energy_counter_survives_export_and_import,
    values_of_21_3_are_neither_below_nor_beside_21_3,
    a_value_means_the_same_wherever_it_stands,
    a_message_of_which_nothing_is_understood_is_a_dead_letter_with_its_cause,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const ENERGY: f64 = 123_456_789.125;
/// 2^53.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Three counters, each rising by an eighth a minute for two hours.
fn counters(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    lab.send((0..360_u32).map(|n| {
        let minute = n / 3;
        let energy = ENERGY + f64::from(minute) * 0.125;
        let rest = format!(r#","energy":{energy},"other_metrics":{{"count":{WHOLE}}}"#);
        message("plant-1", u128::from(n % 3), START + i64::from(minute) * 60_000, &rest)
    }))?;
    lab.ingest()?;
    Ok(lab)
}

const HIGHEST: f64 = ENERGY + 119.0 * 0.125;
const MEAN: f64 = ENERGY + 59.5 * 0.125;

/// The statistics and the extremes of the counters, wherever they come from.
fn answers_are_exact(lab: &Lab, more: &str) -> anyhow::Result<()> {
    let stats = lab.lines(&format!("-q stats --metric energy --by sensor --format ndjson {more}"))?;
    ensure!(stats.len() == 3, "{stats:#?}");
    for line in &stats {
        let found = ["min", "max", "avg"].map(|name| line[name].as_f64().unwrap_or(f64::NAN));
        ensure!(found == [ENERGY, HIGHEST, MEAN], "{more}: {found:?} in {line}");
    }
    for (flag, expected) in [("--highest", HIGHEST), ("--lowest", ENERGY)] {
        let rows = lab.lines(&format!("-q extremes --metric energy {flag} --format ndjson {more}"))?;
        ensure!(
            rows.len() == 3 && rows.iter().all(|row| row["value"] == expected),
            "{flag} {more}: {rows:#?}"
        );
    }
    Ok(())
}

fn an_energy_counter_keeps_every_digit_in_each_answer() -> anyhow::Result<()> {
    let lab = counters("energy")?;
    let rows: Vec<(Option<HashMap<String, f64>>,)> =
        lab.witness("SELECT other_metrics FROM {ks}.iot_sensor_metrics")?;
    let energies: Vec<f64> =
        rows.iter().filter_map(|(others,)| others.as_ref()?.get("energy").copied()).collect();
    ensure!(energies.len() == 360 && energies.iter().all(|energy| (energy - ENERGY) % 0.125 == 0.0));
    ensure!(energies.contains(&ENERGY) && energies.contains(&HIGHEST), "{energies:?}");

    let newest = lab.query("thermostat", "--latest --columns energy,count")?;
    ensure!(newest.len() == 3, "{newest:#?}");
    ensure!(newest.iter().all(|row| row["energy"] == HIGHEST && row["count"] == WHOLE), "{newest:#?}");
    let exactly = lab.query("thermostat", &["--where", &format!("energy = {ENERGY}")])?;
    ensure!(exactly.len() == 3, "{exactly:#?}");
    let table = lab.ok("-q query --location plant-1 --device-type thermostat --limit 3 --columns energy")?;
    contains(&table, &["123456804"])?;

    answers_are_exact(&lab, "--raw").context("from rows")?;
    age_marks(&lab)?;
    roll(&lab, &[])?;
    let rolled: Vec<(String, Option<Vec<f64>>)> =
        lab.witness("SELECT metric, exact FROM {ks}.iot_daily_rollups")?;
    ensure!(rolled.iter().any(|(metric, _)| metric == "energy"), "nothing was rolled up: {rolled:?}");
    answers_are_exact(&lab, "").context("from rollups")?;
    let verified = lab.json("-q rollup --verify --format json")?;
    ensure!(verified["wrong"].as_u64().unwrap_or(0) == 0, "{verified}");

    let audited = lab.json("-q audit --format json")?;
    ensure!(audited["is_sound"] == true, "{audited:#}");
    // A digit beyond those of a 32-bit float is another value.
    lab.cql(
        "UPDATE {ks}.iot_sensor_metrics SET other_metrics = {'energy': 123456789.25, 'count': 9007199254740992} \
         WHERE location = 'plant-1' AND device_type = 'thermostat' AND bucket = 1793491200000 \
         AND iot_sensor_id = 00000000-0000-0000-0000-000000000001 AND recorded_timestamp = 1793491200000",
    )?;
    let audited: Value = serde_json::from_str(&lab.run("-q audit --format json")?.stdout)?;
    ensure!(audited["troubles"]["different"]["readings"] == 1, "{audited:#}");
    Ok(())
}

fn an_energy_counter_survives_export_and_import() -> anyhow::Result<()> {
    let source = counters("energy_out")?;
    source.send([message("plant-1", 9, START, r#","temperature":21.3,"mode":"eco \"x\", y""#)])?;
    source.ingest()?;
    let all = |lab: &Lab| lab.query("thermostat", "--order asc");
    let expected = all(&source)?;
    ensure!(expected.len() == 361);
    let folder = tempfile::tempdir()?;
    for format in ["parquet", "csv", "ndjson"] {
        let files = folder.path().join(format);
        let files = files.to_str().context("a path in UTF-8")?;
        source.ok(&["-q", "export", "--format", format, "--partition-by", "day", "--output", files])?;
        let target = Lab::new("energy_in")?;
        target.ok(&["-q", "import", files, "--direct"])?;
        let found = all(&target)?;
        ensure!(found == expected, "{format}: {:#?} is not {:#?}", found.first(), expected.first());
    }
    Ok(())
}

fn values_of_21_3_are_neither_below_nor_beside_21_3() -> anyhow::Result<()> {
    let lab = Lab::new("decimals")?;
    lab.send((0..180).map(|n| {
        message("plant-1", n % 2, START + n as i64 * 1000, r#","temperature":21.3,"humidity":0.1"#)
    }))?;
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("rules.toml");
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"cold\"\nmetric = \"temperature\"\nthreshold = { below = 21.3 }\n\
         [[rule]]\nname = \"dry\"\nmetric = \"humidity\"\nthreshold = { above = 0.1 }\n\
         [[rule]]\nname = \"dry_too\"\nmetric = \"humidity\"\nthreshold = { below = 0.1001 }\n",
    )?;
    let rules = rules.to_str().context("a path in UTF-8")?;
    let report = lab.json(&["-q", "ingest", "--until-end", "--detect", rules, "--format", "json"])?;
    ensure!(report["alerts"] == 2, "only dry_too of two sensors fires: {report}");

    for more in ["--raw", ""] {
        let stats =
            lab.lines(&format!("-q stats --metric temperature --by location --format ndjson {more}"))?;
        let [line] = stats.as_slice() else { anyhow::bail!("{stats:#?}") };
        for name in ["min", "avg", "max"] {
            ensure!(line[name] == 21.3, "{name}: {line}");
        }
        age_marks(&lab)?;
        roll(&lab, &[])?;
    }
    let extremes =
        |limit: &str| lab.lines(&format!("-q extremes --metric temperature {limit} --format ndjson"));
    ensure!(extremes("--lowest --below 21.3")?.is_empty() && extremes("--highest --above 21.3")?.is_empty());
    ensure!(extremes("--lowest --below 21.31")?.len() == 2);
    let found = |filter: &str| lab.query("thermostat", &["--where", filter]);
    ensure!(found("temperature = 21.3 and humidity <= 0.1")?.len() == 180);
    ensure!(found("temperature < 21.3 or humidity > 0.1")?.is_empty());
    let anomalies =
        lab.lines("-q anomalies --metric temperature --method threshold --below 21.3 --format ndjson")?;
    ensure!(anomalies.is_empty(), "{anomalies:#?}");
    Ok(())
}

fn a_value_means_the_same_wherever_it_stands() -> anyhow::Result<()> {
    let lab = Lab::new("values")?;
    let fields = r#""co2":"415","door_open":true,"mode":"eco","serial":"00412","temperature":"21.5","tags":[1],"deep":{"a":1}"#;
    lab.send([
        message("plant-1", 1, START, &format!(",{fields}")),
        message("plant-1", 2, START, &format!(r#","other_metrics":{{{fields}}}"#)),
    ])?;
    let report = lab.ingest()?;
    ensure!(report["rows"] == 2 && report["dead_letters"] == 0, "{report}");
    let ignored = json!({"tags": 1, "deep": 1, "other_metrics.tags": 1, "other_metrics.deep": 1});
    ensure!(report["ignored_fields"] == ignored, "{report}");
    type Row = (Option<f32>, Option<BTreeMap<String, f64>>, Option<BTreeMap<String, String>>);
    let rows: Vec<Row> =
        lab.witness("SELECT temperature, other_metrics, states FROM {ks}.iot_sensor_metrics")?;
    ensure!(rows.len() == 2 && rows[0] == rows[1], "{rows:?}");
    let (temperature, others, states) = &rows[0];
    ensure!(*temperature == Some(21.5), "{rows:?}");
    ensure!(*others == Some([("co2".into(), 415.0), ("door_open".into(), 1.0)].into()), "{rows:?}");
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    ensure!(*states == Some([text("mode", "eco"), text("serial", "00412")].into()), "{rows:?}");

    let rows = lab.query("thermostat", "--columns mode,states,co2 --where 'mode = \"eco\"'")?;
    let shown = json!({"mode": "eco", "states": {"mode": "eco", "serial": "00412"}, "co2": 415.0});
    ensure!(rows == [shown.clone(), shown], "{rows:#?}");
    let newest = lab.query("thermostat", "--latest")?;
    ensure!(newest.iter().all(|row| row["states"]["mode"] == "eco"), "{newest:#?}");
    let sensors = lab.ok("-q sensors")?;
    contains(&sensors, &["mode=eco serial=00412"])?;
    let audited = lab.json("-q audit --format json")?;
    ensure!(audited["is_sound"] == true, "{audited:#}");
    // A state that the newest reading lacks is not shown as its own.
    lab.send([message("plant-1", 1, START + 1000, r#","temperature":22"#)])?;
    lab.ingest()?;
    let newest = lab.query("thermostat", "--latest --sensor 00000000-0000-0000-0000-000000000001")?;
    ensure!(newest.len() == 1 && newest[0].get("states").is_none(), "{newest:#?}");
    Ok(())
}

fn a_message_of_which_nothing_is_understood_is_a_dead_letter_with_its_cause() -> anyhow::Result<()> {
    let lab = Lab::new("causes")?;
    let (key, plain) = message("plant-1", 1, START, r#","temperature":1"#);
    let seconds = message("plant-1", 1, START / 1000, r#","temperature":1"#).1;
    let date = message("plant-1", 1, 20_200_101_000_000, r#","temperature":1"#).1;
    let nested = message("plant-1", 1, START, r#","readings":{"temperature":21.5}"#).1;
    let bad_name = message("plant-1", 1, START, r#","other_metrics":{"a":1e400}"#).1;
    let payloads = [
        (nested, "readings (send numbers"),
        ([b"\0\0\0\0\x07", plain.as_slice()].concat(), "framed by a schema registry"),
        (b"\x1F\x8B\x08\0\0\0\0\0\0\x03".to_vec(), "gzip"),
        ([b"\xEF\xBB\xBF", plain.as_slice()].concat(), "byte-order mark"),
        (String::from_utf8(plain)?.encode_utf16().flat_map(u16::to_le_bytes).collect(), "UTF-16"),
        (seconds, "as seconds it would be 2026-11-01T00:00:00.000Z"),
        (date, "it looks like the date 2020-01-01 00:00:00"),
        (bad_name, "field other_metrics.a:"),
    ];
    lab.send(payloads.iter().map(|(payload, _)| (key.clone(), payload.clone())))?;
    // The whole topic is wrong here, which is what the breaker stops.
    let mut lab = lab;
    lab.set("IOTCTL_INGEST_MAX_DEAD_LETTER_PERCENT", "100");
    let report = lab.ingest()?;
    ensure!(report["dead_letters"] == payloads.len() && report["rows"] == 0, "{report}");
    let letters = lab.ok("-q dead-letters list --format ndjson")?;
    for (_, cause) in &payloads {
        ensure!(letters.contains(cause), "no {cause:?} in {letters}");
    }
    Ok(())
}
