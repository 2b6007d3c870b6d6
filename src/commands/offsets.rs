//! `iotctl offsets`: what the consumer group has committed, and from where it reads on.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::flags::ZoneArgs;
use super::support::until_stopped;
use crate::config::KafkaConfig;
use crate::error::UsageError;
use crate::kafka::reader::Span;
use crate::kafka::{Error, consumer_groups, ends, retention, topics};
use crate::output::text::plural;
use crate::output::{ReportFormat, table};
use crate::time::{self, Zone};

/// Show or reset what the consumer group of `ingest` has committed.
#[derive(Debug, Subcommand)]
pub enum OffsetsCommand {
    Show(ShowArgs),
    Reset(ResetArgs),
}

/// Show committed offsets, their lag and the time of the next message, per partition.
///
/// Needs no stop of the ingests. Kafka does not tell when an offset was committed; the time of the next message says how far
/// the group is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl offsets show
  iotctl offsets show --group backfill --format json")]
pub struct ShowArgs {
    /// Consumer group [default: kafka.group]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// Set from where the consumer group reads on.
///
/// The group must have no members: stop every ingest first. Shows what changes and asks, unless --yes. Offsets are kept
/// within what the topic holds. Reading messages again changes no row; skipped messages are not stored. Notes of lost messages
/// are cleared.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl offsets reset --to earliest --dry-run
  iotctl offsets reset --to '2h ago'
  iotctl offsets reset --to 2026-11-20T08:00Z --group backfill --yes
  iotctl offsets reset --to +1 --partition 3       # skip one message
  iotctl offsets reset --to current                # clear the note of lost messages")]
pub struct ResetArgs {
    /// earliest, latest, current, a time (its first message), or +N or -N messages
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub to: String,
    /// Only this partition; repeatable
    #[arg(long = "partition", value_name = "NUMBER")]
    pub partitions: Vec<i32>,
    /// Consumer group [default: kafka.group]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

pub async fn run(command: OffsetsCommand, context: Context) -> anyhow::Result<()> {
    match command {
        OffsetsCommand::Show(args) => show(args, context).await,
        OffsetsCommand::Reset(args) => reset(args, context).await,
    }
}

/// Where a group is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    partition: i32,
    beginning: i64,
    end: i64,
    /// `None` if the group never committed: it begins at the beginning.
    committed: Option<i64>,
}

impl Place {
    fn next(&self) -> i64 {
        self.committed.unwrap_or(self.beginning)
    }

    fn lag(&self) -> i64 {
        self.end - self.next().clamp(self.beginning, self.end)
    }
}

async fn places(config: &KafkaConfig) -> Result<Vec<Place>, Error> {
    let watermarks = topics::watermarks(config, &config.topic).await?;
    let count = i32::try_from(watermarks.len()).unwrap_or(i32::MAX);
    let committed = consumer_groups::committed(config, &config.topic, count).await?;
    let both = (0..).zip(watermarks.into_iter().zip(committed));
    Ok(both
        .map(|(partition, ((beginning, end), committed))| Place { partition, beginning, end, committed })
        .collect())
}

/// A partition in the output.
#[derive(Debug, Serialize)]
struct Shown {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    beginning: i64,
    end: i64,
    lag: i64,
    /// Kafka's timestamp of the next message to be read.
    next_message: Option<String>,
}

async fn show(args: ShowArgs, mut context: Context) -> anyhow::Result<()> {
    let config = &mut context.config.kafka;
    if let Some(group) = args.group {
        config.group = group;
    }
    let zone = args.zone.zone()?;
    let config = config.clone();
    let found = until_stopped(&context.shutdown, places(&config)).await?;
    let within = |place: &Place| place.next().clamp(place.beginning, place.end);
    let spans: Vec<Span> = found
        .iter()
        .map(|place| Span { partition: place.partition, from: within(place), to: place.end })
        .filter(|span| !span.is_empty())
        .collect();
    let asked = config.clone();
    let reading = async {
        let read = move || ends::first_messages(&asked, &asked.topic, &spans);
        anyhow::Ok(tokio::task::spawn_blocking(read).await??)
    };
    let next = until_stopped(&context.shutdown, reading).await?;
    let shown: Vec<Shown> = found
        .iter()
        .map(|place| Shown {
            topic: config.topic.clone(),
            partition: place.partition,
            committed: place.committed,
            beginning: place.beginning,
            end: place.end,
            lag: place.lag(),
            next_message: next.get(&place.partition).map(|first| zone.show(first.timestamp)),
        })
        .collect();
    if args.format == ReportFormat::Json {
        return context.output.json(&shown);
    }
    let headings = ["topic", "partition", "committed", "beginning", "end", "lag", "next message"];
    let mut rows = table::table(&headings, &[1, 2, 3, 4, 5]);
    for one in &shown {
        rows.add_row([
            one.topic.clone(),
            one.partition.to_string(),
            one.committed.map_or_else(|| "never".to_owned(), |offset| offset.to_string()),
            one.beginning.to_string(),
            one.end.to_string(),
            one.lag.to_string(),
            one.next_message.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    context.output.table(&rows)
}

/// Where to reset to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    /// By so many messages, from the committed offset.
    By(i64),
    /// To the first message at or after this time, in milliseconds since the epoch.
    Since(i64),
}

impl Target {
    fn parse(text: &str, zone: Zone, now: i64) -> Result<Self, UsageError> {
        let text = text.trim();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            "current" => return Ok(Self::By(0)),
            _ => {}
        }
        if let Some(number) = text.strip_prefix(['+', '-']).filter(|rest| is_number(rest)) {
            let by: i64 =
                number.parse().map_err(|_| UsageError::new(format!("--to: {text} is too large")))?;
            return Ok(Self::By(if text.starts_with('-') { -by } else { by }));
        }
        let moment = time::moment(text, zone, now);
        moment.map(Self::Since).map_err(|error| {
            UsageError::new(format!("--to: {error} (or write earliest, latest, current, +N or -N)"))
        })
    }
}

/// A partition's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Change {
    partition: i32,
    committed: Option<i64>,
    new: i64,
    beginning: i64,
    end: i64,
    /// Messages that are read again (negative) or skipped.
    change: i64,
}

/// The new offsets, within what each partition holds. `since` has the offset of the time by partition.
fn changes(places: &[Place], target: Target, since: &[Option<i64>]) -> Vec<Change> {
    let change = |place: &Place| {
        let wanted = match target {
            Target::Earliest => place.beginning,
            Target::Latest => place.end,
            Target::By(by) => place.next().saturating_add(by),
            Target::Since(_) => {
                let found = usize::try_from(place.partition).ok().and_then(|index| *since.get(index)?);
                found.unwrap_or(place.end)
            }
        };
        let new = wanted.clamp(place.beginning, place.end);
        let Place { partition, beginning, end, committed } = *place;
        Change { partition, committed, new, beginning, end, change: new - place.next() }
    };
    places.iter().map(change).collect()
}

async fn reset(args: ResetArgs, mut context: Context) -> anyhow::Result<()> {
    if let Some(group) = args.group {
        context.config.kafka.group = group;
    }
    let config = context.config.kafka.clone();
    let target = Target::parse(&args.to, args.zone.zone()?, time::now())?;
    let mut found = until_stopped(&context.shutdown, places(&config)).await?;
    let count = found.len();
    if let Some(unknown) =
        args.partitions.iter().find(|wanted| !found.iter().any(|one| one.partition == **wanted))
    {
        return Err(UsageError::new(format!(
            "--partition: the topic {:?} has no partition {unknown} (it has 0 to {})",
            config.topic,
            count.saturating_sub(1)
        ))
        .into());
    }
    if !args.partitions.is_empty() {
        found.retain(|place| args.partitions.contains(&place.partition));
    }
    let since = match target {
        Target::Since(moment) => {
            let partitions = i32::try_from(count).unwrap_or(i32::MAX);
            let asked = retention::offsets_since(&config, &config.topic, partitions, moment);
            until_stopped(&context.shutdown, asked).await?
        }
        _ => Vec::new(),
    };
    let changes = changes(&found, target, &since);
    print(&changes, &config, args.dry_run, args.format, &context)?;
    let members = until_stopped(&context.shutdown, consumer_groups::members(&config)).await?;
    let members = members.filter(|group| group.members > 0);
    if let Some(group) = &members {
        anyhow::ensure!(
            args.dry_run,
            "the consumer group {:?} has {} members: {} (stop every ingest of the group; a killed one stays a member for \
             10 s)",
            group.name,
            group.members,
            group.clients.join(", ")
        );
    }
    if args.dry_run {
        context.output.note("nothing was changed");
        return Ok(());
    }
    let question = format!(
        "set the offsets of {} of {} for the consumer group {} at {}",
        plural(changes.len(), "partition"),
        config.topic,
        config.group,
        config.bootstrap_servers.join(", ")
    );
    if !args.yes && !context.output.confirm(&question)? {
        context.output.note("nothing was changed");
        return Ok(());
    }
    let offsets: Vec<(i32, i64)> = changes.iter().map(|change| (change.partition, change.new)).collect();
    let committing = consumer_groups::commit(&config, &config.topic, &offsets);
    until_stopped(&context.shutdown, committing).await?;
    context.output.note(format!("the next ingest of the group {} begins there", config.group));
    Ok(())
}

fn print(
    changes: &[Change],
    config: &KafkaConfig,
    is_dry_run: bool,
    format: ReportFormat,
    context: &Context,
) -> anyhow::Result<()> {
    if format == ReportFormat::Json {
        return context.output.json(&serde_json::json!({
            "group": config.group, "topic": config.topic, "is_dry_run": is_dry_run, "partitions": changes,
        }));
    }
    let headings = ["partition", "committed", "new", "change", "beginning", "end"];
    let mut rows = table::table(&headings, &[0, 1, 2, 3, 4, 5]);
    for change in changes {
        rows.add_row([
            change.partition.to_string(),
            change.committed.map_or_else(|| "never".to_owned(), |offset| offset.to_string()),
            change.new.to_string(),
            format!("{:+}", change.change),
            change.beginning.to_string(),
            change.end.to_string(),
        ]);
    }
    context.output.table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_a_number_of_messages_or_a_moment() {
        let zone = Zone::named("UTC").unwrap();
        let parse = |text: &str| Target::parse(text, zone, 1_000_000).ok();
        assert_eq!(parse("earliest"), Some(Target::Earliest));
        assert_eq!(parse("latest"), Some(Target::Latest));
        assert_eq!(parse("current"), Some(Target::By(0)));
        assert_eq!((parse("+10"), parse("-10")), (Some(Target::By(10)), Some(Target::By(-10))));
        assert_eq!(parse("-10s"), Some(Target::Since(990_000)));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(Target::Since(1_000)));
        let error = Target::parse("yesterdayish", zone, 0).unwrap_err().to_string();
        assert!(error.contains("earliest, latest, current, +N or -N"), "{error}");
    }

    #[test]
    fn new_offsets_stay_within_what_the_partition_holds() {
        let place = |committed| Place { partition: 0, beginning: 10, end: 100, committed };
        let to = |committed, target, since: Option<i64>| {
            let change = changes(&[place(committed)], target, &[since]).remove(0);
            (change.new, change.change)
        };
        assert_eq!(to(Some(50), Target::By(-100), None), (10, -40));
        assert_eq!(to(Some(50), Target::By(100), None), (100, 50));
        assert_eq!(to(None, Target::By(5), None), (15, 5));
        // Behind what was deleted, and beyond a topic that was made anew.
        assert_eq!(to(Some(3), Target::By(0), None), (10, 7));
        assert_eq!(to(Some(500), Target::By(0), None), (100, -400));
        assert_eq!(to(Some(50), Target::Since(0), Some(20)), (20, -30));
        assert_eq!(to(Some(50), Target::Since(0), None), (100, 50));
    }
}
