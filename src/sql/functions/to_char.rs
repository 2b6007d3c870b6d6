//! `to_char(time, pattern)` with PostgreSQL's patterns (`YYYY-MM-DD HH24:MI`). One with `%` is DataFusion's own.

use std::sync::Arc;

use chrono::{DateTime, Datelike as _, NaiveDateTime, Timelike as _};
use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions::datetime;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::time::Zone;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToChar {
    signature: Signature,
    aliases: Vec<String>,
}

impl ToChar {
    pub(super) fn new() -> Self {
        // Under its other name, DataFusion's would go on. A session that is built again from its functions then registers it by both.
        let aliases = datetime::to_char().aliases().to_vec();
        Self { signature: Signature::user_defined(Volatility::Stable), aliases }
    }
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &'static str {
        "to_char"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [time, _] if time.is_temporal() || matches!(time, DataType::Interval(_)) => {
                Ok(vec![time.clone(), DataType::Utf8])
            }
            [time, _] if time.is_string() || time.is_null() => {
                Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Utf8])
            }
            _ => plan_err!(
                "to_char takes a time and a pattern, such as to_char(recorded_timestamp, 'YYYY-MM-DD HH24:MI')"
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pattern = match &args.args[1] {
            ColumnarValue::Scalar(pattern) => pattern.try_as_str().flatten().map(str::to_owned),
            ColumnarValue::Array(_) => return plan_err!("the pattern of to_char is one for all rows"),
        };
        let data_type = args.args[0].data_type();
        let is_time = matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
        let Some(pattern) = pattern.filter(|pattern| is_time && !pattern.contains('%')) else {
            return datetime::to_char().inner().invoke_with_args(args);
        };
        let Some(parts) = parts(&pattern) else {
            return plan_err!(
                "to_char does not know all of the pattern {pattern:?} (names in capitals, eras and TH are not supported)"
            );
        };
        let zone = match &data_type {
            DataType::Timestamp(_, Some(name)) if !["+00:00", "UTC"].contains(&&**name) => {
                Zone::named(name).ok()
            }
            _ => None,
        };
        let times = args.args[0].to_array(args.number_rows)?;
        let times = cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let shown = (0..times.len()).map(|row| {
            let micros = times.is_valid(row).then(|| times.value(row))?;
            let shift = zone.map_or(0, |zone| zone.offset(micros.div_euclid(1_000)) * 1_000);
            let time = DateTime::from_timestamp_micros(micros.checked_add(shift)?)?.naive_utc();
            Some(parts.iter().map(|part| part.of(&time)).collect::<String>())
        });
        Ok(ColumnarValue::Array(Arc::new(StringArray::from_iter(shown))))
    }
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// By a pattern of chrono's.
    Of(&'static str),
    /// The same, filled up with blanks to nine letters.
    Wide(&'static str),
    /// The same, without zeros and blanks before it.
    Narrow(&'static str),
    Quarter,
    /// The number of the day from Sunday, 1 to 7.
    Weekday,
    Milliseconds,
    Microseconds,
    /// The week of the month, from 1.
    WeekOfMonth,
}

/// Longer names before those that they begin with.
static PARTS: [(&str, Part); 34] = [
    ("YYYY", Part::Of("%Y")),
    ("IYYY", Part::Of("%G")),
    ("YY", Part::Of("%y")),
    ("IW", Part::Of("%V")),
    ("HH24", Part::Of("%H")),
    ("HH12", Part::Of("%I")),
    ("HH", Part::Of("%I")),
    ("MI", Part::Of("%M")),
    ("MM", Part::Of("%m")),
    ("MS", Part::Milliseconds),
    ("Month", Part::Wide("%B")),
    ("Mon", Part::Of("%b")),
    ("SS", Part::Of("%S")),
    ("US", Part::Microseconds),
    ("DDD", Part::Of("%j")),
    ("DD", Part::Of("%d")),
    ("Day", Part::Wide("%A")),
    ("Dy", Part::Of("%a")),
    ("ID", Part::Of("%u")),
    ("D", Part::Weekday),
    ("Q", Part::Quarter),
    ("W", Part::WeekOfMonth),
    ("AM", Part::Of("%p")),
    ("PM", Part::Of("%p")),
    ("am", Part::Of("%P")),
    ("pm", Part::Of("%P")),
    // In small letters they are the same numbers.
    ("yyyy", Part::Of("%Y")),
    ("yy", Part::Of("%y")),
    ("mm", Part::Of("%m")),
    ("dd", Part::Of("%d")),
    ("hh24", Part::Of("%H")),
    ("hh12", Part::Of("%I")),
    ("mi", Part::Of("%M")),
    ("ss", Part::Of("%S")),
];

/// `None` where there are letters that are no part.
fn parts(pattern: &str) -> Option<Vec<Part>> {
    let mut found = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            found.push(Part::Text(quoted[..end].to_owned()));
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        let (is_narrow, part) = match rest.strip_prefix("FM") {
            Some(part) => (true, part),
            None => (false, rest),
        };
        if let Some((name, kind)) = PARTS.iter().find(|(name, _)| part.starts_with(name)) {
            found.push(match kind {
                Part::Of(of) | Part::Wide(of) if is_narrow => Part::Narrow(of),
                kind => kind.clone(),
            });
            rest = &part[name.len()..];
            continue;
        }
        let letter = rest.chars().next()?;
        // ISO 8601's T stands between a date and a time without quotes, too.
        if letter.is_alphabetic() && letter != 'T' {
            return None;
        }
        found.push(Part::Text(letter.to_string()));
        rest = &rest[letter.len_utf8()..];
    }
    Some(found)
}

impl Part {
    fn of(&self, time: &NaiveDateTime) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Of(pattern) => time.format(pattern).to_string(),
            Self::Wide(pattern) => format!("{:9}", time.format(pattern).to_string()),
            Self::Narrow(pattern) => {
                let text = time.format(pattern).to_string();
                let narrow = text.trim_start_matches('0');
                if narrow.is_empty() { "0".to_owned() } else { narrow.to_owned() }
            }
            Self::Quarter => (time.month0() / 3 + 1).to_string(),
            Self::Weekday => (time.weekday().num_days_from_sunday() + 1).to_string(),
            Self::Milliseconds => format!("{:03}", time.nanosecond() / 1_000_000 % 1_000),
            Self::Microseconds => format!("{:06}", time.nanosecond() / 1_000 % 1_000_000),
            Self::WeekOfMonth => (time.day0() / 7 + 1).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_postgresql() {
        let time = DateTime::parse_from_rfc3339("2026-02-08T09:05:07.012345Z").unwrap().naive_utc();
        let show = |pattern: &str| {
            parts(pattern).map(|parts| parts.iter().map(|part| part.of(&time)).collect::<String>())
        };
        for (pattern, expected) in [
            ("YYYY-MM-DD HH24:MI:SS", "2026-02-08 09:05:07"),
            ("yyyy-mm-dd hh24:mi", "2026-02-08 09:05"),
            ("YYYY-MM-DD\"T\"HH24:MI:SS.MS", "2026-02-08T09:05:07.012"),
            ("SS.US", "07.012345"),
            ("Day, DD. Month", "Sunday   , 08. February "),
            ("FMDay, FMDD. FMMonth", "Sunday, 8. February"),
            ("Dy Mon HH12 AM", "Sun Feb 09 AM"),
            ("IYYY-IW-ID D Q W DDD", "2026-06-7 1 1 2 039"),
            ("FMHH24", "9"),
        ] {
            assert_eq!(show(pattern).as_deref(), Some(expected), "{pattern}");
        }
        for unknown in ["MONTH", "DDth", "J", "YYYY BC"] {
            assert_eq!(show(unknown), None, "{unknown}");
        }
    }
}
