//! `iotctl simulate`: flags -> a [`Plan`], a live line while it runs, a closing report.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::Args;

use super::Context;
use super::flags::ColumnArgs;
use super::support::decode_limits;
use crate::config::Config;
use crate::error::{Interrupted, UsageError};
use crate::mapping::Mapping;
use crate::mapping::rows::RowMapping;
use crate::output::table::{self, Table};
use crate::output::text::{one_or_many, plural};
use crate::output::{Output, ReportFormat};
use crate::simulation::clock::Clock;
use crate::simulation::deliveries::Tally;
use crate::simulation::disorder::Disorder;
use crate::simulation::fleet::FleetPlan;
use crate::simulation::pace::Pace;
use crate::simulation::recording::{RecordingPlan, TimeShift};
use crate::simulation::signals::{DEVICE_TYPES, DeviceType, device_type};
use crate::simulation::{Feed, Limit, Plan, Report, Target, run as run_plan};
use crate::time;

/// Messages per second without --rate.
const DEFAULT_RATE: f64 = 1000.0;
const MAX_SENSORS: usize = 1_000_000;
const MAX_LOCATIONS: usize = 100_000;

const EXAMPLES: &str = "\
Examples:
  Send 5,000 readings a second until Ctrl-C:
    iotctl simulate --rate 5000
  Send two million readings as fast as the broker accepts them, spread over past days:
    iotctl simulate --rate 0 --count 2000000 --start 2026-01-01T00:00:00Z --step 1m
  Send disordered readings for 30 seconds, with a ledger of what the broker acknowledged:
    iotctl simulate --duration 30s --late 0.01 --duplicate 0.01 --malformed 0.001 --ledger run.ledger
  Print messages without sending them:
    iotctl simulate --stdout --count 3
  Replay the recorded temperature of a machine, one hour per minute, ending now:
    iotctl simulate --replay machine.csv --speed 60 --time-shift now \\
      --map timestamp=recorded_timestamp,value=temperature --unit temperature=fahrenheit \\
      --set location=plant-1,device_type=machine
  Replay what gateways sent, through the mapping that ingest uses for it:
    iotctl simulate --replay batches.ndjson --mapping gateway.toml --time-shift now";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SimulateArgs {
    /// Messages per second; 0 for as fast as the broker accepts them [default: 1000, or 0 with --replay]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Stop after this long, such as 30s or 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print the messages as NDJSON instead of sending them
    #[arg(long, conflicts_with = "ledger")]
    stdout: bool,
    /// Append acknowledged messages to FILE: sensor, timestamp, partition, offset, injected extremes
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Output format of the closing report
    #[arg(long, value_enum, default_value_t, conflicts_with = "stdout")]
    format: ReportFormat,
    #[command(flatten)]
    fleet: Box<FleetArgs>,
    #[command(flatten)]
    disorder: DisorderArgs,
    #[command(flatten)]
    replay: Box<ReplayArgs>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Fleet")]
struct FleetArgs {
    /// Random seed: the same seed gives the same sensors, and with --start the same readings
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Number of sensors
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "replay")]
    sensors: usize,
    /// Number of locations: plant-1, plant-2, …
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "replay")]
    locations: usize,
    /// Device types, comma-separated [default: all: thermostat, hygrometer, motion-detector, air-quality,
    /// weather-station]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "replay")]
    device_types: Vec<String>,
    /// Time of the first reading of each sensor, such as 2026-01-01T00:00:00Z [default: readings are taken now]
    #[arg(long, value_name = "TIME", conflicts_with = "replay")]
    start: Option<String>,
    /// Time between two readings of a sensor, with --start [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "start")]
    step: Option<Duration>,
    /// Probability that a reading has an injected extreme value
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0001,
        conflicts_with = "replay",
        allow_negative_numbers = true
    )]
    extremes: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Disorder (probabilities from 0 to 1, per reading)")]
struct DisorderArgs {
    /// A reading taken minutes to hours before its neighbours
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    late: f64,
    /// A message sent after some of its successors
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    out_of_order: f64,
    /// A value that is absent, null, or the legacy -999.0
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    missing: f64,
    /// A message sent twice
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    duplicate: f64,
    /// A message that can never be stored
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    malformed: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Replay")]
struct ReplayArgs {
    /// Send recorded readings instead: NDJSON in the wire format, or CSV; - is standard input
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Keep the intervals of the recording, N times faster
    #[arg(
        long,
        value_name = "N",
        requires = "replay",
        conflicts_with = "rate",
        allow_negative_numbers = true
    )]
    speed: Option<f64>,
    /// Turn lines of any other form into readings by this mapping file or preset
    ///
    /// A line of text is a payload, and a row of CSV an object of its columns. Readings are sent in the built-in format, so
    /// that the topic's ingest needs no mapping. Lines have no key, headers or time of their own.
    #[arg(long, value_name = "FILE|PRESET", requires = "replay")]
    mapping: Option<String>,
    /// Name of the mapping's source that the lines are of [default: the only one, or by the file's name as a topic]
    #[arg(long, value_name = "NAME", requires = "mapping")]
    source: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Shift the times of the recording: `now` makes the last reading now; or +7d, -1h
    #[arg(long, value_name = "SHIFT", requires = "replay", allow_hyphen_values = true)]
    time_shift: Option<String>,
    /// Skip and count lines that are not readings, instead of stopping at the first
    #[arg(long, requires = "replay")]
    skip_bad: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be greater than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error} (write it like 30s, 5m or 1h)")),
    }
}

pub async fn run(args: SimulateArgs, context: Context) -> anyhow::Result<()> {
    let Context { config, output, shutdown, .. } = context;
    let plan = args.plan(&config)?;
    let bounded = plan.is_bounded();
    let target =
        if args.stdout { Target::Stdout(output) } else { Target::Kafka(Box::new(config.kafka.clone())) };
    let tally = Arc::new(Tally::default());
    let work = run_plan(plan, target, Arc::clone(&tally), shutdown);
    let report = watch(work, &tally, &output, args.stdout).await?;
    remarks(&report, &output);
    match args.format {
        _ if args.stdout => output.note(format!("{} written", plural(report.counts.sent, "message"))),
        ReportFormat::Json => output.json(&report)?,
        ReportFormat::Table => output.table(&summary(&report, &config.kafka.topic))?,
    }
    if report.failed > 0 {
        anyhow::bail!(
            "{} of {} messages were not delivered; the first error: {}",
            report.failed,
            report.counts.sent,
            report.first_error.as_deref().unwrap_or("unknown")
        );
    }
    // Ctrl-C is how an endless run ends; it interrupts any other.
    if report.interrupted && bounded {
        return Err(Interrupted.into());
    }
    Ok(())
}

impl SimulateArgs {
    /// The flags as a plan, or a usage error.
    fn plan(&self, config: &Config) -> Result<Plan, UsageError> {
        let feed = match &self.replay.replay {
            Some(path) => Feed::Recording(self.replay.plan(path.clone(), config)?),
            None if !self.replay.columns.flags()?.is_empty() => {
                return Err(UsageError::new(
                    "--map, --set and --unit are about a recording (name it with --replay)",
                ));
            }
            None => Feed::Fleet(self.fleet.plan()?),
        };
        Ok(Plan {
            feed,
            disorder: self.disorder.plan()?,
            seed: self.fleet.seed,
            pace: self.pace()?,
            limit: Limit { count: self.count, duration: self.duration },
            ledger: self.ledger.clone(),
        })
    }

    fn pace(&self) -> Result<Pace, UsageError> {
        if let Some(speed) = self.replay.speed {
            if !(speed.is_finite() && speed > 0.0) {
                return Err(UsageError::new(format!(
                    "--speed {speed}: must be greater than 0, such as 60 for one hour per minute \
                     (leave it out to send as fast as the broker accepts them)"
                )));
            }
            return Ok(Pace::Recorded { speed });
        }
        let default = if self.replay.replay.is_some() { 0.0 } else { DEFAULT_RATE };
        match self.rate.unwrap_or(default) {
            0.0 => Ok(Pace::Unbounded),
            rate if rate.is_finite() && rate >= 0.001 => Ok(Pace::Rate(rate)),
            rate => Err(UsageError::new(format!(
                "--rate {rate}: must be messages per second, such as 5000, or 0 for as fast as possible"
            ))),
        }
    }
}

impl FleetArgs {
    fn plan(&self) -> Result<FleetPlan, UsageError> {
        within("--sensors", self.sensors, MAX_SENSORS)?;
        within("--locations", self.locations, MAX_LOCATIONS)?;
        let clock = match &self.start {
            None => Clock::Wall,
            Some(text) => {
                let start = time::recorded(text).ok_or_else(|| {
                    UsageError::new(format!(
                        "--start {text:?}: not a time (write it like 2026-01-01T00:00:00Z; UTC without a zone)"
                    ))
                })?;
                Clock::Stepped { start, step: self.step.unwrap_or(Duration::from_secs(60)) }
            }
        };
        let device_types: Vec<&'static DeviceType> = match self.device_types.as_slice() {
            [] => DEVICE_TYPES.iter().collect(),
            names => names.iter().map(|name| known_type(name)).collect::<Result<_, _>>()?,
        };
        Ok(FleetPlan {
            seed: self.seed,
            sensors: self.sensors,
            locations: self.locations,
            device_types,
            clock,
            extreme: probability("--extremes", self.extremes)?,
        })
    }
}

impl DisorderArgs {
    fn plan(&self) -> Result<Disorder, UsageError> {
        Ok(Disorder {
            late: probability("--late", self.late)?,
            out_of_order: probability("--out-of-order", self.out_of_order)?,
            missing: probability("--missing", self.missing)?,
            duplicate: probability("--duplicate", self.duplicate)?,
            malformed: probability("--malformed", self.malformed)?,
        })
    }
}

impl ReplayArgs {
    fn plan(&self, path: PathBuf, config: &Config) -> Result<RecordingPlan, UsageError> {
        let shift = self.time_shift.as_deref().map(TimeShift::from_str).transpose()?;
        let rows = match &self.mapping {
            Some(place) => {
                let mapping = Arc::new(Mapping::load(place)?);
                Some(RowMapping::of(&mapping, self.source.as_deref(), &path)?)
            }
            None => None,
        };
        Ok(RecordingPlan {
            rows,
            path,
            flags: self.columns.flags()?,
            shift: shift.unwrap_or_default(),
            skip_bad: self.skip_bad,
            limits: decode_limits(&config.ingest),
        })
    }
}

fn within(flag: &str, value: usize, most: usize) -> Result<(), UsageError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(UsageError::new(format!("{flag} {value}: must be from 1 to {most}")))
}

fn probability(flag: &str, value: f64) -> Result<f64, UsageError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(UsageError::new(format!("{flag} {value}: must be from 0 to 1 (0.01 for one in a hundred)")))
}

fn known_type(name: &str) -> Result<&'static DeviceType, UsageError> {
    device_type(name.trim()).ok_or_else(|| {
        let known: Vec<_> = DEVICE_TYPES.iter().map(|device| device.name).collect();
        UsageError::new(format!("--device-types {name}: unknown (known: {})", known.join(", ")))
    })
}

/// Drives the run under a live line; without a terminal, prints a plain line every ten seconds.
async fn watch(
    work: impl Future<Output = anyhow::Result<Report>>,
    tally: &Tally,
    output: &Output,
    stdout: bool,
) -> anyhow::Result<Report> {
    let line = output.live_line();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let begin = Instant::now();
    let (mut last, mut last_note) = ((begin, 0), begin);
    tokio::pin!(work);
    let report = loop {
        tokio::select! {
            report = &mut work => break report,
            _ = tick.tick() => {}
        }
        let (now, sent) = (Instant::now(), tally.sent.load(Relaxed));
        let seconds = (now - last.0).as_secs_f64();
        if seconds < 0.2 || (sent == 0 && stdout) {
            continue;
        }
        let rate = (sent - last.1) as f64 / seconds;
        last = (now, sent);
        let text = progress(rate, sent, tally);
        if output.stderr_is_terminal {
            line.set_message(text);
            line.tick();
        } else if now - last_note >= Duration::from_secs(10) {
            last_note = now;
            output.note(text);
        }
    };
    line.finish_and_clear();
    report
}

fn progress(rate: f64, sent: u64, tally: &Tally) -> String {
    let (acknowledged, failed) = (tally.acknowledged.load(Relaxed), tally.failed.load(Relaxed));
    format!(
        "{}/s · {} sent · {} acknowledged · {} failed",
        grouped(rate.round() as u64),
        grouped(sent),
        grouped(acknowledged),
        grouped(failed)
    )
}

/// Remarks that the numbers alone do not show.
fn remarks(report: &Report, output: &Output) {
    if !report.ignored_columns.is_empty() {
        output.note(format!(
            "columns that were not sent: {} (map them with --map COLUMN=FIELD)",
            report.ignored_columns.join(", ")
        ));
    }
    if report.skipped_lines > 0 {
        output.note(format!(
            "{} skipped by the mapping",
            one_or_many(report.skipped_lines, "line of the recording is", "lines of the recording are")
        ));
    }
    if report.bad_lines > 0 {
        output.note(one_or_many(
            report.bad_lines,
            "line of the recording is not a reading and was skipped",
            "lines of the recording are not readings and were skipped",
        ));
    }
    if report.ahead_seconds > 1.0 {
        output.note(format!(
            "the times of the readings are {:.0} s ahead of the clock: too few sensors for this rate \
             (raise --sensors, or use --start and --step)",
            report.ahead_seconds
        ));
    }
    if report.given_up_seconds > 0.0 {
        output.note(format!(
            "the broker could not keep up: {:.1} s of the schedule were skipped",
            report.given_up_seconds
        ));
    }
}

fn summary(report: &Report, topic: &str) -> Table {
    let counts = &report.counts;
    let mut rows = vec![
        ("topic", topic.to_owned()),
        ("sent", grouped(counts.sent)),
        ("acknowledged", grouped(report.acknowledged)),
        ("failed", grouped(report.failed)),
    ];
    for (name, count) in [
        ("injected extremes", counts.extremes),
        ("late", counts.late),
        ("out of order", counts.out_of_order),
        ("values missing", counts.missing),
        ("duplicates", counts.duplicates),
        ("malformed", counts.malformed),
        ("bad lines skipped", report.bad_lines),
    ] {
        if count > 0 {
            rows.push((name, grouped(count)));
        }
    }
    rows.push(("elapsed", format!("{:.2} s", report.elapsed_seconds)));
    rows.push(("rate sent", format!("{} /s", grouped(report.rate.round() as u64))));
    rows.push(("rate acknowledged", format!("{} /s", grouped(report.acknowledged_rate.round() as u64))));
    if let Some(latency) = report.latency {
        rows.push(("delivery p50", format!("{:.1} ms", latency.p50_ms)));
        rows.push(("delivery p99", format!("{:.1} ms", latency.p99_ms)));
    }
    table::report(rows)
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn plan(flags: &[&str]) -> Result<Plan, String> {
        let line = Line::try_parse_from(std::iter::once("simulate").chain(flags.iter().copied()))
            .map_err(|error| error.to_string())?;
        line.args.plan(&Config::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_a_thousand_sensors_at_a_thousand_a_second_without_end() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.pace, Pace::Rate(1000.0));
        assert!(!plan.is_bounded());
        let Feed::Fleet(fleet) = plan.feed else { panic!("a fleet") };
        assert_eq!((fleet.sensors, fleet.locations, fleet.device_types.len()), (1000, 5, 5));
    }

    #[test]
    fn a_replay_is_as_fast_as_possible_unless_told_otherwise() {
        let replay = |more: &[&str]| plan(&[&["--replay", "x.csv"], more].concat()).unwrap();
        assert_eq!(replay(&[]).pace, Pace::Unbounded);
        assert_eq!(replay(&["--rate", "50"]).pace, Pace::Rate(50.0));
        assert_eq!(replay(&["--speed", "60"]).pace, Pace::Recorded { speed: 60.0 });
        assert!(replay(&["--time-shift", "-7d"]).is_bounded());
    }

    #[test]
    fn flags_that_cannot_work_are_refused_with_the_remedy() {
        for (flags, word) in [
            (&["--late", "1.5"][..], "from 0 to 1"),
            (&["--malformed", "-0.1"][..], "from 0 to 1"),
            (&["--rate", "-1"][..], "--rate"),
            (&["--rate", "NaN"][..], "messages per second"),
            (&["--sensors", "0"][..], "from 1 to 1000000"),
            (&["--device-types", "toaster"][..], "known: thermostat"),
            (&["--start", "yesterday"][..], "2026-01-01T00:00:00Z"),
            (&["--step", "1m"][..], "--start"),
            (&["--speed", "60"][..], "--replay"),
            (&["--replay", "x", "--speed", "0"][..], "greater than 0"),
            (&["--replay", "x", "--sensors", "5"][..], "cannot be used with"),
            (&["--replay", "x", "--mapping", "m.toml", "--map", "a=b"][..], "cannot be used with"),
            (&["--unit", "temperature=K"][..], "--replay"),
            (&["--replay", "x", "--unit", "temperature=rankine"][..], "known: celsius"),
            (&["--duration", "0s"][..], "greater than 0"),
            (&["--stdout", "--ledger", "x"][..], "cannot be used with"),
        ] {
            let error = plan(flags).unwrap_err();
            assert!(error.contains(word), "{flags:?}: {error}");
        }
    }
}
