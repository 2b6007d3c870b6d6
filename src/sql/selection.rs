//! Conditions of a statement that choose partitions and slices of them: groups, sensors, metrics and a range of time.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use uuid::Uuid;

use super::access::Access;
use crate::reading::Group;
use crate::time::TimeRange;

/// What to read. `None` is everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) locations: Option<BTreeSet<String>>,
    pub(super) device_types: Option<BTreeSet<String>>,
    pub(super) sensors: Option<BTreeSet<Uuid>>,
    pub(super) metrics: Option<BTreeSet<String>>,
    pub(super) range: TimeRange,
    /// What the session may see, whatever the statement says.
    pub(super) access: Access,
}

impl Selection {
    /// The selection that conditions (joined by AND) make, and the conditions that it does not hold.
    pub(super) fn of(conditions: &[Expr], time_column: Option<&str>) -> (Self, Vec<Expr>) {
        let mut selection = Self {
            locations: None,
            device_types: None,
            sensors: None,
            metrics: None,
            range: TimeRange::ALL,
            access: Access::All,
        };
        let rest = conditions.iter().filter(|condition| !selection.take(condition, time_column)).cloned();
        let rest = rest.collect();
        (selection, rest)
    }

    pub(super) fn has_group(&self, group: &Group) -> bool {
        self.has_names(&group.location, &group.device_type)
    }

    pub(super) fn has_names(&self, location: &str, device_type: &str) -> bool {
        self.access.permits(location)
            && self.locations.as_ref().is_none_or(|names| names.contains(location))
            && self.device_types.as_ref().is_none_or(|names| names.contains(device_type))
    }

    pub(super) fn has_sensor(&self, sensor: Uuid) -> bool {
        self.sensors.as_ref().is_none_or(|sensors| sensors.contains(&sensor))
    }

    pub(super) fn has_metric(&self, metric: &str) -> bool {
        self.metrics.as_ref().is_none_or(|metrics| metrics.contains(metric))
    }

    /// The only sensor that is left.
    pub(super) fn one_sensor(&self) -> Option<Uuid> {
        self.sensors
            .as_ref()
            .filter(|sensors| sensors.len() == 1)
            .and_then(|sensors| sensors.first().copied())
    }

    /// The only metric that is left.
    pub(super) fn one_metric(&self) -> Option<&str> {
        let metrics = self.metrics.as_ref().filter(|metrics| metrics.len() == 1)?;
        metrics.first().map(String::as_str)
    }

    /// Narrows the selection by a condition; `false` where it cannot hold all of it.
    fn take(&mut self, condition: &Expr, time_column: Option<&str>) -> bool {
        if let Some((column, values)) = texts(condition) {
            return match column.as_str() {
                "location" => narrow(&mut self.locations, values),
                "device_type" => narrow(&mut self.device_types, values),
                "metric" => narrow(&mut self.metrics, values),
                "iot_sensor_id" => {
                    // Other spellings of an id are equal to no text of the column.
                    let ids = values.iter().filter_map(|text| canonical(text)).collect();
                    narrow(&mut self.sensors, ids)
                }
                _ => false,
            };
        }
        match (time_column, condition) {
            (Some(time), Expr::BinaryExpr(BinaryExpr { left, op, right })) => {
                let bound = match (moment_column(left, time), nanoseconds(right)) {
                    (true, Some(bound)) => Some((*op, bound)),
                    _ => match (op.swap(), nanoseconds(left)) {
                        (Some(op), Some(bound)) if moment_column(right, time) => Some((op, bound)),
                        _ => None,
                    },
                };
                bound.is_some_and(|(op, bound)| self.bound(op, bound))
            }
            (Some(time), Expr::Between(between))
                if !between.negated && moment_column(&between.expr, time) =>
            {
                match (nanoseconds(&between.low), nanoseconds(&between.high)) {
                    (Some(low), Some(high)) => {
                        self.bound(Operator::GtEq, low) && self.bound(Operator::LtEq, high)
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Narrows the range by a comparison of the moment (milliseconds) with `bound` (nanoseconds).
    fn bound(&mut self, op: Operator, bound: i128) -> bool {
        const MILLISECOND: i128 = 1_000_000;
        let clamp = |value: i128| i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX });
        let floor = bound.div_euclid(MILLISECOND);
        let ceiling = floor + i128::from(bound.rem_euclid(MILLISECOND) != 0);
        let (from, to) = match op {
            Operator::Gt => (clamp(floor + 1), i64::MAX),
            Operator::GtEq => (clamp(ceiling), i64::MAX),
            Operator::Lt => (i64::MIN, clamp(ceiling)),
            Operator::LtEq => (i64::MIN, clamp(floor + 1)),
            // Empty where the bound is not a whole millisecond.
            Operator::Eq => (clamp(ceiling), clamp(floor + 1)),
            _ => return false,
        };
        self.range.from = self.range.from.max(from);
        self.range.to = self.range.to.min(to);
        true
    }
}

/// The intersection with what was chosen before.
fn narrow<T: Ord + Clone>(chosen: &mut Option<BTreeSet<T>>, values: BTreeSet<T>) -> bool {
    *chosen = Some(match chosen.take() {
        Some(before) => before.intersection(&values).cloned().collect(),
        None => values,
    });
    true
}

fn canonical(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.to_string() == text)
}

/// A column and the texts that it may be equal to: `=`, `IN` and those joined by OR.
fn texts(condition: &Expr) -> Option<(String, BTreeSet<String>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (column, text) = match (&**left, &**right) {
                (Expr::Column(column), other) | (other, Expr::Column(column)) => (column, text(other)?),
                _ => return None,
            };
            Some((column.name.clone(), [text].into()))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((column, mut values), (other, more)) = (texts(left)?, texts(right)?);
            if column != other {
                return None;
            }
            values.extend(more);
            Some((column, values))
        }
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = &*list.expr else { return None };
            let values = list.list.iter().map(text).collect::<Option<_>>()?;
            Some((column.name.clone(), values))
        }
        _ => None,
    }
}

fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

/// Whether it is the column of the moments, or that in another unit of time.
fn moment_column(expression: &Expr, name: &str) -> bool {
    match expression {
        Expr::Column(column) => column.name == name,
        Expr::Cast(cast) => {
            matches!(cast.field.data_type(), DataType::Timestamp(unit, zone)
                if is_utc(zone.as_deref()) && is_finer(*unit))
                && moment_column(&cast.expr, name)
        }
        _ => false,
    }
}

/// A cast to seconds would cut.
fn is_finer(unit: datafusion::arrow::datatypes::TimeUnit) -> bool {
    unit != datafusion::arrow::datatypes::TimeUnit::Second
}

fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("UTC" | "+00:00" | "Z"))
}

/// A moment in nanoseconds since the epoch.
fn nanoseconds(expression: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expression else { return None };
    let (value, zone, factor) = match value {
        ScalarValue::TimestampSecond(Some(value), zone) => (*value, zone, 1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(value), zone) => (*value, zone, 1_000_000),
        ScalarValue::TimestampMicrosecond(Some(value), zone) => (*value, zone, 1_000),
        ScalarValue::TimestampNanosecond(Some(value), zone) => (*value, zone, 1),
        _ => return None,
    };
    is_utc(zone.as_deref()).then_some(i128::from(value) * factor)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    fn at(milliseconds: i64) -> Expr {
        lit(ScalarValue::TimestampMillisecond(Some(milliseconds), Some("+00:00".into())))
    }

    fn of(conditions: &[Expr]) -> (Selection, usize) {
        let (selection, rest) = Selection::of(conditions, Some("recorded_timestamp"));
        (selection, rest.len())
    }

    #[test]
    fn groups_sensors_and_times_are_taken_and_the_rest_is_left() {
        let id = Uuid::from_u128(7);
        let (selection, rest) = of(&[
            col("location").eq(lit("a")).or(col("location").eq(lit("b"))),
            col("location").in_list(vec![lit("b"), lit("c")], false),
            col("iot_sensor_id").eq(lit(id.to_string())),
            col("recorded_timestamp").gt_eq(at(10)),
            at(20).gt(col("recorded_timestamp")),
            col("temperature").gt(lit(20.0)),
            col("location").eq(lit("a")).or(col("device_type").eq(lit("b"))),
        ]);
        assert_eq!(rest, 2);
        assert_eq!(selection.locations, Some(["b".to_owned()].into()));
        assert_eq!(selection.one_sensor(), Some(id));
        assert_eq!(selection.range, TimeRange { from: 10, to: 20 });
    }

    #[test]
    fn bounds_between_milliseconds_are_exact() {
        let nano = |value| lit(ScalarValue::TimestampNanosecond(Some(value), None));
        let range = |condition: Expr| of(&[condition]).0.range;
        let time = || col("recorded_timestamp");
        assert_eq!(range(time().gt_eq(nano(10_000_001))).from, 11);
        assert_eq!(range(time().gt_eq(nano(10_000_000))).from, 10);
        assert_eq!(range(time().gt(nano(10_000_000))).from, 11);
        assert_eq!(range(time().gt(nano(10_000_001))).from, 11);
        assert_eq!(range(time().lt(nano(10_000_001))).to, 11);
        assert_eq!(range(time().lt(nano(10_000_000))).to, 10);
        assert_eq!(range(time().lt_eq(nano(10_000_000))).to, 11);
        assert_eq!(range(time().eq(nano(10_000_000))), TimeRange { from: 10, to: 11 });
        let none = range(time().eq(nano(10_000_001)));
        assert!(none.from >= none.to);
    }

    #[test]
    fn an_id_in_another_spelling_is_equal_to_none() {
        let id = Uuid::from_u128(0xabc).to_string().to_uppercase();
        assert_eq!(of(&[col("iot_sensor_id").eq(lit(id))]).0.sensors, Some(BTreeSet::new()));
    }
}
