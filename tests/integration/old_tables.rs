//! Tables of the first version of the schema, with data in them: nothing is lost, nothing is written that would be, and
//! `schema apply` is all that it takes.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, contains, message};

crate::trials!(
    old_rows_are_read_before_and_after_the_migration_and_new_ones_have_all_digits,
    a_reading_that_is_delivered_again_after_the_migration_gets_all_its_digits,
    writing_to_tables_of_the_first_version_is_refused_with_the_remedy,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const ENERGY: f64 = 123_456_789.125;
/// The shortest decimal of the 32-bit float next to it, 123456792.
const ROUNDED: f64 = 123_456_790.0;

/// A lab with tables as the first version created them: other metrics are 32-bit floats, and there are no states.
fn first_version(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::bare(name)?;
    let cql = lab.ok("-q schema apply --dry-run --skip-kafka")?;
    let cql: String = cql
        .replace("other_metrics map<text, double>", "other_metrics frozen<map<text, float>>")
        .replace("other_metrics frozen<map<text, double>>", "other_metrics frozen<map<text, float>>")
        .lines()
        .filter(|line| {
            !line.contains("states frozen") && !line.contains("states map") && !line.contains("exact frozen")
        })
        .fold(String::new(), |cql, line| cql + line + "\n");
    lab.apply(&cql)?;
    lab.ok("-q schema apply --skip-cassandra")?;
    let group = "location, device_type";
    let names = "'plant-1', 'thermostat'";
    let sensor = "00000000-0000-0000-0000-000000000001";
    let shard = iotctl::store::writes::group_shard("plant-1", "thermostat");
    for (table, columns, values) in [
        ("sensor_groups", format!("shard, {group}"), format!("{shard}, {names}")),
        ("sensor_partitions", format!("{group}, bucket, bucket_seconds"), format!("{names}, {START}, 3600")),
        ("iot_sensors", format!("{group}, iot_sensor_id"), format!("{names}, {sensor}")),
        (
            "iot_sensor_metrics",
            format!("{group}, bucket, iot_sensor_id, recorded_timestamp, temperature, other_metrics"),
            format!("{names}, {START}, {sensor}, {START}, 21.3, {{'energy': {ENERGY}, 'co2': 415.5}}"),
        ),
    ] {
        lab.cql(&format!("INSERT INTO {{ks}}.{table} ({columns}) VALUES ({values})"))?;
    }
    lab.cql(&format!(
        "INSERT INTO {{ks}}.iot_latest ({group}, iot_sensor_id, recorded_timestamp, temperature, other_metrics) \
         VALUES ({names}, {sensor}, {START}, 21.3, {{'energy': {ENERGY}, 'co2': 415.5}}) USING TIMESTAMP {START}000"
    ))?;
    Ok(lab)
}

fn energies(lab: &Lab, arguments: &str) -> anyhow::Result<Vec<Value>> {
    Ok(lab.query("thermostat", arguments)?.iter().map(|row| row["energy"].clone()).collect())
}

fn writing_to_tables_of_the_first_version_is_refused_with_the_remedy() -> anyhow::Result<()> {
    let lab = first_version("old_writes")?;
    lab.send([message("plant-1", 2, START, r#","temperature":1"#)])?;
    let error = lab.fails(1, "-q ingest --until-end")?;
    contains(&error, &["iot_sensor_metrics is of an earlier version", "run `iotctl schema apply`"])?;
    let error = lab.fails(1, "-q rollup --no-wait")?;
    contains(&error, &["earlier version", "run `iotctl schema apply`"])?;
    let check = lab.run("-q schema check --skip-kafka")?;
    ensure!(check.code == Some(1), "{check:#?}");
    contains(&check.stdout, &["other_metrics_64", "states", "exact"])?;
    Ok(())
}

fn old_rows_are_read_before_and_after_the_migration_and_new_ones_have_all_digits() -> anyhow::Result<()> {
    let lab = first_version("old_reads")?;
    let is_unchanged = || -> anyhow::Result<()> {
        ensure!(energies(&lab, "--columns energy")? == [ROUNDED], "the old row is not read");
        ensure!(
            energies(&lab, "--latest --columns energy")? == [ROUNDED],
            "the old newest reading is not read"
        );
        let highest = lab.lines("-q extremes --metric energy --highest --format ndjson")?;
        ensure!(highest.len() == 1 && highest[0]["value"] == ROUNDED, "{highest:#?}");
        Ok(())
    };
    is_unchanged().context("before the migration")?;
    let applied = lab.ok("-q schema apply --skip-kafka")?;
    contains(&applied, &["altered"])?;
    lab.ok("-q schema check --skip-kafka")?;
    is_unchanged().context("after the migration")?;

    lab.send((0..120).map(|minute| {
        let energy = ENERGY + f64::from(minute) * 0.125;
        let rest = format!(r#","energy":{energy},"mode":"eco""#);
        message("plant-1", 1, START + i64::from(minute + 1) * 60_000, &rest)
    }))?;
    ensure!(lab.ingest()?["rows"] == 120);
    let all = energies(&lab, "--order asc --columns energy")?;
    let expected: Vec<f64> =
        std::iter::once(ROUNDED).chain((0..120).map(|minute| ENERGY + f64::from(minute) * 0.125)).collect();
    ensure!(all == expected, "{all:?}");
    let highest_value = ENERGY + 119.0 * 0.125;
    ensure!(energies(&lab, "--latest --columns energy")? == [highest_value]);
    let newest = lab.query("thermostat", "--latest")?;
    ensure!(newest.len() == 1 && newest[0]["other_metrics"].get("co2").is_none(), "{newest:#?}");
    // Once from rows, once from rollups.
    for from in ["rows", "rollups"] {
        for (flag, expected) in [("--highest", highest_value), ("--lowest", ENERGY)] {
            let rows = lab.lines(&format!("-q extremes --metric energy {flag} --format ndjson"))?;
            ensure!(rows.len() == 1 && rows[0]["value"] == expected, "{from} {flag}: {rows:#?}");
        }
        let co2 = lab.lines("-q extremes --metric co2 --highest --format ndjson")?;
        ensure!(co2.len() == 1 && co2[0]["value"] == 415.5, "{from}: {co2:#?}");
        age_marks(&lab)?;
        roll(&lab, &[])?;
    }
    Ok(())
}

fn a_reading_that_is_delivered_again_after_the_migration_gets_all_its_digits() -> anyhow::Result<()> {
    let lab = first_version("old_again")?;
    lab.send([message("plant-1", 1, START, r#","temperature":21.3,"energy":123456789.125,"co2":415.5"#)])?;
    lab.ok("-q schema apply --skip-kafka")?;
    // The row of the first version holds the message, as far as its floats can.
    let mut before = lab.json("-q audit --format json --include-uncommitted").ok();
    ensure!(lab.ingest()?["rows"] == 1);
    ensure!(energies(&lab, "--columns energy")? == [ENERGY]);
    ensure!(energies(&lab, "--latest --columns energy")? == [ENERGY]);
    let audited = lab.json("-q audit --format json")?;
    ensure!(audited["is_sound"] == true, "{audited:#} {:?}", before.take());
    let exact = lab.lines("-q extremes --metric energy --lowest --format ndjson")?;
    ensure!(exact.len() == 1 && exact[0]["value"] == ENERGY, "{exact:#?}");
    // As if the message had been stored by the first version.
    lab.cql(
        "DELETE other_metrics_64 FROM {ks}.iot_sensor_metrics WHERE location = 'plant-1' AND device_type = 'thermostat' \
         AND bucket = 1793491200000 AND iot_sensor_id = 00000000-0000-0000-0000-000000000001 \
         AND recorded_timestamp = 1793491200000",
    )?;
    ensure!(energies(&lab, "--columns energy")? == [ROUNDED]);
    let audited = lab.json("-q audit --format json")?;
    ensure!(audited["is_sound"] == true, "a rounded value of the first version is no finding: {audited:#}");
    Ok(())
}
