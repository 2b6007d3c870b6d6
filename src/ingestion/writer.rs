//! The far end of the pipeline: writes that are repeated until they succeed, each reported back when it is done.
//!
//! Transient errors are retried without end. Errors that an operator has to fix (a dropped table, a revoked
//! permission, a changed password) end the pipeline with the reason: at once before anything has succeeded, later
//! after [`crate::retry::Tolerance::LIMIT`]. Nothing is committed that is not stored.

use std::sync::mpsc::Sender;
use std::time::Instant;

use futures::StreamExt;
use tokio::runtime::Handle;
use tracing::warn;

use super::batcher::{FullBatch, Records};
use super::failure::Failure;
use super::storage::Storage;
use super::tracker::Ticket;
use crate::alerting::Alert;
use crate::alerting::topic::AlertProducer;
use crate::ingestion::IngestMetrics;
use crate::kafka;
use crate::kafka::dead_letters::{DeadLetter, DeadLetterProducer};
use crate::retry::{Attempts, RetryPolicy};

/// Batches of catalog rows written at once.
const RECORD_CONCURRENCY: usize = 16;

/// What a finished write reports to the pipeline's thread.
#[derive(Debug)]
pub(super) enum Completion {
    /// Rows are stored.
    Stored { tickets: Vec<Ticket>, bytes: usize },
    /// A message sits in the dead-letter topic, or an alert in the topic of alerts; with the ticket of the message that it is
    /// about.
    Sent { ticket: Option<Ticket>, bytes: usize },
    /// What [`Writer::record`] was given is stored.
    Recorded,
    /// The pipeline cannot go on.
    Failed(Failure),
}

/// Starts writes on the runtime; called from the pipeline's thread.
#[derive(Clone)]
pub(super) struct Writer {
    pub storage: Storage,
    pub dead_letters: DeadLetterProducer,
    pub runtime: Handle,
    pub completions: Sender<Completion>,
    pub metrics: IngestMetrics,
    pub dead_letter_policy: RetryPolicy,
    pub alert_policy: RetryPolicy,
}

impl Writer {
    /// Stores a batch of rows.
    pub(super) fn store(&self, batch: FullBatch<Ticket>) {
        let writer = self.clone();
        self.runtime.spawn(async move {
            let started = Instant::now();
            let metrics = &writer.metrics;
            let FullBatch { rows, markers, tags: tickets, bytes, oldest } = batch;
            let completion = match writer.storage.write(&rows, &markers).await {
                Ok(()) => {
                    metrics.write_seconds.observe(started.elapsed().as_secs_f64());
                    metrics.rows.inc_by(rows.rows() as u64);
                    metrics.batches.inc();
                    metrics.batch_rows.observe(rows.rows() as f64);
                    let age = chrono::Utc::now().timestamp_millis().saturating_sub(oldest);
                    metrics.recorded_to_stored_seconds.observe(age as f64 / 1000.0);
                    Completion::Stored { tickets, bytes }
                }
                Err(error) => Completion::Failed(Failure::Store(error)),
            };
            writer.complete(completion);
        });
    }

    /// Stores catalog rows, by which readers find the others; one [`Completion::Recorded`] when all of them are.
    pub(super) fn record(&self, Records { batches, markers }: Records) {
        let writer = self.clone();
        self.runtime.spawn(async move {
            let (storage, markers) = (&writer.storage, &markers);
            let mut writes = futures::stream::iter(batches)
                .map(async |batch| storage.write(&batch, markers).await)
                .buffer_unordered(RECORD_CONCURRENCY);
            let mut completion = Completion::Recorded;
            while let Some(result) = writes.next().await {
                if let Err(error) = result {
                    completion = Completion::Failed(Failure::Store(error));
                    break;
                }
            }
            writer.complete(completion);
        });
    }

    /// Sends a message to the dead-letter topic.
    pub(super) fn send_dead_letter(&self, letter: DeadLetter, ticket: Ticket, bytes: usize) {
        let writer = self.clone();
        self.runtime.spawn(async move {
            let mut attempts = writer.dead_letter_policy.attempts();
            let sent = loop {
                let Err(error) = writer.dead_letters.send(&letter).await else { break Ok(()) };
                if let Err(error) = writer.wait(&mut attempts, "send a dead letter", error).await {
                    break Err(error);
                }
            };
            if sent.is_ok() {
                writer.dead_letter_policy.note_success();
                writer.metrics.dead_letters.with_label_values(&[letter.reason]).inc();
            }
            writer.complete_sent(sent, Some(ticket), bytes);
        });
    }

    /// Sends an alert to its topic: in the order of these calls, unless it has to be retried.
    pub(super) fn send_alert(
        &self,
        producer: &AlertProducer,
        alert: Alert,
        ticket: Option<Ticket>,
        bytes: usize,
    ) {
        let (writer, producer) = (self.clone(), producer.clone());
        let mut attempt = producer.send(&alert);
        self.runtime.spawn(async move {
            let mut attempts = writer.alert_policy.attempts();
            let sent = loop {
                let Err(error) = attempt.await else { break Ok(()) };
                if let Err(error) = writer.wait(&mut attempts, "send an alert", error).await {
                    break Err(error);
                }
                attempt = producer.send(&alert);
            };
            if sent.is_ok() {
                writer.alert_policy.note_success();
                let labels = [alert.rule.as_str(), alert.severity.name(), alert.state.name()];
                writer.metrics.alerts.with_label_values(&labels).inc();
            }
            writer.complete_sent(sent, ticket, bytes);
        });
    }

    /// Waits before the next attempt to do `what`; fails when the policy gives up.
    async fn wait(
        &self,
        attempts: &mut Attempts<'_>,
        what: &str,
        error: kafka::Error,
    ) -> Result<(), kafka::Error> {
        self.metrics.retries.inc();
        let Some(delay) = attempts.failed(!error.is_hopeless()) else { return Err(error) };
        warn!(%error, "cannot {what}, retrying");
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn complete_sent(&self, sent: Result<(), kafka::Error>, ticket: Option<Ticket>, bytes: usize) {
        self.complete(match sent {
            Ok(()) => Completion::Sent { ticket, bytes },
            Err(error) => Completion::Failed(Failure::Send(error.into())),
        });
    }

    fn complete(&self, completion: Completion) {
        // A closed channel means that the pipeline has ended and nobody waits for this any more.
        let _ = self.completions.send(completion);
    }
}
