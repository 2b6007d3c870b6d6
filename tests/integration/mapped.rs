//! Mapped topics keep the promises of the built-in format: nothing is lost when ingest is killed, older keyspaces go on, and
//! data by local schemas are stored.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use apache_avro::types::Value as Avro;
use apache_avro::{Schema, to_avro_datum};
use serde_json::json;

use crate::support::{Lab, complain, eventually};

crate::trials!(
    arrays_are_whole_after_ingest_was_killed,
    a_keyspace_from_before_mappings_is_ingested_and_upgraded,
    data_by_schema_files_are_stored,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

const ARRAYS: &str = r#"
[[source]]
each = "value.readings"
location = "value.site"
device_type = { constant = "meter" }
sensor = "each.id"
recorded_timestamp = { from = "each.at", format = "ms" }
[source.metrics]
energy = "each.v"
"#;

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<String> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// An array of ten sensors; one message of twenty has an element without a time.
fn array(number: i64) -> (String, Vec<u8>) {
    let readings: Vec<_> = (0..10)
        .map(|sensor| match (number % 20, sensor) {
            (7, 3) => json!({"id": "m-3", "v": 1}),
            _ => json!({"id": format!("m-{sensor}"), "at": START + number * 1000, "v": number * 10 + sensor}),
        })
        .collect();
    let message = json!({"site": format!("site-{}", number % 3), "readings": readings});
    (format!("k-{}", number % 16), message.to_string().into_bytes())
}

/// `IOTCTL_TEST_KILLS=20` for more than the usual three.
fn arrays_are_whole_after_ingest_was_killed() -> anyhow::Result<()> {
    const EACH: i64 = 400;
    let kills = std::env::var("IOTCTL_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3);
    let folder = tempfile::tempdir()?;
    let mut lab = Lab::new("killed")?;
    lab.set("IOTCTL_INGEST_MAPPING", &write(folder.path(), "arrays.toml", ARRAYS)?);
    // A member that was killed keeps its partitions until its session ends.
    lab.set("IOTCTL_KAFKA_PROPERTIES", "session.timeout.ms=6000");
    let mut stored = 0;
    for round in 0..kills {
        lab.send((round * EACH..(round + 1) * EACH).map(array))?;
        let mut ingest = lab.spawn("-q ingest")?;
        eventually("ingest stores rows", Duration::from_secs(90), || Ok(lab.stored()? > stored))?;
        ingest.kill()?;
        stored = lab.stored()?;
        complain(&format!(
            "  killed with {stored} of {} rows",
            (round + 1) * EACH * 10 - (round + 1) * EACH / 20
        ));
    }
    lab.send((kills * EACH..(kills + 1) * EACH).map(array))?;
    lab.ok("-q ingest --until-end")?;
    let messages = (kills + 1) * EACH;
    let (letters, readings) = (messages / 20, messages * 10 - messages / 20);
    ensure!(lab.stored()? == readings, "{} rows of {readings}", lab.stored()?);
    let audit = lab.json("-q audit --format json")?;
    ensure!(audit["is_sound"] == true && audit["compared"]["stored"] == readings, "{audit:#}");
    ensure!(audit["mapping"].as_str().is_some_and(|mapping| mapping.contains("arrays.toml")), "{audit:#}");
    // A letter may be there twice: what was not committed when ingest was killed is read again.
    let found = lab.lines("-q dead-letters list --format ndjson")?;
    let mut offsets: Vec<_> =
        found.iter().map(|letter| (letter["partition"].as_i64(), letter["offset"].as_i64())).collect();
    offsets.sort_unstable();
    offsets.dedup();
    ensure!(offsets.len() as i64 == letters, "{} letters of {letters}: {:#?}", offsets.len(), found.first());
    let is_told = |letter: &serde_json::Value| {
        letter["error"].as_str().is_some_and(|error| error.starts_with("element 3 of 10"))
    };
    ensure!(found.iter().all(is_told), "{:#?}", found.first());
    // Read once more from the start, nothing changes.
    let again = format!("{}_again", lab.name);
    lab.set("IOTCTL_KAFKA_GROUP", &again);
    lab.ok("-q ingest --until-end")?;
    ensure!(lab.stored()? == readings, "{} rows after a second time", lab.stored()?);
    Ok(())
}

fn a_keyspace_from_before_mappings_is_ingested_and_upgraded() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("before")?;
    lab.cql("DROP TABLE {ks}.iot_mappings")?;
    let mapping = write(folder.path(), "arrays.toml", ARRAYS)?;
    lab.send((0..5).map(array))?;
    let report = lab.json(&["-q", "ingest", "--until-end", "--mapping", &mapping, "--format", "json"])?;
    ensure!(report["rows"] == 50, "{report}");
    lab.ok("-q schema apply")?;
    lab.send((5..7).map(array))?;
    let report = lab.json(&["-q", "ingest", "--until-end", "--mapping", &mapping, "--format", "json"])?;
    ensure!(report["rows"] == 20 && lab.stored()? == 70, "{report}");
    let kept = || lab.witness::<(String, String)>("SELECT place, fingerprint FROM {ks}.iot_mappings");
    let before = kept()?;
    ensure!(before.len() == 1 && before[0].0 == mapping, "{before:?}");
    // The next one is another, and what differs is in the log.
    write(folder.path(), "arrays.toml", &ARRAYS.replace("energy = ", "power = "))?;
    lab.send([array(8)])?;
    let finished = lab.run(&["ingest", "--until-end", "--mapping", &mapping])?;
    let told = &finished.stderr;
    ensure!(told.contains("power = ") && told.contains("energy = "), "{finished:#?}");
    ensure!(told.contains(&before[0].1) && kept()?[0].1 != before[0].1, "{finished:#?}");
    Ok(())
}

const AVRO: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "device", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "climate", "type": {"type": "record", "name": "Climate", "fields": [
        {"name": "temperature", "type": ["null", "double"]}, {"name": "co2", "type": "long"}]}}
]}"#;

const PROTO: &str = r#"
syntax = "proto3";
package plant;
import "climate.proto";
message Unused { string a = 1; }
message Reading { string device = 1; int64 at = 2; Climate climate = 3; }
"#;

const CLIMATE: &str = r#"
syntax = "proto3";
package plant;
message Climate { optional double temperature = 1; sint64 co2 = 2; }
"#;

const BY_SCHEMAS: &str = r#"
[[source]]
name = "avro"
key_pattern = "^avro$"
format = "avro"
schema_file = "reading.avsc"
location = { constant = "hall" }
device_type = { constant = "avro" }
sensor = "value.device"
recorded_timestamp = "value.at"
[[source.fields]]
from = "value.climate.*"

[[source]]
name = "protobuf"
key_pattern = "^protobuf$"
format = "protobuf"
schema_file = "reading.proto"
message = "plant.Reading"
location = { constant = "hall" }
device_type = { constant = "protobuf" }
sensor = "value.device"
recorded_timestamp = { from = "value.at", format = "ms" }
[[source.fields]]
from = "value.climate.*"
"#;

fn avro(number: i64, temperature: Option<f64>) -> anyhow::Result<Vec<u8>> {
    let temperature = match temperature {
        None => Avro::Union(0, Box::new(Avro::Null)),
        Some(value) => Avro::Union(1, Box::new(Avro::Double(value))),
    };
    let climate = vec![("temperature".to_owned(), temperature), ("co2".to_owned(), Avro::Long(400 + number))];
    let record = Avro::Record(vec![
        ("device".to_owned(), Avro::String(format!("a-{}", number % 3))),
        ("at".to_owned(), Avro::TimestampMillis(START + number * 1000)),
        ("climate".to_owned(), Avro::Record(climate)),
    ]);
    Ok(to_avro_datum(&Schema::parse_str(AVRO)?, record)?)
}

/// The wire format, written here and not by the library that reads it.
fn protobuf(number: i64, temperature: Option<f64>) -> Vec<u8> {
    let varint = |mut number: u64| {
        let mut bytes = Vec::new();
        while number >= 128 {
            bytes.push((number % 128) as u8 | 128);
            number /= 128;
        }
        bytes.push(number as u8);
        bytes
    };
    let field = |number: u64, value: &[u8]| {
        [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    };
    let mut climate = Vec::new();
    if let Some(temperature) = temperature {
        climate.push(1 << 3 | 1);
        climate.extend(temperature.to_le_bytes());
    }
    // sint64: zigzag.
    climate.extend([varint(2 << 3), varint(((400 + number) as u64) << 1)].concat());
    let at = [varint(2 << 3), varint((START + number * 1000) as u64)].concat();
    [field(1, format!("p-{}", number % 3).as_bytes()), at, field(3, &climate)].concat()
}

fn data_by_schema_files_are_stored() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("schema_files")?;
    write(folder.path(), "reading.avsc", AVRO)?;
    write(folder.path(), "reading.proto", PROTO)?;
    write(folder.path(), "climate.proto", CLIMATE)?;
    let mapping = write(folder.path(), "mapping.toml", BY_SCHEMAS)?;
    let temperature = |number: i64| (number % 4 != 0).then_some(20.0 + number as f64);
    for number in 0..12 {
        lab.send([("avro".to_owned(), avro(number, temperature(number))?)])?;
        lab.send([("protobuf".to_owned(), protobuf(number, temperature(number)))])?;
    }
    // Cut off, and not by the schema.
    let cut = avro(0, None)?;
    lab.send([("avro".to_owned(), cut[..cut.len() - 1].to_vec()), ("protobuf".to_owned(), vec![0xff; 5])])?;
    let with = |verb: &str| {
        let mut words: Vec<String> = verb.split(' ').map(str::to_owned).collect();
        words.extend(["--mapping".to_owned(), mapping.clone(), "--format".to_owned(), "json".to_owned()]);
        words
    };
    let report = lab.json(&with("-q ingest --until-end"))?;
    ensure!(report["rows"] == 24 && report["dead_letter_reasons"]["not_in_format"] == 2, "{report}");
    for kind in ["avro", "protobuf"] {
        let name = &kind[..1];
        for number in 0..12 {
            let sensor = format!("{name}-{}", number % 3);
            let rows = lab.lines(&["-q", "query", "--sensor", &sensor, "--format", "ndjson"])?;
            // The newest is the first.
            let row = rows.iter().rev().nth((number / 3) as usize).context("a row")?;
            ensure!(rows.len() == 4 && row["location"] == "hall" && row["device_type"] == kind, "{rows:#?}");
            ensure!(row["temperature"].as_f64() == temperature(number), "{number}: {row}");
            let co2 = row["other_metrics"]["co2"].as_f64();
            ensure!(co2 == Some(400.0 + number as f64), "{number}: {row}");
        }
    }
    let audit = lab.json(&with("-q audit"))?;
    ensure!(audit["is_sound"] == true && audit["compared"]["stored"] == 24, "{audit:#}");
    Ok(())
}
