//! One mapping for all ways in: the same content as messages of a topic, as a file that is imported through Kafka or directly,
//! and as a recording that is replayed, becomes the same rows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde_json::json;
use uuid::Uuid;

use crate::mapping::{Readings, check_same, stored};
use crate::support::Lab;

crate::trials!(
    a_files_rows_become_what_the_messages_with_their_content_do,
    a_bad_element_of_a_row_is_named_and_the_rest_is_imported,
    flags_say_what_a_mapping_file_says,
    a_changed_mapping_is_told_by_its_lines_and_a_program_without_an_end_stops_nothing,
);

const BATCHES: &str = r#"
[[source]]
name = "batches"
each = "value.readings"
only = ".value.kind != \"hello\""
location = "value.site"
device_type = { constant = "meter" }
sensor = "each.id"
recorded_timestamp = { from = "each.at", format = "s" }
tags = { floor = "each.floor" }
[[source.fields]]
from = "each.values.*"
rename = { t = "temperature" }
units = { t = "°F" }
"#;

const TABLE: &str = r#"
[[source]]
format = "csv"
csv = { delimiter = ";" }
location = { constant = "yard" }
device_type = { constant = "scale" }
sensor = { from = "each.Sensor", normalise = "lower" }
recorded_timestamp = { from = ["each.Date", "each.Time"], format = "%d.%m.%Y %H:%M", time_zone = "Europe/Berlin" }
[source.metrics]
load = { from = "each.Load", decimal_comma = true, null = ["---"] }
state = "each.State"
"#;

const CSV: &str = "Sensor;Date;Time;Load;State\nS-1;01.11.2026;12:00;1,5;ok\nS-1;01.11.2026;12:05;---;ok\nS-2;01.11.2026;12:00;2;empty\n";

struct Files {
    _folder: tempfile::TempDir,
    batches: PathBuf,
    table: PathBuf,
    batches_mapping: String,
    table_mapping: String,
}

/// 40 messages of 5 readings each, and 3 that the mapping skips.
fn batches() -> Vec<String> {
    let reading = |n: usize, id: usize| {
        json!({"id": format!("m-{id}"), "at": 1_793_500_000 + 60 * n, "floor": (id % 3).to_string(),
               "values": {"t": 50.0 + n as f64, "mode": "eco", "rpm": n * id, "open": n.is_multiple_of(2)}})
    };
    let batch = |n: usize| {
        let readings: Vec<_> = (0..5).map(|id| reading(n, id)).collect();
        json!({"site": "north", "kind": "data", "readings": readings}).to_string()
    };
    let hello = (0..3).map(|_| json!({"kind": "hello"}).to_string());
    (0..40).map(batch).chain(hello).collect()
}

fn files() -> anyhow::Result<Files> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).map(|()| path)
    };
    let (batches_mapping, table_mapping) = (write("batches.toml", BATCHES)?, write("table.toml", TABLE)?);
    Ok(Files {
        batches: write("old.ndjson", &(batches().join("\n") + "\n"))?,
        table: write("old.csv", CSV)?,
        batches_mapping: batches_mapping.display().to_string(),
        table_mapping: table_mapping.display().to_string(),
        _folder: folder,
    })
}

fn words(command: &str, mapping: &str, file: &Path) -> Vec<String> {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    words.push(file.display().to_string());
    words.extend(["--mapping".to_owned(), mapping.to_owned()]);
    words
}

type Sensors = Vec<(Uuid, Option<String>, Option<HashMap<String, String>>)>;

fn sensors(lab: &Lab) -> anyhow::Result<Sensors> {
    let mut sensors: Sensors =
        lab.witness("SELECT iot_sensor_id, name, mapped_tags FROM {ks}.iot_sensors")?;
    sensors.sort_by_key(|sensor| sensor.0);
    Ok(sensors)
}

fn a_files_rows_become_what_the_messages_with_their_content_do() -> anyhow::Result<()> {
    let files = files()?;
    let (wanted, wanted_sensors): (Readings, Sensors) = {
        let lab = Lab::new("as_messages")?;
        let ingest = |mapping: &str| {
            lab.json(&["-q", "ingest", "--until-end", "--format", "json", "--mapping", mapping])
        };
        lab.send(batches().into_iter().map(|text| (String::new(), text.into_bytes())))?;
        let report = ingest(&files.batches_mapping)?;
        ensure!(report["rows"] == 200 && report["skipped"] == 3, "{report}");
        lab.send([(String::new(), CSV.as_bytes().to_vec())])?;
        ensure!(ingest(&files.table_mapping)?["rows"] == 3);
        (stored(&lab)?, sensors(&lab)?)
    };
    ensure!(wanted.len() == 203 && wanted_sensors.len() == 7, "{wanted_sensors:?}");
    ensure!(wanted_sensors.iter().all(|(_, name, _)| name.is_some()), "{wanted_sensors:?}");

    for (way, through_kafka) in [
        ("-q import --report json --direct", false),
        ("-q import --report json", true),
        ("-q simulate --format json --replay", true),
    ] {
        let lab = Lab::new("as_files")?;
        let batches = lab.json(&words(way, &files.batches_mapping, &files.batches))?;
        let table = lab.json(&words(way, &files.table_mapping, &files.table))?;
        if way.contains("import") {
            ensure!(
                batches["imported"] == 200 && batches["skipped"] == 3 && batches["rows"] == 43,
                "{batches}"
            );
            ensure!(table["imported"] == 3 && table["rejected"] == 0, "{table}");
        } else {
            ensure!(batches["acknowledged"] == 200 && batches["skipped_lines"] == 3, "{batches}");
            ensure!(table["acknowledged"] == 3 && table["bad_lines"] == 0, "{table}");
        }
        if through_kafka {
            let report = lab.ingest()?;
            ensure!(report["rows"] == 203 && report["dead_letters"] == 0, "{way}: {report}");
        }
        check_same(&stored(&lab)?, &wanted)?;
        let found = sensors(&lab)?;
        ensure!(found == wanted_sensors, "{way}: {found:?}\nand not\n{wanted_sensors:?}");
    }
    Ok(())
}

const MACHINE: &str = "when;Temp [°F];p;rpm;note\n2026-11-01 10:00:00;73,4;101,325;1.500,5;x\n2026-11-01 10:05:00;n/a;;12;y\n\
                       2026-11-01T11:10:00+01:00;stuck;99,5;0;\n";

const MACHINE_MAPPING: &str = r#"
[[source]]
format = "csv"
csv = { delimiter = ";" }
location = { constant = "plant-1" }
device_type = { constant = "machine" }
sensor = { constant = "plant-1/machine" }
recorded_timestamp = { from = "each.when", time_zone = "UTC" }
[source.metrics]
temperature = { from = 'each."Temp [°F]"', unit = "°F", decimal_comma = true, null = ["n/a"] }
pressure = { from = "each.p", unit = "kPa", decimal_comma = true }
speed = { from = "each.rpm", decimal_comma = true }
"#;

/// The same file by replay and by import, with flags and with a mapping file.
fn flags_say_what_a_mapping_file_says() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, mapping) = (folder.path().join("machine.csv"), folder.path().join("machine.toml"));
    std::fs::write(&file, MACHINE)?;
    std::fs::write(&mapping, MACHINE_MAPPING)?;
    let by_mapping = ["--mapping".to_owned(), mapping.display().to_string()];
    let by_flags = [
        "--map",
        "when=recorded_timestamp,Temp [°F]=temperature,p=pressure,rpm=speed",
        "--set",
        "location=plant-1,device_type=machine",
        "--unit",
        "temperature=fahrenheit,pressure=kPa",
    ]
    .map(str::to_owned);
    let mut wanted: Option<(Readings, Sensors)> = None;
    for (way, through_kafka) in
        [("-q import --direct", false), ("-q import", true), ("-q simulate --replay", true)]
    {
        for how in [&by_mapping[..], &by_flags] {
            let lab = Lab::new("same_flags")?;
            let mut words: Vec<String> = way.split(' ').map(str::to_owned).collect();
            words.push(file.display().to_string());
            words.extend_from_slice(how);
            lab.ok(&words)?;
            if through_kafka {
                ensure!(lab.ingest()?["rows"] == 3, "{way} {how:?}");
            }
            let found = (stored(&lab)?, sensors(&lab)?);
            match &wanted {
                None => {
                    ensure!(found.0.len() == 3 && found.1[0].1.as_deref() == Some("plant-1/machine"));
                    wanted = Some(found);
                }
                Some(wanted) => {
                    check_same(&found.0, &wanted.0)?;
                    ensure!(found.1 == wanted.1, "{way} {how:?}: {:?}", found.1);
                }
            }
        }
    }
    // What does not fit is refused before anything is sent, and lines of JSON have no columns.
    let lab = Lab::new("wrong_flags")?;
    let named = file.display().to_string();
    let import = |more: &[&str]| {
        let words = [&["-q", "import", &*named], more].concat();
        lab.fails(2, &words)
    };
    ensure!(import(&["--map", "time=recorded_timestamp"])?.contains("it has: when, Temp [°F], p, rpm, note"));
    let lines = folder.path().join("x.ndjson");
    std::fs::write(&lines, "{}\n")?;
    let error = lab.fails(2, &["-q", "import", &lines.display().to_string(), "--unit", "temperature=K"])?;
    ensure!(error.contains("NDJSON and has no columns"), "{error}");
    Ok(())
}

fn a_bad_element_of_a_row_is_named_and_the_rest_is_imported() -> anyhow::Result<()> {
    let lab = Lab::new("bad_rows")?;
    let files = files()?;
    let file = files.batches.with_file_name("bad.ndjson");
    let element = |id: &str, at: i64| json!({"id": id, "at": at, "values": {"t": 50}});
    let bad = json!({"site": "north", "readings": [element("a", 1_793_500_000), element("b", 5)]});
    std::fs::write(&file, format!("\n{bad}\n"))?;
    let import = lab.run(&words("import --direct", &files.batches_mapping, &file))?;
    ensure!(import.code == Some(1), "{import:#?}");
    ensure!(import.stderr.contains("bad.ndjson:2: element 1 of 2: recorded_timestamp"), "{import:#?}");
    ensure!(lab.stored()? == 1);
    // With a ledger, what is replayed can be audited as any run.
    let lab = Lab::new("replayed")?;
    let ledger = files.batches.with_file_name("ledger");
    let mut replay = words("-q simulate --replay", &files.batches_mapping, &files.batches);
    replay.extend(["--ledger".to_owned(), ledger.display().to_string()]);
    replay.extend(["--duplicate", "0.2", "--out-of-order", "0.2", "--time-shift=-1h"].map(str::to_owned));
    lab.ok(&replay)?;
    lab.ingest()?;
    let audit = lab.json(&["-q", "audit", "--format", "json", "--ledger", &ledger.display().to_string()])?;
    ensure!(audit["compared"]["readings"] == 200, "{audit}");
    // A mapping that takes the record's own time has none here.
    let mapping = files.batches.with_file_name("own-time.toml");
    std::fs::write(
        &mapping,
        BATCHES.replace("recorded_timestamp = { from = \"each.at\", format = \"s\" }\n", ""),
    )?;
    let refused = lab.run(&words("import --dry-run", &mapping.display().to_string(), &files.batches))?;
    ensure!(refused.code != Some(0) && refused.stderr.contains("no time of their own"), "{refused:#?}");
    let unknown = words("-q import --dry-run --source=no-such", &files.batches_mapping, &files.batches);
    let unknown = lab.run(&unknown)?;
    ensure!(unknown.code == Some(2) && unknown.stderr.contains("batches"), "{unknown:#?}");
    Ok(())
}

fn a_changed_mapping_is_told_by_its_lines_and_a_program_without_an_end_stops_nothing() -> anyhow::Result<()> {
    let lab = Lab::new("changed")?;
    let files = files()?;
    let ingest = || lab.run(&["ingest", "--until-end", "--mapping", &files.batches_mapping]);
    lab.send(batches().into_iter().take(2).map(|text| (String::new(), text.into_bytes())))?;
    for _ in 0..2 {
        let first = ingest()?;
        ensure!(first.code == Some(0) && !first.stderr.contains("differs from the one"), "{first:#?}");
    }
    let endless = ".value.kind != \\\"hello\\\" and (.value.kind != \\\"loop\\\" or ([repeat(1)] | true))";
    let changed = BATCHES.replace(".value.kind != \\\"hello\\\"", endless);
    ensure!(changed != BATCHES);
    std::fs::write(&files.batches_mapping, &changed)?;
    let looping = json!({"kind": "loop", "site": "north", "readings": []}).to_string();
    let good = batches().swap_remove(2);
    lab.send([looping, good].map(|text| (String::new(), text.into_bytes())))?;
    let second = ingest()?;
    ensure!(second.code == Some(0) && second.stderr.contains("differs from the one"), "{second:#?}");
    ensure!(second.stderr.contains("repeat(1)") && second.stderr.contains("removed="), "{second:#?}");
    ensure!(lab.stored()? == 15);
    let letters = lab.lines("-q dead-letters list --format ndjson")?;
    ensure!(letters.len() == 1 && letters[0]["reason"] == "unmapped", "{letters:#?}");
    let error = letters[0]["error"].as_str().unwrap_or_default();
    ensure!(error.contains("stopped after 100000 steps"), "{error}");
    Ok(())
}
