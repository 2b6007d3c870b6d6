//! Times that end with their minutes, such as `'2026-01-31 12:00'`. Arrow reads texts as times only with seconds.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use regex::Regex;

use super::operators;

/// Comes after the rule that makes casts of what is compared.
#[derive(Debug)]
pub(super) struct Minutes;

impl AnalyzerRule for Minutes {
    fn name(&self) -> &'static str {
        "iotctl_minutes"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        operators::each_expression(plan, in_full)
    }
}

fn in_full(expression: Expr) -> Transformed<Expr> {
    let full = match &expression {
        Expr::Cast(Cast { expr, field }) if matches!(field.data_type(), DataType::Timestamp(..)) => {
            match &**expr {
                Expr::Literal(text, _) => text.try_as_str().flatten().and_then(with_seconds),
                _ => None,
            }
        }
        _ => None,
    };
    match (full, expression) {
        (Some(full), Expr::Cast(cast)) => {
            let text = Expr::Literal(ScalarValue::from(full), None);
            Transformed::yes(Expr::Cast(Cast { expr: Box::new(text), ..cast }))
        }
        (_, expression) => Transformed::no(expression),
    }
}

fn with_seconds(text: &str) -> Option<String> {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*(\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2})\s?(Z|[+-]\d{2}(?::?\d{2})?)?\s*$")
            .expect("a valid expression")
    });
    let found = TIME.captures(text)?;
    let zone = found.get(2).map_or("", |zone| zone.as_str());
    Some(format!("{}:00{zone}", &found[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_without_seconds_get_them() {
        for (text, expected) in [
            ("2026-01-31 12:00", "2026-01-31 12:00:00"),
            ("2026-01-31T12:30Z", "2026-01-31T12:30:00Z"),
            (" 2026-01-31 12:30+02 ", "2026-01-31 12:30:00+02"),
            ("2026-01-31 12:30 -05:30", "2026-01-31 12:30:00-05:30"),
        ] {
            assert_eq!(with_seconds(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["2026-01-31", "2026-01-31 12:00:00", "12:00", "2026-01-31 12:00 or so", ""] {
            assert_eq!(with_seconds(text), None, "{text}");
        }
    }
}
