//! Expressions of time that readings are grouped by, as periods.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use crate::sql::functions::time_bucket::periods as bucket;
use crate::sql::tables::{READING_KEYS, moment};
use crate::time::{Periods, Span, Zone};

const NANOSECONDS: i64 = 1_000_000;

/// The periods whose starts an expression gives for the moment of a reading.
pub(super) fn periods(expression: &Expr) -> Option<Periods> {
    match expression {
        // The date of a moment, in UTC.
        Expr::Cast(cast) if is_moment(&cast.expr) && *cast.field.data_type() == DataType::Date32 => {
            Some(Periods::Days(Zone::Utc))
        }
        Expr::ScalarFunction(function) => match (function.func.name(), function.args.as_slice()) {
            ("time_bucket", [Expr::Literal(width, _), at]) if is_moment(at) => bucket(width, None).ok(),
            ("time_bucket", [Expr::Literal(width, _), at, Expr::Literal(zone, _)]) if is_moment(at) => {
                bucket(width, Some(zone)).ok()
            }
            ("date_trunc", [Expr::Literal(unit, _), at]) if is_moment(at) => {
                truncated(unit.try_as_str().flatten()?)
            }
            ("date_bin", [Expr::Literal(width, _), at]) if is_moment(at) => bins(width, 0),
            ("date_bin", [Expr::Literal(width, _), at, Expr::Literal(origin, _)]) if is_moment(at) => {
                bins(width, milliseconds(origin)?)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The column of the moments; a finer unit of time changes nothing.
fn is_moment(expression: &Expr) -> bool {
    match expression {
        Expr::Column(column) => column.name == READING_KEYS[3],
        Expr::Cast(cast) => {
            use datafusion::arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond};
            let is_utc =
                |zone: &Option<_>| zone.as_deref().is_none_or(|zone: &str| zone == "+00:00" || zone == "UTC");
            matches!(cast.field.data_type(), DataType::Timestamp(Millisecond | Microsecond | Nanosecond, zone)
                if is_utc(zone))
                && is_moment(&cast.expr)
        }
        _ => false,
    }
}

fn truncated(unit: &str) -> Option<Periods> {
    let span = match unit.to_ascii_lowercase().as_str() {
        "second" => Span::Clock(1_000),
        "minute" => Span::Clock(60_000),
        "hour" => Span::Clock(crate::time::HOUR),
        "day" => Span::Days(1),
        "week" => Span::Weeks(1),
        "month" => Span::Months(1),
        "quarter" => Span::Months(3),
        "year" => Span::Months(12),
        _ => return None,
    };
    Some(Periods::every(span, Zone::Utc))
}

/// Bins of one length, counted from `origin`.
fn bins(width: &ScalarValue, origin: i64) -> Option<Periods> {
    let length = match width {
        ScalarValue::IntervalMonthDayNano(Some(width)) if width.months == 0 => i64::from(width.days)
            .checked_mul(crate::time::DAY)?
            .checked_add(width.nanoseconds.checked_div(NANOSECONDS)?)
            .filter(|_| width.nanoseconds % NANOSECONDS == 0)?,
        ScalarValue::IntervalDayTime(Some(width)) => {
            i64::from(width.days).checked_mul(crate::time::DAY)?.checked_add(i64::from(width.milliseconds))?
        }
        _ => return None,
    };
    (length > 0).then_some(Periods::Bins { origin, length })
}

/// A literal as milliseconds, if it is a whole number of them.
fn milliseconds(value: &ScalarValue) -> Option<i64> {
    let (value, per_millisecond) = match value.cast_to(&moment()).ok().and(Some(value))? {
        ScalarValue::TimestampSecond(Some(value), _) => (value.checked_mul(1_000)?, 1),
        ScalarValue::TimestampMillisecond(Some(value), _) => (*value, 1),
        ScalarValue::TimestampMicrosecond(Some(value), _) => (*value, 1_000),
        ScalarValue::TimestampNanosecond(Some(value), _) => (*value, 1_000_000),
        _ => return None,
    };
    (value % per_millisecond == 0).then_some(value / per_millisecond)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::Operator;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn only_what_starts_periods_of_the_moment_is_a_key_of_time() {
        assert_eq!(periods(&col("recorded_timestamp")), None);
        let shifted =
            datafusion::logical_expr::binary_expr(col("recorded_timestamp"), Operator::Plus, lit(1));
        assert_eq!(periods(&shifted), None);
        assert_eq!(truncated("quarter"), Some(Periods::every(Span::Months(3), Zone::Utc)));
        assert_eq!(truncated("millisecond"), None);
        let day = ScalarValue::new_interval_mdn(0, 1, 0);
        assert_eq!(bins(&day, 5), Some(Periods::Bins { origin: 5, length: crate::time::DAY }));
        assert_eq!(bins(&ScalarValue::new_interval_mdn(1, 0, 0), 0), None);
        assert_eq!(bins(&ScalarValue::new_interval_mdn(0, 0, 1_500_000), 0), None);
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let of = |width: &str| bucket(&width.into(), Some(&"Europe/Berlin".into())).unwrap();
        assert_eq!((of("1 hour"), of("24 hours")), (Periods::Hours(berlin), Periods::Days(berlin)));
        assert!(matches!(of("1 week"), Periods::Since(_, Span::Days(7), _)));
    }
}
