//! The state of Kafka and Cassandra, in the wording of `iotctl status`.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::problem::Problem;
use crate::cassandra::Session;
use crate::config::KafkaConfig;
use crate::kafka::Subscription;
use crate::observe::status::{self, Cassandra, DEADLINE, KAFKA_DEADLINE, Kafka, OLD_LAG_SECONDS, Section};
use crate::time::{display, now};

/// `GET /api/status` and the event `status`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Health {
    pub at: String,
    pub attention: Vec<String>,
    pub cassandra: Section<Cassandra>,
    pub kafka: Section<Kafka>,
}

/// A look that is younger answers again.
pub(super) const FRESH: Duration = Duration::from_secs(4);

impl Health {
    /// Asks both at the same time. When one does not answer, the other is reported all the same.
    pub(super) async fn look(
        kafka: &KafkaConfig,
        subscription: Subscription,
        session: impl Future<Output = Result<Session, Problem>>,
    ) -> Self {
        let kafka = status::kafka::look(kafka, subscription, KAFKA_DEADLINE);
        let cassandra = async {
            match session.await {
                Ok(session) => match timeout(DEADLINE, status::cassandra::look(&session)).await {
                    Ok(section) => section,
                    Err(_) => Section::unknown_because(format!(
                        "no answer within {DEADLINE:?} (see the nodes' logs)"
                    )),
                },
                Err(problem) => Section::unknown_because(problem.line()),
            }
        };
        let (kafka, cassandra) = tokio::join!(kafka, cassandra);
        let mut attention = match &cassandra {
            Section::Known(cassandra) => cassandra.attention(),
            Section::Unknown { unknown } => vec![unknown.clone()],
        };
        match &kafka {
            Section::Known(kafka) => attention.extend(kafka.attention(OLD_LAG_SECONDS)),
            Section::Unknown { unknown } => attention.push(unknown.clone()),
        }
        Self { at: display(now()), attention, cassandra, kafka }
    }
}
