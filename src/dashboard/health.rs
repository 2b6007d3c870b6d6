//! How Kafka and Cassandra are, in the words of `iotctl status`.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::api::App;
use crate::observe::status::{self, Cassandra, DEADLINE, KAFKA_DEADLINE, Kafka, OLD_LAG_SECONDS, Section};
use crate::time::display;

/// `GET /api/status` and the event `status`.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    pub at: String,
    pub attention: Vec<String>,
    pub cassandra: Section<Cassandra>,
    pub kafka: Section<Kafka>,
}

/// How old an answer may be that another asks for.
pub const FRESH: Duration = Duration::from_secs(4);

impl Health {
    /// Asks both at the same time; one that is away hides nothing of the other.
    pub async fn look(app: &App) -> Self {
        let kafka = status::kafka::look(&app.config().kafka, KAFKA_DEADLINE);
        let cassandra = async {
            match app.session().await {
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
        Self { at: display(chrono::Utc::now().timestamp_millis()), attention, cassandra, kafka }
    }
}
