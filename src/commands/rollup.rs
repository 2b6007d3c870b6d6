//! `iotctl rollup`: computes rollups on demand, or checks them.

use std::cell::Cell as Counter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::flags::{GroupArgs, TimeArgs};
use super::support::{NAMES_AT_ONCE, until_stopped};
use crate::cassandra::Session;
use crate::output::text::plural;
use crate::output::text::visible;
use crate::output::{ReportFormat, table};
use crate::reading::Group;
use crate::rollups::due::{Due, Scope};
use crate::rollups::verify::{self, Mismatch, Verified};
use crate::rollups::writer::{Done, RollupError, RollupWriter};
use crate::store::readings;
use crate::store::sensors::SensorNames;
use crate::time::{self, TimeRange};
use crate::time::{DAY, HOUR};

/// How often `--watch` looks for due hours.
const WATCH_INTERVAL: Duration = Duration::from_secs(30);
/// Differences that are listed.
const MOST_LISTED: usize = 20;

/// Compute hourly and daily rollups, or check them.
///
/// `ingest` does the same while it runs (rollup.in_ingest). Rollups only make `extremes` and `stats` faster: hours without
/// rollups, or with late readings since, are read from the raw rows. An hour is rolled up ten minutes after its end, and
/// again a minute after the last late reading; this command waits for that minute.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl rollup                         # everything that is due, once: after an import, or if rollup.in_ingest = false
  iotctl rollup --watch                 # until Ctrl-C
  iotctl rollup --verify --last 7d      # compute again, compare, change nothing; exit code 1 if anything differs
  iotctl rollup --rebuild --from 2026-01-01 --to 2026-02-01 --location plant-1")]
pub struct RollupArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    /// The days that this time range touches; all if it is left out
    #[command(flatten)]
    pub time: TimeArgs,
    /// Keep running until stopped
    #[arg(long)]
    pub watch: bool,
    /// Compute rollups again and compare them with the stored ones
    #[arg(long, conflicts_with_all = ["watch", "rebuild"])]
    pub verify: bool,
    /// Compute existing rollups again
    #[arg(long, conflicts_with = "watch")]
    pub rebuild: bool,
    /// Skip hours in which late readings have just arrived, instead of waiting for them
    #[arg(long)]
    pub no_wait: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// The closing report.
#[derive(Debug, Default, Serialize)]
struct Report {
    hours: u64,
    days: u64,
    readings: u64,
    rollups: u64,
    /// Hours skipped because late readings have just arrived in them.
    resting_hours: u64,
    /// Groups that another process is working on.
    busy_groups: u64,
    seconds: f64,
}

pub async fn run(args: RollupArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let session = Session::connect(&context.config.cassandra).await?;
    if args.verify {
        let groups = until_stopped(&context.shutdown, args.group.selection().resolve(&session)).await?;
        return check(&args, &context, &session, &groups, range).await;
    }
    let writer = until_stopped(&context.shutdown, RollupWriter::new(&session, &context.config)).await?;
    let started = Instant::now();
    let mut report = Report::default();
    loop {
        let groups = until_stopped(&context.shutdown, args.group.selection().resolve(&session)).await;
        let round = match groups {
            Ok(groups) => round(&args, &context, &writer, &groups, range, &mut report).await,
            Err(error) => Err(error),
        };
        match round {
            Ok(()) if !args.watch => break,
            // Watching ends when it is stopped: what was done so far is reported.
            Err(_) if args.watch && context.shutdown.is_requested() => break,
            round => round?,
        }
        let pause = tokio::time::sleep(WATCH_INTERVAL);
        tokio::select! {
            () = pause => {}
            () = context.shutdown.requested() => break,
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    print(&report, &args, &context)
}

/// Everything that is due now, and then the hours that had to rest first.
async fn round(
    args: &RollupArgs,
    context: &Context,
    writer: &RollupWriter,
    groups: &[Arc<Group>],
    range: TimeRange,
    report: &mut Report,
) -> anyhow::Result<()> {
    let scope = if args.rebuild { Scope::Everything } else { Scope::Due };
    let patience = !args.no_wait && !args.watch;
    let rests_for = pass(context, writer, groups, range, scope, report).await?;
    let Some(rests_for) = rests_for.filter(|_| patience) else { return Ok(()) };
    context.output.note(format!(
        "late readings have just arrived in {}: waiting {:.0} s (--no-wait skips what waits)",
        plural(report.resting_hours, "hour"),
        rests_for.as_secs_f64().ceil()
    ));
    let rest = async {
        tokio::time::sleep(rests_for + Duration::from_millis(50)).await;
        Ok::<_, anyhow::Error>(())
    };
    until_stopped(&context.shutdown, rest).await?;
    report.resting_hours = 0;
    pass(context, writer, groups, range, Scope::Due, report).await?;
    Ok(())
}

/// One pass over the groups. Returns how long the youngest markers still have to rest.
async fn pass(
    context: &Context,
    writer: &RollupWriter,
    groups: &[Arc<Group>],
    range: TimeRange,
    scope: Scope,
    report: &mut Report,
) -> anyhow::Result<Option<Duration>> {
    let mut all = Vec::new();
    let mut rests_for: Option<Duration> = None;
    report.resting_hours = 0;
    for group in groups {
        let due: Due = until_stopped(&context.shutdown, writer.due(group, range, scope)).await?;
        rests_for = rests_for.max(due.rests_for);
        report.resting_hours += due.resting as u64;
        if !due.days.is_empty() {
            all.push((group, due));
        }
    }
    let hours: usize = all.iter().map(|(_, due)| due.hours()).sum();
    let bar = context.output.bar(hours as u64, "hours");
    for (group, due) in all {
        let mut leased = match until_stopped(&context.shutdown, writer.lease(group)).await {
            Ok(leased) => leased,
            Err(error) => match error.downcast::<RollupError>() {
                Ok(busy @ RollupError::Leased { .. }) => {
                    context.output.note(busy.to_string());
                    report.busy_groups += 1;
                    bar.inc(due.hours() as u64);
                    continue;
                }
                Ok(other) => return Err(other.into()),
                Err(error) => return Err(error),
            },
        };
        let mut rolled = Ok(());
        for day in &due.days {
            let seen = Counter::new(0);
            let each_hour = |done: &Done| {
                bar.inc(done.hours - seen.get());
                seen.set(done.hours);
            };
            match until_stopped(&context.shutdown, leased.roll(day, each_hour)).await {
                Ok(Done { hours, days, readings, summaries }) => {
                    report.hours += hours;
                    report.days += days;
                    report.readings += readings;
                    report.rollups += summaries;
                }
                Err(error) => {
                    rolled = Err(error);
                    break;
                }
            }
        }
        leased.release().await;
        rolled?;
    }
    bar.finish_and_clear();
    Ok(rests_for)
}

fn print(report: &Report, args: &RollupArgs, context: &Context) -> anyhow::Result<()> {
    if args.format == ReportFormat::Json {
        return context.output.json(report);
    }
    if report.hours + report.days + report.resting_hours + report.busy_groups == 0 {
        context.output.note("nothing is due: every past hour has its rollups");
        return Ok(());
    }
    let count = |count: u64| indicatif::HumanCount(count).to_string();
    let rows = [
        ("hours", count(report.hours)),
        ("days", count(report.days)),
        ("readings", count(report.readings)),
        ("rollups written", count(report.rollups)),
        ("hours still resting", count(report.resting_hours)),
        ("groups skipped (busy)", count(report.busy_groups)),
        ("elapsed", format!("{:.1} s", report.seconds)),
    ];
    context.output.table(&table::report(rows))
}

#[derive(Debug, Serialize)]
struct Checked<'a> {
    hours: u64,
    days: u64,
    readings: u64,
    rollups: u64,
    expired_hours: u64,
    differences: Vec<Listed<'a>>,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    location: &'a str,
    device_type: &'a str,
    period: &'static str,
    start: String,
    metric: &'a str,
    iot_sensor_id: uuid::Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<&'a str>,
    what: &'static str,
}

impl<'a> Listed<'a> {
    fn of(found: &'a verify::Difference, names: &'a SensorNames) -> Self {
        Self {
            location: &found.group.location,
            device_type: &found.group.device_type,
            period: if found.period == HOUR { "hour" } else { "day" },
            start: time::display(found.start),
            metric: &found.metric,
            iot_sensor_id: found.sensor,
            sensor_name: names.get(found.sensor),
            what: match found.mismatch {
                Mismatch::Missing => "missing",
                Mismatch::WithoutRows => "without rows",
                Mismatch::Differs => "differs",
                Mismatch::OldSketch => "has the percentiles of an older version",
            },
        }
    }
}

/// Compares; fails if anything differs.
async fn check(
    args: &RollupArgs,
    context: &Context,
    session: &Session,
    groups: &[Arc<Group>],
    range: TimeRange,
) -> anyhow::Result<()> {
    let table_ttl = until_stopped(&context.shutdown, readings::time_to_live(session)).await?;
    let oldest_row = |group: &Group| {
        let own = context.config.retention.of(&group.device_type);
        let ttl = own.into_iter().chain(table_ttl).min().and_then(|ttl| i64::try_from(ttl.as_millis()).ok());
        ttl.map_or(i64::MIN, |ttl| Utc::now().timestamp_millis() - ttl + DAY)
    };
    let mut verified = Verified::default();
    let bar = context.output.bar(groups.len() as u64, "groups");
    for group in groups {
        let verify = verify::verify(session, group, range, oldest_row(group), &mut verified);
        until_stopped(&context.shutdown, verify).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let Verified { hours, days, readings, summaries, expired, ref differences } = verified;
    let mut names = SensorNames::default();
    let listed = differences.iter().take(NAMES_AT_ONCE).map(|found| (&found.group, found.sensor));
    until_stopped(&context.shutdown, names.learn(session, listed)).await?;
    let list = |found| Listed::of(found, &names);
    if args.format == ReportFormat::Json {
        let differences = differences.iter().map(list).collect();
        context.output.json(&Checked {
            hours,
            days,
            readings,
            rollups: summaries,
            expired_hours: expired,
            differences,
        })?;
    } else {
        let count = |count: u64| indicatif::HumanCount(count).to_string();
        let rows = [
            ("hours compared", count(hours)),
            ("days compared", count(days)),
            ("readings", count(readings)),
            ("rollups", count(summaries)),
            ("hours whose rows may have expired", count(expired)),
            ("differences", count(differences.len() as u64)),
        ];
        context.output.table(&table::report(rows))?;
        for found in differences.iter().take(MOST_LISTED).map(list) {
            let Listed { location, device_type, period, start, metric, iot_sensor_id, sensor_name, what } =
                found;
            let sensor =
                sensor_name.map_or_else(|| iot_sensor_id.to_string(), |name| visible(name).into_owned());
            context.output.print(format!(
                "{period} {start}, {}, {}, {}, sensor {sensor}: {what}",
                visible(location),
                visible(device_type),
                visible(metric)
            ))?;
        }
    }
    anyhow::ensure!(
        differences.is_empty(),
        "{} rollups differ from their rows (`iotctl rollup --rebuild` computes them again)",
        differences.len()
    );
    Ok(())
}
