use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::reading::{Metric, sensor};
use crate::time;

mod shapes;

pub(super) const LIMITS: DecodeLimits = DecodeLimits {
    max_message_bytes: 1 << 20,
    max_future_skew: std::time::Duration::from_secs(3600),
    is_any_time: false,
};
/// 2026-11-26.
pub(super) const NOW: i64 = 1_795_650_000_000;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn map(mapping: &Mapping, message: &Value) -> Result<Mapped<'static>, Rejection> {
    let payload = match (&message["value"], &message["value_base64"]) {
        (_, Value::String(encoded)) => STANDARD.decode(encoded).unwrap(),
        (Value::String(text), _) => text.clone().into_bytes(),
        (other, _) => other.to_string().into_bytes(),
    };
    let header = |name: &str| message["headers"][name].as_str().map(str::to_owned);
    let record = Record {
        topic: message["topic"].as_str().unwrap_or("t"),
        key: message["key"].as_str().map(str::as_bytes),
        headers: &header,
        timestamp: Some(message["timestamp"].as_i64().unwrap_or(NOW)),
        payload: &payload,
    };
    mapping.read(&record, &LIMITS, NOW)
}

/// A reading in the form of readings.ndjson, by what identifies it.
fn shown(reading: &crate::reading::Reading<'_>) -> (String, Value) {
    let mut metrics = BTreeMap::new();
    for metric in Metric::COLUMNS {
        if let Some(value) = reading.value(&metric) {
            metrics.insert(metric.name().to_owned(), value);
        }
    }
    if let Some(moves) = reading.motion_detected {
        metrics.insert("motion_detected".to_owned(), f64::from(u8::from(moves)));
    }
    metrics.extend(reading.other_metrics.iter().map(|(name, value)| (name.to_string(), *value)));
    let states: BTreeMap<_, _> = reading.states.iter().cloned().collect();
    let name = reading.sensor_name.clone().unwrap_or_default();
    assert_eq!(reading.sensor, sensor::id(&name));
    let key =
        format!("{} {} {name} {}", reading.location, reading.device_type, time::display(reading.recorded_at));
    (key, json!({"metrics": metrics, "states": states}))
}

fn assert_same(found: &Value, expected: &Value) {
    assert_eq!(found["states"], expected["states"]);
    let (found, expected) = (found["metrics"].as_object().unwrap(), expected["metrics"].as_object().unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, value) in found {
        let (value, wanted) = (value.as_f64().unwrap(), expected[name].as_f64().unwrap());
        assert!((value - wanted).abs() <= 1e-4, "{name}: {value} and not {wanted}");
    }
}

/// Every message of a family is mapped to exactly the readings that it means.
fn family(mapping: &str, messages: &str, readings: &str) {
    let mapping = match presets::find(mapping) {
        Some(preset) => Mapping::parse(preset.name, preset.text).unwrap(),
        None => Mapping::parse("mapping.toml", mapping).unwrap(),
    };
    let mut found = Vec::new();
    for message in lines(messages) {
        let mapped = map(&mapping, &message).unwrap();
        assert_eq!(mapped.faults, []);
        found.extend(mapped.readings.iter().map(|decoded| shown(&decoded.reading)));
    }
    let expected = lines(readings);
    assert_eq!(found.len(), expected.len());
    for ((key, found), expected) in found.iter().zip(&expected) {
        let text = |name: &str| expected[name].as_str().unwrap().to_owned();
        let at = time::display(time::rfc3339(&text("recorded_timestamp")).unwrap());
        assert_eq!(*key, format!("{} {} {} {at}", text("location"), text("device_type"), text("sensor")));
        assert_same(found, expected);
    }
}

macro_rules! families {
    ($($test:ident: $folder:literal by $mapping:expr;)*) => {$(
        #[test]
        fn $test() {
            family(
                $mapping,
                include_str!(concat!("../../tests/payloads/", $folder, "/messages.ndjson")),
                include_str!(concat!("../../tests/payloads/", $folder, "/readings.ndjson")),
            );
        }
    )*};
}

/// Shapes of the field that have no preset, each with a mapping that was written by the documentation.
#[test]
fn shapes_of_the_field_are_readings_by_mappings_of_their_own() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/payloads/field"));
    let read = |name: &str, end: &str| std::fs::read_to_string(folder.join(format!("{name}.{end}"))).unwrap();
    let names = std::fs::read_dir(folder).unwrap().filter_map(|entry| {
        entry.unwrap().file_name().to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned)
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        family(&read(&name, "toml"), &read(&name, "messages.ndjson"), &read(&name, "readings.ndjson"));
    }
}

families! {
    zigbee2mqtt_messages_are_readings: "zigbee2mqtt" by "zigbee2mqtt";
    uplinks_are_readings: "ttn-v3" by "ttn-v3";
    telegraf_metrics_are_readings: "telegraf-json" by "telegraf-json";
    lines_are_readings: "line-protocol" by "line-protocol";
    packs_are_readings: "senml" by "senml";
    packs_in_cbor_are_readings: "senml-cbor" by "senml-cbor";
    tasmota_telemetry_is_readings: "tasmota" by "tasmota";
    values_and_notifications_of_shelly_are_readings: "shelly" by "shelly";
    events_of_chirpstack_are_readings: "chirpstack-v4" by "chirpstack-v4";
    telemetry_of_a_gateway_is_readings: "thingsboard-gateway" by "thingsboard-gateway";
    data_points_are_readings: "otlp-json" by "otlp-json";
    births_and_data_of_sparkplug_are_readings: "sparkplug-b" by "sparkplug-b";
    a_batch_is_readings: "gateway-batch" by include_str!("../../tests/payloads/gateway-batch/mapping.toml");
}

fn parsed(text: &str) -> Mapping {
    Mapping::parse("m.toml", text).unwrap()
}

fn refusal(text: &str) -> String {
    Mapping::parse("m.toml", text).unwrap_err().to_string()
}

const PLAIN: &str = r#"
[[source]]
location = "value.site"
device_type = { constant = "meter" }
sensor = { from = "value.mac", normalise = "hex" }
recorded_timestamp = { from = ["value.date", "value.time"], format = "%d.%m.%Y %H:%M:%S", time_zone = "Europe/Berlin" }
[source.metrics]
temperature = { from = "value.t", unit = "°F" }
voltage = { from = "value.mv", unit = "mV", to = "V" }
"#;

#[test]
fn dates_units_and_spellings_are_those_of_the_mapping() {
    let mapping = parsed(PLAIN);
    let message = |mac: &str| json!({"value": {"site": 7, "mac": mac, "date": "25.10.2026", "time": "12:00:00", "t": "50", "mv": 3300}});
    let read = |mac: &str| map(&mapping, &message(mac)).unwrap().readings.remove(0).reading;
    let reading = read("AA:BB:CC:00:11:22");
    assert_eq!((&*reading.location, reading.sensor_name.as_deref()), ("7", Some("aabbcc001122")));
    assert_eq!(time::display(reading.recorded_at), "2026-10-25T11:00:00.000Z");
    assert_eq!(reading.temperature, Some(10.0));
    assert_eq!(reading.other_metrics, [("voltage".into(), 3.3)]);
    assert_eq!(read("aa-bb-cc-00-11-22").sensor, reading.sensor);
}

#[test]
fn an_element_at_fault_leaves_the_others() {
    let mapping = parsed(include_str!("../../tests/payloads/gateway-batch/mapping.toml"));
    let message = json!({"topic": "batch", "headers": {"site": "x"}, "timestamp": NOW, "value": {"ts": NOW, "readings": [
        {"id": "a", "name": "humidity", "value": 1},
        {"name": "humidity", "value": 2},
        {"id": "b", "name": "humidity", "value": 1e300},
        {"id": "c", "name": "humidity", "value": 3},
    ]}});
    let mapped = map(&mapping, &message).unwrap();
    let names: Vec<_> = mapped.readings.iter().map(|it| it.reading.sensor_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a", "c"]);
    let faults: Vec<_> = mapped.faults.iter().map(|fault| (fault.reason(), fault.to_string())).collect();
    assert_eq!(faults.len(), 2);
    assert!(faults[0].1.starts_with("element 1 of 4: mapping: sensor: each.id is missing"), "{faults:?}");
    assert_eq!(faults[0].0, "unmapped");
    assert!(faults[1].1.starts_with("element 2 of 4:") && faults[1].0 == "number_out_of_range", "{faults:?}");
}

#[test]
fn a_late_fault_names_its_element_and_an_empty_name_is_refused() {
    let text = include_str!("../../tests/payloads/gateway-batch/mapping.toml")
        .replace("recorded_timestamp = { from = \"value.ts\"", "recorded_timestamp = { from = \"each.ts\"")
        .replace("sensor = \"each.id\"", "sensor = { from = \"each.id\", normalise = \"hex\" }");
    let reading = |id: &str, name: &str, ts: i64| json!({"id": id, "name": name, "value": 1, "ts": ts});
    let message = json!({"topic": "batch", "headers": {"site": "x"}, "value": {"readings": [
        reading("a", "humidity", NOW),
        reading("a", "pressure", NOW),
        reading("b", "humidity", 5),
        reading("--", "humidity", NOW),
    ]}});
    let mapped = map(&parsed(&text), &message).unwrap();
    assert_eq!(mapped.readings.len(), 1);
    let mut faults: Vec<_> = mapped.faults.iter().map(ToString::to_string).collect();
    faults.sort();
    assert!(faults[0].starts_with("element 2 of 4: recorded_timestamp 5 ms is before"), "{faults:?}");
    assert!(faults[1].starts_with("element 3 of 4: field sensor: a name must"), "{faults:?}");
}

#[test]
fn what_no_source_takes_is_refused_and_what_is_dropped_is_skipped() {
    let mapping = parsed(presets::find("zigbee2mqtt").unwrap().text);
    let dropped =
        map(&mapping, &json!({"key": "zigbee2mqtt/bridge/state", "value": {"state": "online"}})).unwrap();
    assert!(dropped.is_skipped && dropped.readings.is_empty());
    let error = map(&mapping, &json!({"topic": "z", "key": "tele/x/SENSOR", "value": {}})).unwrap_err();
    assert_eq!((error.reason(), error.to_string().contains("[[source]]")), ("no_source", true));
    // Of a source, but without a metric.
    let error = map(
        &parsed(PLAIN),
        &json!({"value": {"site": "a", "mac": "b", "date": "25.10.2026", "time": "12:00:00"}}),
    );
    assert!(error.unwrap_err().to_string().contains("no metric of the mapping"));
}

const MACHINE: &str = r#"
[[source]]
each = "value.values"
only_each = ".each.q"
location = { from = "each.id", pattern = '^([^.]+)' }
device_type = { constant = "plc" }
sensor = { from = "each.id", pattern = '^[^.]+\.([^.]+)' }
[[source.fields]]
name = "each.id"
value = "each.v"
name_pattern = '([^.]+)$'
rename = { "Temp" = "temperature", "Raw*" = "*.raw" }
units = { "Temp*" = "°F" }
scale = { "Temp" = 0.1, "Raw*" = 0.01 }
words = { OPEN = 1, CLOSED = 0 }
"#;

#[test]
fn names_are_cut_and_renamed_by_patterns_and_values_scaled() {
    let value = |id: &str, v: Value, q: bool| json!({"id": id, "v": v, "q": q});
    let message = json!({"value": {"values": [
        value("L1.P2.Temp", json!(680), true),
        value("L1.P2.RawFlow", json!("3"), true),
        value("L1.P2.Valve", json!("OPEN"), true),
        value("L1.P2.Mode", json!("auto"), true),
        value("L1.P2.Speed", json!(900), false),
    ]}});
    let mapping = parsed(MACHINE);
    let mapped = map(&mapping, &message).unwrap();
    assert_eq!((mapped.readings.len(), mapped.faults.len(), mapped.is_skipped), (1, 0, false));
    let (key, reading) = shown(&mapped.readings[0].reading);
    assert!(key.starts_with("L1 plc P2 "), "{key}");
    let expected =
        json!({"metrics": {"temperature": 20, "Flow.raw": 0.03, "Valve": 1}, "states": {"Mode": "auto"}});
    assert_eq!(reading["metrics"]["Flow.raw"], 0.03);
    assert_same(&reading, &expected);
    // Nothing was measured: no dead letter, and no reading either.
    let null =
        map(&mapping, &json!({"value": {"values": [value("L1.P2.Temp", json!(null), true)]}})).unwrap();
    assert_eq!((null.readings.len(), null.empty.len(), null.is_skipped), (0, 1, false));
    assert_eq!(null.empty[0].sensor_name.as_deref(), Some("P2"));
    let one = parsed(
        "[[source]]\nlocation = { constant = \"l\" }\ndevice_type = { constant = \"d\" }\nsensor = \"value.id\"\n\
         [source.metrics]\ntemperature = \"value.t\"\n[[source.fields]]\nfrom = \"value.m.*\"\n",
    );
    let null = map(&one, &json!({"value": {"id": "a", "t": null, "m": {"mode": "", "rpm": null}}})).unwrap();
    assert_eq!((null.readings.len(), null.empty.len(), null.faults.len()), (0, 1, 0));
    assert_eq!(map(&one, &json!({"value": {"id": "a"}})).unwrap_err().reason(), "unmapped");
    // All elements are left out: the message is skipped, and no dead letter.
    let none = map(&mapping, &json!({"value": {"values": [value("L1.P2.Temp", json!(1), false)]}})).unwrap();
    assert!(none.is_skipped && none.readings.is_empty() && none.faults.is_empty());
}

#[test]
fn a_way_is_explained_step_by_step() {
    let explained = |mapping: &Mapping, message: &Value| {
        let payload = message["value"].to_string();
        let record = Record {
            topic: "t",
            key: message["key"].as_str().map(str::as_bytes),
            headers: &|_: &str| None,
            timestamp: Some(NOW),
            payload: payload.as_bytes(),
        };
        let steps = mapping.explain(&record, &LIMITS, NOW);
        steps.iter().map(|step| format!("{}: {}", step.key, step.text)).collect::<Vec<_>>().join("\n")
    };
    let element = |id: &str, v: Value, q: bool| json!({"id": id, "v": v, "q": q});
    let message = json!({"value": {"values": [
        element("L1.P2.Temp", json!(680), true), element("L1.P2.Speed", json!(9), false), json!({"v": 1, "q": true})]}});
    let text = explained(&parsed(MACHINE), &message);
    for line in [
        "source 1: takes the message",
        "each: value.values has 3 elements",
        "each[0] sensor: each.id = \"L1.P2.Temp\" -> \"P2\"",
        "each[0] device_type: \"plc\" (constant)",
        "each[0] temperature: L1.P2.Temp = 680",
        "value: {\"values\":[{\"id\":",
        "each[1]: only_each does not hold: left out",
        "each[2] location: each.id is missing: mapping: location: each.id is missing",
        "result: 1 reading; dead letter: element 2 of 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let zigbee = Mapping::load("zigbee2mqtt").unwrap();
    let text = explained(&zigbee, &json!({"key": "zigbee2mqtt/bridge/state", "value": {}}));
    assert!(text.contains("source bridge: takes the message\ndrop: the message is skipped"), "{text}");
    let text = explained(&zigbee, &json!({"value": {}}));
    assert!(
        text.contains("no key, and key_pattern needs one") && text.contains("result: dead letter"),
        "{text}"
    );
}

#[test]
fn a_payload_can_be_one_value_named_by_its_key() {
    let mapping = parsed(
        "[[source]]\nformat = \"text\"\nkey_pattern = '^ha/(?<room>[^/]+)/(?<metric>[^/]+)/state$'\nlocation = { constant = \"home\" }\n\
         device_type = { constant = \"ha\" }\nsensor = \"capture.room\"\n[[source.fields]]\nname = \"capture.metric\"\n\
         value = \"value\"\nwords = { on = 1, off = 0 }\nnull = [\"unavailable\"]\n",
    );
    let read = |metric: &str, value: &str| {
        let key = format!("ha/kitchen/{metric}/state");
        shown(&map(&mapping, &json!({"key": key, "value": value})).unwrap().readings[0].reading).1
    };
    assert_same(&read("temperature", " 21.5\n"), &json!({"metrics": {"temperature": 21.5}, "states": {}}));
    assert_same(&read("door", "on"), &json!({"metrics": {"door": 1}, "states": {}}));
    assert_same(&read("mode", "eco"), &json!({"metrics": {}, "states": {"mode": "eco"}}));
}

#[test]
fn a_value_is_cut_by_a_pattern_and_scaled_before_its_unit_is_converted() {
    let text = PLAIN.replace(
        "temperature = { from = \"value.t\", unit = \"°F\" }",
        "temperature = { from = \"value.t\", pattern = '^(-?[0-9.]+)', scale = 0.1, offset = 4, unit = \"°F\" }",
    );
    let read = |t: &str| {
        let message =
            json!({"value": {"site": 7, "mac": "a", "date": "25.10.2026", "time": "12:00:00", "t": t}});
        map(&parsed(&text), &message)
    };
    let reading = read("640 dF").unwrap().readings.remove(0).reading;
    assert_eq!(reading.temperature, Some(20.0));
    let error = read("warm").unwrap_err().to_string();
    assert!(error.contains("temperature") && error.contains("does not fit the pattern"), "{error}");
}

#[test]
fn the_key_is_read_as_json_for_the_default_of_a_time_alone() {
    let mapping = parsed(
        "[[source]]\nlocation = { constant = \"l\" }\ndevice_type = { constant = \"d\" }\nsensor = \"value.id\"\n\
         recorded_timestamp = { from = \"value.at\", format = \"s\", default = \"key.at\" }\n\
         [source.metrics]\ntemperature = \"value.t\"\n",
    );
    let message = json!({"key": "{\"at\": 1795600000}", "value": {"id": "a", "t": 20.5}});
    let mapped = map(&mapping, &message).unwrap();
    assert_eq!(mapped.readings[0].reading.recorded_at, 1_795_600_000_000);
}

#[test]
fn a_topic_pattern_gives_names() {
    let mapping = parsed(
        "[[source]]\ntopic_pattern = '^plant\\.(?<site>[^.]+)$'\nlocation = \"capture.site\"\n\
         device_type = { constant = \"d\" }\nsensor = { from = [\"key.line\", \"each-name\"], join = \"-\" }\neach = \"value\"\n\
         [source.metrics]\ntemperature = \"each\"\n",
    );
    let message = json!({"topic": "plant.north", "key": "{\"line\": 4}", "timestamp": 1_795_600_000_000i64, "value": {"p1": 20.5, "p2": 21}});
    let mapped = map(&mapping, &message).unwrap();
    let names: Vec<_> = mapped
        .readings
        .iter()
        .map(|it| (&*it.reading.location, it.reading.sensor_name.clone().unwrap(), it.reading.temperature))
        .map(|(location, name, value)| format!("{location} {name} {value:?}"))
        .collect();
    assert_eq!(names, ["north 4-p1 Some(20.5)", "north 4-p2 Some(21.0)"]);
    assert!(map(&mapping, &json!({"topic": "plant", "value": {}})).is_err());
}

#[test]
fn a_wrong_file_is_refused_with_line_key_and_remedy() {
    let with = |line: &str| PLAIN.replacen("[[source]]", &format!("[[source]]\n{line}"), 1);
    for (text, words) in [
        (String::new(), vec!["missing field `source`"]),
        (with("topic = \"x\""), vec!["line 3", "unknown field `topic`", "topics"]),
        (with("each = \"values\""), vec!["line 3", "is no root", "value.temperature"]),
        (with("format = \"xml\""), vec!["line 3", "line-protocol"]),
        (with("key_pattern = '('"), vec!["line 3", "regular expression"]),
        (with("only = '.a |'"), vec!["line 3", "only", "jq", "a term is missing at the end"]),
        (with("topics = [\"a\"]\ntransform = '[.value'"), vec!["line 4", "transform", "[ is not closed"]),
        (PLAIN.replace("Europe/Berlin", "Europe/Berlim"), vec!["line 6", "Europe/Berlin"]),
        (PLAIN.replace("Europe/Berlin", "UTC+1"), vec!["line 6", "Etc/GMT-1"]),
        (PLAIN.replace("°F", "psi"), vec!["line 8", "metrics.temperature", "fahrenheit"]),
        (PLAIN.replace("value.t\"", "each.t\""), vec!["line 8", "metrics.temperature: each.t needs each"]),
        (PLAIN.replace("value.site", "capture.site"), vec!["line 3", "location: neither", "(?<site>…)"]),
        (
            format!("{PLAIN}[[source.fields]]\nfrom = \"value.*\"\n[[source.fields]]\nfrom = \"each.*\"\n"),
            vec!["line 12", "fields[1]: each.* needs each"],
        ),
        (PLAIN.replace(", to = \"V\"", ""), vec!["metrics.voltage", "to ="]),
        (PLAIN.replace("%d.%m.%Y %H:%M:%S", "german"), vec!["rfc3339", "line 6"]),
        (PLAIN.replace("location = \"value.site\"\n", ""), vec!["line 2", "location is missing"]),
        (PLAIN.replace("value.site", "value.*"), vec!["location", "wildcard"]),
        (PLAIN.split("[source.metrics]").next().unwrap().to_owned(), vec!["no metrics", "[source.metrics]"]),
        (format!("{PLAIN}\n[[source.fields]]\nfrom = \"value.data\"\n"), vec!["fields", ".**"]),
        (with("only_each = '.each.q'"), vec!["line 3", "only_each: needs each"]),
        (PLAIN.replace("unit = \"°F\"", "scale = 0"), vec!["metrics.temperature", "scale not 0"]),
        (
            format!("{PLAIN}\n[[source.fields]]\nfrom = \"value.*\"\nrename = {{ a = \"*.x\" }}\n"),
            vec!["rename", "one *"],
        ),
    ] {
        let error = refusal(&text);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert!(error.starts_with("mapping m.toml: "), "{error}");
    }
}

#[test]
fn every_preset_is_a_mapping() {
    for preset in presets::ALL {
        let mapping = Mapping::load(preset.name).unwrap();
        assert!(mapping.sources().count() > 0 && mapping.fingerprint.len() == 12, "{}", preset.name);
    }
    assert!(Mapping::load("no-such-preset").unwrap_err().to_string().contains("ttn-v3"));
    assert_ne!(Mapping::load("senml").unwrap().fingerprint, Mapping::load("ttn-v3").unwrap().fingerprint);
}

/// Messages as the makers document them; the values are made up.
#[test]
fn presets_read_what_the_field_sends() {
    let at = 1_795_600_000_000i64;
    for (preset, message, key, found) in [
        (
            "tasmota",
            json!({"key": "tele/plug-1/SENSOR", "value": {"Time": "2026-11-25T09:46:40", "AM2301": {"Temperature": 21.3, "Humidity": 40}, "TempUnit": "C"}}),
            "home tasmota plug-1",
            json!({"metrics": {"AM2301.Humidity": 40, "AM2301.Temperature": 21.3}, "states": {}}),
        ),
        (
            "shelly",
            json!({"value": {"src": "shellyhtg3-84fce63ad204", "dst": "x", "method": "NotifyFullStatus", "params": {
                "ts": 1_795_600_000.25, "temperature:0": {"id": 0, "tC": 22.1, "tF": 71.8}, "humidity:0": {"id": 0, "rh": 45.2},
                "devicepower:0": {"id": 0, "battery": {"V": 5.1, "percent": 90}}, "sys": {"uptime": 3}}}}),
            "home shellyhtg3 shellyhtg3-84fce63ad204",
            json!({"metrics": {"temperature": 22.1, "humidity": 45.2, "devicepower:0.battery.V": 5.1, "devicepower:0.battery.percent": 90}, "states": {}}),
        ),
        (
            "chirpstack-v4",
            json!({"value": {"time": "2026-11-25T09:46:40.123456+00:00", "deviceInfo": {"applicationName": "vineyard",
                "deviceProfileName": "soil-probe", "devEui": "0101010101010101"}, "fPort": 2, "object": {"temperature": 9.5, "soil": {"vwc": 31}},
                "rxInfo": [{"rssi": -60, "snr": 9.75}]}}),
            "vineyard soil-probe 0101010101010101",
            json!({"metrics": {"temperature": 9.5, "soil.vwc": 31, "rssi": -60, "snr": 9.75}, "states": {}}),
        ),
        (
            "thingsboard-gateway",
            json!({"value": {"Device A": [{"ts": at, "values": {"temperature": 42, "mode": "eco"}}]}}),
            "gateway device Device A",
            json!({"metrics": {"temperature": 42}, "states": {"mode": "eco"}}),
        ),
        (
            "otlp-json",
            json!({"value": {"resourceMetrics": [{"resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "gw"}}, {"key": "host.name", "value": {"stringValue": "h1"}}]},
                "scopeMetrics": [{"metrics": [{"name": "cpu.temp", "unit": "Cel", "gauge": {"dataPoints": [
                {"timeUnixNano": "1795600000500000000", "asDouble": 51.5}]}}]}]}]}}),
            "unknown gw h1",
            json!({"metrics": {"cpu.temp": 51.5}, "states": {}}),
        ),
        (
            "telegraf-json",
            json!({"value": {"metrics": [{"fields": {"x": 1}, "name": "n", "tags": {"host": "h"}, "timestamp": 1_795_600_000}]}}),
            "unknown n h",
            json!({"metrics": {"x": 1}, "states": {}}),
        ),
    ] {
        let mapping = Mapping::load(preset).unwrap();
        let mapped = map(&mapping, &message).unwrap();
        assert_eq!((mapped.readings.len(), mapped.faults.len()), (1, 0), "{preset}");
        let (identity, reading) = shown(&mapped.readings[0].reading);
        assert!(identity.starts_with(key), "{preset}: {identity}");
        assert_same(&reading, &found);
    }
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec![
            "bn",
            "n",
            "u",
            "t",
            "v",
            "vb",
            "vs",
            "bt",
            "bv",
            "value",
            "fields",
            "tags",
            "name",
            "timestamp",
            "time",
            "params",
            "ts",
            "method",
            "src",
            "object",
            "uplink_message",
            "decoded_payload",
            "end_device_ids",
            "resourceMetrics",
            "a.b",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just("2026-11-20T10:00:00Z".into()),
            Just("NotifyStatus".into()),
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            let members = prop::collection::vec((name.clone(), inner.clone()), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(Value::from),
                members.prop_map(|members| {
                    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                }),
            ]
        })
    }

    fn mappings() -> &'static [Mapping] {
        static ALL: std::sync::OnceLock<Vec<Mapping>> = std::sync::OnceLock::new();
        ALL.get_or_init(|| presets::ALL.iter().map(|it| Mapping::load(it.name).unwrap()).collect())
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_refused_with_a_short_reason(value in json(), key in ".{0,30}") {
            for mapping in mappings() {
                let message = json!({"topic": "t", "key": key, "timestamp": NOW, "value": value});
                match map(mapping, &message) {
                    Ok(mapped) => for decoded in mapped.readings {
                        prop_assert!(crate::reading::is_name(&decoded.reading.location));
                        prop_assert!(decoded.reading.sensor_name.as_deref().is_none_or(crate::reading::is_name));
                    },
                    Err(rejection) => prop_assert!(rejection.to_string().len() < 2_000, "{rejection}"),
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let headers = |_: &str| None;
            for mapping in mappings() {
                for payload in [&bytes[..], text.as_bytes()] {
                    let record = Record { topic: "t", key: None, headers: &headers, timestamp: Some(NOW), payload };
                    let _ = mapping.read(&record, &LIMITS, NOW);
                }
            }
            let _ = Mapping::parse("m", &text);
            let _ = Mapping::parse("m", &format!("[[source]]\nlocation = {text:?}\n"));
        }

        #[test]
        fn any_draft_is_a_mapping(values in prop::collection::vec(json(), 1..4), topic in ".{0,8}") {
            let sample = |value: &Value| infer::Sample {
                topic: topic.clone(),
                timestamp: NOW,
                payload: value.to_string().into_bytes(),
                ..infer::Sample::default()
            };
            let samples: Vec<_> = values.iter().map(sample).collect();
            if let Ok(text) = infer::infer(&samples, &LIMITS, NOW) {
                let parsed = Mapping::parse("draft", &text);
                prop_assert!(parsed.is_ok(), "{}\n{text}", parsed.unwrap_err());
            }
        }
    }
}

#[test]
fn a_number_is_null_only_where_the_mapping_says_so() {
    let mapping = |null: &str| {
        parsed(&format!(
            r#"
[[source]]
location = {{ constant = "l" }}
device_type = {{ constant = "d" }}
sensor = {{ constant = "s" }}
[source.metrics]
power = {{ from = "value.p", unit = "kW", to = "W", null = {null} }}
version = {{ from = "value.version", text = true, null = {null} }}
[[source.fields]]
from = "value.f.*"
text = ["code"]
null = {null}
"#
        ))
    };
    let values = |null: &str, value: Value| {
        let mapped = map(&mapping(null), &json!({"value": value})).unwrap();
        let reading =
            mapped.readings.first().map(|decoded| &decoded.reading).or(mapped.empty.first()).unwrap();
        let metrics = reading.other_metrics.iter().map(|(name, value)| (name.to_string(), json!(value)));
        let states = reading.states.iter().map(|(name, text)| (name.to_string(), json!(text)));
        Value::Object(metrics.chain(states).collect())
    };
    // Of an electric power it is a value as any other.
    let message = || json!({"p": -999, "f": {"a": -999, "b": "-999.0", "temperature": -999.0, "c": 1}});
    assert_eq!(values("[]", message()), json!({"a": -999.0, "b": -999.0, "c": 1.0, "power": -999_000.0}));
    for null in ["[-999]", "[-999.0]", "[\"-999\"]", "[\"-999.00\", \"n/a\"]"] {
        assert_eq!(values(null, message()), json!({"c": 1.0}), "{null}");
        assert_eq!(
            values(null, json!({"p": "-999.0", "f": {"a": "-9.99e2", "c": -998}})),
            json!({"c": -998.0}),
            "{null}"
        );
    }
    // Of texts, the spelling counts.
    let texts = || json!({"p": 1, "version": "-999.0", "f": {"code": "-999.0"}});
    assert_eq!(
        values("[\"-999\"]", texts()),
        json!({"code": "-999.0", "power": 1000.0, "version": "-999.0"})
    );
    assert_eq!(values("[\"-999.0\"]", texts()), json!({"power": 1000.0}));
    // Numbers that a float takes for one are two.
    let ids = json!({"p": 1, "f": {"id": "9007199254740993"}});
    assert_eq!(values("[9007199254740992]", ids)["id"], "9007199254740993");
}

#[test]
fn what_a_mapping_measured_survives_the_built_in_format() {
    let text = "[[source]]\nlocation = \"value.l\"\ndevice_type = \"value.l\"\nsensor = \"value.l\"\n[[source.fields]]\nfrom = \"value.f.*\"\n";
    let message =
        json!({"value": {"l": "a", "f": {"power": -999, "rpm": 2, "pressure": -999, "mode": "eco"}}});
    let mapped = map(&parsed(text), &message).unwrap();
    let reading = &mapped.readings[0].reading;
    let mut encoded = Vec::new();
    crate::reading::encode::Encoder::new().encode(reading, &mut encoded);
    let again = crate::reading::decode::decode(&encoded, &LIMITS, NOW).unwrap().reading;
    assert_eq!(&again, reading);
    assert_eq!((again.value(&Metric::named("power")), again.pressure), (Some(-999.0), Some(-999.0)));
}

#[test]
fn units_are_those_that_the_message_states() {
    let text = r#"
[[source]]
location = { constant = "l" }
device_type = { constant = "d" }
sensor = { constant = "s" }
[source.metrics]
temperature = { from = "value.t", unit = { from = "value.tu" } }
voltage = { from = "value.v", unit = { from = "value.vu" }, to = "V", scale = 10 }
pressure = { from = "value.p", pattern = '^(?<value>[0-9.]+) ?(?<unit>.*)$', scale = 10 }
[[source.fields]]
from = "value.f.**"
units_from = { "*.value" = "*.unit", "hum" = "hum_unit" }
rename = { "in.value" = "humidity", "*.value" = "*" }
"#;
    let mapping = parsed(text);
    let read = |value: Value| map(&mapping, &json!({"value": value}));
    let mapped = read(json!({"t": "68", "tu": " °F ", "v": 5, "vu": "mV", "p": "10 kPa",
        "f": {"in": {"value": 0.5, "unit": "/"}, "power": {"value": 5, "unit": "kW"}, "hum": 3, "hum_unit": null}}))
    .unwrap();
    let reading = &mapped.readings[0].reading;
    assert_eq!(
        (reading.temperature, reading.humidity, reading.pressure),
        (Some(20.0), Some(50.0), Some(1000.0))
    );
    // A metric without a column has no unit of its own: it is not converted.
    let others = [("power", 5.0), ("hum", 3.0), ("voltage", 0.05)].map(|(name, value)| (name.into(), value));
    let mut found = reading.other_metrics.clone();
    found.sort_by(|left, right| left.1.total_cmp(&right.1));
    let mut others = others.to_vec();
    others.sort_by(|left: &(Cow<'_, str>, f64), right| left.1.total_cmp(&right.1));
    assert_eq!(found, others);
    assert!(reading.states.is_empty(), "{:?}", reading.states);
    // Without a unit the value is in that of the column; a wrong unit is refused, unless nothing was measured.
    assert_eq!(read(json!({"t": 20})).unwrap().readings[0].reading.temperature, Some(20.0));
    assert_eq!(read(json!({"t": 20, "tu": "bar"})).unwrap_err().reason(), "unmapped");
    assert_eq!(read(json!({"t": null, "tu": "bar", "v": 1, "vu": "V"})).unwrap().readings.len(), 1);
    assert_eq!(read(json!({"f": {"temperature": {"value": null, "unit": "bar"}}})).unwrap().empty.len(), 1);
    let problem = |key: &str| {
        let text = text.replace("scale = 10 }\npressure", &format!("scale = 10, {key} }}\npressure"));
        Mapping::parse("m", &text).unwrap_err().to_string()
    };
    assert!(problem("text = true").contains("text has no unit"), "{}", problem("text = true"));
    let wild = Mapping::parse("m", &text.replace("value.tu", "value.*")).unwrap_err().to_string();
    assert!(wild.contains("no wildcard"), "{wild}");
    let pair = Mapping::parse(
        "m",
        &text.replace("from = \"value.f.**\"", "name = \"value.n\"\nvalue = \"value.f\""),
    );
    assert!(pair.unwrap_err().to_string().contains("units_from needs from"));
}
