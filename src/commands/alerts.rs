//! `iotctl alerts`: the alerts of `ingest --detect`, as history and as what fires now; `deliver` sends them to people.

use std::collections::HashSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use clap::{Args, Subcommand};
use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use super::Context;
use super::flags::{SelectionArgs, TimeArgs};
use super::support::{NAMES_AT_ONCE, sensor_cells, sensor_headings, until_stopped};
use crate::alerting::alert::State;
use crate::alerting::current::Current;
use crate::alerting::rules::Severity;
use crate::alerting::topic::{AlertFeed, Record};
use crate::alerting::{Acknowledgement, Alert, Mutes};
use crate::analytics::groups::NoReadings;
use crate::cassandra::Session;
use crate::error::{Interrupted, UsageError};
use crate::output::Format;
use crate::output::record::{Cell, Heading, Records};
use crate::output::text::one_or_many;
use crate::reading::Group;
use crate::store::sensors::SensorNames;

mod ack;
mod check;
mod deliver;
mod filter;
mod history;
mod silence;

use filter::{Filter, Seen, Wanted};

/// List the alerts of `ingest --detect`, or what fires now
///
/// Alerts are listed in order of time, that of the readings; each once, however often it was sent. --firing lists the rules
/// and sensors that fire now: those whose latest alert says so, who has acknowledged them, and until when they are silenced.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  iotctl alerts --last 24h
  iotctl alerts --firing
  iotctl alerts --firing --severity critical --location plant-1
  iotctl alerts --rule hot --location plant-1 --format csv > hot.csv
  iotctl alerts --follow --format ndjson | while read -r alert; do …; done
  iotctl alerts history --last 7d --rule hot
  iotctl alerts ack --rule hot --sensor th-1 --comment 'on my way'
  iotctl alerts silence --location plant-3 --for 2h --comment 'new pump'
  iotctl alerts check rules.toml --against 7d
  iotctl alerts deliver receivers.toml"
)]
pub struct AlertsArgs {
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    Ack(ack::AckArgs),
    Check(check::CheckArgs),
    Deliver(deliver::DeliverArgs),
    History(history::HistoryArgs),
    Silence(silence::SilenceArgs),
}

/// Which alerts are listed, and how.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only alerts of this severity
    #[arg(long, value_enum)]
    pub severity: Option<Severity>,
    /// Only alerts that begin (firing) or end (resolved) an episode, in the past too; see --firing
    #[arg(long, value_enum)]
    pub state: Option<State>,
    /// Only what fires now: the latest state of each rule and sensor
    #[arg(long, conflicts_with_all = ["state", "follow", "from", "to", "last"])]
    pub firing: bool,
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

/// How often --follow looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Alerts that are in memory to be sorted by time: about 60 MB. Larger results come in sorted parts.
const MAX_SORTED: usize = 100_000;

pub async fn run(args: AlertsArgs, context: Context) -> anyhow::Result<()> {
    match args.command {
        Some(AlertsCommand::Ack(args)) => ack::run(args, context).await,
        Some(AlertsCommand::Check(args)) => check::run(args, context).await,
        Some(AlertsCommand::Deliver(args)) => deliver::run(args, context).await,
        Some(AlertsCommand::History(args)) => history::run(args, context).await,
        Some(AlertsCommand::Silence(args)) => silence::run(args, context).await,
        None => list(args.list, context).await,
    }
}

async fn list(mut args: ListArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let mut headings = vec![
        Heading::left("recorded_timestamp").titled("recorded"),
        Heading::left("severity").rank(1),
        Heading::left("rule"),
        Heading::left("state"),
        Heading::left("location"),
        Heading::left("device_type"),
    ];
    headings.extend(sensor_headings(args.format));
    headings.extend([
        Heading::left("metric"),
        Heading::right("value"),
        Heading::right("expected"),
        Heading::right("score"),
        Heading::left("since"),
        Heading::left("id"),
        Heading::left("message"),
        Heading::left("labels"),
        Heading::left("runbook"),
    ]);
    if args.firing {
        headings.extend([
            Heading::left("acknowledged_by").titled("acknowledged"),
            Heading::left("acknowledged_timestamp"),
            Heading::left("acknowledged_comment"),
            Heading::left("silenced_until").titled("silenced until"),
            Heading::left("silenced_by"),
            Heading::left("silence_comment"),
        ]);
    }
    // A table's width has no room for what the others have.
    let is_table = args.format == Format::Table;
    let headings = headings
        .into_iter()
        .filter(|heading| !is_table || IN_TABLES.contains(&heading.name.as_str()))
        .collect();
    let feed = until_stopped(&context.shutdown, AlertFeed::open(&context.config.kafka)).await?;
    let (sensor, registry) =
        until_stopped(&context.shutdown, Wanted::find(&mut args.selection, &context)).await?;
    let filter = Filter {
        severity: args.severity,
        state: args.state,
        range: Some(range),
        ..Filter::new(args.rule.clone(), &args.selection, sensor)
    };
    let runtime = Handle::current();
    // Reading blocks; the runtime's other threads go on with what signals and clients need.
    let work = move || {
        let records = context.output.records(args.format, args.time.zone()?, headings)?;
        let printer = Printer {
            records,
            filter,
            topic: Seen::default(),
            current: args.firing.then(Current::default),
            mutes: Mutes::default(),
            seen: HashSet::new(),
            pending: Vec::new(),
            parts: 0,
            remark: None,
            registry,
            runtime: runtime.clone(),
            args,
        };
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
        let batch = match runtime.block_on(until_stopped(shutdown, feed.next())) {
            // --follow has no other end.
            Err(error) if follows && error.is::<Interrupted>() => break,
            batch => batch?,
        };
        let (failed, strangers) =
            batch.each_record(&|| shutdown.is_requested(), |record| match printer.take_record(record) {
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
        printer.print()?;
        printer.records.show()?;
        runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = shutdown.requested() => {}
            }
        });
        if shutdown.is_requested() {
            break;
        }
    }
    if shutdown.is_requested() && !follows {
        return Err(Interrupted.into());
    }
    printer.print()?;
    let is_sorted = printer.parts <= 1 || follows;
    let found = printer.records.finish()?;
    if found == 0 && !follows {
        context.output.note(printer.remark.unwrap_or_else(|| printer.topic.remark(&printer.filter)));
    }
    if !is_sorted {
        context.output.note(format!(
            "more than {MAX_SORTED} alerts: each part of that many is sorted by time (shorten the range with --last)"
        ));
    }
    if foreign > 0 {
        context.output.note(one_or_many(
            foreign,
            "message of the topic is not an alert and was skipped",
            "messages of the topic are not alerts and were skipped",
        ));
    }
    Ok(())
}

const IN_TABLES: [&str; 8] = [
    "recorded_timestamp",
    "severity",
    "rule",
    "state",
    "iot_sensor_id",
    "message",
    "acknowledged_by",
    "silenced_until",
];

/// The name of the user, else the number.
fn user() -> String {
    let id = nix::unistd::Uid::effective();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => user.name,
        _ => id.to_string(),
    }
}

/// The names of sensors: those of the registry where Cassandra answers, else those that the alerts have.
struct Registry {
    session: Option<Session>,
    names: SensorNames,
    /// Whether the sensor of --sensor is registered.
    has_found: bool,
}

impl Registry {
    /// How long Cassandra may take: alerts are in Kafka, and are listed without it.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Also finds the sensor of --sensor by the name that people gave it.
    async fn open(selection: &mut SelectionArgs, context: &Context) -> anyhow::Result<Self> {
        let opened = async {
            let session = Session::connect(&context.config.cassandra).await?;
            match selection.find_sensor(&session).await {
                Ok(()) => Ok((session, true)),
                // The id of the name is that of alerts before the sensor was registered.
                Err(error) if error.is::<NoReadings>() => Ok((session, false)),
                Err(error) => Err(error),
            }
        };
        let (session, has_found) = match timeout(Self::PATIENCE, opened).await {
            Ok(Err(error)) if error.is::<UsageError>() => return Err(error),
            Ok(Ok((session, has_found))) => (Some(session), has_found),
            _ => {
                context.output.note("Cassandra does not answer: sensors have the names of their messages");
                (None, false)
            }
        };
        let names = if session.is_some() { selection.names() } else { SensorNames::default() };
        Ok(Self { session, names, has_found })
    }

    /// Of sensors whose groups are not known.
    async fn learn_by_id(&mut self, sensors: impl Iterator<Item = Uuid>) {
        let Some(session) = &self.session else { return };
        if !matches!(timeout(Self::PATIENCE, self.names.learn_by_id(session, sensors)).await, Ok(Ok(()))) {
            self.session = None;
        }
    }

    async fn learn<'a>(&mut self, alerts: impl Iterator<Item = &'a Alert>) {
        let Some(session) = &self.session else { return };
        let group = |alert: &Alert| {
            Arc::new(Group { location: alert.location.clone(), device_type: alert.device_type.clone() })
        };
        let sensors: Vec<_> = alerts.map(|alert| (group(alert), alert.iot_sensor_id)).collect();
        let learned = self.names.learn(session, sensors.iter().map(|(group, sensor)| (group, *sensor)));
        if !matches!(timeout(Self::PATIENCE, learned).await, Ok(Ok(()))) {
            self.session = None;
        }
    }
}

/// Collects the alerts that pass the filter, each once, and prints them in order of time.
struct Printer<W: Write> {
    records: Records<W>,
    args: ListArgs,
    filter: Filter,
    /// What the topic has, whatever the filter is.
    topic: Seen,
    /// With --firing.
    current: Option<Current>,
    /// The silences that people asked for.
    mutes: Mutes,
    /// The ids of all alerts that passed.
    seen: HashSet<Uuid>,
    /// Alerts that are not printed yet.
    pending: Vec<Alert>,
    /// How often pending alerts were printed.
    parts: usize,
    /// Why nothing that fires is shown.
    remark: Option<String>,
    registry: Registry,
    runtime: Handle,
}

impl<W: Write> Printer<W> {
    fn take_record(&mut self, record: Record) -> anyhow::Result<()> {
        match record {
            Record::Alert(alert) => self.take(*alert),
            Record::Acknowledgement(acknowledgement) => {
                if let Some(current) = &mut self.current {
                    current.acknowledge(acknowledgement);
                }
                Ok(())
            }
            Record::Silence(mute) => {
                self.mutes.add(*mute);
                Ok(())
            }
        }
    }

    fn take(&mut self, alert: Alert) -> anyhow::Result<()> {
        self.topic.note(&alert, &self.filter);
        if let Some(current) = &mut self.current {
            // Of all: what fires is told where nothing of it matches.
            current.add(alert);
            return Ok(());
        }
        if !self.filter.matches(&alert) {
            return Ok(());
        }
        if self.seen.insert(alert.id) {
            self.pending.push(alert);
        }
        if self.pending.len() < MAX_SORTED { Ok(()) } else { self.print() }
    }

    /// Prints what is pending.
    fn print(&mut self) -> anyhow::Result<()> {
        let mut alerts = std::mem::take(&mut self.pending);
        let current = self.current.take();
        match &current {
            Some(current) => {
                let firing = current.firing();
                alerts = firing.iter().filter(|alert| self.filter.matches(alert)).copied().cloned().collect();
                if alerts.is_empty() {
                    self.remark = Some(filter::nothing_fires(&self.filter, &self.topic, &firing));
                }
            }
            None => alerts.sort_by_key(|alert| alert.recorded_timestamp),
        }
        self.parts += usize::from(!alerts.is_empty());
        for part in alerts.chunks(NAMES_AT_ONCE) {
            self.runtime.block_on(self.registry.learn(part.iter()));
            for alert in part {
                let seen = current.as_ref().and_then(|current| current.acknowledgement(alert));
                self.write(alert, seen)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, alert: &Alert, seen: Option<&Acknowledgement>) -> anyhow::Result<()> {
        let recorded_at = alert.recorded_timestamp.timestamp_millis();
        let number = |number: Option<f64>| number.map_or(Cell::Missing, Cell::Double);
        let Self { records, registry, args, mutes, .. } = self;
        let mute = mutes.holding(alert, Utc::now()).filter(|_| args.firing);
        let labels = (!alert.labels.is_empty()).then(|| alert.labels_text());
        let name = registry.names.get(alert.iot_sensor_id).or(alert.sensor_name.as_deref());
        let sensor = sensor_cells(args.format, alert.iot_sensor_id, name);
        let mut cells = vec![
            Cell::Moment(recorded_at),
            Cell::Text(alert.severity.name()),
            Cell::Text(&alert.rule),
            Cell::Text(alert.state.name()),
        ];
        if args.format == Format::Table {
            cells.extend(sensor);
            cells.push(Cell::Text(&alert.message));
            if args.firing {
                cells.push(seen.map_or(Cell::Missing, |seen| Cell::Text(&seen.by)));
                cells.push(mute.map_or(Cell::Missing, |mute| Cell::Moment(mute.ends.timestamp_millis())));
            }
            return records.write(&cells);
        }
        cells.extend([Cell::Text(&alert.location), Cell::Text(&alert.device_type)]);
        cells.extend(sensor);
        cells.extend([
            Cell::Text(&alert.metric),
            Cell::Number(alert.value),
            number(alert.expected),
            number(alert.score),
            Cell::Moment(alert.since.timestamp_millis()),
            Cell::Uuid(alert.id),
            Cell::Text(&alert.message),
            labels.as_deref().map_or(Cell::Missing, Cell::Text),
            alert.runbook.as_deref().map_or(Cell::Missing, Cell::Text),
        ]);
        if args.firing {
            cells.extend([
                seen.map_or(Cell::Missing, |seen| Cell::Text(&seen.by)),
                seen.map_or(Cell::Missing, |seen| {
                    Cell::Moment(seen.acknowledged_timestamp.timestamp_millis())
                }),
                seen.and_then(|seen| seen.comment.as_deref()).map_or(Cell::Missing, Cell::Text),
                mute.map_or(Cell::Missing, |mute| Cell::Moment(mute.ends.timestamp_millis())),
                mute.map_or(Cell::Missing, |mute| Cell::Text(&mute.by)),
                mute.and_then(|mute| mute.comment.as_deref()).map_or(Cell::Missing, Cell::Text),
            ]);
        }
        records.write(&cells)
    }
}
