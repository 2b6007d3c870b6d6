//! The names that statements use. The rule has replaced them before anything runs.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::sql::functions::time_bucket::TimeBucket;
use crate::sql::tables::moment;

pub(super) const GAPFILL: &str = "time_bucket_gapfill";

/// How a value of a line without readings is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fill {
    /// With the value before it.
    Last,
    /// On the line between the values before and after it.
    Between,
}

pub(in crate::sql) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::new_from_impl(Marker::new(Mark::Buckets)));
    for fill in [Fill::Last, Fill::Between] {
        context.register_udf(ScalarUDF::new_from_impl(Marker::new(Mark::Fill(fill))));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mark {
    Buckets,
    Fill(Fill),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    mark: Mark,
    signature: Signature,
}

impl Marker {
    fn new(mark: Mark) -> Self {
        Self { mark, signature: Signature::user_defined(Volatility::Stable) }
    }
}

/// Which filling a function is.
pub(super) fn fill(name: &str) -> Option<Fill> {
    match name {
        "locf" => Some(Fill::Last),
        "interpolate" => Some(Fill::Between),
        _ => None,
    }
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &'static str {
        match self.mark {
            Mark::Buckets => GAPFILL,
            Mark::Fill(Fill::Last) => "locf",
            Mark::Fill(Fill::Between) => "interpolate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match (self.mark, given) {
            (Mark::Buckets, given) => TimeBucket::new().coerce_types(given),
            (Mark::Fill(Fill::Last), [value]) => Ok(vec![value.clone()]),
            (Mark::Fill(Fill::Between), [value]) if value.is_numeric() || value.is_null() => {
                Ok(vec![DataType::Float64])
            }
            _ => plan_err!("{} takes an aggregate, such as {0}(avg(temperature))", self.name()),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match self.mark {
            Mark::Buckets => moment(),
            Mark::Fill(Fill::Last) => given.first().cloned().unwrap_or(DataType::Null),
            Mark::Fill(Fill::Between) => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.mark {
            Mark::Buckets => {
                plan_err!("{GAPFILL} is something to group by (GROUP BY 1, where it is the first column)")
            }
            Mark::Fill(_) => plan_err!(
                "{} takes an aggregate of a statement that is grouped by {GAPFILL}, such as {0}(avg(temperature))",
                self.name()
            ),
        }
    }
}
