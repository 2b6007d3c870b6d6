//! One function for each reader of what others wrote, for the fuzz targets (`fuzz/`) and `tests/hostile.rs`. Whatever
//! the bytes are, each returns: no panic, no hang, no memory beyond a few times their own. Each says whether they made
//! sense, and holds what must be true where they did.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::Duration;

use crate::analytics::Filter;
use crate::audit::ledger::{LedgerReader, Line};
use crate::cassandra;
use crate::mapping::columns::ColumnFlags;
use crate::mapping::schemas::{SchemaKind, SchemaText};
use crate::mapping::sparkplug::Births;
use crate::mapping::{Mapping, Record, infer};
use crate::reading::decode::{self, DecodeLimits, EARLIEST};
use crate::reading::encode::Encoder;
use crate::simulation::recording::{Recording, RecordingPlan, TimeShift};
use crate::time::TimeRange;
use crate::time::{self, Zone};

/// 2025-06-15T15:06:40Z.
const NOW: i64 = 1_750_000_000_000;
const LIMITS: DecodeLimits = DecodeLimits {
    max_message_bytes: 100 << 20,
    max_future_skew: Duration::from_secs(3600),
    is_any_time: false,
};

/// A message of the topic. A reading that was decoded is encoded and decoded again to the same.
pub fn decode(bytes: &[u8]) -> bool {
    let reading = match decode::decode(bytes, &LIMITS, NOW) {
        Ok(decoded) => decoded.reading,
        Err(rejection) => {
            let text = rejection.to_string();
            assert!(text.len() < 1_000, "a refusal of {} bytes", text.len());
            return false;
        }
    };
    assert!(reading.recorded_at >= EARLIEST, "{}", reading.recorded_at);
    let mut again = Vec::new();
    Encoder::new().encode(&reading, &mut again);
    let decoded = decode::decode(&again, &LIMITS, NOW).map(|decoded| decoded.reading);
    assert_eq!(decoded.as_ref(), Ok(&reading), "{}", String::from_utf8_lossy(&again));
    true
}

/// `--where`.
pub fn filter(text: &str) -> bool {
    match Filter::parse(text, Zone::Utc, NOW) {
        Ok(filter) => !filter.columns().is_empty(),
        Err(error) => {
            let _ = error.to_string();
            false
        }
    }
}

/// `--from`, `--to` and `--last`, and the time of a CSV line.
pub fn time_range(text: &str) -> bool {
    let _ = text.parse::<TimeShift>();
    let _ = time::recorded(text);
    let mut understood = false;
    let zones = ["UTC", "Europe/Berlin", "America/St_Johns", text];
    for zone in zones.into_iter().filter_map(|name| Zone::named(name).ok()) {
        for range in [
            TimeRange::parse(Some(text), None, None, zone, NOW),
            TimeRange::parse(None, Some(text), None, zone, NOW),
            TimeRange::parse(None, None, Some(text), zone, NOW),
        ] {
            match range {
                Ok(range) => {
                    assert!(range.from < range.to);
                    let _ = (time::display(range.from), time::display(range.to));
                    understood = true;
                }
                Err(error) => drop(error.to_string()),
            }
        }
    }
    understood
}

/// A config file, and after a NUL a flag as `key=value`.
pub fn config(text: &str) -> bool {
    let (file, flag) = match text.split_once('\0') {
        Some((file, flag)) => (file, flag.split_once('=')),
        None => (text, None),
    };
    match crate::config::from_text(file, flag) {
        Ok(_) => true,
        Err(error) => {
            let _ = error.to_string();
            false
        }
    }
}

/// CQL in the manner of schema.cql.
pub fn schema(text: &str) -> bool {
    crate::store::schema::count_definitions(text).is_ok_and(|definitions| definitions > 0)
}

/// A recording, CSV or NDJSON, with lines that are no readings skipped.
pub fn recording(bytes: &[u8]) -> bool {
    let named = |pairs: &[&str]| pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>();
    // NDJSON has no columns, so that it refuses a mapping.
    let set = match bytes.trim_ascii_start().first() {
        Some(b'{') => named(&[]),
        _ => named(&["location=l", "device_type=d"]),
    };
    let Ok(flags) = ColumnFlags::parse(&[], &set, &named(&["pressure=kpa", "temperature=kelvin"])) else {
        return false;
    };
    let plan = RecordingPlan {
        rows: None,
        path: PathBuf::from("-"),
        flags,
        shift: TimeShift::None,
        skip_bad: true,
        limits: DecodeLimits { max_message_bytes: 1_000, ..LIMITS },
    };
    let Ok(mut recording) = Recording::read("fuzz".to_owned(), Box::new(Cursor::new(bytes.to_vec())), &plan)
    else {
        return false;
    };
    let (mut readings, mut line) = (0_usize, Vec::new());
    while let Ok(Some(reading)) = recording.next_reading() {
        line.clear();
        Encoder::new().encode(&reading, &mut line);
        readings += 1;
        assert!(readings <= bytes.len(), "more readings than bytes");
    }
    readings > 0
}

/// The ledger of a run.
pub fn ledger(bytes: &[u8]) -> bool {
    let mut reader = LedgerReader::new(bytes);
    let (mut entries, mut length) = (0, 0);
    while let Ok(Some((line, bytes))) = reader.next_line() {
        length += bytes;
        entries += u64::from(matches!(line, Line::Entry(_)));
    }
    assert_eq!(length, bytes.len() as u64, "not all of it was read");
    entries > 0
}

/// What arrives on a connection to Cassandra.
pub fn frames(bytes: &[u8]) -> bool {
    cassandra::read_answers(bytes) > 0
}

/// The body of a result.
pub fn rows(bytes: &[u8]) -> bool {
    cassandra::read_result(bytes) > 0
}

/// A mapping file.
pub fn mapping(text: &str) -> bool {
    match Mapping::parse("fuzz.toml", text) {
        Ok(mapping) => mapping.sources().count() > 0,
        Err(error) => {
            let _ = error.to_string();
            false
        }
    }
}

/// A mapping that takes whatever a format has, and uses neither files nor jq.
fn of_format(format: &str) -> Mapping {
    let each = match format {
        "senml" | "senml-cbor" | "json-lines" => "each",
        "line-protocol" => "each.fields",
        "csv" => "each",
        _ => "value",
    };
    let text = format!(
        "[[source]]\nformat = {format:?}\nlocation = {{ constant = \"l\" }}\ndevice_type = {{ constant = \"d\" }}\n\
         sensor = {{ constant = \"s\" }}\n[[source.fields]]\nfrom = \"{each}.**\"\n"
    );
    Mapping::parse("fuzz.toml", &text).expect("a mapping")
}

fn payload(mapping: &Mapping, key: &str, bytes: &[u8]) -> bool {
    let headers = |_: &str| None;
    let record = Record {
        topic: "fuzz",
        key: Some(key.as_bytes()),
        headers: &headers,
        timestamp: Some(NOW),
        payload: bytes,
    };
    let _ = mapping.missing(&record);
    match mapping.read(&record, &LIMITS, NOW) {
        Ok(mapped) => {
            for fault in &mapped.faults {
                assert!(fault.to_string().len() < 2_000, "a long fault");
            }
            !mapped.readings.is_empty()
        }
        Err(rejection) => {
            let text = rejection.to_string();
            assert!(text.len() < 2_000, "a refusal of {} bytes", text.len());
            false
        }
    }
}

macro_rules! formats {
    ($($(#[$about:meta])* $function:ident: $format:literal;)*) => {$(
        $(#[$about])*
        pub fn $function(bytes: &[u8]) -> bool {
            static MAPPING: std::sync::OnceLock<Mapping> = std::sync::OnceLock::new();
            payload(MAPPING.get_or_init(|| of_format($format)), "k", bytes)
        }
    )*};
}

formats! {
    /// A JSON message, by a mapping.
    mapped_json: "json";
    /// SenML.
    senml: "senml";
    /// InfluxDB's line protocol.
    line_protocol: "line-protocol";
    /// Rows in one message.
    csv: "csv";
    /// `MessagePack`.
    message_pack: "message-pack";
    /// CBOR.
    cbor: "cbor";
    /// `SenML` as CBOR.
    senml_cbor: "senml-cbor";
    /// JSON values one after another.
    json_lines: "json-lines";
}

/// Sparkplug B: a birth, and the rest of the bytes (after the length in the first two) data by it.
pub fn sparkplug(bytes: &[u8]) -> bool {
    let mapping = Mapping::load("sparkplug-b").expect("a preset");
    let (length, rest) = match bytes {
        [high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => (0, bytes),
    };
    let (birth, data) = rest.split_at(length.min(rest.len()));
    let is_born = payload(&mapping, "spBv1.0/g/NBIRTH/e", birth);
    let headers = |_: &str| None;
    let key = Some(&b"spBv1.0/g/DBIRTH/e/d"[..]);
    Births::default()
        .learn(&Record { topic: "t", key, headers: &headers, timestamp: Some(NOW), payload: birth }, 0);
    payload(&mapping, "spBv1.0/g/NDATA/e", data) || is_born
}

/// Avro by a schema of a registry: the schema (its length is in the first two bytes; of none, one of the types that there
/// are), and data by it.
pub fn avro(bytes: &[u8]) -> bool {
    const SCHEMA: &str = r#"{"type": "record", "name": "R", "fields": [
        {"name": "next", "type": ["null", "R"]}, {"name": "l", "type": {"type": "array", "items": "R"}},
        {"name": "m", "type": {"type": "map", "values": "double"}}, {"name": "n", "type": {"type": "array", "items": "null"}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 3}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "s", "type": "string"},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
        {"name": "f", "type": {"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}}]}"#;
    by_schema("avro", SchemaKind::Avro, SCHEMA, bytes)
}

/// Protobuf, in the same way.
pub fn protobuf(bytes: &[u8]) -> bool {
    const SCHEMA: &str = r#"syntax = "proto3"; import "google/protobuf/struct.proto"; import "google/protobuf/timestamp.proto";
        message R { R next = 1; repeated R l = 2; map<string, double> m = 3; repeated int32 p = 4; bytes b = 5;
        google.protobuf.Timestamp t = 6; google.protobuf.Value v = 7; enum E { A = 0; B = 1; } E e = 8; oneof o { float f = 9;
        string s = 10; } message I { uint64 x = 1; } repeated I i = 11; }"#;
    by_schema("protobuf", SchemaKind::Protobuf, SCHEMA, bytes)
}

fn by_schema(format: &str, kind: SchemaKind, known: &str, bytes: &[u8]) -> bool {
    let (length, rest) = match bytes {
        [high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => (0, bytes),
    };
    let (schema, data) = rest.split_at(length.min(rest.len()));
    let text = if length == 0 { known.to_owned() } else { String::from_utf8_lossy(schema).into_owned() };
    let mapping = of_format(format);
    mapping.schemas().insert(1, &SchemaText { kind, text, references: Vec::new() });
    payload(&mapping, "k", &[&[0, 0, 0, 0, 1], data].concat())
}

/// Messages to infer a mapping from, a line each. What is inferred is a mapping.
pub fn infer(bytes: &[u8]) -> bool {
    let sample = |line: &[u8]| infer::Sample {
        topic: "fuzz".to_owned(),
        timestamp: NOW,
        payload: line.to_vec(),
        ..infer::Sample::default()
    };
    let samples: Vec<_> = bytes.split(|byte| *byte == b'\n').take(20).map(sample).collect();
    match infer::infer(&samples, &LIMITS, NOW) {
        Ok(text) => {
            let parsed = Mapping::parse("inferred", &text);
            assert!(parsed.is_ok(), "{}\n{text}", parsed.unwrap_err());
            true
        }
        Err(_) => false,
    }
}
