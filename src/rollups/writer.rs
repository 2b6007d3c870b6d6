//! Computing rollups: the hours that are due from the raw rows, then their days; then their dirty markers are deleted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::due::{Due, DueDay, Scope};
use crate::analytics::Scan;
use crate::cassandra::{Error, SealedBatch, Session};
use crate::config::{Config, RetentionConfig, RollupConfig};
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::Summary;
use crate::store::readings::{self, StoredReading};
use crate::store::rollups::{self, Detail, RollupStatements, Table, Written};
use crate::time::TimeRange;
use crate::time::{DAY, HOUR, hour_of};

/// How long a lease lasts without renewal, how often it is renewed, and its maximum age for a write.
const LEASE: Duration = Duration::from_secs(120);
const LEASE_RENEWED: Duration = Duration::from_secs(20);
const LEASE_TRUSTED: Duration = Duration::from_secs(60);
/// Batches of rollups written at once.
const WRITES_IN_FLIGHT: usize = 16;
/// Hours of rollups that are read at once.
const READS_IN_FLIGHT: usize = 8;

/// Computes rollups. There may be several in one or more processes; each group is computed by one of them at a time.
#[derive(Debug, Clone)]
pub struct RollupWriter {
    session: Session,
    statements: RollupStatements,
    config: RollupConfig,
    retention: RetentionConfig,
    /// Time to live of raw rows if `retention` has none.
    raw_ttl: Option<Duration>,
    owner: Uuid,
}

/// Work that was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub hours: u64,
    pub days: u64,
    pub readings: u64,
    /// Rollup rows written.
    pub summaries: u64,
}

impl Done {
    pub fn add(&mut self, other: Self) {
        self.hours += other.hours;
        self.days += other.days;
        self.readings += other.readings;
        self.summaries += other.summaries;
    }
}

/// Why a group could not be rolled up.
#[derive(Debug, thiserror::Error)]
pub enum RollupError {
    #[error(transparent)]
    Cassandra(#[from] Error),
    #[error(
        "another process is computing the rollups of location {location}, device type {device_type} \
         (run the command again later if some are still due)"
    )]
    Leased { location: String, device_type: String },
    #[error(
        "the lease on location {location}, device type {device_type} was not renewed in time (run the command again)"
    )]
    LeaseLost { location: String, device_type: String },
}

/// One group under a lease.
pub struct Leased<'a> {
    writer: &'a RollupWriter,
    group: &'a Arc<Group>,
    renewed: Instant,
}

/// By metric, then sensor.
pub(super) type Summaries = BTreeMap<Arc<str>, HashMap<Uuid, Summary>>;

impl RollupWriter {
    /// Fails with [`Error::Invalid`] if the tables do not exist.
    pub async fn new(session: &Session, config: &Config) -> Result<Self, Error> {
        Ok(Self {
            session: session.clone(),
            statements: RollupStatements::prepare(session).await?,
            config: config.rollup.clone(),
            retention: config.retention.clone(),
            raw_ttl: readings::time_to_live(session).await?,
            owner: Uuid::new_v4(),
        })
    }

    pub async fn due(&self, group: &Arc<Group>, range: TimeRange, scope: Scope) -> Result<Due, Error> {
        let now = chrono::Utc::now().timestamp_millis();
        Due::find(&self.session, group, range, self.config.hourly_retention, scope, now).await
    }

    /// Takes the lease of a group.
    pub async fn lease<'a>(&'a self, group: &'a Arc<Group>) -> Result<Leased<'a>, RollupError> {
        let renewed = Instant::now();
        match rollups::lease::acquire(&self.session, group, self.owner, LEASE).await? {
            true => Ok(Leased { writer: self, group, renewed }),
            false => Err(RollupError::Leased {
                location: group.location.clone(),
                device_type: group.device_type.clone(),
            }),
        }
    }
}

impl Leased<'_> {
    /// Rolls up the due hours of a day and then, if it is complete, the day. `each_hour` is called after every hour.
    pub async fn roll(
        &mut self,
        due: &DueDay,
        mut each_hour: impl FnMut(&Done),
    ) -> Result<Done, RollupError> {
        let session = &self.writer.session;
        let timestamp = chrono::Utc::now().timestamp_micros();
        let mut done = Done::default();
        let mut whole_day = Summaries::new();
        for range in runs(&due.hours) {
            let mut scan = Scan::of_hours(session, self.group.clone(), None, range).await?;
            let mut hour = range.from;
            // One, or two while an hour is found to be over.
            let mut open: BTreeMap<i64, Summaries> = BTreeMap::new();
            while let Some(chunk) = scan.next().await? {
                self.renew().await?;
                done.readings += chunk.len() as u64;
                while scan.reached() >= hour + HOUR {
                    let finished = open.remove(&hour).unwrap_or_default();
                    done.add(self.write_hour(hour, finished, due, timestamp, &mut whole_day).await?);
                    each_hour(&done);
                    hour += HOUR;
                }
                for reading in &chunk {
                    add(open.entry(hour_of(reading.recorded_at)).or_default(), reading);
                }
            }
            while hour < range.to {
                let finished = open.remove(&hour).unwrap_or_default();
                done.add(self.write_hour(hour, finished, due, timestamp, &mut whole_day).await?);
                each_hour(&done);
                hour += HOUR;
            }
        }
        if due.is_complete {
            self.read_hours(&due.others, &mut whole_day).await?;
            done.add(self.write_day(due.day, &whole_day, timestamp).await?);
        }
        self.renew().await?;
        let (session, statements, group) = (session, &self.writer.statements, self.group);
        stream::iter(due.markers.clone())
            .map(|marker| async move { statements.delete_marker(session, group, &marker).await })
            .buffer_unordered(WRITES_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        Ok(done)
    }

    /// Waits, and keeps the lease.
    pub async fn pause(&mut self, length: Duration) -> Result<(), RollupError> {
        let until = Instant::now() + length;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(LEASE_RENEWED)).await;
            self.renew().await?;
            if left <= LEASE_RENEWED {
                return Ok(());
            }
        }
    }

    /// Releases the lease. If that fails, it expires.
    pub async fn release(self) {
        let _ = rollups::lease::release(&self.writer.session, self.group, self.writer.owner).await;
    }

    async fn write_hour(
        &mut self,
        hour: i64,
        mut summaries: Summaries,
        due: &DueDay,
        timestamp: i64,
        whole_day: &mut Summaries,
    ) -> Result<Done, RollupError> {
        let RollupWriter { session, statements, config, .. } = self.writer;
        if due.again.contains(&hour) && self.may_have_expired(hour, timestamp) {
            let mut before = Summaries::new();
            self.read_hours(&[hour], &mut before).await?;
            keep_what_has_expired(&mut summaries, before);
        }
        let mut done = Done { hours: 1, ..Done::default() };
        let Some(hourly) = Written::of_day(due.day, config.hourly_retention, timestamp) else {
            return Ok(done);
        };
        let daily = Written::of_day(due.day, config.daily_retention, timestamp).unwrap_or(hourly);
        let mut by_sensor = statements.summaries(session, Table::Hourly, self.group, hour, hourly);
        let mut of_group = statements.summaries(session, Table::Group, self.group, due.day, daily);
        for (metric, sensors) in &summaries {
            let mut all: Option<Summary> = None;
            for (sensor, summary) in sensors {
                by_sensor.push_sensor(metric, *sensor, summary);
                done.summaries += 1;
                merge_into(&mut all, summary);
            }
            if let Some(all) = &all {
                of_group.push_hour(metric, hour, all);
                done.summaries += 1;
            }
        }
        let batches: Vec<_> = by_sensor.finish().into_iter().chain(of_group.finish()).collect();
        self.write(batches).await?;
        self.renew().await?;
        self.writer.statements.cover(&self.writer.session, self.group, HOUR, hour, hourly).await?;
        if due.is_complete {
            merge_all(whole_day, summaries);
        }
        Ok(done)
    }

    async fn write_day(
        &mut self,
        day: i64,
        summaries: &Summaries,
        timestamp: i64,
    ) -> Result<Done, RollupError> {
        let RollupWriter { session, statements, config, .. } = self.writer;
        let mut done = Done { days: 1, ..Done::default() };
        let Some(written) = Written::of_day(day, config.daily_retention, timestamp) else { return Ok(done) };
        let mut batches = statements.summaries(session, Table::Daily, self.group, day, written);
        for (metric, sensors) in summaries {
            for (sensor, summary) in sensors {
                batches.push_sensor(metric, *sensor, summary);
                done.summaries += 1;
            }
        }
        let batches = batches.finish();
        self.write(batches).await?;
        self.renew().await?;
        self.writer.statements.cover(&self.writer.session, self.group, DAY, day, written).await?;
        Ok(done)
    }

    async fn write(&mut self, batches: Vec<SealedBatch>) -> Result<(), RollupError> {
        self.renew().await?;
        let session = &self.writer.session;
        let writes = stream::iter(batches).map(|batch| async move { session.write(&batch).await });
        Ok(writes.buffer_unordered(WRITES_IN_FLIGHT).try_collect::<()>().await?)
    }

    /// Adds the stored rollups of some hours.
    async fn read_hours(&self, hours: &[i64], summaries: &mut Summaries) -> Result<(), RollupError> {
        let (session, group) = (&self.writer.session, self.group);
        let mut read = stream::iter(hours.to_vec())
            .map(|hour| stored_hour(session, group, hour))
            .buffer_unordered(READS_IN_FLIGHT);
        while let Some(hour) = read.try_next().await? {
            merge_all(summaries, hour);
        }
        Ok(())
    }

    /// Whether rows of the hour may have expired. A row's time to live starts when it is written, which is not long before
    /// it was recorded.
    fn may_have_expired(&self, hour: i64, timestamp: i64) -> bool {
        let RollupWriter { retention, raw_ttl, .. } = self.writer;
        // Rows that were stored before a device type got its own retention have that of the table.
        let ttl = retention.of(&self.group.device_type).into_iter().chain(*raw_ttl).min();
        let ttl = ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        ttl.is_some_and(|ttl| hour.saturating_add(ttl).saturating_sub(DAY) < timestamp / 1000)
    }

    /// Renews the lease if it is time. A write later than [`LEASE_TRUSTED`] after the last renewal could meet what another
    /// process has computed from newer rows.
    async fn renew(&mut self) -> Result<(), RollupError> {
        if self.renewed.elapsed() < LEASE_RENEWED {
            return Ok(());
        }
        let lost = RollupError::LeaseLost {
            location: self.group.location.clone(),
            device_type: self.group.device_type.clone(),
        };
        if self.renewed.elapsed() > LEASE_TRUSTED {
            return Err(lost);
        }
        let now = Instant::now();
        match rollups::lease::acquire(&self.writer.session, self.group, self.writer.owner, LEASE).await? {
            true => self.renewed = now,
            false => return Err(lost),
        }
        Ok(())
    }
}

/// The stored rollups of an hour.
pub(super) async fn stored_hour(session: &Session, group: &Group, hour: i64) -> Result<Summaries, Error> {
    let mut pages =
        rollups::summaries(session, Table::Hourly, group, hour, None, None, Detail::Whole).await?;
    let mut summaries = Summaries::new();
    while let Some(page) = pages.next::<Uuid>().await? {
        for stored in page {
            summaries.entry(stored.metric.into()).or_default().insert(stored.key, stored.summary);
        }
    }
    Ok(summaries)
}

/// Adds the values of a reading.
pub(super) fn add(summaries: &mut Summaries, reading: &StoredReading) {
    let mut add = |metric: &str, value: f64| {
        let sensors = match summaries.get_mut(metric) {
            Some(sensors) => sensors,
            None => summaries.entry(metric.into()).or_default(),
        };
        let at = reading.recorded_at;
        sensors
            .entry(reading.sensor)
            .and_modify(|summary| summary.add(value, at))
            .or_insert_with(|| Summary::of(value, at));
    };
    for metric in &Metric::COLUMNS {
        if let Some(value) = reading.value(metric) {
            add(metric.name(), value);
        }
    }
    for (name, value) in &reading.other_metrics {
        // A name of a column always means the column.
        if matches!(Metric::named(name), Metric::Other(_)) {
            add(name, *value);
        }
    }
}

pub(super) fn merge_all(summaries: &mut Summaries, others: Summaries) {
    for (metric, sensors) in others {
        let known = summaries.entry(metric).or_default();
        for (sensor, summary) in sensors {
            known.entry(sensor).and_modify(|known| known.merge(&summary)).or_insert(summary);
        }
    }
}

fn merge_into(all: &mut Option<Summary>, summary: &Summary) {
    match all {
        Some(all) => all.merge(summary),
        None => *all = Some(summary.clone()),
    }
}

/// Keeps the stored summary if it has more values: raw rows have expired since.
fn keep_what_has_expired(summaries: &mut Summaries, before: Summaries) {
    for (metric, sensors) in before {
        let known = summaries.entry(metric).or_default();
        for (sensor, old) in sensors {
            let now = known.entry(sensor).or_insert_with(|| old.clone());
            if now.count < old.count {
                *now = old;
            }
        }
    }
}

/// Consecutive hours as ranges of time.
pub(super) fn runs(hours: &[i64]) -> Vec<TimeRange> {
    let mut runs: Vec<TimeRange> = Vec::new();
    for &hour in hours {
        match runs.last_mut() {
            Some(last) if last.to == hour => last.to = hour + HOUR,
            _ => runs.push(TimeRange { from: hour_of(hour), to: hour + HOUR }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::summary::tests::summary;

    fn of(values: &[(f64, i64)]) -> Summaries {
        let sensors = [(Uuid::nil(), summary(values).unwrap())].into();
        [("temperature".into(), sensors)].into()
    }

    #[test]
    fn hours_are_read_in_runs() {
        let found: Vec<_> = runs(&[0, HOUR, 3 * HOUR]).iter().map(|run| (run.from, run.to)).collect();
        assert_eq!(found, [(0, 2 * HOUR), (3 * HOUR, 4 * HOUR)]);
    }

    #[test]
    fn the_rollup_of_expired_rows_is_kept() {
        let before = of(&[(1.0, 1), (2.0, 2), (3.0, 3)]);
        let mut fewer = of(&[(9.0, 4)]);
        keep_what_has_expired(&mut fewer, before.clone());
        assert_eq!(fewer, before);
        let mut none = Summaries::new();
        keep_what_has_expired(&mut none, before.clone());
        assert_eq!(none, before);
        let more = of(&[(1.0, 1), (2.0, 2), (3.0, 3), (4.0, 4)]);
        let mut kept = more.clone();
        keep_what_has_expired(&mut kept, before);
        assert_eq!(kept, more);
    }
}
