use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::mapping::tests::{LIMITS, NOW};

mod shapes;

fn sample(message: &Value) -> Sample {
    let headers = message["headers"].as_object().into_iter().flatten();
    Sample {
        topic: message["topic"].as_str().unwrap_or_default().to_owned(),
        key: message["key"].as_str().map(|key| key.as_bytes().to_vec()),
        headers: headers
            .map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned()))
            .collect(),
        timestamp: message["timestamp"].as_i64().unwrap_or(NOW),
        payload: match (&message["value"], &message["value_base64"]) {
            (_, Value::String(encoded)) => STANDARD.decode(encoded).unwrap(),
            (Value::String(text), _) => text.clone().into_bytes(),
            (other, _) => other.to_string().into_bytes(),
        },
    }
}

fn inferred(messages: &[Value]) -> (Vec<Sample>, String) {
    let samples: Vec<Sample> = messages.iter().map(sample).collect();
    let text = infer(&samples, &LIMITS, NOW).unwrap();
    (samples, text)
}

#[test]
fn messages_of_a_preset_are_recognised() {
    for family in crate::mapping::presets::ALL.map(|preset| preset.name) {
        let path = format!("{}/tests/payloads/{family}/messages.ndjson", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (_, text) = inferred(&messages);
        assert!(text.starts_with(&format!("# The preset {family}:")), "{family}: {text}");
    }
}

#[test]
fn a_draft_says_what_was_seen_and_guessed_and_reads_the_samples() {
    let at = 1_795_600_000_123_i64;
    let flat = json!({"topic": "plant", "key": "k", "value": {"deviceId": "pump-1", "site": "north", "ts": at, "t.c": 21.5, "state": {"on": true}}});
    let batch = json!({"headers": {"site": "w"}, "value": {"gw": "g", "ts": at, "readings": [
        {"id": "m-1", "name": "energy", "value": 1.5}, {"id": "m-2", "name": "valve", "value": "OPEN"}]}});
    let list = json!({"value": [{"serial": 7, "time": "2026-11-25T09:46:40", "humidity": 40}]});
    for (message, readings, words) in [
        (
            flat,
            1,
            vec![
                "topics = [\"plant\"]",
                "sensor = \"value.deviceId\"",
                "location = \"value.site\"",
                "format = \"ms\"",
                "# guessed",
                "\"deviceId\"",
            ],
        ),
        (
            batch,
            2,
            vec![
                "each = \"value.readings\"",
                "sensor = \"each.id\"",
                "name = \"each.name\"",
                "location = \"header.site\"",
                "value.ts",
            ],
        ),
        (list, 1, vec!["each = \"value\"", "sensor = \"each.serial\"", "time_zone"]),
    ] {
        let (samples, text) = inferred(&[message]);
        let mapping = Mapping::parse("draft", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mapped = mapping
            .read(&samples[0].record(), &LIMITS, NOW)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!((mapped.readings.len(), mapped.faults.len()), (readings, 0), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(text.contains("1 of 1 messages become"), "{text}");
    }
    let flat = inferred(&[json!({"value": {"id": "a", "ts": at, "t": 1}})]).1;
    assert!(flat.contains("# value.t: always there, such as 1"), "{flat}");
    let same = json!({"key": "k", "value": [{"ts": at, "rpm": 1}, {"ts": at, "rpm": 2}]});
    let same = inferred(&[same]).1;
    assert!(same.contains("1 value is replaced by others of the same name"), "{same}");
    assert!(infer(&[], &LIMITS, NOW).is_err());
    let noise = Sample { payload: b"\xff\xfe".to_vec(), ..Sample::default() };
    assert!(infer(&[noise], &LIMITS, NOW).is_err());
}

/// Messages of the field that no preset reads: what the draft must have understood, and the readings that it makes.
#[test]
fn the_shapes_of_the_field_are_understood() {
    let at = 1_795_600_000_123_i64;
    for (shape, messages, readings, words) in [
        (
            "tags of a machine",
            vec![
                json!({"value": {"timestamp": at, "values": [{"id": "L1.P2.T", "v": 71.5, "q": true, "t": at}, {"id": "L2.O1.T", "v": 180, "q": true, "t": at}]}}),
            ],
            2,
            vec!["each = \"value.values\"", "sensor = \"each.id\"", "{ from = \"each.t\", format = \"ms\" }"],
        ),
        (
            "an observation",
            vec![
                json!({"value": {"phenomenonTime": "2026-11-25T10:00:00.000Z", "resultTime": "2026-11-25T10:00:09Z", "result": 21.5,
                "Datastream": {"@iot.id": 12, "name": "Air temp", "Thing": {"name": "Roof"}}}}),
            ],
            1,
            vec!["recorded_timestamp = \"value.phenomenonTime\""],
        ),
        (
            "an object for each metric",
            vec![
                json!({"value": {"data": [{"id": "Room1", "type": "Room", "temperature": {"type": "Number", "value": 23}, "pressure": {"type": "Number", "value": 720}}]}}),
            ],
            1,
            vec!["each = \"value.data\"", "rename = { \"*.value\" = \"*\" }", "device_type = \"each.type\""],
        ),
        (
            "readings deep in an event",
            vec![
                json!({"value": {"apiVersion": "v3", "event": {"id": "u", "deviceName": "Modbus-1", "profileName": "pm", "readings": [
                {"origin": 1_795_600_000_123_456_789_i64, "resourceName": "Current", "value": "1.25e+01"},
                {"origin": 1_795_600_000_123_456_789_i64, "resourceName": "Voltage", "value": "230"}]}}}),
            ],
            1,
            vec![
                "each = \"value.event.readings\"",
                "sensor = \"value.event.deviceName\"",
                "name = \"each.resourceName\"",
                "format = \"ns\"",
                "value.event.profileName",
            ],
        ),
        (
            "pairs with units",
            vec![json!({"value": {"dev_eui": "6081F9F0A1B2C3D4", "reported_at": at, "decoded": {"payload": [
                {"name": "temp", "value": "70,7", "unit": "°F"}, {"name": "batt", "value": "n/a", "unit": "V"}]}}})],
            1,
            vec![
                "each = \"value.decoded.payload\"",
                "unit = \"each.unit\"",
                "decimal_comma = true",
                "null = [\"n/a\"]",
                "temp = \"temperature\"",
                "\"value.dev_eui\"",
            ],
        ),
        (
            "properties in headers",
            vec![
                json!({"headers": {"iothub-connection-device-id": "dev-7", "iothub-enqueuedtime": "2026-11-25T10:00:00.5Z"}, "value": {"body": {"temp_f": 68}}}),
            ],
            1,
            vec!["header.iothub-connection-device-id", "recorded_timestamp = \"header.iothub-enqueuedtime\""],
        ),
        (
            "one value a message",
            vec![
                json!({"key": "solar/114180001234/ac/power", "value": "512.3"}),
                json!({"key": "solar/114180001234/ac/state", "value": "unavailable"}),
            ],
            1,
            vec!["format = \"text\"", "(?<sensor>[^/]+)", "name = \"capture.metric\"", "unavailable"],
        ),
        (
            "rows with a date and a time",
            vec![json!({"value": "M17;25.11.2026;10:15:00;21,5\nM18;25.11.2026;10:15:00;44\n"})],
            2,
            vec![
                "format = \"csv\"",
                "delimiter = \";\"",
                "decimal_comma = true",
                "%d.%m.%Y %H:%M:%S",
                "\"each.column_2\", \"each.column_3\"",
            ],
        ),
        (
            "lines with other tags",
            vec![json!({"value": "cpu,host=h1,region=eu usage=1.5,idle=3i 1795600000000000000\n"})],
            1,
            vec![
                "format = \"line-protocol\"",
                "sensor = \"each.tags.host\"",
                "location = \"each.tags.region\"",
                "from = \"each.fields.**\"",
            ],
        ),
        (
            "objects by device",
            vec![
                json!({"value": {"ts": at, "plugs": {"plug-1": {"power": 3.5, "on": true}, "plug-2": {"power": 4.5, "on": false}}}}),
            ],
            2,
            vec!["each = \"value.plugs\"", "sensor = \"each-name\"", "value.ts"],
        ),
        (
            "JSON in base64 in an envelope",
            vec![
                json!({"value": {"systemProperties": {"iothub-connection-device-id": "dev-1", "iothub-enqueuedtime": "2026-11-25T09:46:40.123Z"},
                    "body": STANDARD.encode(br#"{"temperature":21.5,"valve":"OPEN"}"#)}}),
            ],
            1,
            vec![
                "transform = ",
                "@base64d | fromjson",
                "value.body.temperature",
                "sensor = \"value.systemProperties.iothub-connection-device-id\"",
            ],
        ),
        (
            "JSON as text in an envelope",
            vec![json!({"value": {"device-id": "d1", "payload": "{\"ts\":1795600000,\"rpm\":3}"}})],
            1,
            vec!["|= (if type", "recorded_timestamp = { from = \"value.payload.ts\", format = \"s\" }"],
        ),
        (
            "messages of OPC UA",
            vec![json!({"value": {"MessageId": "1", "PublisherId": "plc-7", "Messages": [
                {"DataSetWriterId": "Press-1", "Timestamp": "2026-11-25T09:46:40Z", "Payload": {"Temperature": {"Value": 71.5}}},
                {"DataSetWriterId": "Press-2", "Timestamp": "2026-11-25T09:46:40Z", "Payload": {"Temperature": {"Value": 61.5}}}]}})],
            2,
            vec!["each = \"value.Messages\"", "sensor = \"each.DataSetWriterId\""],
        ),
        (
            "an uplink with the gateways that heard it",
            vec![json!({"value": {"dev_eui": "A840410001", "decoded": {"payload": {"temperature": 21.4}},
                "hotspots": [{"name": "odd-cat", "rssi": -99, "reported_at": at}], "reported_at": at}})],
            1,
            vec!["from = \"value.**\"", "sensor = \"value.dev_eui\""],
        ),
        (
            "JSON values in lines",
            vec![
                json!({"value": "{\"id\":\"a\",\"ts\":1795600000,\"x\":1}\n{\"id\":\"b\",\"ts\":1795600000,\"x\":1}\n"}),
            ],
            2,
            vec!["format = \"json-lines\"", "sensor = \"each.id\""],
        ),
        (
            "a packed payload",
            vec![
                json!({"key": "s-1", "value_base64": "H4sIAAAAAAACA6tWKlGyMjLUM9VRKilWsjI0tzQ1MwCBWgCdpqOnGgAAAA=="}),
            ],
            1,
            vec!["compression = \"gzip\""],
        ),
        (
            "names and sizes that tell the unit",
            vec![
                json!({"key": "ruuvi/gw/F5:11:22:33:44:55", "value": {"gw_mac": "C8:25", "ts": "1795600000", "temperature_f": 68, "pressure": 101_325}}),
            ],
            1,
            vec![
                "sensor = \"capture.sensor\"",
                "format = \"s\"",
                "temperature_f = \"°F\"",
                "\"pressure\" = \"Pa\"",
            ],
        ),
    ] {
        let (samples, text) = inferred(&messages);
        let mapping =
            Mapping::parse("draft", &text).unwrap_or_else(|error| panic!("{shape}: {error}\n{text}"));
        let mut found = 0;
        for sample in &samples {
            if let Ok(mapped) = mapping.read(&sample.record(), &LIMITS, NOW) {
                assert_eq!(mapped.faults, [], "{shape}:\n{text}");
                found += mapped.readings.len();
            }
        }
        assert_eq!(found, readings, "{shape}:\n{text}");
        for word in words {
            // Names are quoted only where they must be.
            let is_there = text.contains(word)
                || text.contains(
                    &word.replace("temp =", "\"temp\" =").replace("temperature_f =", "\"temperature_f\" ="),
                );
            assert!(is_there, "{shape}: {word} is not in\n{text}");
        }
    }
}

#[test]
fn topics_of_different_shapes_are_sources_of_their_own() {
    let (samples, text) = inferred(&[
        json!({"topic": "a", "value": {"id": "x", "ts": NOW, "rpm": 3}}),
        json!({"topic": "b", "value": {"device": "y", "time": "2026-11-25T10:00:00Z", "flow": 3}}),
        json!({"topic": "c", "value": {"device": "z", "time": "2026-11-25T10:00:00Z", "flow": 4}}),
    ]);
    assert_eq!(text.matches("[[source]]").count(), 2, "{text}");
    assert!(
        text.contains("topics = [\"b\", \"c\"]") && text.contains("3 of 3 messages become 3 readings"),
        "{text}"
    );
    assert_eq!(samples.len(), 3);
}

#[test]
fn lists_that_are_not_telemetry_by_device_are_not_taken_for_it() {
    let records = json!({"value": {"Records": [{"Dimensions": [{"Name": "dev", "Value": "d1"}], "MeasureName": "temp", "MeasureValue": "21.5"}]}});
    let (_, text) = inferred(&[records]);
    assert!(!text.contains("thingsboard") && text.contains("name = \"each.MeasureName\""), "{text}");
}

/// A draft of each must be a mapping that reads all of its samples.
fn drafted(messages: &[Value], words: &[&str]) -> Vec<Value> {
    let (samples, text) = inferred(messages);
    let mapping = Mapping::parse("the draft", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for word in words {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    let mut found = Vec::new();
    for sample in &samples {
        let mapped =
            mapping.read(&sample.record(), &LIMITS, NOW).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(mapped.faults, [], "{text}");
        for decoded in mapped.readings {
            let reading = decoded.reading;
            let other: serde_json::Map<_, _> =
                reading.other_metrics.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
            let states: serde_json::Map<_, _> =
                reading.states.iter().map(|(name, text)| (name.to_string(), json!(text))).collect();
            found.push(json!({"sensor": reading.sensor_name, "temperature": reading.temperature,
                "humidity": reading.humidity, "pressure": reading.pressure, "other": other, "states": states}));
        }
    }
    found
}

#[test]
fn one_value_each_is_named_by_the_last_part_of_the_key_at_any_depth() {
    let of = |key: &str, value: Value| json!({"key": key, "value": value});
    let esp = [of("esp/sensor/t/state", json!("23.4\n")), of("esp/status", json!("online"))];
    let found = drafted(&esp, &["format = \"text\"", "name = \"capture.metric\""]);
    assert_eq!((&found[0]["sensor"], &found[0]["temperature"]), (&json!("esp/sensor"), &json!(null)));
    assert_eq!(found[0]["other"], json!({"t": 23.4}));
    assert_eq!((&found[1]["sensor"], &found[1]["states"]), (&json!("esp"), &json!({"status": "online"})));
    let victron = [
        of("N/b8/battery/256/Dc/0/Voltage", json!({"value": 26.4})),
        of("N/b8/battery/256/Soc", json!({"value": 87})),
        of("N/b8/battery/256/Alarm", json!({"value": null})),
    ];
    let found = drafted(&victron, &["value = \"value.value\""]);
    assert_eq!(
        (&found[1]["sensor"], &found[1]["other"]),
        (&json!("N/b8/battery/256"), &json!({"Soc": 87.0}))
    );
    // Without a key that names it, and with a word for "not measured".
    let found = drafted(&[of("a//b", json!("21.5")), of("a//c", json!("nan"))], &["null = [\"nan\"]"]);
    assert_eq!(found[0]["other"], json!({"value": 21.5}));
}

#[test]
fn columns_are_found_by_the_end_of_a_nested_name_unless_several_end_so() {
    let one = json!({"value": {"id": "a", "body": {"temperature": 22.1, "Hum": {"Value": 41}}}});
    let found = drafted(&[one], &[]);
    assert_eq!((&found[0]["temperature"], &found[0]["humidity"]), (&json!(22.1_f32), &json!(41.0)));
    let two = json!({"value": {"id": "a", "in": {"temperature": 22.1}, "out": {"temperature": 3.0}}});
    let found = drafted(&[two], &[]);
    assert_eq!(found[0]["temperature"], Value::Null);
    assert_eq!(found[0]["other"], json!({"in.temperature": 22.1, "out.temperature": 3.0}));
}

#[test]
fn units_behind_numbers_and_in_headings_and_marks_for_nothing_are_understood() {
    let texts = json!({"value": {"id": "wx", "obs": {"air_temperature": "70.7 °F", "baro": "101.32 kPa", "wind": "3.4 m/s", "rain": "---"}}});
    let found = drafted(&[texts], &["(?<unit>", "null = [\"---\"]"]);
    assert_eq!((&found[0]["temperature"], &found[0]["pressure"]), (&json!(21.5), &json!(1013.2_f32)));
    assert_eq!((&found[0]["other"], &found[0]["states"]), (&json!({"obs.wind": 3.4}), &json!({})));
    // A number of things has no unit that is known, and stays what it is.
    let things = json!({"value": {"id": "a", "t": "21.5 °C", "load": "3 phases"}});
    assert_eq!(drafted(&[things], &[])[0]["states"]["load"], "3 phases");
    let csv = "Zeit;Temp [°C];Feuchte [%];Druck [kPa]\n25.11.2026 10:46:40;21,5;45,0;101,32\n25.11.2026 10:51:40;***;46;101,29\n";
    let found = drafted(&[json!({"value": csv})], &["decimal_comma", "null = [\"***\"]"]);
    assert_eq!(found.len(), 2);
    assert_eq!(
        (&found[0]["temperature"], &found[0]["humidity"], &found[0]["pressure"]),
        (&json!(21.5), &json!(45.0), &json!(1013.2_f32))
    );
    assert_eq!((&found[1]["temperature"], &found[1]["states"]), (&Value::Null, &json!({})));
}

#[test]
fn labels_stay_text_and_the_id_of_an_event_is_no_sensor() {
    let event = json!({"value": {"specversion": "1.0", "type": "meter", "source": "/sites/oslo", "subject": "meter-77", "id": "A1",
        "time": "2026-11-25T10:46:40+01:00", "data": {"kwh": 10.5, "fw_version": "1.10"}}});
    let found = drafted(&[event], &["sensor = \"value.subject\"", "text = ["]);
    assert_eq!(found[0]["other"], json!({"data.kwh": 10.5}));
    assert_eq!(found[0]["states"]["data.fw_version"], "1.10");
    // An id that is another one in each message, beside a name that is not.
    let messages: Vec<Value> = (0..12)
        .map(|n| json!({"value": {"id": format!("m-{n}"), "name": format!("pump-{}", n % 3), "x": n}}))
        .collect();
    drafted(&messages, &["sensor = \"value.name\""]);
}

#[test]
fn a_quoted_cell_may_hold_the_delimiter_and_symbols_of_units_are_measured() {
    let csv = "id,name,t\n\"a\",\"x, y\",21.5\n\"b\",\"z\",22\n";
    let found = drafted(&[json!({"value": csv})], &["format = \"csv\"", "delimiter = \",\""]);
    assert_eq!(found.len(), 2);
    let message = json!({"value": {"id": "a", "t": 21.5, "a": "%", "b": "℃", "c": "/", "d": "---"}});
    drafted(&[message], &["null = [\"---\"]"]);
}

#[test]
fn units_beside_their_values_are_taken_from_the_message() {
    let at = 1_795_600_000;
    let found = drafted(
        &[
            json!({"value": {"id": "a1", "ts": at, "temp": 68, "temp_unit": "F"}}),
            json!({"value": {"id": "a1", "ts": at + 1, "temp": 20, "temp_unit": "C"}}),
            json!({"value": {"id": "a1", "ts": at + 2, "temp": null, "temp_unit": null}}),
        ],
        &["units_from = { \"temp\" = \"temp_unit\" }"],
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    for reading in &found {
        assert_eq!(
            (&reading["temperature"], &reading["states"]["temp_unit"]),
            (&json!(20.0), &json!(null)),
            "{reading}"
        );
    }
    let found = drafted(
        &[
            json!({"value": {"id": "a1", "tempUnit": "°F", "temperature": 68, "pressure": 1.0, "uom_pressure": "bar",
            "flow": 3, "flow_unit": "furlong"}}),
        ],
        &["\"temperature\" = \"tempUnit\"", "\"pressure\" = \"uom_pressure\""],
    );
    assert_eq!((&found[0]["temperature"], &found[0]["pressure"]), (&json!(20.0), &json!(1000.0)));
    assert_eq!(found[0]["states"]["flow_unit"], "furlong", "what is not known as a unit stays a state");
    // An object for each metric.
    let found = drafted(
        &[
            json!({"value": {"deviceId": "a1", "temp": {"value": 68, "unit": "°F"}, "humidity": {"value": 40, "unit": "%"},
            "co2": {"value": 400, "unit": "ppm"}}}),
        ],
        &["units_from = { \"*.value\" = \"*.unit\" }"],
    );
    assert_eq!((&found[0]["temperature"], &found[0]["humidity"]), (&json!(20.0), &json!(40.0)));
    assert_eq!(found[0]["other"]["co2"], 400.0);
    // In elements of an array.
    let found = drafted(
        &[json!({"value": {"device": "m1", "readings": [
            {"temp": 68, "temp_unit": "F", "ts": at}, {"temp": 68, "temp_unit": "F", "ts": at + 60}]}})],
        &["each = ", "units_from"],
    );
    assert!(found.len() == 2 && found[1]["temperature"] == 20.0, "{found:#?}");
}

#[test]
fn a_sentinel_among_other_numbers_is_suggested_and_stays_a_number() {
    let message = |power: i64| json!({"value": {"id": "a1", "power": power, "level": -999}});
    let found = drafted(&[message(20), message(-999), message(-30)], &["# null = [-999]    # if it stands"]);
    assert_eq!(found[1]["other"]["power"], -999.0);
}

#[test]
fn a_value_in_an_unknown_unit_has_no_column() {
    let found = drafted(
        &[
            json!({"value": {"sn": "a1", "data": {"temp": {"value": 22_500, "unit": "mC"}, "press": {"value": 98_100, "unit": "Pa"}}}}),
        ],
        &["# data.temp.value: the unit \"mC\" is not known", "units_from = { \"data.press.value\""],
    );
    assert_eq!(
        (&found[0]["temperature"], &found[0]["other"]["data.temp.value"]),
        (&json!(null), &json!(22_500.0))
    );
    assert_eq!(found[0]["pressure"], 981.0);
    // Also where the name is that of the column.
    for message in [
        json!({"value": {"id": "a1", "temperature": 22_500, "temperature_unit": "mC"}}),
        json!({"value": {"id": "a1", "temperature": {"value": 22_500, "unit": "mC"}}}),
    ] {
        let found = drafted(&[message], &["= \"temperature_raw\""]);
        assert_eq!(
            (&found[0]["temperature"], &found[0]["other"]["temperature_raw"]),
            (&json!(null), &json!(22_500.0))
        );
    }
}

#[test]
fn families_of_the_field_that_were_read_wrongly() {
    // OPC UA's PubSub: the numbers of data types are no device types.
    let opcua = json!({"value": {"MessageId": "3", "PublisherId": "plc", "Messages": [{"DataSetWriterId": 62541,
        "Timestamp": "2026-11-25T09:46:40Z", "Payload": {"Temperature": {"Type": 11, "Body": 21.5}}}]}});
    let found = drafted(&[opcua], &["device_type = { constant"]);
    assert_eq!(found[0]["temperature"], 21.5);
    // Weather stations.
    let station = json!({"value": {"PASSKEY": "AB12", "dateutc": "2026-11-25 09:40:40", "tempf": "68", "tempinf": "71.2"}});
    assert_eq!(drafted(&[station], &["\"tempf\" = \"°F\""])[0]["temperature"], 20.0);
    let air = json!({"value": {"SensorId": "84:f3:eb", "current_temp_f": 68, "current_humidity": 38}});
    let found = drafted(&[air], &[]);
    assert_eq!((&found[0]["temperature"], &found[0]["humidity"]), (&json!(20.0), &json!(38.0)));
    // Kelvin is suggested: 284 may be the temperature of an oven.
    let weather = json!({"value": {"id": 7, "main": {"temp": 284.2, "humidity": 60}}});
    assert_eq!(drafted(&[weather], &["# units = { \"main.temp\" = \"K\" }"])[0]["temperature"], 284.2_f32);
}
