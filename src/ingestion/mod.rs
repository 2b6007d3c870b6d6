//! The pipeline from the Kafka topic into Cassandra.
//!
//! # Delivery contract
//! At least once, each reading stored once: a message's offset is committed only after its row is stored at the
//! write consistency, or the message sits in the dead-letter topic; rows are idempotent upserts, so a message that
//! comes again changes nothing. Nothing is dropped when Cassandra is slow: fetching waits. What Kafka deletes before it
//! was read is reported, and noted beside the committed offsets (`losses`).
//!
//! With rules to detect by, it is committed only after the alerts about it are acknowledged too.
//!
//! # The way of a message
//! [`crate::kafka::consumer`] -> `pipeline` (decode, detect) -> `batcher` (batches by partition key, with the `catalog`
//! of what readers need to find the rows) -> `writer` and `storage` (store, retry) -> `commits` (the `tracker`'s
//! contiguous finished offsets). `silence` has the clock for rules about silence,
//! `snapshots` what rules remember across a restart, `rewind` the messages that they judge again after one. `lookups` holds messages until their schema, or the birth of their node, is known. `budget` bounds what is in flight, `breaker` stops a topic of which most is at fault.
//! [`direct`] is the shorter way of imports, through the same batcher, budget and storage.
//!
//! One blocking thread, the `poll_loop`, polls Kafka and owns the pipeline; writes run on the async runtime and report
//! back to it. A rebalance is reported inside the poll, where the pipeline finishes and commits what it can before the
//! partitions are given up.

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::alerting::topic::AlertProducer;
use crate::alerting::{Detector, Rules};
use crate::cassandra::Session;
use crate::config::{Config, KafkaConfig};
use crate::kafka::Subscription;
use crate::kafka::dead_letters::DeadLetterProducer;
use crate::kafka::{consumer_groups, ends, renewal, retention, topics};
use crate::mapping::Mapping;
use crate::metrics::Health;
use crate::registry::Lookup;
use crate::retry::{RetryPolicy, Tolerance};
use crate::rollups::background;
use crate::shutdown::Shutdown;
use crate::store::writes::WriteStatements;

mod batcher;
mod breaker;
mod budget;
mod catalog;
mod commits;
pub mod direct;
mod dirty_marker;
mod failure;
mod lookups;
mod losses;
mod mapping_change;
mod metrics;
mod order;
mod pipeline;
mod poll_loop;
mod reload;
mod rewind;
mod silence;
mod snapshots;
mod storage;
pub mod tracker;
mod writer;

pub use failure::Failure;
use lookups::LookupWait;
pub use metrics::IngestMetrics;
use pipeline::{Detection, Pipeline};
use poll_loop::{PollLoop, UntilEnd};
use silence::SilenceClock;
use snapshots::Snapshots;
use storage::Storage;
use writer::Writer;

/// What a run may be given.
#[derive(Debug, Default)]
pub struct Options {
    /// Stop when everything that the topics held at the start is stored and committed.
    pub until_end: bool,
    /// Judge each reading by these.
    pub rules: Option<Rules>,
    /// Where the rules are from; read again when it changes.
    pub rules_file: Option<PathBuf>,
    /// What turns messages into readings; without it, they are in the built-in format.
    pub mapping: Option<Mapping>,
    /// Where the mapping gets what messages have to be read by, if they need anything.
    pub lookup: Option<Lookup>,
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
/// Before anything is read: no schema, no topic, no broker. Later: only what an operator has to fix, as a [`Failure`].
pub async fn run(
    config: &Config,
    session: Session,
    options: Options,
    metrics: IngestMetrics,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<Ending> {
    let statements = WriteStatements::prepare(&session, &config.retention).await?;
    let dead_letter_topic = config.kafka.dead_letter_topic();
    topics::describe(&config.kafka, &dead_letter_topic).await?;
    if options.rules.is_some() {
        topics::describe(&config.kafka, &config.kafka.alerts_topic()).await?;
    }
    if let Some(mapping) = &options.mapping {
        mapping_change::report(&session, &config.kafka.group, mapping, &metrics).await;
    }
    let subscription = Subscription::new(&config.kafka, options.mapping.as_ref());
    let topics = subscription.topics(&config.kafka).await?;
    tracing::info!(topics = topics.join(", "), subscription = %subscription, "topics to read");
    if topics.is_empty() {
        tracing::warn!("no topic matches yet");
    }
    let until_end = match options.until_end {
        true => Some(until_end(&config.kafka, &topics).await?),
        false => None,
    };

    let stop_rollups = Shutdown::new();
    let rollups = config
        .rollup
        .in_ingest
        .then(|| tokio::spawn(rollups(config, session.clone(), metrics.clone(), stop_rollups.clone())));
    let (rules_changed, rules_changes) = mpsc::channel();
    let watching = options
        .rules_file
        .zip(options.rules.clone())
        .map(|(file, rules)| tokio::spawn(reload::watch(file, rules, metrics.clone(), rules_changed)));
    let detection = match options.rules {
        Some(rules) => {
            let mut detector = Detector::new(rules);
            if detector.judges_silence() {
                detector.learn(silence::known_sensors(&session).await?);
            }
            let silence = SilenceClock::new(session.clone(), tokio::runtime::Handle::current());
            let alerts = AlertProducer::new(&config.kafka)?;
            let interval = config.ingest.detector_snapshot_interval;
            let group = &config.kafka.group;
            let snapshots = Snapshots::open(&session, group, interval, &metrics, &shutdown).await?;
            if snapshots.is_some() {
                detector.note_changes();
            }
            Some(Detection { detector, alerts, silence, snapshots, changes: rules_changes, unsettled: 0 })
        }
        None => None,
    };
    // A user who may not read the topic's settings learns from the brokers what is too large.
    let limit = retention::retention(&config.kafka, &dead_letter_topic).await;
    let limit = limit.ok().and_then(|kept| kept.max_message_bytes);
    let (completions, completed) = mpsc::channel();
    let policy = || RetryPolicy::WRITES.tolerating(Tolerance::default());
    let writer = Writer {
        storage: Storage { session, statements, policy: policy(), retries: metrics.retries.clone() },
        dead_letters: DeadLetterProducer::new(&config.kafka, limit)?,
        runtime: tokio::runtime::Handle::current(),
        completions,
        metrics: metrics.clone(),
        dead_letter_policy: policy(),
        alert_policy: policy(),
    };
    let lookups = options.lookup.map(|lookup| {
        LookupWait::new(lookup, tokio::runtime::Handle::current(), shutdown.clone(), metrics.clone())
    });
    let needs_lookups = lookups.is_some();
    let pipeline = Pipeline::new(config, options.mapping, lookups, detection, writer, completed, &shutdown);
    let (changed, changes) = mpsc::channel();
    let looking = subscription.refresh().filter(|_| !options.until_end).map(|interval| {
        let known = topics.clone();
        tokio::spawn(look_for_topics(config.kafka.clone(), subscription.clone(), interval, known, changed))
    });
    let poll_loop = PollLoop {
        topics,
        renewed: renewal::generation(),
        epoch: Arc::default(),
        is_single: subscription.is_single(),
        changes,
        pipeline: Arc::new(Mutex::new(pipeline)),
        needs_lookups,
        kafka: config.kafka.clone(),
        drain_timeout: config.ingest.drain_timeout,
        metrics,
        health,
        shutdown,
        until_end,
        reported: Instant::now(),
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("ingest".into())
        .spawn(move || {
            let _ = sender.send(poll_loop.run());
        })
        .context("cannot start the ingest thread")?;
    let ending = receiver.await.context("the ingest thread ended without a result")?;
    looking.into_iter().chain(watching).for_each(|task| task.abort());
    stop_rollups.request();
    if let Some(rollups) = rollups {
        // They give their lease back; otherwise it expires by itself.
        let _ = tokio::time::timeout(ROLLUPS_END, rollups).await;
    }
    ending
}

async fn until_end(kafka: &KafkaConfig, topics: &[String]) -> anyhow::Result<UntilEnd> {
    let mut until_end = UntilEnd::default();
    for topic in topics {
        let watermarks = topics::watermarks(kafka, topic).await?;
        let partitions = i32::try_from(watermarks.len()).unwrap_or(i32::MAX);
        let committed = consumer_groups::committed(kafka, topic, partitions).await?;
        let ends = ends::reachable_ends(kafka, topic).await?;
        until_end.add(topic, &watermarks, &ends, &committed);
    }
    Ok(until_end)
}

/// Reports new topics that fit a pattern. One that is gone stays: a broker that has just started may not list it.
async fn look_for_topics(
    kafka: KafkaConfig,
    subscription: Subscription,
    interval: Duration,
    mut known: Vec<String>,
    changed: mpsc::Sender<Vec<String>>,
) {
    loop {
        tokio::time::sleep(interval).await;
        let existing = match topics::names(&kafka).await {
            Ok(existing) => existing,
            Err(error) => {
                tracing::info!(%error, "cannot look for new topics, retrying");
                continue;
            }
        };
        let found = subscription.among(existing.iter().map(String::as_str));
        let new: Vec<String> = found.into_iter().filter(|topic| !known.contains(topic)).collect();
        if new.is_empty() {
            continue;
        }
        tracing::info!(topics = new.join(", "), "new topics to read");
        known.extend(new);
        if changed.send(known.clone()).is_err() {
            return;
        }
    }
}

/// Computes rollups beside the pipeline, which has priority.
fn rollups(
    config: &Config,
    session: Session,
    metrics: IngestMetrics,
    stop: Shutdown,
) -> impl Future<Output = ()> + use<> {
    let behind = metrics.clone();
    let is_behind = move || behind.lag_seconds().is_some_and(|seconds| seconds > BEHIND_SECONDS);
    background::run(session, config.clone(), stop, is_behind, move |done| match done {
        Ok(done) => metrics.rollup_hours.inc_by(done.hours),
        Err(()) => metrics.rollup_failures.inc(),
    })
}

/// Rollups are put off while the oldest message that is not stored yet is older than this.
const BEHIND_SECONDS: f64 = 5.0;
/// How long the rollups' last request may take when the pipeline has ended.
const ROLLUPS_END: Duration = Duration::from_secs(2);

/// How long the poll loop waits for a message before it turns to batches and commits.
const POLL_TIMEOUT: Duration = Duration::from_millis(10);
