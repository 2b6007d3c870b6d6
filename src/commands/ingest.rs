//! `iotctl ingest`: Kafka -> Cassandra, with a live line while it runs and a report when it ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::task::JoinHandle;

use super::Context;
use super::flags::{ListenArgs, listen_address};
use super::support::{self, serve_metrics};
use crate::alerting::delivery::{self, DeliveryMetrics, Receivers};
use crate::cassandra::Session;
use crate::config::KafkaConfig;
use crate::error::Interrupted;
use crate::ingestion::IngestMetrics;
use crate::ingestion::{self, Ending, Options};
use crate::metrics::{Health, watchdog};
use crate::output::text::{grouped, plural};
use crate::output::{Format, Output, table};
use crate::registry::Lookup;
use crate::shutdown::Shutdown;

/// Move readings from Kafka into Cassandra without losing one.
///
/// An offset is committed only after its row is stored at the write consistency, or its message is in the dead-letter
/// topic. Several instances share the work as one consumer group, up to one per partition of the topic.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl ingest                                    # until Ctrl-C
  iotctl ingest --until-end                        # what the topic holds now, then stop
  iotctl ingest --metrics-addr 9464                # on 127.0.0.1, with /metrics, /healthz and /readyz
  iotctl ingest --group backfill --until-end       # from the beginning, as another consumer group
  iotctl ingest --mapping zigbee2mqtt              # messages of other formats; see `iotctl mapping`
  iotctl ingest --detect rules.toml                # with alerts; see `iotctl alerts`
  iotctl ingest --detect rules.toml --deliver receivers.toml

Exit status:
  0    stopped as requested, everything taken is stored and committed
  1    failed; the next run continues from the committed offsets
  2    a setting or an argument is wrong
  3    stopped at messages that an operator has to decide about: too many of them cannot be stored
       (ingest.max_dead_letter_percent), or some were deleted before they were read
       (ingest.on_lost_messages = \"stop\"); a restart would stop there again
  130  interrupted before --until-end was reached

A file of rules has, for each of them, a name, a metric and one condition:

  [[rule]]
  name = \"hot\"                 # in alerts and metrics
  severity = \"critical\"        # info, warning (default) or critical
  metric = \"temperature\"
  location = \"plant-1\"         # all if left out; also device_type
  for = \"5m\"                   # how long the condition must hold; at once if left out
  threshold = { above = 28.0, below = 2.0, hysteresis = 0.5 }

  [[rule]]
  name = \"unusual\"
  metric = \"humidity\"
  robust-z = { readings = 120, sensitivity = 0.5 }   # against the sensor's last 120 values

  [[rule]]
  name = \"leak\"
  metric = \"gas_concentration\"
  change = { rise = 50.0, fall = 80.0, within = \"10m\" }

  [[rule]]
  name = \"quiet\"
  silent = { after = \"15m\" }    # no metric; also for a sensor that never came back

Further conditions are online, rate, stuck, band and peers; a rule may also have expression, labels,
runbook and schedule. docs/analytics.md explains them.")]
pub struct IngestArgs {
    /// Consumer group [default: kafka.group]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Stop when everything that the topic holds now is stored and committed
    #[arg(long)]
    pub until_end: bool,
    /// Turn messages of other formats into readings by this mapping file or preset [default: ingest.mapping]
    ///
    /// A message may then hold several readings: its offset is committed when all of them are stored. Parts of a message
    /// that hold no reading go to the dead-letter topic with the whole message; its other readings are stored.
    /// `iotctl mapping list` shows the presets, and docs/mapping.md how to write a file.
    #[arg(long, value_name = "FILE|PRESET")]
    pub mapping: Option<String>,
    /// Serve Prometheus metrics at this address; a port alone means 127.0.0.1
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address)]
    pub metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Check each reading against the rules in this file, and write alerts to kafka.alerts_topic
    ///
    /// An alert is sent when the condition of a rule starts to hold for a sensor, and when it ends. An offset is committed
    /// only after the alerts about its message are acknowledged. The file is read again when it changes; a file that is not
    /// well formed changes nothing, which the log and the metric iotctl_ingest_rules_refused report. What the rules remember of sensors is
    /// stored every ingest.detector_snapshot_interval: after a restart, windows and episodes go on. An alert may be sent twice, with
    /// the same id.
    #[arg(long, value_name = "RULES.toml")]
    pub detect: Option<PathBuf>,
    /// Send alerts to the receivers in this file, as `iotctl alerts deliver` does
    ///
    /// The same consumer group, so that nothing is sent twice: kafka.group with -alerts appended. It reads the topic of alerts by
    /// itself and never slows or stops the ingest: a receiver or a topic that does not answer is retried. With --until-end, what the
    /// topic holds is delivered before the command ends, for ingest.drain_timeout at most.
    #[arg(long, value_name = "RECEIVERS.toml")]
    pub deliver: Option<PathBuf>,
    /// Output format of the closing report
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// The closing report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub messages: u64,
    pub rows: u64,
    pub dead_letters: u64,
    /// Of the dead letters.
    pub dead_letter_reasons: BTreeMap<String, u64>,
    /// Messages without a payload, which are skipped.
    pub tombstones: u64,
    /// Messages that the mapping skips.
    pub skipped: u64,
    /// Readings without any value, which are not stored.
    pub empty_readings: u64,
    /// Messages that Kafka deleted before they were read.
    pub messages_lost: u64,
    pub alerts: u64,
    /// Fields that were not stored, by name.
    pub ignored_fields: BTreeMap<String, u64>,
    pub retries: u64,
    pub seconds: f64,
    pub rows_per_second: f64,
    /// Whether everything read from Kafka is stored and committed.
    pub complete: bool,
}

pub async fn run(args: IngestArgs, mut context: Context) -> anyhow::Result<()> {
    if let Some(group) = args.group {
        context.config.kafka.group = group;
    }
    if args.mapping.is_some() {
        context.config.ingest.mapping = args.mapping;
    }
    let mapping = support::mapping(&context.config.ingest, &context.output)?;
    let lookup = Lookup::of(&context.config, mapping.as_ref())?;
    let rules = args.detect.as_deref().map(support::rules).transpose()?;
    let receivers = args.deliver.as_deref().map(support::receivers).transpose()?;
    let session = Session::connect(&context.config.cassandra).await?;
    let metrics = IngestMetrics::new()?;
    let health = Health::default();
    if let Some(address) = args.metrics_addr {
        serve_metrics(address, args.listen, metrics.registry.clone(), &health, "", &context).await?;
    }
    watchdog::watch(health.clone(), context.shutdown.clone());
    if let Some(rules) = &rules {
        let topic = context.config.kafka.alerts_topic();
        context
            .output
            .note(format!("detecting with {}, alerts go to the topic {topic}", plural(rules.len(), "rule")));
    }
    let delivering = match (receivers, &args.deliver) {
        (Some(receivers), Some(file)) => {
            Some(Delivering::start(receivers, file.clone(), &metrics, &context)?)
        }
        _ => None,
    };
    let options = Options { until_end: args.until_end, rules, rules_file: args.detect, mapping, lookup };
    let ended = ingest(&context, session, options, metrics, health).await;
    if let Some(delivering) = delivering {
        // After the last alert is in the topic.
        delivering.end(args.until_end && matches!(ended, Ok((_, Ending::ReachedEnd)))).await;
    }
    let (report, ending) = ended?;
    print(&report, args.format, &context.output)?;
    match ending {
        Ending::StoppedUndrained => {
            anyhow::bail!("stopped before everything was stored; the next ingest reads the rest again")
        }
        // A run that was to reach an end was interrupted before it.
        Ending::Stopped if args.until_end => Err(Interrupted.into()),
        Ending::Stopped | Ending::ReachedEnd => Ok(()),
    }
}

/// The delivery of alerts beside the pipeline.
struct Delivering {
    kafka: KafkaConfig,
    file: PathBuf,
    metrics: DeliveryMetrics,
    stop: Shutdown,
    task: JoinHandle<()>,
    patience: Duration,
}

impl Delivering {
    /// Its metrics are among those of the pipeline.
    fn start(
        receivers: Receivers,
        file: PathBuf,
        ingest: &IngestMetrics,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let kafka = support::delivery_config(&context.config.kafka, None);
        context.output.note(format!(
            "alerts go to {}, as the consumer group {}",
            receivers.names(),
            kafka.group
        ));
        let metrics = DeliveryMetrics::within(ingest.registry.clone())?;
        let stop = Shutdown::new();
        let task = tokio::spawn(delivery::run_patiently(
            kafka.clone(),
            receivers,
            file.clone(),
            metrics.clone(),
            stop.clone(),
        ));
        let patience = context.config.ingest.drain_timeout;
        Ok(Self { kafka, file, metrics, stop, task, patience })
    }

    /// Ends it; first delivers what the topic holds if that `is_asked_for`.
    async fn end(self, is_asked_for: bool) {
        self.stop.request();
        // The dispatcher ends by itself, after attempts that are under way.
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the delivery of alerts broke off");
        }
        let Some(receivers) = Receivers::read(&self.file).ok().filter(|_| is_asked_for) else { return };
        let (stop, options) = (Shutdown::new(), delivery::Options { until_end: true });
        let rest =
            delivery::run(&self.kafka, receivers, options, self.metrics, Health::default(), stop.clone());
        tokio::pin!(rest);
        let ended = tokio::select! {
            ended = &mut rest => ended,
            () = tokio::time::sleep(self.patience) => {
                tracing::warn!("not all alerts could be delivered in time; the next delivery goes on");
                stop.request();
                rest.await
            }
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "cannot deliver the last alerts; the next delivery goes on");
        }
    }
}

/// Runs the pipeline under a live line. Also a step of `demo`.
pub async fn ingest(
    context: &Context,
    session: Session,
    options: Options,
    metrics: IngestMetrics,
    health: Health,
) -> anyhow::Result<(Report, Ending)> {
    let started = Instant::now();
    let line = context.output.live_line();
    let drawing = tokio::spawn(live_line(line.clone(), context.output, metrics.clone(), started));
    let ending =
        ingestion::run(&context.config, session, options, metrics.clone(), health, context.shutdown.clone())
            .await;
    drawing.abort();
    line.finish_and_clear();
    let ending = ending?;
    let seconds = started.elapsed().as_secs_f64();
    let rows = metrics.rows.get();
    let report = Report {
        messages: metrics.messages.get(),
        rows,
        dead_letters: metrics.dead_letter_count(),
        dead_letter_reasons: metrics.dead_letter_reasons(),
        tombstones: metrics.tombstones.get(),
        skipped: metrics.skipped.get(),
        empty_readings: metrics.empty_readings.get(),
        messages_lost: metrics.messages_lost.get(),
        alerts: metrics.alert_count(),
        ignored_fields: metrics.ignored_fields(),
        retries: metrics.retries.get(),
        seconds,
        rows_per_second: rows as f64 / seconds,
        complete: ending != Ending::StoppedUndrained,
    };
    Ok((report, ending))
}

/// Redraws the line twice a second; if stderr is not a terminal, prints a plain line every ten seconds.
async fn live_line(line: ProgressBar, output: Output, metrics: IngestMetrics, started: Instant) {
    const REDRAW: Duration = Duration::from_millis(500);
    const PLAIN_EVERY: u32 = 20;
    let mut last_rows = 0;
    let mut ticks = tokio::time::interval(REDRAW);
    for tick in 1.. {
        ticks.tick().await;
        let rows = metrics.rows.get();
        let rate = (rows - last_rows) as f64 / REDRAW.as_secs_f64();
        last_rows = rows;
        let text = status(&metrics, rows, rate, started);
        if output.stderr_is_terminal {
            line.set_message(text);
            line.tick();
        } else if tick % PLAIN_EVERY == 0 {
            output.note(text);
        }
    }
}

fn status(metrics: &IngestMetrics, rows: u64, rate: f64, started: Instant) -> String {
    let lag = match (metrics.total_lag(), metrics.lag_seconds()) {
        (Some(lag), Some(seconds)) => {
            format!("lag {} ({seconds:.1} s)", indicatif::HumanCount(lag.unsigned_abs()))
        }
        _ => "lag unknown".to_owned(),
    };
    let state = match (metrics.assigned_partitions.get(), metrics.paused.get()) {
        (0, _) => " · waiting for partitions",
        (_, 1) => " · waiting for Cassandra",
        _ => "",
    };
    let alerts = match metrics.alert_count() {
        0 => String::new(),
        alerts => format!(" · {}", grouped(alerts, "alert")),
    };
    format!(
        "{} · {}/s · {lag} · {:.1} MiB in flight · {}{alerts} · {}s{state}",
        grouped(rows, "row"),
        indicatif::HumanCount(rate as u64),
        metrics.in_flight_bytes.get() as f64 / (1024.0 * 1024.0),
        grouped(metrics.dead_letter_count(), "dead letter"),
        started.elapsed().as_secs(),
    )
}

/// "12: tags 8, nested 3, and 2 more names".
fn ignored(fields: &BTreeMap<String, u64>) -> String {
    const MAX_LISTED: usize = 4;
    let total = indicatif::HumanCount(fields.values().sum()).to_string();
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut listed: Vec<_> =
        fields.iter().take(MAX_LISTED).map(|(name, count)| format!("{name} {count}")).collect();
    if fields.len() > MAX_LISTED {
        listed.push(format!("and {} more names", fields.len() - MAX_LISTED));
    }
    if listed.is_empty() { total } else { format!("{total}: {}", listed.join(", ")) }
}

pub fn print(report: &Report, format: Format, output: &Output) -> anyhow::Result<()> {
    match format {
        Format::Json => output.json(report),
        Format::Ndjson => output.print(serde_json::to_string(report)?),
        Format::Csv => output.print(format!(
            "messages,rows,dead_letters,alerts,ignored_fields,retries,seconds,rows_per_second,complete,tombstones,messages_lost,skipped,empty_readings\n{},{},{},{},{},{},{:.3},{:.1},{},{},{},{},{}",
            report.messages,
            report.rows,
            report.dead_letters,
            report.alerts,
            report.ignored_fields.values().sum::<u64>(),
            report.retries,
            report.seconds,
            report.rows_per_second,
            report.complete,
            report.tombstones,
            report.messages_lost,
            report.skipped,
            report.empty_readings
        )),
        Format::Table => {
            let count = |count: u64| indicatif::HumanCount(count).to_string();
            let mut rows = vec![
                ("messages read", count(report.messages)),
                ("rows stored", count(report.rows)),
                ("dead letters", count(report.dead_letters)),
            ];
            rows.extend(reasons(report).map(|(reason, number)| ("  of them", format!("{} {reason}", count(number)))));
            if report.skipped > 0 {
                rows.push(("skipped by the mapping", count(report.skipped)));
            }
            if report.empty_readings > 0 {
                rows.push(("readings without a value, not stored", count(report.empty_readings)));
            }
            if report.messages_lost > 0 {
                rows.push(("deleted by Kafka before they were read", count(report.messages_lost)));
            }
            rows.extend([
                ("tombstones skipped", count(report.tombstones)),
                ("alerts", count(report.alerts)),
                ("fields ignored", ignored(&report.ignored_fields)),
                ("writes retried", count(report.retries)),
                ("elapsed", format!("{:.1} s", report.seconds)),
                ("rows per second", count(report.rows_per_second as u64)),
            ]);
            output.table(&table::report(rows))
        }
    }
}

/// The commonest reasons of dead letters, the commonest first.
fn reasons(report: &Report) -> impl Iterator<Item = (&str, u64)> {
    const MOST: usize = 5;
    let mut reasons: Vec<_> =
        report.dead_letter_reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons.into_iter().take(MOST)
}
