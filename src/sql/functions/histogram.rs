//! `histogram(value, lowest, highest, buckets)`: how many values are in each of several buckets of equal width from `lowest` up to
//! `highest`, as a list. Before them stands the number of values below, after them that of values from `highest` on, as in
//! TimescaleDB.

use std::mem::size_of;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use datafusion::scalar::ScalarValue;

/// Buckets of a histogram: more are a mistake.
const MOST_BUCKETS: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Histogram;

fn counts_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))
}

impl AggregateUDFImpl for Histogram {
    fn name(&self) -> &'static str {
        "histogram"
    }

    fn signature(&self) -> &Signature {
        static SIGNATURE: LazyLock<Signature> =
            LazyLock::new(|| Signature::user_defined(Volatility::Immutable));
        &SIGNATURE
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given.len() == 4 && given.iter().all(|given| given.is_numeric() || given.is_null()) {
            true => Ok(vec![DataType::Float64, DataType::Float64, DataType::Float64, DataType::Int64]),
            false => plan_err!(
                "histogram takes a number, the lowest and the highest value and the number of buckets, such as \
                 histogram(temperature, 0, 40, 8)"
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(counts_type())
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new("counts", counts_type(), true))])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let literal = |index: usize| {
            let literal = arguments.exprs.get(index)?.downcast_ref::<Literal>()?;
            match literal.value().cast_to(&DataType::Float64) {
                Ok(ScalarValue::Float64(value)) => value.filter(|value| value.is_finite()),
                _ => None,
            }
        };
        match (literal(1), literal(2), literal(3)) {
            (Some(lowest), Some(highest), Some(buckets))
                if lowest < highest && (1.0..=MOST_BUCKETS as f64).contains(&buckets) =>
            {
                let buckets = buckets as usize;
                Ok(Box::new(Counts {
                    lowest,
                    highest,
                    buckets,
                    counts: vec![0; buckets + 2],
                    is_empty: true,
                }))
            }
            _ => plan_err!(
                "histogram takes a lowest value, a higher highest one, and 1 to {MOST_BUCKETS} buckets, as numbers"
            ),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct Counts {
    lowest: f64,
    highest: f64,
    buckets: usize,
    counts: Vec<i64>,
    is_empty: bool,
}

impl Counts {
    fn add(&mut self, value: f64) {
        let share = (value - self.lowest) / (self.highest - self.lowest);
        let index = match value {
            value if value < self.lowest => 0,
            value if value >= self.highest => self.buckets + 1,
            // Rounding must not put a value below `highest` into the bucket after it.
            _ => ((share * self.buckets as f64) as usize).min(self.buckets - 1) + 1,
        };
        self.counts[index] += 1;
        self.is_empty = false;
    }

    fn list(&self) -> ScalarValue {
        let counts: Vec<_> = self.counts.iter().map(|count| ScalarValue::Int64(Some(*count))).collect();
        ScalarValue::List(ScalarValue::new_list_nullable(&counts, &DataType::Int64))
    }
}

impl Accumulator for Counts {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let values = columns[0].as_primitive::<Float64Type>().iter().flatten();
        values.filter(|value| !value.is_nan()).for_each(|value| self.add(value));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.is_empty {
            true => ScalarValue::try_from(&counts_type()),
            false => Ok(self.list()),
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = states[0].as_list::<i32>();
        for row in (0..states.len()).filter(|row| states.is_valid(*row)) {
            let others = states.value(row);
            for (count, other) in
                self.counts.iter_mut().zip(others.as_primitive::<Int64Type>().iter().flatten())
            {
                *count += other;
            }
            self.is_empty = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_above_them() {
        let mut counts =
            Counts { lowest: 0.0, highest: 40.0, buckets: 4, counts: vec![0; 6], is_empty: true };
        for value in [-0.1, 0.0, 9.99, 10.0, 39.999_999_999, 40.0, 70.0] {
            counts.add(value);
        }
        assert_eq!(counts.counts, [1, 2, 1, 0, 1, 2]);
    }
}
