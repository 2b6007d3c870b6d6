use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::reading::{Group, Metric};

const NOW: i64 = 1_769_860_800_000; // 2026-01-31T12:00:00Z

fn reading() -> StoredReading {
    StoredReading {
        group: Arc::new(Group { location: "plant-1".into(), device_type: "thermostat".into() }),
        sensor: Uuid::nil(),
        recorded_at: NOW - 60_000,
        temperature: Some(28.3),
        humidity: Some(40.0),
        pressure: None,
        light_level: Some(0.0),
        gas_concentration: None,
        bucket_seconds: 3600,
        motion_detected: Some(true),
        other_metrics: Box::new([
            ("5\" pipe".into(), 3.0),
            ("fan speed".into(), 2.0),
            ("it's".into(), 4.0),
            ("rpm".into(), 1500.0),
        ]),
        states: Box::default(),
        has_narrow_metrics: false,
    }
}

fn accepts(text: &str) -> bool {
    Filter::parse(text, Zone::Utc, NOW).unwrap_or_else(|error| panic!("{error}")).accepts(&reading())
}

fn refusal(text: &str) -> FilterError {
    Filter::parse(text, Zone::Utc, NOW).expect_err(text)
}

#[test]
fn comparisons_hold_for_matching_values() {
    for yes in [
        "temperature > 28",
        "temperature = 28.3",
        "temperature == 28.3 and humidity <= 40",
        "temperature<>1",
        "light_level >= -1e3",
        "rpm > 1000 and \"fan speed\" = 2",
        "\"5\"\" pipe\" = 3 and '5\" pipe' = 3 and \"it's\" = 4 and 'it''s' = 4",
        "motion_detected",
        "motion_detected = TRUE AND NOT motion_detected != true",
        "location = 'plant-1' and device_type != \"machine\"",
        "iot_sensor_id = '00000000-0000-0000-0000-000000000000'",
        "recorded_timestamp >= '5m ago' and recorded_timestamp < 'now'",
    ] {
        assert!(accepts(yes), "{yes}");
    }
    for no in ["temperature < 28.3", "humidity > 40", "not motion_detected", "rpm != 1500", "location = 'x'"]
    {
        assert!(!accepts(no), "{no}");
    }
}

#[test]
fn and_binds_tighter_than_or_and_parentheses_change_that() {
    assert!(accepts("temperature > 0 or temperature > 0 and temperature < 0"));
    assert!(!accepts("(temperature > 0 or temperature > 0) and temperature < 0"));
    assert!(accepts("not (temperature < 0 or humidity < 0)"));
}

#[test]
fn a_missing_value_satisfies_no_comparison_nor_its_negation() {
    for never in
        ["pressure > 3", "not pressure > 3", "not (pressure > 3 and temperature > 0)", "unheard_of != 1"]
    {
        assert!(!accepts(never), "{never}");
    }
    assert!(accepts("pressure is missing and temperature is not missing and unheard_of is missing"));
    assert!(accepts("pressure > 3 or temperature > 0"), "unknown or true is true");
    assert!(accepts("not (pressure > 3 and temperature < 0)"), "unknown and false is false");
    assert!(!accepts("other_metrics is missing"));
}

#[test]
fn an_error_marks_the_place_and_names_the_remedy() {
    let cases = [
        ("", 0, "expected a column"),
        ("temperature", 0, "expected =, !="),
        ("temperature > ", 14, "must be compared with a number"),
        ("temperature > hot", 14, "must be compared with a number"),
        ("temperature >> 3", 13, "must be compared with a number"),
        ("temperature ~ 3", 12, "unexpected character"),
        ("temperature > 1e999", 14, "too large"),
        ("temperature > 1.2.3", 14, "not a number"),
        ("28 < temperature", 0, "must start with a column"),
        ("(temperature > 3", 16, "expected `)`"),
        ("temperature > 3)", 15, "unexpected `)`"),
        ("temperature > 3 humidity > 2", 16, "expected `and`"),
        ("humidity is gone", 12, "expected `missing`"),
        ("location = 'plant", 11, "not closed"),
        ("location = plant", 11, "text in quotes"),
        ("motion_detected = 1", 18, "true or false"),
        ("recorded_timestamp > 'later'", 21, "is not a time"),
        ("other_metrics = 3", 16, "is a map"),
        ("größe > 3 ! 2", 10, "unknown operator"),
    ];
    for (text, column, message) in cases {
        let error = refusal(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
    assert!(refusal("rpm > x").to_string().ends_with("\n  rpm > x\n        ^"));
}

#[test]
fn depth_and_length_are_bounded() {
    assert!(refusal(&"(".repeat(2_000)).message.contains("nested more than"));
    assert!(refusal(&"not ".repeat(900)).message.contains("nested more than"));
    assert!(refusal(&"x > 1 and ".repeat(1_000)).message.contains("bytes long"));
    // The longest accepted chain must be usable.
    let chain = vec!["a>1"; 450].join(" or ");
    assert!(!accepts(&chain));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        any in "\\PC{0,60}",
        near in prop::collection::vec(prop::sample::select(vec![
            "temperature", "rpm", "(", ")", "and", "or", "not", "is", "missing", "<", ">=", "=", "!", "3", "-1e9",
            "'x'", "\"", "motion_detected", "true", "é", "recorded_timestamp", "\n",
        ]), 0..20),
    ) {
        for text in [any, near.join(" ")] {
            match Filter::parse(&text, Zone::Utc, NOW) {
                Ok(filter) => { filter.accepts(&reading()); }
                Err(error) => prop_assert!(error.column <= text.chars().count()),
            }
        }
    }

    #[test]
    fn any_metric_name_can_be_written_in_either_quotes(name in "\\PC{1,40}|['\"\\x00-\\x1f\\u{202e}a]{1,20}") {
        prop_assume!(matches!(Column::named(&name), Column::Metric(Metric::Other(_))));
        let reading = StoredReading { other_metrics: Box::new([(name.as_str().into(), 7.0)]), ..reading() };
        for quote in ['"', '\''] {
            let doubled = name.replace(quote, &format!("{quote}{quote}"));
            let text = format!("{quote}{doubled}{quote} = 7 and temperature > 0");
            let filter = Filter::parse(&text, Zone::Utc, NOW);
            prop_assert!(filter.is_ok(), "{text:?}: {filter:?}");
            let filter = filter.unwrap();
            prop_assert_eq!(filter.columns()[0], &Column::Metric(Metric::Other(name.clone())));
            prop_assert!(filter.accepts(&reading), "{text:?}");
        }
    }

    #[test]
    fn negation_flips_what_is_known(limit in -50.0f64..80.0) {
        let plain = accepts(&format!("temperature > {limit}"));
        prop_assert_ne!(plain, accepts(&format!("not temperature > {limit}")));
        prop_assert_eq!(plain, 28.3 > limit);
    }
}
