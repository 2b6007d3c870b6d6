//! Why the pipeline cannot go on.

use std::sync::Arc;

use super::breaker::Tripped;
use crate::output::text::one_or_many;
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
    /// Messages were deleted before they were read, and `ingest.on_lost_messages` is "stop".
    #[error(
        "{}: partition {partition}, offsets \
         {from} to {}; nothing beyond them is committed (send them again if their source has them, then continue with \
         ingest.on_lost_messages = \"continue\")",
        one_or_many(
            *messages,
            &format!("message of the topic {topic:?} was deleted before it was read"),
            &format!("messages of the topic {topic:?} were deleted before they were read")
        ),
        to - 1
    )]
    LostMessages { topic: String, partition: i32, from: i64, to: i64, messages: u64 },
}

impl Failure {
    /// Whether the next run would stop at the same messages, until an operator decides what to do about them.
    pub fn needs_decision(&self) -> bool {
        matches!(self, Self::TooManyRejected(_) | Self::LostMessages { .. })
    }
}
