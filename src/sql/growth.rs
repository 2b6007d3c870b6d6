//! How far the expressions of a statement may grow. A column that is calculated is written out wherever a condition over it is moved
//! below the calculation, so that a chain such as `SELECT x + x AS x FROM (SELECT y + y AS x …)` with a condition on top doubles with
//! each link, in time and memory, and the planner cannot be stopped on its way.

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

/// Columns of tables in one expression, when all that is calculated below it is written out.
const MOST: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a condition or a column is calculated from over {} values of columns, with those of the queries below it (calculate each column once, or aggregate in between)",
    MOST
)]
pub(super) struct TooFar;

/// Comes before all other rules.
#[derive(Debug)]
pub(super) struct Growth;

impl AnalyzerRule for Growth {
    fn name(&self) -> &'static str {
        "iotctl_growth"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        sizes(&plan)?;
        Ok(plan)
    }
}

/// How many columns of tables each column of a plan is calculated from, as far down as conditions are moved.
fn sizes(plan: &LogicalPlan) -> Result<Vec<u64>> {
    let below = plan.inputs().into_iter().map(sizes).collect::<Result<Vec<_>>>()?;
    let mut known = HashMap::new();
    for (input, sizes) in plan.inputs().into_iter().zip(&below) {
        for ((table, field), size) in input.schema().iter().zip(sizes) {
            known.insert(Column::new(table.cloned(), field.name()), *size);
        }
    }
    let mut of_expressions = Vec::new();
    plan.apply_expressions(|expression| {
        of_expressions.push(size(expression, &known)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    let columns = plan.schema().fields().len();
    let sizes = match plan {
        LogicalPlan::Projection(_) => of_expressions,
        // Conditions go below it by what is grouped by only.
        LogicalPlan::Aggregate(aggregate) => {
            of_expressions.truncate(aggregate.group_expr.len());
            of_expressions
        }
        LogicalPlan::Union(_) => (0..columns)
            .map(|place| below.iter().filter_map(|sizes| sizes.get(place)).copied().max().unwrap_or(1))
            .collect(),
        _ => by_name(plan.schema(), &known, below.concat()),
    };
    // Others, such as windows, stand for themselves.
    Ok(sizes.into_iter().chain(std::iter::repeat(1)).take(columns).collect())
}

/// The columns of a plan that puts out those of its inputs, under their names or in their order.
fn by_name(schema: &DFSchema, known: &HashMap<Column, u64>, in_order: Vec<u64>) -> Vec<u64> {
    if schema.fields().len() == in_order.len() {
        return in_order;
    }
    let size = |(table, field): (Option<&datafusion::common::TableReference>, &std::sync::Arc<_>)| {
        let field: &datafusion::arrow::datatypes::Field = field;
        known.get(&Column::new(table.cloned(), field.name())).copied().unwrap_or(1)
    };
    schema.iter().map(size).collect()
}

fn size(expression: &Expr, known: &HashMap<Column, u64>) -> Result<u64> {
    let mut total = 0_u64;
    expression.apply(|part| {
        match part {
            Expr::Column(column) => total = total.saturating_add(known.get(column).copied().unwrap_or(1)),
            Expr::ScalarSubquery(query) => drop(sizes(&query.subquery)?),
            Expr::InSubquery(query) => drop(sizes(&query.subquery.subquery)?),
            Expr::Exists(query) => drop(sizes(&query.subquery.subquery)?),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match total > MOST {
        true => Err(DataFusionError::External(Box::new(TooFar))),
        false => Ok(total.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use datafusion::execution::SessionStateBuilder;
    use datafusion::optimizer::Analyzer;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn planned(sql: &str) -> Result<()> {
        let mut rules = Analyzer::new().rules;
        rules.insert(0, Arc::new(Growth));
        let state = SessionStateBuilder::new().with_default_features().with_analyzer_rules(rules).build();
        let context = SessionContext::new_with_state(state);
        context.sql("CREATE TABLE t AS SELECT * FROM (VALUES (1, 2), (3, 4)) AS v (x, y)").await?;
        context.sql(sql).await?.create_physical_plan().await.map(drop)
    }

    fn chain(links: usize, select: &str) -> String {
        let links: String =
            (1..links).map(|link| format!(", c{link} AS ({select} FROM c{})", link - 1)).collect();
        format!("WITH c0 AS (SELECT x, y FROM t){links}")
    }

    #[tokio::test]
    async fn a_chain_that_doubles_is_refused_at_once() {
        let case = "SELECT CASE WHEN x > 0 THEN x ELSE x * 2 END AS x, y";
        for (select, links, end) in [
            ("SELECT x + x AS x, y", 40, "SELECT * FROM c39 WHERE x > 5"),
            (case, 40, "SELECT * FROM c39 WHERE x > 5"),
            (case, 40, "SELECT count(*) FROM t WHERE y IN (SELECT y FROM c39 WHERE x > 5)"),
            (case, 40, "SELECT * FROM c39 AS a JOIN c39 AS b ON a.x = b.y WHERE a.x > 5"),
            (case, 40, "SELECT y FROM c39 UNION ALL SELECT x FROM c39"),
            (case, 40, "SELECT x, count(*) FROM c39 GROUP BY x HAVING x > 5"),
        ] {
            let start = Instant::now();
            let failure = planned(&format!("{} {end}", chain(links, select))).await.unwrap_err();
            assert!(failure.to_string().contains("is calculated from over 10000"), "{end}: {failure}");
            assert!(start.elapsed() < Duration::from_secs(5), "{end}");
        }
    }

    #[tokio::test]
    async fn chains_as_people_write_them_are_planned() {
        for (select, links, end) in [
            ("SELECT x + 1 AS x, y", 60, "SELECT * FROM c59 WHERE x > 5"),
            ("SELECT CASE WHEN x > 0 THEN x ELSE x * 2 END AS x, y", 6, "SELECT * FROM c5 WHERE x > 5"),
            ("SELECT max(x) + max(x) AS x, y", 1, "SELECT * FROM c0"),
            ("SELECT x + lag(x) OVER (ORDER BY y) AS x, y", 5, "SELECT * FROM c4 WHERE x > 5"),
        ] {
            planned(&format!("{} {end}", chain(links, select))).await.unwrap();
        }
        // Nothing goes below an aggregate but what it groups by.
        let links: String = (1..20)
            .map(|link| {
                format!(", c{link} AS (SELECT max(x) + max(x) AS x, y FROM c{} GROUP BY y)", link - 1)
            })
            .collect();
        planned(&format!("WITH c0 AS (SELECT x, y FROM t){links} SELECT * FROM c19 WHERE x > 5"))
            .await
            .unwrap();
        let list = vec!["1"; 50_000].join(", ");
        planned(&format!("SELECT * FROM t WHERE x IN ({list})")).await.unwrap();
    }
}
