//! The statements that store readings and what is known about them, and how a reading is bound to them.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::readings::{LATEST, TABLE};
use super::sensors::{self, MAPPED_TAGS, NAME, TABLE as SENSORS};
use super::shape::{STATES, Shape};
use crate::cassandra::values::merged_maps;
use crate::cassandra::{Batch, Error, Session, Statement, Values};
use crate::config::RetentionConfig;
use crate::reading::{Bucket, Reading};

/// `sensor_groups` is spread over this many partitions, so that no single one lists a large fleet.
pub const GROUP_SHARDS: i32 = 16;

/// Every statement that `ingest` writes with, prepared.
#[derive(Debug, Clone)]
pub struct WriteStatements {
    reading: ReadingStatements,
    /// With a time to live of their own, by device type.
    lasting: Arc<HashMap<String, ReadingStatements>>,
    shape: Shape,
    latest: Arc<Statement>,
    sensor: Arc<Statement>,
    partition: Arc<Statement>,
    group: Arc<Statement>,
    dirty_marker: Arc<Statement>,
}

/// The statements that store a raw reading; all take what [`bind_reading`] binds. A message brings some values of a sensor's moment,
/// and others may bring more: what each has is added, and of two values of one name the later message's stays.
#[derive(Debug, Clone)]
struct ReadingStatements {
    /// A row without names in its maps, or of a table whose maps are frozen.
    row: Arc<Statement>,
    /// A row with names: they are added to the maps. An INSERT of a whole map would delete the names that are there.
    named: Arc<Statement>,
    /// The same, written at a time of their own: of two values that are written at the same time Cassandra keeps the greater.
    row_at: Arc<Statement>,
    named_at: Arc<Statement>,
}

impl ReadingStatements {
    async fn prepare(session: &Session, shape: Shape, ttl: Option<u64>) -> Result<Self, Error> {
        let table = format!("{}.{TABLE}", session.keyspace());
        let others = shape.written(TABLE)?;
        let ttl = ttl.map(|seconds| format!("TTL {seconds}"));
        let using = |timestamp: Option<&str>| {
            let parts: Vec<_> = ttl.as_deref().into_iter().chain(timestamp).collect();
            if parts.is_empty() { String::new() } else { format!(" USING {}", parts.join(" AND ")) }
        };
        let (now, later) = (using(None), using(Some("TIMESTAMP ?")));
        let insert = format!("INSERT INTO {table} {}", inserted(others, "bucket"));
        let set = |name: &str, adds: bool| match adds {
            true => format!("{name} = {name} + ?"),
            false => format!("{name} = ?"),
        };
        let changes = format!(
            "SET temperature = ?, humidity = ?, pressure = ?, motion_detected = ?, light_level = ?, gas_concentration = ?, {}, {} \
             WHERE location = ? AND device_type = ? AND iot_sensor_id = ? AND recorded_timestamp = ? AND bucket = ?",
            set(others, shape.merges_others),
            set(STATES, shape.merges_states),
        );
        let (inserts, updates) = (
            [&now, &later].map(|using| format!("{insert}{using}")),
            [&now, &later].map(|using| format!("UPDATE {table}{using} {changes}")),
        );
        let (row, row_at, named, named_at) = tokio::try_join!(
            session.prepare(&inserts[0]),
            session.prepare(&inserts[1]),
            session.prepare(&updates[0]),
            session.prepare(&updates[1]),
        )?;
        Ok(Self { row, named, row_at, named_at })
    }
}

/// The columns of an INSERT in the order of [`bind_reading`]; `last` is empty where the last value is none of them.
fn inserted(others: &str, last: &str) -> String {
    let (last, marker) = if last.is_empty() { (String::new(), "") } else { (format!(", {last}"), ", ?") };
    format!(
        "(temperature, humidity, pressure, motion_detected, light_level, gas_concentration, {others}, {STATES}, location, \
         device_type, iot_sensor_id, recorded_timestamp{last}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{marker})"
    )
}

impl WriteStatements {
    /// # Errors
    /// [`Error::NoKeyspace`] or [`Error::Invalid`] where the schema is not there, [`Error::Schema`] where it is of an
    /// earlier version.
    pub async fn prepare(session: &Session, retention: &RetentionConfig) -> Result<Self, Error> {
        let keyspace = session.keyspace();
        let shape = Shape::of(session, TABLE).await?;
        let reading = ReadingStatements::prepare(session, shape, None).await?;
        // The same values as those of a raw row, with the moment in µs in the bucket's place.
        let others = Shape::of(session, LATEST).await?.written(LATEST)?;
        let latest = format!("INSERT INTO {keyspace}.{LATEST} {} USING TIMESTAMP ?", inserted(others, ""));
        let sensor = format!(
            "INSERT INTO {keyspace}.{SENSORS} (location, device_type, iot_sensor_id, {NAME}, {MAPPED_TAGS}) \
             VALUES (?, ?, ?, ?, ?)"
        );
        sensors::check_columns(session).await?;
        let partition = format!(
            "INSERT INTO {keyspace}.sensor_partitions (location, device_type, bucket, bucket_seconds) \
             VALUES (?, ?, ?, ?)"
        );
        let group =
            format!("INSERT INTO {keyspace}.sensor_groups (shard, location, device_type) VALUES (?, ?, ?)");
        let dirty_marker = format!(
            "INSERT INTO {keyspace}.rollup_dirty (location, device_type, hour, mark, marked_at) VALUES (?, ?, ?, ?, ?)"
        );
        let mut lasting = HashMap::new();
        for (device_type, ttl) in retention.iter() {
            let statements = ReadingStatements::prepare(session, shape, Some(ttl.as_secs())).await?;
            lasting.insert(device_type.to_owned(), statements);
        }
        Ok(Self {
            lasting: Arc::new(lasting),
            reading,
            shape,
            latest: session.prepare(&latest).await?,
            sensor: session.prepare(&sensor).await?,
            partition: session.prepare(&partition).await?,
            group: session.prepare(&group).await?,
            dirty_marker: session.prepare(&dirty_marker).await?,
        })
    }

    /// Without a server.
    #[cfg(test)]
    pub fn sample() -> Self {
        let statement = Arc::new(Statement::sample(vec![0, 1]));
        Self {
            reading: ReadingStatements {
                row: statement.clone(),
                named: statement.clone(),
                row_at: statement.clone(),
                named_at: statement.clone(),
            },
            lasting: Arc::default(),
            shape: Shape { merges_others: true, merges_states: true, ..Shape::default() },
            latest: statement.clone(),
            sensor: statement.clone(),
            partition: statement.clone(),
            group: statement.clone(),
            dirty_marker: statement,
        }
    }

    /// An empty batch of raw readings of one partition.
    pub fn readings_batch(&self, location: &str, device_type: &str, bucket: Bucket) -> Batch {
        let start = bucket.start.to_be_bytes();
        Batch::new(&self.of(device_type).row, &[location.as_bytes(), device_type.as_bytes(), &start])
    }

    fn of(&self, device_type: &str) -> &ReadingStatements {
        self.lasting.get(device_type).unwrap_or(&self.reading)
    }

    /// Adds a reading, which [`bind_reading`] has bound, to the batch of its partition.
    pub fn push_reading(&self, batch: &mut Batch, reading: &Reading<'_>, bound: &Values, written: Written) {
        let adds_names = self.shape.merges_others && !reading.other_metrics.is_empty()
            || self.shape.merges_states && !reading.states.is_empty();
        match (written, adds_names) {
            (Written::First, false) => batch.push(bound),
            (Written::First, true) => batch.push_by(&self.of(&reading.device_type).named, bound),
            (Written::Again(time), false) => {
                batch.push_by(&self.of(&reading.device_type).row_at, &bound.clone().bigint(time));
            }
            (Written::Again(time), true) => {
                batch
                    .push_by(&self.of(&reading.device_type).named_at, &Values::new().bigint(time).and(bound));
            }
        }
    }

    /// An empty batch of newest readings of one group; see [`NewestReading::row`].
    pub fn latest_batch(&self, location: &str, device_type: &str) -> Batch {
        Batch::new(&self.latest, &[location.as_bytes(), device_type.as_bytes()])
    }

    /// An empty batch of sensors of one group; see [`sensor_values`].
    pub fn sensors_batch(&self, location: &str, device_type: &str) -> Batch {
        Batch::new(&self.sensor, &[location.as_bytes(), device_type.as_bytes()])
    }

    /// An empty batch of buckets of one group; see [`partition_values`].
    pub fn partitions_batch(&self, location: &str, device_type: &str) -> Batch {
        Batch::new(&self.partition, &[location.as_bytes(), device_type.as_bytes()])
    }

    /// An empty batch of dirty markers of one group; see [`dirty_marker_values`].
    pub fn dirty_marker_batch(&self, location: &str, device_type: &str) -> Batch {
        Batch::new(&self.dirty_marker, &[location.as_bytes(), device_type.as_bytes()])
    }

    /// Records that a group exists.
    pub fn group_batch(&self, location: &str, device_type: &str) -> Batch {
        let shard = group_shard(location, device_type);
        let mut batch = Batch::new(&self.group, &[&shard.to_be_bytes()]);
        batch.push(&Values::new().int(shard).text(location).text(device_type));
        batch
    }
}

/// When a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// At the time of its batch, which has no row of the same sensor and moment.
    First,
    /// At a later time, in microseconds since the epoch: its batch has a row of the same sensor and moment.
    Again(i64),
}

/// Binds a reading to the statements that store it; `values` is cleared first.
pub fn bind_reading(values: &mut Values, reading: &Reading<'_>, bucket: Bucket) {
    values.clear();
    values.push_float(reading.temperature);
    values.push_float(reading.humidity);
    values.push_float(reading.pressure);
    values.push_boolean(reading.motion_detected);
    values.push_float(reading.light_level);
    values.push_float(reading.gas_concentration);
    values.push_double_map(reading.other_metrics.iter().map(|(name, value)| (&**name, *value)));
    values.push_text_map(reading.states.iter().map(|(name, text)| (&**name, &**text)));
    values.push_text(&reading.location);
    values.push_text(&reading.device_type);
    values.push_uuid(reading.sensor);
    values.push_bigint(reading.recorded_at);
    values.push_bigint(bucket.start);
}

/// A sensor's newest reading, as far as its messages have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestReading {
    recorded_at: i64,
    /// As [`bind_reading`] binds a reading.
    values: Values,
    /// How many messages of this moment came before the last one.
    earlier: u16,
}

impl NewestReading {
    pub fn new(recorded_at: i64, bound: &Values) -> Self {
        Self { recorded_at, values: bound.clone(), earlier: 0 }
    }

    pub fn recorded_at(&self) -> i64 {
        self.recorded_at
    }

    /// With what a later message says about the same moment.
    pub fn with(&self, later: &Values) -> Self {
        let values = joined(&self.values, later);
        Self { recorded_at: self.recorded_at, values, earlier: (self.earlier + 1).min(999) }
    }

    /// Its row: written with its own moment as the write timestamp, so that a late reading can never replace a newer one.
    /// The microseconds within its millisecond count its messages, so that the row with all their values stays.
    pub fn row(&self) -> Values {
        let mut values = self.values.clone();
        values.replace_last_bigint(self.recorded_at.saturating_mul(1000).saturating_add(self.earlier.into()));
        values
    }
}

/// Where [`bind_reading`] puts the maps.
const MAPS: [usize; 2] = [6, 7];

/// The values of two messages of one sensor and moment, the later one's where both have some.
fn joined(earlier: &Values, later: &Values) -> Values {
    let mut values = Values::new();
    for index in 0..usize::from(later.count()) {
        let both = (earlier.get(index), later.get(index));
        let merged = match both {
            (Some(earlier), Some(later)) if MAPS.contains(&index) => merged_maps(earlier, later),
            _ => None,
        };
        values.push_wire(merged.as_deref().or(both.1).or(both.0));
    }
    values
}

/// What messages say about a sensor. Without a name or tags, those that are there stay.
pub fn sensor_values(
    location: &str,
    device_type: &str,
    sensor: Uuid,
    name: Option<&str>,
    tags: &[(Box<str>, Box<str>)],
) -> Values {
    let values = Values::new().text(location).text(device_type).uuid(sensor);
    let mut values = match name {
        Some(name) => values.text(name),
        None => values.unset(),
    };
    values.push_text_map(tags.iter().map(|(key, value)| (&**key, &**value)));
    values
}

pub fn partition_values(location: &str, device_type: &str, bucket: Bucket) -> Values {
    Values::new().text(location).text(device_type).timestamp(bucket.start).int(bucket.seconds)
}

/// A dirty marker: readings arrive in `hour` although it is over. `marked_at` is in milliseconds since the epoch.
pub fn dirty_marker_values(location: &str, device_type: &str, hour: i64, id: Uuid, marked_at: i64) -> Values {
    Values::new().text(location).text(device_type).timestamp(hour).uuid(id).timestamp(marked_at)
}

/// Where `sensor_groups` lists a group: FNV-1a of its names, a zero byte between them.
pub fn group_shard(location: &str, device_type: &str) -> i32 {
    let names = location.bytes().chain([0]).chain(device_type.bytes());
    let hash = names.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash % GROUP_SHARDS as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newest_reading_is_the_raw_row_with_its_moment_as_write_timestamp() {
        let reading = Reading {
            location: "a".into(),
            device_type: "b".into(),
            sensor: Uuid::nil(),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: 1_700_000_000_123,
            temperature: Some(1.0),
            humidity: None,
            pressure: None,
            motion_detected: Some(true),
            light_level: None,
            gas_concentration: None,
            other_metrics: vec![("z".into(), 1.0), ("a".into(), 2.0)],
            states: vec![("mode".into(), "eco".into())],
        };
        let mut raw = Values::new();
        bind_reading(&mut raw, &reading, Bucket { start: 1_699_999_200_000, seconds: 3600 });
        let latest = NewestReading::new(reading.recorded_at, &raw).row();
        assert_eq!(latest.count(), raw.count());
        assert_eq!(latest.get(12), Some(1_700_000_000_123_000i64.to_be_bytes().as_slice()));
        assert_eq!(latest.get(11), raw.get(11));
    }

    #[test]
    fn messages_of_one_moment_are_one_newest_reading() {
        let bound = |temperature: Option<f32>, others: &[(&str, f64)], states: &[(&str, &str)]| {
            let mut values = Values::new();
            let reading = Reading {
                temperature,
                other_metrics: others.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
                states: states.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
                ..Reading::sample()
            };
            bind_reading(&mut values, &reading, Bucket { start: 0, seconds: 3600 });
            values
        };
        let newest = NewestReading::new(7, &bound(Some(5.0), &[("a", 1.0), ("b", 2.0)], &[]))
            .with(&bound(None, &[("c", 3.0), ("a", 4.0)], &[("mode", "eco")]))
            .with(&bound(Some(3.0), &[], &[]));
        let mut expected = bound(Some(3.0), &[("a", 4.0), ("b", 2.0), ("c", 3.0)], &[("mode", "eco")]);
        expected.replace_last_bigint(7_002);
        assert_eq!(newest.row(), expected);
    }

    #[test]
    fn shards_are_stable_and_in_range() {
        assert_eq!(group_shard("plant-1", "thermostat"), group_shard("plant-1", "thermostat"));
        let used: std::collections::HashSet<_> =
            (0..500).map(|index| group_shard(&format!("plant-{index}"), "thermostat")).collect();
        assert!(used.iter().all(|shard| (0..GROUP_SHARDS).contains(shard)));
        assert_eq!(used.len(), GROUP_SHARDS as usize);
    }
}
