//! `iotctl bridge`: messages from other brokers into Kafka.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;

use super::Context;
use super::flags::{ListenArgs, listen_address};
use super::support::serve_metrics;
use crate::bridge::{self, BridgeMetrics, Ending, Options};
use crate::error::UsageError;
use crate::metrics::{Health, watchdog};
use crate::output::text::{grouped, plural};
use crate::output::{Output, ReportFormat, table};

/// Bring messages from another broker into Kafka.
#[derive(Debug, Subcommand)]
pub enum BridgeCommand {
    Mqtt(MqttArgs),
}

/// Bring messages from an MQTT broker into Kafka without losing one.
///
/// Subscribes with QoS 1 and a persistent session, and acknowledges a message to the MQTT broker only after all in-sync
/// replicas of Kafka have it. The broker keeps what comes while the bridge is away. After a lost connection, some messages
/// are in Kafka twice; they store one row. The MQTT topic becomes the key and the header mqtt.topic; the header mqtt.qos
/// holds the QoS, and mqtt.retain is set on messages that the broker had retained. A message that is too large for the Kafka
/// topic goes to the dead-letter topic. docs/mqtt.md has the settings of the MQTT broker that the guarantee needs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl bridge mqtt --broker mqtt://127.0.0.1:1883 --topic 'zigbee2mqtt/#'
  iotctl bridge mqtt --topic '$share/iotctl/zigbee2mqtt/#' --client-id bridge-1   # several bridges share the messages
  iotctl bridge mqtt --metrics-addr 9466            # settings from [mqtt], with /metrics, /healthz and /readyz
  iotctl bridge mqtt --until-idle 10s               # what the broker holds now, then stop

Exit status:
  0    stopped as requested, everything received is in Kafka and acknowledged
  1    failed; the MQTT broker sends again what was not acknowledged
  2    a setting or an argument is wrong")]
pub struct MqttArgs {
    /// MQTT broker, mqtt:// or mqtts:// [default: mqtt.broker]
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// MQTT topic filter to subscribe to; repeatable [default: mqtt.topics]
    // By the id of the global flag, which this one replaces: Kafka's topic has its own flag here.
    #[arg(long = "topic", id = "topic", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Kafka topic to write to [default: kafka.topic]
    #[arg(long, value_name = "NAME")]
    pub kafka_topic: Option<String>,
    /// Name of the session at the MQTT broker [default: mqtt.client_id, else by host and Kafka topic]
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Begin a new session: the broker discards what it keeps for the old one, subscriptions included
    #[arg(long)]
    pub new_session: bool,
    /// Stop when no message has come for this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub until_idle: Option<Duration>,
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
pub struct Report {
    pub received: u64,
    /// Of them: the MQTT broker had sent them before.
    pub redelivered: u64,
    /// Acknowledged by Kafka.
    pub stored: u64,
    pub dead_letters: u64,
    /// Acknowledged to the MQTT broker; those of QoS 0 need no acknowledgement.
    pub acknowledged: u64,
    pub reconnects: u64,
    pub seconds: f64,
}

pub async fn run(command: BridgeCommand, context: Context) -> anyhow::Result<()> {
    match command {
        BridgeCommand::Mqtt(args) => mqtt(args, context).await,
    }
}

async fn mqtt(args: MqttArgs, mut context: Context) -> anyhow::Result<()> {
    let config = &mut context.config;
    if let Some(broker) = args.broker {
        config.mqtt.broker = broker;
    }
    if !args.filters.is_empty() {
        config.mqtt.topics = args.filters;
    }
    if let Some(topic) = args.kafka_topic {
        config.kafka.topic = topic;
    }
    if args.client_id.is_some() {
        config.mqtt.client_id = args.client_id;
    }
    config.mqtt.check().map_err(|violation| UsageError::new(violation.to_string()))?;
    if config.mqtt.topics.is_empty() {
        return Err(UsageError::new(
            "no topic to subscribe to (give --topic, such as --topic 'zigbee2mqtt/#', or set mqtt.topics)",
        )
        .into());
    }
    let metrics = BridgeMetrics::new()?;
    let health = Health::default();
    if let Some(address) = args.metrics_addr {
        serve_metrics(address, args.listen, metrics.registry.clone(), &health, "", &context).await?;
    }
    watchdog::watch(health.clone(), context.shutdown.clone());
    let config = &context.config;
    context.output.note(format!(
        "{} from {} to the Kafka topic {}, as the MQTT client {}",
        config.mqtt.topics.join(", "),
        config.mqtt.address()?,
        config.kafka.topic,
        bridge::client_id(&config.mqtt, &config.kafka.topic)
    ));
    let started = Instant::now();
    let line = context.output.live_line();
    let drawing = tokio::spawn(live_line(line.clone(), context.output, metrics.clone(), started));
    let options = Options { new_session: args.new_session, until_idle: args.until_idle };
    let ended = bridge::run(config, options, metrics.clone(), health, context.shutdown.clone()).await;
    drawing.abort();
    line.finish_and_clear();
    let report = Report {
        received: metrics.received.get(),
        redelivered: metrics.redelivered.get(),
        stored: metrics.stored.get(),
        dead_letters: metrics.dead_letter_count(),
        acknowledged: metrics.acknowledged.get(),
        reconnects: metrics.reconnects(),
        seconds: started.elapsed().as_secs_f64(),
    };
    match ended {
        Ok(Ending::Stopped | Ending::Idle) => print(&report, args.format, &context.output),
        Err(bridge::Error::Setting(violation)) => Err(UsageError::new(violation.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

/// Redraws the line twice a second; if stderr is not a terminal, prints a plain line every ten seconds.
async fn live_line(line: ProgressBar, output: Output, metrics: BridgeMetrics, started: Instant) {
    const REDRAW: Duration = Duration::from_millis(500);
    const PLAIN_EVERY: u32 = 20;
    let mut last = 0;
    let mut ticks = tokio::time::interval(REDRAW);
    for tick in 1.. {
        ticks.tick().await;
        let received = metrics.received.get();
        let rate = (received - last) as f64 / REDRAW.as_secs_f64();
        last = received;
        let state = if metrics.connected.get() == 0 { " · waiting for the MQTT broker" } else { "" };
        let text = format!(
            "{} received · {}/s · {} stored · {} in flight · {} · {} · {}s{state}",
            HumanCount(received),
            HumanCount(rate as u64),
            HumanCount(metrics.stored.get()),
            metrics.in_flight.get(),
            grouped(metrics.dead_letter_count(), "dead letter"),
            plural(metrics.reconnects(), "reconnect"),
            started.elapsed().as_secs(),
        );
        if output.stderr_is_terminal {
            line.set_message(text);
            line.tick();
        } else if tick % PLAIN_EVERY == 0 {
            output.note(text);
        }
    }
}

fn print(report: &Report, format: ReportFormat, output: &Output) -> anyhow::Result<()> {
    if format == ReportFormat::Json {
        return output.json(report);
    }
    let count = |count: u64| HumanCount(count).to_string();
    let rows = [
        ("messages received", count(report.received)),
        ("  of them sent again by the MQTT broker", count(report.redelivered)),
        ("stored in Kafka", count(report.stored)),
        ("dead letters", count(report.dead_letters)),
        ("acknowledged to the MQTT broker", count(report.acknowledged)),
        ("reconnects", count(report.reconnects)),
        ("elapsed", format!("{:.1} s", report.seconds)),
    ];
    output.table(&table::report(rows))
}
