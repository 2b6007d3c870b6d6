//! `iotctl purge`: readings deleted before they expire, whole buckets at a time.

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
use crate::output::{ReportFormat, table};
use crate::reading::{Group, Partition};
use crate::store::groups;
use crate::store::{purge, rollups};
use crate::time::{self, DAY, day_of};

/// Partitions that are looked at, or deleted, at once.
const IN_FLIGHT: usize = 16;

/// Delete a location's readings of before a moment
///
/// Whole buckets of time go, each by one partition tombstone: one that reaches past the moment stays. Shows what would
/// go and asks, unless --yes. Every replica has to acknowledge, so that none brings the readings back; where a node is
/// down, nothing is deleted for its partitions. Rollups of the days go along; what is left of such a day is rolled up again.
/// Disk is freed by compaction, a day after that at the earliest. What a topic
/// still holds would be written again by a group that starts over.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl purge --location plant-1 --before 90d --dry-run
  iotctl purge --location plant-1 --device-type thermostat --before 2026-01-01 --yes")]
pub struct PurgeArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    /// Buckets that end at this moment or before: 2026-01-01, '90d ago', -90d
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub before: String,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// What goes of a group.
struct Doomed {
    group: Arc<Group>,
    /// Oldest first.
    partitions: Vec<Partition>,
}

pub async fn run(args: PurgeArgs, context: Context) -> anyhow::Result<()> {
    let now = Utc::now().timestamp_millis();
    let before = time::moment(&args.before, args.zone.zone(), now)
        .map_err(|error| UsageError::new(format!("--before: {error}")))?;
    if args.group.location.is_none() {
        return Err(UsageError::new("--location says whose readings go (there is no purge of all)").into());
    }
    let session = purge::connect(&context.config.cassandra).await?;
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(&session)).await?;
    let mut doomed = Vec::new();
    for group in matching {
        let partitions = until_stopped(&context.shutdown, expired(&session, &group, before)).await?;
        doomed.push(Doomed { group, partitions });
    }
    doomed.retain(|doomed| !doomed.partitions.is_empty());
    show(&doomed, before, &args, &context)?;
    let count: usize = doomed.iter().map(|doomed| doomed.partitions.len()).sum();
    if args.dry_run || count == 0 {
        context.output.note(if count == 0 { "there is nothing to delete" } else { "nothing was deleted" });
        return Ok(());
    }
    if !args.yes && !context.output.confirm(&format!("delete the readings of {count} buckets"))? {
        context.output.note("nothing was deleted");
        return Ok(());
    }
    let all = doomed.iter().flat_map(|doomed| &doomed.partitions);
    let mut deletions =
        stream::iter(all).map(|partition| purge::delete(&session, partition)).buffer_unordered(IN_FLIGHT);
    let progress = context.output.bar(count as u64, "deleting");
    for Doomed { group, partitions } in &doomed {
        let forget = forget(&session, group, partitions);
        until_stopped(&context.shutdown, forget).await.with_context(|| {
            format!(
                "the rollups of location {}, device type {} are not deleted, and no reading is (run it again)",
                group.location, group.device_type
            )
        })?;
    }
    let mut deleted = 0_usize;
    while let Some(()) = until_stopped(&context.shutdown, deletions.try_next()).await.with_context(|| {
        format!(
            "{deleted} of {count} buckets are deleted (run it again for the rest; each replica must be up)"
        )
    })? {
        deleted += 1;
        progress.inc(1);
    }
    progress.finish_and_clear();
    context.output.note(format!("the readings of {deleted} buckets are deleted"));
    Ok(())
}

/// Deletes the rollups of the days that the partitions touch, while nobody else computes them.
async fn forget(session: &Session, group: &Group, partitions: &[Partition]) -> anyhow::Result<()> {
    const LEASE: Duration = Duration::from_secs(600);
    let owner = Uuid::new_v4();
    anyhow::ensure!(
        rollups::lease::acquire(session, group, owner, LEASE).await?,
        "somebody computes rollups of it at this moment"
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

fn show(doomed: &[Doomed], before: i64, args: &PurgeArgs, context: &Context) -> anyhow::Result<()> {
    if args.format == ReportFormat::Json {
        let groups: Vec<_> = doomed
            .iter()
            .map(|Doomed { group, partitions }| {
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
    if doomed.is_empty() {
        return Ok(());
    }
    let mut rows = table::table(&["location", "device type", "buckets", "from", "to"], &[2]);
    for Doomed { group, partitions } in doomed {
        let (first, last) = (partitions.first(), partitions.last());
        rows.add_row([
            group.location.clone(),
            group.device_type.clone(),
            partitions.len().to_string(),
            first.map(|first| time::display(first.bucket.start)).unwrap_or_default(),
            last.map(|last| time::display(last.bucket.end())).unwrap_or_default(),
        ]);
    }
    context.output.print(rows.to_string())
}
