//! Readings, in order of time or as they are stored, as a stream whose memory does not grow with the result.
//!
//! The range is cut into slices ([`crate::analytics::slice`]). A few are read ahead, each by its own task, which sends
//! chunks of limited size. At most `AHEAD` chunks and the one being consumed are in memory.
//!
//! Order costs reads: a slice that does not fit in a chunk is cut into shorter ones, and for each of them the servers
//! filter the whole partition again. A reader that adds values up does without it: each page is a chunk.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Filter;
use super::tags::Chosen;
use crate::analytics::slice::{self, PartialRead, TimeSlice};
use crate::cassandra::{Error, Session};
use crate::reading::{Group, Partition};
use crate::store::cells::Cells;
use crate::store::groups;
use crate::store::readings::{self, Names, Slice, StoredReading};
use crate::time::{HOUR, TimeRange};

/// Slices that are read at once for all sensors of a group.
const AHEAD: usize = 3;
/// The same for one sensor: each slice is a short seek, so the time of the round trips dominates.
const AHEAD_ONE_SENSOR: usize = 12;
/// Memory for the readings of all tasks together, in bytes.
const BUDGET: usize = 36 << 20;
/// Maximum number of distinct names of other metrics that are remembered.
const MAX_NAMES: usize = 10_000;

/// The order of a result. Ties are ordered by sensor id, then group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

/// The readings to scan.
#[derive(Debug, Clone)]
pub struct Question {
    pub groups: Vec<Arc<Group>>,
    pub sensor: Option<Uuid>,
    pub range: TimeRange,
    pub filter: Option<Filter>,
    /// Only these sensors.
    pub chosen: Option<Arc<Chosen>>,
    /// `None`: each partition as it is stored, partitions in ascending order of their starts (see [`Scan::reached`]).
    pub order: Option<Order>,
}

/// A running scan. Dropping it stops its tasks after the page they are reading.
pub struct Scan {
    shared: Arc<Shared>,
    /// Slices that are not started yet, in the order of the result.
    waiting: VecDeque<TimeSlice>,
    running: VecDeque<Running>,
    /// Number of slices to read at once: one at first, so that a short answer costs little, then more.
    ahead: usize,
    max_ahead: usize,
    reached: i64,
}

struct Running {
    /// The start of a slice that is read without an order.
    from: Option<i64>,
    chunks: mpsc::Receiver<Vec<StoredReading>>,
    task: JoinHandle<Result<(), Error>>,
}

/// State that the tasks share.
struct Shared {
    session: Session,
    question: Question,
    cells: Cells,
    /// Without an order, wider slices are in order all the same.
    stretch: i64,
    chunk_bytes: usize,
    /// Sensors of the groups, counted when the first slice overflows.
    sensors: OnceCell<u64>,
    names: Mutex<BTreeSet<Arc<str>>>,
}

impl Scan {
    /// Finds the partitions to read, and starts reading.
    pub async fn start(session: &Session, question: Question) -> Result<Self, Error> {
        Self::of_cells(session, question, Cells::ALL).await
    }

    /// The same for a reader that needs only some cells. A filter needs all.
    pub async fn of_cells(session: &Session, question: Question, cells: Cells) -> Result<Self, Error> {
        Self::of_stretches(session, question, cells, i64::MAX).await
    }

    /// The readings of a group hour by hour, without an order within the hour: for readers whose memory grows with the
    /// hours that are open.
    pub async fn of_hours(
        session: &Session,
        group: Arc<Group>,
        sensor: Option<Uuid>,
        range: TimeRange,
    ) -> Result<Self, Error> {
        let question =
            Question { groups: vec![group], sensor, range, filter: None, chosen: None, order: None };
        Self::of_stretches(session, question, Cells::ALL, HOUR).await
    }

    async fn of_stretches(
        session: &Session,
        question: Question,
        cells: Cells,
        stretch: i64,
    ) -> Result<Self, Error> {
        let cells = if question.filter.is_some() { Cells::ALL } else { cells };
        let mut partitions = Vec::new();
        for group in &question.groups {
            let range = question.range;
            partitions.extend(groups::partitions(session, group, range.from, range.to).await?);
        }
        let mut waiting = VecDeque::from(slice::slices(partitions, question.range));
        match question.order {
            Some(Order::Asc) => {}
            Some(Order::Desc) => waiting.make_contiguous().reverse(),
            None => waiting = waiting.into_iter().flat_map(TimeSlice::without_order).collect(),
        }
        let max_ahead = if question.sensor.is_some() { AHEAD_ONE_SENSOR } else { AHEAD };
        let shared = Shared {
            session: session.clone(),
            question,
            cells,
            stretch,
            chunk_bytes: BUDGET / (max_ahead + 1),
            sensors: OnceCell::new(),
            names: Mutex::default(),
        };
        let (running, reached) = (VecDeque::new(), i64::MIN);
        let mut scan = Self { shared: Arc::new(shared), waiting, running, ahead: 1, max_ahead, reached };
        scan.read_ahead();
        Ok(scan)
    }

    /// The next readings in order; never an empty chunk. `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<StoredReading>>, Error> {
        loop {
            self.read_ahead();
            let Some(first) = self.running.front_mut() else { return Ok(None) };
            match first.chunks.recv().await {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => {
                    let earliest = || chunk.first().map_or(i64::MIN, |reading| reading.recorded_at);
                    self.reached = first.from.unwrap_or_else(earliest);
                    self.ahead = (self.ahead + 1).min(self.max_ahead);
                    self.read_ahead();
                    return Ok(Some(chunk));
                }
                None => {
                    if let Some(done) = self.running.pop_front() {
                        done.task
                            .await
                            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
                    }
                    self.ahead = (self.ahead + 1).min(self.max_ahead);
                }
            }
        }
    }

    /// No reading to come is older, unless the newest come first: all before it is complete.
    pub fn reached(&self) -> i64 {
        self.reached
    }

    /// The names of other metrics so far, whether or not the readings passed the filter.
    pub fn metric_names(&self) -> BTreeSet<Arc<str>> {
        self.shared.names.lock().expect("no panic while locked").clone()
    }

    fn read_ahead(&mut self) {
        while self.running.len() < self.ahead {
            let Some(slice) = self.waiting.pop_front() else { return };
            let (sender, chunks) = mpsc::channel(1);
            let shared = self.shared.clone();
            let from = shared.without_order(&slice).map(|_| slice.from);
            let task = tokio::spawn(read_slice(shared, slice, sender));
            self.running.push_back(Running { from, chunks, task });
        }
    }
}

/// Reads one slice and sends its chunks in order. Ends early, without an error, if the receiver is gone.
async fn read_slice(
    shared: Arc<Shared>,
    slice: TimeSlice,
    sender: mpsc::Sender<Vec<StoredReading>>,
) -> Result<(), Error> {
    if let Some(partition) = shared.without_order(&slice) {
        return read_pages(&shared, &slice, partition, &sender).await;
    }
    let order = shared.question.order.unwrap_or(Order::Asc);
    let mut pieces = vec![slice];
    while let Some(piece) = pieces.pop() {
        // Reserve the place first: a task holds at most one chunk, read or being read.
        let Ok(permit) = sender.reserve().await else { return Ok(()) };
        match collect(&shared, &piece, &sender).await? {
            Collected::All(mut readings) => {
                in_order(&mut readings, order);
                permit.send(readings);
            }
            Collected::TooMany(read) => {
                let narrower = piece.split(&read);
                match order {
                    // The last is popped first.
                    Order::Asc => pieces.extend(narrower.into_iter().rev()),
                    Order::Desc => pieces.extend(narrower),
                }
            }
            Collected::ReceiverGone => return Ok(()),
        }
    }
    Ok(())
}

/// Sends a partition's rows page by page, as they are stored.
async fn read_pages(
    shared: &Shared,
    slice: &TimeSlice,
    partition: &Partition,
    sender: &mpsc::Sender<Vec<StoredReading>>,
) -> Result<(), Error> {
    let mut names = Names::default();
    let mut pages = readings::cells(&shared.session, partition, shared.rows_of(slice), shared.cells).await?;
    // Reserve the place first: a task holds at most one chunk, read or being read.
    while let Ok(permit) = sender.reserve().await {
        let mut readings = Vec::new();
        if !pages.append(&mut names, &mut readings).await? {
            break;
        }
        shared.retain(partition, &mut readings, 0);
        permit.send(readings);
    }
    shared.note_names(&names);
    Ok(())
}

enum Collected {
    All(Vec<StoredReading>),
    TooMany(PartialRead),
    ReceiverGone,
}

/// Reads the rows of a slice that pass the filter, up to the cap. A slice that cannot be split (one millisecond, at most
/// one row per sensor) is read without a cap.
async fn collect(
    shared: &Shared,
    piece: &TimeSlice,
    sender: &mpsc::Sender<Vec<StoredReading>>,
) -> Result<Collected, Error> {
    let cap = if piece.can_split() { shared.chunk_bytes } else { usize::MAX };
    let slice = shared.rows_of(piece);
    let mut names = Names::default();
    let mut readings = Vec::new();
    let mut weight = 0;
    for partition in &piece.partitions {
        let mut pages = readings::cells(&shared.session, partition, slice, shared.cells).await?;
        loop {
            let before = readings.len();
            if !pages.append(&mut names, &mut readings).await? {
                break;
            }
            shared.retain(partition, &mut readings, before);
            weight += readings[before..].iter().map(StoredReading::weight).sum::<usize>();
            if weight > cap {
                shared.note_names(&names);
                return Ok(Collected::TooMany(shared.partial_read(&readings).await?));
            }
            if sender.is_closed() {
                return Ok(Collected::ReceiverGone);
            }
        }
    }
    shared.note_names(&names);
    Ok(Collected::All(readings))
}

impl Shared {
    /// The partition of a slice that is read without an order.
    fn without_order<'a>(&self, slice: &'a TimeSlice) -> Option<&'a Partition> {
        match slice.partitions.as_slice() {
            [partition] if self.question.order.is_none() && slice.to - slice.from <= self.stretch => {
                Some(partition)
            }
            _ => None,
        }
    }

    fn rows_of(&self, slice: &TimeSlice) -> Slice {
        Slice { from: slice.from, to: slice.to, sensor: self.question.sensor }
    }

    /// Of the readings of a partition from an index on, only those that were asked for stay.
    fn retain(&self, partition: &Partition, readings: &mut Vec<StoredReading>, from: usize) {
        let Question { filter, chosen, .. } = &self.question;
        if filter.is_none() && chosen.is_none() {
            return;
        }
        let mut index = 0;
        let is_chosen = |reading: &StoredReading| {
            chosen.as_ref().is_none_or(|chosen| chosen.contains(&partition.group, reading.sensor))
        };
        let passes = |reading: &StoredReading| {
            filter.as_ref().is_none_or(|filter| filter.accepts(reading)) && is_chosen(reading)
        };
        readings.retain(|reading| {
            index += 1;
            index <= from || passes(reading)
        });
    }

    /// An estimate of the whole slice from a read that overflowed. Rows come sensor by sensor, so the share of sensors that
    /// were read is about the share of the rows.
    async fn partial_read(&self, readings: &[StoredReading]) -> Result<PartialRead, Error> {
        let moments = readings.iter().map(|reading| reading.recorded_at).collect();
        if self.question.sensor.is_some() {
            return Ok(PartialRead { moments, total_factor: 1.0 });
        }
        let count = || async {
            let mut sensors = 0;
            for group in &self.question.groups {
                sensors += groups::summary(&self.session, group).await?.sensors;
            }
            Ok::<_, Error>(sensors)
        };
        let sensors = *self.sensors.get_or_try_init(count).await?;
        let met = readings.iter().map(|reading| reading.sensor).collect::<HashSet<_>>().len();
        Ok(PartialRead { moments, total_factor: (sensors as f64 / met.max(1) as f64).max(1.0) })
    }

    fn note_names(&self, names: &Names) {
        let mut known = self.names.lock().expect("no panic while locked");
        for name in names.iter() {
            if known.len() < MAX_NAMES {
                known.insert(name.clone());
            }
        }
    }
}

/// Sorts readings. Of the copies in overlapping buckets, only that of the narrowest bucket stays.
fn in_order(readings: &mut Vec<StoredReading>, order: Order) {
    readings.sort_unstable_by(StoredReading::time_order);
    readings.dedup_by(|later, first| later.is_copy_of(first));
    if order == Order::Desc {
        readings.reverse();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn reading(sensor: u128, recorded_at: i64, bucket_seconds: i32) -> StoredReading {
        StoredReading {
            group: Arc::new(Group { location: "a".into(), device_type: "b".into() }),
            sensor: Uuid::from_u128(sensor),
            recorded_at,
            temperature: Some(bucket_seconds as f32),
            humidity: None,
            pressure: None,
            light_level: None,
            gas_concentration: None,
            bucket_seconds,
            motion_detected: None,
            other_metrics: Box::default(),
            states: Box::default(),
            has_narrow_metrics: false,
        }
    }

    #[test]
    fn the_same_reading_in_two_groups_is_two_readings() {
        let mut moved = reading(1, 5, 3600);
        moved.group = Arc::new(Group { location: "elsewhere".into(), device_type: "b".into() });
        let mut readings = vec![moved, reading(1, 5, 3600), reading(1, 5, 7200)];
        in_order(&mut readings, Order::Asc);
        assert_eq!(readings.len(), 2);
    }

    proptest! {
        #[test]
        fn rows_come_once_each_in_order_of_time_and_the_narrowest_copy_wins(
            rows in prop::collection::vec((0u128..4, 0i64..20, prop::sample::select(vec![1800, 3600, 7200])), 0..80),
        ) {
            let mut expected: BTreeMap<(i64, u128), i32> = BTreeMap::new();
            for &(sensor, at, seconds) in &rows {
                let narrowest = expected.entry((at, sensor)).or_insert(seconds);
                *narrowest = seconds.min(*narrowest);
            }
            let mut readings: Vec<_> = rows.into_iter().map(|(s, at, seconds)| reading(s, at, seconds)).collect();
            let mut reversed = readings.clone();
            in_order(&mut readings, Order::Asc);
            let found: Vec<_> =
                readings.iter().map(|row| ((row.recorded_at, row.sensor.as_u128()), row.bucket_seconds)).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            in_order(&mut reversed, Order::Desc);
            reversed.reverse();
            prop_assert_eq!(reversed, readings);
        }
    }
}
