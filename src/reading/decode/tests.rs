use proptest::prelude::*;

use super::super::Rejection;
use super::*;

const NOW: i64 = 1_750_000_000_000;
const LIMITS: DecodeLimits = DecodeLimits {
    max_message_bytes: 10_000,
    max_future_skew: Duration::from_secs(3600),
    is_any_time: false,
};
const ID: &str = "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0";

fn message(extra: &str) -> String {
    format!(
        r#"{{"location":"plant-1","device_type":"thermostat","iot_sensor_id":"{ID}","recorded_timestamp":"2025-06-15T12:00:00.250+02:00"{extra}}}"#
    )
}

fn decoded(extra: &str) -> Result<Decoded<'static>, Rejection> {
    let message = message(extra);
    let decoded = decode(message.as_bytes(), &LIMITS, NOW)?;
    let left_out = decoded.left_out.into_iter().map(|name| name.into_owned().into()).collect();
    Ok(Decoded { reading: decoded.reading.into_owned(), left_out })
}

#[test]
fn four_fields_are_enough() {
    let reading = decoded("").unwrap().reading;
    assert_eq!(reading.location, "plant-1");
    assert_eq!(reading.device_type, "thermostat");
    assert_eq!(reading.sensor.to_string(), ID);
    assert_eq!(reading.recorded_at, 1_749_981_600_250);
    assert_eq!(reading.temperature, None);
    assert!(reading.other_metrics.is_empty());
}

#[test]
fn every_field_is_read() {
    let reading = decoded(
        r#","temperature":21.5,"humidity":40,"pressure":1013.25,"motion_detected":true,"light_level":0.25,
        "gas_concentration":3e2,"other_metrics":{"co2_ppm":415,"voltage":3.3}"#,
    )
    .unwrap()
    .reading;
    assert_eq!(reading.temperature, Some(21.5));
    assert_eq!(reading.humidity, Some(40.0));
    assert_eq!(reading.pressure, Some(1013.25));
    assert_eq!(reading.motion_detected, Some(true));
    assert_eq!(reading.light_level, Some(0.25));
    assert_eq!(reading.gas_concentration, Some(300.0));
    assert_eq!(reading.other_metrics, [("co2_ppm".into(), 415.0), ("voltage".into(), 3.3)]);
}

#[test]
fn absent_null_and_the_legacy_sentinel_are_all_missing() {
    let reading =
        decoded(r#","temperature":null,"humidity":-999.0,"pressure":-999,"other_metrics":{"a":-999.0}"#)
            .unwrap()
            .reading;
    assert_eq!((reading.temperature, reading.humidity, reading.pressure), (None, None, None));
    assert!(reading.other_metrics.is_empty());
    assert!(decoded(r#","other_metrics":null"#).unwrap().reading.other_metrics.is_empty());
}

#[test]
fn the_sentinel_is_a_number_among_measured_metrics() {
    let reading = decoded(r#","power":1,"measured_metrics":{"power":-999,"pressure":-999.0,"rpm":"-999"}"#)
        .unwrap()
        .reading;
    assert_eq!(reading.other_metrics, [("power".into(), -999.0), ("rpm".into(), -999.0)]);
    assert_eq!(reading.pressure, Some(-999.0));
    let left_out = decoded(r#","rpm":1,"measured_metrics":{"a":[]}"#).unwrap().left_out;
    assert_eq!(left_out, ["measured_metrics.a"]);
}

#[test]
fn a_value_means_the_same_at_the_top_and_in_other_metrics() {
    let fields = r#""co2":"415","rpm":7,"door_open":true,"lid_closed":false,"mode":"eco","id":"00412",
        "temperature":"21.5","humidity":" 40 ","nothing":null,"silent":"","old":-999,"older":"-999.0","tags":[1,{"a":[2]}],
        "nested":{"x":1}"#;
    let top = decoded(&format!(",{fields}")).unwrap();
    let nested = decoded(&format!(r#","other_metrics":{{{fields}}}"#)).unwrap();
    let metrics = [("co2", 415.0), ("rpm", 7.0), ("door_open", 1.0), ("lid_closed", 0.0)];
    assert_eq!(top.reading.other_metrics, metrics.map(|(name, value)| (name.into(), value)));
    assert_eq!(top.reading.states, [("mode".into(), "eco".into()), ("id".into(), "00412".into())]);
    assert_eq!((top.reading.temperature, top.reading.humidity), (Some(21.5), Some(40.0)));
    assert_eq!(top.left_out, ["tags", "nested"]);
    assert_eq!(nested.reading, top.reading);
    assert_eq!(nested.left_out, ["other_metrics.tags", "other_metrics.nested"]);
}

#[test]
fn a_column_with_a_unit_takes_numbers_and_keeps_text_as_a_state() {
    let decoded =
        decoded(r#","temperature":"sensor fault","humidity":true,"pressure":[1013],"light_level":1"#)
            .unwrap();
    assert_eq!((decoded.reading.temperature, decoded.reading.humidity), (None, None));
    assert_eq!(decoded.reading.states, [("temperature".into(), "sensor fault".into())]);
    assert_eq!(decoded.left_out, ["humidity", "pressure"]);
}

#[test]
fn motion_is_a_boolean_in_each_of_its_spellings() {
    let motion = |value: &str| decoded(&format!(r#","rpm":1,"motion_detected":{value}"#)).unwrap();
    for (value, expected) in [
        ("true", Some(true)),
        ("0", Some(false)),
        ("1.0", Some(true)),
        (r#""1""#, Some(true)),
        (r#""False""#, Some(false)),
        ("null", None),
        (r#""""#, None),
    ] {
        assert_eq!(motion(value).reading.motion_detected, expected, "{value}");
    }
    assert_eq!(motion("3").left_out, ["motion_detected"]);
    assert_eq!(motion(r#""maybe""#).reading.states, [("motion_detected".into(), "maybe".into())]);
}

#[test]
fn numbers_keep_all_their_digits() {
    let reading =
        decoded(r#","energy":123456789.125,"count":9007199254740992,"text":"9007199254740992","id":"9007199254740993""#)
            .unwrap()
            .reading;
    let expected =
        [("energy", 123_456_789.125), ("count", 9_007_199_254_740_992.0), ("text", 9_007_199_254_740_992.0)];
    assert_eq!(reading.other_metrics, expected.map(|(name, value)| (name.into(), value)));
    assert_eq!(reading.states, [("id".into(), "9007199254740993".into())]);
}

#[test]
fn a_stored_column_stands_for_the_decimal_that_was_sent() {
    let reading = decoded(r#","temperature":21.3,"humidity":"0.1""#).unwrap().reading;
    assert_eq!(reading.value(&Metric::Temperature), Some(21.3));
    assert_eq!(reading.value(&Metric::Humidity), Some(0.1));
}

#[test]
fn a_message_of_which_nothing_is_understood_is_refused_and_an_empty_one_is_not() {
    let refused = |extra: &str| decoded(extra).unwrap_err();
    let error = refused(r#","readings":{"temperature":21.5}"#);
    assert_eq!(error.reason(), "nothing_understood");
    assert!(error.to_string().contains("can be stored: readings (send"), "{error}");
    let error = refused(r#","a":[],"b":{},"other_metrics":{"c":[]},"states":7,"d":[]"#);
    assert!(error.to_string().contains(": a, b, other_metrics.c, and 2 more (send"), "{error}");
    assert_eq!(refused(r#","other_metrics":[1]"#).reason(), "nothing_understood");
    assert!(decoded(r#","temperature":null,"note":null"#).unwrap().reading.is_empty());
    assert_eq!(decoded(r#","readings":{"a":1},"rpm":1"#).unwrap().left_out, ["readings"]);
}

#[test]
fn long_text_is_left_out_and_a_later_value_replaces_a_state() {
    let text = |length: usize| format!(r#","log":"{}","rpm":1"#, "x".repeat(length));
    assert_eq!(decoded(&text(MAX_STATE_BYTES)).unwrap().reading.states.len(), 1);
    assert_eq!(decoded(&text(MAX_STATE_BYTES + 1)).unwrap().left_out, ["log"]);
    let replaced =
        decoded(r#","a":"x","a":1,"temperature":"x","temperature":2,"b":1,"b":"y""#).unwrap().reading;
    assert_eq!(replaced.other_metrics, [("a".into(), 1.0)]);
    assert_eq!(replaced.states, [("b".into(), "y".into())]);
    assert_eq!(replaced.temperature, Some(2.0));
}

#[test]
fn text_under_states_is_a_state_whatever_it_looks_like() {
    let reading = decoded(r#","states":{"version":"1.10","level":3,"empty":"","on":true}"#).unwrap().reading;
    assert_eq!(reading.states, [("version".into(), "1.10".into())]);
    assert_eq!(reading.other_metrics, [("level".into(), 3.0), ("on".into(), 1.0)]);
}

#[test]
fn the_last_of_two_equal_names_counts() {
    let reading =
        decoded(r#","temperature":1,"temperature":2,"other_metrics":{"a":1,"a":2},"a":3"#).unwrap().reading;
    assert_eq!(reading.temperature, Some(2.0));
    assert_eq!(reading.other_metrics, [("a".into(), 3.0)]);
}

#[test]
fn escaped_names_are_unescaped() {
    let message = message(r#","t\u0065mperature":5"#);
    assert_eq!(decode(message.as_bytes(), &LIMITS, NOW).unwrap().reading.temperature, Some(5.0));
}

#[test]
fn each_kind_of_bad_message_has_its_reason() {
    let reason = |message: &str| decode(message.as_bytes(), &LIMITS, NOW).unwrap_err().reason();
    assert_eq!(reason(""), "not_json");
    assert_eq!(reason("[1]"), "not_json");
    assert_eq!(reason(&message(r#","temperature":NaN"#)), "not_json");
    assert_eq!(reason(&format!("{} x", message(""))), "not_json");
    assert_eq!(reason(&format!("{}1", "[".repeat(9_000))), "not_json");
    assert_eq!(reason(&"x".repeat(10_001)), "too_large");
    assert_eq!(reason(r#"{"location":"a"}"#), "missing_field");
    assert_eq!(reason(&message(r#","location":7"#)), "ill_typed_field");
    assert_eq!(reason(&message(r#","location":null"#)), "ill_typed_field");
    assert_eq!(reason(&message(r#","iot_sensor_id":"seven""#)), "ill_typed_field");
    assert_eq!(reason(&message(r#","recorded_timestamp":"2025-06-15 12:00""#)), "ill_typed_field");
    assert_eq!(reason(&message(r#","temperature":1e39"#)), "number_out_of_range");
    assert_eq!(reason(&message(r#","temperature":1e999"#)), "number_out_of_range");
    assert_eq!(reason(&message(r#","recorded_timestamp":0"#)), "timestamp_out_of_range");
    assert_eq!(reason(&message(r#","recorded_timestamp":1750000000"#)), "timestamp_out_of_range");
    assert_eq!(
        reason(&message(&format!(r#","recorded_timestamp":{}"#, NOW + 3_600_001))),
        "timestamp_out_of_range"
    );
    assert_eq!(reason(&message(r#","location":"a\u0000b""#)), "bad_name");
    assert_eq!(reason(&message(r#","location":"""#)), "bad_name");
    assert_eq!(reason(&message(&format!(r#","device_type":"{}""#, "x".repeat(257)))), "bad_name");
    let many: Vec<_> = (0..65).map(|index| format!("\"m{index}\":1")).collect();
    assert_eq!(reason(&message(&format!(r#","other_metrics":{{{}}}"#, many.join(",")))), "too_many_metrics");
}

#[test]
fn a_refusal_does_not_repeat_a_long_message() {
    let limits = DecodeLimits { max_message_bytes: 1 << 20, ..LIMITS };
    let long = "\\u0001x".repeat(100_000);
    for message in [
        format!("\"{long}\""),
        format!("{{\"other_metrics\":\"{long}\"}}"),
        format!("{{\"temperature\":\"{long}\"}}"),
        format!("{{\"iot_sensor_id\":\"{long}\"}}"),
        format!("{{\"location\":\"{long}\"}}"),
        format!("{{\"{long}\":1}}"),
        format!("{{\"other_metrics\":{{\"{long}\":1}}}}"),
        format!("{{\"{long}"),
    ] {
        let text = decode(message.as_bytes(), &limits, NOW).unwrap_err().to_string();
        assert!(text.len() < 1_000, "{} bytes: {:.100}", text.len(), text);
    }
}

#[test]
fn bytes_that_are_not_plain_json_are_named() {
    let plain = message("");
    let reason = |bytes: &[u8]| decode(bytes, &LIMITS, NOW).unwrap_err();
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16_big: Vec<u8> = plain.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (bytes, cause) in [
        ([b"\xEF\xBB\xBF", plain.as_bytes()].concat(), "byte-order mark"),
        ([b"\0\0\0\0\x07", plain.as_bytes()].concat(), "framed by a schema registry"),
        (b"\x1F\x8B\x08\0\0\0\0\0".to_vec(), "gzip"),
        (b"\x28\xB5\x2F\xFD\x24".to_vec(), "zstd"),
        ([b"\xFF\xFE", utf16.as_slice()].concat(), "UTF-16"),
        (utf16, "UTF-16"),
        (utf16_big, "UTF-16"),
    ] {
        let error = reason(&bytes);
        assert_eq!(error.reason(), "not_plain_json");
        assert!(error.to_string().contains(cause), "{error}");
    }
    let mut bad = plain.into_bytes();
    bad[14] = 0xFF;
    assert_eq!(reason(&bad).reason(), "not_json");
}

#[test]
fn bytes_that_are_not_utf_8_do_no_harm_where_a_field_is_left_out() {
    let mut message = message(r#","temperature":21.5,"raw":["?"]"#).into_bytes();
    let expected = decode(&message, &LIMITS, NOW).unwrap().reading.into_owned();
    let at = message.iter().position(|byte| *byte == b'?').unwrap();
    message[at] = 0xFF;
    assert_eq!(decode(&message, &LIMITS, NOW).unwrap().reading, expected);
}

#[test]
fn a_timestamp_in_another_unit_is_named() {
    let refused = |at: &str| decoded(&format!(r#","recorded_timestamp":{at}"#)).unwrap_err().to_string();
    for (at, hint) in [
        (
            "1749981600",
            "before the year 2000 (as seconds it would be 2025-06-15T10:00:00.000Z: send milliseconds)",
        ),
        ("\"1749981600\"", "as seconds it would be 2025-06-15"),
        ("1749981600250000", "too far in the future (as microseconds it would be 2025-06-15T10:00:00.250Z"),
        ("1749981600250000000", "as nanoseconds it would be 2025-06-15T10:00:00.250Z"),
        (
            "20200101000000",
            "too far in the future (it looks like the date 2020-01-01 00:00:00: send RFC 3339",
        ),
        ("\"20200101\"", "it looks like the date 2020-01-01 00:00:00"),
    ] {
        assert!(refused(at).contains(hint), "{at}: {}", refused(at));
    }
    assert!(!refused("17").contains('('), "{}", refused("17"));
}

#[test]
fn a_reason_names_the_field_by_its_path() {
    let refused = |extra: &str| decoded(extra).unwrap_err().to_string();
    for (extra, expected) in [
        (r#","other_metrics":{"a":1e400}"#, "field other_metrics.a: its number does not fit a 64-bit float"),
        (r#","b":"1e400""#, "field b: its number does not fit a 64-bit float"),
        (r#","temperature":1e39"#, "does not fit a 32-bit float"),
        (r#","other_metrics":{"a\nb":1}"#, "field other_metrics.a\\nb: a name must have"),
        (r#","states":{"":"x"}"#, "field states.: a name must have"),
    ] {
        assert!(refused(extra).contains(expected), "{extra}: {}", refused(extra));
    }
}

#[test]
fn epoch_milliseconds_are_a_timestamp_too() {
    assert_eq!(
        decoded(r#","recorded_timestamp":1749981600250"#).unwrap().reading.recorded_at,
        1_749_981_600_250
    );
    assert_eq!(
        decoded(r#","recorded_timestamp":1749981600250.0"#).unwrap().reading.recorded_at,
        1_749_981_600_250
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes, &LIMITS, NOW);
    }

    #[test]
    fn no_damage_to_a_message_makes_it_panic(cut in 0usize..160, byte in any::<u8>(), at in 0usize..160) {
        let mut bytes = message(r#","temperature":21.5,"other_metrics":{"a":1}"#).into_bytes();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut.max(1));
        let _ = decode(&bytes, &LIMITS, NOW);
    }

    #[test]
    fn decoding_is_a_pure_function_of_the_message(temperature in proptest::option::of(-1e30f32..1e30), at in EARLIEST..NOW) {
        let value = temperature.map_or("null".to_owned(), |value| format!("{value:e}"));
        let message = message(&format!(r#","temperature":{value},"recorded_timestamp":{at}"#));
        let once = decode(message.as_bytes(), &LIMITS, NOW).unwrap();
        prop_assert_eq!(once.reading.temperature, temperature.filter(|value| *value != -999.0));
        prop_assert_eq!(once.reading.recorded_at, at);
        prop_assert_eq!(&once, &decode(message.as_bytes(), &LIMITS, NOW + 1).unwrap());
    }
}
