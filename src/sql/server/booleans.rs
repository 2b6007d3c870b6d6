//! `flag = 't'`: texts beside truth values, which PostgreSQL reads as such. DataFusion does not compare the two.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable as _};
use datafusion::prelude::lit;
use datafusion::sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(super) struct Booleans;

impl ExprPlanner for Booleans {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(expr.op, BinaryOperator::Eq | BinaryOperator::NotEq) {
            let is_boolean = |side: &Expr| matches!(side.get_type(schema), Ok(DataType::Boolean));
            if let Some(value) = boolean(&expr.right)
                && is_boolean(&expr.left)
            {
                expr.right = lit(value);
            } else if let Some(value) = boolean(&expr.left)
                && is_boolean(&expr.right)
            {
                expr.left = lit(value);
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The truth value that a literal of text is.
fn boolean(expression: &Expr) -> Option<bool> {
    let Expr::Literal(text, _) = expression else { return None };
    value_of(text.try_as_str().flatten()?)
}

fn value_of(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::FunctionRegistry as _;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn texts_are_truth_values_as_postgresql_reads_them() {
        assert_eq!(["t", " TRUE ", "yes", "on", "1"].map(value_of), [Some(true); 5]);
        assert_eq!(["f", "False", "n", "off", "0"].map(value_of), [Some(false); 5]);
        assert_eq!(["", "o", "maybe", "2"].map(value_of), [None; 4]);
    }

    #[tokio::test]
    async fn a_truth_value_is_compared_with_a_text() {
        let context = SessionContext::new();
        context.state_ref().write().register_expr_planner(std::sync::Arc::new(Booleans)).unwrap();
        let question = "SELECT v FROM (VALUES (1, true), (2, false), (3, NULL)) AS t (v, flag)";
        for (condition, rows) in
            [("flag = 't'", 1), ("'false' = flag", 1), ("flag <> 'f'", 1), ("(v = 1) = 'no'", 2)]
        {
            let frame = context.sql(&format!("{question} WHERE {condition}")).await.unwrap();
            assert_eq!(frame.count().await.unwrap(), rows, "{condition}");
        }
        let frame = context.sql(&format!("{question} WHERE flag = 'maybe'")).await;
        let is_refused = match frame {
            Ok(frame) => frame.collect().await.is_err(),
            Err(_) => true,
        };
        assert!(is_refused, "no truth value");
    }
}
