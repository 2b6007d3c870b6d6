//! What texts and numbers say beside a value: decimal commas, units behind numbers, marks for "not measured".

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::observed::Place;
use super::{names, quoted};
use crate::mapping::units::Conversion;

/// `decimal_comma` and `null`, where texts need them.
pub(super) fn of_texts<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    const NULLS: &[&str] = &[
        "n/a",
        "N/A",
        "NA",
        "null",
        "NULL",
        "None",
        "none",
        "nan",
        "NaN",
        "-",
        "--",
        "unavailable",
        "unknown",
    ];
    let (mut has_comma, mut nulls) = (false, BTreeSet::new());
    let (mut has_units, mut is_split) = (false, true);
    for value in values.filter_map(Value::as_str).map(str::trim) {
        // "---" and "***" are no values either.
        if !value.is_empty() && value.len() <= 8 && !value.contains(char::is_alphanumeric) {
            // Neither are the symbols of units.
            if Conversion::between(value, value).is_err() {
                nulls.insert(value);
            }
            continue;
        }
        if let Some((number, unit)) = names::number_with_unit(value) {
            has_units |= !unit.is_empty();
            has_comma |= number.contains(',');
            continue;
        }
        is_split &= !value.starts_with(|first: char| first.is_ascii_digit());
        let digits = value.strip_prefix('-').unwrap_or(value);
        has_comma |= digits.split_once(',').is_some_and(|(whole, part)| {
            [whole, part].iter().all(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
        });
        nulls.extend(NULLS.iter().find(|null| **null == value));
    }
    let mut text = String::new();
    if has_units && is_split {
        text.push_str(
            "pattern = '^(?<value>[-+]?[0-9][0-9.,]*) ?(?<unit>[^0-9]*)$'    # a number and its unit\n",
        );
    }
    if has_comma {
        text.push_str("decimal_comma = true\n");
    }
    if !nulls.is_empty() {
        let nulls: Vec<String> = nulls.into_iter().map(quoted).collect();
        let _ = writeln!(text, "null = [{}]", nulls.join(", "));
    }
    text
}

/// Numbers that devices send for "not measured", where other values of the place are far from them. They may be values all the
/// same, so that a person has to say it.
pub(super) fn sentinels<'p>(places: impl Iterator<Item = &'p Place>) -> String {
    const SENTINELS: [i32; 4] = [-999, -9999, -99_999, -32_768];
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    let mut text = String::new();
    for place in places {
        let values: Vec<f64> = place.examples.iter().filter_map(number).collect();
        let found = SENTINELS.into_iter().find(|sentinel| {
            let sentinel = f64::from(*sentinel);
            values.contains(&sentinel)
                && values.iter().any(|value| *value != sentinel)
                && values.iter().all(|value| *value == sentinel || *value > sentinel / 2.0)
        });
        if let Some(sentinel) = found {
            let _ = writeln!(
                text,
                "# null = [{sentinel}]    # if it stands for \"not measured\" in {}",
                place.path
            );
        }
    }
    text
}
