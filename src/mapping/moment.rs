//! `recorded_timestamp` from what a message holds. The unit of a number is stated by the mapping and never guessed; a
//! refusal suggests what the number looks like.

use jiff::fmt::strtime::BrokenDownTime;
use serde_json::Value;

use crate::time::{self, Zone};

/// How a timestamp is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TimestampFormat {
    Rfc3339,
    /// A count since 1970, this many in a millisecond (negative: milliseconds in one).
    Epoch(Epoch),
    /// A pattern of strftime.
    Pattern(String),
    /// However programs write moments in files: see [`time::recorded`]. Only flags name a column so; a mapping file says which.
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Epoch {
    const ALL: [(&'static str, &'static str, Epoch); 4] = [
        ("s", "seconds", Epoch::Seconds),
        ("ms", "milliseconds", Epoch::Milliseconds),
        ("us", "microseconds", Epoch::Microseconds),
        ("ns", "nanoseconds", Epoch::Nanoseconds),
    ];

    /// Nanoseconds in one.
    fn nanos(self) -> i128 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }
}

impl TimestampFormat {
    /// # Errors
    /// How to write it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let epoch = Epoch::ALL.iter().find(|(short, long, _)| *short == text || *long == text);
        match (text, epoch) {
            ("rfc3339", _) => Ok(Self::Rfc3339),
            (_, Some((.., epoch))) => Ok(Self::Epoch(*epoch)),
            (pattern, None) if pattern.contains('%') => Ok(Self::Pattern(pattern.to_owned())),
            _ => Err(format!(
                "format {text:?} is not known (rfc3339; s, ms, us or ns since 1970; or a pattern of strftime, such as \
                 \"%d.%m.%Y %H:%M:%S\")"
            )),
        }
    }
}

/// Milliseconds since the epoch, fractions of a millisecond dropped.
///
/// # Errors
/// What is wrong with the value, and what to write in the mapping.
pub(super) fn moment(value: &Value, format: &TimestampFormat, zone: Option<Zone>) -> Result<i64, String> {
    let shown = || match value {
        Value::String(text) => format!("\"{}\"", crate::reading::shown(text)),
        other => crate::reading::shown(&other.to_string()),
    };
    match (format, value) {
        (TimestampFormat::Rfc3339, Value::String(text)) => {
            let text = text.trim();
            let with_offset = time::rfc3339(text)
                .or_else(|| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond));
            match (with_offset, zone) {
                (Some(at), _) => Ok(at),
                (None, Some(zone)) => {
                    let local: jiff::civil::DateTime =
                        text.parse().map_err(|_| format!("{} is not RFC 3339 or ISO 8601", shown()))?;
                    local_moment(local, zone)
                }
                (None, None) => Err(match text.parse::<jiff::civil::DateTime>().is_ok() {
                    true => format!("{} has no offset from UTC (set time_zone = \"Europe/Berlin\")", shown()),
                    false => format!("{} is not RFC 3339 (set format){}", shown(), suggestion(value)),
                }),
            }
        }
        (TimestampFormat::Rfc3339, Value::Number(_)) => Err(format!(
            "{} is a number (set format = \"s\", \"ms\", \"us\" or \"ns\"){}",
            shown(),
            suggestion(value)
        )),
        (TimestampFormat::Written, Value::String(_) | Value::Number(_)) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            time::recorded(&text).ok_or_else(|| {
                format!("{} is not a timestamp (such as 2013-12-02 21:15:00, RFC 3339, or epoch)", shown())
            })
        }
        (TimestampFormat::Epoch(epoch), _) => {
            count(value, *epoch).ok_or_else(|| format!("{} is not a count since 1970", shown()))
        }
        (TimestampFormat::Pattern(pattern), Value::String(_) | Value::Number(_)) => {
            let text = match value {
                Value::String(text) => text.trim().to_owned(),
                other => other.to_string(),
            };
            let parsed = BrokenDownTime::parse(pattern, &text)
                .map_err(|error| format!("{} does not fit the format {pattern:?}: {error}", shown()))?;
            if let Ok(at) = parsed.to_timestamp() {
                return Ok(at.as_millisecond());
            }
            // A zone that the text names itself counts before the mapping's.
            if let Some(name) = parsed.iana_time_zone() {
                let zoned = parsed
                    .to_zoned()
                    .map_err(|error| format!("{} is no moment ({name}): {error}", shown()))?;
                return Ok(zoned.timestamp().as_millisecond());
            }
            let local = parsed.to_datetime().or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0)));
            let local = local.map_err(|error| format!("{} is no moment: {error}", shown()))?;
            match zone {
                Some(zone) => local_moment(local, zone),
                None => Err(format!(
                    "the format {pattern:?} has no offset from UTC (set time_zone = \"UTC\", or another zone)"
                )),
            }
        }
        _ => Err(format!("{} is not a timestamp", shown())),
    }
}

/// The first of two moments with that name; a time that the clock skips is as late as it would have been.
fn local_moment(local: jiff::civil::DateTime, zone: Zone) -> Result<i64, String> {
    let wall = local.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
    Ok(zone.earliest(wall.timestamp().as_millisecond()))
}

/// A count since 1970 in milliseconds, exactly: whole numbers and decimal text without a detour through floats.
fn count(value: &Value, epoch: Epoch) -> Option<i64> {
    let to_millis = |nanos: i128| i64::try_from(nanos.div_euclid(1_000_000)).ok();
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))?;
            to_millis(whole.checked_mul(epoch.nanos())?)
        }
        // The shortest decimal that the float stands for.
        Value::Number(number) => decimal(&number.to_string(), epoch).and_then(to_millis),
        Value::String(text) => decimal(text.trim(), epoch).and_then(to_millis),
        _ => None,
    }
}

/// Nanoseconds of a decimal number such as `1795600030.5` and `1.7956e9`.
fn decimal(text: &str, epoch: Epoch) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|it| it.abs() < 30)?),
        None => (text, 0),
    };
    let (is_negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if whole.is_empty() || all.len() > 30 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i128 = all.parse().ok()?;
    let scale = exponent - i32::try_from(fraction.len()).ok()?;
    let nanos = number.checked_mul(epoch.nanos())?;
    let power = 10i128.checked_pow(scale.unsigned_abs())?;
    let signed = if is_negative { -nanos } else { nanos };
    if scale < 0 { Some(signed.div_euclid(power)) } else { signed.checked_mul(power) }
}

fn suggestion(value: &Value) -> String {
    suggested(value)
        .map_or_else(String::new, |(short, at)| format!("; as {short:?} it would be {}", time::display(at)))
}

/// What a count looks like: the unit that puts it between 2000 and 2100, and the moment.
fn suggested(value: &Value) -> Option<(&'static str, i64)> {
    const RANGE: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;
    Epoch::ALL
        .iter()
        .find_map(|(short, _, epoch)| Some((*short, count(value, *epoch).filter(|at| RANGE.contains(at))?)))
}

/// The unit that a count looks like, for a draft.
pub(super) fn suggested_unit(value: &Value) -> Option<&'static str> {
    suggested(value).map(|(unit, _)| unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value, format: &str, zone: Option<&str>) -> Result<String, String> {
        let zone = zone.map(|name| Zone::named(name).unwrap());
        moment(&value, &TimestampFormat::parse(format).unwrap(), zone).map(time::display)
    }

    #[test]
    fn each_form_is_the_moment_that_it_means() {
        let berlin = Some("Europe/Berlin");
        for (value, format, zone, moment) in [
            (json!("2026-11-20T10:00:00+01:00"), "rfc3339", None, "2026-11-20T09:00:00.000Z"),
            (json!("2026-11-20T10:00:09.999999999Z"), "rfc3339", None, "2026-11-20T10:00:09.999Z"),
            (json!("2026-11-20T10:00:00"), "rfc3339", berlin, "2026-11-20T09:00:00.000Z"),
            (json!("2026-11-20 10:00:00.25"), "rfc3339", berlin, "2026-11-20T09:00:00.250Z"),
            (json!(1_795_600_000), "s", None, "2026-11-25T09:46:40.000Z"),
            (json!(1_795_600_030.123), "s", None, "2026-11-25T09:47:10.123Z"),
            (json!("1795600030.5"), "s", None, "2026-11-25T09:47:10.500Z"),
            (json!(1_795_600_000_123i64), "ms", None, "2026-11-25T09:46:40.123Z"),
            (json!(1_795_600_000_123_999i64), "us", None, "2026-11-25T09:46:40.123Z"),
            (json!(1_795_600_000_500_000_000i64), "ns", None, "2026-11-25T09:46:40.500Z"),
            (json!("1795600000500000000"), "ns", None, "2026-11-25T09:46:40.500Z"),
            (json!("20.11.2026 10:00:05"), "%d.%m.%Y %H:%M:%S", berlin, "2026-11-20T09:00:05.000Z"),
            (json!("20/Nov/2026:10:00:05 +0100"), "%d/%b/%Y:%H:%M:%S %z", None, "2026-11-20T09:00:05.000Z"),
            (json!("2026-11-20"), "%Y-%m-%d", Some("UTC"), "2026-11-20T00:00:00.000Z"),
            // What the text says of its zone counts before the mapping's.
            (json!("2026-11-20 10:00 Asia/Tokyo"), "%F %R %Q", berlin, "2026-11-20T01:00:00.000Z"),
            (json!("2026-10-25 02:30 Europe/Berlin"), "%F %R %Q", None, "2026-10-25T00:30:00.000Z"),
            // The hour that comes twice is the first of the two.
            (json!("2026-10-25T02:30:00"), "rfc3339", berlin, "2026-10-25T00:30:00.000Z"),
        ] {
            assert_eq!(read(value.clone(), format, zone).as_deref(), Ok(moment), "{value} as {format}");
        }
    }

    #[test]
    fn a_unit_is_suggested_and_not_guessed() {
        for (value, format, words) in [
            (
                json!(1_795_600_000),
                "rfc3339",
                vec!["is a number", "as \"s\" it would be 2026-11-25T09:46:40.000Z"],
            ),
            (json!(1_795_600_000_123i64), "rfc3339", vec!["as \"ms\" it would be 2026"]),
            (json!("2026-11-20T10:00:00"), "rfc3339", vec!["no offset", "time_zone"]),
            (json!("soon"), "rfc3339", vec!["is not RFC 3339"]),
            (json!("soon"), "s", vec!["\"soon\" is not a count"]),
            (json!("2026"), "%d.%m.%Y", vec!["does not fit"]),
            (json!("20.11.2026"), "%d.%m.%Y", vec!["time_zone"]),
            (json!([1]), "s", vec!["not a count"]),
            (json!(true), "rfc3339", vec!["not a timestamp"]),
        ] {
            let error = read(value, format, None).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        assert!(TimestampFormat::parse("seconds since").is_err());
    }
}
