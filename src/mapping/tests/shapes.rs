//! Shapes of messages that are neither those of a preset nor plain JSON.

use std::io::Write as _;

use super::*;

const HEAD: &str = "location = { constant = \"l\" }\ndevice_type = { constant = \"d\" }\n";

fn mapping(rest: &str) -> Mapping {
    Mapping::parse("test.toml", &format!("[[source]]\n{HEAD}{rest}")).unwrap()
}

fn readings(mapping: &Mapping, message: &Value) -> Vec<(String, Value)> {
    let mapped = map(mapping, message).unwrap();
    assert_eq!(mapped.faults, []);
    mapped.readings.iter().map(|decoded| shown(&decoded.reading)).collect()
}

fn metrics(mapping: &Mapping, message: &Value) -> Value {
    let found = readings(mapping, message);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].1["metrics"].clone()
}

#[test]
fn json_values_one_after_another_are_elements() {
    let mapping =
        mapping("format = \"json-lines\"\nsensor = \"each.id\"\n[source.metrics]\nx = \"each.x\"\n");
    let found = readings(&mapping, &json!({"value": "{\"id\":\"a\",\"x\":1}\n\n{\"id\":\"b\",\"x\":2}\r\n"}));
    assert_eq!(found.len(), 2);
    assert!(readings(&mapping, &json!({"value": ""})).is_empty());
    assert!(map(&mapping, &json!({"value": "{\"id\":\"a\",\"x\":1}\n{\"id\":"})).is_err());
}

#[test]
fn bytes_of_a_device_are_taken_apart_by_a_program() {
    // Of a temperature sensor: two bytes in hundredths, signed, and one for humidity in halves.
    let rest = r#"
format = "bytes"
sensor = "key"
transform = ".value | @base64d | tobytes | {t: (.[0] * 256 + .[1] | if . > 32767 then . - 65536 else . end), h: .[2]}"
[source.metrics]
temperature = { from = "value.t", scale = 0.01 }
humidity = { from = "value.h", scale = 0.5 }
"#;
    let payload = STANDARD.encode([0xff, 0x38, 90]);
    assert_eq!(
        metrics(&mapping(rest), &json!({"key": "a", "value_base64": payload})),
        json!({"temperature": -2.0, "humidity": 45.0})
    );
}

#[test]
fn a_packed_payload_is_expanded_before_it_is_read() {
    let mapping =
        mapping("compression = \"gzip\"\nsensor = \"value.id\"\n[source.metrics]\nx = \"value.x\"\n");
    let packed = |text: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).unwrap();
        STANDARD.encode(gzip.finish().unwrap())
    };
    let message = json!({"value_base64": packed(b"{\"id\":\"a\",\"x\":1}")});
    assert_eq!(metrics(&mapping, &message), json!({"x": 1.0}));
    // A bomb of 2 MB is a kilobyte.
    let bomb = json!({"value_base64": packed(&vec![b' '; 2 << 20])});
    assert!(matches!(map(&mapping, &bomb), Err(Rejection::TooLarge { .. })));
    assert!(map(&mapping, &json!({"value": "{}"})).unwrap_err().to_string().contains("gzip"));
    for format in ["avro", "sparkplug-b"] {
        let text = format!(
            "[[source]]\nformat = {format:?}\ncompression = \"zlib\"\n{HEAD}sensor = \"key\"\n[source.metrics]\nx = \"value.x\"\n"
        );
        let error = Mapping::parse("test.toml", &text).unwrap_err().to_string();
        assert!(error.contains("compression: not with"), "{error}");
    }
}

#[test]
fn numbers_are_written_in_many_ways() {
    let rest = r#"
sensor = "key"
[[source.fields]]
from = "value.*"
pattern = '''^\s*([-0-9.,' ]+?)\s*(?:%|°C|hPa)?$'''
decimal_comma = true
"#;
    let message = json!({"key": "a", "value": {
        "humidity": "45,5 %", "pressure": "1.013,25 hPa", "a": "1 234 567,5", "b": "-12'000,25", "c": 3, "d": null,
        "e": "1.2.3,4", "f": "12.34,5", "g": "1,2,3"}});
    let found = readings(&mapping(rest), &message);
    assert_eq!(
        found[0].1,
        json!({
            "metrics": {"humidity": 45.5, "pressure": 1013.25, "a": 1_234_567.5, "b": -12_000.25, "c": 3.0},
            // What is no number stays the text that it is.
            "states": {"e": "1.2.3,4", "f": "12.34,5", "g": "1,2,3"},
        })
    );
}

#[test]
fn a_time_is_cut_out_of_a_text() {
    let rest = r#"
sensor = "key"
recorded_timestamp = { from = "value.at", pattern = '^/Date\((\d+)\)/$', format = "ms" }
[source.metrics]
x = "value.x"
"#;
    let message = json!({"key": "a", "value": {"at": "/Date(1795600000123)/", "x": 1}});
    let found = readings(&mapping(rest), &message);
    assert!(found[0].0.ends_with("2026-11-25T09:46:40.123Z"), "{found:?}");
    let error = map(&mapping(rest), &json!({"key": "a", "value": {"at": "soon", "x": 1}})).unwrap_err();
    assert!(error.to_string().contains("does not fit the pattern"), "{error}");
}

#[test]
fn values_that_one_element_takes_from_another_are_counted() {
    let rest = "each = \"value\"\nsensor = \"key\"\n[[source.fields]]\nfrom = \"each.*\"\n";
    let replaced = |value: Value| map(&mapping(rest), &json!({"key": "a", "value": value})).unwrap().replaced;
    assert_eq!(replaced(json!([{"temperature": 1, "x": 1, "s": "a"}, {"humidity": 2, "y": 1}])), 0);
    assert_eq!(
        replaced(json!([{"temperature": 1, "x": 1, "s": "a"}, {"temperature": 1, "x": 1, "s": "a"}])),
        0
    );
    assert_eq!(
        replaced(json!([{"temperature": 1, "x": 1, "s": "a"}, {"temperature": 2, "x": 2, "s": "b"}])),
        3
    );
}

#[test]
fn text_that_looks_like_a_number_is_a_state_where_the_mapping_says_so() {
    let mapping = mapping(
        "sensor = \"value.id\"\n[source.metrics]\nboard = { from = \"value.b\", text = true }\n[[source.fields]]\n\
         from = \"value.v.*\"\ntext = [\"fw*\"]\nrename = { fw = \"firmware\" }\n",
    );
    let message = json!({"value": {"id": "a", "b": 7, "v": {"fw": "1.10", "fw_boot": " 2.0 ", "fw_none": "", "t": "3.50"}}});
    let found = readings(&mapping, &message);
    assert_eq!(found[0].1["metrics"], json!({"t": 3.5}));
    assert_eq!(found[0].1["states"], json!({"board": "7", "firmware": "1.10", "fw_boot": "2.0"}));
    let head = format!("[[source]]\n{HEAD}sensor = \"value.id\"\n");
    let both = "[source.metrics]\ntemperature = { from = \"value.t\", text = true, unit = \"K\" }\n";
    let error = Mapping::parse("m", &(head + both)).unwrap_err().to_string();
    assert!(error.contains("text has no unit"), "{error}");
}

#[test]
fn a_backslash_between_double_quotes_is_refused_with_the_way_to_write_it() {
    let text = "[[source]]\ntransform = \"\\($r)\"\n";
    let error = Mapping::parse("m.toml", text).unwrap_err().to_string();
    assert!(error.contains("in '…', where a backslash is itself"), "{error}");
}

#[test]
fn the_unit_in_a_values_own_text_is_that_of_the_value() {
    let pattern = "pattern = '^(?<value>[-0-9.]+) ?(?<unit>[^0-9]*)$'\n";
    let mapping = mapping(&format!(
        "sensor = \"value.id\"\n[[source.fields]]\nfrom = \"value.v.*\"\n{pattern}[source.metrics.temperature]\n\
         from = \"value.t\"\nnull = [\"off\"]\n{pattern}"
    ));
    let of =
        |t: &str, p: &str| json!({"value": {"id": "a", "t": t, "v": {"pressure": p, "wind": "3.4 m/s"}}});
    assert_eq!(
        metrics(&mapping, &of("70.7 °F", "101.32 kPa")),
        json!({"temperature": 21.5, "pressure": 1013.2, "wind": 3.4})
    );
    assert_eq!(
        metrics(&mapping, &of("21.5", "990")),
        json!({"temperature": 21.5, "pressure": 990.0, "wind": 3.4})
    );
    assert_eq!(metrics(&mapping, &of("off", "1 bar")), json!({"pressure": 1000.0, "wind": 3.4}));
    let error = map(&mapping, &of("21.5 bar", "1 bar")).unwrap_err().to_string();
    assert!(error.contains("\"bar\" is no unit of temperature"), "{error}");
}

#[test]
fn each_output_of_a_transform_is_read_by_itself() {
    let rest = "transform = '.value.r[]'\nsensor = \"value.i\"\n[source.metrics]\nx = \"value.x\"\n";
    let message =
        json!({"value": {"r": [{"i": "a", "x": 1}, {"i": "b", "x": 2}, {"x": 3}, {"i": "a", "x": 4}]}});
    let mapped = map(&mapping(rest), &message).unwrap();
    let found: Vec<_> = mapped.readings.iter().map(|decoded| shown(&decoded.reading)).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].0.starts_with("l d a ") && found[1].0.starts_with("l d b "), "{found:?}");
    assert_eq!(found[0].1["metrics"], json!({"x": 4.0}), "one reading of a sensor and moment");
    assert_eq!(mapped.replaced, 1);
    assert_eq!(mapped.faults.len(), 1);
    assert!(
        mapped.faults[0].to_string().starts_with("element 2 of 4: mapping: sensor"),
        "{:?}",
        mapped.faults
    );

    let each = rest.replace("value.i", "each.i").replace("value.x", "each.x").replace(".r[]", "[]");
    let mapping = mapping(&format!("each = \"value.r\"\n{each}"));
    let one = |id: &str| json!({"r": [{"i": id, "x": 1}, {"i": format!("{id}2"), "x": 2}]});
    let mapped = map(&mapping, &json!({"value": [one("a"), {"r": 7}, one("b")]})).unwrap();
    let names: Vec<_> = mapped.readings.iter().map(|it| it.reading.sensor_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a", "a2", "b", "b2"]);
    let fault = mapped.faults[0].to_string();
    assert!(fault.starts_with("element 2 of 5: mapping: each: value.r is not an array"), "{fault}");
}

#[test]
fn outputs_are_explained_and_a_refused_one_names_its_sensor() {
    let rest = "transform = '.value.r[]'\nsensor = \"value.i\"\n[source.metrics]\nx = \"value.x\"\n";
    let payload = json!({"r": [{"i": "a", "x": 1}, {"i": "b", "y": 2}]}).to_string();
    let mapping = mapping(rest);
    let none = |_: &str| None;
    let record =
        Record { topic: "t", key: None, headers: &none, timestamp: Some(NOW), payload: payload.as_bytes() };
    let steps = mapping.explain(&record, &LIMITS, NOW);
    let text = steps.iter().map(|step| format!("{}: {}", step.key, step.text)).collect::<Vec<_>>().join("\n");
    assert!(text.contains("transform: 2 outputs"), "{text}");
    assert!(text.contains("output[1] sensor: value.i = \"b\" -> \"b\""), "{text}");
    assert!(text.contains("result: 1 reading; dead letter: element 1 of 2"), "{text}");
    let subject = mapping.subject(&record, "element 1 of 2: mapping: x", &LIMITS);
    assert_eq!(subject.and_then(|subject| subject.name).as_deref(), Some("b"));
}

#[test]
fn a_message_is_of_the_first_source_that_fits_and_whose_condition_holds() {
    let source = |name: &str, rest: &str| {
        format!(
            "[[source]]\nname = {name:?}\n{HEAD}sensor = \"value.id\"\nonly = '.value.kind == {name:?}'\n{rest}\
             metrics = {{ {name} = \"value.v\" }}\n"
        )
    };
    let text = source("env", "") + &source("noise", "drop = true\n") + &source("pwr", "");
    let mapping = Mapping::parse("m.toml", &text).unwrap();
    let message = |kind: &str| json!({"value": {"id": "a", "kind": kind, "v": 5}});
    assert_eq!(metrics(&mapping, &message("env")), json!({"env": 5.0}));
    assert_eq!(metrics(&mapping, &message("pwr")), json!({"pwr": 5.0}));
    assert!(map(&mapping, &message("noise")).unwrap().is_skipped);
    assert!(map(&mapping, &message("other")).unwrap().is_skipped);
    let explained = |kind: &str| {
        let payload = message(kind)["value"].to_string();
        let none = |_: &str| None;
        let record = Record {
            topic: "t",
            key: None,
            headers: &none,
            timestamp: Some(NOW),
            payload: payload.as_bytes(),
        };
        let steps = mapping.explain(&record, &LIMITS, NOW);
        steps.iter().map(|step| format!("{}: {}", step.key, step.text)).collect::<Vec<_>>().join("\n")
    };
    let text = explained("pwr");
    assert!(text.contains("source env: no: topic and key fit, but only does not hold"), "{text}");
    assert!(text.contains("source pwr: takes the message"), "{text}");
    assert!(text.contains("result: 1 reading"), "{text}");
    assert!(explained("noise").ends_with("source noise: takes the message\nvalue: {\"id\":\"a\",\"kind\":\"noise\",\"v\":5} (format json)\nonly: holds\ndrop: the message is skipped"));
    assert!(explained("other").contains("result: skipped: only does not hold"));
    // A dead letter is about the sensor that its own source finds.
    let text = text_with_sensor_of_pwr();
    let mapping = Mapping::parse("m.toml", &text).unwrap();
    let none = |_: &str| None;
    let payload = br#"{"kind": "pwr", "id": "a", "pid": "p"}"#;
    let record = Record { topic: "t", key: None, headers: &none, timestamp: Some(NOW), payload };
    let subject = mapping.subject(&record, "mapping: metrics: none", &LIMITS);
    assert_eq!(subject.and_then(|subject| subject.name).as_deref(), Some("p"));
}

fn text_with_sensor_of_pwr() -> String {
    let source = |kind: &str, path: &str| {
        format!(
            "[[source]]\n{HEAD}sensor = \"value.{path}\"\nonly = '.value.kind == {kind:?}'\nmetrics = {{ x = \"value.x\" }}\n"
        )
    };
    source("env", "id") + &source("pwr", "pid")
}

#[test]
fn a_default_stands_for_all_that_is_not_measured_and_is_in_the_stored_unit() {
    let mapping = mapping(
        "sensor = \"key\"\n[source.metrics]\ntemperature = { from = \"value.t\", unit = \"°F\", default = 5, null = [\"n/a\"] }\n\
         flow = { from = \"value.f\", scale = 10, default = 7, pattern = '^(.*) l$' }\n\
         door = { from = \"value.d\", words = { OPEN = 1 }, default = \"OPEN\" }\n\
         board = { from = \"value.b\", text = true, default = \"1.10\" }\n",
    );
    for nothing in [json!({}), json!({"t": null, "f": null}), json!({"t": " ", "f": ""}), json!({"t": "n/a"})]
    {
        let found = readings(&mapping, &json!({"key": "a", "value": nothing})).remove(0).1;
        assert_eq!(found["metrics"], json!({"temperature": 5.0, "flow": 7.0, "door": 1.0}), "{nothing}");
        assert_eq!(found["states"], json!({"board": "1.10"}));
    }
    let found = metrics(&mapping, &json!({"key": "a", "value": {"t": 50, "f": "2 l", "d": 0}}));
    assert_eq!(found, json!({"temperature": 10.0, "flow": 20.0, "door": 0.0}));
    let payload = br#"{"t": "n/a"}"#;
    let none = |_: &str| None;
    let record = Record { topic: "t", key: Some(b"a"), headers: &none, timestamp: Some(NOW), payload };
    let steps = mapping.explain(&record, &LIMITS, NOW);
    let step = steps.iter().find(|step| step.key == "temperature").unwrap();
    assert_eq!(step.text, "value.t = \"n/a\" -> 5 (default)");
}

#[test]
fn a_metric_with_its_own_mapping_wins_over_fields_and_what_is_replaced_is_counted() {
    let mapping = mapping(
        "sensor = \"key\"\n[source.metrics]\ntemperature = \"value.temperature\"\n[[source.fields]]\nfrom = \"value.x.*\"\n\
         rename = { a = \"m\" }\n",
    );
    let read = |x: Value| {
        let mapped = map(&mapping, &json!({"key": "a", "value": {"temperature": 21.5, "x": x}})).unwrap();
        (shown(&mapped.readings[0].reading).1["metrics"].clone(), mapped.replaced)
    };
    assert_eq!(read(json!({"temperature": 5})), (json!({"temperature": 21.5}), 1));
    assert_eq!(read(json!({"temperature": 21.5})), (json!({"temperature": 21.5}), 0));
    assert_eq!(read(json!({"temperature": null})), (json!({"temperature": 21.5}), 0));
    assert_eq!(read(json!({"a": 1, "m": 2})).1, 1);
    assert_eq!(read(json!({"a": 1, "m": "on"})).1, 1);
    assert_eq!(read(json!({"a": 1, "b": 2})), (json!({"temperature": 21.5, "m": 1.0, "b": 2.0}), 0));
}

#[test]
fn a_text_is_a_number_by_the_same_rule_with_a_unit_and_without() {
    let rest = "sensor = \"key\"\n[[source.fields]]\nfrom = \"value.*\"\nscale = { s = 1 }\n";
    let mapping = mapping(rest);
    let of = |text: &str| {
        let found = readings(&mapping, &json!({"key": "a", "value": {"p": text, "s": text}})).remove(0).1;
        let value = |name: &str| [&found["metrics"][name], &found["states"][name]].map(Clone::clone);
        assert_eq!(value("p"), value("s"), "{text}");
        found["metrics"]["p"].as_f64()
    };
    for (text, number) in [
        ("+21.5", 21.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("021.5", 21.5),
        ("000123.456", 123.456),
        (" -7 ", -7.0),
        ("1e3", 1000.0),
        ("+.5E-1", 0.05),
    ] {
        assert_eq!(of(text), Some(number), "{text}");
    }
    for text in ["inf", "-infinity", "NaN", "0x10", "1,5", "1.2.3", "-", ".", "e5", "1e", "1_000", "on"] {
        assert_eq!(of(text), None, "{text}");
    }
    // A whole number that no float holds is an id.
    let found = readings(&mapping, &json!({"key": "a", "value": {"p": "0123456789012345678"}})).remove(0).1;
    assert_eq!(found["states"], json!({"p": "0123456789012345678"}));
}

#[test]
fn a_point_separates_thousands_where_the_comma_is_the_decimal_mark() {
    let comma = "sensor = \"key\"\n[[source.fields]]\nfrom = \"value.*\"\ndecimal_comma = true\n";
    let (comma, point) = (mapping(comma), mapping(&comma.replace("true", "false")));
    let of = |mapping: &Mapping, text: &str| {
        let found = readings(mapping, &json!({"key": "a", "value": {"p": text}})).remove(0).1;
        found["metrics"]["p"].as_f64()
    };
    for (text, number) in [
        ("1.013,25", 1013.25),
        ("1.013", 1013.0),
        ("-1.234.567", -1_234_567.0),
        ("+1.234.567,5", 1_234_567.5),
        ("21,5", 21.5),
        (",5", 0.5),
        ("21.5", 21.5),
        ("0.123", 0.123),
        ("1013.250", 1013.25),
        ("12", 12.0),
    ] {
        assert_eq!(of(&comma, text), Some(number), "{text}");
    }
    assert_eq!(of(&comma, "1.23.456"), None);
    assert_eq!((of(&point, "1.013"), of(&point, "1.234.567")), (Some(1.013), None));
}

#[test]
fn a_row_with_a_wrong_number_of_cells_is_refused_by_itself() {
    let rest = "format = \"csv\"\nsensor = \"each.id\"\n[source.metrics]\nx = \"each.x\"\n";
    let message = json!({"value": "id,x\na,1\nb\nc,3,4\nd,5\n"});
    let mapped = map(&mapping(rest), &message).unwrap();
    let names: Vec<_> = mapped.readings.iter().map(|it| it.reading.sensor_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a", "d"]);
    let faults: Vec<_> = mapped.faults.iter().map(|fault| (fault.reason(), fault.to_string())).collect();
    assert_eq!(faults.len(), 2);
    assert_eq!(faults[0].0, "not_in_format");
    assert!(
        faults[0].1.contains("element 1 of 4") && faults[0].1.contains("row 2: 1 cells for 2 columns"),
        "{faults:?}"
    );
    // A program is given whole rows only.
    let program = mapping(&format!("transform = '.value'\n{rest}"));
    assert_eq!(map(&program, &message).unwrap_err().reason(), "not_in_format");
}

#[test]
fn a_record_that_cannot_be_read_is_refused_by_itself_in_each_format_of_records() {
    let rest = "sensor = { from = \"each.id\", default = \"none\" }\n[[source.fields]]\nfrom = \"each.**\"\ndrop = [\"id\"]\n";
    for (format, payload, values, problem) in [
        (
            "json-lines",
            "{\"id\":\"a\",\"x\":1}\n{\"id\":\n{\"id\":\"b\",\"x\":nan,\"y\":2}",
            2,
            "line 2: not a JSON object",
        ),
        ("line-protocol", "m,id=a x=1\r\nm,id=b\r\nm,id=c x=2", 1, "line 2: "),
        ("csv", "id,x\na,1\nb\nc,2", 2, "row 2: 1 cells for 2 columns"),
    ] {
        let mapping = mapping(&format!("format = \"{format}\"\n{rest}"));
        let mapped = map(&mapping, &json!({"value": payload})).unwrap();
        let faults: Vec<String> = mapped.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            mapped.readings.iter().map(|it| it.reading.other_metrics.len()).sum::<usize>(),
            values,
            "{format}"
        );
        let is_known =
            faults.len() == 1 && faults[0].starts_with("element 1 of 3: ") && faults[0].contains(problem);
        assert!(is_known, "{format}: {faults:?}");
        let none = |_: &str| None::<String>;
        let payload = payload.as_bytes();
        let record = Record { topic: "t", key: None, headers: &none, timestamp: Some(NOW), payload };
        let steps = mapping.explain(&record, &LIMITS, NOW);
        let of_record: Vec<_> = steps.iter().filter(|step| step.key.starts_with("each[1]")).collect();
        assert!(of_record.len() == 1 && of_record[0].text.contains(problem), "{format}: {of_record:?}");
        // A program is given the whole list.
        let with_program = Mapping::parse(
            "t",
            &format!(
                "[[source]]\n{HEAD}format = \"{format}\"\ntransform = \".value\"\neach = \"value\"\n{rest}"
            ),
        );
        let refused = with_program.unwrap().read(&record, &LIMITS, NOW).unwrap_err();
        assert!(refused.to_string().contains(problem), "{format}: {refused}");
    }
}

#[test]
fn what_is_no_text_is_not_called_missing() {
    let mapping = mapping("sensor = \"value.id\"\n[source.metrics]\nx = \"value.x\"\n");
    for (id, words) in [
        (json!(true), "value.id is a boolean"),
        (json!(["a"]), "value.id is an array"),
        (json!({"a": 1}), "value.id is an object"),
        (json!(null), "value.id is missing"),
    ] {
        let refused = map(&mapping, &json!({"value": {"id": id, "x": 1}})).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn sums_of_senml_are_metrics_of_their_own() {
    let preset = Mapping::load("senml").unwrap();
    let pack = json!([{"bn": "urn:dev:mac:a1/", "bt": 1_795_600_000, "n": "power", "u": "W", "v": 5.5, "s": 120},
        {"n": "energy", "u": "J", "s": 7}]);
    assert_eq!(
        metrics(&preset, &json!({"value": pack})),
        json!({"power": 5.5, "sum.power": 120.0, "sum.energy": 7.0})
    );
}
