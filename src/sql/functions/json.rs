//! `metric(other_metrics, 'rpm')`, `state(states, 'mode')` and `tag(tags, 'room')`: one member of a JSON column. And PostgreSQL's `->`
//! and `->>` on any JSON.

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

/// `json -> member` as JSON, and `json ->> member` as text. The member of an array is a number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    Json,
    Text,
}

impl Operator {
    pub(super) const ALL: [Self; 2] = [Self::Json, Self::Text];

    fn of(self, json: &str, member: &str) -> Option<String> {
        let found = match serde_json::from_str(json).ok()? {
            serde_json::Value::Object(mut object) => object.remove(member)?,
            serde_json::Value::Array(mut array) => {
                let place = member.parse::<usize>().ok().filter(|place| *place < array.len())?;
                array.swap_remove(place)
            }
            _ => return None,
        };
        match (self, found) {
            (Self::Text, serde_json::Value::Null) => None,
            (Self::Text, serde_json::Value::String(text)) => Some(text),
            (_, found) => Some(found.to_string()),
        }
    }
}

impl ScalarUDFImpl for Operator {
    fn name(&self) -> &str {
        match self {
            Self::Json => "json_member",
            Self::Text => "json_member_text",
        }
    }

    fn signature(&self) -> &Signature {
        static SIGNATURE: LazyLock<Signature> =
            LazyLock::new(|| Signature::user_defined(Volatility::Immutable));
        &SIGNATURE
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(given.iter().map(|_| DataType::Utf8).collect())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (values, members) = (as_string_array(&arrays[0])?, as_string_array(&arrays[1])?);
        let found = values.iter().zip(members.iter()).map(|(json, member)| self.of(json?, member?));
        Ok(ColumnarValue::Array(Arc::new(StringArray::from_iter(found))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_json_are_json_or_text() {
        let json = r#"{"a": {"b": [1, "x"]}, "c": null, "d": "t"}"#;
        assert_eq!(Operator::Json.of(json, "a").unwrap(), r#"{"b":[1,"x"]}"#);
        assert_eq!(Operator::Json.of(json, "d").unwrap(), r#""t""#);
        assert_eq!(Operator::Text.of(json, "d").unwrap(), "t");
        assert_eq!(Operator::Json.of(json, "c").unwrap(), "null");
        assert_eq!(Operator::Text.of(json, "c"), None);
        assert_eq!(Operator::Text.of(r#"[1, "x"]"#, "1").unwrap(), "x");
        assert_eq!(Operator::Text.of(r#"[1, "x"]"#, "2"), None);
        assert_eq!(Operator::Text.of("no json", "a"), None);
    }
}
