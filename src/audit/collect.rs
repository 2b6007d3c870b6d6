//! Each side's evidence, one after the other.
//!
//! The order makes it right while others send and ingest. What the group has committed is asked first, then the rows
//! are read: so a committed message's row must be among them. The topic is read after that, so that each row's message
//! is there; and of the ledger only what it held at the beginning, so that each entry's message is.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::compare::{Circumstances, Comparison};
use super::findings::{Evidence, Findings, Kind};
use super::record::{Cells, Record, Side, group_id};
use super::report::{LedgerSide, Report, TopicSide};
use super::sort::{SortError, Sorter};
use crate::audit::ledger::{LedgerReader, Line};
use crate::cassandra::{self, Session};
use crate::config::Config;
use crate::error::Interrupted;
use crate::kafka::consumer::Message;
use crate::kafka::dead_letters::Stored;
use crate::kafka::positions::Positions;
use crate::kafka::producer::Position;
use crate::kafka::reader::{Span, Step, TopicReader};
use crate::kafka::{self, topics};
use crate::reading::decode::{self, DecodeLimits};
use crate::reading::{Group, Partition};
use crate::shutdown::Shutdown;
use crate::store::groups;
use crate::store::readings::{self, Names, Slice};
use crate::time::TimeRange;

/// Partitions of the table that are read at once.
const PARTITIONS_AT_ONCE: usize = 8;
/// Groups that are remembered by name; of any further ones the report knows the sensor alone.
const MOST_NAMES: usize = 100_000;
/// What is looked at between two looks at the clock and the shutdown.
const TURN: u64 = 4_096;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Options {
    pub ledger: Option<PathBuf>,
    /// Readings recorded outside of it are left out.
    pub range: TimeRange,
    /// Where the scratch file goes.
    pub work_dir: PathBuf,
    /// Stretches of each kind that are told in full.
    pub examples: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Rows,
    DeadLetters,
    Messages,
    Ledger,
    Comparing,
}

/// How far a phase is; the total is 0 where nobody knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    pub done: u64,
    pub total: u64,
}

/// Told of the progress now and then, from any thread.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What the blocking phases share.
struct Audit {
    config: Config,
    options: Options,
    shutdown: Shutdown,
    on_progress: OnProgress,
    sorter: Sorter,
    findings: Findings,
    names: GroupNames,
    topic: TopicSide,
    ledger: Option<LedgerSide>,
    rows: u64,
    time_to_live: Option<Duration>,
    now: i64,
}

/// Groups by their ids.
#[derive(Debug, Default)]
pub struct GroupNames(HashMap<u64, Group>);

impl GroupNames {
    fn note(&mut self, location: &str, device_type: &str) -> u64 {
        let id = group_id(location, device_type);
        if self.0.len() < MOST_NAMES {
            self.0.entry(id).or_insert_with(|| Group {
                location: location.to_owned(),
                device_type: device_type.to_owned(),
            });
        }
        id
    }

    pub fn get(&self, id: u64) -> Option<&Group> {
        self.0.get(&id)
    }
}

/// Compares all sides.
///
/// # Errors
/// When a side cannot be read; that something is missing is no error here but in the [`Report`].
pub async fn audit(
    config: &Config,
    session: &Session,
    options: Options,
    shutdown: Shutdown,
    on_progress: OnProgress,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let ledger = options.ledger.clone().map(LedgerFile::look).transpose()?;
    let topic = config.kafka.topic.clone();
    let partitions = topics::partitions(&config.kafka, &topic).await?;
    let committed = kafka::consumer_groups::committed(&config.kafka, &topic, partitions).await?;
    let mut audit = Audit {
        sorter: Sorter::new(&options.work_dir),
        findings: Findings::new(options.examples),
        names: GroupNames::default(),
        topic: TopicSide::default(),
        ledger: None,
        rows: 0,
        time_to_live: readings::time_to_live(session).await?,
        now: chrono::Utc::now().timestamp_millis(),
        config: config.clone(),
        options,
        shutdown,
        on_progress,
    };
    audit = audit.collect_rows(session).await?;

    let spans: Vec<Span> = (0..)
        .zip(topics::watermarks(&config.kafka, &topic).await?)
        .map(|(partition, (from, to))| Span { partition, from, to })
        .collect();
    let letters = match topics::watermarks(&config.kafka, &config.kafka.dead_letter_topic()).await {
        Ok(watermarks) => watermarks,
        Err(kafka::Error::MissingTopic { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let letters: Vec<Span> =
        (0..).zip(letters).map(|(partition, (from, to))| Span { partition, from, to }).collect();

    let finish = move || {
        let dead = audit.collect_dead_letters(&spans, &letters)?;
        let seen = audit.collect_messages(&spans, &committed, &dead)?;
        if let Some(ledger) = &ledger {
            audit.collect_ledger(ledger, &spans, &seen)?;
        }
        audit.compare(&spans, &dead)
    };
    let mut report = tokio::task::spawn_blocking(finish).await.context("the audit broke off")??;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// A ledger as it is when the audit begins.
struct LedgerFile {
    path: PathBuf,
    bytes: u64,
}

impl LedgerFile {
    fn look(path: PathBuf) -> anyhow::Result<Self> {
        let metadata = std::fs::metadata(&path);
        let bytes = metadata.with_context(|| format!("cannot read the ledger {}", path.display()))?.len();
        Ok(Self { path, bytes })
    }
}

/// Positions of messages that sit in the dead-letter topic.
struct DeadLetters {
    /// Of what the topic still holds.
    held: Positions,
    /// Of what retention has deleted since: few, so they are kept one by one.
    deleted: HashSet<Position>,
}

impl DeadLetters {
    fn contains(&self, position: Position) -> bool {
        self.held.contains(position) || self.deleted.contains(&position)
    }
}

impl Audit {
    /// Reads all rows as readers find them, by way of the tables that list groups and buckets.
    async fn collect_rows(mut self, session: &Session) -> anyhow::Result<Self> {
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
        Ok(sorting.await.context("the audit broke off")??)
    }

    fn collect_dead_letters(&mut self, spans: &[Span], letters: &[Span]) -> anyhow::Result<DeadLetters> {
        let topic = self.config.kafka.dead_letter_topic();
        let mut dead = DeadLetters { held: Positions::within(spans), deleted: HashSet::new() };
        let firsts: HashMap<i32, i64> = spans.iter().map(|span| (span.partition, span.from)).collect();
        let mut count = 0;
        self.read_topic(&topic, letters, Phase::DeadLetters, |audit, message| {
            if let Stored::Letter(letter) = Stored::read(&message)
                && letter.topic == audit.config.kafka.topic
            {
                count += 1;
                let position = letter.source;
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

    /// Reads the topic. Returns which positions hold a message.
    fn collect_messages(
        &mut self,
        spans: &[Span],
        committed: &[Option<i64>],
        dead: &DeadLetters,
    ) -> anyhow::Result<Positions> {
        let mut seen = Positions::within(spans);
        let topic = self.config.kafka.topic.clone();
        // What was stored under other limits must be recognised.
        let limits = DecodeLimits { max_message_bytes: usize::MAX, max_future_skew: Duration::MAX };
        let kept_since = self.expired_before();
        self.read_topic(&topic, spans, Phase::Messages, |audit, message| {
            let position = Position { partition: message.partition(), offset: message.offset() };
            seen.insert(position);
            audit.topic.messages += 1;
            let index = usize::try_from(position.partition).unwrap_or(usize::MAX);
            let committed = committed.get(index).copied().flatten().unwrap_or(0);
            let is_committed = position.offset < committed;
            let is_dead = dead.contains(position);
            audit.topic.not_committed += u64::from(!is_committed);
            audit.topic.dead_lettered += u64::from(is_dead);
            let Ok(decoded) = decode::decode(message.payload(), &limits, audit.now) else {
                audit.topic.undecodable += 1;
                if is_committed && !is_dead {
                    let evidence = Evidence {
                        sensor: None,
                        recorded_at: None,
                        group: 0,
                        position: Some(position),
                        index: 0,
                    };
                    audit.findings.note(Kind::NoDeadLetter, evidence);
                }
                return Ok(());
            };
            let reading = decoded.reading;
            if !audit.options.range.contains(reading.recorded_at) {
                return Ok(());
            }
            let is_expired = message.timestamp() < kept_since;
            let record = Record {
                sensor: reading.sensor,
                recorded_at: reading.recorded_at,
                side: Side::Message { due: is_committed && !is_dead && !is_expired },
                group: audit.names.note(&reading.location, &reading.device_type),
                position,
                cells: Cells::of_message(&reading),
            };
            Ok(audit.sorter.push(record)?)
        })?;
        Ok(seen)
    }

    fn collect_ledger(
        &mut self,
        ledger: &LedgerFile,
        spans: &[Span],
        seen: &Positions,
    ) -> anyhow::Result<()> {
        let context = || format!("cannot read the ledger {}", ledger.path.display());
        let mut reader = LedgerReader::open(&ledger.path).with_context(context)?;
        let firsts: HashMap<i32, i64> = spans.iter().map(|span| (span.partition, span.from)).collect();
        let mut side = LedgerSide { path: ledger.path.clone(), ..LedgerSide::default() };
        let (mut lines, mut done) = (0, 0);
        while let Some((line, bytes)) = reader.next_line().with_context(context)? {
            lines += 1;
            done += bytes;
            if done > ledger.bytes {
                break;
            }
            if lines % TURN == 0 {
                self.look_up()?;
                self.report(Phase::Ledger, done, ledger.bytes);
            }
            let Line::Entry(entry) = line else {
                side.unreadable_lines += 1;
                continue;
            };
            side.entries += 1;
            let position = Position { partition: entry.partition, offset: entry.offset };
            let recorded_at = entry.timestamp.timestamp_millis();
            if entry.malformed.is_none() {
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
            side.malformed += 1;
            // It has no row to look for, only itself.
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

    fn compare(mut self, spans: &[Span], dead: &DeadLetters) -> anyhow::Result<Report> {
        let circumstances = Circumstances {
            first_offsets: spans.iter().map(|span| (span.partition, span.from)).collect(),
            expired_before: self.expired_before(),
        };
        let sorter = std::mem::replace(&mut self.sorter, Sorter::new(&self.options.work_dir));
        let total = sorter.records();
        let mut findings = std::mem::replace(&mut self.findings, Findings::new(0));
        let is_dead_letter = |position| dead.contains(position);
        let mut comparison = Comparison::new(circumstances, &is_dead_letter, &mut findings);
        for (record, done) in sorter.finish()?.zip(0..) {
            if done % TURN == 0 {
                self.look_up()?;
                self.report(Phase::Comparing, done, total);
            }
            comparison.take(&record?);
        }
        let compared = comparison.finish();
        self.topic.name = self.config.kafka.topic.clone();
        self.topic.is_cut = spans.iter().any(|span| span.from > 0);
        Ok(Report::new(self.ledger, self.topic, self.rows, compared, findings, &self.names))
    }

    /// What was written before this may have expired, in milliseconds since the epoch.
    fn expired_before(&self) -> i64 {
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
                    if done % TURN == 0 {
                        self.look_up()?;
                        self.report(phase, done, total);
                    }
                }
                Step::Waiting => self.look_up()?,
                Step::End => return Ok(()),
            }
        }
    }

    /// Whether the user wants it to stop.
    fn look_up(&self) -> anyhow::Result<()> {
        match self.shutdown.is_requested() {
            true => Err(Interrupted.into()),
            false => Ok(()),
        }
    }

    fn report(&self, phase: Phase, done: u64, total: u64) {
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
            // The other end tells why it went away.
            return Ok(());
        }
    }
    Ok(())
}
