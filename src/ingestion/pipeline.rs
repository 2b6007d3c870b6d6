//! The near end of the pipeline, on one thread: messages are decoded, judged and batched; full and due batches go to
//! the writer; finished writes advance the tracker; and at intervals what is finished is committed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::batcher::{Batcher, FullBatch};
use super::breaker::{Breaker, Held, Tripped};
use super::budget::Budget;
use super::commits::Commits;
use super::failure::Failure;
use super::lookups::LookupWait;
use super::losses::{Losses, Lost};
use super::order::{Next, Order};
use super::rewind::{self, Reader, Rewind};
use super::silence::SilenceClock;
use super::snapshots::{Again, Offsets, Snapshots};
use super::tracker::{Ticket, Tracker};
use super::writer::{Completion, Writer};
use crate::alerting::topic::AlertProducer;
use crate::alerting::{Alert, Detector, Rules};
use crate::config::{Config, OnLostMessages};
use crate::ingestion::IngestMetrics;
use crate::kafka::TopicPartition;
use crate::kafka::consumer::GroupOffsets;
use crate::kafka::dead_letters::DeadLetter;
use crate::kafka::message::Message;
use crate::mapping::{Mapped, Mapping, Missing};
use crate::reading::decode::{self, DecodeLimits, Decoded};
use crate::reading::{Reading, Rejection};
use crate::shutdown::Shutdown;

/// How long the last snapshot may take when partitions are revoked or the process stops.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Pipeline {
    limits: DecodeLimits,
    /// Without one, messages are in the built-in format.
    mapping: Option<Mapping>,
    /// With a mapping whose messages need schemas of a registry, or births.
    lookups: Option<LookupWait>,
    /// With rules that compare sensors.
    order: Order<Message<'static>>,
    /// Partitions that were at their end when they were read to an offset where they ended.
    reached: Vec<TopicPartition>,
    batcher: Batcher<Ticket>,
    budget: Budget,
    commits: Commits,
    losses: Losses,
    on_lost_messages: OnLostMessages,
    breaker: Breaker,
    /// Too many messages were rejected: nothing more is taken in.
    tripped: Option<Tripped>,
    /// If there are rules to detect by.
    detection: Option<Detection>,
    rewind: Rewind,
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
    pub silence: SilenceClock,
    /// What is remembered across a restart, if its tables are there.
    pub snapshots: Option<Snapshots>,
    /// Alerts about no message that are not acknowledged yet.
    pub unsettled: usize,
    /// Rules that take the place of the ones before.
    pub changes: Receiver<Rules>,
}

impl Pipeline {
    pub(super) fn new(
        config: &Config,
        mapping: Option<Mapping>,
        lookups: Option<LookupWait>,
        detection: Option<Detection>,
        writer: Writer,
        completions: Receiver<Completion>,
        shutdown: &Shutdown,
    ) -> Self {
        let ingest = &config.ingest;
        let storage = &writer.storage;
        Self {
            limits: DecodeLimits {
                max_message_bytes: usize::try_from(ingest.max_message_bytes.as_u64()).unwrap_or(usize::MAX),
                max_future_skew: ingest.max_future_skew,
                is_any_time: false,
            },
            mapping,
            lookups,
            order: Order::default(),
            reached: Vec::new(),
            batcher: Batcher::new(config, storage.statements.clone(), storage.session.write_consistency()),
            budget: Budget::new(ingest),
            commits: Commits::new(ingest.commit_interval),
            losses: Losses::default(),
            on_lost_messages: ingest.on_lost_messages,
            breaker: Breaker::new(ingest.max_dead_letter_percent),
            tripped: None,
            detection,
            rewind: Rewind::new(&config.kafka, &writer.runtime, shutdown),
            metrics: writer.metrics.clone(),
            writer,
            completions,
            failure: None,
        }
    }

    /// Takes a message in when it is its turn.
    pub(super) fn accept(&mut self, message: &Message<'_>) {
        if !self.is_ordered() {
            return self.accept_next(message);
        }
        let (partition, at) = (message.topic_partition(), message.timestamp());
        if self.order.passes(partition, at) {
            self.accept_next(message);
        } else {
            self.tracker().more_came(partition);
            self.order.hold(partition, at, message.bytes(), message.to_owned());
        }
        self.take_in_ordered();
    }

    /// Whether messages of several partitions are taken in by their timestamps.
    fn is_ordered(&self) -> bool {
        self.compares_sensors() || self.order.is_holding()
    }

    fn compares_sensors(&self) -> bool {
        self.detection.as_ref().is_some_and(|detection| detection.detector.compares_sensors())
    }

    /// Takes in what is held for its turn, as far as that has come and there is room.
    pub(super) fn take_in_ordered(&mut self) {
        let at_once = !self.compares_sensors();
        while !self.is_full() {
            match self.order.next(at_once) {
                Some(Next::Message(message)) => self.accept_next(&message),
                Some(Next::End(partition, None)) => self.note_end(partition),
                Some(Next::End(partition, Some(end))) => {
                    match self.tracker().reached_end_at(partition, end) {
                        true => self.reached.push(partition),
                        false => self.order.expect(partition),
                    }
                }
                None => return,
            }
        }
    }

    /// Whether something of the partition waits for its turn.
    pub(super) fn holds(&self, partition: TopicPartition) -> bool {
        self.order.holds(partition)
    }

    /// Kafka had nothing to give.
    pub(super) fn note_quiet(&mut self) {
        if self.is_ordered() {
            self.order.note_quiet(Instant::now());
        }
    }

    /// Kafka is asked again after a while; `is_resumed` if all partitions were resumed.
    pub(super) fn note_room(&mut self, is_resumed: bool) {
        self.order.note_busy();
        if is_resumed {
            self.order.note_resumed();
        }
    }

    /// Partitions to pause because they are far ahead of others, and those to resume.
    pub(super) fn pauses(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        self.order.pauses()
    }

    /// Takes a message in, or holds it until it can be read.
    fn accept_next(&mut self, message: &Message<'_>) {
        if let (Some(wait), Some(mapping)) = (&mut self.lookups, &self.mapping) {
            if !wait.is_holding()
                && let Some(missing) = missing(mapping, message)
            {
                wait.fetch(missing);
                wait.hold(message.to_owned());
                self.budget.add_bytes(message.bytes());
                return;
            }
            if wait.is_holding() {
                wait.hold(message.to_owned());
                self.budget.add_bytes(message.bytes());
                return;
            }
        }
        self.take_in(message);
    }

    /// Takes in what was held, as far as it can be read now.
    pub(super) fn take_in_held(&mut self) {
        while let (Some(wait), Some(mapping)) = (&mut self.lookups, &self.mapping) {
            let Some(first) = wait.first() else { return };
            if let Some(missing) = missing(mapping, first) {
                return wait.fetch(missing);
            }
            let Some(message) = wait.release_first() else { return };
            self.budget.remove_bytes(message.bytes());
            self.take_in(&message);
        }
    }

    /// Whether messages are held until they can be read.
    pub(super) fn is_waiting_for_lookup(&self) -> bool {
        self.lookups.as_ref().is_some_and(LookupWait::is_holding)
    }

    /// Why messages are held, if a server could not be asked.
    pub(super) fn lookup_problem(&self) -> Option<String> {
        self.lookups.as_ref().and_then(LookupWait::problem)
    }

    /// It is finished when all of its rows are stored, it sits in the dead-letter topic (also for a
    /// part of it), it is a tombstone, it holds no value, or the mapping skips it.
    fn take_in(&mut self, message: &Message<'_>) {
        if self.tripped.is_some() {
            return;
        }
        self.metrics.messages.inc();
        let ticket = self.tracker().begin(message.topic_partition(), message.offset(), message.timestamp());
        let Some(payload) = message.payload_or_null() else {
            self.metrics.tombstones.inc();
            self.tracker().finish(ticket);
            return;
        };
        self.metrics.bytes.inc_by(payload.len() as u64);
        let now = chrono::Utc::now().timestamp_millis();
        let Some(mapping) = &self.mapping else {
            return match decode::decode(payload, &self.limits, now) {
                Ok(decoded) => {
                    let counted = self.breaker.accepted();
                    self.release(counted);
                    if decoded.reading.is_empty() {
                        self.metrics.empty_readings.inc();
                        self.tracker().finish(ticket);
                        return;
                    }
                    self.take(&decoded, message.topic_partition(), ticket);
                }
                Err(rejection) => self.reject(message, payload, ticket, &rejection),
            };
        };
        match mapping.read(&message.record(payload), &self.limits, now) {
            Ok(mapped) => self.accept_mapped(message, payload, ticket, &mapped),
            Err(rejection) => self.reject(message, payload, ticket, &rejection),
        }
    }

    /// A message with any number of readings, and of parts that are none.
    fn accept_mapped(&mut self, message: &Message<'_>, payload: &[u8], ticket: Ticket, mapped: &Mapped<'_>) {
        let parts = mapped.readings.len() + usize::from(!mapped.faults.is_empty());
        for _ in 1..parts {
            self.commits.tracker.hold(ticket);
        }
        self.metrics.empty_readings.inc_by(mapped.empty.len() as u64);
        if parts == 0 {
            self.metrics.skipped.inc_by(mapped.empty.is_empty().into());
            self.tracker().finish(ticket);
        }
        for decoded in &mapped.readings {
            self.take(decoded, message.topic_partition(), ticket);
        }
        match mapped.faults.first() {
            Some(fault) => self.reject(message, payload, ticket, fault),
            None => {
                let counted = self.breaker.accepted();
                self.release(counted);
            }
        }
    }

    fn take(&mut self, decoded: &Decoded<'_>, partition: TopicPartition, ticket: Ticket) {
        self.metrics.note_ignored(&decoded.left_out);
        self.detect(&decoded.reading, partition, ticket);
        let (bytes, full) = self.batcher.push(&decoded.reading, ticket);
        self.budget.add_bytes(bytes);
        if let Some(batch) = full {
            self.store(batch);
        }
    }

    /// The message is finished only when the alerts about it are acknowledged too.
    fn detect(&mut self, reading: &Reading<'_>, partition: TopicPartition, ticket: Ticket) {
        let Some(Detection { detector, alerts, .. }) = &mut self.detection else { return };
        detector.observe(partition, reading, |alert| {
            self.commits.tracker.hold(ticket);
            send_alert(&mut self.budget, &self.writer, alerts, alert, Some(ticket));
        });
    }

    /// Everything that the partition held has come.
    pub(super) fn reached_end(&mut self, partition: TopicPartition) {
        if !self.is_ordered() {
            return self.note_end(partition);
        }
        self.order.hold_end(partition, None);
        self.take_in_ordered();
    }

    /// Everything before `end` has come, and `end` was where the partition ended.
    pub(super) fn reached_end_at(&mut self, partition: TopicPartition, end: i64) {
        if self.is_ordered() {
            self.order.hold_end(partition, Some(end));
            self.take_in_ordered();
        } else if self.tracker().reached_end_at(partition, end) {
            self.reached.push(partition);
        }
    }

    /// The partitions whose end was reached by [`Self::reached_end_at`] since the last call.
    pub(super) fn take_reached(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.reached)
    }

    fn note_end(&mut self, partition: TopicPartition) {
        self.tracker().reached_end(partition);
        if let Some(Detection { silence, .. }) = &mut self.detection {
            silence.reached_end(partition, crate::time::now());
        }
    }

    /// Judges silence by the clock when it is time, or `at_once`. Its alerts are about no message: one that is not sent
    /// before the process ends is sent by the next, with the same id.
    pub(super) fn judge_silence(&mut self, at_once: bool) {
        if self.is_waiting_for_lookup() || self.tripped.is_some() {
            return;
        }
        let Some(Detection { detector, alerts, silence, changes, unsettled, .. }) = &mut self.detection
        else {
            return;
        };
        let mut send = |alert| {
            *unsettled += 1;
            send_alert(&mut self.budget, &self.writer, alerts, alert, None);
        };
        if let Some(rules) = changes.try_iter().last() {
            detector.replace(rules, &mut send);
        }
        if !detector.judges_silence() || (!silence.is_due() && !at_once) {
            return;
        }
        let now = crate::time::now();
        if let Some(known) = silence.take_answer() {
            detector.learn(known);
        }
        let known = silence.known_until(&self.commits.tracker, now);
        if known.all.is_some() && (detector.has_unseen() || !silence.has_answer()) {
            silence.ask(now);
        }
        detector.judge_silence(|partition| known.until(partition), send);
    }

    fn reject(&mut self, message: &Message<'_>, payload: &[u8], ticket: Ticket, rejection: &Rejection) {
        tracing::debug!(partition = %message.topic_partition(), offset = message.offset(), %rejection, "a dead letter");
        let letter = DeadLetter {
            key: message.key().map(<[u8]>::to_vec),
            payload: payload.to_vec(),
            headers: message.headers(),
            reason: rejection.reason(),
            error: rejection.to_string(),
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
        };
        self.budget.add_bytes(letter.bytes());
        let counted = self.breaker.rejected(Held { letter, ticket }, Instant::now());
        self.release(counted);
    }

    /// Sends the rejected messages that were held back, once they are judged.
    fn release(&mut self, counted: Result<bool, Tripped>) {
        match counted {
            Ok(false) => {}
            Ok(true) => self.send_dead_letters(),
            Err(tripped) => {
                // They stay unfinished, so no commit passes the first of them.
                let held: usize = self.breaker.take_held().iter().map(|held| held.letter.bytes()).sum();
                self.budget.remove_bytes(held);
                self.tripped = Some(tripped);
            }
        }
    }

    fn send_dead_letters(&mut self) {
        for Held { letter, ticket } in self.breaker.take_held() {
            self.budget.begin_write();
            let bytes = letter.bytes();
            self.writer.send_dead_letter(letter, ticket, bytes);
        }
    }

    fn store(&mut self, batch: FullBatch<Ticket>) {
        self.budget.begin_write();
        self.writer.store(batch);
    }

    /// Why nothing more is taken in, if too many messages were rejected.
    pub(super) fn tripped(&self) -> Option<&Tripped> {
        self.tripped.as_ref()
    }

    /// Takes the next step of keeping what the rules remember.
    pub(super) fn advance_snapshots(&mut self) {
        let Some(Detection { detector, snapshots: Some(snapshots), unsettled, .. }) = &mut self.detection
        else {
            return;
        };
        snapshots.advance(detector, &self.commits.tracker, *unsettled == 0);
    }

    /// Partitions are ours from now on.
    pub(super) fn assign(&mut self, partitions: &[TopicPartition], kafka: &GroupOffsets<'_>) {
        self.tracker().assign(partitions);
        self.order.assign(partitions);
        self.losses.assign(partitions);
        // Births that others have read meanwhile are in these partitions.
        if let Some(mapping) = self.mapping.as_ref().filter(|mapping| mapping.needs_births()) {
            mapping.births().forget();
        }
        if self.detection.as_ref().is_some_and(|detection| detection.snapshots.is_some()) {
            match self.rewind.offsets(partitions, kafka) {
                Ok(offsets) => self.restore(&offsets),
                Err(error) => {
                    tracing::warn!(%error, "cannot find out where the partitions begin: the rules begin anew");
                }
            }
        }
    }

    /// Goes on from what the rules remember of the partitions.
    fn restore(&mut self, offsets: &[(TopicPartition, Offsets)]) {
        let Some(Detection { detector, alerts, snapshots: Some(snapshots), unsettled, .. }) =
            &mut self.detection
        else {
            return;
        };
        let until = Instant::now() + rewind::DEADLINE;
        let mut again: Vec<Again> = Vec::new();
        for (of, offsets) in offsets {
            again.extend(snapshots.restore(detector, *of, *offsets, until, |alert| {
                *unsettled += 1;
                send_alert(&mut self.budget, &self.writer, alerts, alert, None);
            }));
        }
        // Those that are late were counted when they came first.
        self.metrics.late_values.inc_by(detector.take_late());
        let reader =
            Reader { limits: &self.limits, mapping: self.mapping.as_ref(), lookups: self.lookups.as_ref() };
        // Sensors that are compared with those of other partitions need these at the same time.
        let together: Vec<&[Again]> = match detector.compares_sensors() {
            true => again.chunk_by(|one, next| one.of.topic == next.of.topic).collect(),
            false => again.chunks(1).collect(),
        };
        for again in together {
            if let Err(error) = self.rewind.judge(again, &reader, detector, until) {
                let partitions: Vec<_> = again.iter().map(|again| again.of.to_string()).collect();
                let partitions = partitions.join(", ");
                tracing::warn!(
                    partitions,
                    "cannot judge all messages since the last snapshot again: {error:#}"
                );
            }
        }
        detector.take_late();
    }

    /// How long writes have been waiting without one of them being stored; `None` if none is waiting.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        self.budget.stalled_for()
    }

    /// Partitions are no longer ours.
    pub(super) fn forget(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            self.tracker().forget([partition]);
            self.order.forget(partition);
            self.losses.forget(partition);
            if let Some(wait) = &mut self.lookups {
                self.budget.remove_bytes(wait.forget(partition));
            }
            if let Some(Detection { detector, silence, snapshots, .. }) = &mut self.detection {
                detector.forget(partition);
                silence.forget(partition);
                snapshots.iter_mut().for_each(|snapshots| snapshots.forget(partition));
            }
        }
    }

    /// Whether taking in more would exceed what may be in flight.
    pub(super) fn is_full(&self) -> bool {
        self.budget.is_full() || self.batcher.is_full() || self.is_waiting_for_lookup()
    }

    /// Takes note of the writes that finished since the last call; waits up to `timeout` for the first.
    pub(super) fn collect_completions(&mut self, timeout: Duration) -> Result<(), Failure> {
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
                match (ticket, &mut self.detection) {
                    (Some(ticket), _) => self.commits.tracker.finish(ticket),
                    (None, Some(detection)) => detection.unsettled = detection.unsettled.saturating_sub(1),
                    (None, None) => {}
                }
                self.budget.end_write(bytes);
            }
            Completion::Recorded => {
                self.budget.end_write(0);
                self.commits.recorded();
            }
            Completion::Failed(failure) => self.failure = Some(failure),
        }
    }

    /// Stores the batches and sends the dead letters that have waited long enough.
    pub(super) fn flush_due(&mut self) {
        let now = Instant::now();
        // Nothing ends the window of a message while no further message can be taken in.
        if self.breaker.is_due(now) || self.is_full() {
            self.send_dead_letters();
        }
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
    pub(super) fn advance_commit(&mut self, kafka: &GroupOffsets<'_>) -> Result<(), Failure> {
        if let Some(offsets) = self.commits.take_recorded() {
            self.commit(&offsets, kafka, false);
        } else if self.commits.is_due(self.batcher.records_are_due()) {
            match self.check_losses(kafka)? {
                true => self.begin_commit(),
                false => self.commits.postpone(),
            }
        }
        Ok(())
    }

    /// Looks for messages that were deleted before they were read. Returns whether it is known; nothing is committed
    /// otherwise.
    fn check_losses(&mut self, kafka: &GroupOffsets<'_>) -> Result<bool, Failure> {
        let lost = match self.losses.check(&mut self.commits.tracker, kafka) {
            Ok(lost) => lost,
            Err(error) => {
                tracing::warn!(%error, "cannot check whether messages were deleted unread, retrying before the next commit");
                return Ok(false);
            }
        };
        for Lost { partition, range } in lost {
            self.metrics.messages_lost.inc_by(range.len());
            tracing::warn!(
                topic = partition.topic.as_str(),
                partition = partition.partition,
                from = range.from,
                to = range.to - 1,
                messages = range.len(),
                "messages were deleted before they were read (raise the topic's retention, and keep an ingest running)"
            );
            if self.on_lost_messages == OnLostMessages::Stop {
                let failure = Failure::LostMessages {
                    topic: partition.topic.as_str().to_owned(),
                    partition: partition.partition,
                    from: range.from,
                    to: range.to,
                    messages: range.len(),
                };
                return Err(self.failure.insert(failure).clone());
            }
        }
        Ok(true)
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

    fn commit(&mut self, offsets: &[(TopicPartition, i64)], kafka: &GroupOffsets<'_>, wait: bool) {
        match kafka.commit(&self.losses.beside(offsets), wait) {
            Ok(()) => self.tracker().committed(offsets),
            // They are offered again with the next commit.
            Err(error) => tracing::warn!(%error, "cannot commit offsets, retrying with the next commit"),
        }
    }

    /// Finishes and commits what can be within `timeout`; the rest is left to the next reader of the partitions.
    /// Returns whether everything was.
    pub(super) fn drain(&mut self, kafka: &GroupOffsets<'_>, timeout: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        self.flush_all();
        self.send_dead_letters();
        if !self.finish_writes(deadline)? || !self.check_losses(kafka)? {
            return Ok(false);
        }
        self.begin_commit();
        if !self.finish_writes(deadline)? {
            return Ok(false);
        }
        let offsets = self.commits.take_recorded().unwrap_or_default();
        self.commit(&offsets, kafka, true);
        if let Some(Detection { detector, snapshots: Some(snapshots), unsettled: 0, .. }) =
            &mut self.detection
        {
            let left = deadline.saturating_duration_since(Instant::now());
            snapshots.flush(detector, &self.commits.tracker, left.min(SNAPSHOT_DEADLINE));
        }
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

    pub(super) fn tracker(&mut self) -> &mut Tracker {
        &mut self.commits.tracker
    }
}

/// Sends an alert, which counts as in flight until it is acknowledged.
fn send_alert(
    budget: &mut Budget,
    writer: &Writer,
    alerts: &AlertProducer,
    alert: Alert,
    ticket: Option<Ticket>,
) {
    let bytes = size_of::<Alert>() + alert.message.len();
    budget.add_bytes(bytes);
    budget.begin_write();
    writer.send_alert(alerts, alert, ticket, bytes);
}

/// What has to be known before a message can be read.
fn missing(mapping: &Mapping, message: &Message<'_>) -> Option<Missing> {
    mapping.missing(&message.record(message.payload_or_null()?))
}
