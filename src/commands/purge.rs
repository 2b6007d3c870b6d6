//! `iotctl purge`: deletes readings before they expire, whole time buckets at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use uuid::Uuid;

use super::Context;
use super::flags::{GroupArgs, ZoneArgs};
use super::support::until_stopped;
use crate::cassandra::{Error, Session};
use crate::error::UsageError;
use crate::output::text::plural;
use crate::output::{ReportFormat, table};
use crate::reading::{Group, Partition};
use crate::store::purge::{self, Outcome};
use crate::store::{groups, rollups};
use crate::time::{self, DAY, day_of};

/// Partitions that are checked or deleted at once.
const IN_FLIGHT: usize = 16;

/// Delete a location's readings older than a given time
///
/// Whole buckets of time are deleted, each by one partition tombstone; a bucket that ends after the time stays. The command
/// shows what would be deleted and asks, unless --yes. Every replica has to acknowledge, so that none brings the readings
/// back; if a node is down, nothing is deleted for its partitions. Afterwards it looks again: readings that were written by
/// a clock ahead of the servers' are deleted up to a day ahead, and reported beyond. The rollups of the days are deleted
/// too; what is left of such a day is rolled up again. Compaction frees the disk a day later at the earliest. A consumer
/// group that starts over writes again what the topic still holds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl purge --location plant-1 --before 90d --dry-run
  iotctl purge --location plant-1 --device-type thermostat --before 2026-01-01 --yes")]
pub struct PurgeArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    /// Buckets that end at this time or before: 2026-01-01, '90d ago', -90d
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub before: String,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// What is deleted of a group.
struct Selected {
    group: Arc<Group>,
    /// Oldest first.
    partitions: Vec<Partition>,
}

pub async fn run(args: PurgeArgs, context: Context) -> anyhow::Result<()> {
    let now = Utc::now().timestamp_millis();
    let before = time::moment(&args.before, args.zone.zone()?, now)
        .map_err(|error| UsageError::new(format!("--before: {error}")))?;
    if args.group.location.is_none() {
        return Err(UsageError::new("--location is required (there is no purge of all locations)").into());
    }
    let session = purge::connect(&context.config.cassandra).await?;
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(&session)).await?;
    let mut selected = Vec::new();
    for group in matching {
        let partitions = until_stopped(&context.shutdown, expired(&session, &group, before)).await?;
        selected.push(Selected { group, partitions });
    }
    selected.retain(|selected| !selected.partitions.is_empty());
    show(&selected, before, &args, &context)?;
    let count: usize = selected.iter().map(|selected| selected.partitions.len()).sum();
    if args.dry_run || count == 0 {
        context.output.note(if count == 0 { "there is nothing to delete" } else { "nothing was deleted" });
        return Ok(());
    }
    let place = context.config.cassandra.contact_points.join(", ");
    let question =
        format!("delete the readings of {} from the Cassandra at {place}", plural(count, "bucket"));
    if !args.yes && !context.output.confirm(&question)? {
        context.output.note("nothing was deleted");
        return Ok(());
    }
    let all = selected.iter().flat_map(|selected| &selected.partitions);
    let mut deletions =
        stream::iter(all).map(|partition| purge::delete(&session, partition)).buffer_unordered(IN_FLIGHT);
    let progress = context.output.bar(count as u64, "deleting");
    for Selected { group, partitions } in &selected {
        let forget = forget(&session, group, partitions);
        until_stopped(&context.shutdown, forget).await.with_context(|| {
            format!(
                "the rollups of location {}, device type {} are not deleted, and neither are readings (run the command again)",
                group.location, group.device_type
            )
        })?;
    }
    let mut deleted = 0_usize;
    let mut hides_until: Option<i64> = None;
    let mut left: Vec<Option<i64>> = Vec::new();
    while let Some(outcome) = until_stopped(&context.shutdown, deletions.try_next()).await.with_context(|| {
        format!(
            "{deleted} of {count} buckets are deleted (run the command again for the rest; each replica must be up)"
        )
    })? {
        match outcome {
            Outcome::Deleted => deleted += 1,
            Outcome::HidesUntil(until) => {
                deleted += 1;
                hides_until = hides_until.max(Some(until));
            }
            Outcome::Left(newest) => left.push(newest),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    context.output.note(format!("deleted the readings of {}", plural(deleted, "bucket")));
    if let Some(until) = hides_until {
        context.output.note(format!(
            "some were written by a clock that was ahead: readings that are stored in these buckets before {} stay hidden",
            time::display(until)
        ));
    }
    let newest = left.iter().flatten().max().map(|newest| format!(", until {}", time::display(*newest)));
    anyhow::ensure!(
        left.is_empty(),
        "readings of {} are left: they were written by a clock more than a day ahead{} (correct that clock, and \
         run the command again once they are less than a day ahead)",
        plural(left.len(), "bucket"),
        newest.unwrap_or_default()
    );
    Ok(())
}

/// Deletes the rollups of the days that the partitions touch, while no other process computes them.
async fn forget(session: &Session, group: &Group, partitions: &[Partition]) -> anyhow::Result<()> {
    const LEASE: Duration = Duration::from_secs(600);
    let owner = Uuid::new_v4();
    anyhow::ensure!(
        rollups::lease::acquire(session, group, owner, LEASE).await?,
        "another process is computing its rollups"
    );
    let days: BTreeSet<i64> = partitions
        .iter()
        .flat_map(|partition| [partition.bucket.start, partition.bucket.end() - 1])
        .map(day_of)
        .collect();
    let (first, last) = (days.first().copied().unwrap_or(0), days.last().copied().unwrap_or(-1));
    let mut coverage = rollups::coverage::read(session, group, first, last.saturating_add(DAY)).await?;
    coverage.days.retain(|day| days.contains(day));
    coverage.hours.retain(|&hour| days.contains(&day_of(hour)));
    rollups::coverage::delete(session, group, &coverage).await?;
    rollups::lease::release(session, group, owner).await?;
    Ok(())
}

/// The buckets of a group with readings that end at `before` or earlier.
async fn expired(session: &Session, group: &Arc<Group>, before: i64) -> Result<Vec<Partition>, Error> {
    let mut partitions = groups::partitions(session, group, i64::MIN, before).await?;
    partitions.retain(|partition| partition.bucket.end() <= before);
    partitions.reverse();
    stream::iter(partitions)
        .map(|partition| async move {
            Ok(purge::has_readings(session, &partition).await?.then_some(partition))
        })
        .buffered(IN_FLIGHT)
        .try_filter_map(|partition| async move { Ok(partition) })
        .try_collect()
        .await
}

fn show(selected: &[Selected], before: i64, args: &PurgeArgs, context: &Context) -> anyhow::Result<()> {
    if args.format == ReportFormat::Json {
        let groups: Vec<_> = selected
            .iter()
            .map(|Selected { group, partitions }| {
                let buckets: Vec<_> =
                    partitions.iter().map(|partition| time::display(partition.bucket.start)).collect();
                json!({ "location": group.location, "device_type": group.device_type, "buckets": buckets })
            })
            .collect();
        let is_dry_run = args.dry_run;
        return context
            .output
            .json(&json!({ "before": time::display(before), "is_dry_run": is_dry_run, "groups": groups }));
    }
    if selected.is_empty() {
        return Ok(());
    }
    let mut rows = table::table(&["location", "device type", "buckets", "from", "to"], &[2]);
    for Selected { group, partitions } in selected {
        let (first, last) = (partitions.first(), partitions.last());
        rows.add_row([
            group.location.clone(),
            group.device_type.clone(),
            partitions.len().to_string(),
            first.map(|first| time::display(first.bucket.start)).unwrap_or_default(),
            last.map(|last| time::display(last.bucket.end())).unwrap_or_default(),
        ]);
    }
    context.output.table(&rows)
}
