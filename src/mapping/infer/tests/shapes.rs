//! Tables, arrays in parallel, arrays of arrays, units in topics of their own, and samples of which a few are something else.

use serde_json::json;

use super::*;

/// Messages, what the draft has to say, and the readings as (sensor, temperature, other metrics).
#[test]
fn each_row_of_a_table_or_of_arrays_in_parallel_is_a_reading() {
    let columns = json!({"value": {"station": "s-1", "elevation": 38.0, "hourly": {
        "time": ["2026-11-25T00:00Z", "2026-11-25T01:00Z"], "temp": [10.5, null], "wind": [3.5, 4.5]}}});
    let table = json!({"value": {"version": "V1.0.11", "fields": ["sensor_index", "last_seen", "temp", "pm"],
        "data": [[131_075, 1_795_600_000, 20.5, 3.4], [131_076, 1_795_600_000, 21.5, 3.5]]}});
    let labelled = json!({"value": {"meta": [{"name": "ts", "type": "DateTime"}, {"name": "device"}, {"name": "temp"}],
        "data": [["2026-11-25T09:00:00Z", "d1", 20.5], ["2026-11-25T09:00:00Z", "d2", 21.5]]}});
    let series = json!({"value": {"results": [{"statement_id": 0, "series": [{"tags": {"host": "h1"},
        "columns": ["time", "temp"], "values": [["2026-11-25T09:00:00Z", 20.5], ["2026-11-25T09:01:00Z", 21.5]]}]}]}});
    let own = json!({"value": [{"device": "a", "ts": [1_795_600_000, 1_795_600_060], "temp": [20.5, 21.5]},
        {"device": "b", "ts": [1_795_600_000], "temp": [22.5]}]});
    for (message, sensors, temperatures, words) in [
        (
            columns,
            vec!["s-1", "s-1"],
            vec![Some(10.5), None],
            vec!["each = \"value.hourly.rows\"", "# value.elevation"],
        ),
        (
            table,
            vec!["131075", "131076"],
            vec![Some(20.5), Some(21.5)],
            vec!["each = \"value.data\"", "each.last_seen"],
        ),
        (labelled, vec!["d1", "d2"], vec![Some(20.5), Some(21.5)], vec!["recorded_timestamp = \"each.ts\""]),
        (series, vec!["h1", "h1"], vec![Some(20.5), Some(21.5)], vec!["each = \"value.results\""]),
        (own, vec!["a", "a", "b"], vec![Some(20.5), Some(21.5), Some(22.5)], vec!["each = \"value\""]),
    ] {
        let found = drafted(&[message], &words);
        let sensor: Vec<&str> = found.iter().map(|it| it["sensor"].as_str().unwrap()).collect();
        let temperature: Vec<Option<f64>> = found.iter().map(|it| it["temperature"].as_f64()).collect();
        assert_eq!((sensor, temperature), (sensors, temperatures), "{words:?}");
    }
}

#[test]
fn readings_in_arrays_of_arrays_have_what_is_beside_their_array() {
    let message = json!({"value": {"entries": [
        {"asset": "line0", "values": [{"ts": 1_795_600_000, "temp": 20.5}, {"ts": 1_795_600_060, "temp": 21.5}]},
        {"asset": "line1", "values": []}, {"asset": "line2", "values": [{"ts": 1_795_600_000, "temp": 22.5}]}]}});
    let found = drafted(&[message], &["sensor = \"each.asset\"", "format = \"s\""]);
    let found: Vec<_> =
        found.iter().map(|it| (it["sensor"].as_str().unwrap(), it["temperature"].as_f64())).collect();
    assert_eq!(found, [("line0", Some(20.5)), ("line0", Some(21.5)), ("line2", Some(22.5))]);
    // Two names are one only where neither is lost.
    let named = json!({"value": [{"name": "n1", "points": [{"name": "temp", "value": 20.5, "time": "2026-11-25T09:00:00Z"}]}]});
    let found = drafted(&[named], &["sensor = \"each.parent.name\"", "name = \"each.name\""]);
    assert_eq!((&found[0]["sensor"], &found[0]["temperature"]), (&json!("n1"), &json!(20.5)));
}

#[test]
fn an_array_beside_what_has_columns_is_no_array_of_readings_and_what_is_left_out_is_named() {
    let uplink = json!({"value": {"EUI": "BE7A00000000152A", "gws": [{"rssi": -82, "ts": 1_795_600_000_000_i64}],
        "receivers": [{"rssi": -82, "ts": 1_795_600_000_000_i64}], "decoded": {"temp_C": 21.5}}});
    assert_eq!(drafted(&[uplink], &["decoded.temp_C"])[0]["temperature"], 21.5);
    let batch = json!({"value": {"gateway": "g", "battery": 97, "readings": [{"id": "a", "ts": 1_795_600_000, "temp": 20.5}]}});
    drafted(
        &[batch],
        &[
            "# Not stored, because it is not in value.readings:\n",
            "# value.battery: always there, such as 97",
        ],
    );
    let arrays = json!({"value": {"id": "a", "samples": [[20.5, 45], [20.6, 44]]}});
    drafted(&[arrays], &["named by its index"]);
}

#[test]
fn a_few_messages_of_another_kind_do_not_spoil_a_draft() {
    let good = (0..10)
        .map(|at| json!({"value": {"dev": format!("d{}", at % 3), "ts": 1_795_600_000 + at, "temp": 20}}));
    let mut messages: Vec<Value> = good.collect();
    messages.push(json!({"value": "hello"}));
    messages.push(json!({"value": "{\"dev\": \"d1\", \"ts\": 1795600000, \"temp\": nan}"}));
    let (_, text) = inferred(&messages);
    for words in [
        "11 of 12 messages become 10 readings",
        "1 refused",
        "Message 11 is the first",
        "sensor = \"value.dev\"",
    ] {
        assert!(text.contains(words), "no {words} in\n{text}");
    }
    // A line of many, and a message of many.
    for (line, format) in [("m,host=a x=1", "line-protocol"), ("{\"host\":\"a\",\"x\":1}", "json-lines")] {
        let mut messages = vec![json!({"value": ([line; 3].join("\n"))}); 8];
        messages.push(json!({"value": ([line, line, line, "m,", line].join("\n"))}));
        messages.push(json!({"value": "hello"}));
        let (_, text) = inferred(&messages);
        let is_known = text.contains(&format!("format = \"{format}\""))
            || text.starts_with(&format!("# The preset {format}"));
        assert!(is_known && text.contains("2 refused"), "{text}");
    }
    // An edge node's data, long after its birth.
    let births = [json!({"key": "spBv1.0/g/NDATA/e", "value_base64": "CIDI5pChNBIHEANlAACAPw=="})];
    let (_, text) = inferred(&births);
    assert!(text.starts_with("# The preset sparkplug-b") && text.contains("no birth certificate"), "{text}");
}

#[test]
fn what_counts_messages_and_what_states_a_unit_is_no_sensor() {
    let observation = |at: i64, stream: i64| json!({"value": {"phenomenonTime": "2026-11-25T09:00:00Z", "result": 20.5, "@iot.id": 100 + at, "Datastream": {"@iot.id": stream}}});
    let messages: Vec<Value> = (0..4).map(|at| observation(at, at % 2)).collect();
    assert_eq!(drafted(&messages, &[])[3]["sensor"], "1");
    let event = |at: i64| json!({"value": {"specversion": "1.0", "id": at.to_string(), "source": "/sensors/tn-1", "time": "2026-11-25T09:00:00Z", "data": {"rh": 44}}});
    assert_eq!(drafted(&[event(1), event(5)], &[])[0]["sensor"], "/sensors/tn-1");
    let units = json!({"value": {"api_version": "V1.0.11", "units": {"time": "iso8601"}, "rpm": 5}});
    drafted(&[units], &["sensor = { constant"]);
}

#[test]
fn a_pair_in_an_object_is_found_by_what_its_name_says() {
    let event = json!({"value": {"events": [{"eventTime": "2026-11-25T09:00:00Z", "deviceEvent": {"deviceId": "d-1",
        "attribute": "temperature", "value": 68, "unit": "F"}}]}});
    let found =
        drafted(&[event], &["name = \"each.deviceEvent.attribute\"", "unit = \"each.deviceEvent.unit\""]);
    assert_eq!((&found[0]["sensor"], &found[0]["temperature"]), (&json!("d-1"), &json!(20.0)));
}

#[test]
fn units_in_topics_of_their_own_are_stated() {
    let text = |key: &str, value: &str| json!({"key": key, "value": value});
    let (_, home) = inferred(&[
        text("ha/sensor/attic_temp/unit_of_measurement", "\"°F\""),
        text("ha/sensor/attic_temp/friendly_name", "\"Attic\""),
        text("ha/sensor/attic_temp/state", "68"),
        text("ha/sensor/dust/unit_of_measurement", "\"µg/m³\""),
        text("ha/sensor/dust/state", "12"),
    ]);
    for words in [
        "name = \"capture.sensor\"",
        "only = '.capture.metric == \"state\"'",
        "rename = { \"attic_temp\" = \"temperature\" }",
        "units = { \"attic_temp\" = \"°F\" }",
        "# dust: in µg/m³",
        "5 messages become 2 readings, 3 are skipped, 0 refused",
    ] {
        assert!(home.contains(words), "no {words} in\n{home}");
    }
    let (_, homie) = inferred(&[
        text("homie/car/env/temperature/$unit", "°F"),
        text("homie/car/env/temperature", "68"),
        text("homie/car/env/pressure/$unit", "kPa"),
        text("homie/car/env/pressure", "101.3"),
    ]);
    for words in [
        "only = '.capture.metric != \"$unit\"'",
        "2 are skipped, 0 refused",
        "units = { \"pressure\" = \"kPa\", \"temperature\" = \"°F\" }",
    ] {
        assert!(homie.contains(words), "no {words} in\n{homie}");
    }
}
