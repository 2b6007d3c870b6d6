//! The names and the texts of values: which name a metric is stored under, and which number a text is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::mapping::file::FieldsShape;
use crate::mapping::units::Conversion;
use crate::reading::LEGACY_MISSING;
use crate::reading::delimited::Dialect;

/// The name that a metric is stored under.
pub(super) fn renamed(fields: &FieldsShape, name: &str) -> String {
    if let Some(target) = fields.rename.get(name) {
        return target.clone();
    }
    let pattern = fields.rename.iter().find(|(pattern, _)| pattern.contains('*') && fits(pattern, name));
    match pattern {
        Some((pattern, target)) => match (target.split_once('*'), pattern.split_once('*')) {
            (Some((before, after)), Some((first, last))) => {
                let matched = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
                [before, matched.unwrap_or(name), after].concat()
            }
            _ => target.clone(),
        },
        None => [&fields.prefix, name].concat(),
    }
}

/// `*` stands for any text.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| match after.contains('*') {
            false => rest.ends_with(after),
            true => {
                (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
            }
        }),
    }
}

/// How the text of a value is read.
#[derive(Clone, Copy)]
pub(super) struct Rule<'s> {
    pub(super) decimal_comma: bool,
    pub(super) null: &'s [String],
    pub(super) words: &'s BTreeMap<String, f64>,
}

impl Rule<'_> {
    /// Whether a text is one of the words for "not measured".
    pub(super) fn is_null(self, value: &Value) -> bool {
        value.as_str().is_some_and(|text| self.null.iter().any(|word| word == text.trim()))
    }

    pub(super) fn convert<'v>(
        self,
        mut value: Cow<'v, Value>,
        conversion: Option<Conversion>,
    ) -> Cow<'v, Value> {
        const COMMA: Dialect = Dialect { delimiter: b';', has_decimal_comma: true };
        if let Value::String(text) = &*value {
            let trimmed = text.trim();
            if self.is_null(&value) {
                return Cow::Owned(Value::Null);
            }
            if let Some(number) = self.words.get(trimmed) {
                value = Cow::Owned((*number).into());
            } else if self.decimal_comma
                && let Some(number) = COMMA.number(trimmed).or_else(|| grouped(trimmed))
            {
                value = Cow::Owned(number.into());
            }
        }
        let Some(conversion) = conversion else { return value };
        let number = match &*value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            // The sentinel means "missing" in any unit.
            Some(number) if number != LEGACY_MISSING && number.is_finite() => {
                Cow::Owned(conversion.convert(number).into())
            }
            _ => value,
        }
    }
}

/// A number with a decimal comma whose thousands stand apart: `1.013,25`, `1 013,25`. Without the comma a dot could be a
/// decimal point.
fn grouped(text: &str) -> Option<f64> {
    let (whole, decimals) = text.split_once(',')?;
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut groups = digits.split(['.', ' ', '\'', '\u{a0}', '\u{202f}']);
    let is_of = |group: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_number =
        groups.next().is_some_and(|first| is_of(first, 1..=3)) && groups.all(|group| is_of(group, 3..=3));
    let whole: String = digits.chars().filter(char::is_ascii_digit).collect();
    match is_number && is_of(decimals, 1..=20) {
        true => format!("{sign}{whole}.{decimals}").parse().ok(),
        false => None,
    }
}
