//! What a server counts.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::metrics::describe::{Described, describe};
use crate::sql::bounds::{Ended, Outcome, Stopped};

/// Every metric of `serve`, registered once.
#[derive(Debug, Clone)]
pub struct ServeMetrics {
    pub registry: Registry,
    /// That have logged in.
    pub clients: IntGauge,
    pub connections: IntCounter,
    pub refused_clients: IntCounter,
    pub refused_logins: IntCounter,
    pub statements: IntCounterVec,
    pub seconds: Histogram,
    pub rows: IntCounter,
    pub errors: IntCounterVec,
    pub memory: IntGauge,
}

impl ServeMetrics {
    pub fn new() -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let by = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let seconds = HistogramOpts::new(
            "iotctl_serve_statement_seconds",
            "Time from the start of a statement until its last row was taken",
        )
        .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0]);
        let metrics = Self {
            registry: Registry::new(),
            clients: gauge("iotctl_serve_clients", "Clients that are logged in")?,
            connections: counter("iotctl_serve_connections_total", "Connections accepted")?,
            refused_clients: counter(
                "iotctl_serve_refused_clients_total",
                "Connections refused because too many clients were connected",
            )?,
            refused_logins: counter("iotctl_serve_refused_logins_total", "Failed logins")?,
            statements: by(
                "iotctl_serve_statements_total",
                "Statements that were run, by outcome: complete, failed, cancelled, timeout, too_many_rows, or dropped by the \
                 client",
                "outcome",
            )?,
            seconds: Histogram::with_opts(seconds)?,
            rows: counter("iotctl_serve_rows_total", "Rows put out")?,
            errors: by("iotctl_serve_errors_total", "Errors sent to clients, by SQLSTATE", "sqlstate")?,
            memory: gauge("iotctl_serve_memory_bytes", "Memory in use for sorting, joining and grouping")?,
        };
        metrics.collectors().into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// All metrics by name, type, help text and labels.
    pub fn describe(&self) -> Vec<Described> {
        describe(&self.collectors())
    }

    fn collectors(&self) -> [Box<dyn Collector>; 9] {
        [
            Box::new(self.clients.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.refused_clients.clone()),
            Box::new(self.refused_logins.clone()),
            Box::new(self.statements.clone()),
            Box::new(self.seconds.clone()),
            Box::new(self.rows.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.memory.clone()),
        ]
    }

    pub(super) fn ended(&self, ended: &Ended) {
        let outcome = match ended.outcome {
            Outcome::Complete => "complete",
            Outcome::Failed => "failed",
            Outcome::Dropped => "dropped",
            Outcome::Stopped(Stopped::Cancelled) => "cancelled",
            Outcome::Stopped(Stopped::Late(_)) => "timeout",
            Outcome::Stopped(Stopped::TooManyRows(_)) => "too_many_rows",
        };
        self.statements.with_label_values(&[outcome]).inc();
        self.seconds.observe(ended.seconds);
        self.rows.inc_by(ended.rows as u64);
    }

    /// The codes are those of `errors`, and the few that clients cause by the protocol.
    pub(super) fn error(&self, code: &str) {
        self.errors.with_label_values(&[code]).inc();
    }
}
