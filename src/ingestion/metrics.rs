//! What `ingest` counts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};
use tracing::warn;

use crate::reading;

/// Fields that are counted by their own names. Names come from outside, and each is a time series.
const MAX_IGNORED_NAMES: usize = 50;
/// The label of all further ones.
const OTHER_NAMES: &str = "(others)";

use crate::metrics::describe::{Described, describe};

/// Every metric of `ingest`, registered once.
#[derive(Debug, Clone)]
pub struct IngestMetrics {
    pub registry: Registry,
    pub messages: IntCounter,
    pub bytes: IntCounter,
    pub rows: IntCounter,
    pub batches: IntCounter,
    pub batch_rows: Histogram,
    pub write_seconds: Histogram,
    pub retries: IntCounter,
    pub in_flight_bytes: IntGauge,
    pub in_flight_batches: IntGauge,
    pub commits: IntCounter,
    pub commit_failures: IntCounter,
    pub dead_letters: IntCounterVec,
    pub tombstones: IntCounter,
    /// Messages that the mapping says hold no reading.
    pub skipped: IntCounter,
    /// Readings in which nothing was measured.
    pub empty_readings: IntCounter,
    /// Schemas that a registry was asked for, failed requests for them, and whether messages are held until one is known.
    pub schema_requests: IntCounter,
    pub schema_request_failures: IntCounter,
    pub waiting_for_schema: IntGauge,
    /// Messages that Kafka deleted before they were read.
    pub messages_lost: IntCounter,
    ignored_fields: IntCounterVec,
    /// The labels of `ignored_fields`.
    ignored_names: Arc<Mutex<HashSet<String>>>,
    /// Alerts of live detection, and what it could not judge.
    pub alerts: IntCounterVec,
    pub late_values: IntCounter,
    pub forgotten_sensors: IntCounter,
    pub rules_reloads: IntCounter,
    pub rules_refused: IntGauge,
    /// What is kept of live detection for a restart.
    pub detector_snapshots: IntCounter,
    pub detector_snapshot_failures: IntCounter,
    pub detector_restored: IntCounter,
    pub lag_messages: IntGaugeVec,
    /// No value while the lag is unknown, such as after a revocation.
    lag_seconds: GaugeVec,
    /// From the sensor's clock until the row is stored.
    pub recorded_to_stored_seconds: Histogram,
    pub assigned_partitions: IntGauge,
    /// 1 for the mapping in use.
    pub mapping_info: IntGaugeVec,
    pub rebalances: IntCounter,
    pub paused: IntGauge,
    /// Rollups computed in the background.
    pub rollup_hours: IntCounter,
    pub rollup_failures: IntCounter,
}

impl IngestMetrics {
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            messages: counter("iotctl_ingest_messages_total", "Messages taken from Kafka")?,
            bytes: counter("iotctl_ingest_bytes_total", "Bytes of messages taken from Kafka")?,
            rows: counter("iotctl_ingest_rows_total", "Rows stored in Cassandra")?,
            batches: counter("iotctl_ingest_batches_total", "Batches of rows stored in Cassandra")?,
            batch_rows: histogram(
                "iotctl_ingest_batch_rows",
                "Rows in a batch",
                exponential_buckets(1.0, 2.0, 11)?,
            )?,
            write_seconds: histogram(
                "iotctl_ingest_write_seconds",
                "Time to store a batch, retries included",
                exponential_buckets(0.000_5, 2.0, 16)?,
            )?,
            retries: counter(
                "iotctl_ingest_retries_total",
                "Attempts at a write that failed and were retried",
            )?,
            in_flight_bytes: gauge("iotctl_ingest_in_flight_bytes", "Bytes decoded and not yet stored")?,
            in_flight_batches: gauge("iotctl_ingest_in_flight_batches", "Batches being written")?,
            commits: counter("iotctl_ingest_commits_total", "Offset commits that Kafka confirmed")?,
            commit_failures: counter("iotctl_ingest_commit_failures_total", "Offset commits that failed")?,
            dead_letters: IntCounterVec::new(
                Opts::new("iotctl_ingest_dead_letters_total", "Messages sent to the dead-letter topic"),
                &["reason"],
            )?,
            tombstones: counter("iotctl_ingest_tombstones_total", "Messages without a payload, skipped")?,
            skipped: counter(
                "iotctl_ingest_skipped_total",
                "Messages that the mapping skips (drop, or only does not hold)",
            )?,
            empty_readings: counter(
                "iotctl_ingest_empty_readings_total",
                "Readings without any value, which are not stored",
            )?,
            schema_requests: counter(
                "iotctl_ingest_schema_requests_total",
                "Schemas that the schema registry was asked for",
            )?,
            schema_request_failures: counter(
                "iotctl_ingest_schema_request_failures_total",
                "Requests to the schema registry that failed and are retried",
            )?,
            waiting_for_schema: gauge(
                "iotctl_ingest_waiting_for_schema",
                "1 while messages wait until the schema registry has answered, or a birth of Sparkplug has been searched for",
            )?,
            messages_lost: counter(
                "iotctl_ingest_messages_lost_total",
                "Messages that Kafka deleted before they were read",
            )?,
            ignored_fields: IntCounterVec::new(
                Opts::new(
                    "iotctl_ingest_ignored_fields_total",
                    "Fields that were not stored, because their value is an array, an object or long text",
                ),
                &["field"],
            )?,
            ignored_names: Arc::default(),
            alerts: IntCounterVec::new(
                Opts::new("iotctl_ingest_alerts_total", "Alerts sent to the topic of alerts"),
                &["rule", "severity", "state"],
            )?,
            late_values: counter(
                "iotctl_ingest_detection_late_values_total",
                "Values that no rule judged, because a newer value of the sensor was judged before",
            )?,
            forgotten_sensors: counter(
                "iotctl_ingest_detection_forgotten_sensors_total",
                "Sensors whose windows were discarded to bound memory",
            )?,
            rules_reloads: counter(
                "iotctl_ingest_rules_reloads_total",
                "Times that changed rules were taken from the file of --detect",
            )?,
            rules_refused: IntGauge::new(
                "iotctl_ingest_rules_refused",
                "1 while the file of --detect is not well formed, and the rules of before are used",
            )?,
            detector_snapshots: counter(
                "iotctl_ingest_detector_snapshots_total",
                "Times that everything the rules remember of a partition was stored",
            )?,
            detector_snapshot_failures: counter(
                "iotctl_ingest_detector_snapshot_failures_total",
                "Failed attempts to store what the rules remember, which are repeated",
            )?,
            detector_restored: counter(
                "iotctl_ingest_detector_restored_sensors_total",
                "Sensors of which the rules went on from what was stored",
            )?,
            lag_messages: IntGaugeVec::new(
                Opts::new("iotctl_ingest_lag_messages", "Messages in the topic that are not stored yet"),
                &["topic", "partition"],
            )?,
            lag_seconds: GaugeVec::new(
                Opts::new(
                    "iotctl_ingest_lag_seconds",
                    "Age of the last stored message in the partition with the largest lag; 0 if everything is stored; \
                     absent if unknown, such as without partitions",
                ),
                &[],
            )?,
            recorded_to_stored_seconds: histogram(
                "iotctl_ingest_recorded_to_stored_seconds",
                "From a reading's recorded_timestamp until its row is stored, per batch (its oldest reading)",
                exponential_buckets(0.01, 2.0, 20)?,
            )?,
            assigned_partitions: gauge(
                "iotctl_ingest_assigned_partitions",
                "Partitions assigned to this process",
            )?,
            mapping_info: IntGaugeVec::new(
                Opts::new(
                    "iotctl_ingest_mapping_info",
                    "1 for the mapping that messages are read by, and its fingerprint",
                ),
                &["mapping", "fingerprint"],
            )?,
            rebalances: counter("iotctl_ingest_rebalances_total", "Changes of the assignment")?,
            paused: gauge("iotctl_ingest_paused", "1 while fetching is paused because Cassandra is slower")?,
            rollup_hours: counter(
                "iotctl_ingest_rollup_hours_total",
                "Rollups computed, counted in hours of groups",
            )?,
            rollup_failures: counter(
                "iotctl_ingest_rollup_failures_total",
                "Rounds of rollups that failed and are retried",
            )?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    /// All metrics by name, type, help text and labels.
    pub fn describe(&self) -> Vec<Described> {
        self.collectors().map(|collectors| describe(&collectors)).unwrap_or_default()
    }

    fn collectors(&self) -> prometheus::Result<[Box<dyn Collector>; 38]> {
        Ok([
            Box::new(self.messages.clone()),
            Box::new(self.bytes.clone()),
            Box::new(self.rows.clone()),
            Box::new(self.batches.clone()),
            Box::new(self.batch_rows.clone()),
            Box::new(self.write_seconds.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.in_flight_bytes.clone()),
            Box::new(self.in_flight_batches.clone()),
            Box::new(self.commits.clone()),
            Box::new(self.commit_failures.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.tombstones.clone()),
            Box::new(self.skipped.clone()),
            Box::new(self.empty_readings.clone()),
            Box::new(self.schema_requests.clone()),
            Box::new(self.schema_request_failures.clone()),
            Box::new(self.waiting_for_schema.clone()),
            Box::new(self.messages_lost.clone()),
            Box::new(self.ignored_fields.clone()),
            Box::new(self.alerts.clone()),
            Box::new(self.late_values.clone()),
            Box::new(self.forgotten_sensors.clone()),
            Box::new(self.rules_reloads.clone()),
            Box::new(self.rules_refused.clone()),
            Box::new(self.detector_snapshots.clone()),
            Box::new(self.detector_snapshot_failures.clone()),
            Box::new(self.detector_restored.clone()),
            Box::new(self.lag_messages.clone()),
            Box::new(self.lag_seconds.clone()),
            Box::new(self.recorded_to_stored_seconds.clone()),
            Box::new(self.assigned_partitions.clone()),
            Box::new(self.mapping_info.clone()),
            Box::new(self.rebalances.clone()),
            Box::new(self.paused.clone()),
            Box::new(self.rollup_hours.clone()),
            Box::new(self.rollup_failures.clone()),
            Box::new(build_info()?),
        ])
    }

    fn register(&self) -> prometheus::Result<()> {
        self.collectors()?.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    /// Sets the age of the last stored message; `None` if it is unknown.
    pub fn set_lag_seconds(&self, seconds: Option<f64>) {
        match seconds {
            Some(seconds) => self.lag_seconds.with_label_values::<&str>(&[]).set(seconds),
            None => self.lag_seconds.reset(),
        }
    }

    /// The age of the last stored message, in seconds; `None` if it is unknown.
    pub fn lag_seconds(&self) -> Option<f64> {
        let families = self.lag_seconds.collect();
        let mut metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics.next().map(|metric| metric.get_gauge().get_value())
    }

    /// The lag of all assigned partitions in messages; `None` if that of none is known.
    pub fn total_lag(&self) -> Option<i64> {
        let families = self.lag_messages.collect();
        families
            .iter()
            .flat_map(prometheus::proto::MetricFamily::get_metric)
            .map(|metric| metric.get_gauge().get_value() as i64)
            .reduce(|sum, lag| sum + lag)
    }

    /// Counts the fields of a message that are not stored, by name.
    pub fn note_ignored(&self, names: &[Cow<'_, str>]) {
        for name in names {
            let name = reading::shown(name);
            let mut known = self.ignored_names.lock().expect("no panic while locked");
            let label = match known.contains(&name) {
                true => name.as_str(),
                false if known.len() < MAX_IGNORED_NAMES => {
                    warn!(
                        field = name,
                        "a field is not stored: its value is an array, an object or long text"
                    );
                    known.insert(name.clone());
                    name.as_str()
                }
                false => OTHER_NAMES,
            };
            self.ignored_fields.with_label_values(&[label]).inc();
        }
    }

    /// Fields that were not stored, by name.
    pub fn ignored_fields(&self) -> BTreeMap<String, u64> {
        let families = self.ignored_fields.collect();
        let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics
            .filter_map(|metric| {
                let label = metric.get_label().first()?.value().to_owned();
                Some((label, metric.get_counter().get_value() as u64))
            })
            .collect()
    }

    /// All dead letters, whatever the reason.
    pub fn dead_letter_count(&self) -> u64 {
        total(&self.dead_letters)
    }

    /// Dead letters by reason.
    pub fn dead_letter_reasons(&self) -> BTreeMap<String, u64> {
        let families = self.dead_letters.collect();
        let counted = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric).map(|metric| {
            let reason = metric.get_label().first().map(|label| label.value().to_owned());
            (reason.unwrap_or_default(), metric.get_counter().get_value() as u64)
        });
        counted.collect()
    }

    /// All alerts, whatever the rule.
    pub fn alert_count(&self) -> u64 {
        total(&self.alerts)
    }
}

fn total(counters: &IntCounterVec) -> u64 {
    let families = counters.collect();
    families
        .iter()
        .flat_map(prometheus::proto::MetricFamily::get_metric)
        .map(|metric| metric.get_counter().get_value() as u64)
        .sum()
}

fn build_info() -> prometheus::Result<IntGauge> {
    let info = IntGauge::with_opts(
        Opts::new("iotctl_build_info", "The running version")
            .const_label("version", env!("CARGO_PKG_VERSION")),
    )?;
    info.set(1);
    Ok(info)
}

fn counter(name: &str, help: &str) -> prometheus::Result<IntCounter> {
    IntCounter::new(name, help)
}

fn gauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(name, help)
}

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
}
