//! `temperature::int`: casts to whole numbers round to the nearest one, and half ways to the even one, as PostgreSQL does it.
//! DataFusion cuts off what is behind the point.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TryCast, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Comes before the rule that makes casts of what is compared: only those of the statement are there.
#[derive(Debug)]
pub(super) struct Whole;

impl AnalyzerRule for Whole {
    fn name(&self) -> &'static str {
        "iotctl_whole"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rounded = ScalarUDF::new_from_impl(Rounded {
            signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable),
        });
        plan.transform_up_with_subqueries(|node| {
            let mut schema = DFSchema::empty();
            for input in node.inputs() {
                schema.merge(input.schema());
            }
            let names = NamePreserver::new(&node);
            node.map_expressions(|expression| {
                let name = names.save(&expression);
                let changed = expression.transform_up(|part| Ok(whole(part, &schema, &rounded)))?;
                Ok(changed.update_data(|expression| name.restore(expression)))
            })
        })
        .data()
    }
}

fn whole(expression: Expr, schema: &DFSchema, rounded: &ScalarUDF) -> Transformed<Expr> {
    let is_float = |value: &Expr| value.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    match expression {
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() && is_float(&expr) => {
            Transformed::yes(Expr::Cast(Cast { expr: Box::new(rounded.call(vec![*expr])), field }))
        }
        Expr::TryCast(TryCast { expr, field }) if field.data_type().is_integer() && is_float(&expr) => {
            Transformed::yes(Expr::TryCast(TryCast { expr: Box::new(rounded.call(vec![*expr])), field }))
        }
        other => Transformed::no(other),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounded {
    signature: Signature,
}

impl ScalarUDFImpl for Rounded {
    fn name(&self) -> &'static str {
        "rounded_to_even"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let rounded: Float64Array = values.as_primitive::<Float64Type>().unary(f64::round_ties_even);
        Ok(ColumnarValue::Array(Arc::new(rounded)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::optimizer::Analyzer;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn casts_to_whole_numbers_round_as_those_of_postgresql() {
        let mut rules = Analyzer::new().rules;
        rules.insert(0, Arc::new(Whole));
        let state = SessionStateBuilder::new().with_default_features().with_analyzer_rules(rules).build();
        let context = SessionContext::new_with_state(state);
        context.sql("SET datafusion.sql_parser.dialect = 'postgresql'").await.unwrap();
        for (asked, expected) in [
            ("1.7::int", 2),
            ("(-1.7)::bigint", -2),
            ("20.5::smallint", 20),
            ("21.5::int", 22),
            ("t.a::int", 3),
            ("max(t.a)::int", 3),
            ("CAST(avg(t.a) * 10 AS bigint)", 26),
            ("'42'::int", 42),
            ("true::int", 1),
            ("7::bigint", 7),
            ("(SELECT max(t.a::int) FROM (VALUES (2.6)) AS t (a))", 3),
        ] {
            let sql =
                format!("SELECT CAST({asked} AS bigint) AS n FROM (VALUES (2.6)) AS t (a) GROUP BY t.a");
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), expected, "{asked}");
        }
        // Columns keep their names.
        let frame = context.sql("SELECT a::int FROM (VALUES (2.6)) AS t (a)").await.unwrap();
        let plain =
            SessionContext::new().sql("SELECT CAST(a AS int) FROM (VALUES (2.6)) AS t (a)").await.unwrap();
        assert_eq!(frame.schema().field(0).name(), plain.schema().field(0).name());
        assert_eq!(
            frame.collect().await.unwrap()[0].schema().field(0).name(),
            plain.schema().field(0).name()
        );
    }
}
