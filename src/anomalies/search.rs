//! The anomaly search over stored readings: the one place that reads a group, runs a detector over it and joins its
//! findings. `iotctl anomalies` and the dashboard both call it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::ValueEnum;
use serde::Deserialize;
use uuid::Uuid;

use super::seasonal::SeasonalError;
use super::threshold::Limits;
use super::{Anomaly, Finding, Sensitivity, peers, robust_z, runs, seasonal};
use crate::analytics::series::{MOST_POINTS, SeriesError, SeriesQuery};
use crate::cassandra::{self, Session};
use crate::reading::Group;
use crate::series::{Point, Regular, TooManySteps, round_step, usual_step};
use crate::time::Zone;

/// Anomalies that a [`SearchResult`] holds: so many are not exceptions, and their number must not depend on the data.
pub const MAX_ANOMALIES: usize = 1_000_000;

/// How to decide what is unusual. The text of each is its help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Beyond --above or --below
    Threshold,
    /// Far from the sensor's median
    RobustZ,
    /// Far from what the season and the trend explain
    Seasonal,
    /// Far from the other sensors of the group
    Peers,
}

impl Method {
    /// As flags, parameters and results spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::RobustZ => "robust-z",
            Self::Seasonal => "seasonal",
            Self::Peers => "peers",
        }
    }
}

/// What to search for. Lengths are in milliseconds.
#[derive(Debug, Clone)]
pub struct Search {
    pub method: Method,
    /// For [`Method::Threshold`].
    pub limits: Limits,
    /// For every other method.
    pub sensitivity: Sensitivity,
    /// For [`Method::Seasonal`].
    pub seasons: Vec<i64>,
    /// Means over this length are searched instead of single readings.
    pub step: Option<i64>,
    /// Whose clock these lengths are counted on.
    pub zone: Zone,
    /// Findings no farther apart than this are one anomaly; two usual intervals of the sensor without it.
    pub join: Option<i64>,
    /// Maximum number of values that are held at once.
    pub max_points: usize,
}

impl Search {
    /// The defaults of a method: a season of a day, single readings, the usual joining.
    pub fn by(method: Method) -> Self {
        Self {
            method,
            limits: Limits::default(),
            sensitivity: Sensitivity::DEFAULT,
            seasons: vec![crate::time::DAY],
            step: None,
            zone: Zone::Utc,
            join: None,
            max_points: MOST_POINTS,
        }
    }
}

/// An anomaly and the sensor it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorAnomaly {
    pub group: Arc<Group>,
    pub sensor: Uuid,
    pub anomaly: Anomaly,
}

/// What was found, and what was searched.
#[derive(Debug, Default)]
pub struct SearchResult {
    pub anomalies: Vec<SensorAnomaly>,
    /// Series that were searched: a sensor counts once per group.
    pub series: usize,
    pub values: usize,
    /// The sensors that have a value.
    pub sensors: BTreeSet<Uuid>,
    /// Series that could not be searched, and the first reason.
    pub skipped: usize,
    pub skip_reason: Option<SeasonalError>,
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error(transparent)]
    Series(#[from] SeriesError),
    #[error("more than {MAX_ANOMALIES} anomalies (set another limit, or a lower --sensitivity)")]
    TooMany,
    #[error("the detector panicked (see the log)")]
    Panicked,
}

impl From<cassandra::Error> for SearchError {
    fn from(error: cassandra::Error) -> Self {
        Self::Series(error.into())
    }
}

impl From<TooManySteps> for SearchError {
    fn from(error: TooManySteps) -> Self {
        Self::Series(error.into())
    }
}

impl SearchResult {
    /// Sorts by severity, keeps the first `max`, and restores the order of time.
    pub fn keep_most_unusual(&mut self, max: usize) {
        if self.anomalies.len() > max {
            self.anomalies
                .sort_by(|left, right| right.anomaly.severity().total_cmp(&left.anomaly.severity()));
            self.anomalies.truncate(max);
        }
        let key = |found: &SensorAnomaly| (found.anomaly.from, found.sensor, found.group.clone());
        self.anomalies.sort_by_cached_key(key);
    }

    fn add(&mut self, query: &SeriesQuery, sensor: Uuid, anomaly: Anomaly) -> Result<(), SearchError> {
        if self.anomalies.len() >= MAX_ANOMALIES {
            return Err(SearchError::TooMany);
        }
        self.anomalies.push(SensorAnomaly { group: query.group.clone(), sensor, anomaly });
        Ok(())
    }
}

impl Search {
    /// Searches the readings of `query` and adds what it finds to `result`.
    ///
    /// A detector runs on a blocking thread and cannot be cancelled. It keeps `hold` (such as a permit) until it ends,
    /// also when nobody waits for this future any more.
    pub async fn run<H: Clone + Send + 'static>(
        self: &Arc<Self>,
        session: &Session,
        query: &SeriesQuery,
        hold: H,
        result: &mut SearchResult,
    ) -> Result<(), SearchError> {
        if self.method == Method::Threshold && self.step.is_none() {
            return self.stream(session, query, result).await;
        }
        let series =
            query.by_sensor(session, self.step.map(|step| (step, self.zone)), self.max_points).await?;
        result.series += series.len();
        result.sensors.extend(series.keys());
        result.values += series.values().map(Vec::len).sum::<usize>();
        if self.method == Method::Peers {
            let search = self.clone();
            let anomalies = blocking(hold, move || search.peers(&series)).await??;
            return anomalies
                .into_iter()
                .try_for_each(|(sensor, anomaly)| result.add(query, sensor, anomaly));
        }
        for (sensor, points) in series {
            let search = self.clone();
            match blocking(hold.clone(), move || search.points(&points)).await? {
                Ok(anomalies) => {
                    anomalies.into_iter().try_for_each(|anomaly| result.add(query, sensor, anomaly))?;
                }
                Err(SeasonalError::Series(error)) => return Err(error.into()),
                Err(error) => {
                    result.skipped += 1;
                    result.skip_reason.get_or_insert(error);
                }
            }
        }
        Ok(())
    }

    /// A limit does not need the series in memory: readings are checked as they arrive, in order of time.
    async fn stream(
        &self,
        session: &Session,
        query: &SeriesQuery,
        result: &mut SearchResult,
    ) -> Result<(), SearchError> {
        /// One sensor's open anomaly, and what its usual interval follows from.
        #[derive(Default)]
        struct Open {
            runs: runs::Runs,
            last: Option<i64>,
            interval: Option<i64>,
        }
        let mut scan = query.scan(session).await?;
        let mut sensors: BTreeMap<Uuid, Open> = BTreeMap::new();
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                let Some(value) = reading.value(&query.metric) else { continue };
                let at = reading.recorded_at;
                result.values += 1;
                let open = sensors.entry(reading.sensor).or_default();
                let interval = open.last.replace(at).map(|last| at - last);
                // The shortest so far: a gap must not make later gaps look usual.
                open.interval = [open.interval, interval].into_iter().flatten().min();
                if let Some(finding) = self.limits.check(Point { at, value })
                    && let Some(anomaly) = open.runs.add(finding, self.quiet(open.interval))
                {
                    result.add(query, reading.sensor, anomaly)?;
                }
            }
        }
        result.series += sensors.len();
        result.sensors.extend(sensors.keys());
        for (sensor, mut open) in sensors {
            if let Some(anomaly) = open.runs.end() {
                result.add(query, sensor, anomaly)?;
            }
        }
        Ok(())
    }

    /// How far apart findings may be and still be one anomaly: one reading in between may be missing or ordinary.
    fn quiet(&self, interval: Option<i64>) -> i64 {
        self.join.unwrap_or_else(|| 2 * interval.map_or(0, round_step))
    }

    fn points(&self, points: &[Point]) -> Result<Vec<Anomaly>, SeasonalError> {
        let findings: Vec<Finding> = match self.method {
            Method::Threshold => points.iter().filter_map(|point| self.limits.check(*point)).collect(),
            Method::RobustZ | Method::Peers => robust_z::find(points, self.sensitivity),
            Method::Seasonal => seasonal::find(points, &self.seasons, self.sensitivity)?,
        };
        Ok(runs::join(findings, self.quiet(usual_step(points))))
    }

    fn peers(&self, series: &BTreeMap<Uuid, Vec<Point>>) -> Result<Vec<(Uuid, Anomaly)>, SearchError> {
        let moments = || series.values().flatten().map(|point| point.at);
        let (Some(from), Some(to)) = (moments().min(), moments().max()) else { return Ok(Vec::new()) };
        // The slowest sensor's interval: within it each of them has a value.
        let slowest = series.values().filter_map(|points| usual_step(points)).max();
        let step = self.step.or(slowest).unwrap_or(1_000);
        let steps = to.saturating_sub(from) / step.max(1) + 1;
        if steps.saturating_mul(series.len() as i64) > self.max_points as i64 {
            return Err(TooManySteps.into());
        }
        let grids: Vec<Regular> = series
            .values()
            .map(|points| Regular::within(points, step, from, to))
            .collect::<Result<_, _>>()?;
        let findings = peers::find(&grids, self.sensitivity);
        let quiet = self.join.unwrap_or(2 * step);
        Ok(series
            .keys()
            .zip(findings)
            .flat_map(|(sensor, findings)| {
                runs::join(findings, quiet).into_iter().map(|anomaly| (*sensor, anomaly))
            })
            .collect())
    }
}

async fn blocking<H: Send + 'static, T: Send + 'static>(
    hold: H,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SearchError> {
    let task = tokio::task::spawn_blocking(move || {
        let _hold = hold;
        work()
    });
    task.await.map_err(|_| SearchError::Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_unusual_are_kept_in_the_order_of_time() {
        let group = Arc::new(Group { location: "plant-1".into(), device_type: "thermostat".into() });
        let found = |at: i64, score: f64| {
            let worst = Finding { point: Point { at, value: 1.0 }, expected: 0.0, score: Some(score) };
            let anomaly = Anomaly { from: at, to: at, points: 1, worst };
            SensorAnomaly { group: group.clone(), sensor: Uuid::nil(), anomaly }
        };
        let all = vec![found(3, 9.0), found(1, -12.0), found(2, 7.0)];
        let mut result = SearchResult { anomalies: all, ..SearchResult::default() };
        result.keep_most_unusual(2);
        let moments: Vec<_> = result.anomalies.iter().map(|found| found.anomaly.from).collect();
        assert_eq!(moments, [1, 3]);
    }

    #[test]
    fn findings_within_two_usual_intervals_are_one_anomaly() {
        let mut points: Vec<Point> =
            (0..200).map(|at| Point { at: at * 60_000, value: (at % 5) as f64 }).collect();
        for at in [50, 52, 55] {
            points[at].value = 500.0;
        }
        let joined = |join| {
            let search = Search { join, ..Search::by(Method::RobustZ) };
            search.points(&points).unwrap().iter().map(|anomaly| anomaly.points).collect::<Vec<_>>()
        };
        assert_eq!(joined(None), [2, 1]);
        assert_eq!(joined(Some(180_000)), [3]);
        assert_eq!(joined(Some(0)), [1, 1, 1]);
    }
}
