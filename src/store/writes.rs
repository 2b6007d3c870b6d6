//! The statements that store readings and what is known about them, and how a reading is bound to them.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::readings::{LATEST, TABLE};
use super::sensors::{self, MAPPED_TAGS, NAME, TABLE as SENSORS};
use super::shape::{STATES, Shape};
use crate::cassandra::{Batch, Error, Session, Statement, Values};
use crate::config::RetentionConfig;
use crate::reading::{Bucket, Reading};

/// `sensor_groups` is spread over this many partitions, so that no single one lists a large fleet.
pub const GROUP_SHARDS: i32 = 16;

/// Every statement that `ingest` writes with, prepared.
#[derive(Debug, Clone)]
pub struct WriteStatements {
    pub reading: Arc<Statement>,
    /// With a time to live of its own, by device type.
    lasting: Arc<HashMap<String, Arc<Statement>>>,
    latest: Arc<Statement>,
    sensor: Arc<Statement>,
    partition: Arc<Statement>,
    group: Arc<Statement>,
    dirty_marker: Arc<Statement>,
}

impl WriteStatements {
    /// # Errors
    /// [`Error::NoKeyspace`] or [`Error::Invalid`] where the schema is not there, [`Error::Schema`] where it is of an
    /// earlier version.
    pub async fn prepare(session: &Session, retention: &RetentionConfig) -> Result<Self, Error> {
        let keyspace = session.keyspace();
        let others = Shape::of(session, TABLE).await?.written(TABLE)?;
        let reading = format!(
            "INSERT INTO {keyspace}.{TABLE} (location, device_type, iot_sensor_id, recorded_timestamp, \
             temperature, humidity, pressure, motion_detected, light_level, gas_concentration, {others}, {STATES}, \
             bucket) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        // The same values as above, with the moment in µs in the bucket's place.
        let others = Shape::of(session, LATEST).await?.written(LATEST)?;
        let latest = format!(
            "INSERT INTO {keyspace}.{LATEST} (location, device_type, iot_sensor_id, recorded_timestamp, \
             temperature, humidity, pressure, motion_detected, light_level, gas_concentration, {others}, {STATES}) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
        );
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
            let cql = format!("{reading} USING TTL {}", ttl.as_secs());
            lasting.insert(device_type.to_owned(), session.prepare(&cql).await?);
        }
        Ok(Self {
            lasting: Arc::new(lasting),
            reading: session.prepare(&reading).await?,
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
            reading: statement.clone(),
            lasting: Arc::default(),
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
        let statement = self.lasting.get(device_type).unwrap_or(&self.reading);
        Batch::new(statement, &[location.as_bytes(), device_type.as_bytes(), &start])
    }

    /// An empty batch of newest readings of one group; see [`latest_of`].
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

/// Binds a reading to the raw table's INSERT; `values` is cleared first.
pub fn bind_reading(values: &mut Values, reading: &Reading<'_>, bucket: Bucket) {
    values.clear();
    values.push_text(&reading.location);
    values.push_text(&reading.device_type);
    values.push_uuid(reading.sensor);
    values.push_bigint(reading.recorded_at);
    values.push_float(reading.temperature);
    values.push_float(reading.humidity);
    values.push_float(reading.pressure);
    values.push_boolean(reading.motion_detected);
    values.push_float(reading.light_level);
    values.push_float(reading.gas_concentration);
    values.push_double_map(reading.other_metrics.iter().map(|(name, value)| (&**name, *value)));
    values.push_text_map(reading.states.iter().map(|(name, text)| (&**name, &**text)));
    values.push_bigint(bucket.start);
}

/// The newest-reading row of a reading that [`bind_reading`] bound: written with its own moment as the write
/// timestamp, so that a late reading can never replace a newer one.
pub fn latest_of(bound: &Values, recorded_at: i64) -> Values {
    let mut values = bound.clone();
    values.replace_last_bigint(recorded_at.saturating_mul(1000));
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
        let latest = latest_of(&raw, reading.recorded_at);
        assert_eq!(latest.count(), raw.count());
        assert_eq!(latest.get(12), Some(1_700_000_000_123_000i64.to_be_bytes().as_slice()));
        assert_eq!(latest.get(3), raw.get(3));
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
