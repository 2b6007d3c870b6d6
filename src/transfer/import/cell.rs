//! Values of Arrow's types as JSON.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

const DAY: i64 = 86_400_000;

/// A cell as JSON; the name of its type if that is not supported. Timestamps are milliseconds since the epoch; those
/// without a time zone are taken as UTC. NaN is a missing value, as pandas and Spark use it.
pub(super) fn cell(column: &ArrayRef, row: usize) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    fn native<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> T::Native {
        column.as_primitive::<T>().value(row)
    }
    fn decimal<T: DecimalType>(column: &ArrayRef, row: usize, precision: u8, scale: i8) -> Value {
        let text = T::format_decimal(native::<T>(column, row), precision, scale);
        // Precision beyond 64 bits is not kept anywhere after this.
        text.parse().map_or_else(|_| Value::from(text), float)
    }
    Ok(match column.data_type() {
        // All of a column's values are missing: it has no type of its own.
        DataType::Null => Value::Null,
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        // Text of writers that do not annotate it, such as older Hive and Impala.
        DataType::Binary => text(column.as_binary::<i32>().value(row))?,
        DataType::LargeBinary => text(column.as_binary::<i64>().value(row))?,
        DataType::BinaryView => text(column.as_binary_view().value(row))?,
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => native::<Int8Type>(column, row).into(),
        DataType::Int16 => native::<Int16Type>(column, row).into(),
        DataType::Int32 => native::<Int32Type>(column, row).into(),
        DataType::Int64 => native::<Int64Type>(column, row).into(),
        DataType::UInt8 => native::<UInt8Type>(column, row).into(),
        DataType::UInt16 => native::<UInt16Type>(column, row).into(),
        DataType::UInt32 => native::<UInt32Type>(column, row).into(),
        DataType::UInt64 => native::<UInt64Type>(column, row).into(),
        DataType::Float16 => float(native::<Float16Type>(column, row).into()),
        DataType::Float32 => float32(native::<Float32Type>(column, row)),
        DataType::Float64 => float(native::<Float64Type>(column, row)),
        DataType::Decimal32(precision, scale) => decimal::<Decimal32Type>(column, row, *precision, *scale),
        DataType::Decimal64(precision, scale) => decimal::<Decimal64Type>(column, row, *precision, *scale),
        DataType::Decimal128(precision, scale) => decimal::<Decimal128Type>(column, row, *precision, *scale),
        DataType::Decimal256(precision, scale) => decimal::<Decimal256Type>(column, row, *precision, *scale),
        DataType::Date32 => (i64::from(native::<Date32Type>(column, row)) * DAY).into(),
        DataType::Date64 => native::<Date64Type>(column, row).into(),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => native::<TimestampSecondType>(column, row).saturating_mul(1000),
            TimeUnit::Millisecond => native::<TimestampMillisecondType>(column, row),
            TimeUnit::Microsecond => native::<TimestampMicrosecondType>(column, row).div_euclid(1000),
            TimeUnit::Nanosecond => native::<TimestampNanosecondType>(column, row).div_euclid(1_000_000),
        }
        .into(),
        DataType::FixedSizeBinary(16) => {
            let bytes = column.as_fixed_size_binary().value(row);
            Uuid::from_slice(bytes).map_err(|error| error.to_string())?.to_string().into()
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (names, values) = (entries.column(0), entries.column(1));
            let mut map = Map::new();
            for index in 0..entries.len() {
                if let Value::String(name) = cell(names, index)? {
                    insert(&mut map, name, cell(values, index)?);
                }
            }
            Value::Object(map)
        }
        // A dict of pandas and polars has a field for every name that any row has.
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let mut map = Map::new();
            for (field, column) in fields.iter().zip(columns) {
                insert(&mut map, field.name().clone(), cell(column, row)?);
            }
            Value::Object(map)
        }
        other => return Err(other.to_string()),
    })
}

fn insert(map: &mut Map<String, Value>, name: String, value: Value) {
    if !value.is_null() {
        map.insert(name, value);
    }
}

fn text(bytes: &[u8]) -> Result<Value, String> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| "bytes that are not UTF-8".to_owned())
}

fn float(value: f64) -> Value {
    match value.is_nan() {
        true => Value::Null,
        // The decoder reports infinities.
        false => Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number),
    }
}

/// As the shortest decimal that stands for the same 32-bit value: 21.3 and not 21.299999237060547.
fn float32(value: f32) -> Value {
    match value.is_finite() {
        true => value.to_string().parse().map_or(Value::Null, float),
        false => float(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, LargeStringArray, NullArray,
        StringViewArray, StructArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow_schema::Field;
    use serde_json::json;

    use super::*;

    fn first(column: impl Array + 'static) -> Value {
        cell(&(Arc::new(column) as ArrayRef), 0).unwrap()
    }

    #[test]
    fn values_of_every_type_that_writers_use_are_json() {
        assert_eq!(first(LargeStringArray::from(vec!["a"])), json!("a"));
        assert_eq!(first(StringViewArray::from(vec!["a"])), json!("a"));
        assert_eq!(first(BinaryArray::from(vec![b"a".as_slice()])), json!("a"));
        assert_eq!(first(UInt64Array::from(vec![7])), json!(7));
        let decimal = Decimal128Array::from(vec![123_456_789_125]).with_precision_and_scale(18, 4).unwrap();
        assert_eq!(first(decimal), json!(12_345_678.912_5));
        assert_eq!(first(Date32Array::from(vec![1])), json!(86_400_000));
        assert_eq!(first(TimestampNanosecondArray::from(vec![-1])), json!(-1));
        assert_eq!(first(Float32Array::from(vec![21.3])), json!(21.3));
        let object = StructArray::from(vec![
            (
                Arc::new(Field::new("rpm", DataType::Float64, true)),
                Arc::new(Float64Array::from(vec![Some(1.5)])) as ArrayRef,
            ),
            (
                Arc::new(Field::new("co2", DataType::Float64, true)),
                Arc::new(Float64Array::from(vec![None])) as ArrayRef,
            ),
        ]);
        assert_eq!(first(object), json!({"rpm": 1.5}));
    }

    #[test]
    fn a_column_without_values_and_nan_are_missing() {
        assert_eq!(first(NullArray::new(1)), Value::Null);
        assert_eq!(first(Float64Array::from(vec![f64::NAN])), Value::Null);
        assert_eq!(first(Float32Array::from(vec![f32::NAN])), Value::Null);
        assert_eq!(first(Float64Array::from(vec![f64::INFINITY])), json!("inf"));
    }
}
