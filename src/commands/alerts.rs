//! `iotctl alerts`: what `ingest --detect` has found.

use std::collections::HashSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::Context;
use super::flags::{SelectionArgs, TimeArgs};
use super::support::until_stopped;
use crate::alerting::Alert;
use crate::alerting::alert::State;
use crate::alerting::rules::Severity;
use crate::alerting::topic::AlertFeed;
use crate::error::Interrupted;
use crate::output::Format;
use crate::output::record::{Cell, Heading, Records};
use crate::time::TimeRange;

/// What `ingest --detect` has found, as the topic of alerts has it
///
/// In the order of each sensor's alerts; each once, however often it was sent. The time is that of the readings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl alerts --last 24h
  iotctl alerts --severity critical --state firing
  iotctl alerts --rule hot --location plant-1 --format csv > hot.csv
  iotctl alerts --follow --format ndjson | while read -r alert; do …; done")]
pub struct AlertsArgs {
    /// Only alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only alerts of this severity
    #[arg(long, value_enum)]
    pub severity: Option<Severity>,
    /// Only alerts in this state
    #[arg(long, value_enum)]
    pub state: Option<State>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Go on with those to come, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How often a follower looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub async fn run(args: AlertsArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let headings = vec![
        Heading::left("recorded_timestamp").titled("recorded"),
        Heading::left("severity"),
        Heading::left("rule"),
        Heading::left("state"),
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::left("iot_sensor_id"),
        Heading::left("metric"),
        Heading::right("value"),
        Heading::right("expected"),
        Heading::right("score"),
        Heading::left("since"),
        Heading::left("id"),
        Heading::left("message"),
    ];
    // A table's width has no room for what the others have.
    let is_table = args.format == Format::Table;
    let headings = headings
        .into_iter()
        .filter(|heading| !is_table || IN_TABLES.contains(&heading.name.as_str()))
        .collect();
    let feed = until_stopped(&context.shutdown, AlertFeed::open(&context.config.kafka)).await?;
    let runtime = Handle::current();
    // Reading blocks; the runtime's other threads go on with what signals and clients need.
    let work = move || {
        let records = context.output.records(args.format, args.time.clock(), headings)?;
        let printer = Printer { records, args, range, seen: HashSet::new() };
        print(printer, feed, &runtime, &context)
    };
    tokio::task::spawn_blocking(work).await.context("the command broke off")?
}

fn print<W: Write>(
    mut printer: Printer<W>,
    mut feed: AlertFeed,
    runtime: &Handle,
    context: &Context,
) -> anyhow::Result<()> {
    let shutdown = &context.shutdown;
    let mut foreign = 0;
    let follows = printer.args.follow;
    loop {
        let batch = runtime.block_on(until_stopped(shutdown, feed.next()))?;
        let (failed, strangers) =
            batch.each(&|| shutdown.is_requested(), |alert| match printer.print(&alert) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            })?;
        foreign += strangers;
        if let Some(error) = failed {
            return Err(error);
        }
        if !follows {
            break;
        }
        printer.records.show()?;
        runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = shutdown.requested() => {}
            }
        });
        // A follower has no other end.
        if shutdown.is_requested() {
            break;
        }
    }
    let found = printer.records.finish()?;
    if shutdown.is_requested() && !follows {
        return Err(Interrupted.into());
    }
    if found == 0 && !follows {
        context.output.note("no alert here (`iotctl ingest --detect RULES.toml` writes them)");
    }
    if foreign > 0 {
        context
            .output
            .note(format!("note: {foreign} messages of the topic are no alerts, and were passed over"));
    }
    Ok(())
}

const IN_TABLES: [&str; 6] = ["recorded_timestamp", "severity", "rule", "state", "iot_sensor_id", "message"];

/// Alerts that pass the filter, each once.
struct Printer<W: Write> {
    records: Records<W>,
    args: AlertsArgs,
    range: TimeRange,
    /// Sixteen bytes and a little for each alert of the topic.
    seen: HashSet<Uuid>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, alert: &Alert) -> anyhow::Result<()> {
        let recorded_at = alert.recorded_timestamp.timestamp_millis();
        let args = &self.args;
        let SelectionArgs { group, sensor } = &args.selection;
        let is_asked_for = args.rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && args.severity.is_none_or(|severity| severity == alert.severity)
            && args.state.is_none_or(|state| state == alert.state)
            && group.location.as_ref().is_none_or(|location| *location == alert.location)
            && group.device_type.as_ref().is_none_or(|device_type| *device_type == alert.device_type)
            && sensor.is_none_or(|sensor| sensor == alert.iot_sensor_id)
            && self.range.contains(recorded_at);
        if !is_asked_for || !self.seen.insert(alert.id) {
            return Ok(());
        }
        let number = |number: Option<f64>| number.map_or(Cell::Missing, Cell::Double);
        let cells = [
            Cell::Moment(recorded_at),
            Cell::Text(alert.severity.name()),
            Cell::Text(&alert.rule),
            Cell::Text(alert.state.name()),
            Cell::Text(&alert.location),
            Cell::Text(&alert.device_type),
            Cell::Uuid(alert.iot_sensor_id),
            Cell::Text(&alert.metric),
            Cell::Number(alert.value),
            number(alert.expected),
            number(alert.score),
            Cell::Moment(alert.since.timestamp_millis()),
            Cell::Uuid(alert.id),
            Cell::Text(&alert.message),
        ];
        match args.format {
            Format::Table => {
                self.records.write(&[cells[0], cells[1], cells[2], cells[3], cells[6], cells[13]])
            }
            _ => self.records.write(&cells),
        }
    }
}
