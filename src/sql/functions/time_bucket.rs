//! `time_bucket(width, moment [, zone])`: the start of the bucket that a moment is in. An interval in the place of the zone moves all
//! buckets, and a moment is the start of one of them; those are of one length in UTC.
//!
//! Buckets are the periods of [`crate::time::Span`] in the zone (UTC without one). As in TimescaleDB, those of several days are
//! counted from Monday, 2000-01-03, and of several months from 2000-01-01.

use std::sync::Arc;

use datafusion::arrow::array::{Array, TimestampMillisecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use crate::sql::tables::moment;
use crate::time::{DAY, Periods, Span, Zone};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(in crate::sql) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &'static str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=3).contains(&given.len()) {
            return plan_err!(
                "time_bucket takes a width, a moment and, if wanted, a time zone, an offset or an origin"
            );
        }
        let width = match &given[0] {
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            _ => DataType::Utf8,
        };
        let at = match &given[1] {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
            _ => moment(),
        };
        let counted = given.get(2).map(|third| match third {
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Timestamp(..) => moment(),
            _ => DataType::Utf8,
        });
        Ok([width, at].into_iter().chain(counted).collect())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(moment())
    }

    /// It never falls where the moment rises: width, zone, offset and origin are the same for all rows.
    fn output_ordering(&self, given: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match given {
            [_, at, ..] => at.sort_properties,
            _ => SortProperties::Unordered,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match args.args.get(2) {
            None => None,
            Some(ColumnarValue::Scalar(zone)) => Some(zone),
            Some(ColumnarValue::Array(_)) => {
                return plan_err!("the time zone, offset or origin of time_bucket is one for all rows");
            }
        };
        let ColumnarValue::Scalar(width) = &args.args[0] else {
            return plan_err!("the width of time_bucket is one for all rows");
        };
        let mut buckets = periods(width, zone)?.cursor();
        let given = args.args[1].to_array(args.number_rows)?;
        let given = cast(&given, &moment())?;
        let Some(given) = given.as_any().downcast_ref::<TimestampMillisecondArray>() else {
            return plan_err!("time_bucket takes a moment");
        };
        let found =
            (0..given.len()).map(|row| given.is_valid(row).then(|| buckets.of(given.value(row)).from));
        let found = TimestampMillisecondArray::from_iter(found).with_timezone("+00:00");
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

/// The buckets of a width and a zone, an offset or an origin, as literals of a statement.
///
/// # Errors
/// What is wrong with them.
pub(in crate::sql) fn periods(width: &ScalarValue, zone: Option<&ScalarValue>) -> Result<Periods> {
    match zone {
        Some(ScalarValue::IntervalMonthDayNano(Some(offset))) => {
            let offset = match offset.months {
                0 => i64::from(offset.days) * DAY + offset.nanoseconds / 1_000_000,
                _ => return plan_err!("the offset of time_bucket has no months"),
            };
            return bins(width, FIRST_MONDAY * DAY + offset);
        }
        Some(ScalarValue::TimestampMillisecond(Some(origin), _)) => return bins(width, *origin),
        _ => {}
    }
    let zone = match zone.map(|zone| zone.try_as_str().flatten()) {
        None => Zone::Utc,
        Some(Some(name)) => match Zone::named(name) {
            Ok(zone) => zone,
            Err(error) => return plan_err!("{error}"),
        },
        Some(None) => return plan_err!("the time zone of time_bucket is a text, such as 'Europe/Berlin'"),
    };
    Ok(match span(width)? {
        width @ (Span::Clock(_) | Span::Days(1)) => Periods::every(width, zone),
        width => Periods::Since(FIRST_MONDAY, width, zone),
    })
}

/// Buckets of one length, one of which begins at `origin`.
fn bins(width: &ScalarValue, origin: i64) -> Result<Periods> {
    let length = match width_of(width)? {
        Span::Clock(length) => length,
        Span::Days(days) => days * DAY,
        Span::Weeks(weeks) => weeks * 7 * DAY,
        Span::Months(_) => return plan_err!("buckets of months have no offset and no origin"),
    };
    Ok(Periods::Bins { origin, length })
}

/// The length that a width stands for. Days that are an exact number of milliseconds follow the calendar too.
///
/// # Errors
/// That it is not a width.
pub(in crate::sql) fn span(width: &ScalarValue) -> Result<Span> {
    Ok(match width_of(width)? {
        Span::Clock(width) if width % DAY == 0 => Span::Days(width / DAY),
        width => width,
    })
}

/// The width of an interval, or of a text such as `1 day`, `15m` or `2 weeks`.
fn width_of(width: &ScalarValue) -> Result<Span> {
    let width = match width {
        ScalarValue::IntervalMonthDayNano(Some(width)) => {
            match (width.months, width.days, width.nanoseconds) {
                (months @ 1.., 0, 0) => Some(Span::Months(i64::from(months))),
                (0, days @ 1.., 0) => Some(Span::Days(i64::from(days))),
                (0, 0, nanoseconds @ 1_000_000..) => Some(Span::Clock(nanoseconds / 1_000_000)),
                _ => None,
            }
        }
        text => text.try_as_str().flatten().and_then(width_of_text),
    };
    match width {
        Some(width) => Ok(width),
        None => plan_err!(
            "the width of time_bucket is one whole number of one unit, such as '15 minutes', '1 day' or '1 month'"
        ),
    }
}

fn width_of_text(text: &str) -> Option<Span> {
    const SECOND: i64 = 1_000;
    let text = text.trim();
    // As Grafana writes its $__timeGroup: '60.000s'.
    let in_milliseconds = text
        .strip_suffix('s')
        .and_then(|seconds| seconds.split_once('.'))
        .filter(|(_, milliseconds)| milliseconds.len() == 3)
        .map(|(seconds, milliseconds)| format!("{seconds}{milliseconds}ms"));
    let text = in_milliseconds.as_deref().unwrap_or(text);
    let digits = text.find(|char: char| !char.is_ascii_digit())?;
    let number = text[..digits].parse::<i64>().ok().filter(|number| (1..1_000_000_000).contains(number))?;
    let unit = text[digits..].trim().to_lowercase();
    Some(match unit.as_str() {
        "ms" | "millisecond" | "milliseconds" => Span::Clock(number),
        "s" | "sec" | "second" | "seconds" => Span::Clock(number * SECOND),
        "m" | "min" | "minute" | "minutes" => Span::Clock(number * 60 * SECOND),
        "h" | "hour" | "hours" => Span::Clock(number * 3_600 * SECOND),
        "d" | "day" | "days" => Span::Days(number),
        "w" | "week" | "weeks" => Span::Days(number * 7),
        "mo" | "mon" | "month" | "months" => Span::Months(number),
        "y" | "year" | "years" => Span::Months(number * 12),
        _ => return None,
    })
}

/// Monday, 2000-01-03, in days since 1970-01-01.
pub(in crate::sql) const FIRST_MONDAY: i64 = 10_959;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::rfc3339;

    fn bucket(width: &str, zone: &str, at: &str) -> String {
        let periods = periods(&ScalarValue::from(width), Some(&ScalarValue::from(zone))).unwrap();
        crate::time::display(periods.of(rfc3339(at).unwrap()).from)
    }

    #[test]
    fn buckets_follow_the_clock_and_the_calendar_of_the_zone() {
        let cases = [
            ("15 minutes", "UTC", "2026-01-31T12:44:59.999Z", "2026-01-31T12:30:00.000Z"),
            ("1h", "Asia/Kolkata", "2026-01-31T12:44:00Z", "2026-01-31T12:30:00.000Z"),
            ("1 day", "UTC", "2026-01-31T12:44:59Z", "2026-01-31T00:00:00.000Z"),
            ("1 day", "Europe/Berlin", "2026-01-31T23:30:00Z", "2026-01-31T23:00:00.000Z"),
            // The day on which clocks are set forward has 23 hours.
            ("1 day", "Europe/Berlin", "2026-03-29T21:59:00Z", "2026-03-28T23:00:00.000Z"),
            ("1 day", "Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-29T22:00:00.000Z"),
            // 2026-02-01 is a Sunday.
            ("1 week", "UTC", "2026-02-01T10:00:00Z", "2026-01-26T00:00:00.000Z"),
            ("1 month", "Europe/Berlin", "2026-03-31T22:30:00Z", "2026-03-31T22:00:00.000Z"),
            ("3 months", "UTC", "2026-05-31T10:00:00Z", "2026-04-01T00:00:00.000Z"),
            ("1 year", "UTC", "1969-12-31T10:00:00Z", "1969-01-01T00:00:00.000Z"),
        ];
        for (width, zone, at, expected) in cases {
            assert_eq!(bucket(width, zone, at), expected, "{width} {zone} {at}");
        }
    }

    #[test]
    fn a_bucket_of_several_hours_is_one_where_the_clock_is_set_back_in_it() {
        for at in ["2026-10-24T23:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T04:59:59Z"] {
            assert_eq!(bucket("6 hours", "Europe/Berlin", at), "2026-10-24T22:00:00.000Z", "{at}");
        }
    }

    #[test]
    fn several_days_and_months_are_counted_from_the_year_2000() {
        assert_eq!(bucket("2 days", "UTC", "2000-01-04T10:00:00Z"), "2000-01-03T00:00:00.000Z");
        assert_eq!(bucket("3 weeks", "UTC", "2000-01-20T10:00:00Z"), "2000-01-03T00:00:00.000Z");
        assert_eq!(bucket("7 months", "UTC", "2000-07-31T10:00:00Z"), "2000-01-01T00:00:00.000Z");
        assert_eq!(bucket("999999999 months", "UTC", "1999-12-31T10:00:00Z"), "1999-12-31T10:00:00.000Z");
    }

    #[test]
    fn an_offset_moves_all_buckets_and_an_origin_begins_one() {
        let at = rfc3339("2026-01-31T13:59:59.999Z").unwrap();
        let of = |width: &str, third: ScalarValue| {
            periods(&ScalarValue::from(width), Some(&third))
                .map(|periods| crate::time::display(periods.of(at).from))
        };
        let offset = |days, nanoseconds| ScalarValue::new_interval_mdn(0, days, nanoseconds);
        assert_eq!(of("6 hours", offset(0, 7_200_000_000_000)).unwrap(), "2026-01-31T08:00:00.000Z");
        assert_eq!(of("6 hours", offset(0, -7_200_000_000_000)).unwrap(), "2026-01-31T10:00:00.000Z");
        // Weeks that begin on Sunday. 2026-01-31 is a Saturday.
        assert_eq!(of("1 week", offset(-1, 0)).unwrap(), "2026-01-25T00:00:00.000Z");
        let origin = ScalarValue::TimestampMillisecond(rfc3339("2026-01-01T01:30:00Z"), None);
        assert_eq!(of("1 day", origin.clone()).unwrap(), "2026-01-31T01:30:00.000Z");
        assert!(of("1 month", origin).is_err());
        assert!(of("1 day", ScalarValue::new_interval_mdn(1, 0, 0)).is_err());
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_buckets() {
        let first = bucket("1 hour", "Europe/Berlin", "2026-10-25T00:30:00Z");
        let second = bucket("1 hour", "Europe/Berlin", "2026-10-25T01:30:00Z");
        assert_eq!([first, second], ["2026-10-25T00:00:00.000Z", "2026-10-25T01:00:00.000Z"]);
    }

    #[test]
    fn a_width_that_is_none_is_refused() {
        for width in ["", "day", "0 days", "-1 day", "1 fortnight", "1 day 2 hours"] {
            assert!(width_of(&ScalarValue::from(width)).is_err(), "{width}");
        }
    }
}
