//! Lines of an answer that have rows but no value of the metrics that were asked for: SQL shows them, with NULL.
//!
//! A rollup says which metrics were measured, not how many rows there are. So a line that no rollup of the asked metrics has is
//! looked for in the rollups of all metrics, and only where these have nothing in the raw rows themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::Scan;
use super::stats::{Key, Keys, Plans, Slice, StatsQuery};
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::store::readings::{self, Names};
use crate::store::rollups::{Detail, Table, summaries};
use crate::time::{DAY, HOUR, TimeRange};

/// Sensors whose rows are looked for one by one; for more, all rows of the group are read.
const MOST_SENSORS: usize = 32;

/// Adds to `present` the keys of all rows in the hours and days that the plans take from rollups. The keys that are there already
/// are not looked for.
pub async fn complete(
    query: &StatsQuery,
    session: &Session,
    plans: &Plans,
    present: &mut BTreeSet<Key>,
) -> Result<(), Error> {
    for (group, plan) in plans {
        let parts = query.parts(group, plan);
        let mut search = Search { query, session, group, keys: Keys::new(query, group), present };
        match query.is_of_sensors() {
            true => search.sensors(parts).await?,
            false => search.group(parts).await?,
        }
    }
    Ok(())
}

struct Search<'a> {
    query: &'a StatsQuery,
    session: &'a Session,
    group: &'a Arc<Group>,
    keys: Keys<'a>,
    present: &'a mut BTreeSet<Key>,
}

impl Search<'_> {
    fn key(&self, sensor: Uuid, at: i64) -> Key {
        self.keys.key(sensor, self.query.by.periods().of(at))
    }

    fn is_present(&self, sensor: Uuid, at: i64) -> bool {
        self.present.contains(&self.key(sensor, at))
    }

    async fn group(&mut self, parts: Vec<Slice>) -> Result<(), Error> {
        let mut left = Vec::new();
        for Slice { table, start, hours, .. } in parts {
            let hours = match hours.is_empty() {
                true => (0..24).map(|hour| start + hour * HOUR).collect(),
                false => hours,
            };
            if hours.iter().all(|hour| self.is_present(Uuid::nil(), *hour)) {
                continue;
            }
            let detail = Detail::WithoutSketch;
            let mut pages = summaries(self.session, table, self.group, start, None, None, detail).await?;
            while let Some(page) = pages.next::<i64>().await? {
                for stored in page.iter().filter(|stored| hours.contains(&stored.key)) {
                    let key = self.key(Uuid::nil(), stored.key);
                    self.present.insert(key);
                }
            }
            left.extend(hours.into_iter().map(|hour| TimeRange { from: hour, to: hour + HOUR }));
        }
        self.look(None, left).await
    }

    async fn sensors(&mut self, parts: Vec<Slice>) -> Result<(), Error> {
        let sensors = self.known_sensors().await?;
        let mut left: BTreeMap<Uuid, Vec<TimeRange>> = BTreeMap::new();
        for Slice { table, start, .. } in parts {
            let to = start + if table == Table::Daily { DAY } else { HOUR };
            // A sensor has no row after its newest one.
            let may_have = |(_, newest): &&(Uuid, i64)| *newest >= start;
            let missing = |search: &Self| -> Vec<Uuid> {
                let known = sensors.iter().filter(may_have).map(|(sensor, _)| *sensor);
                known.filter(|sensor| !search.is_present(*sensor, start)).collect()
            };
            if missing(self).is_empty() {
                continue;
            }
            let detail = Detail::WithoutSketch;
            let mut pages = summaries(self.session, table, self.group, start, None, None, detail).await?;
            while let Some(page) = pages.next::<Uuid>().await? {
                let chosen = page.iter().filter(|stored| self.is_chosen(stored.key));
                let keys: Vec<_> = chosen.map(|stored| self.key(stored.key, start)).collect();
                self.present.extend(keys);
            }
            for sensor in missing(self) {
                left.entry(sensor).or_default().push(TimeRange { from: start, to });
            }
        }
        if left.len() > MOST_SENSORS {
            let ranges: BTreeSet<_> =
                left.into_values().flatten().map(|range| (range.from, range.to)).collect();
            return self
                .look(None, ranges.into_iter().map(|(from, to)| TimeRange { from, to }).collect())
                .await;
        }
        for (sensor, ranges) in left {
            self.look(Some(sensor), ranges).await?;
        }
        Ok(())
    }

    fn is_chosen(&self, sensor: Uuid) -> bool {
        self.query.sensor.is_none_or(|only| only == sensor)
            && self.query.chosen.as_ref().is_none_or(|chosen| chosen.contains(self.group, sensor))
    }

    /// The sensors of the group, with the moment of the newest reading of each.
    async fn known_sensors(&self) -> Result<Vec<(Uuid, i64)>, Error> {
        let mut known = Vec::new();
        let mut names = Names::default();
        let mut pages = readings::latest(self.session, self.group, self.query.sensor).await?;
        while let Some(page) = pages.next(&mut names).await? {
            let chosen = page.iter().filter(|reading| self.is_chosen(reading.sensor));
            known.extend(chosen.map(|reading| (reading.sensor, reading.recorded_at)));
        }
        Ok(known)
    }

    /// Looks for raw rows of one sensor, or of all, in ranges each of which is of one period.
    async fn look(&mut self, sensor: Option<Uuid>, mut ranges: Vec<TimeRange>) -> Result<(), Error> {
        ranges.sort_unstable_by_key(|range| range.from);
        let mut periods = self.query.by.periods().cursor();
        let mut merged: Vec<TimeRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.to == range.from && periods.holds(last.from, range.to) => {
                    last.to = range.to;
                }
                _ => merged.push(range),
            }
        }
        // One row says all where a period has one line.
        let one_line = sensor.is_some() || !self.query.by.is_of_sensors();
        for range in merged {
            if one_line && self.is_present(sensor.unwrap_or_default(), range.from) {
                continue;
            }
            let only = sensor.or(self.query.sensor);
            let mut scan = Scan::start(self.session, self.query.question(self.group, only, range)).await?;
            while let Some(chunk) = scan.next().await? {
                for reading in chunk {
                    let key = self.key(reading.sensor, reading.recorded_at);
                    self.present.insert(key);
                }
                if one_line {
                    break;
                }
            }
        }
        Ok(())
    }
}
