//! What `--detect` remembers, kept for the next process or the partition's next owner.
//!
//! Of each partition, the states of the sensors that have changed are stored over and over (`store::detector_states`), a few MB
//! at a time. A round begins at a position; when all sensors that had changed by then are stored, the states are complete up to
//! it, and that is noted. A state knows the messages up to the moment at which it was taken, and is stored only when those are
//! finished: their rows stored, their alerts acknowledged. So no alert is lost with the process.
//!
//! When a partition is assigned, its states are read, and the messages between the noted position and the committed offset
//! are judged again, without alerts: those were sent. The other messages come again anyway. What a state knows already is not newer
//! than the sensor's newest reading, and is not judged twice. A state that is missing or cannot be read begins anew.
//!
//! Nothing here stops the pipeline: what cannot be stored is tried again, and a restart judges more messages then.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use uuid::Uuid;

use super::tracker::Tracker;
use crate::alerting::{Alert, Detector, RawState, Sealer};
use crate::cassandra::{Error, Session};
use crate::ingestion::IngestMetrics;
use crate::kafka::TopicPartition;
use crate::retry::RetryPolicy;
use crate::shutdown::Shutdown;
use crate::store::detector_states::{self, Series};
use crate::time;

/// States that are stored at once, before they are compressed.
const CHUNK_BYTES: usize = 4 << 20;
/// Time between two chunks: the pipeline has priority.
const CHUNK_EVERY: Duration = Duration::from_millis(250);
/// A round begins before its time after so many messages, so that a restart has not too many to judge again.
const MOST_MESSAGES: i64 = 500_000;
/// How long Cassandra is asked for states before sensors begin anew.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Snapshots {
    session: Session,
    runtime: Handle,
    consumer_group: String,
    interval: Duration,
    metrics: IngestMetrics,
    shutdown: Shutdown,
    partitions: HashMap<TopicPartition, Kept>,
    /// Taken and not stored yet; one at a time.
    chunk: Option<Chunk>,
    is_storing: bool,
    /// No chunk is taken before this.
    not_before: Instant,
    sender: Sender<Stored>,
    stored: Receiver<Stored>,
    /// Whether the last attempt failed, which is said once.
    is_failing: bool,
}

/// A partition that is ours.
#[derive(Debug)]
struct Kept {
    series: Series,
    /// Up to which its states are complete, in Cassandra.
    position: i64,
    /// The latest position of a write, and how often it was written.
    written: (i64, i64),
    round: Option<Round>,
    /// When the next round begins.
    due: Instant,
}

/// The sensors that are still to be stored until the states are complete up to the position.
#[derive(Debug)]
struct Round {
    position: i64,
    left: Vec<Uuid>,
}

struct Chunk {
    series: Series,
    /// The states know the messages below it.
    position: i64,
    rewrite: i64,
    states: Vec<(Uuid, RawState)>,
    /// The states are complete up to this position then.
    completes: Option<i64>,
}

/// A chunk that was stored, or not.
struct Stored {
    series: Series,
    sensors: Vec<Uuid>,
    completes: Option<i64>,
    result: Result<(), Error>,
}

/// The messages of a partition that have to be judged again.
pub(super) struct Again {
    pub of: TopicPartition,
    pub from: i64,
    pub to: i64,
}

/// What Kafka says of a partition that is assigned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets {
    /// What the consumer group has committed.
    pub committed: Option<i64>,
    /// The first and the end offset.
    pub first: i64,
    pub end: i64,
}

impl Snapshots {
    /// `None` where the tables are not there yet.
    ///
    /// # Errors
    /// Cassandra does not say whether they are.
    pub(super) async fn open(
        session: &Session,
        consumer_group: &str,
        interval: Duration,
        metrics: &IngestMetrics,
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, Error> {
        if !detector_states::is_there(session).await? {
            tracing::warn!(
                "what the rules remember is not kept: its tables are missing (run `iotctl schema apply`); windows and episodes \
                 begin anew after a restart"
            );
            return Ok(None);
        }
        let (sender, stored) = mpsc::channel();
        Ok(Some(Self {
            session: session.clone(),
            runtime: Handle::current(),
            consumer_group: consumer_group.to_owned(),
            interval,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            partitions: HashMap::new(),
            chunk: None,
            is_storing: false,
            not_before: Instant::now(),
            sender,
            stored,
            is_failing: false,
        }))
    }

    /// Goes on from what is stored of a partition, or begins anew where Cassandra does not answer before `until`. Returns the messages
    /// that have to be judged again.
    pub(super) fn restore(
        &mut self,
        detector: &mut Detector,
        of: TopicPartition,
        offsets: Offsets,
        until: Instant,
        mut raise: impl FnMut(Alert),
    ) -> Option<Again> {
        let found =
            self.patiently(until, || detector_states::newest(&self.session, &self.consumer_group, of));
        let found = found.flatten().filter(|(_, position)| {
            // Offsets begin at 0 again in a topic that was deleted and created.
            let is_of_this_topic = *position <= offsets.end;
            if !is_of_this_topic {
                tracing::warn!(partition = %of, "what the rules remember is of an earlier topic of this name: beginning anew");
            }
            is_of_this_topic
        });
        let Some((series, position)) = found else {
            self.begin(of, offsets, until);
            return None;
        };
        let states = self.patiently(until, || async {
            let mut states = Vec::new();
            detector_states::each(&self.session, &series, |sensor, state| {
                states.push((sensor, state.to_vec()));
            })
            .await?;
            Ok(states)
        });
        let Some(states) = states else {
            self.begin(of, offsets, until);
            return None;
        };
        let (mut restored, mut refused) = (0_u64, None);
        for (sensor, state) in states {
            match detector.restore(of, sensor, &state, &mut raise) {
                Ok(()) => restored += 1,
                Err(error) => refused = Some((refused.map_or(0, |(count, _)| count) + 1, error)),
            }
        }
        if let Some((sensors, error)) = refused {
            tracing::warn!(partition = %of, sensors, "what the rules remember of some sensors cannot be read: {error}; they begin anew");
        }
        self.metrics.detector_restored.inc_by(restored);
        self.keep(series, position);
        let to = offsets.committed.unwrap_or(offsets.first);
        let from = position.max(offsets.first).min(to);
        if from > position && to > position {
            tracing::warn!(partition = %of, messages = from - position, "Kafka has deleted messages that the rules were to judge again");
        }
        tracing::info!(partition = %of, sensors = restored, judged_again = to - from, "going on from what the rules remember");
        (from < to).then_some(Again { of, from, to })
    }

    /// Nothing is remembered of the partition.
    fn begin(&mut self, of: TopicPartition, offsets: Offsets, until: Instant) {
        let series = Series { consumer_group: self.consumer_group.clone(), of, since: time::now() };
        let position = offsets.committed.unwrap_or(offsets.first).max(offsets.first);
        let begun = self.patiently(until, || detector_states::complete(&self.session, &series, position, 0));
        if begun.is_some() {
            tracing::info!(partition = %of, position, "the rules remember nothing of this partition yet");
        }
        self.keep(series, position);
    }

    fn keep(&mut self, series: Series, position: i64) {
        let due = Instant::now() + self.interval;
        let kept = Kept { position, written: (position, 0), round: None, due, series };
        self.partitions.insert(kept.series.of, kept);
    }

    /// Asks until Cassandra answers, [`PATIENCE`] or the time until `until` is over, or shutdown is requested.
    fn patiently<T, F: Future<Output = Result<T, Error>>>(
        &self,
        until: Instant,
        ask: impl Fn() -> F,
    ) -> Option<T> {
        let left = until.saturating_duration_since(Instant::now());
        let policy = RetryPolicy::WRITES.at_most(left.min(PATIENCE));
        let mut attempts = policy.attempts();
        self.runtime.block_on(async {
            while !self.shutdown.is_requested() {
                let error = match ask().await {
                    Ok(answer) => return Some(answer),
                    Err(error) => error,
                };
                let Some(delay) = attempts.failed(error.is_transient()) else {
                    tracing::warn!(%error, "cannot look up what the rules remember: sensors begin anew");
                    return None;
                };
                tokio::time::sleep(delay).await;
            }
            None
        })
    }

    /// The partition is no longer ours.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        self.partitions.remove(&partition);
        self.chunk.take_if(|chunk| chunk.series.of == partition);
    }

    /// Takes the next step. `is_settled` where no alert of the clock waits for its acknowledgement: it belongs to no message.
    pub(super) fn advance(&mut self, detector: &mut Detector, tracker: &Tracker, is_settled: bool) {
        while let Ok(stored) = self.stored.try_recv() {
            self.is_storing = false;
            self.note(stored, detector);
        }
        let is_ready =
            |chunk: &mut Chunk| is_settled && tracker.has_finished_below(chunk.series.of, chunk.position);
        if let Some(chunk) = self.chunk.take_if(is_ready) {
            self.store(chunk);
        }
        if self.chunk.is_none() && !self.is_storing && Instant::now() >= self.not_before {
            self.not_before = Instant::now() + CHUNK_EVERY.min(self.interval);
            self.chunk = self.next_chunk(detector, tracker);
        }
    }

    fn next_chunk(&mut self, detector: &mut Detector, tracker: &Tracker) -> Option<Chunk> {
        let (now, interval) = (Instant::now(), self.interval);
        for (of, kept) in &mut self.partitions {
            let next = tracker.next_offset(*of).unwrap_or(kept.position);
            if kept.round.is_none() {
                if now < kept.due && next - kept.position < MOST_MESSAGES {
                    continue;
                }
                kept.due = now + interval;
                let left = detector.take_changed(*of);
                if left.is_empty() && next <= kept.position {
                    continue;
                }
                kept.round = Some(Round { position: next, left });
            }
            if let Some(chunk) = kept.chunk(detector, next) {
                return Some(chunk);
            }
        }
        None
    }

    fn store(&mut self, chunk: Chunk) {
        self.is_storing = true;
        let (session, sender) = (self.session.clone(), self.sender.clone());
        self.runtime.spawn(async move {
            let result = chunk.store(&session).await;
            let sensors = chunk.states.iter().map(|(sensor, _)| *sensor).collect();
            // The pipeline may have ended.
            let _ = sender.send(Stored { series: chunk.series, sensors, completes: chunk.completes, result });
        });
    }

    fn note(&mut self, stored: Stored, detector: &mut Detector) {
        let kept = self.partitions.get_mut(&stored.series.of).filter(|kept| kept.series == stored.series);
        match stored.result {
            Ok(()) => {
                self.is_failing = false;
                if let (Some(kept), Some(position)) = (kept, stored.completes) {
                    kept.position = position.max(kept.position);
                    kept.round = None;
                    self.metrics.detector_snapshots.inc();
                }
            }
            Err(error) => {
                self.metrics.detector_snapshot_failures.inc();
                if !self.is_failing {
                    tracing::warn!(%error, "cannot store what the rules remember, retrying; a restart judges more messages again");
                }
                self.is_failing = true;
                let Some(kept) = kept else { return };
                kept.due = Instant::now() + self.interval;
                let left = kept.round.take().map(|round| round.left).unwrap_or_default();
                for sensor in stored.sensors.into_iter().chain(left) {
                    detector.mark_changed(stored.series.of, sensor);
                }
            }
        }
    }

    /// Stores all that has changed, so that the next owner has nothing to judge again; for partitions whose messages are all
    /// finished. Gives up after `timeout`.
    pub(super) fn flush(&mut self, detector: &mut Detector, tracker: &Tracker, timeout: Duration) {
        let deadline = tokio::time::Instant::now() + timeout;
        if self.is_storing {
            let Ok(stored) = self.stored.recv_timeout(timeout) else { return };
            self.is_storing = false;
            self.note(stored, detector);
        }
        if let Some(chunk) = self.chunk.take()
            && let Some(kept) = self.partitions.get_mut(&chunk.series.of)
        {
            kept.give_up(&chunk, detector);
        }
        for (of, kept) in &mut self.partitions {
            if !tracker.has_finished(*of) {
                continue;
            }
            let next = tracker.next_offset(*of).unwrap_or(kept.position);
            let mut left: HashSet<Uuid> = detector.take_changed(*of).into_iter().collect();
            left.extend(kept.round.take().into_iter().flat_map(|round| round.left));
            if left.is_empty() && next <= kept.position {
                continue;
            }
            kept.round = Some(Round { position: next, left: left.into_iter().collect() });
            while let Some(chunk) = kept.chunk(detector, next) {
                let session = &self.session;
                let stored = self
                    .runtime
                    .block_on(async { tokio::time::timeout_at(deadline, chunk.store(session)).await });
                match stored {
                    Ok(Ok(())) if chunk.completes.is_some() => {
                        kept.position = next;
                        kept.round = None;
                        self.metrics.detector_snapshots.inc();
                        break;
                    }
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        kept.give_up(&chunk, detector);
                        self.metrics.detector_snapshot_failures.inc();
                        tracing::warn!(%error, "cannot store what the rules remember: the next ingest judges some messages again");
                        return;
                    }
                    Err(_) => {
                        kept.give_up(&chunk, detector);
                        tracing::info!(
                            "no time to store all that the rules remember: the next ingest judges some messages again"
                        );
                        return;
                    }
                }
            }
        }
    }
}

impl Kept {
    /// Ends the round: what of it is not stored counts as changed again.
    fn give_up(&mut self, chunk: &Chunk, detector: &mut Detector) {
        let left = self.round.take().map(|round| round.left).unwrap_or_default();
        for sensor in chunk.states.iter().map(|(sensor, _)| *sensor).chain(left) {
            detector.mark_changed(self.series.of, sensor);
        }
    }

    /// The next states of the round; `next` is the position up to which they know the messages.
    fn chunk(&mut self, detector: &mut Detector, next: i64) -> Option<Chunk> {
        let of = self.series.of;
        let round = self.round.as_mut()?;
        let (mut states, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES
            && let Some(sensor) = round.left.pop()
        {
            if let Some(state) = detector.state(of, sensor) {
                bytes += state.len();
                states.push((sensor, state));
            }
        }
        let (position, rewrite) = self.written;
        self.written = if next > position { (next, 0) } else { (position, rewrite + 1) };
        Some(Chunk {
            series: self.series.clone(),
            position: self.written.0,
            rewrite: self.written.1,
            states,
            completes: round.left.is_empty().then_some(round.position),
        })
    }
}

impl Chunk {
    async fn store(&self, session: &Session) -> Result<(), Error> {
        let mut states = Vec::with_capacity(self.states.len());
        let mut sealer = Sealer::default();
        for (sensor, state) in &self.states {
            states.push((*sensor, sealer.seal(state)));
            // Rows are more urgent.
            tokio::task::yield_now().await;
        }
        detector_states::store(session, &self.series, self.position, self.rewrite, states).await?;
        match self.completes {
            Some(position) => detector_states::complete(session, &self.series, position, self.rewrite).await,
            None => Ok(()),
        }
    }
}
