//! `iotctl audit`: whether every reading is stored or accounted for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use clap::Args;
use indicatif::{HumanCount, ProgressBar};

use super::flags::TimeArgs;
use super::{Context, support};
use crate::audit::findings::Kind;
use crate::audit::report::{Example, Trouble};
use crate::audit::{self, Options, Phase, Progress, Report};
use crate::cassandra::Session;
use crate::output::record::{Cell, Heading};
use crate::output::text::grouped;
use crate::output::{Format, Output, table};
use crate::registry::Lookup;

/// Check that no reading is missing.
///
/// Compares ledger, topic and tables, reading by reading. With the ledger of `iotctl simulate --ledger FILE` the comparison
/// starts from what the brokers acknowledged; without one, from what the topic holds. A reading is accounted for when its row
/// has the values of its messages, or when its message is in the dead-letter topic. Messages that the consumer group has not
/// committed yet are counted and not reported as missing. Exit code 1 when something is missing, different or unexpected.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl audit
  iotctl audit --ledger run.ledger
  iotctl audit --ledger run.ledger --topic readings --last 1h
  iotctl audit --format json | jq .troubles

Everything is read once and sorted in a scratch file in --work-dir: about 100 bytes per reading.
Sending and ingesting may go on meanwhile.")]
pub struct AuditArgs {
    /// Ledger that `iotctl simulate --ledger` wrote
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Consumer group whose commits count [default: kafka.group]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// The mapping of the ingest whose work is audited [default: ingest.mapping]
    #[arg(long, value_name = "FILE|PRESET")]
    pub mapping: Option<String>,
    /// Maximum number of examples of each kind of finding
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub examples: usize,
    /// Folder for the scratch file [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Something is missing, different or unexpected; the report has been printed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit found {0} (the report says where; `iotctl dead-letters` and the log of `ingest` may say why)"
)]
struct Unsound(String);

pub async fn run(args: AuditArgs, mut context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    if let Some(group) = args.group {
        context.config.kafka.group = group;
    }
    if args.mapping.is_some() {
        context.config.ingest.mapping = args.mapping;
    }
    let mapping = support::mapping(&context.config.ingest, &context.output)?;
    let lookup = Lookup::of(&context.config, mapping.as_ref())?;
    let options = Options {
        mapping: mapping.map(Arc::new),
        lookup: lookup.map(Arc::new),
        ledger: args.ledger,
        range,
        work_dir: args.work_dir.unwrap_or_else(std::env::temp_dir),
        examples: args.examples,
    };
    let session = Session::connect(&context.config.cassandra).await?;
    let bar = PhaseBar { output: context.output, bar: Mutex::new(None) };
    let bar = Arc::new(bar);
    let shown = bar.clone();
    let on_progress = Arc::new(move |progress| shown.show(progress));
    let shutdown = context.shutdown.clone();
    let audited = audit::audit(&context.config, &session, options, shutdown, on_progress).await;
    bar.clear();
    let report = audited?;
    print(&report, args.format, &args.time, &context.output)?;
    match verdict(&report) {
        Some(troubles) => Err(Unsound(troubles).into()),
        None => Ok(()),
    }
}

/// One bar after the other.
struct PhaseBar {
    output: Output,
    bar: Mutex<Option<(Phase, ProgressBar)>>,
}

impl PhaseBar {
    fn show(&self, Progress { phase, done, total }: Progress) {
        let mut current = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            let bar = if total > 0 { self.output.bar(total, name(phase)) } else { self.output.live_line() };
            *current = Some((phase, bar));
        }
        let Some((_, bar)) = current.as_ref() else { return };
        if total > 0 {
            bar.set_position(done);
        } else {
            bar.set_message(format!("{}: {}", name(phase), HumanCount(done)));
            bar.tick();
        }
    }

    fn clear(&self) {
        if let Some((_, bar)) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Rows => "rows",
        Phase::DeadLetters => "dead letters",
        Phase::Messages => "messages",
        Phase::Ledger => "ledger",
        Phase::Comparing => "comparing",
    }
}

/// "12 readings missing, 3 different"; `None` when all is sound.
fn verdict(report: &Report) -> Option<String> {
    let troubles = Kind::ALL.into_iter().filter(|kind| !kind.is_harmless() && report.count(*kind) > 0);
    let mut troubles: Vec<_> =
        troubles.map(|kind| format!("{} {}", HumanCount(report.count(kind)), kind.name())).collect();
    if report.topic.deleted_unread > 0 {
        troubles.push(format!("{} deleted before they were read", HumanCount(report.topic.deleted_unread)));
    }
    (!report.is_sound).then(|| troubles.join(", "))
}

fn print(report: &Report, format: Format, time: &TimeArgs, output: &Output) -> anyhow::Result<()> {
    match format {
        Format::Json => output.json(report),
        Format::Ndjson => output.print(serde_json::to_string(report)?),
        Format::Csv => print_examples(report, format, time, output),
        Format::Table => {
            output.table(&table::report(summary(report)))?;
            if !report.examples.is_empty() {
                output.print("")?;
                print_examples(report, format, time, output)?;
            }
            let verdict = match verdict(report) {
                None => format!("✓ every reading is accounted for ({:.1} s)", report.seconds),
                Some(troubles) => format!("✗ {troubles} ({:.1} s)", report.seconds),
            };
            output.print(format!("\n{verdict}"))
        }
    }
}

fn summary(report: &Report) -> Vec<(&'static str, String)> {
    let count = |count: u64| HumanCount(count).to_string();
    let mut rows = vec![("topic", report.topic.name.clone())];
    rows.extend(report.mapping.clone().map(|mapping| ("mapping", mapping)));
    if let Some(ledger) = &report.ledger {
        rows.push(("acknowledged, by the ledger", count(ledger.entries)));
        if ledger.unreadable_lines > 0 {
            rows.push(("  torn lines in it", count(ledger.unreadable_lines)));
        }
    }
    let (topic, compared) = (&report.topic, &report.compared);
    rows.extend([
        ("messages in Kafka", count(topic.messages)),
        ("  not committed yet", count(topic.not_committed)),
        ("  cannot be decoded", count(topic.undecodable)),
        ("  in the dead-letter topic", count(topic.dead_lettered)),
        ("  tombstones", count(topic.tombstones)),
        ("  skipped by the mapping", count(topic.skipped)),
        ("  readings without a value", count(topic.empty_readings)),
        ("deleted before they were read", count(topic.deleted_unread)),
        ("  sent again", count(compared.repeated_messages)),
        ("readings in them", count(compared.readings)),
        ("  stored, with their values", count(compared.stored)),
        ("  need no row", count(compared.not_due)),
        ("rows in Cassandra", count(report.rows)),
    ]);
    for (label, value) in [
        ("  known by the ledger alone", compared.only_in_table),
        ("  older than the topic", compared.older_than_topic),
    ] {
        if value > 0 {
            rows.push((label, count(value)));
        }
    }
    for (kind, Trouble { readings, sensors, .. }) in &report.troubles {
        let of_sensors =
            if *sensors > 0 { format!(" (of {})", grouped(*sensors, "sensor")) } else { String::new() };
        if *readings > 0 || !kind.is_harmless() {
            rows.push((kind.name(), format!("{}{of_sensors}", count(*readings))));
        }
    }
    rows
}

fn print_examples(report: &Report, format: Format, time: &TimeArgs, output: &Output) -> anyhow::Result<()> {
    let mut headings = vec![Heading::left("trouble"), Heading::right("readings")];
    headings.extend(support::sensor_headings(format));
    headings.extend([
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::left("from"),
        Heading::left("to"),
        Heading::right("partition"),
        Heading::right("offset"),
        Heading::left("topic"),
    ]);
    let mut records = output.records(format, time.zone()?, headings)?;
    let number = |number: Option<i64>| {
        number.and_then(|number| u64::try_from(number).ok()).map_or(Cell::Missing, Cell::Count)
    };
    for example in &report.examples {
        let Example {
            kind,
            iot_sensor_id,
            sensor_name,
            location,
            device_type,
            from,
            to,
            readings,
            topic,
            partition,
            offset,
        } = example;
        let mut cells = vec![Cell::Text(kind.name()), Cell::Count(*readings)];
        match iot_sensor_id {
            Some(sensor) => cells.extend(support::sensor_cells(format, *sensor, sensor_name.as_deref())),
            None => cells.extend(support::sensor_headings(format).iter().map(|_| Cell::Missing)),
        }
        cells.extend([
            location.as_deref().map_or(Cell::Missing, Cell::Text),
            device_type.as_deref().map_or(Cell::Missing, Cell::Text),
            from.map_or(Cell::Missing, Cell::Moment),
            to.map_or(Cell::Missing, Cell::Moment),
            number(partition.map(i64::from)),
            number(*offset),
            topic.as_deref().map_or(Cell::Missing, Cell::Text),
        ]);
        records.write(&cells)?;
    }
    records.finish().map(|_| ())
}
