//! JSON values as far as a reading cares: scalars borrowed from the message where they can be, arrays and objects
//! stepped over without being kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::LEGACY_MISSING;

/// A key, borrowed where it has no escapes.
pub(super) struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field name")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A JSON value as far as a reading cares; arrays and objects are stepped over.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Boolean(bool),
    /// Whole numbers are exact up to 2^53.
    Number(f64),
    Text(Cow<'a, str>),
    Compound,
}

/// 2^53: up to here a 64-bit float holds every whole number.
const MAX_WHOLE: u64 = 1 << 53;

impl<'a> Scalar<'a> {
    /// What stands for nothing as null (the legacy sentinel too, if the place has one), and (unless `verbatim`) a number in
    /// text as a number.
    pub(super) fn simplified(self, verbatim: bool, has_sentinel: bool) -> Self {
        match self {
            Self::Number(LEGACY_MISSING) if has_sentinel => Self::Null,
            Self::Text(text) => {
                let trimmed = text.trim();
                match number_in_text(trimmed).filter(|_| !verbatim) {
                    Some(LEGACY_MISSING) if has_sentinel => Self::Null,
                    Some(number) => Self::Number(number),
                    None if trimmed.is_empty() => Self::Null,
                    None => Self::Text(text),
                }
            }
            other => other,
        }
    }
}

/// A JSON number, and nothing that only looks like one: "0x10", "007", "1,5", "NaN" and "1.2.3" are text. Nor is a whole
/// number that would lose its last digits.
fn number_in_text(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = split_digits(unsigned)?;
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let rest_after_fraction = match rest.strip_prefix('.') {
        Some(fraction) => split_digits(fraction)?.1,
        None => rest,
    };
    if let Some(exponent) = rest_after_fraction.strip_prefix(['e', 'E']) {
        let (_, end) = split_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))?;
        if !end.is_empty() {
            return None;
        }
    } else if !rest_after_fraction.is_empty() {
        return None;
    }
    match rest.is_empty() {
        true => text
            .parse::<i64>()
            .ok()
            .filter(|whole| whole.unsigned_abs() <= MAX_WHOLE)
            .map(|whole| whole as f64),
        false => text.parse().ok(),
    }
}

/// One or more digits, and what follows them.
fn split_digits(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| text.split_at(digits))
}

pub(super) struct AnyScalar;

impl<'a> DeserializeSeed<'a> for AnyScalar {
    type Value = Scalar<'a>;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for AnyScalar {
    type Value = Scalar<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Compound)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Compound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_numbers_in_text_are_numbers() {
        for (text, number) in [("415", 415.0), ("-0.5", -0.5), ("1e3", 1000.0), ("0", 0.0), ("2.50", 2.5)] {
            assert_eq!(number_in_text(text), Some(number), "{text}");
        }
        let texts =
            ["", "-", "+5", "007", ".5", "5.", "1e", "0x10", "1,5", "1.2.3", "NaN", "inf", "12 V", "1e5x"];
        for text in texts {
            assert_eq!(number_in_text(text), None, "{text}");
        }
        assert_eq!(number_in_text("9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(number_in_text("9007199254740993"), None, "an id keeps its last digit as text");
    }
}
