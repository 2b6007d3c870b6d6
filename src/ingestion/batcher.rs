//! Readings become rows in open batches, one batch per partition; a batch is full by its rows or bytes, and due when it
//! has waited long enough. What readers need to find the rows is gathered beside them, in the catalog. The pipeline
//! and the direct import share it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::{Catalog, GroupId};
use super::dirty_marker::DirtyMarker;
use crate::cassandra::{Batch, SealedBatch, Values};
use crate::config::{Config, Consistency};
use crate::reading::{Bucket, Reading};
use crate::store::writes::{self, WriteStatements, Written};
use crate::time::hour_of;

/// Catalog rows that wait before they should be stored, whatever the clock says; with twice as many, no more readings
/// should be taken in.
const MAX_PENDING_RECORDS: usize = 20_000;

/// Gathers rows. `T` is what the caller wants back with each row once it is stored.
pub(super) struct Batcher<T> {
    batch_rows: usize,
    batch_bytes: usize,
    linger: Duration,
    bucket: Duration,
    consistency: Consistency,
    statements: WriteStatements,
    catalog: Catalog,
    open: HashMap<(GroupId, Bucket), OpenBatch<T>>,
    /// When each open batch is due, oldest first; entries of batches that filled up before are skipped.
    due: VecDeque<(Instant, (GroupId, Bucket), u64)>,
    next_number: u64,
    /// Memory for the row being bound.
    bound: Values,
    last_timestamp: i64,
}

/// Rows of one partition that wait for more.
struct OpenBatch<T> {
    number: u64,
    batch: Batch,
    /// The write time of its rows. Batches of one partition are opened one after another, so it rises with each.
    timestamp: i64,
    /// A hash of the sensor and moment of each row.
    keys: Vec<u64>,
    tags: Vec<T>,
    oldest: i64,
    /// The hours of its rows, with their markers: one, unless buckets are wider.
    hours: Vec<(i64, Arc<DirtyMarker>)>,
}

/// Rows of one partition, ready to be stored.
pub(super) struct FullBatch<T> {
    pub rows: SealedBatch,
    /// Of the hours that the rows belong to: none of the rows may be sent without them.
    pub markers: Vec<Arc<DirtyMarker>>,
    pub tags: Vec<T>,
    /// As counted by [`Batcher::push`].
    pub bytes: usize,
    /// The earliest recorded_timestamp, in milliseconds since the epoch.
    pub oldest: i64,
}

/// Catalog rows, ready to be stored.
pub(super) struct Records {
    pub batches: Vec<SealedBatch>,
    /// Of the hours whose rows readers find by these: none of the records may be sent without them.
    pub markers: Vec<Arc<DirtyMarker>>,
}

impl<T> Batcher<T> {
    pub(super) fn new(config: &Config, statements: WriteStatements, consistency: Consistency) -> Self {
        let Config { ingest, schema, .. } = config;
        Self {
            batch_rows: ingest.batch_rows,
            batch_bytes: usize::try_from(ingest.batch_bytes.as_u64()).unwrap_or(usize::MAX),
            linger: ingest.linger,
            bucket: schema.bucket,
            consistency,
            statements,
            catalog: Catalog::default(),
            open: HashMap::new(),
            due: VecDeque::new(),
            next_number: 0,
            bound: Values::new(),
            last_timestamp: 0,
        }
    }

    /// Adds a reading to its partition's batch. Returns the bytes that it takes there, and the batch if it is full now.
    pub(super) fn push(&mut self, reading: &Reading<'_>, tag: T) -> (usize, Option<FullBatch<T>>) {
        let bucket = Bucket::containing(reading.recorded_at, self.bucket);
        let group = self.catalog.group(&reading.location, &reading.device_type);
        writes::bind_reading(&mut self.bound, reading, bucket);
        self.catalog.note_reading(group, reading, &self.bound);
        let key = (group, bucket);
        let open = match self.open.entry(key) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                self.catalog.note_partition(group, bucket);
                self.next_number += 1;
                self.due.push_back((Instant::now() + self.linger, key, self.next_number));
                vacant.insert(OpenBatch {
                    number: self.next_number,
                    timestamp: next_timestamp(&mut self.last_timestamp),
                    keys: Vec::with_capacity(self.batch_rows),
                    batch: self.statements.readings_batch(&reading.location, &reading.device_type, bucket),
                    tags: Vec::with_capacity(self.batch_rows),
                    oldest: i64::MAX,
                    hours: Vec::with_capacity(1),
                })
            }
        };
        // The head of a new batch counts with its first row.
        let before = if open.batch.is_empty() { 0 } else { open.batch.bytes() };
        let row = hash_of_key(reading);
        let written = match open.keys.contains(&row) {
            false => Written::First,
            true => Written::Again(next_timestamp(&mut self.last_timestamp)),
        };
        open.keys.push(row);
        self.statements.push_reading(&mut open.batch, reading, &self.bound, written);
        open.tags.push(tag);
        open.oldest = open.oldest.min(reading.recorded_at);
        let hour = hour_of(reading.recorded_at);
        if !open.hours.iter().any(|(known, _)| *known == hour) {
            open.hours.push((hour, self.catalog.hour(group, hour)));
        }
        let added = open.batch.bytes() - before;
        let is_full = open.batch.rows() >= self.batch_rows || open.batch.bytes() >= self.batch_bytes;
        (added, if is_full { self.take(key) } else { None })
    }

    /// The oldest batch that has waited long enough, if there is one.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<FullBatch<T>> {
        while let Some(&(due, key, number)) = self.due.front()
            && due <= now
        {
            self.due.pop_front();
            if self.open.get(&key).is_some_and(|open| open.number == number) {
                return self.take(key);
            }
        }
        None
    }

    /// All open batches.
    pub(super) fn take_all(&mut self) -> Vec<FullBatch<T>> {
        self.due.clear();
        let keys: Vec<_> = self.open.keys().copied().collect();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }

    fn take(&mut self, key: (GroupId, Bucket)) -> Option<FullBatch<T>> {
        let OpenBatch { batch, tags, oldest, hours, timestamp, .. } = self.open.remove(&key)?;
        let bytes = batch.bytes();
        let rows = batch.seal(self.consistency, timestamp);
        let markers = hours.into_iter().map(|(_, marker)| marker).collect();
        Some(FullBatch { rows, markers, tags, bytes, oldest })
    }

    /// The catalog rows that have been gathered. Rows that were taken before must be stored before these are.
    pub(super) fn take_records(&mut self) -> Records {
        let markers = self.catalog.hours_of_new_partitions();
        let timestamp = next_timestamp(&mut self.last_timestamp);
        let batches = self.catalog.take_batches(&self.statements, self.consistency, timestamp);
        Records { batches, markers }
    }

    /// Whether catalog rows should be stored now: there are many, or readers cannot find a new partition without them.
    pub(super) fn records_are_due(&self) -> bool {
        self.catalog.pending_rows() >= MAX_PENDING_RECORDS || self.catalog.has_new_partitions()
    }

    /// Whether so many catalog rows wait that no more readings should be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.catalog.pending_rows() >= 2 * MAX_PENDING_RECORDS
    }

    /// Whether the catalog remembers so much that it should [`Batcher::forget`].
    pub(super) fn should_forget(&self) -> bool {
        self.catalog.is_full()
    }

    /// Forgets what the catalog has recorded. No batch may be open and no record pending: both name groups by numbers
    /// that are forgotten here.
    pub(super) fn forget(&mut self) {
        debug_assert!(self.open.is_empty() && self.catalog.pending_rows() == 0);
        self.catalog.forget();
    }
}

/// Microseconds since the epoch, rising: of two readings with the same key, the later message's cells win.
fn next_timestamp(last: &mut i64) -> i64 {
    *last = chrono::Utc::now().timestamp_micros().max(*last + 1);
    *last
}

/// Two keys with the same hash cost a longer statement and nothing else.
fn hash_of_key(reading: &Reading<'_>) -> u64 {
    let (high, low) = reading.sensor.as_u64_pair();
    let moment = reading.recorded_at.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    high ^ low.rotate_left(32) ^ moment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IngestConfig;

    fn batcher(ingest: IngestConfig) -> Batcher<u32> {
        let config = Config { ingest, ..Config::default() };
        Batcher::new(&config, WriteStatements::sample(), Consistency::One)
    }

    fn reading(location: &'static str, recorded_at: i64) -> Reading<'static> {
        Reading {
            location: location.into(),
            device_type: "thermostat".into(),
            sensor: uuid::Uuid::from_u128(1),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at,
            temperature: Some(21.5),
            humidity: None,
            pressure: None,
            motion_detected: None,
            light_level: None,
            gas_concentration: None,
            other_metrics: Vec::new(),
            states: Vec::new(),
        }
    }

    #[test]
    fn a_batch_is_full_at_its_rows_and_holds_one_partition() {
        let mut batcher = batcher(IngestConfig { batch_rows: 2, ..IngestConfig::default() });
        let hour = 3_600_000;
        assert!(batcher.push(&reading("a", 5), 1).1.is_none());
        assert!(batcher.push(&reading("b", 6), 2).1.is_none());
        assert!(batcher.push(&reading("a", 48 * hour), 3).1.is_none());
        let (_, full) = batcher.push(&reading("a", 4), 4);
        let full = full.expect("two rows of one partition");
        assert_eq!((full.rows.rows(), full.tags, full.oldest, full.markers.len()), (2, vec![1, 4], 4, 1));
        assert_eq!(batcher.take_all().len(), 2);
    }

    #[test]
    fn bytes_of_pushed_rows_add_up_to_those_of_their_batch() {
        let mut batcher = batcher(IngestConfig::default());
        let pushed: usize = (0..5).map(|at| batcher.push(&reading("a", at), 0).0).sum();
        let [batch] = &batcher.take_all()[..] else { panic!("one partition") };
        assert_eq!(batch.bytes, pushed);
    }

    #[test]
    fn a_batch_is_due_after_the_linger_time_and_only_once() {
        let linger = Duration::from_millis(50);
        let mut batcher = batcher(IngestConfig { linger, ..IngestConfig::default() });
        batcher.push(&reading("a", 5), 1);
        assert!(batcher.take_due(Instant::now()).is_none());
        let later = Instant::now() + linger;
        assert_eq!(batcher.take_due(later).expect("it has waited").tags, [1]);
        assert!(batcher.take_due(later).is_none());
    }

    #[test]
    fn timestamps_rise_from_batch_to_batch() {
        let mut last = 0;
        let times: Vec<_> = (0..100).map(|_| next_timestamp(&mut last)).collect();
        assert!(times.is_sorted_by(|one, next| one < next));
    }
}
