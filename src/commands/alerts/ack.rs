//! `iotctl alerts ack`: says that somebody has seen what fires.

use std::ops::ControlFlow;

use clap::Args;
use uuid::Uuid;

use super::filter::{self, Filter, Wanted};
use crate::alerting::topic::{AlertFeed, AlertProducer};
use crate::alerting::{Acknowledgement, Alert, current::Current};
use crate::commands::Context;
use crate::commands::flags::SelectionArgs;
use crate::commands::support::{blocking, until_stopped};
use crate::error::UsageError;
use crate::output::text;

/// Acknowledge what fires: `iotctl alerts --firing` then says by whom.
///
/// An acknowledgement is of one episode and ends with it. It is a message in the topic of alerts, beside the alerts of its sensor,
/// with the name of the user. It changes nothing of what is sent to receivers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl alerts ack 9f0c71f5-32d4-5a1b-8a5e-60c1fb1a2d3e --comment 'on my way'
  iotctl alerts ack --rule hot --sensor th-1
  iotctl alerts ack --rule silent --location plant-3")]
pub struct AckArgs {
    /// Id of the alert, as `iotctl alerts --firing --format ndjson` shows it
    #[arg(value_name = "ID", value_parser = alert_id, conflicts_with = "rule")]
    pub id: Option<Uuid>,
    /// Instead of an id: all that fires by this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// What others should know
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
}

const LIST: &str = "`iotctl alerts --firing --format ndjson` lists what fires with ids";

fn alert_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| format!("not the whole id of an alert ({LIST})"))
}

pub(super) async fn run(mut args: AckArgs, context: Context) -> anyhow::Result<()> {
    if args.id.is_none() && args.rule.is_none() {
        return Err(UsageError::new("say what is acknowledged: the id of an alert, or --rule NAME").into());
    }
    let kafka = context.config.kafka.clone();
    let mut feed = until_stopped(&context.shutdown, AlertFeed::open(&kafka)).await?;
    let batch = until_stopped(&context.shutdown, feed.next()).await?;
    let shutdown = context.shutdown.clone();
    let read = blocking(move || {
        let mut current = Current::default();
        let read = batch.each(&|| shutdown.is_requested(), |alert| {
            current.add(alert);
            ControlFlow::<()>::Continue(())
        });
        read.map(|_| current)
    });
    let current = until_stopped(&context.shutdown, read).await??;
    let (sensor, registry) = match args.selection.sensor.is_some() {
        true => until_stopped(&context.shutdown, Wanted::find(&mut args.selection, &context))
            .await
            .map(|(sensor, registry)| (sensor, Some(registry)))?,
        false => (None, None),
    };
    let filter = Filter::new(args.rule, &args.selection, sensor);
    let firing = current.firing();
    let is_meant = |alert: &Alert| args.id.is_none_or(|id| id == alert.id) && filter.matches(alert);
    let meant: Vec<_> = firing.iter().filter(|alert| is_meant(alert)).copied().collect();
    if meant.is_empty() {
        let name = |alert: &Alert| {
            let registered = registry.as_ref().and_then(|registry| registry.names.get(alert.iot_sensor_id));
            registered.map_or_else(|| filter::own_name(alert), str::to_owned)
        };
        let problem = filter::nothing_to_acknowledge(args.id, &filter, &firing, name);
        return Err(UsageError::new(format!("{problem} ({LIST})")).into());
    }
    let producer = AlertProducer::new(&kafka)?;
    let by = super::user();
    for alert in &meant {
        let acknowledgement = Acknowledgement::of(alert, by.clone(), args.comment.clone());
        until_stopped(&context.shutdown, producer.acknowledge(&acknowledgement)).await?;
    }
    context.output.note(format!("{} acknowledged by {by}", text::plural(meant.len(), "alert")));
    Ok(())
}
