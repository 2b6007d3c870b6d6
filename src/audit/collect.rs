//! The evidence of each side, one side after the other, as [`Record`]s.
//!
//! The read order keeps the audit right while others send and ingest. The committed offsets are read first and the rows
//! next, so the row of a committed message must be among them. The topic is read after that, so the message of each row
//! is in it. Of the ledger only the part that existed at the start counts, so the message of each entry is in the topic.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::findings::{Evidence, Findings, Kind};
use super::ledger::{LedgerReader, Line};
use super::names::GroupNames;
use super::progress::{OnProgress, Phase, Progress};
use super::record::{Cells, Record, Side, group_id};
use super::report::{LedgerSide, TopicSide};
use super::sort::{SortError, Sorter};
use super::topics::{AuditedTopic, AuditedTopics, numbered};
use crate::cassandra::{self, Session};
use crate::config::Config;
use crate::error::Interrupted;
use crate::kafka::dead_letters::Stored;
use crate::kafka::message::Message;
use crate::kafka::positions::Positions;
use crate::kafka::producer::Position;
use crate::kafka::reader::{Span, Step, TopicReader};
use crate::mapping::{Mapped, Mapping};
use crate::reading::decode::{self, DecodeLimits};
use crate::reading::{Partition, Rejection};
use crate::registry::Lookup;
use crate::shutdown::Shutdown;
use crate::store::groups;
use crate::store::readings::{self, Names, Slice};
use crate::time::TimeRange;

/// Partitions of the table that are read at once.
const PARTITIONS_AT_ONCE: usize = 8;
/// Names of the ledger that are kept, for examples of what was found.
const MAX_LEDGER_NAMES: usize = 100_000;
/// Records between two checks for a shutdown.
pub(super) const CHECK_INTERVAL: u64 = 4_096;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// What turned the messages into readings; without it, they are in the built-in format.
    pub mapping: Option<Arc<Mapping>>,
    /// Where the mapping gets what messages have to be read by, if they need anything.
    pub lookup: Option<Arc<Lookup>>,
    pub ledger: Option<PathBuf>,
    /// Readings recorded outside this range are left out.
    pub range: TimeRange,
    /// The folder of the scratch file.
    pub work_dir: PathBuf,
    /// Maximum number of examples of each kind in the report.
    pub examples: usize,
}

/// The evidence of all sides so far, and what the phases share.
pub(super) struct Collector {
    pub config: Config,
    pub options: Options,
    pub shutdown: Shutdown,
    pub on_progress: OnProgress,
    pub sorter: Sorter,
    pub findings: Findings,
    pub names: GroupNames,
    pub topics: AuditedTopics,
    pub topic: TopicSide,
    pub ledger: Option<LedgerSide>,
    /// What the ledger calls sensors: of some of them, no row says it.
    pub ledger_names: HashMap<Uuid, Box<str>>,
    /// Rows read.
    pub rows: u64,
    pub time_to_live: Option<Duration>,
    /// When the audit began, in milliseconds since the epoch.
    pub now: i64,
}

/// The part of a ledger that existed when the audit began.
pub(super) struct LedgerFile {
    path: PathBuf,
    bytes: u64,
}

impl LedgerFile {
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let metadata = std::fs::metadata(&path);
        let bytes = metadata.with_context(|| format!("cannot read the ledger {}", path.display()))?.len();
        Ok(Self { path, bytes })
    }
}

/// The positions of messages that are in the dead-letter topic.
pub(super) struct DeadLetters {
    /// Of messages that the topic still holds.
    held: Positions,
    /// Of messages that retention has deleted since. They are few, so they are kept one by one.
    deleted: HashSet<Position>,
}

impl DeadLetters {
    pub(super) fn contains(&self, position: Position) -> bool {
        self.held.contains(position) || self.deleted.contains(&position)
    }
}

/// A message of the built-in format.
fn one_reading<'a>(message: &'a [u8], limits: &DecodeLimits, now: i64) -> Result<Mapped<'a>, Rejection> {
    decode::decode(message, limits, now).map(Mapped::from)
}

impl Collector {
    /// Reads the rows that queries can find: those in the listed groups and buckets.
    pub(super) async fn collect_rows(mut self, session: &Session) -> anyhow::Result<Self> {
        let (sender, mut chunks) = mpsc::channel::<(Partition, Vec<Record>)>(PARTITIONS_AT_ONCE);
        let shutdown = self.shutdown.clone();
        let range = self.options.range;
        let sorting = tokio::task::spawn_blocking(move || {
            while let Some((partition, chunk)) = chunks.blocking_recv() {
                self.names.note(&partition.group.location, &partition.group.device_type);
                self.rows += chunk.len() as u64;
                for record in chunk {
                    self.sorter.push(record)?;
                }
                self.report(Phase::Rows, self.rows, 0);
            }
            Ok::<_, SortError>(self)
        });
        let reading = async move {
            stream::iter(groups::groups(session).await?)
                .map(|group| async move {
                    groups::partitions(session, &Arc::new(group), range.from, range.to).await
                })
                .buffered(PARTITIONS_AT_ONCE)
                .map_ok(|partitions| stream::iter(partitions.into_iter().map(Ok)))
                .try_flatten()
                .try_for_each_concurrent(PARTITIONS_AT_ONCE, |partition| {
                    read_partition(session, partition, range, &sender)
                })
                .await
        };
        tokio::select! {
            read = reading => read?,
            () = shutdown.requested() => return Err(Interrupted.into()),
        }
        Ok(sorting.await.context("the audit stopped unexpectedly")??)
    }

    /// Reads the dead-letter topic. Returns which messages of the topics are in it.
    pub(super) fn collect_dead_letters(&mut self, letters: &[Span]) -> anyhow::Result<DeadLetters> {
        let topic = self.config.kafka.dead_letter_topic();
        let held = Positions::within(&self.topics.spans());
        let mut dead = DeadLetters { held, deleted: HashSet::new() };
        let firsts = self.topics.first_offsets();
        let mut count = 0;
        self.read_topic(&topic, letters, Phase::DeadLetters, |collector, message| {
            if let Stored::Letter(letter) = Stored::read(&message)
                && let Some(index) = collector.topics.index(&letter.topic)
            {
                count += 1;
                let Position { partition, offset } = letter.source;
                let position = Position { partition: numbered(index, partition), offset };
                match firsts.get(&position.partition) {
                    Some(&first) if position.offset < first => {
                        dead.deleted.insert(position);
                    }
                    _ => {
                        dead.held.insert(position);
                    }
                }
            }
            Ok(())
        })?;
        self.topic.dead_letters = count;
        Ok(dead)
    }

    /// Reads the topics. Returns the positions that hold a message.
    pub(super) fn collect_messages(&mut self, dead: &DeadLetters) -> anyhow::Result<Positions> {
        let mut seen = Positions::within(&self.topics.spans());
        for (index, topic) in self.topics.0.clone().into_iter().enumerate() {
            self.collect_topic(index, &topic, dead, &mut seen)?;
        }
        Ok(seen)
    }

    fn collect_topic(
        &mut self,
        index: usize,
        AuditedTopic { name, spans, committed }: &AuditedTopic,
        dead: &DeadLetters,
        seen: &mut Positions,
    ) -> anyhow::Result<()> {
        // Messages that were stored under other limits must still be decoded.
        let limits = DecodeLimits {
            max_message_bytes: usize::MAX,
            max_future_skew: Duration::MAX,
            is_any_time: false,
        };
        let kept_since = self.expired_before();
        let mapping = self.options.mapping.clone();
        let lookup = self.options.lookup.clone();
        self.read_topic(name, spans, Phase::Messages, |collector, message| {
            let place = usize::try_from(message.partition()).unwrap_or(usize::MAX);
            let position =
                Position { partition: numbered(index, message.partition()), offset: message.offset() };
            seen.insert(position);
            collector.topic.messages += 1;
            let committed = committed.get(place).copied().flatten().unwrap_or(0);
            let is_committed = position.offset < committed;
            let is_dead = dead.contains(position);
            collector.topic.not_committed += u64::from(!is_committed);
            collector.topic.dead_lettered += u64::from(is_dead);
            if message.payload_or_null().is_none() {
                collector.topic.tombstones += 1;
                return Ok(());
            }
            let now = collector.now;
            if let (Some(lookup), Some(mapping)) = (&lookup, &mapping) {
                let record = message.record(message.payload());
                lookup.prepare_blocking(mapping, &record, &collector.shutdown)?;
            }
            let mapped = match &mapping {
                Some(mapping) => mapping.read(&message.record(message.payload()), &limits, now),
                None => one_reading(message.payload(), &limits, now),
            };
            let Ok(mapped) = mapped else {
                collector.topic.undecodable += 1;
                if is_committed && !is_dead {
                    let evidence = Evidence {
                        sensor: None,
                        recorded_at: None,
                        group: 0,
                        position: Some(position),
                        index: 0,
                    };
                    collector.findings.note(Kind::NoDeadLetter, evidence);
                }
                return Ok(());
            };
            collector.topic.skipped += u64::from(mapped.is_skipped);
            if is_committed && !is_dead && !mapped.faults.is_empty() {
                let evidence = Evidence {
                    sensor: None,
                    recorded_at: None,
                    group: 0,
                    position: Some(position),
                    index: 0,
                };
                collector.findings.note(Kind::NoDeadLetter, evidence);
            }
            let is_expired = message.timestamp() < kept_since;
            // The readings of a message that is a dead letter for some of its parts are stored.
            let is_due = is_committed && !is_expired && (!is_dead || !mapped.faults.is_empty());
            collector.topic.empty_readings += mapped.empty.len() as u64;
            let stored = mapped.readings.iter().map(|decoded| (&decoded.reading, is_due));
            // Without a value there need not be a row; rows that earlier versions wrote of such messages are explained.
            let empty = mapped.empty.iter().map(|reading| (reading, false));
            for (reading, is_due) in stored.chain(empty) {
                if !collector.options.range.contains(reading.recorded_at) {
                    continue;
                }
                collector.sorter.push(Record {
                    sensor: reading.sensor,
                    recorded_at: reading.recorded_at,
                    side: Side::Message { due: is_due },
                    group: collector.names.note(&reading.location, &reading.device_type),
                    position,
                    cells: Cells::of_message(reading),
                })?;
            }
            Ok(())
        })
    }

    /// Reads the ledger. `seen` are the positions that hold a message.
    pub(super) fn collect_ledger(&mut self, ledger: &LedgerFile, seen: &Positions) -> anyhow::Result<()> {
        let context = || format!("cannot read the ledger {}", ledger.path.display());
        let mut reader = LedgerReader::open(&ledger.path).with_context(context)?;
        let firsts = self.topics.first_offsets();
        // What is simulated goes to the configured topic.
        let topic = self.topics.index(&self.config.kafka.topic).unwrap_or(0);
        let mut side = LedgerSide { path: ledger.path.clone(), ..LedgerSide::default() };
        let (mut lines, mut done) = (0, 0);
        while let Some((line, bytes)) = reader.next_line().with_context(context)? {
            lines += 1;
            done += bytes;
            if done > ledger.bytes {
                break;
            }
            if lines % CHECK_INTERVAL == 0 {
                self.check_stopped()?;
                self.report(Phase::Ledger, done, ledger.bytes);
            }
            let Line::Entry(entry) = line else {
                side.unreadable_lines += 1;
                continue;
            };
            side.entries += 1;
            if let Some(name) = &entry.sensor_name
                && self.ledger_names.len() < MAX_LEDGER_NAMES
            {
                self.ledger_names.entry(entry.sensor).or_insert_with(|| name.as_ref().into());
            }
            let position = Position { partition: numbered(topic, entry.partition), offset: entry.offset };
            let recorded_at = entry.timestamp.timestamp_millis();
            if entry.malformed.is_none() && !entry.empty {
                if self.options.range.contains(recorded_at) {
                    self.sorter.push(Record {
                        sensor: entry.sensor,
                        recorded_at,
                        side: Side::Ledger,
                        group: 0,
                        position,
                        cells: Cells::default(),
                    })?;
                }
                continue;
            }
            side.malformed += u64::from(entry.malformed.is_some());
            // A message that is malformed or without a value has no row; only the message itself can be missing.
            let is_deleted = firsts.get(&position.partition).is_some_and(|&first| position.offset < first);
            if !seen.contains(position) && !is_deleted {
                let evidence = Evidence {
                    sensor: Some(entry.sensor),
                    recorded_at: Some(recorded_at),
                    group: 0,
                    position: Some(position),
                    index: 0,
                };
                self.findings.note(Kind::NotInKafka, evidence);
            }
        }
        self.ledger = Some(side);
        Ok(())
    }

    /// Rows written before this moment may have expired, in milliseconds since the epoch.
    pub(super) fn expired_before(&self) -> i64 {
        match self.time_to_live.map(|length| i64::try_from(length.as_millis()).unwrap_or(i64::MAX)) {
            Some(length) => self.now.saturating_sub(length),
            None => i64::MIN,
        }
    }

    fn read_topic(
        &mut self,
        topic: &str,
        spans: &[Span],
        phase: Phase,
        mut take: impl FnMut(&mut Self, Message<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let total = spans.iter().map(Span::len).sum();
        let mut reader = TopicReader::open(&self.config.kafka, topic, spans)?;
        let mut done = 0;
        loop {
            match reader.step()? {
                Step::Message(message) => {
                    take(self, message)?;
                    done += 1;
                    if done % CHECK_INTERVAL == 0 {
                        self.check_stopped()?;
                        self.report(phase, done, total);
                    }
                }
                Step::Waiting => self.check_stopped()?,
                Step::End => return Ok(()),
            }
        }
    }

    /// An error if the user wants the audit to stop.
    pub(super) fn check_stopped(&self) -> anyhow::Result<()> {
        match self.shutdown.is_requested() {
            true => Err(Interrupted.into()),
            false => Ok(()),
        }
    }

    pub(super) fn report(&self, phase: Phase, done: u64, total: u64) {
        (self.on_progress)(Progress { phase, done, total });
    }
}

async fn read_partition(
    session: &Session,
    partition: Partition,
    range: TimeRange,
    sender: &mpsc::Sender<(Partition, Vec<Record>)>,
) -> Result<(), cassandra::Error> {
    let group = group_id(&partition.group.location, &partition.group.device_type);
    let slice = Slice { from: range.from, to: range.to, sensor: None };
    let mut pages = readings::readings(session, &partition, slice).await?;
    let mut names = Names::default();
    let mut page = Vec::new();
    while pages.append(&mut names, &mut page).await? {
        let records = page.drain(..).map(|reading| Record {
            sensor: reading.sensor,
            recorded_at: reading.recorded_at,
            side: Side::Row { bucket_seconds: reading.bucket_seconds },
            group,
            position: Position::default(),
            cells: Cells::of_row(&reading),
        });
        if sender.send((partition.clone(), records.collect())).await.is_err() {
            // The receiver ended with an error, which it returns itself.
            return Ok(());
        }
    }
    Ok(())
}
