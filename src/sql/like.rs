//! `LIKE … ESCAPE '/'`, which SQLAlchemy writes for the names of schemas. DataFusion knows the backslash alone, so the pattern is
//! written with it.

use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::functions::expr_fn::replace;
use datafusion::logical_expr::{Expr, Like, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::operators;

#[derive(Debug)]
pub(super) struct Escapes;

/// Stands for an escape character that is escaped, while the others are replaced: no pattern has it.
const ESCAPED: &str = "\u{1}";

impl AnalyzerRule for Escapes {
    fn name(&self) -> &'static str {
        "iotctl_escapes"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        operators::each_expression(plan, with_backslash)
    }
}

fn with_backslash(expression: Expr) -> Transformed<Expr> {
    match expression {
        Expr::Like(Like { negated, expr, pattern, escape_char: Some(escape), case_insensitive })
            if escape != '\\' =>
        {
            let pattern = Box::new(escaped(*pattern, escape));
            Transformed::yes(Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive }))
        }
        other => Transformed::no(other),
    }
}

/// The pattern with backslashes for another escape character.
fn escaped(pattern: Expr, escape: char) -> Expr {
    let escape = escape.to_string();
    let twice = escape.repeat(2);
    let steps =
        [("\\", "\\\\"), (twice.as_str(), ESCAPED), (escape.as_str(), "\\"), (ESCAPED, escape.as_str())];
    match &pattern {
        Expr::Literal(value, _) if let Some(text) = value.try_as_str() => {
            let text = text
                .map(|text| steps.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)));
            Expr::Literal(ScalarValue::Utf8(text), None)
        }
        _ => steps.iter().fold(pattern, |pattern, (from, to)| replace(pattern, lit(*from), lit(*to))),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn any_character_escapes_in_literals_and_expressions() {
        let context = SessionContext::new();
        context.add_analyzer_rule(std::sync::Arc::new(Escapes));
        for (condition, expected) in [
            ("'pg_x' LIKE 'pg/_%' ESCAPE '/'", true),
            ("'pgax' LIKE 'pg/_%' ESCAPE '/'", false),
            ("'pg_x' NOT LIKE 'pg/_' || '%' ESCAPE '/'", false),
            ("'public' NOT LIKE 'pg/_' || '%' ESCAPE '/'", true),
            ("'a/b' LIKE 'a//b' ESCAPE '/'", true),
            ("'a\\b' LIKE 'a\\b' ESCAPE '/'", true),
            ("'50%' ILIKE '50!%' ESCAPE '!'", true),
            ("'50x' LIKE '50!%' ESCAPE '!'", false),
            ("'a_b' LIKE 'a\\_b'", true),
        ] {
            for condition in
                [condition.to_owned(), format!("(SELECT max({condition}) FROM (VALUES (1)) AS t(x))")]
            {
                let found =
                    context.sql(&format!("SELECT {condition} AS y")).await.unwrap().collect().await.unwrap();
                let found = pretty_format_batches(&found).unwrap().to_string();
                assert!(found.contains(&expected.to_string()), "{condition}: {found}");
            }
        }
    }
}
