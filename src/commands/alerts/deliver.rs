//! `iotctl alerts deliver`: alerts to the people and systems that asked for them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use prometheus::core::Collector;
use serde::Serialize;

use crate::alerting::delivery::{self, DeliveryMetrics, Ending, Options};
use crate::commands::Context;
use crate::commands::flags::{ListenArgs, listen_address};
use crate::commands::support::{delivery_config, receivers, serve_metrics};
use crate::error::Interrupted;
use crate::metrics::{Health, watchdog};
use crate::output::{Output, ReportFormat, table};

/// Send alerts to Alertmanager, webhooks, mail and commands
///
/// Reads the topic of alerts as a consumer group. An offset is committed only after every receiver that wants the alert has
/// accepted it, or refused it: then it goes to the topic with .dlq appended, with the reason. A receiver that does not answer
/// is asked again, with growing delays; meanwhile what comes waits in the topic. Alerts of one rule and sensor are delivered in
/// their order, each once; one may come twice when an answer is lost or the process is killed, with the same id. A new
/// consumer group begins with what fires now. docs/analytics.md has the file of receivers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl alerts deliver receivers.toml                        # until Ctrl-C
  iotctl alerts deliver receivers.toml --metrics-addr 9467    # with /metrics, /healthz and /readyz
  iotctl alerts deliver receivers.toml --until-end            # what the topic holds now, then stop

A file of receivers has, for each of them, a name and one way to it:

  [[receiver]]
  name = \"chat\"
  severity = \"warning\"           # this and more serious ones; all if left out
  rules = [\"hot\", \"silent\"]      # all if left out; also locations and device_types
  group_by = [\"location\", \"rule\"]
  group_wait = \"10s\"             # what comes within it is one message
  max_per_minute = 30            # beyond it, groups grow
  webhook = { url = \"https://chat.example/hook\", secret_file = \"/etc/iotctl/hook\", body = '{text: .title}' }

  [[receiver]]
  name = \"prometheus\"
  alertmanager = { url = \"http://127.0.0.1:9093\" }

Exit status:
  0    stopped as requested; what was delivered is committed
  1    failed; the next run continues from the committed offsets
  2    a setting, an argument or the file of receivers is wrong
  130  interrupted before --until-end was reached")]
pub struct DeliverArgs {
    /// File of receivers
    #[arg(value_name = "RECEIVERS.toml")]
    pub receivers: PathBuf,
    /// Consumer group [default: kafka.group with -alerts appended]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Stop when the alerts that the topic holds now are delivered; for the only member of the consumer group
    #[arg(long)]
    pub until_end: bool,
    /// Serve Prometheus metrics at this address; a port alone means 127.0.0.1
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address)]
    pub metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Output format of the closing report
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: ReportFormat,
}

/// The closing report.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Report {
    /// Alerts accepted, summed over the receivers.
    delivered: u64,
    notifications: u64,
    retries: u64,
    dead_letters: u64,
    /// Alerts that a silence held back; what still fires at its end is sent then.
    silenced: u64,
    /// Alerts that were not sent: copies, and those that were over or sent before this consumer group began.
    copies: u64,
    seconds: f64,
}

pub(super) async fn run(args: DeliverArgs, mut context: Context) -> anyhow::Result<()> {
    let receivers = receivers(&args.receivers)?;
    context.config.kafka = delivery_config(&context.config.kafka, args.group);
    let metrics = DeliveryMetrics::new()?;
    let health = Health::default();
    if let Some(address) = args.metrics_addr {
        serve_metrics(address, args.listen, metrics.registry.clone(), &health, "", &context).await?;
    }
    watchdog::watch(health.clone(), context.shutdown.clone());
    let kafka = &context.config.kafka;
    context.output.note(format!(
        "alerts from the topic {} to {}, as the consumer group {}",
        kafka.alerts_topic(),
        receivers.names(),
        kafka.group
    ));
    let started = Instant::now();
    let options = Options { until_end: args.until_end };
    let ending =
        delivery::run(kafka, receivers, options, metrics.clone(), health, context.shutdown.clone()).await?;
    let report = Report {
        delivered: total(&metrics.delivered),
        notifications: total(&metrics.notifications),
        retries: total(&metrics.retries),
        dead_letters: total(&metrics.dead_letters),
        silenced: metrics.silenced.get(),
        copies: metrics.copies.get(),
        seconds: started.elapsed().as_secs_f64(),
    };
    print(&report, args.format, &context.output)?;
    match ending {
        Ending::Stopped if args.until_end => Err(Interrupted.into()),
        Ending::Stopped | Ending::ReachedEnd => Ok(()),
    }
}

/// The sum over all labels.
fn total(counters: &prometheus::IntCounterVec) -> u64 {
    let families = counters.collect();
    let samples = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    samples.map(|metric| metric.get_counter().get_value() as u64).sum()
}

fn print(report: &Report, format: ReportFormat, output: &Output) -> anyhow::Result<()> {
    if format == ReportFormat::Json {
        return output.json(report);
    }
    let rows = [
        ("alerts delivered", report.delivered.to_string()),
        ("in messages", report.notifications.to_string()),
        ("attempts repeated", report.retries.to_string()),
        ("dead letters", report.dead_letters.to_string()),
        ("held back by silences", report.silenced.to_string()),
        ("past alerts and copies left out", report.copies.to_string()),
        ("elapsed", format!("{:.1} s", report.seconds)),
    ];
    output.table(&table::report(rows))
}
