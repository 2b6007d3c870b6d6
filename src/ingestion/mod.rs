//! The pipeline from the Kafka topic into Cassandra.
//!
//! # Delivery contract
//! At least once, each reading stored once: a message's offset is committed only after its row is stored at the
//! write consistency, or the message sits in the dead-letter topic; rows are idempotent upserts, so a message that
//! comes again changes nothing. Nothing is dropped when Cassandra is slow: fetching waits.
//!
//! With rules to detect by, it is committed only after the alerts about it are acknowledged too.
//!
//! # The way of a message
//! [`crate::kafka::consumer`] -> `intake` (decode, batch by partition key) -> `writer` (store, retry) -> `tracker`
//! (contiguous finished offsets) -> commit. `catalog` gathers what readers need to find the rows.
//!
//! One blocking thread polls Kafka and owns the intake; writes run on the async runtime and report back to it. A
//! rebalance is reported inside the poll, where the intake finishes and commits what it can before it lets go.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;

use crate::alerting::topic::AlertProducer;
use crate::alerting::{Detector, Rules};
use crate::cassandra::Session;
use crate::config::Config;
use crate::kafka::dead_letters::DeadLetterProducer;
use crate::kafka::topics;
use crate::metrics::server::Readiness;
use crate::rollups::background;
use crate::shutdown::Shutdown;
use crate::store::writes::WriteStatements;

mod breaker;
mod catalog;
pub mod direct;
mod dirty;
mod intake;
mod metrics;
mod poll_loop;
pub mod tracker;
mod writer;

use intake::{Detection, Intake};
pub use metrics::IngestMetrics;
use poll_loop::{Pump, UntilEnd};
use writer::{Patience, Writer};

/// What a run is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Stop when everything that the topic held at the start is stored and committed.
    pub until_end: bool,
    /// Judge each reading by these.
    pub rules: Option<Rules>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With `until_end`: everything is stored and committed.
    ReachedEnd,
    /// Asked to stop; everything that was taken is stored and committed.
    Stopped,
    /// Asked to stop; some of what was taken was not stored in time, and its offsets are not committed.
    StoppedUndrained,
}

/// Runs the pipeline until shutdown, or until the end of the topic.
///
/// # Errors
/// Before anything is read: no schema, no topic, no broker. Later: only what a person must mend.
pub async fn run(
    config: &Config,
    session: Session,
    options: Options,
    metrics: IngestMetrics,
    readiness: Readiness,
    shutdown: Shutdown,
) -> anyhow::Result<Ending> {
    let statements = WriteStatements::prepare(&session, &config.retention).await?;
    topics::describe(&config.kafka, &config.kafka.dead_letter_topic()).await?;
    if options.rules.is_some() {
        topics::describe(&config.kafka, &config.kafka.alerts_topic()).await?;
    }
    let watermarks = topics::watermarks(&config.kafka, &config.kafka.topic).await?;
    let until_end = options.until_end.then(|| UntilEnd::new(&watermarks));

    let stop_rollups = Shutdown::new();
    let rollups = config
        .rollup
        .in_ingest
        .then(|| tokio::spawn(rollups(config, session.clone(), metrics.clone(), stop_rollups.clone())));
    let detection = match options.rules {
        Some(rules) => {
            Some(Detection { detector: Detector::new(rules), alerts: AlertProducer::new(&config.kafka)? })
        }
        None => None,
    };
    let (completions, completed) = mpsc::channel();
    let writer = Writer {
        session,
        statements: statements.clone(),
        dead_letters: DeadLetterProducer::new(&config.kafka)?,
        runtime: tokio::runtime::Handle::current(),
        completions,
        metrics: metrics.clone(),
        storing: Patience::default(),
        burying: Patience::default(),
        announcing: Patience::default(),
    };
    let intake = Intake::new(&config.ingest, &config.schema, statements, detection, writer, completed);
    let pump = Pump {
        intake: Arc::new(Mutex::new(intake)),
        kafka: config.kafka.clone(),
        drain_timeout: config.ingest.drain_timeout,
        metrics,
        readiness,
        shutdown,
        until_end,
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("ingest".into())
        .spawn(move || {
            let _ = sender.send(pump.run());
        })
        .context("cannot start the ingest thread")?;
    let ending = receiver.await.context("the ingest thread ended without a result")?;
    stop_rollups.request();
    if let Some(rollups) = rollups {
        // It gives its lease back; where it cannot, that ends by itself.
        let _ = tokio::time::timeout(ROLLUPS_END, rollups).await;
    }
    ending
}

/// Rollups beside the pipeline, which they make way for.
fn rollups(
    config: &Config,
    session: Session,
    metrics: IngestMetrics,
    stop: Shutdown,
) -> impl Future<Output = ()> + use<> {
    let behind = metrics.clone();
    let is_behind = move || behind.lag_seconds.get() > BEHIND_SECONDS;
    background::run(session, config.clone(), stop, is_behind, move |done| match done {
        Ok(done) => metrics.rollup_hours.inc_by(done.hours),
        Err(()) => metrics.rollup_failures.inc(),
    })
}

/// Rollups make way while the oldest message that is not stored yet is older than this.
const BEHIND_SECONDS: f64 = 5.0;
/// How long the rollups' last request may take when the pipeline has ended.
const ROLLUPS_END: Duration = Duration::from_secs(2);

/// How long the pump waits for a message before it looks after batches and commits.
const POLL_TIMEOUT: Duration = Duration::from_millis(10);
