//! What a bridge counts.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::metrics::describe::{Described, describe};

/// Every metric of `bridge mqtt`, registered once.
#[derive(Debug, Clone)]
pub struct BridgeMetrics {
    pub registry: Registry,
    pub received: IntCounter,
    pub received_bytes: IntCounter,
    /// Of the received ones: the broker had sent them before.
    pub redelivered: IntCounter,
    /// Acknowledged by Kafka.
    pub stored: IntCounter,
    /// Acknowledged to the MQTT broker; messages of QoS 0 are not.
    pub acknowledged: IntCounter,
    pub dead_letters: IntCounterVec,
    pub retries: IntCounter,
    pub connections: IntCounter,
    pub connected: IntGauge,
    pub in_flight: IntGauge,
    pub in_flight_bytes: IntGauge,
    /// Seconds since 1970.
    pub last_message: IntGauge,
}

impl BridgeMetrics {
    pub fn new() -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| IntCounter::new(format!("iotctl_bridge_{name}"), help);
        let gauge = |name: &str, help: &str| IntGauge::new(format!("iotctl_bridge_{name}"), help);
        let metrics = Self {
            registry: Registry::new(),
            received: counter("received_total", "Messages received from the MQTT broker")?,
            received_bytes: counter("received_bytes_total", "Bytes of their payloads")?,
            redelivered: counter(
                "redelivered_total",
                "Received messages that the MQTT broker had sent before, such as before a reconnect",
            )?,
            stored: counter("stored_total", "Messages that all in-sync replicas of Kafka have")?,
            acknowledged: counter(
                "acknowledged_total",
                "Messages acknowledged to the MQTT broker, after Kafka; those of QoS 0 need no acknowledgement",
            )?,
            dead_letters: IntCounterVec::new(
                Opts::new("iotctl_bridge_dead_letters_total", "Messages sent to the dead-letter topic"),
                &["reason"],
            )?,
            retries: counter("retries_total", "Messages that Kafka did not take and that were sent again")?,
            connections: counter("connections_total", "Connections to the MQTT broker, the first included")?,
            connected: gauge("connected", "1 while the subscriptions are active")?,
            in_flight: gauge("in_flight_messages", "Messages received and not yet stored in Kafka")?,
            in_flight_bytes: gauge(
                "in_flight_bytes",
                "Bytes of messages received and not yet stored in Kafka",
            )?,
            last_message: gauge(
                "last_message_timestamp_seconds",
                "When the last message was received, in seconds since 1970; 0 before the first",
            )?,
        };
        metrics.collectors().into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// All metrics by name, type, help text and labels.
    pub fn describe(&self) -> Vec<Described> {
        describe(&self.collectors())
    }

    fn collectors(&self) -> [Box<dyn Collector>; 12] {
        [
            Box::new(self.received.clone()),
            Box::new(self.received_bytes.clone()),
            Box::new(self.redelivered.clone()),
            Box::new(self.stored.clone()),
            Box::new(self.acknowledged.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.connected.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.in_flight_bytes.clone()),
            Box::new(self.last_message.clone()),
        ]
    }

    /// All dead letters, whatever the reason.
    pub fn dead_letter_count(&self) -> u64 {
        self.dead_letters.with_label_values(&[super::TOO_LARGE]).get()
    }

    /// Connections after the first.
    pub fn reconnects(&self) -> u64 {
        self.connections.get().saturating_sub(1)
    }
}
