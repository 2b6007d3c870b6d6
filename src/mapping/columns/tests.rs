use serde_json::json;

use super::*;
use crate::mapping::rows;
use crate::reading::{DecodeLimits, Rejection, sensor};

/// 2025-06-15T15:06:40Z.
const NOW: i64 = 1_750_000_000_000;
const LIMITS: DecodeLimits = DecodeLimits {
    max_message_bytes: 10_000,
    max_future_skew: std::time::Duration::from_secs(60),
    is_any_time: true,
};

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(std::string::ToString::to_string).collect()
}

fn flags(map: &[&str], set: &[&str], unit: &[&str]) -> ColumnFlags {
    ColumnFlags::parse(&strings(map), &strings(set), &strings(unit)).unwrap()
}

/// The reading of a row, or why there is none.
fn read(flags: &ColumnFlags, heading: &[&str], cells: &[&str]) -> Result<Reading<'static>, Rejection> {
    let heading = strings(heading);
    let rows = flags.resolve(&heading, false).unwrap().rows;
    let mapped = rows.row(rows::columns(&heading, cells.iter().copied()), &LIMITS, NOW)?;
    let readings = mapped.readings.into_iter().map(|decoded| decoded.reading);
    Ok(readings.chain(mapped.empty).next().unwrap())
}

#[test]
fn a_plain_time_series_becomes_readings_of_one_sensor() {
    let flags = flags(
        &["timestamp=recorded_timestamp", "value=temperature"],
        &["location=plant-1", "device_type=machine"],
        &["temperature=fahrenheit"],
    );
    let heading = ["timestamp", "value"];
    let reading = read(&flags, &heading, &["2013-12-02 21:15:00", "73.96732207"]).unwrap();
    assert_eq!((&*reading.location, &*reading.device_type), ("plant-1", "machine"));
    assert_eq!(reading.recorded_at, 1_386_018_900_000);
    assert!((reading.temperature.unwrap() - 23.315_18).abs() < 1e-4);
    assert_eq!(reading.humidity, None);
    // The id that it has always had, and its name.
    assert_eq!(reading.sensor, sensor::id("plant-1/machine"));
    assert_eq!(reading.sensor_name.as_deref(), Some("plant-1/machine"));
    let next = read(&flags, &heading, &["2013-12-02 21:20:00", "74.9"]).unwrap();
    assert_eq!(next.sensor, reading.sensor);
}

#[test]
fn columns_named_like_fields_need_no_map_and_others_are_named_as_ignored() {
    let heading = ["location", "device_type", "iot_sensor_id", "t", "humidity", "comment", ""];
    let flags = flags(&["t=recorded_timestamp"], &[], &[]);
    assert_eq!(flags.resolve(&strings(&heading), false).unwrap().ignored, ["comment"]);
    let id = "6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5";
    let reading = read(&flags, &heading, &["l", "d", id, "0", "-999.0", "x", "7"]).unwrap();
    assert_eq!((reading.sensor.to_string().as_str(), reading.recorded_at), (id, 0));
    assert_eq!(reading.humidity, None, "the legacy sentinel is not measured");
    let named = read(&flags, &heading, &["l", "d", "pump 7", "0", "", "x", "8"]).unwrap();
    assert_eq!((named.sensor, named.humidity), (sensor::id("pump 7"), None));
    assert_eq!(named.sensor_name.as_deref(), Some("pump 7"));
}

#[test]
fn what_is_set_stands_where_a_row_has_nothing() {
    let flags = flags(&["site=location"], &["location=plant-1", "device_type=d", "iot_sensor_id=s"], &[]);
    let heading = ["site", "iot_sensor_id", "recorded_timestamp", "humidity"];
    for (cells, location, name) in
        [(["north", "a", "0", "1"], "north", "a"), (["", "n/a", "0", "1"], "plant-1", "s")]
    {
        let reading = read(&flags, &heading, &cells).unwrap();
        assert_eq!((&*reading.location, reading.sensor_name.as_deref()), (location, Some(name)));
        assert_eq!(reading.device_type, "d");
    }
}

#[test]
fn other_metrics_motion_and_states_are_taken_from_columns_by_the_rule_for_values() {
    let map = ["t=recorded_timestamp", "v=vibration", "m=motion_detected"];
    let flags = flags(&map, &["location=l", "device_type=d"], &[]);
    let heading = ["t", "v", "m"];
    let reading = read(&flags, &heading, &["0", "123456789.125", "yes"]).unwrap();
    assert_eq!(reading.other_metrics, [("vibration".into(), 123_456_789.125)]);
    for (word, motion) in
        [("1.0", true), ("0", false), ("True", true), ("OFF", false), ("no", false), ("on", true)]
    {
        assert_eq!(
            read(&flags, &heading, &["0", "1", word]).unwrap().motion_detected,
            Some(motion),
            "{word}"
        );
    }
    let states = read(&flags, &heading, &["0", "stuck", "maybe"]).unwrap().states;
    assert_eq!(states, [("motion_detected".into(), "maybe".into()), ("vibration".into(), "stuck".into())]);
    for (cells, word) in [
        (["soon", "1", "1"], "is not a timestamp"),
        (["", "1", "1"], "recorded_timestamp: value.t is missing"),
    ] {
        let error = read(&flags, &heading, &cells).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_mapping_file_that_says_the_same_finds_the_same() {
    let flags = flags(
        &["Zeit=recorded_timestamp", "T [°C]=temperature", "p=pressure", "n.rpm=speed"],
        &["location=hall", "device_type=press"],
        &["pressure=kPa"],
    );
    let text = "[[source]]\nlocation = { constant = \"hall\" }\ndevice_type = { constant = \"press\" }\n\
                sensor = { constant = \"hall/press\" }\n\
                recorded_timestamp = { from = \"value.Zeit\", time_zone = \"UTC\" }\n\
                [source.metrics]\ntemperature = { from = 'value.\"T [°C]\"', decimal_comma = true, null = [\"NA\"] }\n\
                pressure = { from = \"value.p\", unit = \"kPa\", decimal_comma = true, null = [\"NA\"] }\n\
                speed = { from = 'value.\"n.rpm\"', decimal_comma = true, null = [\"NA\"] }\n";
    let mapping = Arc::new(Mapping::parse("same.toml", text).unwrap());
    let file = RowMapping::of(&mapping, None, "press.csv".as_ref()).unwrap();
    let heading = strings(&["Zeit", "T [°C]", "p", "n.rpm", "note"]);
    let by_flags = flags.resolve(&heading, true).unwrap();
    assert_eq!(by_flags.ignored, ["note"]);
    for cells in [
        ["2026-01-31 10:00:00", "21,5", "101,325", "1.500,25", "x"],
        ["2026-01-31T10:05:00Z", "NA", "99.5", "", ""],
        ["2026-01-31 10:10", "open", "1e60", "7", ""],
        ["soon", "1", "2", "3", ""],
    ] {
        let row = || rows::columns(&heading, cells.iter().copied());
        let (wanted, found) = (file.row(row(), &LIMITS, NOW), by_flags.rows.row(row(), &LIMITS, NOW));
        match (wanted, found) {
            (Ok(wanted), Ok(found)) => assert_eq!(found, wanted, "{cells:?}"),
            // A moment that is refused is so in the words of its format.
            (Err(wanted), Err(found)) => assert_eq!(found.reason(), wanted.reason(), "{cells:?}"),
            other => panic!("{cells:?}: {other:?}"),
        }
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_read() {
    let headings = strings(&["timestamp", "value"]);
    let refuse =
        |map: &[&str], set: &[&str]| flags(map, set, &[]).resolve(&headings, false).unwrap_err().to_string();
    assert!(refuse(&["time=recorded_timestamp"], &[]).contains("it has: timestamp, value"));
    let both = ["location=l", "device_type=d"];
    assert!(refuse(&["value=humidity"], &both).contains("--map COLUMN=recorded_timestamp"));
    assert!(refuse(&["timestamp=recorded_timestamp"], &[]).contains("--set location=NAME"));
    assert!(refuse(&["timestamp=recorded_timestamp"], &both[..1]).contains("--set device_type=NAME"));
    assert!(refuse(&["timestamp=recorded_timestamp"], &both).contains("no metric"));
    for (map, set, unit, word) in [
        (&[][..], &["temperature=3"][..], &[][..], "only location"),
        (&["value"][..], &[][..], &[][..], "write it as NAME=VALUE"),
        (
            &["a=temperature", "b=temperature"][..],
            &[][..],
            &[][..],
            "\"a\" and \"b\" cannot both be temperature",
        ),
        (&[][..], &[][..], &["temperature=rankine"][..], "celsius, fahrenheit, kelvin"),
        (&[][..], &[][..], &["vibration=mm"][..], "--mapping"),
    ] {
        let error = ColumnFlags::parse(&strings(map), &strings(set), &strings(unit)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn typed_cells_are_read_as_those_of_text_are() {
    let flags = flags(&[], &["location=l", "device_type=d"], &[]);
    let heading = strings(&["recorded_timestamp", "temperature"]);
    let rows = flags.resolve(&heading, false).unwrap().rows;
    let Value::Object(row) = json!({"recorded_timestamp": 1_700_000_000, "temperature": 21.5}) else {
        panic!()
    };
    let mapped = rows.row(row, &LIMITS, NOW).unwrap();
    assert_eq!(mapped.readings[0].reading.recorded_at, 1_700_000_000_000);
    assert_eq!(mapped.readings[0].reading.temperature, Some(21.5));
}
