//! `iotctl export`: files opened by the parquet crate hold what `query` prints, each reading once; resume and refusals.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;

use crate::support::Lab;

crate::trials![
    a_folder_holds_what_query_prints_and_goes_on_where_it_stopped,
    text_formats_and_one_file_agree,
    an_export_that_is_stopped_or_killed_goes_on_where_it_was,
];

/// A reading's (sensor, moment in ms) and its temperature.
type Readings = BTreeMap<(String, i64), Option<f64>>;

fn parquet_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(parquet_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    Ok(files)
}

/// What the files hold; a reading that stands twice is an error.
fn read(files: &[PathBuf]) -> anyhow::Result<Readings> {
    let mut readings = Readings::new();
    for path in files {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let names: Vec<_> =
            schema.root_schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        let column = |name: &str| names.iter().position(|other| other == name).context("a column is missing");
        for row in reader.get_row_iter(None)? {
            let row = row?;
            let sensor = row.get_string(column("iot_sensor_id")?)?.clone();
            let at = row.get_timestamp_millis(column("recorded_timestamp")?)?;
            let temperature = row.get_double(column("temperature")?).ok();
            ensure!(readings.insert((sensor, at), temperature).is_none(), "a reading stands twice");
        }
    }
    Ok(readings)
}

fn parse(ndjson: &str) -> anyhow::Result<Readings> {
    let mut readings = Readings::new();
    for line in ndjson.lines() {
        let reading: serde_json::Value = serde_json::from_str(line)?;
        let sensor = reading["iot_sensor_id"].as_str().context("no id")?.to_owned();
        let at = reading["recorded_timestamp"].as_str().context("no moment")?;
        let at = chrono::DateTime::parse_from_rfc3339(at)?.timestamp_millis();
        readings.insert((sensor, at), reading["temperature"].as_f64());
    }
    Ok(readings)
}

/// Stores some rounds of a small fleet, twice with two widths of bucket, so that every reading has a copy.
fn stored(name: &str) -> anyhow::Result<(Lab, Readings)> {
    let lab = Lab::new(name)?;
    lab.simulate(
        "--count 2000 --sensors 20 --locations 1 --device-types thermostat \
         --start 2026-01-31T22:30:00Z --step 1m --missing 0.2",
    )?;
    lab.ok(&["ingest", "--until-end"])?;
    let again = format!("{}_again", lab.name);
    lab.ok(&["-O", "schema.bucket=30m", "-O", &format!("kafka.group={again}"), "ingest", "--until-end"])?;
    let answer =
        lab.ok(&["query", "--location", "plant-1", "--device-type", "thermostat", "--format", "ndjson"])?;
    let expected = parse(&answer)?;
    ensure!(expected.len() == 2000, "{} readings are stored", expected.len());
    ensure!(expected.values().any(Option::is_none), "no value is missing");
    Ok((lab, expected))
}

fn a_folder_holds_what_query_prints_and_goes_on_where_it_stopped() -> anyhow::Result<()> {
    let (lab, expected) = stored("export_folder")?;
    let work = tempfile::tempdir()?;
    let folder = work.path().join("lake");
    let output = folder.to_str().context("no UTF-8")?.to_owned();
    let arguments =
        ["export", "--partition-by", "location,device_type,day", "--report", "json", "--output", &output];
    let first = lab.ok(&arguments)?;
    let report: serde_json::Value = serde_json::from_str(&first)?;
    ensure!(report["rows"] == 2000, "{report}");
    let files = parquet_files(&folder)?;
    ensure!(read(&files)? == expected, "the files differ from `query`");
    let days: Vec<_> = ["2026-01-31", "2026-02-01"]
        .map(|day| {
            folder.join(format!("location=plant-1/device_type=thermostat/day={day}/part-00000.parquet"))
        })
        .into();
    ensure!(days.iter().all(|day| day.is_file()), "{files:?}");

    // A run that was killed leaves whole files, a hidden one, and a journal without the rest.
    let kept = std::fs::metadata(&days[0])?.modified()?;
    std::fs::remove_file(&days[1])?;
    std::fs::write(days[1].with_file_name(".part-00000.parquet.tmp"), "half")?;
    let second = lab.ok(&arguments)?;
    let report: serde_json::Value = serde_json::from_str(&second)?;
    ensure!(report["rows"] == 2000 && report["rows_now"].as_u64() < Some(2000), "{report}");
    ensure!(std::fs::metadata(&days[0])?.modified()? == kept, "a finished file was written again");
    ensure!(read(&parquet_files(&folder)?)? == expected, "the resumed export differs from `query`");
    ensure!(!days[1].with_file_name(".part-00000.parquet.tmp").exists(), "a draft was left");

    let refusal = lab.fails(2, &["export", "--format", "csv", "--output", &output])?;
    ensure!(refusal.contains("--format was parquet and is csv"), "{refusal}");
    Ok(())
}

fn text_formats_and_one_file_agree() -> anyhow::Result<()> {
    let (lab, expected) = stored("export_text")?;
    let lines = lab.ok(&["export", "--format", "ndjson", "--output", "-"])?;
    ensure!(parse(&lines)? == expected, "ndjson differs from `query`");
    ensure!(lines.lines().count() == 2000, "a reading stands twice");
    let csv = lab.ok(&["export", "--format", "csv", "--from", "2026-02-01", "--output", "-"])?;
    let after = chrono::DateTime::parse_from_rfc3339("2026-02-01T00:00:00Z")?.timestamp_millis();
    let late = expected.keys().filter(|(_, at)| *at >= after).count();
    ensure!(late > 0 && csv.lines().count() == late + 1, "csv has not the {late} readings and a heading");
    let work = tempfile::tempdir()?;
    let file = work.path().join("all.parquet");
    lab.ok(&["export", "--output", file.to_str().context("no UTF-8")?])?;
    ensure!(read(&[file])? == expected, "one file differs from `query`");
    Ok(())
}

fn an_export_that_is_stopped_or_killed_goes_on_where_it_was() -> anyhow::Result<()> {
    let lab = Lab::new("export_killed")?;
    let count = 60_000;
    lab.simulate(&format!("--sensors 100 --start 2026-11-01T00:00:00Z --step 20m --count {count}"))?;
    lab.ingest()?;
    let whole = lab.ok(&["-q", "export", "--format", "ndjson", "--output", "-"])?;
    let expected = parse(&whole)?;
    ensure!(expected.len() == count, "{} readings", expected.len());
    let work = tempfile::tempdir()?;
    for signal in [nix::sys::signal::SIGKILL, nix::sys::signal::SIGINT] {
        let folder = work.path().join(signal.as_str());
        let output = folder.to_str().context("no UTF-8")?.to_owned();
        let arguments = [
            "-q",
            "export",
            "--partition-by",
            "location,device_type,day",
            "--report",
            "json",
            "--output",
            &output,
        ];
        let quiet = std::process::Stdio::null;
        let mut running = lab.command(&arguments).stdout(quiet()).stderr(quiet()).spawn()?;
        let finished = || -> anyhow::Result<usize> {
            Ok(if folder.is_dir() { parquet_files(&folder)?.len() } else { 0 })
        };
        while finished()? < 5 && running.try_wait()?.is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(running.id())?), signal)?;
        let status = running.wait()?;
        let before = finished()?;
        if signal == nix::sys::signal::SIGINT {
            ensure!(status.code() == Some(130), "{status:?}");
        }
        let report: serde_json::Value = serde_json::from_str(&lab.ok(&arguments)?)?;
        ensure!(report["rows"] == count, "{signal}: {report}");
        let now = report["rows_now"].as_u64().context("rows_now")? as usize;
        ensure!(before > 0 && now < count, "{signal}: not cut in the middle: {before} files, {report}");
        let files = parquet_files(&folder)?;
        ensure!(files.len() > before, "{signal}: {before} of {} files were there", files.len());
        ensure!(read(&files)? == expected, "{signal}: the resumed export is another");
    }
    Ok(())
}
