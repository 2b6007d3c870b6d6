//! `metric(other_metrics, 'rpm')`, `state(states, 'mode')` and `tag(tags, 'room')`: one member of a JSON column.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Float64Array, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Member {
    Metric,
    State,
    Tag,
}

impl Member {
    pub(super) const ALL: [Self; 3] = [Self::Metric, Self::State, Self::Tag];
}

impl ScalarUDFImpl for Member {
    fn name(&self) -> &str {
        match self {
            Self::Metric => "metric",
            Self::State => "state",
            Self::Tag => "tag",
        }
    }

    fn signature(&self) -> &Signature {
        static TEXTS: LazyLock<Signature> =
            LazyLock::new(|| Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable));
        &TEXTS
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self {
            Self::Metric => DataType::Float64,
            Self::State | Self::Tag => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (objects, names) = (as_string_array(&arrays[0])?, as_string_array(&arrays[1])?);
        let members = objects.iter().zip(names.iter()).map(|(object, name)| {
            let serde_json::Value::Object(mut object) = serde_json::from_str(object?).ok()? else {
                return None;
            };
            object.remove(name?)
        });
        let found: ArrayRef = match self {
            Self::Metric => {
                Arc::new(Float64Array::from_iter(members.map(|value| value.and_then(|value| value.as_f64()))))
            }
            Self::State | Self::Tag => Arc::new(StringArray::from_iter(
                members.map(|value| value.and_then(|value| value.as_str().map(str::to_owned))),
            )),
        };
        Ok(ColumnarValue::Array(found))
    }
}
