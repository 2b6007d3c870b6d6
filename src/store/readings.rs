//! Reading the raw readings and each sensor's newest one: the statements, and how a row becomes a [`StoredReading`].

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::cells::{Cells, Places};
use super::groups;
use super::shape::{Number, Others, STATES, Shape, States};
use crate::cassandra::{CellError, Error, FromCell, Pages, Row, Rows, Session, Values, system};
use crate::reading::{Group, Partition};
use crate::reading::{Metric, Reading, widen};

/// The table of the raw readings.
pub const TABLE: &str = "iot_sensor_metrics";
/// The table of each sensor's newest reading.
pub const LATEST: &str = "iot_latest";

/// Rows in a page: large enough that the round trips do not count, small enough that a page stays below a few MB.
const PAGE_ROWS: i32 = 5_000;
/// Where rows are filtered by the server, a page must be full before it is sent: a small one keeps the time short.
const FILTERED_PAGE_ROWS: i32 = 1_000;
/// Names that are kept as one copy a reader; beyond it each row has its own.
const MAX_INTERNED: usize = 4_096;

/// A row of the raw table or of `iot_latest`. Units: °C, %RH, hPa, lux, ppm; `None` is "not measured".
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReading {
    pub group: Arc<Group>,
    pub sensor: Uuid,
    /// Milliseconds since the Unix epoch.
    pub recorded_at: i64,
    pub temperature: Option<f32>,
    pub humidity: Option<f32>,
    pub pressure: Option<f32>,
    pub light_level: Option<f32>,
    pub gas_concentration: Option<f32>,
    /// Width of the bucket it was read from; 0 for a newest reading. The narrower copy of a reading is the one shown.
    pub bucket_seconds: i32,
    pub motion_detected: Option<bool>,
    /// Sorted by name.
    pub other_metrics: Box<[(Arc<str>, f64)]>,
    /// Named text, sorted by name.
    pub states: Box<[(Arc<str>, Arc<str>)]>,
    /// Whether the other metrics are 32-bit floats, as in the first version of the table.
    pub has_narrow_metrics: bool,
}

impl StoredReading {
    /// The value of `metric` in this reading, if it was measured. Columns are 32-bit floats; see [`widen`].
    pub fn value(&self, metric: &Metric) -> Option<f64> {
        match metric {
            Metric::Other(name) => {
                self.other_metrics.iter().find(|(other, _)| **other == **name).map(|(_, value)| *value)
            }
            column => self.column(column).map(widen),
        }
    }

    /// The value of a metric that has a column, as it is stored; `None` for the others.
    pub fn column(&self, metric: &Metric) -> Option<f32> {
        match metric {
            Metric::Temperature => self.temperature,
            Metric::Humidity => self.humidity,
            Metric::Pressure => self.pressure,
            Metric::LightLevel => self.light_level,
            Metric::GasConcentration => self.gas_concentration,
            Metric::Other(_) => None,
        }
    }

    /// The text under a name, if the reading had one.
    pub fn state(&self, name: &str) -> Option<&str> {
        self.states.iter().find(|(other, _)| **other == *name).map(|(_, text)| &**text)
    }

    /// The same reading, borrowing its names.
    pub fn as_reading(&self) -> Reading<'_> {
        Reading {
            location: Cow::Borrowed(&self.group.location),
            device_type: Cow::Borrowed(&self.group.device_type),
            sensor: self.sensor,
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: self.recorded_at,
            temperature: self.temperature,
            humidity: self.humidity,
            pressure: self.pressure,
            motion_detected: self.motion_detected,
            light_level: self.light_level,
            gas_concentration: self.gas_concentration,
            other_metrics: self
                .other_metrics
                .iter()
                .map(|(name, value)| (Cow::Borrowed(&**name), *value))
                .collect(),
            states: self
                .states
                .iter()
                .map(|(name, text)| (Cow::Borrowed(&**name), Cow::Borrowed(&**text)))
                .collect(),
        }
    }

    /// The order of a result: by time, then sensor, then group, then the width of the bucket.
    pub fn time_order(&self, other: &Self) -> Ordering {
        (self.recorded_at, self.sensor)
            .cmp(&(other.recorded_at, other.sensor))
            .then_with(|| self.group.cmp(&other.group))
            .then_with(|| self.bucket_seconds.cmp(&other.bucket_seconds))
    }

    /// Whether both are the same reading, stored in two buckets because the width was changed in between.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.recorded_at == other.recorded_at && self.sensor == other.sensor && self.group == other.group
    }

    /// About how many bytes it takes in memory.
    pub fn weight(&self) -> usize {
        const ALLOCATION: usize = 16;
        size_of::<Self>()
            + self.other_metrics.len() * (size_of::<(Arc<str>, f64)>() + ALLOCATION)
            + self.states.len() * (size_of::<(Arc<str>, Arc<str>)>() + ALLOCATION)
    }
}

/// Names of other metrics and states, and the texts of states, one copy each.
#[derive(Debug, Default)]
pub struct Names {
    texts: HashSet<Arc<str>>,
    metrics: HashSet<Arc<str>>,
    /// Of [`Metric::COLUMNS`]: whether a newest-reading row has a value, of whatever age.
    columns: [bool; Metric::COLUMNS.len()],
}

impl Names {
    fn intern(&mut self, text: &str) -> Arc<str> {
        intern(&mut self.texts, text)
    }

    fn metric(&mut self, name: &str) -> Arc<str> {
        intern(&mut self.metrics, name)
    }

    /// The columns that a sensor has ever measured: its row in the table of newest readings keeps the cells of older
    /// readings where the newest has none. Empty after reading raw rows.
    pub fn columns(&self) -> impl Iterator<Item = Metric> {
        Metric::COLUMNS
            .into_iter()
            .zip(self.columns)
            .filter_map(|(column, is_known)| is_known.then_some(column))
    }

    /// The names of other metrics that were read, in newest-reading rows also those of older readings.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.metrics.iter()
    }
}

fn intern(known: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = known.get(text) {
        return known.clone();
    }
    let text: Arc<str> = text.into();
    if known.len() < MAX_INTERNED {
        known.insert(text.clone());
    }
    text
}

/// Which rows of a partition: moments in `[from, to)`, and one sensor's or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Milliseconds since the epoch.
    pub from: i64,
    pub to: i64,
    pub sensor: Option<Uuid>,
}

impl Slice {
    /// The whole partition.
    pub const EVERYTHING: Self = Self { from: i64::MIN, to: i64::MAX, sensor: None };

    /// Whether it leaves out any moment of the partition.
    pub(super) fn cuts(&self, partition: &Partition) -> bool {
        self.from > partition.bucket.start || self.to < partition.bucket.end()
    }

    /// The WHERE clause for this slice of a partition and its values.
    ///
    /// A sensor's rows lie in order of time, so that a range of time is a range of rows. For all sensors it is a
    /// filter over one partition, which the server applies before it sends.
    pub(super) fn clause(&self, partition: &Partition) -> (String, Values, bool) {
        let mut clause = "WHERE location = ? AND device_type = ? AND bucket = ?".to_owned();
        let mut values = groups::key(&partition.group).timestamp(partition.bucket.start);
        if let Some(sensor) = self.sensor {
            clause += " AND iot_sensor_id = ?";
            values.push_uuid(sensor);
        }
        let cuts = self.cuts(partition);
        if cuts {
            clause += " AND recorded_timestamp >= ? AND recorded_timestamp < ?";
            values.push_bigint(self.from);
            values.push_bigint(self.to);
        }
        (clause, values, cuts && self.sensor.is_none())
    }
}

/// The rows of one partition, page by page, clustered by sensor, each sensor's newest first.
#[derive(Debug)]
pub struct ReadingPages {
    pages: Pages,
    shape: Shape,
    places: Places,
    partition: Partition,
}

/// Starts reading a slice of a partition.
pub async fn readings(session: &Session, partition: &Partition, slice: Slice) -> Result<ReadingPages, Error> {
    cells(session, partition, slice, Cells::ALL).await
}

/// Starts reading some cells of a slice of a partition. All others are missing in what is read.
pub async fn cells(
    session: &Session,
    partition: &Partition,
    slice: Slice,
    cells: Cells,
) -> Result<ReadingPages, Error> {
    let (clause, values, filtered) = slice.clause(partition);
    let shape = Shape::of(session, TABLE).await?;
    let places = cells.places(shape);
    let cql = format!(
        "SELECT {} FROM {}.{TABLE} {clause}{}",
        places.columns.join(", "),
        session.keyspace(),
        if filtered { " ALLOW FILTERING" } else { "" }
    );
    let statement = session.prepare(&cql).await?;
    let page_rows = if filtered { FILTERED_PAGE_ROWS } else { PAGE_ROWS };
    let pages = session.pages(statement, values, page_rows);
    Ok(ReadingPages { pages, shape, places, partition: partition.clone() })
}

impl ReadingPages {
    /// Appends the next page's readings to `readings`; `false` after the last page.
    pub async fn append(
        &mut self,
        names: &mut Names,
        readings: &mut Vec<StoredReading>,
    ) -> Result<bool, Error> {
        let Some(page) = self.pages.next_or_smaller().await? else { return Ok(false) };
        readings.reserve(page.len());
        for row in page.iter() {
            let (group, seconds) = (&self.partition.group, self.partition.bucket.seconds);
            readings.push(decode(row, self.shape, &self.places, group, seconds, names)?);
        }
        Ok(true)
    }

    /// The next page as it came, or `None` after the last: for readers that take each row once and keep none.
    pub async fn page(&mut self) -> Result<Option<Rows>, Error> {
        self.pages.next_or_smaller().await
    }

    /// Reads a row of [`ReadingPages::page`] in place.
    pub fn read_in_place<'a>(&self, row: Row<'a>, group: &'a Group) -> Result<Reading<'a>, CellError> {
        let places = &self.places;
        let others = others(row, self.shape, places)?.unwrap_or_default().0;
        let states: States<'_> = cell(row, places.states)?.unwrap_or_default();
        let [temperature, humidity, pressure, light_level, gas_concentration] = metrics(row, places)?;
        Ok(Reading {
            location: Cow::Borrowed(&group.location),
            device_type: Cow::Borrowed(&group.device_type),
            sensor: row.get(0)?,
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: row.get(1)?,
            temperature,
            humidity,
            pressure,
            motion_detected: cell(row, places.motion)?,
            light_level,
            gas_concentration,
            other_metrics: others.into_iter().map(|(name, Number(value))| (name, value)).collect(),
            states: states.0,
        })
    }
}

/// The newest reading of each sensor of a group, page by page, in order of the sensors' ids.
#[derive(Debug)]
pub struct LatestPages {
    pages: Pages,
    shape: Shape,
    places: Places,
    group: Arc<Group>,
}

/// Starts reading the newest readings of a group, or of one sensor in it.
pub async fn latest(
    session: &Session,
    group: &Arc<Group>,
    sensor: Option<Uuid>,
) -> Result<LatestPages, Error> {
    let mut values = groups::key(group);
    let mut of_sensor = "";
    if let Some(sensor) = sensor {
        of_sensor = " AND iot_sensor_id = ?";
        values.push_uuid(sensor);
    }
    let shape = Shape::of(session, LATEST).await?;
    let places = Cells::ALL.places(shape);
    let written: Vec<_> = shape.columns().iter().map(|column| format!("WRITETIME({column})")).collect();
    let cql = format!(
        "SELECT {}, WRITETIME(recorded_timestamp), WRITETIME(temperature), WRITETIME(humidity), \
         WRITETIME(pressure), WRITETIME(motion_detected), WRITETIME(light_level), WRITETIME(gas_concentration), {} \
         FROM {}.{LATEST} WHERE location = ? AND device_type = ?{of_sensor}",
        places.columns.join(", "),
        written.join(", "),
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let pages = session.pages(statement, values, PAGE_ROWS);
    Ok(LatestPages { pages, shape, places, group: group.clone() })
}

impl LatestPages {
    /// The next page, or `None` after the last.
    pub async fn next(&mut self, names: &mut Names) -> Result<Option<Vec<StoredReading>>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        let mut readings = Vec::with_capacity(page.len());
        for row in page.iter() {
            // A sensor that was registered and never got its row has no moment.
            if row.get::<Option<i64>>(1)?.is_none() {
                continue;
            }
            let mut reading = decode(row, self.shape, &self.places, &self.group, 0, names)?;
            for (known, column) in names.columns.iter_mut().zip(&Metric::COLUMNS) {
                *known |= reading.column(column).is_some();
            }
            self.forget_older_cells(row, &mut reading, names)?;
            readings.push(reading);
        }
        Ok(Some(readings))
    }
}

/// How long the raw table keeps rows that are written now; `None` for ever.
pub async fn time_to_live(session: &Session) -> Result<Option<Duration>, Error> {
    let seconds = system::default_ttl(session, session.keyspace(), TABLE).await?.unwrap_or(0);
    Ok(u64::try_from(seconds).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs))
}

/// Columns of [`Cells::ALL`] before those of [`Shape::columns`].
const FIXED: usize = 8;

/// A cell, or `None` if it was not read.
fn cell<'a, T: FromCell<'a>>(row: Row<'a>, place: Option<usize>) -> Result<Option<T>, CellError> {
    place.map_or(Ok(None), |place| row.get(place))
}

/// The cells of [`Metric::COLUMNS`].
fn metrics(row: Row<'_>, places: &Places) -> Result<[Option<f32>; Metric::COLUMNS.len()], CellError> {
    let mut values = [None; Metric::COLUMNS.len()];
    for (value, place) in values.iter_mut().zip(places.metrics) {
        *value = cell(row, place)?;
    }
    Ok(values)
}

fn others<'a>(row: Row<'a>, shape: Shape, places: &Places) -> Result<Option<Others<'a>>, CellError> {
    places.others.map_or(Ok(None), |place| shape.others(row, place))
}

fn decode(
    row: Row<'_>,
    shape: Shape,
    places: &Places,
    group: &Arc<Group>,
    bucket_seconds: i32,
    names: &mut Names,
) -> Result<StoredReading, CellError> {
    let [temperature, humidity, pressure, light_level, gas_concentration] = metrics(row, places)?;
    Ok(StoredReading {
        group: group.clone(),
        sensor: row.get(0)?,
        recorded_at: row.get(1)?,
        temperature,
        humidity,
        pressure,
        light_level,
        gas_concentration,
        bucket_seconds,
        motion_detected: cell(row, places.motion)?,
        other_metrics: owned_metrics(others(row, shape, places)?, names),
        states: owned_states(cell(row, places.states)?, names),
        has_narrow_metrics: places.others.map_or(Ok(false), |place| shape.is_row_narrow(row, place))?,
    })
}

fn owned_metrics(others: Option<Others<'_>>, names: &mut Names) -> Box<[(Arc<str>, f64)]> {
    let others = others.unwrap_or_default().0;
    others.into_iter().map(|(name, Number(value))| (names.metric(&name), value)).collect()
}

fn owned_states(states: Option<States<'_>>, names: &mut Names) -> Box<[(Arc<str>, Arc<str>)]> {
    let states = states.unwrap_or_default().0;
    states.into_iter().map(|(name, text)| (names.intern(&name), names.intern(&text))).collect()
}

impl LatestPages {
    /// A missing value of a newer reading leaves the older reading's cell in place (nothing is ever deleted). Such a
    /// cell has an older write time than the moment's own.
    fn forget_older_cells(
        &self,
        row: Row<'_>,
        reading: &mut StoredReading,
        names: &mut Names,
    ) -> Result<(), CellError> {
        let columns = self.shape.columns();
        let first = FIXED + columns.len();
        let written: Option<i64> = row.get(first)?;
        let is_older = |index: usize| Ok::<_, CellError>(row.get::<Option<i64>>(first + index)? != written);
        if is_older(1)? {
            reading.temperature = None;
        }
        if is_older(2)? {
            reading.humidity = None;
        }
        if is_older(3)? {
            reading.pressure = None;
        }
        if is_older(4)? {
            reading.motion_detected = None;
        }
        if is_older(5)? {
            reading.light_level = None;
        }
        if is_older(6)? {
            reading.gas_concentration = None;
        }
        if columns.last() == Some(&STATES) && is_older(6 + columns.len())? {
            reading.states = Box::default();
        }
        if self.shape.is_migrated() || is_older(7)? {
            // Either column may hold the newest reading's metrics; of both, the wide one has all digits.
            let mut newest = None;
            for (index, _) in columns.iter().enumerate().filter(|(_, column)| **column != STATES) {
                if !is_older(7 + index)? {
                    newest = row.get(FIXED + index)?;
                }
            }
            reading.other_metrics = owned_metrics(newest, names);
        }
        Ok(())
    }
}
