//! The near end of the pipeline, on one thread: messages are decoded, judged and batched; full and due batches go to
//! the writer; finished writes advance the tracker; and at intervals what is finished is committed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::batcher::{Batcher, FullBatch};
use super::breaker::{Breaker, Tripped};
use super::budget::Budget;
use super::commits::Commits;
use super::failure::Failure;
use super::tracker::{Ticket, Tracker};
use super::writer::{Completion, Writer};
use crate::alerting::topic::AlertProducer;
use crate::alerting::{Alert, Detector};
use crate::config::Config;
use crate::ingestion::IngestMetrics;
use crate::kafka::consumer::{Commit, Message};
use crate::kafka::dead_letters::DeadLetter;
use crate::kafka::producer::Position;
use crate::reading::decode::{self, DecodeLimits};
use crate::reading::{Reading, Rejection};

pub(super) struct Pipeline {
    limits: DecodeLimits,
    batcher: Batcher<Ticket>,
    budget: Budget,
    commits: Commits,
    breaker: Breaker,
    /// If there are rules to detect by.
    detection: Option<Detection>,
    writer: Writer,
    completions: Receiver<Completion>,
    metrics: IngestMetrics,
    /// Why the pipeline cannot go on. Kept, because a rebalance that meets it has no caller to return it to.
    failure: Option<Failure>,
}

/// What judges readings, and where its alerts go.
pub(super) struct Detection {
    pub detector: Detector,
    pub alerts: AlertProducer,
}

impl Pipeline {
    pub fn new(
        config: &Config,
        detection: Option<Detection>,
        writer: Writer,
        completions: Receiver<Completion>,
    ) -> Self {
        let ingest = &config.ingest;
        let storage = &writer.storage;
        Self {
            limits: DecodeLimits {
                max_message_bytes: usize::try_from(ingest.max_message_bytes.as_u64()).unwrap_or(usize::MAX),
                max_future_skew: ingest.max_future_skew,
            },
            batcher: Batcher::new(config, storage.statements.clone(), storage.session.write_consistency()),
            budget: Budget::new(ingest),
            commits: Commits::new(ingest.commit_interval),
            breaker: Breaker::new(ingest.max_dead_letter_percent),
            detection,
            metrics: writer.metrics.clone(),
            writer,
            completions,
            failure: None,
        }
    }

    /// Takes a message in. It is finished when its row is stored or it sits in the dead-letter topic.
    pub fn accept(&mut self, message: &Message<'_>) {
        let payload = message.payload();
        self.metrics.messages.inc();
        self.metrics.bytes.inc_by(payload.len() as u64);
        let ticket = self.tracker().begin(message.partition(), message.offset(), message.timestamp());
        let now = chrono::Utc::now().timestamp_millis();
        match decode::decode(payload, &self.limits, now) {
            Ok(decoded) => {
                let tripped = self.breaker.accepted();
                self.fail_if(tripped);
                self.metrics.ignored_fields.inc_by(decoded.ignored_fields.into());
                self.detect(&decoded.reading, message.partition(), ticket);
                let (bytes, full) = self.batcher.push(&decoded.reading, ticket);
                self.budget.add_bytes(bytes);
                if let Some(batch) = full {
                    self.store(batch);
                }
            }
            Err(rejection) => {
                let position = Position { partition: message.partition(), offset: message.offset() };
                let tripped = self.breaker.rejected(position, &rejection);
                self.fail_if(tripped);
                self.send_dead_letter(message, ticket, &rejection);
            }
        }
    }

    /// The message is finished only when the alerts about it are acknowledged too.
    fn detect(&mut self, reading: &Reading<'_>, partition: i32, ticket: Ticket) {
        let Some(Detection { detector, alerts }) = &mut self.detection else { return };
        detector.observe(partition, reading, |alert| {
            let bytes = size_of::<Alert>() + alert.message.len();
            self.commits.tracker.hold(ticket);
            self.budget.add_bytes(bytes);
            self.budget.begin_write();
            self.writer.send_alert(alerts, alert, ticket, bytes);
        });
    }

    fn send_dead_letter(&mut self, message: &Message<'_>, ticket: Ticket, rejection: &Rejection) {
        tracing::debug!(partition = message.partition(), offset = message.offset(), %rejection, "a dead letter");
        let letter = DeadLetter {
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().to_vec(),
            reason: rejection.reason(),
            error: rejection.to_string(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
        };
        let bytes = letter.payload.len() + letter.key.as_ref().map_or(0, Vec::len) + letter.error.len();
        self.budget.add_bytes(bytes);
        self.budget.begin_write();
        self.writer.send_dead_letter(letter, ticket, bytes);
    }

    fn store(&mut self, batch: FullBatch<Ticket>) {
        self.budget.begin_write();
        self.writer.store(batch);
    }

    fn fail_if(&mut self, tripped: Result<(), Tripped>) {
        if let Err(tripped) = tripped {
            self.failure.get_or_insert(tripped.into());
        }
    }

    /// How long writes have been waiting without one of them being stored; `None` if none is waiting.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.budget.stalled_for()
    }

    /// Partitions are no longer ours.
    pub fn forget(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.tracker().forget([partition]);
            if let Some(Detection { detector, .. }) = &mut self.detection {
                detector.forget(partition);
            }
        }
    }

    /// Whether taking in more would exceed what may be in flight.
    pub fn is_full(&self) -> bool {
        self.budget.is_full() || self.batcher.is_full()
    }

    /// Takes note of the writes that finished since the last call; waits up to `timeout` for the first.
    pub fn collect_completions(&mut self, timeout: Duration) -> Result<(), Failure> {
        if !timeout.is_zero() && self.failure.is_none() {
            match self.completions.recv_timeout(timeout) {
                Ok(completion) => self.complete(completion),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        while let Ok(completion) = self.completions.try_recv() {
            self.complete(completion);
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.metrics.in_flight_bytes.set(self.budget.bytes() as i64);
        self.metrics.in_flight_batches.set(self.budget.writes() as i64);
        if let Some(Detection { detector, .. }) = &mut self.detection {
            self.metrics.late_values.inc_by(detector.take_late());
            self.metrics.forgotten_sensors.inc_by(detector.take_forgotten());
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Stored { tickets, bytes } => {
                tickets.into_iter().for_each(|ticket| self.commits.tracker.finish(ticket));
                self.budget.end_write(bytes);
            }
            Completion::Sent { ticket, bytes } => {
                self.commits.tracker.finish(ticket);
                self.budget.end_write(bytes);
            }
            Completion::Recorded => {
                self.budget.end_write(0);
                self.commits.recorded();
            }
            Completion::Failed(failure) => self.failure = Some(failure),
        }
    }

    /// Stores the batches that have waited long enough.
    pub fn flush_due(&mut self) {
        let now = Instant::now();
        while let Some(batch) = self.batcher.take_due(now) {
            self.store(batch);
        }
    }

    fn flush_all(&mut self) {
        for batch in self.batcher.take_all() {
            self.store(batch);
        }
    }

    /// Begins a commit when one is due, and hands its offsets to Kafka once its catalog rows are stored.
    pub fn advance_commit(&mut self, kafka: &dyn Commit) {
        if let Some(offsets) = self.commits.take_recorded() {
            self.commit(&offsets, kafka, false);
        } else if self.commits.is_due(self.batcher.records_are_due()) {
            self.begin_commit();
        }
    }

    fn begin_commit(&mut self) {
        let must_forget = self.batcher.should_forget();
        if must_forget {
            // Open batches name their groups by numbers that are about to be forgotten.
            self.flush_all();
        }
        self.commits.begin();
        let records = self.batcher.take_records();
        if must_forget {
            self.batcher.forget();
        }
        match records.batches.is_empty() {
            true => self.commits.recorded(),
            false => {
                self.budget.begin_write();
                self.writer.record(records);
            }
        }
    }

    fn commit(&mut self, offsets: &[(i32, i64)], kafka: &dyn Commit, wait: bool) {
        match kafka.commit(offsets, wait) {
            Ok(()) => self.tracker().committed(offsets),
            // They are offered again with the next commit.
            Err(error) => tracing::warn!(%error, "cannot commit offsets, retrying with the next commit"),
        }
    }

    /// Finishes and commits what can be within `timeout`; the rest is left to the next reader of the partitions.
    /// Returns whether everything was.
    pub fn drain(&mut self, kafka: &dyn Commit, timeout: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        self.flush_all();
        if !self.finish_writes(deadline)? {
            return Ok(false);
        }
        self.begin_commit();
        if !self.finish_writes(deadline)? {
            return Ok(false);
        }
        let offsets = self.commits.take_recorded().unwrap_or_default();
        self.commit(&offsets, kafka, true);
        Ok(self.tracker().committable().is_empty())
    }

    fn finish_writes(&mut self, deadline: Instant) -> Result<bool, Failure> {
        while self.budget.writes() > 0 {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(false);
            }
            self.collect_completions(remaining.min(Duration::from_millis(100)))?;
        }
        Ok(true)
    }

    pub fn tracker(&mut self) -> &mut Tracker {
        &mut self.commits.tracker
    }
}
