//! The names and the texts of values: which name a metric is stored under, and which number a text is.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::message::text_of;
use crate::mapping::file::{DecimalMark, FieldsShape, NullWord};
use crate::mapping::path::{Wildcard, scalars};
use crate::mapping::units::Conversion;

/// The name that a metric is stored under.
pub(super) fn renamed(fields: &FieldsShape, name: &str) -> String {
    substituted(&fields.rename, name).unwrap_or_else(|| [&fields.prefix, name].concat())
}

/// The units that members state of each other, by `units_from`.
#[derive(Debug, Default)]
pub(super) struct StatedUnits {
    /// By the name of the value.
    of: HashMap<String, String>,
    /// The names of the members that hold them.
    places: HashSet<String>,
}

impl StatedUnits {
    /// Of the members that a wildcard finds.
    pub(super) fn of(fields: &FieldsShape, value: &Value, wildcard: Wildcard) -> Self {
        let mut stated = Self::default();
        if fields.units_from.is_empty() {
            return stated;
        }
        let (mut names, mut texts) = (Vec::new(), HashMap::new());
        scalars(value, wildcard, &mut |name, value| {
            match value {
                Value::String(text) => drop(texts.insert(name.to_owned(), text.trim().to_owned())),
                // A unit that is not stated is none, and no value.
                Value::Null => drop(texts.insert(name.to_owned(), String::new())),
                _ => {}
            }
            names.push(name.to_owned());
        });
        for name in names {
            let Some(place) = substituted(&fields.units_from, &name).filter(|place| *place != name) else {
                continue;
            };
            let Some(unit) = texts.get(&place) else { continue };
            if !unit.is_empty() {
                stated.of.insert(name, unit.clone());
            }
            stated.places.insert(place);
        }
        stated
    }

    pub(super) fn unit(&self, name: &str) -> Option<&String> {
        self.of.get(name)
    }

    /// Whether a member is the unit of another one.
    pub(super) fn is_unit(&self, name: &str) -> bool {
        self.places.contains(name)
    }
}

/// What stands for a name by a table of names, in which `*` stands for any text; the name itself before patterns.
fn substituted(table: &BTreeMap<String, String>, name: &str) -> Option<String> {
    if let Some(target) = table.get(name) {
        return Some(target.clone());
    }
    let (pattern, target) = table.iter().find(|(pattern, _)| pattern.contains('*') && fits(pattern, name))?;
    Some(match (target.split_once('*'), pattern.split_once('*')) {
        (Some((before, after)), Some((first, last))) => {
            let matched = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
            [before, matched.unwrap_or(name), after].concat()
        }
        _ => target.clone(),
    })
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
    pub(super) decimal_mark: DecimalMark,
    pub(super) null: &'s [NullWord],
    pub(super) words: &'s BTreeMap<String, f64>,
    /// What looks like a number is text all the same.
    pub(super) is_text: bool,
}

impl Rule<'_> {
    /// Whether a value is one of the words for "not measured". A word that is a number is that number in any spelling, unless
    /// the value is text.
    pub(super) fn is_null(self, value: &Value) -> bool {
        if self.null.is_empty() {
            return false;
        }
        let Some(text) = text_of(value) else { return false };
        let number = match value {
            _ if self.is_text => None,
            Value::Number(number) => number.as_f64(),
            _ => number(&text, self.decimal_mark).filter(|_| is_exact(&text)),
        };
        self.null.iter().any(|word| word.text == text || word.number.is_some() && word.number == number)
    }

    pub(super) fn convert<'v>(
        self,
        mut value: Cow<'v, Value>,
        conversion: Option<Conversion>,
    ) -> Cow<'v, Value> {
        if self.is_null(&value) {
            return Cow::Owned(Value::Null);
        }
        if let Value::String(text) = &*value {
            let trimmed = text.trim();
            if let Some(number) = self.words.get(trimmed) {
                value = Cow::Owned((*number).into());
            } else if !self.is_text
                && let Some(number) = number(trimmed, self.decimal_mark)
                && (conversion.is_some() || is_exact(trimmed))
            {
                value = Cow::Owned(number.into());
            }
        }
        let Some(conversion) = conversion else { return value };
        let number = match &*value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Cow::Owned(conversion.convert(number).into()),
            _ => value,
        }
    }
}

/// The number that a text is: digits with or without a sign, leading zeros, a decimal mark and an exponent. Neither "inf" and
/// "nan" nor what is too large for a float.
fn number(text: &str, mark: DecimalMark) -> Option<f64> {
    match mark {
        DecimalMark::Point => decimal(text),
        DecimalMark::Comma => with_comma(text).or_else(|| thousands(text)).or_else(|| decimal(text)),
        DecimalMark::Either => with_comma(text).or_else(|| decimal(text)),
    }
}

pub(in crate::mapping) fn decimal(text: &str) -> Option<f64> {
    let is_one = text.contains(|char: char| char.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    // The standard library's grammar is this one, with words beside it.
    text.parse().ok().filter(|number: &f64| is_one && number.is_finite())
}

/// Whether a float holds all digits of a text. A whole number that it does not hold is an id, and stays text.
fn is_exact(text: &str) -> bool {
    const MAX_WHOLE: u64 = 1 << 53;
    let digits = text.trim_start_matches(['+', '-']);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Leading zeros do not overflow; too many digits do, and are too large.
    !is_whole || digits.parse().is_ok_and(|number: u64| number <= MAX_WHOLE)
}

/// A number with a decimal comma, whose thousands may stand apart: `21,5`, `1.013,25`, `1 013,25`.
fn with_comma(text: &str) -> Option<f64> {
    let (whole, decimals) = text.split_once(',')?;
    if !whole.contains(SEPARATORS) {
        return decimal(&format!("{whole}.{decimals}"));
    }
    let is_number = decimals.len() <= 20 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    decimal(&format!("{}.{decimals}", ungrouped(whole, &SEPARATORS)?))
        .filter(|_| is_number && !decimals.is_empty())
}

/// `1.013` and `1.234.567` where a comma is the decimal mark. `0.123` is not of groups: no number begins with a group of 0.
fn thousands(text: &str) -> Option<f64> {
    let is_grouped = text.contains('.') && !text.trim_start_matches(['+', '-']).starts_with('0');
    decimal(&ungrouped(text, &['.']).filter(|_| is_grouped)?)
}

const SEPARATORS: [char; 5] = ['.', ' ', '\'', '\u{a0}', '\u{202f}'];

/// The sign and the digits of a whole number in groups: up to three digits, and then exactly three in each.
fn ungrouped(text: &str, separators: &[char]) -> Option<String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = &text[..text.len() - digits.len()];
    let mut groups = digits.split(separators);
    let is_of = |group: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_grouped =
        groups.next().is_some_and(|first| is_of(first, 1..=3)) && groups.all(|group| is_of(group, 3..=3));
    let digits = digits.chars().filter(char::is_ascii_digit).collect::<String>();
    is_grouped.then(|| format!("{sign}{digits}"))
}
