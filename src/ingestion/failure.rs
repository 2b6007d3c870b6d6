//! Why the pipeline cannot go on.

use std::sync::Arc;

use super::breaker::Tripped;
use crate::{cassandra, kafka};

/// What ends a run before its time. What is not stored stays in the topic.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// Cassandra refuses the rows, and only an operator can change that.
    #[error("{0}; ingest stops, and the topic keeps what is not stored for the next run")]
    Store(cassandra::Error),
    /// Kafka refuses dead letters or alerts, and only an operator can change that.
    #[error("{0}; ingest stops, and the topic keeps what is not stored for the next run")]
    Send(Arc<kafka::Error>),
    /// Too many of the messages cannot be stored.
    #[error(transparent)]
    TooManyRejected(#[from] Tripped),
}
