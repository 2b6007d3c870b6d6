//! The loop on the pipeline's own thread: poll, take in, collect completions, commit; and when to stop.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::failure::Failure;
use super::pipeline::Pipeline;
use super::{Ending, POLL_TIMEOUT};
use crate::config::KafkaConfig;
use crate::ingestion::IngestMetrics;
use crate::kafka::consumer::{Change, Consumer, Event, GroupOffsets};
use crate::kafka::{TopicPartition, renewal};
use crate::metrics::Health;
use crate::shutdown::Shutdown;

/// Messages taken in before finished writes are collected again.
const BURST: usize = 64;
/// How long a full pipeline is waited for before fetching is paused. Shorter waits cost nothing; pausing discards what
/// has been fetched ahead.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How often a full pipeline is checked, and Kafka polled while fetching is paused.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How often the state is reported to /healthz and /readyz.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
/// Not ready if nothing has been stored for this long although writes are waiting.
const STALLED: Duration = Duration::from_secs(10);
/// Not alive if nothing has been stored for this long although writes are waiting: a restart may help then.
const STUCK: Duration = Duration::from_secs(600);
/// Not alive if the loop itself hangs for this long; a rebalance may hold it for `ingest.drain_timeout` too.
const HUNG: Duration = Duration::from_secs(60);
/// How often a run with an end checks whether it has reached it.
const END_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct PollLoop {
    pub pipeline: Arc<Mutex<Pipeline>>,
    /// Messages may have to wait for schemas.
    pub needs_lookups: bool,
    pub kafka: KafkaConfig,
    /// Certificates have changed in their files.
    pub renewed: watch::Receiver<u64>,
    /// Of the consumer: each is followed by another after its certificates have changed.
    pub epoch: Arc<AtomicU64>,
    /// What is read.
    pub topics: Vec<String>,
    /// Whether no other topic is ever read.
    pub is_single: bool,
    /// What is to be read, whenever that changes.
    pub changes: mpsc::Receiver<Vec<String>>,
    pub drain_timeout: Duration,
    pub metrics: IngestMetrics,
    pub health: Health,
    pub shutdown: Shutdown,
    pub until_end: Option<UntilEnd>,
    pub reported: Instant,
}

/// Why polling ended.
enum Left {
    Ended(Ending),
    /// Shutdown was requested.
    Asked,
    Renewed,
}

impl PollLoop {
    /// Runs until shutdown, the end of the topic, or a failure that an operator has to fix.
    pub(super) fn run(mut self) -> anyhow::Result<Ending> {
        let mut consumer = self.subscribe()?;
        let left = loop {
            match self.poll_until_end(&consumer) {
                Ok(Left::Renewed) => consumer = self.reopen(consumer)?,
                left => break left,
            }
        };
        self.health.end();
        let offsets = consumer.offsets();
        match left? {
            Left::Ended(ending) => Ok(ending),
            Left::Asked | Left::Renewed => match self.pipeline().drain(&offsets, self.drain_timeout)? {
                true => Ok(Ending::Stopped),
                false => Ok(Ending::StoppedUndrained),
            },
        }
    }

    /// Makes the consumer anew, because it cannot take up other certificates. What is taken in is finished and committed before;
    /// what is not, in time, is read again.
    fn reopen(&mut self, consumer: Consumer) -> anyhow::Result<Consumer> {
        self.renewed.borrow_and_update();
        // If the files are gone again, the old client stays.
        if let Err(error) = renewal::check(&self.kafka) {
            tracing::warn!(%error, "the clients of Kafka cannot be made anew, the old ones stay in use");
            return Ok(consumer);
        }
        tracing::info!("the clients of Kafka are made anew");
        if !self.pipeline().drain(&consumer.offsets(), self.drain_timeout)? {
            tracing::info!("not all that was taken in is stored yet: the rest is read again");
        }
        // Leaving the group gives the partitions up, unless its coordinator does not answer.
        drop(consumer);
        {
            let mut pipeline = self.pipeline();
            self.epoch.fetch_add(1, Ordering::Relaxed);
            let left: Vec<_> = pipeline.tracker().partitions().collect();
            pipeline.forget(left);
        }
        self.metrics.assigned_partitions.set(0);
        self.subscribe()
    }

    /// Whether certificates have changed, so that the clients have to be made anew.
    fn is_renewed(&self) -> bool {
        self.renewed.has_changed().unwrap_or(false)
    }

    fn subscribe(&self) -> anyhow::Result<Consumer> {
        let (pipeline, metrics, drain_timeout) =
            (self.pipeline.clone(), self.metrics.clone(), self.drain_timeout);
        let (epoch, own_epoch) = (self.epoch.clone(), self.epoch.load(Ordering::Relaxed));
        let on_change = move |change: Change, kafka: &GroupOffsets<'_>| {
            let mut pipeline = lock(&pipeline);
            // A client that takes long to close gives up what its successor has by now.
            if epoch.load(Ordering::Relaxed) != own_epoch {
                return;
            }
            metrics.rebalances.inc();
            match change {
                Change::Assigned(partitions) => {
                    tracing::info!(partitions = listed(&partitions), "assigned");
                    pipeline.assign(&partitions, kafka);
                    metrics.assigned_partitions.add(partitions.len() as i64);
                }
                Change::Revoked(partitions) => {
                    tracing::info!(partitions = listed(&partitions), "revoked");
                    // The pipeline keeps a failure; it ends the run with the next look at completions.
                    let _ = pipeline.drain(kafka, drain_timeout);
                    metrics.assigned_partitions.sub(partitions.len() as i64);
                    for TopicPartition { topic, partition } in &partitions {
                        let labels = [topic.as_str(), &partition.to_string()];
                        let _ = metrics.lag_messages.remove_label_values(&labels);
                    }
                    pipeline.forget(partitions);
                }
            }
        };
        Ok(Consumer::subscribe(&self.kafka, &self.topics, self.is_single, on_change)?)
    }

    fn poll_until_end(&mut self, consumer: &Consumer) -> anyhow::Result<Left> {
        let (mut lag_due, mut end_due) = (Instant::now(), Instant::now());
        while !self.shutdown.is_requested() {
            if self.is_renewed() {
                return Ok(Left::Renewed);
            }
            self.report_health(consumer);
            self.advance(consumer, Duration::ZERO)?;
            self.stop_if_tripped(consumer)?;
            if self.pipeline().is_full() {
                self.wait_for_room(consumer)?;
                continue;
            }
            self.poll_once(consumer)?;
            self.pause_those_ahead(consumer)?;
            self.note_ends(consumer);
            if let Some(topics) = self.changes.try_iter().last() {
                consumer.resubscribe(&topics)?;
                self.topics = topics;
            }
            if lag_due <= Instant::now() {
                lag_due = Instant::now() + LAG_INTERVAL;
                self.measure_lag(consumer);
            }
            if self.until_end.is_some() && end_due <= Instant::now() {
                end_due = Instant::now() + END_INTERVAL;
                if self.has_reached_end(consumer) {
                    self.pipeline().judge_silence(true);
                    let is_drained = self.pipeline().drain(&consumer.offsets(), self.drain_timeout)?;
                    self.stop_if_tripped(consumer)?;
                    anyhow::ensure!(is_drained, "the last offsets could not be committed (run it again)");
                    return Ok(Left::Ended(Ending::ReachedEnd));
                }
            }
        }
        Ok(Left::Asked)
    }

    /// Advances batches and commits; waits up to `timeout` for a write to finish.
    fn advance(&self, consumer: &Consumer, timeout: Duration) -> anyhow::Result<()> {
        let mut pipeline = self.pipeline();
        pipeline.collect_completions(timeout)?;
        pipeline.take_in_held();
        pipeline.take_in_ordered();
        pipeline.judge_silence(false);
        pipeline.flush_due();
        let results = consumer.take_commit_results();
        self.metrics.commits.inc_by(results.confirmed);
        if results.failed > 0 {
            self.metrics.commit_failures.inc_by(results.failed);
            pipeline.tracker().commit_failed();
        }
        pipeline.advance_commit(&consumer.offsets())?;
        pipeline.advance_snapshots();
        Ok(())
    }

    /// Ends the run when too many messages were rejected. What was finished before the first of them is committed, so that
    /// the next run does not repeat it.
    fn stop_if_tripped(&self, consumer: &Consumer) -> anyhow::Result<()> {
        let mut pipeline = self.pipeline();
        let Some(tripped) = pipeline.tripped().cloned() else { return Ok(()) };
        pipeline.drain(&consumer.offsets(), self.drain_timeout)?;
        Err(Failure::from(tripped).into())
    }

    /// Takes in up to [`BURST`] messages, waiting for the first only. The pipeline is not locked while Kafka is polled:
    /// the poll may report a rebalance, which locks it.
    fn poll_once(&mut self, consumer: &Consumer) -> anyhow::Result<()> {
        let mut wait = POLL_TIMEOUT;
        for _ in 0..BURST {
            match consumer.poll(wait)? {
                Some(event) => self.take(event),
                None => {
                    self.pipeline().note_quiet();
                    return Ok(());
                }
            }
            if self.needs_lookups && self.pipeline().is_waiting_for_lookup() {
                return Ok(());
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Message(message) => self.pipeline().accept(&message),
            Event::EndOfPartition(partition) => {
                self.pipeline().reached_end(partition);
                if let Some(until_end) = &mut self.until_end {
                    until_end.delivered.insert(partition);
                }
            }
        }
    }

    /// With several topics, where they end is known apart from their messages.
    fn note_ends(&mut self, consumer: &Consumer) {
        if self.is_single {
            return;
        }
        let mut pipeline = lock(&self.pipeline);
        for (partition, end) in consumer.take_ends() {
            pipeline.reached_end_at(partition, end);
        }
        let reached = pipeline.take_reached();
        if let Some(until_end) = &mut self.until_end {
            until_end.delivered.extend(reached);
        }
    }

    /// Stops fetching partitions that are far ahead of others which they wait for.
    fn pause_those_ahead(&self, consumer: &Consumer) -> anyhow::Result<()> {
        let (pause, resume) = self.pipeline().pauses();
        if !pause.is_empty() {
            consumer.pause_partitions(&pause)?;
        }
        if !resume.is_empty() {
            consumer.resume_partitions(&resume)?;
        }
        Ok(())
    }

    /// Waits until something of what is in flight is stored, staying a member of the group meanwhile.
    fn wait_for_room(&mut self, consumer: &Consumer) -> anyhow::Result<()> {
        let since = Instant::now();
        let mut is_paused = false;
        while !self.shutdown.is_requested() && !self.is_renewed() {
            self.report_health(consumer);
            self.advance(consumer, ROOM_INTERVAL)?;
            if !self.pipeline().is_full() {
                break;
            }
            if !is_paused && since.elapsed() > PAUSE_AFTER {
                match self.pipeline().is_waiting_for_lookup() {
                    true => tracing::info!("fetching is paused until the messages can be read"),
                    false => tracing::info!("Cassandra is slower than Kafka: fetching is paused"),
                }
                consumer.pause()?;
                is_paused = true;
                self.metrics.paused.set(1);
            }
            if is_paused && let Some(event) = consumer.poll(Duration::ZERO)? {
                // Of a partition that was assigned after the pause, or fetched before it.
                self.take(event);
            }
        }
        if is_paused {
            consumer.resume()?;
            self.metrics.paused.set(0);
        }
        self.pipeline().note_room(is_paused);
        Ok(())
    }

    /// Ready means: a member of the consumer group, assigned partitions or not, and what is taken is stored.
    fn report_health(&mut self, consumer: &Consumer) {
        if self.reported.elapsed() < HEALTH_INTERVAL {
            return;
        }
        self.reported = Instant::now();
        let stalled = self.pipeline().stalled_for();
        let reason = |limit| {
            let stalled = stalled.filter(|stalled| *stalled > limit)?;
            let seconds = stalled.as_secs();
            Some(format!("nothing has been stored for {seconds} s although writes are waiting (see the log)"))
        };
        let not_ready = self.pipeline().lookup_problem().or_else(|| reason(STALLED)).or_else(|| {
            let group = &self.kafka.group;
            (!consumer.is_member()).then(|| format!("not a member of the consumer group {group:?} yet"))
        });
        self.health.report(not_ready, reason(STUCK), HUNG + self.drain_timeout);
    }

    fn measure_lag(&self, consumer: &Consumer) {
        let ends = consumer.end_offsets();
        let now = chrono::Utc::now().timestamp_millis();
        let mut oldest: Option<f64> = None;
        let mut pipeline = self.pipeline();
        let tracker = pipeline.tracker();
        for partition in tracker.partitions() {
            let position = tracker.position(partition);
            let behind = match (position, ends.get(&partition)) {
                // What is left of a partition whose end was reached are transaction markers.
                _ if tracker.is_at_end(partition) && tracker.has_finished(partition) => 0,
                (Some((offset, _)), Some(end)) => (end - offset).max(0),
                _ => continue,
            };
            let labels = [partition.topic.as_str(), &partition.partition.to_string()];
            self.metrics.lag_messages.with_label_values(&labels).set(behind);
            let seconds = match position {
                Some((_, Some(timestamp))) if behind > 0 => (now - timestamp) as f64 / 1000.0,
                _ => 0.0,
            };
            oldest = Some(oldest.unwrap_or(0.0).max(seconds));
        }
        self.metrics.set_lag_seconds(oldest);
    }

    fn has_reached_end(&mut self, consumer: &Consumer) -> bool {
        let mut pipeline = lock(&self.pipeline);
        let Some(until_end) = &mut self.until_end else { return false };
        if until_end.ends.keys().any(|&partition| pipeline.holds(partition)) {
            return false;
        }
        let tracker = pipeline.tracker();
        let ours: HashSet<TopicPartition> = tracker.partitions().collect();
        let mut elsewhere = Vec::new();
        for (&partition, &end) in &until_end.ends {
            let is_stored = tracker.committed_offset(partition).is_some_and(|offset| offset >= end);
            let is_delivered = until_end.delivered.contains(&partition);
            match ours.contains(&partition) {
                _ if is_stored => {}
                true if is_delivered && tracker.is_finished(partition) => {}
                true => return false,
                false => elsewhere.push(partition),
            }
        }
        drop(pipeline);
        if elsewhere.is_empty() {
            return true;
        }
        // Partitions of other members, not assigned yet, or with nothing left to read. The coordinator may be moving: the
        // question is repeated at the next interval.
        let committed: HashMap<TopicPartition, i64> = match consumer.offsets().committed(&elsewhere) {
            Ok(committed) => committed.into_iter().map(|found| (found.of, found.offset)).collect(),
            Err(error) => {
                tracing::info!(%error, "cannot read the committed offsets of the consumer group, retrying");
                return false;
            }
        };
        // A partition that was delivered to its end and has never been committed holds nothing but markers.
        let UntilEnd { ends, delivered } = until_end;
        ends.retain(|partition, end| match committed.get(partition) {
            Some(offset) => offset < end,
            None => !delivered.contains(partition),
        });
        false
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        lock(&self.pipeline)
    }
}

fn lock(pipeline: &Mutex<Pipeline>) -> MutexGuard<'_, Pipeline> {
    pipeline.lock().unwrap_or_else(PoisonError::into_inner)
}

/// "readings/0, readings/1".
fn listed(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What has to be stored before a run with an end is over.
#[derive(Debug, Default)]
pub(super) struct UntilEnd {
    /// Partition -> end offset as of the start, of those that are not known to be done.
    ends: HashMap<TopicPartition, i64>,
    /// Partitions of which everything has been delivered to us.
    delivered: HashSet<TopicPartition>,
}

impl UntilEnd {
    /// Adds a topic. By partition number: (first kept, end) offsets, the offsets after the last messages, and what the group has committed.
    /// Partitions without a message are done, unless messages were deleted before the group read them: that has to be noticed
    /// and noted.
    pub(super) fn add(
        &mut self,
        topic: &str,
        watermarks: &[(i64, i64)],
        last: &[i64],
        committed: &[Option<i64>],
    ) {
        for ((partition, (first, _)), (last, committed)) in
            (0..).zip(watermarks).zip(last.iter().zip(committed))
        {
            if first < last || committed.is_some_and(|committed| committed < *first) {
                self.ends.insert(TopicPartition::new(topic, partition), *last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_an_end_waits_for_messages_and_for_those_that_were_deleted_unread() {
        let mut until_end = UntilEnd::default();
        until_end.add(
            "readings",
            // Messages; only markers; empty; all deleted and read; all deleted unread; all deleted, never committed.
            &[(0, 9), (3, 5), (0, 0), (7, 7), (7, 7), (7, 7)],
            &[8, 3, 0, 7, 7, 7],
            &[None, Some(3), None, Some(7), Some(2), None],
        );
        assert_eq!(
            until_end.ends,
            HashMap::from(
                [(TopicPartition::new("readings", 0), 8), (TopicPartition::new("readings", 4), 7),]
            )
        );
    }
}
