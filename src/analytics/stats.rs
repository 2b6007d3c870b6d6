//! Statistics of a metric by sensor, group or time, from rollups where there are any and otherwise from raw rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::Scan;
use super::scan::Question;
use super::tags::{Chosen, TagValues};
use crate::analytics::sources::{Division, MaxResolution, Plan};
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::Summary;
use crate::series::exact::ExactQuantiles;
use crate::store::cells::Cells;
use crate::store::rollups::{self, Detail, Table};
use crate::time::{Periods, TimeRange, day_of};

/// Groups that are planned, and partitions of rollups that are read, at once.
const IN_FLIGHT: usize = 24;

/// What the values are grouped by; each combination is a line of the answer. Lines are in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct By([Option<Dimension>; By::MOST]);

/// One thing that the values are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Sensor,
    Location,
    DeviceType,
    /// The value that each sensor has of a tag: of which of [`StatsQuery::tag_values`].
    Tag(usize),
    /// The period of the moment.
    Time(Periods),
}

impl By {
    /// How many dimensions there can be.
    pub const MOST: usize = 4;
    /// One line.
    pub const EVERYTHING: Self = Self([None; Self::MOST]);

    /// `None` if there are too many, or times twice: one of them would say nothing.
    pub fn of(dimensions: &[Dimension]) -> Option<Self> {
        let is_time = |dimension: &&Dimension| matches!(dimension, Dimension::Time(_));
        if dimensions.len() > Self::MOST || dimensions.iter().filter(is_time).count() > 1 {
            return None;
        }
        let mut by = Self::EVERYTHING;
        for (place, dimension) in by.0.iter_mut().zip(dimensions) {
            *place = Some(*dimension);
        }
        Some(by)
    }

    pub fn one(dimension: Dimension) -> Self {
        let mut by = Self::EVERYTHING;
        by.0[0] = Some(dimension);
        by
    }

    pub fn time(periods: Periods) -> Self {
        Self::one(Dimension::Time(periods))
    }

    fn dimensions(&self) -> impl Iterator<Item = Dimension> {
        self.0.into_iter().flatten()
    }

    pub fn periods(&self) -> Periods {
        let periods = self.dimensions().find_map(|dimension| match dimension {
            Dimension::Time(periods) => Some(periods),
            _ => None,
        });
        periods.unwrap_or(Periods::All)
    }

    /// For the values of `length` earlier on the clock: [`Periods::earlier`].
    pub fn earlier(self, length: i64) -> Self {
        Self(self.0.map(|dimension| match dimension? {
            Dimension::Time(periods) => Some(Dimension::Time(periods.earlier(length))),
            other => Some(other),
        }))
    }

    pub fn is_of_sensors(&self) -> bool {
        self.dimensions().any(|dimension| matches!(dimension, Dimension::Sensor | Dimension::Tag(_)))
    }
}

/// What a line has of each dimension, in the order of [`By`]. Without any, it is the one line for everything.
pub type Key = [Part; By::MOST];

/// What a line has of one dimension.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Sensor(Uuid),
    Name(Arc<str>),
    /// The start of a period, in milliseconds since the epoch. With [`By::earlier`] its [`Periods::name`].
    Moment(i64),
    /// Of sensors without the tag.
    Untagged,
    /// There is no such dimension.
    #[default]
    None,
}

/// Makes the keys of one group's values; its names are shared by all of them.
pub(super) struct Keys<'a> {
    by: By,
    location: Arc<str>,
    device_type: Arc<str>,
    tags: Vec<Option<&'a HashMap<Uuid, Arc<str>>>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(query: &'a StatsQuery, group: &Group) -> Self {
        let tags = query.tag_values.iter().map(|values| values.of(group)).collect();
        let (location, device_type) = (group.location.as_str().into(), group.device_type.as_str().into());
        Self { by: query.by, location, device_type, tags }
    }

    pub(super) fn key(&self, sensor: Uuid, period: TimeRange) -> Key {
        let part = |dimension| match dimension {
            Dimension::Sensor => Part::Sensor(sensor),
            Dimension::Location => Part::Name(self.location.clone()),
            Dimension::DeviceType => Part::Name(self.device_type.clone()),
            Dimension::Time(periods) => Part::Moment(periods.name(period)),
            Dimension::Tag(index) => {
                let value = self.tags.get(index).copied().flatten().and_then(|values| values.get(&sensor));
                value.map_or(Part::Untagged, |value| Part::Name(value.clone()))
            }
        };
        self.by.0.map(|dimension| dimension.map_or(Part::None, part))
    }
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The group of the newest value.
    pub group: Arc<Group>,
    pub summary: Summary,
    /// Exact percentiles, with the share of each, if the question asks for them.
    exact: Vec<(f64, f64)>,
}

impl Line {
    fn new(group: &Arc<Group>, summary: Summary) -> Self {
        Self { group: group.clone(), summary, exact: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn of_values(values: &[(f64, i64)]) -> Self {
        let mut summary = Summary::of(values[0].0, values[0].1);
        values[1..].iter().for_each(|&(value, at)| summary.add(value, at));
        Self::new(&Arc::new(Group { location: "a".into(), device_type: "b".into() }), summary)
    }

    /// The percentile `quantile` (from 0 to 1): exact if [`StatsQuery::find_exact`] was asked for it, else from the sketch.
    pub fn quantile(&self, quantile: f64) -> f64 {
        match self.exact.iter().find(|(known, _)| *known == quantile) {
            Some((_, exact)) => *exact,
            None => self.summary.quantile(quantile),
        }
    }
}

/// Different values that exact percentiles may keep in memory: about 130 MB.
const MAX_DIFFERENT_VALUES: usize = 4_000_000;

/// Why exact statistics cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    #[error(transparent)]
    Cassandra(#[from] Error),
    #[error(
        "more than {MAX_DIFFERENT_VALUES} different values for exact percentiles (shorten the range of time, or leave out \
         --raw for percentiles within 0.4 % of the range of the values)"
    )]
    TooManyValues,
}

/// The values to summarise.
#[derive(Debug, Clone)]
pub struct StatsQuery {
    pub groups: Vec<Arc<Group>>,
    pub sensor: Option<Uuid>,
    /// Only these sensors.
    pub chosen: Option<Arc<Chosen>>,
    /// For [`Dimension::Tag`].
    pub tag_values: Arc<[TagValues]>,
    pub metric: Metric,
    pub range: TimeRange,
    pub by: By,
    /// Percentiles need the sketches, which are most of the bytes of a rollup; other statistics do not.
    pub detail: Detail,
    pub max_resolution: MaxResolution,
}

/// The answer, also while it grows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lines {
    pub lines: BTreeMap<Key, Line>,
    pub sources: Sources,
}

/// The sources of an answer, and how many have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sources {
    pub parts: u64,
    pub parts_done: u64,
    pub rollups: u64,
    /// Raw rows read.
    pub readings: u64,
}

/// The rollups of one partition that belong to the answer.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) group: Arc<Group>,
    pub(super) table: Table,
    pub(super) start: i64,
    /// The hours of a group's day that belong to the answer; all if empty.
    pub(super) hours: Vec<i64>,
}

/// The sources of each group's part of an answer.
pub type Plans = Vec<(Arc<Group>, Plan)>;

impl StatsQuery {
    /// Whether the answer needs the rollups of single sensors.
    pub fn is_of_sensors(&self) -> bool {
        self.by.is_of_sensors() || self.sensor.is_some() || self.chosen.is_some()
    }

    /// The rollups to read for a plan.
    pub(super) fn parts(&self, group: &Arc<Group>, plan: &Plan) -> Vec<Slice> {
        let part = |table, start, hours| Slice { group: group.clone(), table, start, hours };
        if self.is_of_sensors() {
            let days = plan.days.iter().map(|&day| part(Table::Daily, day, Vec::new()));
            return days
                .chain(plan.hours.iter().map(|&hour| part(Table::Hourly, hour, Vec::new())))
                .collect();
        }
        let mut parts: Vec<Slice> =
            plan.days.iter().map(|&day| part(Table::Group, day, Vec::new())).collect();
        for &hour in &plan.hours {
            match parts.last_mut() {
                Some(last) if last.start == day_of(hour) && !last.hours.is_empty() => last.hours.push(hour),
                _ => parts.push(part(Table::Group, day_of(hour), vec![hour])),
            }
        }
        parts
    }

    /// Reads the answer. `progress` is called whenever more of it was read.
    pub async fn find(&self, session: &Session, progress: impl Fn(Sources)) -> Result<Lines, Error> {
        let plans = self.plans(session).await?;
        let metrics = std::slice::from_ref(&self.metric);
        let found =
            self.read_sources(session, &plans, metrics, &progress, |_, _| Ok::<(), Error>(()), None).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// The answers for several metrics instead of [`Self::metric`], in one pass over raw rows. `rows` gets the keys of raw rows
    /// that have none of the metrics.
    pub async fn find_planned(
        &self,
        session: &Session,
        plans: &Plans,
        metrics: &[Metric],
        rows: Option<&mut BTreeSet<Key>>,
    ) -> Result<Vec<Lines>, Error> {
        self.read_sources(session, plans, metrics, &|_| {}, |_, _| Ok(()), rows).await
    }

    /// The sources of the answer in each group.
    pub async fn plans(&self, session: &Session) -> Result<Plans, Error> {
        let division = Division { periods: self.by.periods(), days_have_hours: !self.is_of_sensors() };
        // Owned groups: a stream of borrowed ones makes this future not `Send` (rust-lang/rust#102211).
        stream::iter(self.groups.clone())
            .map(|group| async move {
                let plan = Plan::make(session, &group, self.range, self.max_resolution, division).await?;
                Ok::<_, Error>((group, plan))
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
    }

    /// The same with these percentiles exact, from raw rows only.
    ///
    /// # Errors
    /// [`StatsError::TooManyValues`] if there are too many different values for memory.
    pub async fn find_exact(
        &self,
        session: &Session,
        quantiles: &[f64],
        progress: impl Fn(Sources),
    ) -> Result<Lines, StatsError> {
        let query = Self { max_resolution: MaxResolution::Raw, ..self.clone() };
        let mut values: BTreeMap<Key, ExactQuantiles> = BTreeMap::new();
        let mut different = 0;
        let mut add = |key: &Key, value: f64| {
            if !values.contains_key(key) {
                values.insert(key.clone(), ExactQuantiles::default());
            }
            let is_new = values.get_mut(key).is_some_and(|values| values.add(value));
            different += usize::from(is_new);
            if different > MAX_DIFFERENT_VALUES { Err(StatsError::TooManyValues) } else { Ok(()) }
        };
        let plans = query.plans(session).await?;
        let metrics = std::slice::from_ref(&query.metric);
        let found = query.read_sources(session, &plans, metrics, &progress, &mut add, None).await?;
        let mut lines = found.into_iter().next().unwrap_or_default();
        for (key, line) in &mut lines.lines {
            let exact = values.get(key).map(|values| values.quantiles(quantiles)).unwrap_or_default();
            line.exact = quantiles.iter().copied().zip(exact).collect();
        }
        Ok(lines)
    }

    /// The lines of each metric. `each` gets every value that is read from raw rows, with the key of its line; `rows` the keys of
    /// those that have none.
    async fn read_sources<E: From<Error>>(
        &self,
        session: &Session,
        plans: &Plans,
        metrics: &[Metric],
        progress: &impl Fn(Sources),
        mut each: impl FnMut(&Key, f64) -> Result<(), E>,
        mut rows: Option<&mut BTreeSet<Key>>,
    ) -> Result<Vec<Lines>, E> {
        let mut lines = vec![Lines::default(); metrics.len()];
        let parts: Vec<(usize, Slice)> = plans
            .iter()
            .flat_map(|(group, plan)| self.parts(group, plan))
            .flat_map(|part| (0..metrics.len()).map(move |metric| (metric, part.clone())))
            .collect();
        let raw: Vec<_> = plans
            .iter()
            .flat_map(|(group, plan)| plan.raw_ranges().into_iter().map(move |range| (group, range)))
            .collect();
        let rollups = parts.len() as u64;
        let mut sources = Sources { rollups, parts: rollups + raw.len() as u64, ..Sources::default() };
        progress(sources);

        let owned = metrics.to_vec();
        let mut rollups = stream::iter(parts)
            .map(|(index, part)| {
                let metric = owned[index].clone();
                async move { Ok::<_, Error>((index, self.read(session, part, &metric).await?)) }
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some((index, found)) = rollups.try_next().await? {
            for (key, group, summary) in found {
                lines[index].merge(key, &group, summary);
            }
            sources.parts_done += 1;
            progress(sources);
        }
        for (group, range) in raw {
            let mut scan = RawScan { group, range, metrics, sources: &mut sources };
            self.scan(session, &mut scan, &mut lines, progress, &mut each, rows.as_deref_mut()).await?;
            sources.parts_done += 1;
            progress(sources);
        }
        lines.iter_mut().for_each(|lines| lines.sources = sources);
        Ok(lines)
    }

    async fn read(
        &self,
        session: &Session,
        part: Slice,
        metric: &Metric,
    ) -> Result<Vec<(Key, Arc<Group>, Summary)>, Error> {
        let Slice { group, table, start, hours } = part;
        let sensor = self.sensor.filter(|_| table != Table::Group);
        let mut pages =
            rollups::summaries(session, table, &group, start, Some(metric), sensor, self.detail).await?;
        let keys = Keys::new(self, &group);
        let mut found = Vec::new();
        let mut periods = self.by.periods().cursor();
        if table == Table::Group {
            while let Some(page) = pages.next::<i64>().await? {
                let query = page.into_iter().filter(|stored| hours.is_empty() || hours.contains(&stored.key));
                found.extend(query.map(|stored| {
                    (keys.key(Uuid::nil(), periods.of(stored.key)), group.clone(), stored.summary)
                }));
            }
        } else {
            let period = periods.of(start);
            while let Some(page) = pages.next::<Uuid>().await? {
                let is_chosen =
                    |sensor| self.chosen.as_ref().is_none_or(|chosen| chosen.contains(&group, sensor));
                found.extend(
                    page.into_iter()
                        .filter(|stored| is_chosen(stored.key))
                        .map(|stored| (keys.key(stored.key, period), group.clone(), stored.summary)),
                );
            }
        }
        Ok(found)
    }

    async fn scan<E: From<Error>>(
        &self,
        session: &Session,
        raw: &mut RawScan<'_>,
        lines: &mut [Lines],
        progress: &impl Fn(Sources),
        each: &mut impl FnMut(&Key, f64) -> Result<(), E>,
        mut rows: Option<&mut BTreeSet<Key>>,
    ) -> Result<(), E> {
        let group = raw.group;
        let keys = Keys::new(self, group);
        let question = self.question(group, self.sensor, raw.range);
        let mut scan = Scan::of_cells(session, question, Cells::of(raw.metrics)).await?;
        let mut periods = self.by.periods().cursor();
        while let Some(chunk) = scan.next().await? {
            raw.sources.readings += chunk.len() as u64;
            progress(*raw.sources);
            for reading in &chunk {
                let at = reading.recorded_at;
                let mut measured = false;
                for (metric, lines) in raw.metrics.iter().zip(&mut *lines) {
                    let Some(value) = reading.value(metric) else { continue };
                    let key = keys.key(reading.sensor, periods.of(at));
                    each(&key, value)?;
                    lines.add(key, group, value, at);
                    measured = true;
                }
                if let Some(rows) = rows.as_deref_mut().filter(|_| !measured) {
                    rows.insert(keys.key(reading.sensor, periods.of(at)));
                }
            }
        }
        Ok(())
    }

    /// Raw rows of a group that belong to the answer.
    pub(super) fn question(&self, group: &Arc<Group>, sensor: Option<Uuid>, range: TimeRange) -> Question {
        Question {
            groups: vec![group.clone()],
            sensor,
            range,
            filter: None,
            chosen: self.chosen.clone(),
            order: None,
        }
    }
}

/// A range of raw rows that is read for an answer.
struct RawScan<'a> {
    group: &'a Arc<Group>,
    range: TimeRange,
    metrics: &'a [Metric],
    sources: &'a mut Sources,
}

impl Lines {
    fn add(&mut self, key: Key, group: &Arc<Group>, value: f64, at: i64) {
        match self.lines.get_mut(&key) {
            Some(line) => {
                if at > line.summary.last.at {
                    line.group = group.clone();
                }
                line.summary.add(value, at);
            }
            None => {
                self.lines.insert(key, Line::new(group, Summary::of(value, at)));
            }
        }
    }

    fn merge(&mut self, key: Key, group: &Arc<Group>, summary: Summary) {
        match self.lines.get_mut(&key) {
            Some(line) => {
                if summary.last.at > line.summary.last.at {
                    line.group = group.clone();
                }
                line.summary.merge(&summary);
            }
            None => {
                self.lines.insert(key, Line::new(group, summary));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, HOUR, Zone};

    fn query(by: By, sensor: Option<Uuid>) -> StatsQuery {
        StatsQuery {
            groups: Vec::new(),
            sensor,
            chosen: None,
            tag_values: Arc::new([]),
            metric: Metric::Temperature,
            range: TimeRange::ALL,
            by,
            detail: Detail::Whole,
            max_resolution: MaxResolution::Day,
        }
    }

    #[test]
    fn groups_are_read_by_the_day_and_sensors_by_day_and_hour() {
        let group = Arc::new(Group { location: "a".into(), device_type: "b".into() });
        let plan = Plan { days: vec![0], hours: vec![DAY, DAY + HOUR, 2 * DAY], raw: Vec::new() };
        let shape = |query: StatsQuery| -> Vec<_> {
            query
                .parts(&group, &plan)
                .iter()
                .map(|part| (part.table, part.start / HOUR, part.hours.len()))
                .collect()
        };
        use Table::{Daily, Group as Whole, Hourly};
        let (hours, days) = (Periods::Hours(Zone::Utc), Periods::Days(Zone::Utc));
        assert_eq!(shape(query(By::time(hours), None)), [(Whole, 0, 0), (Whole, 24, 2), (Whole, 48, 1)]);
        let of_sensors = [(Daily, 0, 0), (Hourly, 24, 0), (Hourly, 25, 0), (Hourly, 48, 0)];
        let several = By::of(&[Dimension::Location, Dimension::Sensor, Dimension::Time(days)]).unwrap();
        assert_eq!(shape(query(several, None)), of_sensors);
        assert_eq!(shape(query(By::time(days), Some(Uuid::nil()))), of_sensors);
    }

    #[test]
    fn a_question_has_one_time_and_as_many_dimensions_as_a_key() {
        let time = Dimension::Time(Periods::Days(Zone::Utc));
        assert!(By::of(&[time, Dimension::Sensor]).is_some());
        assert!(By::of(&[time, time]).is_none());
        assert!(By::of(&[Dimension::Sensor; By::MOST + 1]).is_none());
    }
}
