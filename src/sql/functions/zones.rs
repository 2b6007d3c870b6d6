//! `timezone(zone, time)`, which `time AT TIME ZONE zone` is in PostgreSQL: of a moment what a clock of the zone shows then, without a
//! zone, and of a time without a zone the moment at which the clock shows it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::time::{HOUR, Zone};

const UTC: &str = "+00:00";

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeZone {
    signature: Signature,
}

impl TimeZone {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn moments() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

fn clocks() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

impl ScalarUDFImpl for TimeZone {
    fn name(&self) -> &'static str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [_, DataType::Timestamp(_, None)] => Ok(vec![DataType::Utf8, clocks()]),
            [_, _] => Ok(vec![DataType::Utf8, moments()]),
            _ => plan_err!("timezone takes a time zone and a time"),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [_, DataType::Timestamp(_, None)] => Ok(moments()),
            _ => Ok(clocks()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(zone) = &args.args[0] else {
            return plan_err!("the time zone is one for all rows");
        };
        let zone = match zone.try_as_str().flatten().map(Zone::named) {
            Some(Ok(zone)) => zone,
            Some(Err(error)) => return plan_err!("{error}"),
            None => return plan_err!("the time zone is a text, such as 'Europe/Berlin'"),
        };
        let given = args.args[1].to_array(args.number_rows)?;
        let is_clock = matches!(given.data_type(), DataType::Timestamp(_, None));
        let given = cast(&given, &if is_clock { clocks() } else { moments() })?;
        let given = given.as_primitive::<TimestampMicrosecondType>();
        let of = |micros: i64| {
            let (millis, rest) = (micros.div_euclid(1_000), micros.rem_euclid(1_000));
            let other = if is_clock { moment(zone, millis) } else { zone.wall(millis) };
            other.saturating_mul(1_000).saturating_add(rest)
        };
        let found: TimestampMicrosecondArray = given.unary(of);
        let found = match is_clock {
            true => found.with_timezone(UTC),
            false => found.with_timezone_opt(None::<&str>),
        };
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

/// The moment at which a clock shows a time; of two, the later one, as PostgreSQL has it.
fn moment(zone: Zone, wall: i64) -> i64 {
    let first = zone.earliest(wall);
    // Clocks are set back by an hour, on Lord Howe by half of one.
    let later = [HOUR, HOUR / 2].map(|by| first.saturating_add(by));
    later.into_iter().find(|later| zone.wall(*later) == wall).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::rfc3339;

    #[test]
    fn a_time_that_comes_twice_is_the_later_one_and_one_that_is_left_out_is_moved() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let of = |wall: &str| crate::time::display(moment(berlin, rfc3339(&format!("{wall}Z")).unwrap()));
        assert_eq!(of("2026-07-01T12:00:00"), "2026-07-01T10:00:00.000Z");
        assert_eq!(of("2026-10-25T02:30:00"), "2026-10-25T01:30:00.000Z");
        assert_eq!(of("2026-03-29T02:30:00"), "2026-03-29T01:30:00.000Z");
    }
}
