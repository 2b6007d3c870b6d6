//! The far end of the pipeline: writes that go on until they succeed, each reported back when it is done.
//!
//! Failures that pass by themselves are tried again for as long as it takes, with growing, jittered pauses. Failures
//! that need a person (a dropped table, a revoked permission, a changed password) end the pipeline with the reason: at
//! once where nothing has succeeded yet, because whoever started it is there to be told; later after a while, because
//! the table may be on its way back. Nothing is committed that is not stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::runtime::Handle;
use tracing::warn;

use super::tracker::Ticket;
use crate::alerting::Alert;
use crate::alerting::topic::AlertProducer;
use crate::cassandra::{SealedBatch, Session};
use crate::ingestion::IngestMetrics;
use crate::ingestion::dirty::{HourMark, LONG_ATTEMPT};
use crate::kafka::dead_letters::{DeadLetter, DeadLetterProducer};
use crate::store::writes::WriteStatements;

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a failure that needs a person may last before the pipeline gives up, once something has succeeded.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches of catalog rows written at once.
const RECORD_CONCURRENCY: usize = 16;

/// What a finished write tells the intake.
#[derive(Debug)]
pub(super) enum Completion {
    /// Rows are stored.
    Stored { tickets: Vec<Ticket>, bytes: usize },
    /// A message sits in the dead-letter topic, or an alert about it in the topic of alerts.
    Sent { ticket: Ticket, bytes: usize },
    /// What [`Writer::record`] was given is stored.
    Recorded,
    /// The pipeline cannot go on.
    Failed(String),
}

/// Starts writes on the runtime; called from the pipeline's thread.
#[derive(Clone)]
pub(super) struct Writer {
    pub session: Session,
    pub statements: WriteStatements,
    pub dead_letters: DeadLetterProducer,
    pub runtime: Handle,
    pub completions: Sender<Completion>,
    pub metrics: IngestMetrics,
    pub storing: Patience,
    pub burying: Patience,
    pub announcing: Patience,
}

/// How long failures of one kind of write are borne that only a person can mend.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    has_succeeded: Arc<AtomicBool>,
}

impl Patience {
    fn succeeded(&self) {
        self.has_succeeded.store(true, Ordering::Relaxed);
    }

    fn is_over(&self, failing_since: Instant) -> bool {
        !self.has_succeeded.load(Ordering::Relaxed) || failing_since.elapsed() > PATIENCE
    }
}

impl Writer {
    /// Stores a batch of rows of the hours that `marks` are about. `oldest` is the earliest recorded_timestamp among
    /// them.
    pub fn store(
        &self,
        batch: SealedBatch,
        marks: Vec<Arc<HourMark>>,
        tickets: Vec<Ticket>,
        bytes: usize,
        oldest: i64,
    ) {
        let writer = self.clone();
        self.runtime.spawn(async move {
            let started = Instant::now();
            let metrics = &writer.metrics;
            let completion = match writer.write(&batch, &marks).await {
                Ok(()) => {
                    metrics.write_seconds.observe(started.elapsed().as_secs_f64());
                    metrics.rows.inc_by(batch.rows() as u64);
                    metrics.batches.inc();
                    metrics.batch_rows.observe(batch.rows() as f64);
                    let age = chrono::Utc::now().timestamp_millis().saturating_sub(oldest);
                    metrics.recorded_to_stored_seconds.observe(age as f64 / 1000.0);
                    Completion::Stored { tickets, bytes }
                }
                Err(reason) => Completion::Failed(reason),
            };
            // A closed channel means that the pipeline has ended and nobody waits for this any more.
            let _ = writer.completions.send(completion);
        });
    }

    /// Stores catalog rows, by which readers find rows of the hours that `marks` are about; one
    /// [`Completion::Recorded`] when all of them are.
    pub fn record(&self, batches: Vec<SealedBatch>, marks: Vec<Arc<HourMark>>) {
        let writer = self.clone();
        self.runtime.spawn(async move {
            let (writer, marks) = (&writer, &marks);
            let mut writes = futures::stream::iter(batches)
                .map(async |batch| writer.write(&batch, marks).await)
                .buffer_unordered(RECORD_CONCURRENCY);
            let mut completion = Completion::Recorded;
            while let Some(result) = writes.next().await {
                if let Err(reason) = result {
                    completion = Completion::Failed(reason);
                    break;
                }
            }
            let _ = writer.completions.send(completion);
        });
    }

    /// Writes until it succeeds, or until only a person can help. No attempt is made without the marks.
    async fn write(&self, batch: &SealedBatch, marks: &[Arc<HourMark>]) -> Result<(), String> {
        let mut attempts = Attempts::new(self, &self.storing);
        loop {
            self.ensure(marks).await?;
            let started = Instant::now();
            match self.session.write(batch).await {
                Ok(()) if started.elapsed() > LONG_ATTEMPT => {
                    self.storing.succeeded();
                    // The rows may have become visible only now, when the marks were acted upon long ago.
                    for mark in marks {
                        mark.expire().await;
                    }
                    return self.ensure(marks).await;
                }
                Ok(()) => {
                    self.storing.succeeded();
                    return Ok(());
                }
                Err(error) => attempts.failed("store a batch", &error, error.is_transient()).await?,
            }
        }
    }

    /// Makes the marks that are missing.
    async fn ensure(&self, marks: &[Arc<HourMark>]) -> Result<(), String> {
        for mark in marks {
            let Some(missing) = mark.missing().await else { continue };
            let batch = missing.seal(&self.statements, self.session.write_consistency());
            let mut attempts = Attempts::new(self, &self.storing);
            while let Err(error) = self.session.write(&batch).await {
                attempts.failed("mark an hour", &error, error.is_transient()).await?;
            }
            missing.made();
        }
        Ok(())
    }

    /// Sends a message to the dead-letter topic.
    pub fn bury(&self, letter: DeadLetter, ticket: Ticket, bytes: usize) {
        let (writer, producer) = (self.clone(), self.dead_letters.clone());
        self.runtime.spawn(async move {
            let mut attempts = Attempts::new(&writer, &writer.burying);
            let sent = loop {
                let Err(error) = producer.send(&letter).await else { break Ok(()) };
                if let Err(reason) = attempts.failed("send a dead letter", &error, !error.is_hopeless()).await
                {
                    break Err(reason);
                }
            };
            writer.sent(sent, &writer.burying, ticket, bytes, || {
                writer.metrics.dead_letters.with_label_values(&[letter.reason]).inc();
            });
        });
    }

    /// Sends an alert to its topic: in the order of these calls, unless it has to be tried again.
    pub fn announce(&self, producer: &AlertProducer, alert: Alert, ticket: Ticket, bytes: usize) {
        let (writer, producer) = (self.clone(), producer.clone());
        let mut attempt = producer.send(&alert);
        self.runtime.spawn(async move {
            let mut attempts = Attempts::new(&writer, &writer.announcing);
            let sent = loop {
                let Err(error) = attempt.await else { break Ok(()) };
                if let Err(reason) = attempts.failed("send an alert", &error, !error.is_hopeless()).await {
                    break Err(reason);
                }
                attempt = producer.send(&alert);
            };
            writer.sent(sent, &writer.announcing, ticket, bytes, || {
                let labels = [alert.rule.as_str(), alert.severity.name(), alert.state.name()];
                writer.metrics.alerts.with_label_values(&labels).inc();
            });
        });
    }

    fn sent(
        &self,
        sent: Result<(), String>,
        patience: &Patience,
        ticket: Ticket,
        bytes: usize,
        count: impl FnOnce(),
    ) {
        let completion = match sent {
            Ok(()) => {
                patience.succeeded();
                count();
                Completion::Sent { ticket, bytes }
            }
            Err(reason) => Completion::Failed(reason),
        };
        // A closed channel means that the pipeline has ended and nobody waits for this any more.
        let _ = self.completions.send(completion);
    }
}

/// The attempts at one write that have failed so far.
struct Attempts<'a> {
    writer: &'a Writer,
    patience: &'a Patience,
    pause: Duration,
    hopeless_since: Option<Instant>,
}

impl<'a> Attempts<'a> {
    fn new(writer: &'a Writer, patience: &'a Patience) -> Self {
        Self { writer, patience, pause: PAUSE.0, hopeless_since: None }
    }

    /// Waits before the next attempt to do `what`; fails where only a person can help.
    async fn failed(
        &mut self,
        what: &str,
        error: &impl std::fmt::Display,
        is_transient: bool,
    ) -> Result<(), String> {
        self.writer.metrics.retries.inc();
        if is_transient {
            self.hopeless_since = None;
        } else if self.patience.is_over(*self.hopeless_since.get_or_insert_with(Instant::now)) {
            return Err(given_up(error));
        }
        warn!(%error, "cannot {what}, trying again");
        self.pause = wait(self.pause).await;
        Ok(())
    }
}

fn given_up(error: &impl std::fmt::Display) -> String {
    format!("{error}; ingest stops, and the topic keeps what is not stored for the next one")
}

/// Sleeps for about `pause` and returns the next one.
async fn wait(pause: Duration) -> Duration {
    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    (pause * 2).min(PAUSE.1)
}
