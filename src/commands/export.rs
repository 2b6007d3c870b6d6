//! `iotctl export`: stored readings as Parquet, CSV or NDJSON files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::flags::{SelectionArgs, TagArgs, TimeArgs};
use crate::cassandra::Session;
use crate::error::{Interrupted, OutputClosed, UsageError};
use crate::output::text::grouped;
use crate::output::{Output, ReportFormat, table};
use crate::transfer::export::{Export, Progress, Target};
use crate::transfer::journal::{Asked, Journal};
use crate::transfer::{FileFormat, FolderKey};

/// Write readings to Parquet, CSV or NDJSON files.
///
/// With a folder as --output, several files are written at once and each appears when it is complete; run the same command again
/// to resume a stopped export. With one file or `-` (standard output), an export starts over.
///
/// Each reading is exported once, even where the bucket size was changed and it is stored twice. A value that was not measured is
/// null in Parquet, empty in CSV and left out of NDJSON, which is the wire format. `sensor_name` is what the sensor is called. Rows are in no particular order.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl export --output readings/
  iotctl export --location plant-1 --last 7d --partition-by location,device_type,day --output lake/
  iotctl export --format csv --device-type thermostat --from 2026-01-01 --to 2026-02-01 --output january.csv
  iotctl export --format ndjson --sensor th-1 --output - | gzip > th-1.ndjson.gz
  iotctl export --tag room=A12 --last 30d --output a12.parquet

Folders are named location=plant-1/device_type=thermostat/day=2026-01-31 (names percent-encoded).
DuckDB:  select * from read_parquet('lake/**/*.parquet', hive_partitioning = true)
pandas:  pandas.read_parquet('lake')")]
pub struct ExportArgs {
    /// File format [default: by the extension of --output, else parquet]
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub tags: TagArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Keys of the folders that files are sorted into
    #[arg(long, value_name = "A,B,…", value_enum, value_delimiter = ',')]
    pub partition_by: Vec<FolderKey>,
    /// Folder, file (ending in .parquet, .csv, .ndjson or .jsonl), or - for standard output
    #[arg(long, short, value_name = "DIR|FILE|-")]
    pub output: PathBuf,
    /// Number of table partitions to read at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,
    /// Output format of the closing report
    #[arg(long, value_enum, default_value_t)]
    pub report: ReportFormat,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Readings in all files, including those of earlier runs.
    rows: u64,
    files: u64,
    bytes: u64,
    /// Of this run.
    rows_now: u64,
    seconds: f64,
    rows_per_second: f64,
}

enum Destination {
    Folder(PathBuf),
    One(Target),
}

pub async fn run(mut args: ExportArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let destination = destination(&args, context.output)?;
    let format = args.format.or_else(|| FileFormat::of(&args.output)).unwrap_or(FileFormat::Parquet);
    for (index, key) in args.partition_by.iter().enumerate() {
        if args.partition_by[..index].contains(key) {
            return Err(UsageError::new("--partition-by has a key twice").into());
        }
    }
    let SelectionArgs { group, sensor } = &args.selection;
    let is_named = sensor.as_ref().is_some_and(|sensor| sensor.name.is_some());
    let mut asked = Asked {
        keyspace: context.config.cassandra.keyspace.clone(),
        format,
        partition_by: args.partition_by.clone(),
        location: group.location.clone(),
        device_type: group.device_type.clone(),
        sensor: args.selection.sensor_id(),
        tags: args.tags.tags.clone(),
        from: args.time.from.clone(),
        to: args.time.to.clone(),
        last: args.time.last.clone(),
        local: args.time.zone.local,
        time_zone: args.time.zone.time_zone.map(|zone| zone.name().to_owned()),
    };
    // Problems with the folder are reported before the servers are asked, unless they have to say which sensor it is.
    if let Destination::Folder(folder) = &destination
        && !is_named
    {
        Journal::open(folder, &asked)?;
    }
    let session = Session::connect(&context.config.cassandra).await?;
    args.selection.find_sensor(&session).await?;
    asked.sensor = args.selection.sensor_id();
    let groups = args.selection.groups(&session).await?;
    let (groups, chosen) = args.tags.choose(&session, groups).await?;
    let progress = Arc::new(Progress::default());
    let export = Export {
        session,
        format,
        keys: args.partition_by.clone(),
        sensor: args.selection.sensor_id(),
        chosen,
        names: Arc::default(),
        zone: args.time.zone()?,
        parallel: args.parallel.into(),
        progress: progress.clone(),
        shutdown: context.shutdown.clone(),
    };
    let started = Instant::now();
    let drawing = tokio::spawn(draw(context.output, progress.clone(), started));
    let result = match destination {
        Destination::Folder(folder) => {
            to_folder(&export, &folder, asked, &groups, range, &context.output).await
        }
        Destination::One(target) => to_one(&export, target, &groups, range).await,
    };
    drawing.abort();
    let (rows, files) = result?;
    let rows_now = progress.rows.load(Ordering::Relaxed);
    let seconds = started.elapsed().as_secs_f64();
    if args.output == Path::new("-") {
        context.output.note(format!("{} in {seconds:.1} s", grouped(rows, "reading")));
        return Ok(());
    }
    if rows == 0 {
        context.output.note("no readings");
    }
    let bytes = files.1;
    let report =
        Report { rows, files: files.0, bytes, rows_now, seconds, rows_per_second: rows_now as f64 / seconds };
    print(&report, args.report, &context.output)
}

/// Returns the rows and the (number, bytes) of the files.
async fn to_folder(
    export: &Export,
    folder: &Path,
    asked: Asked,
    groups: &[Arc<crate::reading::Group>],
    range: crate::time::TimeRange,
    output: &Output,
) -> anyhow::Result<(u64, (u64, u64))> {
    let mut journal = export.journal(folder, asked, groups, range).await?;
    let before = journal.done.len();
    if before > 0 {
        output.note(format!("{before} of {} files are finished; resuming", journal.files.len()));
    }
    let result = export.to_folder(folder, &mut journal).await;
    let total = journal.files.len();
    match result {
        Ok(()) => {}
        Err(error) if error.is::<Interrupted>() => {
            output.note(format!(
                "stopped with {} of {total} files finished (run the same command again to resume)",
                journal.done.len()
            ));
            return Err(error);
        }
        Err(error) => {
            let text = format!(
                "the export failed with {} of {total} files finished (run the same command again to resume)",
                journal.done.len()
            );
            return Err(error.context(text));
        }
    }
    let files = journal.done.values().filter(|file| file.rows > 0);
    let sum = files.fold((0, 0, 0), |sum, file| (sum.0 + file.rows, sum.1 + 1, sum.2 + file.bytes));
    Ok((sum.0, (sum.1, sum.2)))
}

async fn to_one(
    export: &Export,
    target: Target,
    groups: &[Arc<crate::reading::Group>],
    range: crate::time::TimeRange,
) -> anyhow::Result<(u64, (u64, u64))> {
    let pieces = export.pieces(groups, range).await?;
    let written = export.to_one(target, pieces).await;
    written.map_err(|error| match is_closed_pipe(&error) {
        true => OutputClosed.into(),
        false => error,
    })?;
    let rows = export.progress.rows.load(Ordering::Relaxed);
    Ok((rows, (1, export.progress.bytes.load(Ordering::Relaxed))))
}

/// Whether the reader of our output has closed it; Parquet's writer has the reason only as text.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref::<std::io::Error>() {
        Some(cause) => cause.kind() == std::io::ErrorKind::BrokenPipe,
        None => cause.to_string().contains("Broken pipe"),
    })
}

fn destination(args: &ExportArgs, output: Output) -> anyhow::Result<Destination> {
    let path = &args.output;
    if path == Path::new("-") {
        if !args.partition_by.is_empty() {
            return Err(UsageError::new("--partition-by needs a folder as --output, not -").into());
        }
        let is_binary = args.format.is_none_or(|format| format == FileFormat::Parquet);
        if is_binary && output.stdout_is_terminal {
            return Err(UsageError::new(
                "Parquet cannot be written to a terminal (redirect it, or use --format csv or ndjson)",
            )
            .into());
        }
        return Ok(Destination::One(Target::Stdout(output)));
    }
    if path.is_dir() || !args.partition_by.is_empty() || FileFormat::of(path).is_none() {
        if path.is_file() {
            return Err(UsageError::new(format!(
                "{} is a file (name a folder, or a name that ends in .parquet, .csv or .ndjson)",
                path.display()
            ))
            .into());
        }
        return Ok(Destination::Folder(path.clone()));
    }
    if let (Some(given), Some(named)) = (args.format, FileFormat::of(path))
        && given != named
    {
        return Err(UsageError::new(format!(
            "--format {} does not match the name {} (leave out --format, or rename the file)",
            given.extension(),
            path.display()
        ))
        .into());
    }
    Ok(Destination::One(Target::File(path.clone())))
}

/// A bar over the partitions, with the rate of rows; where stderr is no terminal, a plain line every ten seconds.
async fn draw(output: Output, progress: Arc<Progress>, started: Instant) {
    const REDRAW: Duration = Duration::from_millis(250);
    const PLAIN_EVERY: u32 = 40;
    let bar = output.bar(0, "partitions");
    let mut ticks = tokio::time::interval(REDRAW);
    for tick in 0.. {
        ticks.tick().await;
        let rows = progress.rows.load(Ordering::Relaxed);
        let (done, total) =
            (progress.buckets.load(Ordering::Relaxed), progress.buckets_total.load(Ordering::Relaxed));
        let rate = rows as f64 / started.elapsed().as_secs_f64().max(0.001);
        bar.set_length(total);
        bar.set_position(done);
        let text = format!("{} · {}/s", grouped(rows, "row"), indicatif::HumanCount(rate as u64));
        if output.stderr_is_terminal {
            bar.set_message(text);
        } else if tick > 0 && tick % PLAIN_EVERY == 0 {
            let left = started.elapsed().mul_f64((total - done.min(total)) as f64 / done.max(1) as f64);
            output.note(format!("{text} · {done} of {total} partitions · about {} s left", left.as_secs()));
        }
    }
}

fn print(report: &Report, format: ReportFormat, output: &Output) -> anyhow::Result<()> {
    if format == ReportFormat::Json {
        return output.json(report).context("cannot print the report");
    }
    let count = |count: u64| indicatif::HumanCount(count).to_string();
    let rows = [
        ("readings", count(report.rows)),
        ("files", count(report.files)),
        ("size", indicatif::HumanBytes(report.bytes).to_string()),
        ("elapsed", format!("{:.1} s", report.seconds)),
        ("readings per second", count(report.rows_per_second as u64)),
    ];
    output.table(&table::report(rows))
}
