//! The schema: schema.cql at the top of the repository is its one source. It is filled in with what the configuration
//! decides, compared with what the cluster has, and what is missing is created: tables, and columns of tables. Nothing is
//! ever dropped, and no option that exists is altered unless that was asked for.
//!
//! - [`settings`]: what is filled in. `lexer`, [`source`], `definition`: schema.cql as text, filled in, and understood.
//! - `live`, [`difference`]: what the cluster has, and where that is not what is expected.
//! - [`plan`]: what has to be done, and doing it.

mod definition;
pub mod describe;
pub mod difference;
mod lexer;
mod live;
pub mod plan;
pub mod settings;
pub mod source;

pub use difference::{Difference, Remedy, State};
pub use plan::{Change, ExistingOptions, Plan, Step};
pub use settings::{Replication, Settings, Window};
pub use source::filled;

/// Reads CQL as schema.cql is read: how many definitions it holds.
pub(crate) fn count_definitions(source: &str) -> Result<usize, Error> {
    let tokens = lexer::tokens(source)?;
    lexer::statements(&tokens).map(|statement| definition::parse(source, statement)).try_fold(
        0,
        |count, definition| {
            definition?;
            Ok(count + 1)
        },
    )
}

/// Why the schema cannot be applied or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// schema.cql holds what this program does not understand; its tests keep that from being released.
    #[error("schema.cql, line {line}: {message}")]
    Source { line: usize, message: String },
    #[error(
        "{wanted} replicas need {wanted} nodes and the cluster has {nodes} \
         (use `--replication-factor {nodes}`, or add nodes)"
    )]
    TooFewNodes { wanted: u32, nodes: usize },
    #[error(
        "{wanted} replicas need {wanted} nodes and datacenter {datacenter} has {nodes} \
         (lower schema.datacenters, or add nodes)"
    )]
    TooFewNodesIn { datacenter: String, wanted: u32, nodes: usize },
    #[error("no node is in datacenter {name}, only in {known} (correct schema.datacenters)")]
    UnknownDatacenter { name: String, known: String },
    /// Objects exist that are not as defined. Nothing was changed.
    #[error("nothing was changed, because the live schema is not the expected one:{}", listed(.0))]
    Differs(Vec<Difference>),
    #[error(
        "the cluster has materialized views disabled \
         (set `materialized_views_enabled: true` in cassandra.yaml on each node and restart it)"
    )]
    ViewsDisabled,
    #[error("cannot {action}")]
    Cassandra { action: String, source: crate::cassandra::Error },
}

/// The differences, a line each, and what can be done about them.
fn listed(differences: &[Difference]) -> String {
    let mut lines: Vec<_> = differences.iter().map(Difference::to_string).collect();
    if differences.iter().any(|difference| matches!(difference.remedy, Remedy::Option(_))) {
        lines.push(
            "options are changed by the statements above, or by `iotctl schema apply --alter-options`".into(),
        );
    }
    if differences.iter().any(|difference| difference.remedy == Remedy::None) {
        lines.push(
            "tables are never rebuilt or dropped here: use another keyspace (`--keyspace NAME`), \
             or change or drop them yourself once their rows are safe"
                .into(),
        );
    }
    lines.into_iter().map(|line| format!("\n  {line}")).collect()
}
