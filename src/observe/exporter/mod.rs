//! Kafka and Cassandra from outside, as Prometheus metrics: offsets and group lag ([`kafka`]), and each Cassandra node
//! by its own virtual tables ([`cassandra`]), without an agent on any server.
//!
//! [`Monitor`] looks at both every interval and keeps the last [`Snapshot`]; a scrape is answered from memory, so that a
//! server that hangs delays nobody. Each round has a deadline, and a metric of its own shows which source did not answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tracing::warn;

use crate::config::Config;
use crate::kafka::Subscription;
use crate::metrics::Health;
use crate::shutdown::Shutdown;

pub mod cassandra;
pub mod kafka;
pub mod snapshot;

use snapshot::{Definition, Snapshot};

/// How long one server may take to answer a round's questions.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Lower bound of that where the interval is shorter.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A monitor whose rounds stop for this long, and three intervals, is hung.
const HUNG_AFTER: Duration = Duration::from_secs(60);

const UP: Definition = Definition::gauge(
    "iotctl_monitor_up",
    "1 if the source (kafka, cassandra) answered in the last round, else 0",
    &["source"],
);
const SECONDS: Definition = Definition::gauge(
    "iotctl_monitor_round_seconds",
    "Duration of the last round's questions to the source",
    &["source"],
);
const TIME: Definition = Definition::gauge(
    "iotctl_monitor_round_timestamp_seconds",
    "End of the last round, in seconds since the epoch; more than a few intervals ago if rounds hang",
    &[],
);
const BUILD: Definition = Definition::gauge("iotctl_build_info", "The running version", &["version"]);

/// Every metric of the monitor.
pub fn definitions() -> Vec<Definition> {
    let mut all = vec![UP, SECONDS, TIME, BUILD];
    all.extend(kafka::DEFINITIONS);
    all.extend(cassandra::metrics::DEFINITIONS);
    all
}

/// What the last round found, in the form a registry takes.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Vec<MetricFamily>>>);

impl Latest {
    fn replace(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.into_families();
    }
}

/// The collector of [`Latest`], with the descriptions that a registry asks for.
#[derive(Debug)]
struct Described {
    latest: Latest,
    descriptions: Vec<Desc>,
}

impl Collector for Described {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.latest.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What to monitor, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    pub interval: Duration,
    /// Consumer groups to read; if empty, all that Kafka lists and the configured one.
    pub groups: Vec<String>,
}

/// Looks at everything, round by round.
pub struct Monitor {
    latest: Latest,
    kafka: kafka::Watch,
    cassandra: cassandra::Watch,
    interval: Duration,
}

impl Monitor {
    pub fn new(config: &Config, options: Options) -> Self {
        let timeout = ANSWER_TIMEOUT.min(options.interval.max(SHORTEST_TIMEOUT));
        Self {
            latest: Latest::default(),
            kafka: kafka::Watch::new(&config.kafka, options.groups, timeout)
                .reading(Subscription::configured_or_built_in(config)),
            cassandra: cassandra::Watch::new(&config.cassandra, timeout),
            interval: options.interval,
        }
    }

    /// A registry that returns the last round.
    pub fn registry(&self) -> anyhow::Result<prometheus::Registry> {
        let registry = prometheus::Registry::new();
        let descriptions =
            definitions().iter().map(Definition::description).collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Described { latest: self.latest.clone(), descriptions }))?;
        Ok(registry)
    }

    /// Runs rounds until shutdown. Ready after the first, whatever it found; not alive if the rounds stop.
    pub async fn run(mut self, health: Health, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = shutdown.requested() => return,
                snapshot = self.round() => self.latest.replace(snapshot),
            }
            health.report(None, None, self.interval * 3 + HUNG_AFTER);
        }
    }

    async fn round(&mut self) -> Snapshot {
        let (kafka, cassandra) = tokio::join!(timed(self.kafka.look()), timed(self.cassandra.look()));
        let kafka = match kafka {
            (Ok((found, _)), took) => (found, Ok(()), took),
            (Err(error), took) => (Snapshot::default(), Err(error.to_string()), took),
        };
        let ((found, answered), took) = cassandra;
        let cassandra = (found, answered, took);
        let mut snapshot = Snapshot::default();
        for (source, (found, answered, took)) in [("kafka", kafka), ("cassandra", cassandra)] {
            if let Err(error) = &answered {
                warn!(error, "cannot read {source}");
            }
            let is_up = answered.is_ok();
            snapshot.append(found);
            snapshot.set(&UP, &[source], f64::from(u8::from(is_up)));
            snapshot.set(&SECONDS, &[source], took.as_secs_f64());
        }
        snapshot.set(&TIME, &[], chrono::Utc::now().timestamp_millis() as f64 / 1000.0);
        snapshot.set(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        snapshot
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_a_name_of_its_own_that_prometheus_accepts() {
        let monitor = Monitor::new(
            &Config::default(),
            Options { interval: Duration::from_secs(10), groups: Vec::new() },
        );
        // Registering refuses doubled and malformed names and empty help.
        monitor.registry().unwrap();
        for definition in definitions() {
            let Definition { name, help, .. } = definition;
            assert!(help.len() > 5 && !help.ends_with('.'), "{name}: {help}");
            assert_eq!(definition.is_counter(), name.ends_with("_total"), "{name}");
        }
    }

    #[tokio::test]
    async fn unreachable_servers_are_reported_and_do_not_hang_a_round() {
        let mut config = Config::default();
        config.kafka.bootstrap_servers = vec!["127.0.0.1:1".into()];
        config.cassandra.contact_points = vec!["127.0.0.1:1".into()];
        let options = Options { interval: Duration::from_secs(1), groups: Vec::new() };
        let mut monitor = Monitor::new(&config, options);
        let started = Instant::now();
        let text = monitor.round().await.into_text();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        for line in [
            "iotctl_monitor_up{source=\"kafka\"} 0",
            "iotctl_monitor_up{source=\"cassandra\"} 0",
            "iotctl_cassandra_node_up{node=\"127.0.0.1:1\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
