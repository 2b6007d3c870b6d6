//! Alerts that a receiver refused, in a topic of their own: the alert as it was, with the receiver and the reason in headers.

use rdkafka::message::{Header, OwnedHeaders};

use crate::alerting::Alert;
use crate::config::KafkaConfig;
use crate::kafka::Error;
use crate::kafka::sender::Sender;

/// A producer for the dead-letter topic of alerts.
#[derive(Clone)]
pub(super) struct DeadLetters(Sender);

impl DeadLetters {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, Error> {
        let topic = config.alerts_dead_letter_topic();
        Ok(Self(Sender::new(config, topic, "dead-letter topic of alerts,", None)?))
    }

    /// Returns once all in-sync replicas have it.
    pub(super) async fn send(
        &self,
        alert: &Alert,
        receiver: &str,
        reason: &str,
        error: &str,
    ) -> Result<(), Error> {
        let headers = [("receiver", receiver), ("reason", reason), ("error", error)]
            .into_iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
        // Every field has a JSON form.
        let payload = serde_json::to_vec(alert).unwrap_or_default();
        self.0.send(Some(alert.iot_sensor_id.to_string().as_bytes()), Some(&payload), headers).await
    }
}
