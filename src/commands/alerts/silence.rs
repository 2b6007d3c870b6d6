//! `iotctl alerts silence`: what matches is not sent to receivers for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use tokio::time::timeout;
use uuid::Uuid;

use super::filter::{Wanted, most_alike};
use super::{Registry, user};
use crate::alerting::topic::{AlertFeed, AlertProducer};
use crate::alerting::{Matchers, Mute, Mutes};
use crate::analytics::groups::NoReadings;
use crate::cassandra::Session;
use crate::commands::Context;
use crate::commands::flags::{SelectionArgs, ZoneArgs};
use crate::commands::support::{blocking, until_stopped};
use crate::config::KafkaConfig;
use crate::error::UsageError;
use crate::kafka::retention;
use crate::output::Format;
use crate::output::record::{Cell, Heading};
use crate::reading::tags;
use crate::store::sensors::SensorNames;
use crate::time;

/// Hold back what `alerts deliver` would send: by rule, sensor, group and labels, for a while
///
/// Alerts are written, listed and counted as ever; those that match all that is given are not sent to receivers. What still fires at
/// the end of the silence is sent then. The end of what was told before is told. A silence is a message in the topic of alerts, so it
/// cannot last longer than the topic keeps messages. It takes effect within a few seconds. Without arguments, the silences that are
/// not over are listed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl alerts silence --location plant-3 --for 2h --comment 'new pump'
  iotctl alerts silence --rule silent --sensor th-1 --until 2026-12-01T06:00:00Z
  iotctl alerts silence --label team=cooling --from 2026-12-01T22:00:00Z --for 8h
  iotctl alerts silence                            # which there are
  iotctl alerts silence --expire 9f0c71f5-32d4-4a1b-8a5e-60c1fb1a2d3e

Exit status:
  0    the silence is known, or listed, or ended
  1    failed
  2    an argument is wrong")]
pub struct SilenceArgs {
    /// Only alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Only alerts with this label; may be repeated, then all have to match
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = tags::pair)]
    pub labels: Vec<(String, String)>,
    /// All alerts
    #[arg(long, conflicts_with_all = ["rule", "location", "device_type", "sensor", "labels"])]
    pub all: bool,
    /// How long it lasts: 30m, 2h, 3d
    #[arg(long = "for", value_name = "LENGTH", conflicts_with = "until")]
    pub length: Option<String>,
    /// When it ends
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// When it begins [default: now]
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// What others should know
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// End this silence now
    #[arg(long, value_name = "ID", value_parser = silence_id, conflicts_with_all = ["rule", "location", "device_type", "sensor", "labels", "all", "length", "until", "from", "comment"])]
    pub expire: Option<Uuid>,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Output format of the list
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub(super) async fn run(args: SilenceArgs, context: Context) -> anyhow::Result<()> {
    if args.expire.is_none() && args.length.is_none() && args.until.is_none() {
        return list(args, context).await;
    }
    let kafka = context.config.kafka.clone();
    if let Some(id) = args.expire {
        let mutes = read(&context).await?;
        let mute = to_be_ended(&mutes, id, Utc::now())?;
        let ended = mute.ended(user());
        until_stopped(&context.shutdown, AlertProducer::new(&kafka)?.silence(&ended)).await?;
        let named = until_stopped(&context.shutdown, name_sensors(vec![mute], &context)).await?;
        let what = named.first().map(|(_, text)| text.as_str()).unwrap_or_default();
        context.output.note(format!("the silence of {what} is over"));
        return Ok(());
    }
    let (mute, selection) = asked_for(args, &context).await?;
    warn_of_retention(&kafka, &mute, &context).await;
    until_stopped(&context.shutdown, AlertProducer::new(&kafka)?.silence(&mute)).await?;
    context.output.note(format!(
        "{} silenced until {} by {}; `iotctl alerts silence --expire {}` ends it",
        mute.matchers.text(selection.sensor.as_ref().and_then(|sensor| sensor.name.as_deref())),
        time::display(mute.ends.timestamp_millis()),
        mute.by,
        mute.id
    ));
    until_stopped(&context.shutdown, remark_on_unknown(&mute.matchers, &selection, &context)).await
}

const LIST: &str = "`iotctl alerts silence --format ndjson` lists those that are not over";

fn silence_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| format!("not the whole id of a silence ({LIST})"))
}

fn to_be_ended(mutes: &Mutes, id: Uuid, now: DateTime<Utc>) -> Result<&Mute, UsageError> {
    match mutes.get(id) {
        Some(mute) if mute.ends > now => Ok(mute),
        Some(mute) => {
            let ended = time::display(mute.ends.timestamp_millis());
            Err(UsageError::new(format!("the silence {id} was over at {ended} ({LIST})")))
        }
        None => Err(UsageError::new(format!("no silence has the id {id} ({LIST})"))),
    }
}

/// How long the search for what is silenced may take. The silence is known already.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says what of the silence nothing is known of: a typing error, or what is to come.
async fn remark_on_unknown(
    matchers: &Matchers,
    selection: &SelectionArgs,
    context: &Context,
) -> anyhow::Result<()> {
    if let Some(rule) = &matchers.rule
        // A user who may not read the topic is not warned.
        && let Ok(Ok(Some(known))) = timeout(PATIENCE, other_rules(rule, context)).await
    {
        context.output.note(unknown_rule(rule, &known));
    }
    let is_selected =
        selection.sensor.is_some() || matchers.location.is_some() || matchers.device_type.is_some();
    if !is_selected {
        return Ok(());
    }
    let found = async {
        let session = Session::connect(&context.config.cassandra).await?;
        selection.groups(&session).await
    };
    if let Ok(Err(error)) = timeout(PATIENCE, found).await
        && error.is::<NoReadings>()
    {
        context.output.note(format!("{error}; alerts to come are silenced"));
    }
    Ok(())
}

/// The rules of the alerts in the topic; `None` if `rule` is one of them.
async fn other_rules(rule: &str, context: &Context) -> anyhow::Result<Option<BTreeSet<String>>> {
    let mut feed = AlertFeed::open(&context.config.kafka).await?;
    let batch = feed.next().await?;
    let (rule, shutdown, deadline) = (rule.to_owned(), context.shutdown.clone(), Instant::now() + PATIENCE);
    let read = blocking(move || {
        let mut known = BTreeSet::new();
        let is_stopped = || shutdown.is_requested() || Instant::now() >= deadline;
        let read = batch.each(&is_stopped, |alert| match alert.rule == rule {
            true => ControlFlow::Break(()),
            false => {
                known.insert(alert.rule);
                ControlFlow::Continue(())
            }
        });
        read.map(|(found, _)| (found.is_none() && !is_stopped()).then_some(known))
    });
    Ok(read.await??)
}

/// The remark on a rule by which no alert is in the topic.
fn unknown_rule(rule: &str, known: &BTreeSet<String>) -> String {
    let known = match known.is_empty() {
        true => "it has no alerts yet".to_owned(),
        false => format!("it has those of {}", most_alike(rule, known)),
    };
    format!("the topic has no alert of the rule {rule:?}: {known}; alerts to come are silenced")
}

/// Each silence with what it matches; sensors by the names that they have in the registry.
async fn name_sensors<'m>(
    mutes: Vec<&'m Mute>,
    context: &Context,
) -> anyhow::Result<Vec<(&'m Mute, String)>> {
    let sensors = || mutes.iter().filter_map(|mute| mute.matchers.iot_sensor_id);
    let names = match sensors().next() {
        Some(_) => {
            let mut registry = Registry::open(&mut SelectionArgs::default(), context).await?;
            registry.learn_by_id(sensors()).await;
            registry.names
        }
        None => SensorNames::default(),
    };
    let text = |mute: &'m Mute| {
        let name = mute.matchers.iot_sensor_id.and_then(|id| names.get(id));
        (mute, mute.matchers.text(name))
    };
    Ok(mutes.into_iter().map(text).collect())
}

/// The silence that the arguments describe, and what they select.
async fn asked_for(mut args: SilenceArgs, context: &Context) -> anyhow::Result<(Mute, SelectionArgs)> {
    let (now, zone) = (time::now(), args.zone.zone()?);
    let moment = |flag: &str, text: &str| {
        time::moment(text, zone, now).map_err(|error| UsageError::new(format!("{flag}: {error}")))
    };
    let starts = args.from.as_deref().map_or(Ok(now), |text| moment("--from", text))?;
    let ends = match (&args.length, &args.until) {
        (Some(length), _) => {
            let length = time::length(length).map_err(|error| UsageError::new(format!("--for: {error}")))?;
            starts.saturating_add(length)
        }
        (None, Some(until)) => moment("--until", until)?,
        (None, None) => return Err(UsageError::new("a silence needs --for or --until").into()),
    };
    if ends <= starts.max(now) {
        return Err(UsageError::new("the silence would be over already (choose a later end)").into());
    }
    let sensor = match args.selection.sensor.is_some() {
        true => until_stopped(&context.shutdown, Wanted::find(&mut args.selection, context)).await?.0,
        false => None,
    };
    let SelectionArgs { group, .. } = args.selection.clone();
    let matchers = Matchers {
        rule: args.rule,
        iot_sensor_id: sensor.as_ref().map(|sensor| sensor.id),
        sensor_name: sensor.and_then(|sensor| sensor.unregistered),
        location: group.location,
        device_type: group.device_type,
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
    };
    if matchers.is_empty() && !args.all {
        let problem =
            "name what is silenced (--rule, --sensor, --location, --device-type, --label), or give --all";
        return Err(UsageError::new(problem).into());
    }
    let at = |millis| DateTime::from_timestamp_millis(millis).unwrap_or_default();
    Ok((Mute::new(matchers, (at(starts), at(ends)), user(), args.comment), args.selection))
}

/// A user who may not read the topic's settings is not warned.
async fn warn_of_retention(kafka: &KafkaConfig, mute: &Mute, context: &Context) {
    let kept =
        retention::retention(kafka, &kafka.alerts_topic()).await.ok().and_then(|kept| kept.milliseconds);
    if let Some(kept) = kept.filter(|kept| mute.ends.timestamp_millis().saturating_sub(time::now()) > *kept) {
        let kept = humantime::format_duration(std::time::Duration::from_secs(kept.unsigned_abs() / 1000));
        context.output.note(format!(
            "the topic keeps messages for {kept}: the silence ends then, unless it is asked for again"
        ));
    }
}

async fn read(context: &Context) -> anyhow::Result<Mutes> {
    let mut feed = until_stopped(&context.shutdown, AlertFeed::open(&context.config.kafka)).await?;
    let batch = until_stopped(&context.shutdown, feed.next()).await?;
    let shutdown = context.shutdown.clone();
    let read = blocking(move || {
        let mut mutes = Mutes::default();
        batch.silences(&|| shutdown.is_requested(), &mut mutes).map(|()| mutes)
    });
    Ok(until_stopped(&context.shutdown, read).await??)
}

async fn list(args: SilenceArgs, context: Context) -> anyhow::Result<()> {
    let SelectionArgs { group, sensor } = &args.selection;
    let is_asked = args.rule.is_some()
        || group.location.is_some()
        || group.device_type.is_some()
        || sensor.is_some()
        || !args.labels.is_empty()
        || args.all
        || args.from.is_some()
        || args.comment.is_some();
    if is_asked {
        return Err(UsageError::new("a silence needs an end: give --for or --until").into());
    }
    let mutes = read(&context).await?;
    let headings = ["id", "matches", "starts", "ends", "by", "comment"].map(Heading::left).to_vec();
    let mut records = context.output.records(args.format, args.zone.zone()?, headings)?;
    let open = mutes.open(Utc::now());
    for (mute, matches) in until_stopped(&context.shutdown, name_sensors(open, &context)).await? {
        records.write(&[
            Cell::Uuid(mute.id),
            Cell::Text(&matches),
            Cell::Moment(mute.starts.timestamp_millis()),
            Cell::Moment(mute.ends.timestamp_millis()),
            Cell::Text(&mute.by),
            mute.comment.as_deref().map_or(Cell::Missing, Cell::Text),
        ])?;
    }
    if records.finish()? == 0 {
        context.output.note("nothing is silenced");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_that_cannot_be_ended_is_told_apart_from_an_unknown_one() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap_or_default();
        let mute = Mute::new(Matchers::default(), (at(0), at(1_800_000_000)), "ada".to_owned(), None);
        let (id, mut mutes) = (mute.id, Mutes::default());
        let problem =
            |mutes: &Mutes, now| to_be_ended(mutes, id, now).map(|mute| mute.id).map_err(|it| it.to_string());
        let unknown = problem(&mutes, at(5)).unwrap_err();
        assert!(
            unknown.starts_with(&format!("no silence has the id {id} (`iotctl alerts silence")),
            "{unknown}"
        );
        mutes.add(mute);
        assert_eq!(problem(&mutes, at(5)), Ok(id));
        let over = problem(&mutes, at(1_800_000_000)).unwrap_err();
        assert!(over.starts_with(&format!("the silence {id} was over at 2027-01-15T08:00:00")), "{over}");
        let malformed = silence_id("9f0c71f5").unwrap_err();
        assert!(malformed.contains("`iotctl alerts silence --format ndjson`"), "{malformed}");
    }

    #[test]
    fn a_rule_without_alerts_is_remarked_on_with_those_that_have_some() {
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            unknown_rule("hto", &known(&["cold", "hot"])),
            "the topic has no alert of the rule \"hto\": it has those of hot, cold; alerts to come are silenced"
        );
        let many = unknown_rule("hto", &known(&["a", "b", "c", "d", "e", "f"]));
        assert!(many.contains("and 1 other;"), "{many}");
        assert!(unknown_rule("hto", &known(&[])).contains("it has no alerts yet"));
    }
}
