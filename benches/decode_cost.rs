//! What it costs to make a reading of a message: of the built-in format, of nested JSON by benches/nested.toml, and of Avro by
//! benches/avro.toml. The same values in each. benches/decode_instructions.sh counts the instructions of it by callgrind.
//!
//!   decode_cost built-in|nested|avro COUNT

use std::hint::black_box;
use std::time::Duration;

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, to_avro_datum};
use iotctl::mapping::{Mapping, Record};
use iotctl::reading::DecodeLimits;
use iotctl::reading::decode::decode;
use mimalloc::MiMalloc;

/// As in the program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const NOW: i64 = 1_793_491_200_000;
const AT: i64 = NOW - 60_000;
const SENSOR: &str = "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0";

const LIMITS: DecodeLimits = DecodeLimits {
    max_message_bytes: 1 << 20,
    max_future_skew: Duration::from_secs(3600),
    is_any_time: false,
};

fn built_in() -> Vec<u8> {
    format!(
        r#"{{"location":"plant-3","device_type":"weather-station","iot_sensor_id":"{SENSOR}","recorded_timestamp":"2026-10-31T23:59:00.000Z","temperature":21.5,"humidity":48.2,"pressure":1013.25,"light_level":312.5,"other_metrics":{{"battery_voltage":3.31,"wind_speed":4.2}}}}"#
    )
    .into_bytes()
}

fn nested() -> Vec<u8> {
    format!(
        r#"{{"device":{{"id":"{SENSOR}","site":"plant-3","model":"weather-station"}},"time":{{"epoch":{AT}}},"data":{{"climate":{{"temp_f":70.7,"rh":48.2,"kpa":101.325}},"states":{{"battery_voltage":3.31,"wind_speed":4.2}},"light":312.5}}}}"#
    )
    .into_bytes()
}

fn avro() -> Vec<u8> {
    let schema = Schema::parse_str(include_str!("reading.avsc")).expect("a schema");
    let others = [("battery_voltage", 3.31), ("wind_speed", 4.2)];
    let others = others.map(|(name, value)| (name.to_owned(), Avro::Double(value)));
    let some = |value: f64| Avro::Union(1, Box::new(Avro::Double(value)));
    let record = Avro::Record(vec![
        ("location".to_owned(), Avro::String("plant-3".to_owned())),
        ("device_type".to_owned(), Avro::String("weather-station".to_owned())),
        ("sensor".to_owned(), Avro::String(SENSOR.to_owned())),
        ("at".to_owned(), Avro::TimestampMillis(AT)),
        ("temperature".to_owned(), some(21.5)),
        ("humidity".to_owned(), some(48.2)),
        ("pressure".to_owned(), some(1013.25)),
        ("light_level".to_owned(), some(312.5)),
        ("others".to_owned(), Avro::Map(others.into())),
    ]);
    to_avro_datum(&schema, record).expect("a record of the schema")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [kind, count] = arguments.as_slice() else { panic!("usage: decode_cost built-in|nested|avro COUNT") };
    let count: usize = count.parse().expect("a number");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
    let mapping = |name: &str| Mapping::load(&format!("{folder}/{name}.toml")).expect("a mapping");
    let (payload, mapping) = match kind.as_str() {
        "built-in" => (built_in(), None),
        "nested" => (nested(), Some(mapping("nested"))),
        _ => (avro(), Some(mapping("avro"))),
    };
    let headers = |_: &str| None;
    let record =
        Record { topic: "t", key: Some(b"k"), headers: &headers, timestamp: Some(AT), payload: &payload };
    for _ in 0..count {
        match &mapping {
            None => {
                let decoded = decode(black_box(&payload), &LIMITS, NOW).expect("a reading");
                assert_eq!(decoded.reading.recorded_at, AT);
                black_box(decoded);
            }
            Some(mapping) => {
                let mapped = mapping.read(black_box(&record), &LIMITS, NOW).expect("a reading");
                assert_eq!(mapped.readings[0].reading.recorded_at, AT);
                black_box(mapped);
            }
        }
    }
}
