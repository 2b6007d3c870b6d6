use apache_avro::types::Value as Avro;
use apache_avro::{Schema as AvroText, to_avro_datum};
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Of nearly everything that Avro has.
const READING: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "device", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "temperature", "type": ["null", "double"]},
    {"name": "ratio", "type": "float"},
    {"name": "count", "type": "int"},
    {"name": "total", "type": "long"},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "mode", "type": {"type": "enum", "name": "Mode", "symbols": ["OFF", "HEAT"]}},
    {"name": "place", "type": {"type": "record", "name": "Place", "fields": [{"name": "site", "type": "string"}]}},
    {"name": "before", "type": ["null", "Place"]},
    {"name": "values", "type": {"type": "map", "values": "double"}},
    {"name": "list", "type": {"type": "array", "items": "long"}},
    {"name": "raw", "type": {"type": "fixed", "name": "Raw", "size": 2}},
    {"name": "on", "type": "boolean"},
    {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "time", "type": {"type": "int", "logicalType": "time-millis"}},
    {"name": "id", "type": {"type": "string", "logicalType": "uuid"}}
]}"#;

fn text(kind: SchemaKind, text: &str) -> SchemaText {
    SchemaText { kind, text: text.to_owned(), references: Vec::new() }
}

fn framed(id: u32, data: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], data].concat()
}

/// What the Apache crate writes.
fn reading(temperature: Option<f64>, total: i64, list: &[i64]) -> Vec<u8> {
    let schema = AvroText::parse_str(READING).unwrap();
    let place = Avro::Record(vec![("site".to_owned(), Avro::String("north".to_owned()))]);
    let fields: Vec<(&str, Avro)> = vec![
        ("device", Avro::String("d1".to_owned())),
        ("at", Avro::TimestampMillis(1_795_600_000_123)),
        (
            "temperature",
            match temperature {
                None => Avro::Union(0, Box::new(Avro::Null)),
                Some(value) => Avro::Union(1, Box::new(Avro::Double(value))),
            },
        ),
        ("ratio", Avro::Float(0.5)),
        ("count", Avro::Int(-3)),
        ("total", Avro::Long(total)),
        ("price", Avro::Decimal((-1234_i32).to_be_bytes().to_vec().into())),
        ("mode", Avro::Enum(1, "HEAT".to_owned())),
        ("place", place.clone()),
        ("before", Avro::Union(1, Box::new(place))),
        ("values", Avro::Map([("a.b".to_owned(), Avro::Double(f64::NAN))].into())),
        ("list", Avro::Array(list.iter().map(|value| Avro::Long(*value)).collect())),
        ("raw", Avro::Fixed(2, vec![1, 2])),
        ("on", Avro::Boolean(true)),
        ("micros", Avro::TimestampMicros(-1)),
        ("day", Avro::Date(20_783)),
        ("time", Avro::TimeMillis(3_661_500)),
        ("id", Avro::Uuid(uuid::Uuid::from_u128(7))),
    ];
    let record = Avro::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    to_avro_datum(&schema, record).unwrap()
}

fn expected(temperature: Option<f64>, total: i64, list: &[i64]) -> Value {
    json!({
        "device": "d1", "at": "2026-11-25T09:46:40.123Z", "temperature": temperature, "ratio": 0.5, "count": -3,
        "total": total, "price": -12.34, "mode": "HEAT", "place": {"site": "north"}, "before": {"site": "north"},
        "values": {"a.b": null}, "list": list, "raw": "AQI=", "on": true, "micros": "1969-12-31T23:59:59.999999Z",
        "day": "2026-11-26", "time": "01:01:01.500", "id": "00000000-0000-0000-0000-000000000007",
    })
}

fn avro(schema: &str) -> AvroSchema {
    AvroSchema::parse(schema, &[]).unwrap()
}

proptest! {
    #[test]
    fn avro_is_read_as_the_apache_crate_writes_it(
        temperature in proptest::option::of(-1e9..1e9f64), total: i64, list in proptest::collection::vec(any::<i64>(), 0..20)
    ) {
        let bytes = reading(temperature, total, &list);
        prop_assert_eq!(avro(READING).read(&bytes), Ok(expected(temperature, total, &list)));
    }

    #[test]
    fn a_payload_that_is_cut_or_longer_is_refused(cut in 0..100usize) {
        let bytes = reading(Some(1.0), 5, &[1, 2, 3]);
        let cut = cut % bytes.len();
        prop_assert!(avro(READING).read(&bytes[..cut]).is_err());
        prop_assert!(avro(READING).read(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for schema in [READING, NODE, NOTHING, VOID] {
            let _ = avro(schema).read(&bytes);
        }
        let schema = ProtobufSchema::parse(PROTO, &[]).unwrap();
        let _ = schema.read_indexed(&bytes);
    }

    #[test]
    fn any_text_is_a_schema_or_refused(schema in "[{}\"a-z:,\\[\\] ]{0,80}|(syntax|message|import|[ {};=0-9a-z\"])*") {
        for kind in [SchemaKind::Avro, SchemaKind::Protobuf] {
            let _ = Schema::compile(&text(kind, &schema));
        }
    }
}

#[test]
fn defaults_of_a_hostile_schema_end() {
    let fields: String = (2..2_000).fold(String::new(), |text, n| format!("{text}int32 f{n} = {n};"));
    let schema = format!("syntax = \"proto3\"; message M {{ repeated N n = 1; }} message N {{ {fields} }}");
    let schema = ProtobufSchema::parse(&schema, &[]).unwrap();
    // The path of the first message; then empty messages of two bytes with 1998 values each.
    let payload = |count: usize| [&[0][..], &[0x0a, 0].repeat(count)].concat();
    assert!(schema.read_indexed(&payload(40)).is_ok());
    assert_eq!(schema.read_indexed(&payload(10_000)), Err("it has far more values than bytes".to_owned()));
}

const NODE: &str = r#"{"type": "record", "name": "Node", "fields": [
    {"name": "next", "type": ["null", "Node"]}]}"#;
/// Any number of values without a byte.
const NOTHING: &str = r#"{"type": "array", "items": "null"}"#;
/// 2^40 values without a byte.
const VOID: &str = r#"{"type": "record", "name": "R0", "fields": [
    {"name": "a", "type": {"type": "record", "name": "R1", "fields": [
        {"name": "a", "type": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}},
        {"name": "b", "type": {"type": "map", "values": "null"}}]}},
    {"name": "b", "type": "R1"}]}"#;

/// A number as Avro writes it.
fn zigzag(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7F {
        bytes.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

#[test]
fn hostile_counts_lengths_and_depths_are_refused_without_memory() {
    for count in [i64::MAX, i64::MIN, i64::MIN + 1, 1 << 40] {
        let bytes = [zigzag(count), zigzag(0), zigzag(0)].concat();
        assert!(avro(NOTHING).read(&bytes).is_err(), "{count}");
        assert!(avro(r#""string""#).read(&zigzag(count)).is_err(), "{count}");
        assert!(avro(r#"["null", "int"]"#).read(&zigzag(count)).is_err(), "{count}");
    }
    let error = avro(NODE).read(&[2; 100_000]).unwrap_err();
    assert!(error.contains("deeper"), "{error}");
    assert!(avro(NODE).read(&[[2; 40].as_slice(), &[0]].concat()).is_ok());
    let error = avro(r#""long""#).read(&[0xFF; 20]).unwrap_err();
    assert!(error.contains("10 bytes"), "{error}");
    // Records of records, each without a byte.
    let mut schema = r#"{"type": "record", "name": "R0", "fields": []}"#.to_owned();
    for level in 1..40 {
        schema = format!(
            r#"{{"type": "record", "name": "R{level}", "fields": [{{"name": "a", "type": {schema}}}, {{"name": "b", "type": "R{}"}}]}}"#,
            level - 1
        );
    }
    let error = AvroSchema::parse(&schema, &[]).and_then(|schema| schema.read(&[])).unwrap_err();
    assert!(error.contains("too many values"), "{error}");
    let long = format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "{}", "type": "int"}}]}}"#,
        "a".repeat(300)
    );
    assert!(AvroSchema::parse(&long, &[]).is_err());
}

#[test]
fn types_of_other_schemas_are_found() {
    let place = r#"{"type": "record", "name": "Place", "namespace": "plant", "fields": [{"name": "site", "type": "string"}]}"#;
    let main = r#"{"type": "record", "name": "M", "namespace": "plant", "fields": [{"name": "place", "type": "Place"}]}"#;
    let schema = AvroSchema::parse(main, &[("plant.Place".to_owned(), place.to_owned())]).unwrap();
    assert_eq!(schema.read(b"\x02n"), Ok(json!({"place": {"site": "n"}})));
    assert!(AvroSchema::parse(main, &[]).is_err());
}

const PROTO: &str = r#"
    syntax = "proto3";
    package plant;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    message First { int32 unused = 1; }
    message Reading {
        enum Mode { OFF = 0; HEAT = 1; }
        message Place { string site = 1; Place within = 2; }
        string device = 1;
        google.protobuf.Timestamp at = 2;
        double temperature = 3;
        optional double humidity = 4;
        int64 total = 5;
        uint64 most = 6;
        Mode mode = 7;
        Place place = 8;
        map<string, double> more = 9;
        oneof state { string word = 10; bool on = 11; }
        repeated sint32 list = 12;
        bytes raw = 13;
        google.protobuf.DoubleValue maybe = 14;
        float ratio = 15;
    }"#;

#[test]
fn protobuf_is_read_with_its_defaults_and_well_known_types() {
    let schema = ProtobufSchema::parse(PROTO, &[]).unwrap();
    let message = schema.named(Some("Reading")).unwrap();
    let data = [
        b"\x0a\x02d1".as_slice(),                                 // device
        b"\x12\x0a\x08\x80\xd8\x99\xd8\x06\x10\xc0\xa9\x6e",      // at, in seconds and nanoseconds
        b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\x7f",              // total
        b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",          // most
        b"\x38\x01",                                              // mode
        b"\x42\x07\x0a\x01n\x12\x02\x0a\x00",                     // place
        b"\x4a\x0c\x0a\x01a\x11\x00\x00\x00\x00\x00\x00\xf0\x3f", // more
        b"\x58\x00",                                              // on
        b"\x62\x02\x01\x02",                                      // list
        b"\x72\x09\x09\x00\x00\x00\x00\x00\x00\x00\x40",          // maybe
        b"\x7d\x00\x00\xc0\x7f",                                  // ratio: not a number
    ]
    .concat();
    let expected = json!({
        "device": "d1", "at": "2025-12-24T00:00:00.001810624Z", "temperature": 0.0, "total": i64::MAX, "most": u64::MAX,
        "mode": "HEAT", "place": {"site": "n", "within": {"site": ""}}, "more": {"a": 1.0}, "on": false, "list": [-1, 1],
        "raw": "", "maybe": 2.0, "ratio": null,
    });
    let mut found = protobuf::read(&message, &data).unwrap();
    let at = found["at"].take();
    assert!(at.as_str().is_some_and(|at| at.ends_with('Z') && at.contains('T')), "{at}");
    found["at"] = expected["at"].clone();
    assert_eq!(found, expected);
    // As Confluent's Python client registers it.
    let set = ProtobufSchema::parse(PROTO, &[]).unwrap().named(Some("Reading")).unwrap().parent_file();
    let descriptor = prost_reflect::prost::Message::encode_to_vec(set.file_descriptor_proto());
    let encoded = base64::Engine::encode(&STANDARD, descriptor);
    assert!(ProtobufSchema::parse(&encoded, &[]).unwrap().named(Some("plant.Reading")).is_ok());
    // By indices: the second message, and its first inner one.
    assert_eq!(schema.read_indexed(&[b"\x02\x02".as_slice(), &data].concat()).unwrap()["device"], "d1");
    assert_eq!(schema.read_indexed(b"\x04\x02\x00\x0a\x01n"), Ok(json!({"site": "n"})));
    assert_eq!(schema.read_indexed(b"\x00"), Ok(json!({"unused": 0})));
    for wrong in [
        b"".as_slice(),
        b"\x02",
        b"\x02\x08",
        b"\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00\x08",
    ] {
        assert!(schema.read_indexed(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn hostile_protobuf_is_refused() {
    let schema = ProtobufSchema::parse(PROTO, &[]).unwrap();
    // Places in places without end, each with the length of the rest.
    let mut place = Vec::new();
    for _ in 0..400 {
        let mut outer = vec![0x12];
        prost::encoding::encode_varint(place.len() as u64, &mut outer);
        outer.extend(&place);
        place = outer;
    }
    let error = schema.read_indexed(&[b"\x04\x02\x00".as_slice(), &place].concat()).unwrap_err();
    assert!(error.contains("recursion"), "{error}");
    let deep = format!("syntax = \"proto3\"; {}{}", "message M {".repeat(5_000), "}".repeat(5_000));
    assert!(ProtobufSchema::parse(&deep, &[]).unwrap_err().contains("deeper"));
    let endless = "syntax = \"proto3\"; import \"a.proto\"; message M {}";
    assert!(ProtobufSchema::parse(endless, &[("a.proto".to_owned(), endless.to_owned())]).is_err());
}

#[test]
fn a_framed_payload_is_read_by_the_schema_of_its_id() {
    let schemas = Schemas::default();
    let avro = |schemas: &Schemas, payload: &[u8]| schemas.read(PayloadFormat::Avro, payload);
    let bytes = framed(7, &zigzag(42));
    assert!(!schemas.has(7));
    assert_eq!(avro(&schemas, &bytes), Err(Rejection::UnknownSchema { id: 7 }));
    schemas.insert(7, &text(SchemaKind::Avro, r#""long""#));
    schemas.insert(8, &text(SchemaKind::Json, "{}"));
    schemas.insert(9, &text(SchemaKind::Avro, "{"));
    schemas.insert_unknown(10);
    assert!([7, 8, 9, 10].into_iter().all(|id| schemas.has(id)));
    assert_eq!(avro(&schemas, &bytes), Ok(json!(42)));
    let reason = |payload: &[u8]| avro(&schemas, payload).unwrap_err().reason();
    assert_eq!(reason(&framed(8, b"{}")), "unusable_schema");
    assert_eq!(reason(&framed(9, &[0])), "unusable_schema");
    assert_eq!(reason(&framed(10, &[0])), "unknown_schema");
    assert_eq!(reason(&framed(7, &[])), "not_in_format");
    assert_eq!([reason(b""), reason(b"{}"), reason(&[0, 1])], ["not_in_format"; 3]);
    let json = schemas.read(PayloadFormat::JsonSchema, &framed(99, br#"{"a": 1}"#));
    assert_eq!(json, Ok(json!({"a": 1})));
}

#[test]
fn unknown_ids_are_forgotten_first_and_memory_is_bounded() {
    let schemas = Schemas::default();
    schemas.insert(1, &text(SchemaKind::Avro, r#""long""#));
    for id in 2..5_000 {
        schemas.insert_unknown(id);
    }
    assert!(schemas.has(1) && schemas.has(4_999) && !schemas.has(2));
    assert!(schemas.0.read().unwrap().len() <= MAX_SCHEMAS);
}
