//! What `alerts deliver` counts.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::metrics::describe::{Described, describe};

/// Every metric of `alerts deliver`, registered once.
#[derive(Debug, Clone)]
pub struct DeliveryMetrics {
    pub registry: Registry,
    /// Alerts that a receiver accepted.
    pub delivered: IntCounterVec,
    /// Messages in which they were sent.
    pub notifications: IntCounterVec,
    /// Attempts that failed and are repeated.
    pub retries: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub failing: IntGaugeVec,
    pub copies: IntCounter,
    /// Held back by a silence.
    pub silenced: IntCounter,
    pub foreign: IntCounter,
    pub in_flight: IntGauge,
    pub lag: IntGauge,
}

impl DeliveryMetrics {
    pub fn new() -> prometheus::Result<Self> {
        Self::within(Registry::new())
    }

    /// In the registry of a process that does other things too.
    pub fn within(registry: Registry) -> prometheus::Result<Self> {
        let name = |name: &str| format!("iotctl_alerts_{name}");
        let counters =
            |of: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name(of), help), labels);
        let metrics = Self {
            registry,
            delivered: counters("delivered_total", "Alerts that the receiver accepted", &["receiver"])?,
            notifications: counters(
                "notifications_total",
                "Messages that the receiver accepted; one may hold many alerts",
                &["receiver"],
            )?,
            retries: counters(
                "delivery_retries_total",
                "Failed attempts to send to the receiver that are repeated",
                &["receiver"],
            )?,
            dead_letters: counters(
                "dead_letters_total",
                "Alerts that the receiver refused, sent to the dead-letter topic of alerts",
                &["receiver", "reason"],
            )?,
            failing: IntGaugeVec::new(
                Opts::new(name("receiver_failing"), "1 while the receiver does not accept alerts"),
                &["receiver"],
            )?,
            copies: IntCounter::new(
                name("copies_total"),
                "Alerts that were left out: copies, and past ones of a new consumer group",
            )?,
            silenced: IntCounter::new(name("silenced_total"), "Alerts that a silence held back")?,
            foreign: IntCounter::new(name("foreign_total"), "Messages of the topic that are not alerts")?,
            in_flight: IntGauge::new(name("in_flight"), "Alerts read that a receiver still has to accept")?,
            lag: IntGauge::new(
                name("delivery_lag_messages"),
                "Messages of the topic of alerts that are not delivered to every receiver",
            )?,
        };
        metrics.collectors().into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// All metrics by name, type, help text and labels.
    pub fn describe(&self) -> Vec<Described> {
        describe(&self.collectors())
    }

    fn collectors(&self) -> [Box<dyn Collector>; 10] {
        [
            Box::new(self.delivered.clone()),
            Box::new(self.notifications.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.failing.clone()),
            Box::new(self.copies.clone()),
            Box::new(self.silenced.clone()),
            Box::new(self.foreign.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.lag.clone()),
        ]
    }
}
