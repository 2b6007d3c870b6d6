//! Several messages of one sensor and moment are one reading: what each brings is added, and of two values of one name that of the
//! later message stays, however the messages are spread over batches and runs.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::support::{Lab, message};

crate::trials!(
    metrics_and_states_of_several_messages_add_up,
    of_two_values_of_one_name_that_of_the_later_message_stays,
    tables_with_frozen_maps_are_read_and_written_as_before,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

fn parts(rests: &[&str]) -> Vec<(String, Vec<u8>)> {
    rests.iter().map(|rest| message("plant-1", 1, START, &format!(",{rest}"))).collect()
}

/// The one reading, by its row and as the newest of its sensor.
fn is(lab: &Lab, expected: &Value) -> anyhow::Result<()> {
    for arguments in ["--order asc", "--latest"] {
        let found = lab.query("thermostat", arguments)?;
        ensure!(found.len() == 1, "{arguments}: {found:#?}");
        for (name, value) in expected.as_object().context("an object")? {
            ensure!(&found[0][name] == value, "{arguments}, {name}: {:#} is not {expected:#}", found[0]);
        }
    }
    let audited = lab.json("-q audit --format json")?;
    ensure!(audited["is_sound"] == true, "{audited:#}");
    Ok(())
}

fn metrics_and_states_of_several_messages_add_up() -> anyhow::Result<()> {
    let lab = Lab::new("merged_add")?;
    lab.send(parts(&[r#""a":1"#, r#""b":2,"mode":"eco""#, r#""temperature":20.5"#, r#""fan":"on""#]))?;
    ensure!(lab.ingest()?["rows"] == 4);
    is(
        &lab,
        &json!({ "temperature": 20.5, "other_metrics": { "a": 1.0, "b": 2.0 }, "states": { "fan": "on", "mode": "eco" } }),
    )?;
    // In another run, after the others are stored and committed.
    lab.send(parts(&[r#""c":3"#, r#""a":4,"mode":"heat","humidity":50"#]))?;
    ensure!(lab.ingest()?["rows"] == 2);
    let rows = lab.query("thermostat", "--order asc")?;
    let expected = json!({ "a": 4.0, "b": 2.0, "c": 3.0 });
    ensure!(rows.len() == 1 && rows[0]["other_metrics"] == expected, "{rows:#?}");
    ensure!(rows[0]["states"] == json!({ "fan": "on", "mode": "heat" }), "{rows:#?}");
    ensure!(rows[0]["temperature"] == 20.5 && rows[0]["humidity"] == 50.0, "{rows:#?}");
    for (metric, expected) in [("a", 4.0), ("b", 2.0), ("c", 3.0)] {
        let found = lab.lines(&format!("-q extremes --metric {metric} --highest --format ndjson"))?;
        ensure!(found.len() == 1 && found[0]["value"] == expected, "{metric}: {found:#?}");
    }
    let audited = lab.json("-q audit --format json")?;
    ensure!(audited["is_sound"] == true && audited["troubles"]["different"]["readings"] == 0, "{audited:#}");
    Ok(())
}

fn of_two_values_of_one_name_that_of_the_later_message_stays() -> anyhow::Result<()> {
    let lab = Lab::new("merged_later")?;
    // Each later value is the smaller one: of two values of the same write time Cassandra keeps the greater.
    lab.send(parts(&[
        r#""temperature":5,"humidity":40,"a":2,"mode":"on""#,
        r#""temperature":4,"a":1.5"#,
        r#""temperature":3,"a":1,"mode":"off""#,
    ]))?;
    ensure!(lab.ingest()?["rows"] == 3);
    is(
        &lab,
        &json!({ "temperature": 3.0, "humidity": 40.0, "other_metrics": { "a": 1.0 }, "states": { "mode": "off" } }),
    )
}

fn tables_with_frozen_maps_are_read_and_written_as_before() -> anyhow::Result<()> {
    let lab = Lab::bare("merged_frozen")?;
    let cql = lab.ok("-q schema apply --dry-run --skip-kafka")?;
    let frozen = cql
        .replace("other_metrics map<text, double>", "other_metrics frozen<map<text, double>>")
        .replace("states map<text, text>", "states frozen<map<text, text>>");
    ensure!(frozen != cql, "the maps are not frozen now");
    lab.apply(&frozen)?;
    lab.ok("-q schema apply --skip-cassandra")?;
    lab.ok("-q schema check")?;
    lab.send(parts(&[
        r#""temperature":5,"a":2,"b":1,"mode":"on""#,
        r#""temperature":3,"a":1,"b":3,"mode":"off""#,
    ]))?;
    ensure!(lab.ingest()?["rows"] == 2);
    is(
        &lab,
        &json!({ "temperature": 3.0, "other_metrics": { "a": 1.0, "b": 3.0 }, "states": { "mode": "off" } }),
    )
}
