use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::mapping::Headers;

fn no_headers(_: &str) -> Option<String> {
    None
}

fn record<'a>(topic: &'a str, payload: &'a [u8], headers: &'a dyn Headers) -> Record<'a> {
    Record { topic: "plant", key: Some(topic.as_bytes()), headers, timestamp: Some(5_000), payload }
}

fn metric(name: Option<&str>, alias: Option<u64>, datatype: Option<u32>, value: Content) -> Metric {
    Metric { name: name.map(str::to_owned), alias, datatype, value: Some(value), ..Metric::default() }
}

fn message(at: u64, metrics: Vec<Metric>) -> Vec<u8> {
    Payload { timestamp: Some(at), metrics, ..Payload::default() }.encode_to_vec()
}

fn values(topic: &str, payload: &[u8], births: &Births) -> Result<Vec<(String, Value)>, &'static str> {
    let found = read(&record(topic, payload, &no_headers), births).map_err(|rejection| rejection.reason())?;
    let elements = found.unwrap_or_default();
    let pair = |element: &Value| (element["name"].as_str().unwrap().to_owned(), element["value"].clone());
    Ok(elements.as_array().into_iter().flatten().map(pair).collect())
}

fn pairs<const N: usize>(pairs: [(&str, Value); N]) -> Result<Vec<(String, Value)>, &'static str> {
    Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[test]
fn a_compressed_payload_is_read_as_the_one_in_it() {
    use std::io::Write as _;
    let inner = message(100, vec![metric(Some("t"), None, Some(9), Content::Float(20.5))]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&inner).unwrap();
    let packed = |body: Vec<u8>| {
        let algorithm = metric(Some("algorithm"), None, Some(12), Content::Text("GZIP".to_owned()));
        Payload {
            metrics: vec![algorithm],
            uuid: Some("SPBV1.0_COMPRESSED".to_owned()),
            body: Some(body),
            ..Payload::default()
        }
        .encode_to_vec()
    };
    let (topic, births) = ("spBv1.0/plant/NDATA/edge", Births::default());
    let read = values(topic, &packed(gzip.finish().unwrap()), &births);
    assert_eq!(read, pairs([("t", json!(20.5))]));
    assert_eq!(values(topic, &packed(b"nothing".to_vec()), &births), Err("not_in_format"));
}

#[test]
fn data_is_read_by_the_last_birth_that_is_not_younger() {
    let births = Births::default();
    let birth = |at, first: &str, second: &str| {
        message(
            at,
            vec![
                metric(Some(first), Some(1), Some(9), Content::Float(20.5)),
                metric(Some(second), Some(2), Some(1), Content::Int(5)),
            ],
        )
    };
    let data = |at| {
        message(
            at,
            vec![
                metric(None, Some(1), None, Content::Float(21.0)),
                metric(None, Some(2), None, Content::Int(0xFE)),
            ],
        )
    };
    let topic = "spBv1.0/plant/DDATA/edge/pump";
    assert_eq!(values(topic, &data(200), &births), Err("no_birth"));
    let born = values("spBv1.0/plant/DBIRTH/edge/pump", &birth(100, "t", "n"), &births);
    assert_eq!(born, pairs([("t", json!(20.5)), ("n", json!(5))]));
    assert_eq!(values(topic, &data(99), &births), Err("no_birth"));
    assert_eq!(values(topic, &data(100), &births), pairs([("t", json!(21.0)), ("n", json!(-2))]));
    births.learn(&record("spBv1.0/plant/DBIRTH/edge/pump", &birth(300, "n", "t"), &no_headers), 0);
    assert_eq!(values(topic, &data(299), &births), pairs([("t", json!(21.0)), ("n", json!(-2))]));
    assert_eq!(values(topic, &data(300), &births), pairs([("n", json!(21.0)), ("t", json!(-2))]));
    // Another device, the edge node itself, and another group have births of their own.
    for other in ["spBv1.0/plant/DDATA/edge/fan", "spBv1.0/plant/NDATA/edge", "spBv1.0/p2/DDATA/edge/pump"] {
        assert_eq!(values(other, &data(300), &births), Err("no_birth"), "{other}");
    }
    let unknown = message(300, vec![metric(None, Some(9), None, Content::Boolean(true))]);
    assert_eq!(values(topic, &unknown, &births), Err("no_birth"));
}

#[test]
fn names_and_types_in_the_data_need_no_birth() {
    let births = Births::default();
    let topic = "spBv1.0/plant/NDATA/edge";
    let of = |datatype, content| metric(Some("m"), None, datatype, content);
    for (datatype, content, expected) in [
        (Some(1), Content::Int(0xFFFF_FFFF), json!(-1)),
        (Some(2), Content::Int(0xFFFF), json!(-1)),
        (Some(3), Content::Int(u32::MAX), json!(-1)),
        (Some(4), Content::Long(u64::MAX), json!(-1)),
        (Some(5), Content::Int(255), json!(255)),
        (Some(6), Content::Int(65_535), json!(65_535)),
        (Some(7), Content::Long(u32::MAX.into()), json!(u32::MAX)),
        (Some(8), Content::Long(u64::MAX), json!(u64::MAX)),
        (Some(13), Content::Long(1_795_600_000_000), json!(1_795_600_000_000_u64)),
        (None, Content::Float(f32::NAN), Value::Null),
        (None, Content::Double(0.1), json!(0.1)),
        (Some(11), Content::Boolean(true), json!(true)),
        (Some(12), Content::Text("on".to_owned()), json!("on")),
        (Some(17), Content::Bytes(vec![1]), json!([])),
    ] {
        assert_eq!(
            values(topic, &message(1, vec![of(datatype, content)]), &births),
            pairs([("m", expected)])
        );
    }
    assert_eq!(values(topic, &message(1, vec![of(None, Content::Int(1))]), &births), Err("no_birth"));
    let null = Metric { is_null: Some(true), ..of(None, Content::Int(1)) };
    assert_eq!(values(topic, &message(1, vec![null]), &births), pairs([("m", Value::Null)]));
}

#[test]
fn an_element_has_the_parts_of_the_topic_and_its_own_time() {
    let historical = Metric {
        timestamp: Some(7),
        is_historical: Some(true),
        ..metric(Some("m"), None, None, Content::Double(1.0))
    };
    let payload = message(9, vec![historical, metric(Some("n"), None, None, Content::Double(2.0))]);
    // The header goes before the key.
    let header = |name: &str| (name == "mqtt.topic").then(|| "spBv1.0/g/DDATA/e/d".to_owned());
    let found = read(&record("x", &payload, &header), &Births::default()).unwrap().unwrap();
    let common = json!({"group": "g", "edge_node": "e", "device": "d", "id": "e/d", "type": "DDATA"});
    let with = |rest: Value| {
        let mut all = common.clone();
        all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        all
    };
    assert_eq!(
        found,
        json!([
            with(json!({"name": "m", "timestamp": 7, "is_historical": true, "value": 1.0})),
            with(json!({"name": "n", "timestamp": 9, "is_historical": false, "value": 2.0})),
        ])
    );
}

#[test]
fn what_holds_no_readings_is_skipped_and_other_topics_are_refused() {
    let births = Births::default();
    for topic in [
        "spBv1.0/g/NDEATH/e",
        "spBv1.0/g/DDEATH/e/d",
        "spBv1.0/g/NCMD/e",
        "spBv1.0/g/DCMD/e/d",
        "spBv1.0/STATE/host",
        "STATE/host",
    ] {
        assert_eq!(read(&record(topic, b"\xff", &no_headers), &births), Ok(None), "{topic}");
    }
    for topic in [
        "",
        "a/b",
        "spBv1.0/g/NDATA",
        "spBv1.0/g/NDATA/e/d",
        "spBv1.0/g/DDATA/e",
        "spAv1.0/g/NDATA/e",
        "spBv1.0/g/DDATA/e/d/x",
    ] {
        assert_eq!(values(topic, b"", &births), Err("not_in_format"), "{topic}");
    }
    assert_eq!(values("spBv1.0/g/NDATA/e", b"\xff", &births), Err("not_in_format"));
}

#[test]
fn births_are_found_in_any_order_and_forgotten_together() {
    let births = Births::default();
    let topic = "spBv1.0/plant/NBIRTH/edge";
    let birth = |at, name: &str| message(at, vec![metric(Some(name), Some(1), Some(9), Content::Float(1.0))]);
    let data = |at| message(at, vec![metric(None, Some(1), None, Content::Float(2.0))]);
    // The last two are equal to the first, and yet count.
    for (at, name) in [(300, "a"), (200, "b"), (100, "a"), (400, "b")] {
        births.learn(&record(topic, &birth(at, name), &no_headers), 0);
    }
    for (at, name) in [(100, "a"), (250, "b"), (300, "a"), (500, "b")] {
        let found = values("spBv1.0/plant/NDATA/edge", &data(at), &births);
        assert_eq!(found, pairs([(name, json!(2.0))]), "{at}");
    }
    let early = data(99);
    let early = record("spBv1.0/plant/NDATA/edge", &early, &no_headers);
    let needs = NeededBirth { node: "plant/edge".to_owned(), at: 99 };
    assert_eq!(needed(&early, &births), Some(needs.clone()));
    births.set_complete(1);
    assert!(!births.has(&needs), "of an earlier search");
    births.set_complete(0);
    assert_eq!(needed(&early, &births), None);
    births.forget();
    assert!(!births.has(&NeededBirth { at: 500, ..needs.clone() }));
    births.learn(&record(topic, &birth(50, "a"), &no_headers), 0);
    assert!(!births.has(&needs), "of an earlier search");
    births.learn(&record(topic, &birth(50, "a"), &no_headers), 1);
    assert!(births.has(&needs));
}

#[test]
fn only_a_replayed_message_is_read_by_a_younger_birth() {
    let births = Births::default();
    let birth = message(300, vec![metric(Some("t"), Some(1), Some(9), Content::Float(1.0))]);
    births.learn(&record("spBv1.0/plant/NBIRTH/edge", &birth, &no_headers), 0);
    let (topic, data) =
        ("spBv1.0/plant/NDATA/edge", message(100, vec![metric(None, Some(1), None, Content::Float(2.0))]));
    assert_eq!(values(topic, &data, &births), Err("no_birth"));
    let header = |name: &str| (name == REPLAYED).then(|| "no_birth".to_owned());
    let found = read(&record(topic, &data, &header), &births).unwrap().unwrap();
    assert_eq!((&found[0]["name"], &found[0]["timestamp"]), (&json!("t"), &json!(100)));
}

#[test]
fn what_controls_a_node_is_no_reading() {
    let metrics = ["bdSeq", "Node Control/Rebirth", "Device Control/x", "Temperature"]
        .map(|name| metric(Some(name), None, Some(10), Content::Double(1.0)));
    let found = values("spBv1.0/g/NBIRTH/e", &message(1, metrics.to_vec()), &Births::default());
    assert_eq!(found, pairs([("Temperature", json!(1.0))]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..2usize) {
        let births = Births::default();
        let topic = ["spBv1.0/g/NBIRTH/e", "spBv1.0/g/NDATA/e"][kind];
        let _ = values(topic, &bytes, &births);
    }
}
