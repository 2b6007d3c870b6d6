//! `iotctl alerts check`: what rules would have told of the stored readings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use crate::alerting::alert::State;
use crate::alerting::rules::Reach;
use crate::alerting::{Alert, Detector};
use crate::analytics::groups::Selection;
use crate::analytics::scan::Question;
use crate::analytics::{Order, Scan};
use crate::cassandra::Session;
use crate::commands::Context;
use crate::commands::flags::ZoneArgs;
use crate::commands::support::{NOTHING_STORED, rules, until_stopped};
use crate::error::UsageError;
use crate::kafka::TopicPartition;
use crate::output::text::{grouped, length};
use crate::output::{Output, ReportFormat, table};
use crate::reading::Group;
use crate::store::groups;
use crate::time::{self, TimeRange, Zone};

/// Show what rules would have told of the stored readings.
///
/// Reads the readings of the time before now in their order and judges them as `ingest --detect` does: by the same code, from
/// empty windows. Nothing is sent. Per rule: the number of episodes, the sensors that had one, how many still last, the longest
/// one, and when the first and the last one began to fire. Use it to choose limits before a rule goes live. Readings that came
/// late are judged in the order of their times here, which `ingest` does not judge at all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl alerts check rules.toml
  iotctl alerts check rules.toml --against 30d --location plant-1
  iotctl alerts check rules.toml --against 24h --format json

Exit status:
  0    the rules are well formed, and the readings were judged
  1    failed
  2    an argument or the file of rules is wrong")]
pub struct CheckArgs {
    /// File of rules, as for `iotctl ingest --detect`
    #[arg(value_name = "RULES.toml")]
    pub rules: PathBuf,
    /// Length of the time before now: 24h, 7d
    #[arg(long, value_name = "LENGTH", default_value = "7d")]
    pub against: String,
    /// Only readings of this location
    #[arg(long, value_name = "NAME")]
    pub location: Option<String>,
    /// Only readings of this device type
    #[arg(long, value_name = "NAME")]
    pub device_type: Option<String>,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: ReportFormat,
}

/// What was judged, and what the rules would have told.
#[derive(Debug, Serialize)]
struct Report {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    readings: u64,
    rules: Vec<Told>,
}

/// The episodes of one rule.
#[derive(Debug, Serialize)]
struct Told {
    rule: String,
    episodes: u64,
    sensors: usize,
    /// Episodes without an end.
    firing: u64,
    /// From `since` to the end, or to the end of the readings.
    longest_seconds: f64,
    /// When the first and the last episode began to fire.
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
}

/// What is gathered of a rule.
#[derive(Debug, Default)]
struct Episodes {
    count: u64,
    sensors: BTreeSet<Uuid>,
    /// The beginning of the episodes that go on.
    open: HashMap<Uuid, DateTime<Utc>>,
    longest: i64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
}

impl Episodes {
    fn take(&mut self, alert: &Alert) {
        match alert.state {
            State::Firing => {
                self.count += 1;
                self.sensors.insert(alert.iot_sensor_id);
                self.open.insert(alert.iot_sensor_id, alert.since);
                let at = alert.recorded_timestamp;
                self.first = Some(self.first.map_or(at, |first| first.min(at)));
                self.last = Some(self.last.map_or(at, |last| last.max(at)));
            }
            State::Resolved => {
                self.open.remove(&alert.iot_sensor_id);
                self.lasted(alert.since, alert.recorded_timestamp);
            }
        }
    }

    fn lasted(&mut self, since: DateTime<Utc>, until: DateTime<Utc>) {
        self.longest = self.longest.max((until - since).num_milliseconds());
    }

    fn finish(mut self, rule: &str, end: DateTime<Utc>) -> Told {
        if let Some(since) = self.open.values().min().copied() {
            self.lasted(since, end);
        }
        Told {
            rule: rule.to_owned(),
            episodes: self.count,
            sensors: self.sensors.len(),
            firing: self.open.len() as u64,
            longest_seconds: self.longest as f64 / 1e3,
            first: self.first,
            last: self.last,
        }
    }
}

pub(super) async fn run(args: CheckArgs, context: Context) -> anyhow::Result<()> {
    let (rules, zone) = (rules(&args.rules)?, args.zone.zone()?);
    let length =
        time::length(&args.against).map_err(|error| UsageError::new(format!("--against: {error}")))?;
    let to = time::now();
    let range = TimeRange { from: to.saturating_sub(length), to };
    let names = rules.names();
    let selection = Selection { location: args.location, device_type: args.device_type };
    let session = Session::connect(&context.config.cassandra).await?;
    let groups = until_stopped(&context.shutdown, selection.resolve(&session)).await?;
    let known = groups.clone();
    let mut reach = Reach::new(&rules);
    let question =
        Question { groups, sensor: None, range, filter: None, chosen: None, order: Some(Order::Asc) };
    let judged = judge(&session, question, Detector::new(rules), range, &mut reach);
    let (readings, mut episodes) = until_stopped(&context.shutdown, judged).await?;
    let moment = |at: i64| DateTime::from_timestamp_millis(at).unwrap_or_default();
    let rules = names.iter().map(|name| episodes.remove(name).unwrap_or_default().finish(name, moment(to)));
    let report = Report { from: moment(range.from), to: moment(to), readings, rules: rules.collect() };
    print(&report, args.format, zone, &context.output)?;
    if readings > 0 {
        reach.remarks().iter().for_each(|remark| context.output.note(remark));
        return Ok(());
    }
    let remark = until_stopped(&context.shutdown, why_nothing(&session, &known, &args.against, zone)).await?;
    context.output.note(remark);
    Ok(())
}

/// Why no reading was judged.
async fn why_nothing(
    session: &Session,
    groups: &[Arc<Group>],
    against: &str,
    zone: Zone,
) -> anyhow::Result<String> {
    let mut newest: Option<i64> = None;
    for group in groups {
        newest = newest.max(groups::summary(session, group).await?.last_recorded_at);
    }
    Ok(match newest {
        Some(newest) => format!(
            "no readings in the last {against}: the newest is at {} (choose a longer --against)",
            zone.show(newest)
        ),
        None => NOTHING_STORED.to_owned(),
    })
}

async fn judge(
    session: &Session,
    question: Question,
    mut detector: Detector,
    range: TimeRange,
    reach: &mut Reach,
) -> anyhow::Result<(u64, BTreeMap<String, Episodes>)> {
    // All are read in one order, so all count as one partition.
    let partition = TopicPartition::new("check", 0);
    let mut episodes: BTreeMap<String, Episodes> = BTreeMap::new();
    let mut readings = 0;
    let mut scan = Scan::start(session, question).await?;
    while let Some(chunk) = scan.next().await? {
        readings += chunk.len() as u64;
        for reading in &chunk {
            let reading = reading.as_reading();
            reach.note(&reading);
            detector.observe(partition, &reading, |alert| {
                episodes.entry(alert.rule.clone()).or_default().take(&alert);
            });
        }
    }
    detector.judge_silence(
        |_| Some(range.to),
        |alert| episodes.entry(alert.rule.clone()).or_default().take(&alert),
    );
    Ok((readings, episodes))
}

fn print(report: &Report, format: ReportFormat, zone: Zone, output: &Output) -> anyhow::Result<()> {
    if format == ReportFormat::Json {
        return output.json(report);
    }
    let moments = ["first", "last"].map(|name| format!("{name} ({})", zone.name()));
    let [first, last] = &moments;
    let headings = ["rule", "episodes", "sensors", "firing", "longest", first.as_str(), last.as_str()];
    let mut table = table::table(&headings, &[1, 2, 3])
        .whole(4)
        .whole(5)
        .whole(6)
        .shortened("times are shortened to month, day and minute");
    for told in &report.rules {
        let moment = |at: Option<DateTime<Utc>>, pattern| {
            at.map_or_else(|| "-".to_owned(), |at| zone.format(at.timestamp_millis(), pattern))
        };
        let both = |at| (moment(at, "%Y-%m-%d %H:%M:%S"), Some(moment(at, "%m-%d %H:%M")));
        let longest = if told.episodes == 0 { "-".to_owned() } else { length(told.longest_seconds as u64) };
        table.add_row_with_shorter([
            (told.rule.clone(), None),
            (told.episodes.to_string(), None),
            (told.sensors.to_string(), None),
            (told.firing.to_string(), None),
            (longest, None),
            both(told.first),
            both(told.last),
        ]);
    }
    output.table(&table)?;
    output.note(format!("{} judged", grouped(report.readings, "reading")));
    Ok(())
}
