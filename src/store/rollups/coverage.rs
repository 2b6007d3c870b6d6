//! Which hours and days have rollups, and which hours carry dirty markers because readings arrived after they were over.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::{PAGE_ROWS, RollupStatements, Table, Written};
use crate::cassandra::{Error, Session, Values};
use crate::reading::Group;
use crate::store::groups;
use crate::time::{DAY, HOUR, day_of};

/// A coverage entry expires this long before the summaries that it covers, in seconds.
pub(super) const EXPIRY_MARGIN: i64 = HOUR / 1000;

/// Hours and days, by the moment that they begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pub hours: BTreeSet<i64>,
    pub days: BTreeSet<i64>,
}

/// A note that readings arrive in an hour that is over: its rollups have to be computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtyMarker {
    pub hour: i64,
    pub id: Uuid,
    /// By the writer's clock, in milliseconds since the epoch.
    pub marked_at: i64,
}

/// The hours and days of a group that have rollups. Only what begins in `[from, to)`.
pub async fn read(session: &Session, group: &Group, from: i64, to: i64) -> Result<Coverage, Error> {
    let cql = format!(
        "SELECT start FROM {}.rollup_coverage WHERE location = ? AND device_type = ? AND period_seconds = ? \
         AND start >= ? AND start < ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let starts = async |period: i64| {
        let values = groups::key(group).int(seconds(period)).timestamp(from).timestamp(to);
        let mut pages = session.pages(statement.clone(), values, PAGE_ROWS);
        let mut starts = BTreeSet::new();
        while let Some(page) = pages.next().await? {
            for row in page.iter() {
                starts.insert(row.get(0)?);
            }
        }
        Ok::<_, Error>(starts)
    };
    let (hours, days) = tokio::try_join!(starts(HOUR), starts(DAY))?;
    Ok(Coverage { hours, days })
}

/// The dirty markers of a group, by hour.
pub async fn dirty_markers(session: &Session, group: &Group) -> Result<Vec<DirtyMarker>, Error> {
    let cql = format!(
        "SELECT hour, mark, marked_at FROM {}.rollup_dirty WHERE location = ? AND device_type = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let mut pages = session.pages(statement, groups::key(group), PAGE_ROWS);
    let mut markers = Vec::new();
    while let Some(page) = pages.next().await? {
        for row in page.iter() {
            markers.push(DirtyMarker { hour: row.get(0)?, id: row.get(1)?, marked_at: row.get(2)? });
        }
    }
    Ok(markers)
}

impl RollupStatements {
    /// Records that an hour or day ([`HOUR`], [`DAY`]) has its rollups.
    pub async fn cover(
        &self,
        session: &Session,
        group: &Group,
        period: i64,
        start: i64,
        written: Written,
    ) -> Result<(), Error> {
        let ttl = (written.ttl_seconds - EXPIRY_MARGIN).max(1);
        let values = groups::key(group)
            .int(seconds(period))
            .timestamp(start)
            .timestamp(written.timestamp / 1000)
            .int(i32::try_from(ttl).unwrap_or(i32::MAX));
        session.execute(&self.coverage, &values).await.map(|_| ())
    }

    /// Deletes a dirty marker; deleting it again changes nothing.
    pub async fn delete_marker(
        &self,
        session: &Session,
        group: &Group,
        marker: &DirtyMarker,
    ) -> Result<(), Error> {
        let values = groups::key(group).timestamp(marker.hour).uuid(marker.id);
        session.execute(&self.delete_marker, &values).await.map(|_| ())
    }
}

/// Deletes the rollups of hours and days, and the group's rollups of every day that they touch; all other hours of such
/// a day must be in `coverage` too. The coverage entries go first, so that no reader looks for summaries that are being
/// deleted.
pub async fn delete(session: &Session, group: &Group, coverage: &Coverage) -> Result<(), Error> {
    let keyspace = session.keyspace();
    let uncover = format!(
        "DELETE FROM {keyspace}.rollup_coverage \
         WHERE location = ? AND device_type = ? AND period_seconds = ? AND start = ?"
    );
    let days = coverage.days.iter().map(|&day| (DAY, day));
    let hours = coverage.hours.iter().map(|&hour| (HOUR, hour));
    let values =
        days.chain(hours).map(|(period, start)| groups::key(group).int(seconds(period)).timestamp(start));
    run_all(session, &uncover, values.collect()).await?;

    let touched: BTreeSet<i64> =
        coverage.days.iter().copied().chain(coverage.hours.iter().map(|&hour| day_of(hour))).collect();
    for (table, starts) in
        [(Table::Daily, &coverage.days), (Table::Hourly, &coverage.hours), (Table::Group, &touched)]
    {
        let (name, time, _) = table.names();
        let cql =
            format!("DELETE FROM {keyspace}.{name} WHERE location = ? AND device_type = ? AND {time} = ?");
        run_all(session, &cql, starts.iter().map(|&start| groups::key(group).timestamp(start)).collect())
            .await?;
    }
    Ok(())
}

async fn run_all(session: &Session, cql: &str, all: Vec<Values>) -> Result<(), Error> {
    const IN_FLIGHT: usize = 16;
    let statement = &session.prepare(cql).await?;
    stream::iter(all)
        .map(|values| async move { session.execute(statement, &values).await.map(|_| ()) })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

fn seconds(period: i64) -> i32 {
    i32::try_from(period / 1000).unwrap_or(i32::MAX)
}
