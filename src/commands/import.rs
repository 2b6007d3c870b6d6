//! `iotctl import`: historical readings from files, through Kafka or directly into Cassandra.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Context;
use super::flags::ColumnArgs;
use super::support::decode_limits;
use crate::cassandra::Session;
use crate::error::{Interrupted, UsageError};
use crate::ingestion::direct::DirectWriter;
use crate::kafka::Producer;
use crate::kafka::producer::{DELIVERY_TIMEOUT, Offer};
use crate::kafka::topics;
use crate::mapping::Mapping;
use crate::mapping::rows::RowMapping;
use crate::output::text::one_or_many;
use crate::output::{Output, ReportFormat, table};
use crate::reading::encode::Encoder;
use crate::reading::{DecodeLimits, Rejection, decode};
use crate::shutdown::Shutdown;
use crate::transfer::import::RawRow;
use crate::transfer::{FileFormat, import};

/// Messages handed over at once.
const CHUNK: usize = 2_000;
/// Readings between two writes of the catalog.
const FLUSH_ROWS: u64 = 20_000;

/// Import historical readings from files, through Kafka or directly into Cassandra.
///
/// Each row is checked like a message. A bad row is reported with its file, line (Parquet: row) and reason, and skipped.
/// Importing a file twice changes nothing: a reading is stored once.
///
/// Columns are named as in the wire format. Other numeric columns become other metrics. If a CSV or Parquet file has no
/// column `location` or `device_type`, the values come from the folders above it:
/// location=plant-1/device_type=thermostat/….
///
/// With --map, --set or --unit, the columns of CSV and Parquet files have other names, and only those that are named are stored.
///
/// With --mapping, rows of any other form become readings as messages do: a line of NDJSON is a payload, a row of CSV or
/// Parquet an object of its columns. They are sent to Kafka in the built-in format, so the topic's `ingest` needs no mapping.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl import readings.parquet
  iotctl import --dry-run old/*.csv
  iotctl import --direct lake/
  iotctl import machine.csv --map timestamp=recorded_timestamp,value=temperature --unit temperature=fahrenheit \
    --set location=plant-1,device_type=machine
  iotctl import --mapping meters.toml --direct old/*.csv

Rows expire after the table's time to live, counted from the import.")]
pub struct ImportArgs {
    /// Files, or folders of files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// File format [default: by each file's extension]
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// Turn rows into readings by this mapping file or preset
    ///
    /// Rows have no key, headers or time of their own; the time must come from a column.
    #[arg(long, value_name = "FILE|PRESET")]
    pub mapping: Option<String>,
    /// Name of the mapping's source that the rows are of [default: the only one, or by the file's name as a topic]
    #[arg(long, value_name = "NAME", requires = "mapping")]
    pub source: Option<String>,
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Write to Cassandra directly, without Kafka
    #[arg(long)]
    pub direct: bool,
    /// Check all rows and store nothing
    #[arg(long, conflicts_with = "direct")]
    pub dry_run: bool,
    /// Stop if more than N rows are bad
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_errors: u64,
    /// Output format of the closing report
    #[arg(long, value_enum, default_value_t)]
    pub report: ReportFormat,
}

#[derive(Debug, Serialize)]
struct Report {
    files: usize,
    rows: u64,
    /// Stored, or acknowledged by Kafka; with --dry-run, what would be.
    imported: u64,
    rejected: u64,
    /// Rows that the mapping skips.
    skipped: u64,
    /// Readings without any value, which are not stored.
    empty_readings: u64,
    seconds: f64,
    rows_per_second: f64,
}

/// Good messages of a file, in its order.
type Chunk = Vec<Vec<u8>>;

/// What the reading thread and the writer count.
#[derive(Debug, Default)]
struct Counts {
    rows: AtomicU64,
    imported: AtomicU64,
    rejected: AtomicU64,
    skipped: AtomicU64,
    empty: AtomicU64,
}

pub async fn run(args: ImportArgs, context: Context) -> anyhow::Result<()> {
    let files = args.files_with_mappings(&context.output)?;
    let counts = Arc::new(Counts::default());
    let limits = decode_limits(&context.config.ingest);
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel::<Chunk>(4);
    let reader = Reader {
        files: files.clone(),
        limits,
        counts: counts.clone(),
        max_errors: args.max_errors,
        output: context.output,
        shutdown: context.shutdown.clone(),
    };
    // Problems with the servers are reported before any file is read.
    let written = if args.dry_run {
        let reading = tokio::task::spawn_blocking(move || reader.run(&sender));
        count(receiver, &counts).await;
        reading.await?
    } else if args.direct {
        let session = Session::connect(&context.config.cassandra).await?;
        let writer = DirectWriter::new(session, &context.config).await?;
        let reading = tokio::task::spawn_blocking(move || reader.run(&sender));
        let stored = store(receiver, writer, limits, &counts).await;
        stored.and(reading.await?)
    } else {
        let kafka = context.config.kafka.clone();
        topics::partitions(&kafka, &kafka.topic).await?;
        let reading = tokio::task::spawn_blocking(move || reader.run(&sender));
        let (counted, shutdown) = (counts.clone(), context.shutdown.clone());
        let sent =
            tokio::task::spawn_blocking(move || send(receiver, &kafka, limits, &counted, &shutdown)).await?;
        sent.and(reading.await?)
    };
    let imported = counts.imported.load(Ordering::Relaxed);
    if let Err(error) = written {
        let done = one_or_many(imported, "reading was imported", "readings were imported");
        let again = "run it again: a reading is stored only once";
        if error.is::<Interrupted>() {
            context.output.note(format!("stopped: {done} ({again})"));
            return Err(error);
        }
        // Another attempt does not fix a bad file.
        let done = if error.is::<UsageError>() { done } else { format!("{done} ({again})") };
        return Err(error.context(done));
    }
    let (rows, rejected) = (counts.rows.load(Ordering::Relaxed), counts.rejected.load(Ordering::Relaxed));
    let seconds = started.elapsed().as_secs_f64();
    let report = Report {
        files: files.len(),
        rows,
        imported,
        rejected,
        skipped: counts.skipped.load(Ordering::Relaxed),
        empty_readings: counts.empty.load(Ordering::Relaxed),
        seconds,
        rows_per_second: imported as f64 / seconds,
    };
    print(&report, &args, &context.output)?;
    anyhow::ensure!(
        rejected == 0,
        "{rejected} of {} bad and left out (fix what the notes say, and import the file again)",
        one_or_many(rows, "row is", if rejected == 1 { "rows is" } else { "rows are" })
    );
    Ok(())
}

impl ImportArgs {
    /// Each file with how its rows are mapped. What is wrong is reported before anything is imported.
    fn files_with_mappings(&self, output: &Output) -> anyhow::Result<Vec<MappedFile>> {
        let files = import::files(&self.files, self.format)?;
        let mapping = self.mapping.as_deref().map(Mapping::load).transpose()?.map(Arc::new);
        if let Some(mapping) = &mapping {
            output.note(format!("mapping {} ({})", mapping.place, mapping.fingerprint));
        }
        let flags = self.columns.flags()?;
        let mapped = files.into_iter().map(|(path, format)| {
            let rows = match &mapping {
                Some(mapping) => {
                    let rows = RowMapping::of(mapping, self.source.as_deref(), &path)?;
                    if format != FileFormat::Ndjson {
                        rows.check_has_columns()?;
                    }
                    Some(rows)
                }
                None if flags.is_empty() => None,
                None => {
                    let found = import::by_flags(&path, format, &flags)?;
                    if !found.ignored.is_empty() {
                        output.note(format!(
                            "{}: columns not stored: {}",
                            path.display(),
                            found.ignored.join(", ")
                        ));
                    }
                    Some(found.rows)
                }
            };
            Ok((path, format, rows))
        });
        mapped.collect()
    }
}

type MappedFile = (PathBuf, FileFormat, Option<RowMapping>);

/// Reads the files, on its own thread.
struct Reader {
    files: Vec<MappedFile>,
    limits: DecodeLimits,
    counts: Arc<Counts>,
    max_errors: u64,
    output: Output,
    shutdown: Shutdown,
}

impl Reader {
    fn run(self, sender: &mpsc::Sender<Chunk>) -> anyhow::Result<()> {
        let mut chunk = Chunk::new();
        for (path, format, rows) in &self.files {
            let now = chrono::Utc::now().timestamp_millis();
            if let Some(rows) = rows {
                self.map(path, *format, rows, sender, &mut chunk, now)?;
                continue;
            }
            import::read(path, *format, |line, row| {
                if self.shutdown.is_requested() {
                    return Err(Interrupted.into());
                }
                self.counts.rows.fetch_add(1, Ordering::Relaxed);
                let checked = row.and_then(|message| {
                    match decode::decode(&message, &self.limits, now).map(|it| it.reading.is_empty()) {
                        Ok(is_empty) => Ok((message, is_empty)),
                        Err(rejection) => Err(rejection.to_string()),
                    }
                });
                match checked {
                    Ok((message, false)) => chunk.push(message),
                    Ok((_, true)) => drop(self.counts.empty.fetch_add(1, Ordering::Relaxed)),
                    Err(reason) => self.refuse(path, line, &reason)?,
                }
                // A writer that failed takes no more, and reports the reason itself.
                Ok(chunk.len() < CHUNK || sender.blocking_send(std::mem::take(&mut chunk)).is_ok())
            })?;
        }
        if !chunk.is_empty() {
            let _ = sender.blocking_send(chunk);
        }
        Ok(())
    }

    /// A file through its mapping: the readings of each row as messages of the wire format.
    fn map(
        &self,
        path: &Path,
        format: FileFormat,
        rows: &RowMapping,
        sender: &mpsc::Sender<Chunk>,
        chunk: &mut Chunk,
        now: i64,
    ) -> anyhow::Result<()> {
        let mut encoder = Encoder::new();
        import::read_raw(path, format, rows, |line, row| {
            if self.shutdown.is_requested() {
                return Err(Interrupted.into());
            }
            self.counts.rows.fetch_add(1, Ordering::Relaxed);
            let mapped = row.and_then(|row| {
                let mapped = match row {
                    RawRow::Line(line) => rows.line(line, &self.limits, now),
                    RawRow::Columns(columns) => rows.row(columns, &self.limits, now),
                };
                mapped.map_err(|rejection| rejection.to_string())
            });
            let mapped = match mapped {
                Ok(mapped) => mapped,
                Err(reason) => {
                    self.refuse(path, line, &reason)?;
                    return Ok(true);
                }
            };
            self.counts.skipped.fetch_add(mapped.is_skipped.into(), Ordering::Relaxed);
            self.counts.empty.fetch_add(mapped.empty.len() as u64, Ordering::Relaxed);
            let mut reasons: Vec<_> = mapped.faults.iter().map(ToString::to_string).collect();
            for decoded in &mapped.readings {
                let mut message = Vec::new();
                encoder.encode(&decoded.reading, &mut message);
                match message.len() <= self.limits.max_message_bytes {
                    true => chunk.push(message),
                    // It could not be read again.
                    false => reasons.push(
                        Rejection::TooLarge { bytes: message.len(), limit: self.limits.max_message_bytes }
                            .to_string(),
                    ),
                }
            }
            if !reasons.is_empty() {
                self.refuse(path, line, &reasons.join("; "))?;
            }
            Ok(chunk.len() < CHUNK || sender.blocking_send(std::mem::take(chunk)).is_ok())
        })
    }

    fn refuse(&self, path: &Path, line: u64, reason: &str) -> anyhow::Result<()> {
        self.output.note(format!("{}:{line}: {reason}", path.display()));
        let rejected = self.counts.rejected.fetch_add(1, Ordering::Relaxed) + 1;
        if rejected > self.max_errors {
            let most = self.max_errors;
            return Err(UsageError::new(format!(
                "more than {} bad, the last at {}:{line}: {reason} (fix the file, or raise --max-errors)",
                one_or_many(most, "row is", "rows are"),
                path.display()
            ))
            .into());
        }
        Ok(())
    }
}

async fn count(mut chunks: mpsc::Receiver<Chunk>, counts: &Counts) {
    while let Some(chunk) = chunks.recv().await {
        counts.imported.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
}

async fn store(
    mut chunks: mpsc::Receiver<Chunk>,
    mut writer: DirectWriter,
    limits: DecodeLimits,
    counts: &Counts,
) -> anyhow::Result<()> {
    let mut waiting = 0;
    while let Some(chunk) = chunks.recv().await {
        for message in &chunk {
            // It was decoded before; only its time could be refused now, so that is not checked.
            if let Ok(decoded) = decode::decode(message, &limits, i64::MAX) {
                writer.push(&decoded.reading);
                waiting += 1;
            }
        }
        if waiting >= FLUSH_ROWS || writer.is_full() {
            writer.flush().await?;
            counts.imported.fetch_add(std::mem::take(&mut waiting), Ordering::Relaxed);
        }
    }
    writer.flush().await?;
    counts.imported.fetch_add(waiting, Ordering::Relaxed);
    Ok(())
}

fn send(
    mut chunks: mpsc::Receiver<Chunk>,
    kafka: &crate::config::KafkaConfig,
    limits: DecodeLimits,
    counts: &Arc<Counts>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let failure = Arc::new(Mutex::new(None));
    let (counted, failed) = (counts.clone(), failure.clone());
    let producer = Producer::new(kafka, &kafka.topic, move |delivery| match delivery.outcome {
        Ok(_) => drop(counted.imported.fetch_add(1, Ordering::Relaxed)),
        Err(error) => drop(failed.lock().expect("no panic while locked").get_or_insert(error)),
    })?;
    while let Some(chunk) = chunks.blocking_recv() {
        for message in &chunk {
            let Ok(decoded) = decode::decode(message, &limits, i64::MAX) else { continue };
            let key = decoded.reading.sensor.to_string();
            while producer.offer(key.as_bytes(), message, 0)? == Offer::Full {
                if shutdown.is_requested() {
                    producer.abandon();
                    return Err(Interrupted.into());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if failure.lock().expect("no panic while locked").is_some() {
            break;
        }
    }
    let all = producer.flush(DELIVERY_TIMEOUT);
    if let Some(error) = failure.lock().expect("no panic while locked").take() {
        return Err(error).context("Kafka did not accept a message");
    }
    anyhow::ensure!(all, "Kafka did not acknowledge all messages within {DELIVERY_TIMEOUT:?}");
    Ok(())
}

fn print(report: &Report, args: &ImportArgs, output: &Output) -> anyhow::Result<()> {
    if args.report == ReportFormat::Json {
        return output.json(report);
    }
    let count = |count: u64| indicatif::HumanCount(count).to_string();
    let title = match (args.dry_run, args.direct) {
        (true, _) => "would be imported",
        (_, true) => "stored",
        _ => "acknowledged by Kafka",
    };
    let mut rows = vec![
        ("rows", count(report.rows)),
        (title, count(report.imported)),
        ("bad rows", count(report.rejected)),
    ];
    if args.mapping.is_some() {
        rows.push(("skipped by the mapping", count(report.skipped)));
    }
    if report.empty_readings > 0 {
        rows.push(("without a value, not stored", count(report.empty_readings)));
    }
    rows.extend([
        ("elapsed", format!("{:.1} s", report.seconds)),
        ("readings per second", count(report.rows_per_second as u64)),
    ]);
    output.table(&table::report(rows))
}
