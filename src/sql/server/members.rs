//! Whether a subquery has a value, for `a IN (SELECT …)` among the columns, which DataFusion does not plan: its rows as a list, and a
//! function that knows what NULL is to IN.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions_nested::array_has::array_has_udf;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `is_member(value, list)`: of an empty list, which `array_agg` makes NULL, it is false; else NULL where the value is NULL, or where
/// it is not in the list and the list has a NULL.
pub(super) const NAME: &str = "is_member";

pub(super) fn udf() -> ScalarUDF {
    ScalarUDF::new_from_impl(IsMember { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IsMember {
    signature: Signature,
}

impl ScalarUDFImpl for IsMember {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [value, list] = given else {
            return plan_err!("{NAME} takes a value and a list");
        };
        let of_list = match list {
            DataType::List(field) | DataType::LargeList(field) => field.data_type(),
            _ => &DataType::Null,
        };
        match comparison_coercion(value, of_list) {
            Some(common) => {
                Ok(vec![common.clone(), DataType::List(Arc::new(Field::new_list_field(common, true)))])
            }
            None => plan_err!("Cannot infer common argument type for {value} IN a query of {of_list}"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (values, lists) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        args.args.reverse();
        args.arg_fields.reverse();
        let has = array_has_udf().invoke_with_args(args)?.to_array(rows)?;
        let (has, lists) = (has.as_boolean(), lists.as_list::<i32>());
        let members = (0..rows).map(|row| {
            let is_empty = lists.is_null(row) || lists.value_length(row) == 0;
            if is_empty {
                Some(false)
            } else if values.is_null(row) {
                None
            } else if has.is_valid(row) && has.value(row) {
                Some(true)
            } else {
                (lists.value(row).logical_null_count() == 0).then_some(false)
            }
        });
        Ok(ColumnarValue::Array(Arc::new(members.collect::<BooleanArray>())))
    }
}
