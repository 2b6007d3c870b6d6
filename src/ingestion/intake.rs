//! The near end of the pipeline, on one thread: messages become rows in open batches, full or old batches go to the
//! writer, finished ones advance the tracker, and now and then what is finished is committed.
//!
//! A commit has three steps. First the offsets that are finished are noted; then what the catalog has gathered is
//! written (so that readers find the rows, and the newest readings are there); then the noted offsets go to Kafka.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::breaker::{Breaker, Tripped};
use super::catalog::{Catalog, GroupId};
use super::tracker::{Ticket, Tracker};
use super::writer::{Completion, Writer};
use crate::alerting::topic::AlertProducer;
use crate::alerting::{Alert, Detector};
use crate::cassandra::{Batch, Values};
use crate::config::{IngestConfig, SchemaConfig};
use crate::ingestion::IngestMetrics;
use crate::ingestion::dirty::HourMark;
use crate::kafka::consumer::{Commit, Message};
use crate::kafka::dead_letters::DeadLetter;
use crate::kafka::producer::Position;
use crate::reading::decode::{self, DecodeLimits};
use crate::reading::{Bucket, Rejection};
use crate::store::writes::{self, WriteStatements};
use crate::time::hour_of;

/// Catalog rows that wait before a commit is due, whatever the clock says; twice as many hold the intake back.
const MAX_PENDING_CATALOG: usize = 20_000;

pub(super) struct Intake {
    settings: Settings,
    statements: WriteStatements,
    writer: Writer,
    completions: Receiver<Completion>,
    metrics: IngestMetrics,
    tracker: Tracker,
    breaker: Breaker,
    catalog: Catalog,
    /// Where there are rules to detect by.
    detection: Option<Detection>,
    open: HashMap<(GroupId, Bucket), OpenBatch>,
    /// When each open batch is due, oldest first; entries of batches that filled up before are skipped.
    due: VecDeque<(Instant, (GroupId, Bucket), u64)>,
    next_batch: u64,
    /// Memory for the row being bound.
    bound: Values,
    in_flight_batches: usize,
    in_flight_bytes: usize,
    committing: Option<Committing>,
    last_commit: Instant,
    last_timestamp: i64,
    /// Why the pipeline cannot go on. Kept, because a rebalance that meets it has nobody to tell.
    broken: Option<String>,
}

#[derive(Debug, Clone)]
struct Settings {
    batch_rows: usize,
    batch_bytes: usize,
    linger: Duration,
    max_in_flight_batches: usize,
    max_in_flight_bytes: usize,
    commit_interval: Duration,
    bucket: Duration,
    limits: DecodeLimits,
}

/// What judges readings, and where its alerts go.
pub(super) struct Detection {
    pub detector: Detector,
    pub alerts: AlertProducer,
}

/// Rows of one partition that wait for company.
struct OpenBatch {
    number: u64,
    batch: Batch,
    tickets: Vec<Ticket>,
    oldest: i64,
    /// The hours of its rows, with their marks: one, where buckets are no wider.
    hours: Vec<(i64, Arc<HourMark>)>,
}

/// A commit under way.
struct Committing {
    /// What was finished when it began.
    offsets: Vec<(i32, i64)>,
    /// Whether the catalog rows that were gathered until then are stored.
    is_recorded: bool,
}

/// The pipeline cannot go on; the reason is a whole message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

impl Intake {
    pub fn new(
        ingest: &IngestConfig,
        schema: &SchemaConfig,
        statements: WriteStatements,
        detection: Option<Detection>,
        writer: Writer,
        completions: Receiver<Completion>,
    ) -> Self {
        let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let settings = Settings {
            batch_rows: ingest.batch_rows,
            batch_bytes: bytes(ingest.batch_bytes),
            linger: ingest.linger,
            max_in_flight_batches: ingest.max_in_flight_batches,
            max_in_flight_bytes: bytes(ingest.max_in_flight_bytes),
            commit_interval: ingest.commit_interval,
            bucket: schema.bucket,
            limits: DecodeLimits {
                max_message_bytes: bytes(ingest.max_message_bytes),
                max_future_skew: ingest.max_future_skew,
            },
        };
        let metrics = writer.metrics.clone();
        Self {
            settings,
            statements,
            writer,
            completions,
            metrics,
            tracker: Tracker::default(),
            breaker: Breaker::new(ingest.max_dead_letter_percent),
            catalog: Catalog::default(),
            detection,
            open: HashMap::new(),
            due: VecDeque::new(),
            next_batch: 0,
            bound: Values::new(),
            in_flight_batches: 0,
            in_flight_bytes: 0,
            committing: None,
            last_commit: Instant::now(),
            last_timestamp: 0,
            broken: None,
        }
    }

    /// Takes a message in. It is finished when its row is stored or it sits in the dead-letter topic.
    pub fn accept(&mut self, message: &Message<'_>) {
        let payload = message.payload();
        self.metrics.messages.inc();
        self.metrics.bytes.inc_by(payload.len() as u64);
        let ticket = self.tracker.begin(message.partition(), message.offset(), message.timestamp());
        let now = chrono::Utc::now().timestamp_millis();
        match decode::decode(payload, &self.settings.limits, now) {
            Ok(decoded) => {
                let tripped = self.breaker.accepted();
                self.stop_if(tripped);
                self.metrics.ignored_fields.inc_by(decoded.ignored_fields.into());
                self.detect(&decoded.reading, message.partition(), ticket);
                self.batch(&decoded.reading, ticket);
            }
            Err(rejection) => {
                let position = Position { partition: message.partition(), offset: message.offset() };
                let tripped = self.breaker.rejected(position, &rejection);
                self.stop_if(tripped);
                self.bury(message, ticket, &rejection);
            }
        }
    }

    /// The message is finished only when the alerts about it are acknowledged too.
    fn detect(&mut self, reading: &crate::reading::Reading<'_>, partition: i32, ticket: Ticket) {
        let Some(Detection { detector, alerts }) = &mut self.detection else { return };
        detector.observe(partition, reading, |alert| {
            let bytes = size_of::<Alert>() + alert.message.len();
            self.tracker.hold(ticket);
            self.in_flight_bytes += bytes;
            self.in_flight_batches += 1;
            self.writer.announce(alerts, alert, ticket, bytes);
        });
    }

    /// Partitions are no longer ours.
    pub fn forget(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.tracker.forget([partition]);
            if let Some(Detection { detector, .. }) = &mut self.detection {
                detector.forget(partition);
            }
        }
    }

    fn stop_if(&mut self, tripped: Result<(), Tripped>) {
        if let Err(tripped) = tripped {
            self.broken.get_or_insert(tripped.to_string());
        }
    }

    fn batch(&mut self, reading: &crate::reading::Reading<'_>, ticket: Ticket) {
        let bucket = Bucket::containing(reading.recorded_at, self.settings.bucket);
        let group = self.catalog.group(&reading.location, &reading.device_type);
        writes::bind_reading(&mut self.bound, reading, bucket);
        self.catalog.note_reading(group, reading.sensor, reading.recorded_at, &self.bound);
        let key = (group, bucket);
        let open = match self.open.entry(key) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                self.catalog.note_partition(group, bucket);
                self.next_batch += 1;
                self.due.push_back((Instant::now() + self.settings.linger, key, self.next_batch));
                vacant.insert(OpenBatch {
                    number: self.next_batch,
                    batch: self.statements.readings_batch(&reading.location, &reading.device_type, bucket),
                    tickets: Vec::with_capacity(self.settings.batch_rows),
                    oldest: i64::MAX,
                    hours: Vec::with_capacity(1),
                })
            }
        };
        let before = open.batch.bytes();
        open.batch.push(&self.bound);
        open.tickets.push(ticket);
        open.oldest = open.oldest.min(reading.recorded_at);
        let hour = hour_of(reading.recorded_at);
        if !open.hours.iter().any(|(known, _)| *known == hour) {
            open.hours.push((hour, self.catalog.hour(group, hour)));
        }
        self.in_flight_bytes += open.batch.bytes() - before;
        let is_full =
            open.batch.rows() >= self.settings.batch_rows || open.batch.bytes() >= self.settings.batch_bytes;
        if is_full && let Some(open) = self.open.remove(&key) {
            self.store(open);
        }
    }

    fn bury(&mut self, message: &Message<'_>, ticket: Ticket, rejection: &Rejection) {
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
        self.in_flight_bytes += bytes;
        self.in_flight_batches += 1;
        self.writer.bury(letter, ticket, bytes);
    }

    fn store(&mut self, open: OpenBatch) {
        let bytes = open.batch.bytes();
        let timestamp = self.next_timestamp();
        let sealed = open.batch.seal(self.writer.session.write_consistency(), timestamp);
        self.in_flight_batches += 1;
        let marks = open.hours.into_iter().map(|(_, mark)| mark).collect();
        self.writer.store(sealed, marks, open.tickets, bytes, open.oldest);
    }

    /// Microseconds since the epoch, rising: of two readings with the same key, the later message's cells win.
    fn next_timestamp(&mut self) -> i64 {
        self.last_timestamp = chrono::Utc::now().timestamp_micros().max(self.last_timestamp + 1);
        self.last_timestamp
    }

    /// Whether taking more would exceed what may be in flight.
    pub fn is_full(&self) -> bool {
        self.in_flight_batches >= self.settings.max_in_flight_batches
            || self.in_flight_bytes >= self.settings.max_in_flight_bytes
            || self.catalog.pending_rows() >= 2 * MAX_PENDING_CATALOG
    }

    /// Takes note of what has been written since the last call; waits up to `patience` for the first.
    pub fn settle(&mut self, patience: Duration) -> Result<(), Broken> {
        if !patience.is_zero() && self.broken.is_none() {
            match self.completions.recv_timeout(patience) {
                Ok(completion) => self.settle_one(completion),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        while let Ok(completion) = self.completions.try_recv() {
            self.settle_one(completion);
        }
        if let Some(reason) = &self.broken {
            return Err(Broken(reason.clone()));
        }
        self.metrics.in_flight_bytes.set(self.in_flight_bytes as i64);
        self.metrics.in_flight_batches.set(self.in_flight_batches as i64);
        if let Some(Detection { detector, .. }) = &mut self.detection {
            self.metrics.late_values.inc_by(detector.take_late());
            self.metrics.forgotten_sensors.inc_by(detector.take_forgotten());
        }
        Ok(())
    }

    fn settle_one(&mut self, completion: Completion) {
        match completion {
            Completion::Stored { tickets, bytes } => {
                tickets.into_iter().for_each(|ticket| self.tracker.finish(ticket));
                self.in_flight_batches -= 1;
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
            }
            Completion::Sent { ticket, bytes } => {
                self.tracker.finish(ticket);
                self.in_flight_batches -= 1;
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
            }
            Completion::Recorded => {
                self.in_flight_batches -= 1;
                if let Some(committing) = &mut self.committing {
                    committing.is_recorded = true;
                }
            }
            Completion::Failed(reason) => self.broken = Some(reason),
        }
    }

    /// Sends batches on that have waited long enough.
    pub fn flush_due(&mut self) {
        let now = Instant::now();
        while let Some((due, key, number)) = self.due.front().copied() {
            if due > now {
                return;
            }
            self.due.pop_front();
            if self.open.get(&key).is_some_and(|open| open.number == number)
                && let Some(open) = self.open.remove(&key)
            {
                self.store(open);
            }
        }
    }

    fn flush_all(&mut self) {
        self.due.clear();
        for (_, open) in std::mem::take(&mut self.open) {
            self.store(open);
        }
    }

    /// Begins a commit when one is due, and hands its offsets to Kafka once its catalog rows are stored.
    pub fn advance_commit(&mut self, kafka: &dyn Commit) {
        match &self.committing {
            Some(committing) if committing.is_recorded => {
                let offsets = std::mem::take(&mut self.committing).map(|it| it.offsets).unwrap_or_default();
                self.commit(&offsets, kafka, false);
            }
            Some(_) => {}
            None if self.is_commit_due() => self.begin_commit(),
            None => {}
        }
    }

    fn is_commit_due(&self) -> bool {
        self.last_commit.elapsed() >= self.settings.commit_interval
            || self.catalog.pending_rows() >= MAX_PENDING_CATALOG
            || self.catalog.has_new_partitions()
    }

    fn begin_commit(&mut self) {
        self.last_commit = Instant::now();
        let must_forget = self.catalog.is_full();
        if must_forget {
            // Open batches name their groups by numbers that are about to be forgotten.
            self.flush_all();
        }
        let offsets = self.tracker.committable();
        let timestamp = self.next_timestamp();
        let consistency = self.writer.session.write_consistency();
        let marks = self.catalog.hours_of_new_partitions();
        let batches = self.catalog.take_batches(&self.statements, consistency, timestamp);
        if must_forget {
            self.catalog.forget();
        }
        let is_recorded = batches.is_empty();
        if !is_recorded {
            self.in_flight_batches += 1;
            self.writer.record(batches, marks);
        }
        self.committing = Some(Committing { offsets, is_recorded });
    }

    fn commit(&mut self, offsets: &[(i32, i64)], kafka: &dyn Commit, wait: bool) {
        match kafka.commit(offsets, wait) {
            Ok(()) => self.tracker.committed(offsets),
            // They are offered again with the next commit.
            Err(error) => tracing::warn!(%error, "cannot commit for now"),
        }
    }

    /// Finishes and commits what can be within `patience`; what cannot is left to whoever reads it next. Returns
    /// whether everything was.
    pub fn drain(&mut self, kafka: &dyn Commit, patience: Duration) -> Result<bool, Broken> {
        let deadline = Instant::now() + patience;
        self.flush_all();
        if !self.settle_all(deadline)? {
            return Ok(false);
        }
        self.begin_commit();
        if !self.settle_all(deadline)? {
            return Ok(false);
        }
        let offsets = self.committing.take().map(|committing| committing.offsets).unwrap_or_default();
        self.commit(&offsets, kafka, true);
        Ok(self.tracker.committable().is_empty())
    }

    fn settle_all(&mut self, deadline: Instant) -> Result<bool, Broken> {
        while self.in_flight_batches > 0 {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(false);
            }
            self.settle(remaining.min(Duration::from_millis(100)))?;
        }
        Ok(true)
    }

    pub fn tracker(&mut self) -> &mut Tracker {
        &mut self.tracker
    }
}
