//! What readers need beside the rows: which groups, partitions and sensors exist, and each sensor's newest reading. It
//! is gathered while rows are batched, and written after them and before the offsets are committed. What was recorded
//! is remembered, so that a process writes it once.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use uuid::Uuid;

use super::dirty_marker::DirtyMarker;
use crate::cassandra::{SealedBatch, Values};
use crate::config::Consistency;
use crate::reading::{Bucket, Reading};
use crate::store::writes::{self, NewestReading, WriteStatements};
use crate::time::{HOUR, hour_of};

/// With more remembered entries the memory is emptied: recording again is harmless, unbounded growth is not.
const MAX_REMEMBERED: usize = 2_000_000;
/// Rows in a batch of sensors, partitions or newest readings.
const BATCH_ROWS: usize = 100;

/// A (location, device type), numbered so that hot maps hash a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupId(u32);

/// A group's names.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub location: Arc<str>,
    pub device_type: Arc<str>,
}

/// What is remembered as recorded, and what is pending.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    ids: HashMap<Arc<str>, HashMap<Arc<str>, GroupId>>,
    groups: Vec<Group>,
    partitions: HashSet<(GroupId, Bucket)>,
    /// Each sensor's newest recorded_timestamp.
    sensors: HashMap<(GroupId, Uuid), i64>,
    /// A hash of the tags of each sensor whose messages have some.
    tags: HashMap<(GroupId, Uuid), u64>,
    /// The hours that have rows.
    hours: HashMap<(GroupId, i64), Arc<DirtyMarker>>,
    pending: Pending,
    /// The newest readings that were taken last: messages of the same moment may follow.
    taken: HashMap<(GroupId, Uuid), NewestReading>,
}

/// A sensor with its name, if it has one, and its tags.
type Named = (Uuid, Option<Box<str>>, Box<[(Box<str>, Box<str>)]>);

#[derive(Debug, Default)]
struct Pending {
    groups: Vec<GroupId>,
    partitions: Vec<(GroupId, Bucket)>,
    /// With their names, where they have one.
    sensors: Vec<(GroupId, Named)>,
    latest: HashMap<(GroupId, Uuid), NewestReading>,
}

impl Catalog {
    /// The number of a group, which becomes pending if it is new.
    pub(super) fn group(&mut self, location: &str, device_type: &str) -> GroupId {
        if let Some(id) = self.ids.get(location).and_then(|types| types.get(device_type)) {
            return *id;
        }
        let id = GroupId(u32::try_from(self.groups.len()).expect("forgotten far below that many"));
        let group = Group { location: location.into(), device_type: device_type.into() };
        self.ids.entry(group.location.clone()).or_default().insert(group.device_type.clone(), id);
        self.groups.push(group);
        self.pending.groups.push(id);
        id
    }

    pub(super) fn names(&self, id: GroupId) -> &Group {
        &self.groups[id.0 as usize]
    }

    /// Notes a partition that has rows.
    pub(super) fn note_partition(&mut self, group: GroupId, bucket: Bucket) {
        if self.partitions.insert((group, bucket)) {
            self.pending.partitions.push((group, bucket));
        }
    }

    /// The dirty marker of an hour that has rows.
    pub(super) fn hour(&mut self, group: GroupId, hour: i64) -> Arc<DirtyMarker> {
        match self.hours.get(&(group, hour)) {
            Some(marker) => marker.clone(),
            None => {
                let marker = DirtyMarker::new(self.names(group).clone(), hour);
                self.hours.insert((group, hour), marker.clone());
                marker
            }
        }
    }

    /// The dirty markers of the hours whose rows readers find once the pending partitions are recorded.
    pub(super) fn hours_of_new_partitions(&self) -> Vec<Arc<DirtyMarker>> {
        let hours = |&(group, bucket): &(GroupId, Bucket)| {
            let count =
                usize::try_from((bucket.end() - hour_of(bucket.start)) / HOUR + 1).unwrap_or(usize::MAX);
            (0..count).filter_map(move |index| {
                self.hours.get(&(group, hour_of(bucket.start) + HOUR * index as i64)).cloned()
            })
        };
        self.pending.partitions.iter().flat_map(hours).collect()
    }

    /// Notes a reading, bound as [`writes::bind_reading`] does.
    pub(super) fn note_reading(&mut self, group: GroupId, reading: &Reading<'_>, bound: &Values) {
        let (sensor, recorded_at) = (reading.sensor, reading.recorded_at);
        let mut is_known_moment = false;
        match self.sensors.entry((group, sensor)) {
            std::collections::hash_map::Entry::Occupied(mut newest) if *newest.get() <= recorded_at => {
                is_known_moment = newest.insert(recorded_at) == recorded_at;
                if !reading.sensor_tags.is_empty() && self.has_other_tags(group, reading) {
                    self.pending.sensors.push((group, named(reading)));
                }
            }
            std::collections::hash_map::Entry::Occupied(_) => return,
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(recorded_at);
                if !reading.sensor_tags.is_empty() {
                    self.has_other_tags(group, reading);
                }
                self.pending.sensors.push((group, named(reading)));
            }
        }
        let key = (group, sensor);
        let before = match is_known_moment {
            true => self.pending.latest.get(&key).or_else(|| self.taken.get(&key)),
            false => None,
        };
        let newest = match before.filter(|before| before.recorded_at() == recorded_at) {
            Some(before) => before.with(bound),
            None => NewestReading::new(recorded_at, bound),
        };
        self.pending.latest.insert(key, newest);
    }

    /// Notes the tags of a sensor, and whether they are others than before.
    fn has_other_tags(&mut self, group: GroupId, reading: &Reading<'_>) -> bool {
        let mut hasher = DefaultHasher::new();
        reading.sensor_tags.hash(&mut hasher);
        let hash = hasher.finish();
        self.tags.insert((group, reading.sensor), hash) != Some(hash)
    }

    /// Whether readers cannot find some batched rows yet.
    pub(super) fn has_new_partitions(&self) -> bool {
        !self.pending.partitions.is_empty()
    }

    /// Number of pending rows.
    pub(super) fn pending_rows(&self) -> usize {
        let pending = &self.pending;
        pending.groups.len() + pending.partitions.len() + pending.sensors.len() + pending.latest.len()
    }

    /// Whether it remembers so much that [`Catalog::forget`] is due, once no batch refers to its groups.
    pub(super) fn is_full(&self) -> bool {
        self.groups.len() + self.partitions.len() + self.sensors.len() + self.tags.len() + self.hours.len()
            > MAX_REMEMBERED
    }

    /// Forgets what was recorded. Nothing may be pending, and no [`GroupId`] in use.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes what is pending, as batches of one partition each.
    pub(super) fn take_batches(
        &mut self,
        statements: &WriteStatements,
        consistency: Consistency,
        timestamp: i64,
    ) -> Vec<SealedBatch> {
        let Pending { groups, partitions, sensors, latest } = std::mem::take(&mut self.pending);
        let mut sealed = Vec::new();
        for id in groups {
            let Group { location, device_type } = self.names(id);
            sealed.push(statements.group_batch(location, device_type).seal(consistency, timestamp));
        }
        self.seal_by_group(
            partitions,
            &mut sealed,
            |group| statements.partitions_batch(&group.location, &group.device_type),
            |group, bucket| writes::partition_values(&group.location, &group.device_type, bucket),
            |batch| batch.seal(consistency, timestamp),
        );
        self.seal_by_group(
            sensors,
            &mut sealed,
            |group| statements.sensors_batch(&group.location, &group.device_type),
            |group, (sensor, name, tags)| {
                writes::sensor_values(&group.location, &group.device_type, sensor, name.as_deref(), &tags)
            },
            |batch| batch.seal(consistency, timestamp),
        );
        self.seal_by_group(
            latest.iter().map(|((group, _), newest)| (*group, newest)).collect(),
            &mut sealed,
            |group| statements.latest_batch(&group.location, &group.device_type),
            |_, newest| newest.row(),
            |batch| batch.seal(consistency, timestamp),
        );
        self.taken = latest;
        sealed
    }

    fn seal_by_group<T>(
        &self,
        mut rows: Vec<(GroupId, T)>,
        sealed: &mut Vec<SealedBatch>,
        open: impl Fn(&Group) -> crate::cassandra::Batch,
        bind: impl Fn(&Group, T) -> Values,
        seal: impl Fn(crate::cassandra::Batch) -> SealedBatch,
    ) {
        rows.sort_unstable_by_key(|(group, _)| group.0);
        let mut current: Option<(GroupId, crate::cassandra::Batch)> = None;
        for (id, row) in rows {
            let group = self.names(id);
            if current.as_ref().is_some_and(|(open, batch)| *open != id || batch.rows() == BATCH_ROWS) {
                sealed.extend(current.take().map(|(_, batch)| seal(batch)));
            }
            let (_, batch) = current.get_or_insert_with(|| (id, open(group)));
            batch.push(&bind(group, row));
        }
        sealed.extend(current.map(|(_, batch)| seal(batch)));
    }
}

/// What a reading's message says about its sensor.
fn named(reading: &Reading<'_>) -> Named {
    let tags = reading.sensor_tags.iter().map(|(key, value)| (Box::from(&**key), Box::from(&**value)));
    (reading.sensor, reading.sensor_name.as_deref().map(Box::from), tags.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_is_recorded_once_and_only_its_newest_reading_waits() {
        let mut catalog = Catalog::default();
        let group = catalog.group("plant-1", "thermostat");
        assert_eq!(group, catalog.group("plant-1", "thermostat"));
        let bound = |at: i64| Values::new().bigint(at).bigint(0);
        let sensor = Uuid::from_u128(1);
        for at in [10, 30, 20] {
            let reading = Reading { sensor, recorded_at: at, ..Reading::sample() };
            catalog.note_reading(group, &reading, &bound(at));
        }
        assert_eq!(catalog.pending.sensors, [(group, (sensor, None, Box::default()))]);
        assert_eq!(catalog.pending.latest[&(group, sensor)], NewestReading::new(30, &bound(30)));
    }

    #[test]
    fn messages_of_one_moment_are_joined_also_after_their_first_was_taken() {
        let mut catalog = Catalog::default();
        let group = catalog.group("plant-1", "thermostat");
        let reading = Reading { recorded_at: 10, ..Reading::sample() };
        let parts = [Values::new().bigint(1).unset(), Values::new().unset().bigint(2)];
        catalog.note_reading(group, &reading, &parts[0]);
        catalog.take_batches(&WriteStatements::sample(), Consistency::One, 1);
        catalog.note_reading(group, &reading, &parts[1]);
        let joined = NewestReading::new(10, &parts[0]).with(&parts[1]);
        assert_eq!(catalog.pending.latest[&(group, reading.sensor)], joined);
    }

    #[test]
    fn a_sensor_is_recorded_again_when_its_newest_message_has_other_tags() {
        let mut catalog = Catalog::default();
        let group = catalog.group("plant-1", "thermostat");
        let bound = Values::new().bigint(0).bigint(0);
        for (at, room) in [(10, "A"), (20, "A"), (15, "B"), (30, "B")] {
            let sensor_tags = vec![("room".into(), room.into())];
            let reading = Reading { recorded_at: at, sensor_tags, ..Reading::sample() };
            catalog.note_reading(group, &reading, &bound);
        }
        let rooms: Vec<_> = catalog.pending.sensors.iter().map(|(_, (_, _, tags))| &*tags[0].1).collect();
        assert_eq!(rooms, ["A", "B"], "a late reading changes nothing");
    }

    #[test]
    fn a_new_partition_comes_with_the_hours_that_have_rows() {
        let mut catalog = Catalog::default();
        let group = catalog.group("plant-1", "thermostat");
        let (one, other) = (catalog.hour(group, 2 * HOUR), catalog.hour(group, 30 * HOUR));
        assert!(Arc::ptr_eq(&one, &catalog.hour(group, 2 * HOUR)) && !Arc::ptr_eq(&one, &other));
        catalog.note_partition(group, Bucket { start: 0, seconds: 86_400 });
        assert_eq!(catalog.hours_of_new_partitions().len(), 1);
        // A bucket that begins within an hour.
        catalog.note_partition(group, Bucket { start: 30 * HOUR + HOUR / 2, seconds: 1800 });
        assert_eq!(catalog.hours_of_new_partitions().len(), 2);
    }

    #[test]
    fn a_partition_is_recorded_once() {
        let mut catalog = Catalog::default();
        let group = catalog.group("plant-1", "thermostat");
        let bucket = Bucket { start: 0, seconds: 3600 };
        catalog.note_partition(group, bucket);
        catalog.note_partition(group, bucket);
        catalog.note_partition(group, Bucket { start: 0, seconds: 60 });
        assert_eq!(catalog.pending.partitions.len(), 2);
    }
}
