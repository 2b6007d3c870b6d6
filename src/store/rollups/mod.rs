//! The tables of the rollups, which `crate::rollups` computes. Here are the summaries of hours and days: reading them page
//! by page, and writing them in batches.
//!
//! - [`coverage`]: which hours and days have rollups, dirty markers, and deleting what was computed.
//! - [`lease`]: which process computes the rollups of a group.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::groups;
use crate::cassandra::{
    Batch, CellError, Error, FromCell, Pages, Row, SealedBatch, Session, Statement, Values,
};
use crate::config::Consistency;
use crate::reading::{Group, Metric, widen};
use crate::series::sketch::Sketch;
use crate::series::summary::{Measured, Summary};
use crate::time::DAY;

pub mod coverage;
pub mod lease;

use coverage::EXPIRY_MARGIN;
pub use coverage::{Coverage, DirtyMarker};

const SUMMARY: &str = "samples, total, squares, lowest, lowest_at, highest, highest_at, first_value, first_at, \
                       last_value, last_at";
/// The four values of a summary as 64-bit floats, for metrics without a column of their own. Rows of the first version of
/// the schema have 32-bit floats only.
const EXACT: &str = "exact";
const PAGE_ROWS: i32 = 5_000;
/// Rows and bytes of a batch of summaries.
const BATCH_ROWS: usize = 100;
const BATCH_BYTES: usize = 64 << 10;
/// Cassandra refuses a longer time to live.
const MAX_TTL_SECONDS: i64 = 630_720_000;

/// One of the tables of summaries: its name, the column of its partition key that is a time, and the column after the
/// metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Hourly,
    Daily,
    Group,
}

impl Table {
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Hourly => ("iot_rollups", "hour", "iot_sensor_id"),
            Self::Daily => ("iot_daily_rollups", "day", "iot_sensor_id"),
            Self::Group => ("iot_group_rollups", "day", "hour"),
        }
    }
}

/// What a row of a table of summaries is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<K> {
    /// The sensor, or the hour where the table is [`Table::Group`].
    pub key: K,
    pub metric: String,
    pub summary: Summary,
}

/// Which columns of a summary to read: sketches are most of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    WithoutSketch,
    Whole,
}

/// Summaries of one partition, page by page.
#[derive(Debug)]
pub struct SummaryPages {
    pages: Pages,
    detail: Detail,
    has_exact: bool,
}

/// Starts reading the summaries of a group in the hour or day that begins at `start`; of one metric and one sensor
/// where they are given.
pub async fn summaries(
    session: &Session,
    table: Table,
    group: &Group,
    start: i64,
    metric: Option<&Metric>,
    sensor: Option<Uuid>,
    detail: Detail,
) -> Result<SummaryPages, Error> {
    let (name, time, key) = table.names();
    let mut values = groups::key(group).timestamp(start);
    let mut narrowed = String::new();
    if let Some(metric) = metric {
        narrowed += " AND metric = ?";
        values.push_text(metric.name());
        if let Some(sensor) = sensor {
            narrowed += " AND iot_sensor_id = ?";
            values.push_uuid(sensor);
        }
    }
    let has_exact = session.columns(name).await?.contains_key(EXACT);
    let exact = if has_exact { ", exact" } else { "" };
    let sketch = if detail == Detail::Whole { ", sketch" } else { "" };
    let cql = format!(
        "SELECT {key}, metric, {SUMMARY}{exact}{sketch} FROM {}.{name} \
         WHERE location = ? AND device_type = ? AND {time} = ?{narrowed}",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    Ok(SummaryPages { pages: session.pages(statement, values, PAGE_ROWS), detail, has_exact })
}

impl SummaryPages {
    /// The next page, or `None` after the last. `K` is [`Uuid`] for sensors and `i64` for hours.
    pub async fn next<K: for<'a> FromCell<'a>>(&mut self) -> Result<Option<Vec<Stored<K>>>, Error> {
        let Some(page) = self.pages.next_or_smaller().await? else { return Ok(None) };
        let mut stored = Vec::with_capacity(page.len());
        for row in page.iter() {
            stored.push(Stored {
                key: row.get(0)?,
                metric: row.get(1)?,
                summary: summary(row, self.detail, self.has_exact)?,
            });
        }
        Ok(Some(stored))
    }
}

fn summary(row: Row<'_>, detail: Detail, has_exact: bool) -> Result<Summary, CellError> {
    // Without it, the values are those of 32-bit floats.
    let exact = if has_exact { row.get::<Option<Vec<f64>>>(13)? } else { None };
    let measured = |index: usize| {
        let stored = widen(row.get(5 + 2 * index)?);
        let value = exact.as_ref().and_then(|exact| exact.get(index).copied()).unwrap_or(stored);
        Ok::<_, CellError>(Measured { value, at: row.get(6 + 2 * index)? })
    };
    let sketch = match detail {
        Detail::Whole => Sketch::from_bytes(row.get(13 + usize::from(has_exact))?)
            .ok_or(CellError { column: "sketch".into(), expected: "sketch of a known version" })?,
        Detail::WithoutSketch => Sketch::default(),
    };
    Ok(Summary {
        count: u64::try_from(row.get::<i64>(2)?).unwrap_or(0),
        sum: row.get(3)?,
        squares: row.get(4)?,
        lowest: measured(0)?,
        highest: measured(1)?,
        first: measured(2)?,
        last: measured(3)?,
        sketch,
    })
}

/// The statements that write rollups, prepared.
#[derive(Debug, Clone)]
pub struct RollupStatements {
    hourly: Arc<Statement>,
    daily: Arc<Statement>,
    group: Arc<Statement>,
    coverage: Arc<Statement>,
    delete_marker: Arc<Statement>,
}

impl RollupStatements {
    /// # Errors
    /// [`Error::Invalid`] where the tables are not there, [`Error::Schema`] where they are of an earlier version.
    pub async fn prepare(session: &Session) -> Result<Self, Error> {
        let keyspace = session.keyspace();
        let insert = async |table: Table| {
            let (name, time, key) = table.names();
            let columns = session.columns(name).await?;
            if !columns.is_empty() && !columns.contains_key(EXACT) {
                return Err(Error::Schema(format!(
                    "table {name} is of an earlier version and has no column {EXACT} (run `iotctl schema apply`, which \
                     adds columns and keeps every row)"
                )));
            }
            let cql = format!(
                "INSERT INTO {keyspace}.{name} (location, device_type, {time}, metric, {key}, {SUMMARY}, {EXACT}, \
                 sketch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?"
            );
            session.prepare(&cql).await
        };
        let coverage = format!(
            "INSERT INTO {keyspace}.rollup_coverage (location, device_type, period_seconds, start, rolled_at) \
             VALUES (?, ?, ?, ?, ?) USING TTL ?"
        );
        let delete_marker = format!(
            "DELETE FROM {keyspace}.rollup_dirty WHERE location = ? AND device_type = ? AND hour = ? AND mark = ?"
        );
        Ok(Self {
            hourly: insert(Table::Hourly).await?,
            daily: insert(Table::Daily).await?,
            group: insert(Table::Group).await?,
            coverage: session.prepare(&coverage).await?,
            delete_marker: session.prepare(&delete_marker).await?,
        })
    }

    /// An empty run of batches for the summaries of one hour or day.
    pub fn summaries<'a>(
        &'a self,
        session: &Session,
        table: Table,
        group: &'a Group,
        start: i64,
        written: Written,
    ) -> SummaryBatches<'a> {
        let statement = match table {
            Table::Hourly => &self.hourly,
            Table::Daily => &self.daily,
            Table::Group => &self.group,
        };
        let consistency = session.write_consistency();
        SummaryBatches { statement, group, start, written, consistency, open: None, sealed: Vec::new() }
    }
}

/// As a finite 32-bit float.
fn narrow(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

/// When summaries were computed, and how long they live.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// µs since the epoch, from before the first row was read: of two computations, the one that began later wins.
    pub timestamp: i64,
    pub ttl_seconds: i64,
}

impl Written {
    /// Of a day that is kept until `retention` after its end; `None` where that is over. All hours of a day expire
    /// together, whenever they were computed.
    pub fn of_day(day: i64, retention: Duration, timestamp: i64) -> Option<Self> {
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let end = (day + DAY).saturating_add(retention);
        let ttl_seconds = end.saturating_sub(timestamp / 1000) / 1000;
        (ttl_seconds > EXPIRY_MARGIN)
            .then(|| Self { timestamp, ttl_seconds: ttl_seconds.min(MAX_TTL_SECONDS) })
    }
}

/// Summaries of one hour or day on their way into batches.
#[derive(Debug)]
pub struct SummaryBatches<'a> {
    statement: &'a Statement,
    group: &'a Group,
    start: i64,
    written: Written,
    consistency: Consistency,
    open: Option<Batch>,
    sealed: Vec<SealedBatch>,
}

impl SummaryBatches<'_> {
    pub fn push_sensor(&mut self, metric: &str, sensor: Uuid, summary: &Summary) {
        self.push(metric, |values| values.push_uuid(sensor), summary);
    }

    pub fn push_hour(&mut self, metric: &str, hour: i64, summary: &Summary) {
        self.push(metric, |values| values.push_bigint(hour), summary);
    }

    fn push(&mut self, metric: &str, key: impl FnOnce(&mut Values), summary: &Summary) {
        let Group { location, device_type } = self.group;
        let mut values = groups::key(self.group).timestamp(self.start).text(metric);
        key(&mut values);
        values.push_bigint(i64::try_from(summary.count).unwrap_or(i64::MAX));
        values.push_double(summary.sum);
        values.push_double(summary.squares);
        let measured = [summary.lowest, summary.highest, summary.first, summary.last];
        let exact = measured.map(|measured| measured.value);
        for measured in measured {
            values.push_float(Some(narrow(measured.value)));
            values.push_bigint(measured.at);
        }
        // Always or never for one metric: a cell that is left out would leave that of an earlier computation.
        match Metric::named(metric) {
            Metric::Other(_) => values.push_double_list(&exact),
            _ => values.push_unset(),
        }
        values.push_blob(&summary.sketch.to_bytes());
        let values = values.int(i32::try_from(self.written.ttl_seconds).unwrap_or(i32::MAX));
        let start = self.start.to_be_bytes();
        let open = self.open.get_or_insert_with(|| {
            Batch::new(self.statement, &[location.as_bytes(), device_type.as_bytes(), &start])
        });
        open.push(&values);
        if open.rows() >= BATCH_ROWS || open.bytes() >= BATCH_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.sealed.push(open.seal(self.consistency, self.written.timestamp));
        }
    }

    pub fn finish(mut self) -> Vec<SealedBatch> {
        self.seal();
        self.sealed
    }
}
