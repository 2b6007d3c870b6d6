//! Aggregates over values in order of their moments: `first(value, moment)`, `last`, `delta`, `increase`, `rate` and
//! `time_weighted_average`. Rows may come in any order. A row without a value or moment does not count; of two values with
//! the same moment, the larger one does.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ordered {
    First,
    Last,
    /// The last value less the first.
    Delta,
    /// The sum of all rises of a counter. A fall is a restart from 0.
    Increase,
    /// The increase per second.
    Rate,
    /// The mean, each value weighted with the time until the next one.
    TimeWeightedAverage,
}

impl Ordered {
    pub(super) const ALL: [Self; 6] =
        [Self::First, Self::Last, Self::Delta, Self::Increase, Self::Rate, Self::TimeWeightedAverage];

    /// Of values by their moments in milliseconds.
    fn of(self, values: &BTreeMap<i64, f64>) -> Option<f64> {
        let (first_at, first) = values.first_key_value()?;
        let (last_at, last) = values.last_key_value()?;
        let seconds = (last_at - first_at) as f64 / 1_000.0;
        let pairs = || values.iter().zip(values.iter().skip(1));
        let increase = || -> f64 {
            pairs()
                .map(|((_, before), (_, after))| if after < before { *after } else { after - before })
                .sum()
        };
        match self {
            Self::First => Some(*first),
            Self::Last => Some(*last),
            Self::Delta => (values.len() > 1).then(|| last - first),
            Self::Increase => (values.len() > 1).then(increase),
            Self::Rate => (values.len() > 1).then(|| increase() / seconds),
            Self::TimeWeightedAverage if values.len() == 1 => Some(*first),
            Self::TimeWeightedAverage => {
                let sum: f64 = pairs().map(|((at, value), (next, _))| value * (next - at) as f64).sum();
                Some(sum / (last_at - first_at) as f64)
            }
        }
    }

    /// Whether only two values have to be kept.
    fn needs_ends_only(self) -> bool {
        matches!(self, Self::First | Self::Last | Self::Delta)
    }
}

impl AggregateUDFImpl for Ordered {
    fn name(&self) -> &str {
        match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Delta => "delta",
            Self::Increase => "increase",
            Self::Rate => "rate",
            Self::TimeWeightedAverage => "time_weighted_average",
        }
    }

    fn signature(&self) -> &Signature {
        static SIGNATURE: LazyLock<Signature> =
            LazyLock::new(|| Signature::user_defined(Volatility::Immutable));
        &SIGNATURE
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [value, DataType::Timestamp(_, zone)] if value.is_numeric() || value.is_null() => {
                Ok(vec![DataType::Float64, DataType::Timestamp(TimeUnit::Millisecond, zone.clone())])
            }
            _ => plan_err!(
                "{} takes a number and a moment, such as {0}(temperature, recorded_timestamp)",
                self.name()
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name: &str, item: DataType| -> FieldRef {
            Arc::new(Field::new_list(name, Field::new_list_field(item, true), true))
        };
        Ok(vec![list("moments", DataType::Int64), list("values", DataType::Float64)])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values { function: *self, values: BTreeMap::new() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Values by their moments; only the outer two where they are enough.
#[derive(Debug)]
struct Values {
    function: Ordered,
    values: BTreeMap<i64, f64>,
}

impl Values {
    fn add(&mut self, at: i64, value: f64) {
        let known = self.values.entry(at).or_insert(value);
        *known = known.max(value);
        if self.function.needs_ends_only() && self.values.len() > 2 {
            let (first, last) = (self.values.pop_first(), self.values.pop_last());
            self.values.clear();
            self.values.extend(first.into_iter().chain(last));
        }
    }

    fn add_all(&mut self, moments: &ArrayRef, values: &ArrayRef) -> Result<()> {
        let moments = cast(moments, &DataType::Int64)?;
        let (moments, values) = (moments.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>());
        for (at, value) in moments.iter().zip(values) {
            if let (Some(at), Some(value)) = (at, value) {
                self.add(at, value);
            }
        }
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.add_all(&columns[1], &columns[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.function.of(&self.values)))
    }

    fn size(&self) -> usize {
        // Nodes of the tree are half full at least.
        size_of::<Self>() + self.values.len() * 2 * size_of::<(i64, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let moments: Vec<_> = self.values.keys().map(|at| ScalarValue::Int64(Some(*at))).collect();
        let values: Vec<_> = self.values.values().map(|value| ScalarValue::Float64(Some(*value))).collect();
        Ok(vec![
            ScalarValue::List(ScalarValue::new_list_nullable(&moments, &DataType::Int64)),
            ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Float64)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (moments, values) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for row in 0..moments.len() {
            if moments.is_valid(row) {
                self.add_all(&moments.value(row), &values.value(row))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(function: Ordered, values: &[(i64, f64)]) -> Option<f64> {
        let mut whole = Values { function, values: BTreeMap::new() };
        values.iter().for_each(|(at, value)| whole.add(*at, *value));
        function.of(&whole.values)
    }

    #[test]
    fn a_counter_that_restarts_counts_from_zero() {
        let counter = [(3_000, 4.0), (0, 10.0), (1_000, 12.0), (4_000, 5.0), (2_000, 1.0)];
        // 2 up, a restart to 1, 3 up, 1 up.
        assert_eq!(of(Ordered::Increase, &counter), Some(7.0));
        assert_eq!(of(Ordered::Rate, &counter), Some(7.0 / 4.0));
        assert_eq!(of(Ordered::Delta, &counter), Some(-5.0));
        assert_eq!(of(Ordered::First, &counter), Some(10.0));
        assert_eq!(of(Ordered::Last, &counter), Some(5.0));
    }

    #[test]
    fn each_value_counts_until_the_next() {
        assert_eq!(of(Ordered::TimeWeightedAverage, &[(0, 10.0), (9_000, 20.0), (10_000, 0.0)]), Some(11.0));
        assert_eq!(of(Ordered::TimeWeightedAverage, &[(0, 10.0)]), Some(10.0));
    }

    #[test]
    fn one_value_has_no_change_and_none_has_nothing() {
        for function in [Ordered::Delta, Ordered::Increase, Ordered::Rate] {
            assert_eq!(of(function, &[(0, 1.0)]), None);
        }
        for function in Ordered::ALL {
            assert_eq!(of(function, &[]), None);
        }
    }
}
