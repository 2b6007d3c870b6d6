//! `iotctl import`: what was exported comes back, through Kafka and straight into Cassandra; late readings count at once;
//! bad rows are told.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, message};

crate::trials!(
    what_was_exported_comes_back_in_each_format_and_each_way,
    a_reading_imported_into_an_hour_that_is_rolled_up_counts_at_once,
    rows_that_are_wrong_are_told_and_left_out,
    a_folder_can_be_dry_run_and_what_is_missing_is_said,
);

/// All rows of a device type with all their columns, in order.
fn rows(lab: &Lab, device_type: &str) -> anyhow::Result<Vec<String>> {
    let ask = ["-q", "query", "--location", "plant-1", "--device-type", device_type, "--format", "ndjson"];
    let mut rows: Vec<_> = lab.ok(&ask)?.lines().map(str::to_owned).collect();
    rows.sort();
    Ok(rows)
}

fn report(text: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(text)?)
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path in UTF-8")
}

fn what_was_exported_comes_back_in_each_format_and_each_way() -> anyhow::Result<()> {
    let source = Lab::new("import_source")?;
    let times = "--start 2026-11-01T22:30:00Z --step 1m";
    source.simulate(&format!("--count 3000 --sensors 20 --locations 1 {times} --missing 0.2"))?;
    source.ingest()?;
    // Names that have to be quoted, and a metric of no column.
    source.send([message(
        "plant-1",
        900,
        1_793_491_200_123,
        r#","temperature":-0.25,"a \"b\", c":7.5,"motion_detected":true"#,
    )])?;
    source.ingest()?;
    let (thermostats, weather) = (rows(&source, "thermostat")?, rows(&source, "weather-station")?);
    ensure!(thermostats.len() > 100 && weather.len() > 100, "{} {}", thermostats.len(), weather.len());
    ensure!(thermostats.iter().any(|row| row.contains("7.5")), "the other metric is not there");

    let folder = tempfile::tempdir()?;
    for (format, direct) in [("parquet", true), ("parquet", false), ("csv", true), ("ndjson", false)] {
        let files = folder.path().join(format!("{format}{direct}"));
        let files = path(&files)?;
        let export = ["-q", "export", "--format", format, "--partition-by", "location,device_type,day"];
        source.ok(&[&export[..], &["--output", files]].concat())?;
        let target = Lab::new("import_target")?;
        let way: &[&str] = if direct { &["--direct"] } else { &[] };
        let imported = report(&target.ok(&[&["-q", "import", files, "--report", "json"], way].concat())?)?;
        ensure!(imported["imported"] == 3001 && imported["rejected"] == 0, "{format} {direct}: {imported}");
        if !direct {
            let ingested = target.ingest()?;
            ensure!(ingested["rows"] == 3001, "{format}: {ingested}");
        }
        ensure!(rows(&target, "thermostat")? == thermostats, "{format}, direct {direct}: other thermostats");
        ensure!(rows(&target, "weather-station")? == weather, "{format}, direct {direct}: other weather");
        // What readers find sensors by is there too.
        let sensors = |lab: &Lab| {
            lab.ok(&["-q", "sensors", "--groups", "--format", "csv"]).map(|csv| csv.lines().count())
        };
        ensure!(sensors(&target)? == sensors(&source)?, "{format}, direct {direct}: other groups");
        // Once more changes nothing.
        if direct {
            target.ok(&["-q", "import", files, "--direct"])?;
            ensure!(target.stored()? == source.stored()?, "{format}: {} rows", target.stored()?);
        }
    }
    Ok(())
}

fn a_reading_imported_into_an_hour_that_is_rolled_up_counts_at_once() -> anyhow::Result<()> {
    let lab = Lab::new("import_late")?;
    let start = 1_793_491_200_000; // 2026-11-01T00:00:00Z
    lab.send((0..180).map(|minute| message("plant-1", 1, start + minute * 60_000, r#","temperature":20"#)))?;
    lab.ingest()?;
    age_marks(&lab)?;
    let rolled = roll(&lab, &[])?;
    ensure!(rolled["hours"] == 3, "{rolled}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("late.csv");
    let sensor = uuid::Uuid::from_u128(1);
    std::fs::write(
        &file,
        format!(
            "location,device_type,iot_sensor_id,recorded_timestamp,temperature\nplant-1,thermostat,{sensor},2026-11-01T01:30:30Z,95.5\n"
        ),
    )?;
    lab.ok(&["-q", "import", "--direct", path(&file)?])?;
    let stats = [
        "-q",
        "stats",
        "--metric",
        "temperature",
        "--by",
        "hour",
        "--from",
        "2026-11-01",
        "--to",
        "2026-11-02",
    ];
    let told = lab.lines(&[&stats[..], &["--format", "ndjson"]].concat())?;
    ensure!(told.len() == 3 && told[1]["count"] == 61 && told[1]["max"] == 95.5, "{told:?}");
    ensure!(told[0]["count"] == 60 && told[2]["count"] == 60, "{told:?}");
    let raw = lab.lines(&[&stats[..], &["--raw", "--format", "ndjson"]].concat())?;
    ensure!(raw == told, "{raw:?} instead of {told:?}");
    Ok(())
}

fn rows_that_are_wrong_are_told_and_left_out() -> anyhow::Result<()> {
    let lab = Lab::new("import_wrong")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("some.csv");
    let sensor = uuid::Uuid::from_u128(5);
    let line = |moment: &str, value: &str| format!("plant-1,thermostat,{sensor},{moment},{value}\n");
    let good = line("2026-11-01T00:00:00Z", "20.5");
    let text = [
        "location,device_type,iot_sensor_id,recorded_timestamp,temperature\n".to_owned(),
        good.clone(),
        line("yesterday", "20"),
        line("2026-11-01T00:01:00Z", "warm"),
        line("2026-11-01T00:02:00Z", ""),
        "plant-1,thermostat\n".to_owned(),
    ];
    std::fs::write(&file, text.concat())?;
    let finished = lab.run(&["import", "--direct", path(&file)?, "--report", "json"])?;
    ensure!(finished.code == Some(1), "{finished:#?}");
    ensure!(finished.stderr.contains("error: 2 of 5 rows are bad"), "{finished:#?}");
    let told = report(&finished.stdout)?;
    ensure!(told["rows"] == 5 && told["imported"] == 2 && told["rejected"] == 2, "{told}");
    ensure!(told["empty_readings"] == 1, "{told}");
    for line in [3, 6] {
        ensure!(finished.stderr.contains(&format!("some.csv:{line}: ")), "line {line}: {}", finished.stderr);
    }
    ensure!(lab.stored()? == 2, "{} rows", lab.stored()?);
    // Text where a number was expected is kept as a state.
    let states: Vec<_> = lab.query("thermostat", "")?.iter().map(|row| row["states"].clone()).collect();
    ensure!(states.contains(&serde_json::json!({ "temperature": "warm" })), "{states:?}");

    let refused = lab.run(&["import", "--direct", path(&file)?, "--max-errors", "1"])?;
    ensure!(refused.code == Some(2), "{refused:#?}");
    let last = refused.stderr.lines().last().unwrap_or_default();
    ensure!(last.contains("more than 1 row is bad, the last at ") && last.contains("some.csv:6"), "{last}");
    ensure!(!last.contains("import the files again"), "another try mends nothing: {last}");
    Ok(())
}

fn a_folder_can_be_dry_run_and_what_is_missing_is_said() -> anyhow::Result<()> {
    let lab = Lab::new("import_dry")?;
    let folder = tempfile::tempdir()?;
    let group = folder.path().join("location=plant-1/device_type=thermostat");
    std::fs::create_dir_all(&group)?;
    let sensor = uuid::Uuid::from_u128(6);
    // The folders tell the location and the device type.
    let text = format!("iot_sensor_id,recorded_timestamp,temperature\n{sensor},2026-11-01T00:00:00Z,1\n");
    std::fs::write(group.join("a.csv"), text)?;
    let files = path(folder.path())?;
    let told = report(&lab.ok(&["-q", "import", "--dry-run", files, "--report", "json"])?)?;
    ensure!(told["imported"] == 1, "{told}");
    ensure!(lab.stored()? == 0, "a dry run stores");
    lab.ok(&["-q", "import", "--direct", files])?;
    ensure!(rows(&lab, "thermostat")?.len() == 1, "the folders' names were not taken");
    let missing = lab.fails(2, &["-q", "import", "/nowhere/at-all.csv"])?;
    ensure!(missing.contains("/nowhere/at-all.csv"), "{missing}");
    Ok(())
}
