//! `approx_percentile(value, share)`: a percentile by the sketch that rollups hold ([`crate::series::sketch`]), so that it is the
//! same from rollups and from raw rows. Also `approx_percentile(share) WITHIN GROUP (ORDER BY value)`.

use std::mem::size_of;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use datafusion::scalar::ScalarValue;

use crate::series::sketch::Sketch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Percentile;

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &'static str {
        "approx_percentile"
    }

    fn signature(&self) -> &Signature {
        static SIGNATURE: LazyLock<Signature> =
            LazyLock::new(|| Signature::user_defined(Volatility::Immutable));
        &SIGNATURE
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [value, share] if [value, share].iter().all(|given| given.is_numeric() || given.is_null()) => {
                Ok(vec![DataType::Float64, DataType::Float64])
            }
            _ => plan_err!("approx_percentile takes a number and a share, such as (temperature, 0.95)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let number = |name: &str| -> FieldRef { Arc::new(Field::new(name, DataType::Float64, true)) };
        Ok(vec![Arc::new(Field::new("sketch", DataType::Binary, true)), number("lowest"), number("highest")])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let share = arguments.exprs.get(1).and_then(|share| share.downcast_ref::<Literal>());
        let share = match share.map(|share| share.value().cast_to(&DataType::Float64)) {
            Some(Ok(ScalarValue::Float64(Some(share)))) if (0.0..=1.0).contains(&share) => share,
            _ => return plan_err!("the share of approx_percentile is a number from 0 to 1, such as 0.95"),
        };
        let descending = arguments.order_bys.first().is_some_and(|by| by.options.descending);
        let share = if descending { 1.0 - share } else { share };
        Ok(Box::new(Values { share, sketch: Sketch::default(), extremes: None }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Values {
    share: f64,
    sketch: Sketch,
    /// The lowest and the highest value.
    extremes: Option<(f64, f64)>,
}

impl Values {
    fn widen(&mut self, lowest: f64, highest: f64) {
        let (low, high) = self.extremes.unwrap_or((lowest, highest));
        self.extremes = Some((low.min(lowest), high.max(highest)));
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for value in
            columns[0].as_primitive::<Float64Type>().iter().flatten().filter(|value| value.is_finite())
        {
            self.sketch.add(value);
            self.widen(value + 0.0, value + 0.0);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let found = self.extremes.map(|(lowest, highest)| {
            self.sketch.quantile(self.share).unwrap_or(lowest).clamp(lowest, highest)
        });
        Ok(ScalarValue::Float64(found))
    }

    fn size(&self) -> usize {
        /// A sketch has at most 512 bytes of buckets, their counts, and some values that wait.
        const SKETCH: usize = 2_048;
        size_of::<Self>() + SKETCH
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::Binary(self.extremes.map(|_| self.sketch.to_bytes())),
            ScalarValue::Float64(self.extremes.map(|(lowest, _)| lowest)),
            ScalarValue::Float64(self.extremes.map(|(_, highest)| highest)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let sketches = states[0].as_binary::<i32>();
        let [lowest, highest] = [1, 2].map(|index: usize| states[index].as_primitive::<Float64Type>());
        for row in (0..sketches.len()).filter(|row| sketches.is_valid(*row)) {
            let Some(sketch) = Sketch::from_bytes(sketches.value(row)) else {
                return internal_err!("a state of approx_percentile is not a sketch");
            };
            self.sketch.merge(&sketch);
            self.widen(lowest.value(row), highest.value(row));
        }
        Ok(())
    }
}
