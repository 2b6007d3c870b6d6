//! Which offsets may be committed: those before the first alert that a receiver still has to accept.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kafka::TopicPartition;
use crate::kafka::consumer::GroupOffset;
use crate::kafka::losses::LossNote;

/// Shared between the thread that reads and the workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracker(Arc<Mutex<Partitions>>);

#[derive(Debug, Default)]
struct Partitions {
    of: HashMap<i32, Partition>,
    /// Rises with each assignment, so that what is left of an earlier one is known.
    assignments: u64,
}

#[derive(Debug)]
struct Partition {
    assignment: u64,
    /// The first offset that Kafka kept at the assignment.
    first: i64,
    /// One past the last offset that was read.
    next: i64,
    /// Receivers that have not accepted the alert yet, by its offset.
    open: BTreeMap<i64, usize>,
    committed: i64,
}

/// One receiver's part of an alert.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    tracker: Tracker,
    assignment: u64,
    pub(super) partition: i32,
    offset: i64,
}

impl Tracker {
    /// A partition is assigned; `committed` is what its consumer group has committed, and `offsets` those that it has. An empty
    /// one counts as read, so that its offset is committed: what comes later is not past for this consumer group.
    pub(super) fn assign(&self, partition: i32, committed: Option<i64>, offsets: Range<i64>) {
        let mut partitions = self.lock();
        partitions.assignments += 1;
        let assignment = partitions.assignments;
        let next = if offsets.is_empty() { offsets.start } else { -1 };
        let (committed, first) = (committed.unwrap_or(-1), offsets.start);
        partitions
            .of
            .insert(partition, Partition { assignment, first, next, open: BTreeMap::new(), committed });
    }

    pub(super) fn revoke(&self, partition: i32) {
        self.lock().of.remove(&partition);
    }

    /// An offset was read, and `receivers` have to accept its alert. `None` for a partition that is not assigned.
    pub(super) fn begin(&self, partition: i32, offset: i64, receivers: usize) -> Option<Ticket> {
        let mut partitions = self.lock();
        let known = partitions.of.get_mut(&partition)?;
        known.next = known.next.max(offset + 1);
        if receivers > 0 {
            known.open.insert(offset, receivers);
        }
        Some(Ticket { tracker: self.clone(), assignment: known.assignment, partition, offset })
    }

    /// Alerts that a receiver still has to accept.
    pub(super) fn open(&self) -> usize {
        self.lock().of.values().map(|partition| partition.open.len()).sum()
    }

    /// What can be committed and is not. It counts as committed from now on.
    pub(super) fn due(&self, topic: &str) -> Vec<GroupOffset> {
        let mut due = Vec::new();
        for (number, partition) in &mut self.lock().of {
            let safe = partition.open.keys().next().copied().unwrap_or(partition.next);
            if safe > partition.committed {
                partition.committed = safe;
                let of = TopicPartition::new(topic, *number);
                due.push(GroupOffset { of, offset: safe, losses: LossNote::default() });
            }
        }
        due
    }

    /// Offsets before `end` that are not done.
    pub(super) fn behind(&self, partition: i32, end: i64) -> i64 {
        let partitions = self.lock();
        let Some(partition) = partitions.of.get(&partition) else { return 0 };
        let unread = end - partition.position();
        unread.max(0) + i64::try_from(partition.open.len()).unwrap_or(i64::MAX)
    }

    /// Whether everything before `end` is done.
    pub(super) fn is_done(&self, partition: i32, end: i64) -> bool {
        let partitions = self.lock();
        let Some(partition) = partitions.of.get(&partition) else { return false };
        partition.open.is_empty() && partition.position() >= end
    }

    fn lock(&self) -> MutexGuard<'_, Partitions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partition {
    /// Everything before it was read, or is gone.
    fn position(&self) -> i64 {
        self.next.max(self.committed).max(self.first)
    }
}

impl Ticket {
    /// Whether the partition is still that of the assignment which the alert was read in.
    pub(super) fn is_ours(&self) -> bool {
        self.tracker
            .lock()
            .of
            .get(&self.partition)
            .is_some_and(|partition| partition.assignment == self.assignment)
    }

    /// The receiver has the alert, or it is in the dead-letter topic.
    pub(super) fn done(&self) {
        let mut partitions = self.tracker.lock();
        let Some(partition) = partitions.of.get_mut(&self.partition) else { return };
        if partition.assignment != self.assignment {
            return;
        }
        if let Some(left) = partition.open.get_mut(&self.offset) {
            *left -= 1;
            if *left == 0 {
                partition.open.remove(&self.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(tracker: &Tracker) -> Vec<(i32, i64)> {
        tracker.due("alerts").iter().map(|due| (due.of.partition, due.offset)).collect()
    }

    #[test]
    fn an_offset_is_due_once_every_receiver_has_all_alerts_before_it() {
        let tracker = Tracker::default();
        tracker.assign(0, Some(5), 0..9);
        let first = tracker.begin(0, 5, 2).unwrap();
        let second = tracker.begin(0, 6, 1).unwrap();
        tracker.begin(0, 7, 0).unwrap();
        second.done();
        first.done();
        assert_eq!(due(&tracker), []);
        first.done();
        assert_eq!(due(&tracker), [(0, 8)]);
        assert_eq!((due(&tracker), tracker.open()), (vec![], 0));
        assert!(tracker.is_done(0, 8) && !tracker.is_done(0, 9));
    }

    #[test]
    fn an_empty_partition_is_committed_so_that_nothing_that_comes_is_past() {
        let tracker = Tracker::default();
        tracker.assign(0, None, 0..0);
        tracker.assign(1, None, 4..9);
        assert_eq!((due(&tracker), tracker.is_done(0, 0)), (vec![(0, 0)], true));
    }

    #[test]
    fn what_is_left_of_a_revoked_partition_changes_nothing() {
        let tracker = Tracker::default();
        tracker.assign(3, None, 0..9);
        let old = tracker.begin(3, 0, 1).unwrap();
        tracker.revoke(3);
        assert!(!old.is_ours() && tracker.begin(3, 1, 1).is_none());
        tracker.assign(3, None, 0..9);
        let new = tracker.begin(3, 0, 1).unwrap();
        old.done();
        assert_eq!((tracker.open(), old.is_ours(), new.is_ours()), (1, false, true));
    }
}
