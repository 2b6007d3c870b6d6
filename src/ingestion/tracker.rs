//! Which offsets may be committed: for each Kafka partition, the end of the contiguous run of finished messages.
//!
//! Batches finish in any order; a commit must never pass a message that is not stored (invariant 1).

use std::collections::{HashMap, VecDeque};

use crate::kafka::TopicPartition;

/// A message that has been taken from Kafka and is not finished yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    partition: TopicPartition,
    sequence: u64,
}

/// Every assigned partition's unfinished messages.
#[derive(Debug, Default)]
pub struct Tracker {
    partitions: HashMap<TopicPartition, Partition>,
    /// Never reused, so that a ticket of a revoked partition cannot finish a message of its next assignment.
    next_sequence: u64,
}

#[derive(Debug)]
struct Partition {
    /// Sequence of the window's first entry; within a partition sequences are contiguous.
    first_sequence: u64,
    window: VecDeque<Entry>,
    /// The offset to commit: one past the last message of the contiguous run.
    committable: Option<i64>,
    committed: Option<i64>,
    last_finished_timestamp: Option<i64>,
    /// The first offset that was begun.
    first: Option<i64>,
    /// The offset that comes next, unless there is none of that number.
    next: Option<i64>,
    /// Ranges `[from, to)` of offsets that did not come, and are not explained yet.
    skipped: Vec<(i64, i64)>,
    /// Whether everything that the partition held has come.
    is_at_end: bool,
    /// Whether it is not known yet that `next` was the end which was reached.
    is_end_unchecked: bool,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    timestamp: i64,
    /// What is not finished of it yet: its row or dead letter, and its alerts.
    pending: u32,
}

impl Tracker {
    /// Starts a message. Messages of a partition come in the order of their offsets; gaps are allowed.
    ///
    /// `timestamp` is Kafka's, in milliseconds since the epoch.
    pub fn begin(&mut self, partition: TopicPartition, offset: i64, timestamp: i64) -> Ticket {
        let next_sequence = self.next_sequence;
        let tracked =
            self.partitions.entry(partition).or_insert_with(|| Partition::starting_at(next_sequence));
        match tracked.next {
            Some(next) if offset > next => tracked.skipped.push((next, offset)),
            Some(_) => {}
            None => tracked.first = Some(offset),
        }
        tracked.next = Some(offset + 1);
        tracked.is_at_end = false;
        let sequence = tracked.first_sequence + tracked.window.len() as u64;
        tracked.window.push_back(Entry { offset, timestamp, pending: 1 });
        self.next_sequence = self.next_sequence.max(sequence + 1);
        Ticket { partition, sequence }
    }

    /// Partitions are ours from now on.
    pub fn assign(&mut self, partitions: &[TopicPartition]) {
        for &partition in partitions {
            self.partitions.entry(partition).or_insert_with(|| Partition::starting_at(self.next_sequence));
        }
    }

    /// What the consumer group had committed when the partition was assigned: the offset that should have come first.
    pub fn expect(&mut self, partition: TopicPartition, offset: i64) {
        let Some(tracked) = self.partitions.get_mut(&partition) else { return };
        match tracked.first {
            Some(first) if offset < first => tracked.skipped.push((offset, first)),
            Some(_) => {}
            None => tracked.next = Some(offset),
        }
    }

    /// Everything before `end` has come, and `end` was where the partition ended. Returns whether nothing came since.
    pub fn reached_end_at(&mut self, partition: TopicPartition, end: i64) -> bool {
        let Some(tracked) = self.partitions.get(&partition) else { return false };
        let is_at_end = tracked.next.is_none_or(|next| next <= end);
        if is_at_end && !tracked.is_at_end {
            self.reached_end(partition);
        }
        is_at_end
    }

    /// Everything that the partition held has come.
    pub fn reached_end(&mut self, partition: TopicPartition) {
        if let Some(tracked) = self.partitions.get_mut(&partition) {
            tracked.is_at_end = true;
            tracked.is_end_unchecked = true;
        }
    }

    /// Something came that was not begun yet.
    pub fn more_came(&mut self, partition: TopicPartition) {
        if let Some(tracked) = self.partitions.get_mut(&partition) {
            tracked.is_at_end = false;
        }
    }

    /// Whether nothing came of the partition since its end was reached.
    pub fn is_at_end(&self, partition: TopicPartition) -> bool {
        self.partitions.get(&partition).is_some_and(|tracked| tracked.is_at_end)
    }

    /// Partitions whose position may have moved by other than what came.
    pub fn moved(&self) -> Vec<TopicPartition> {
        let has_moved = |tracked: &Partition| !tracked.skipped.is_empty() || tracked.is_end_unchecked;
        self.partitions
            .iter()
            .filter(|(_, tracked)| has_moved(tracked))
            .map(|(&partition, _)| partition)
            .collect()
    }

    /// Takes the ranges of offsets that did not come, given the first offset that Kafka keeps. A partition that is at its
    /// end below that offset continues there.
    pub fn take_skipped(&mut self, partition: TopicPartition, first_kept: i64) -> Vec<(i64, i64)> {
        let Some(tracked) = self.partitions.get_mut(&partition) else { return Vec::new() };
        tracked.is_end_unchecked = false;
        let mut skipped = std::mem::take(&mut tracked.skipped);
        if let Some(next) = tracked.next.filter(|next| tracked.is_at_end && *next < first_kept) {
            skipped.push((next, first_kept));
            tracked.next = Some(first_kept);
            match tracked.window.is_empty() {
                true => tracked.committable = Some(first_kept),
                // It is finished once the messages before it are.
                false => tracked.window.push_back(Entry { offset: first_kept - 1, timestamp: 0, pending: 0 }),
            }
            self.next_sequence = self.next_sequence.max(tracked.first_sequence + tracked.window.len() as u64);
        }
        skipped
    }

    /// The message waits for one more thing before it is finished.
    pub fn hold(&mut self, ticket: Ticket) {
        if let Some(entry) = self.partitions.get_mut(&ticket.partition).and_then(|it| it.entry(ticket)) {
            entry.pending += 1;
        }
    }

    /// One thing that the message waited for is done: it is stored, it sits in the dead-letter topic, or an alert about
    /// it is acknowledged. A ticket of a revoked partition does nothing.
    pub fn finish(&mut self, ticket: Ticket) {
        let Some(partition) = self.partitions.get_mut(&ticket.partition) else { return };
        let Some(entry) = partition.entry(ticket) else { return };
        entry.pending = entry.pending.saturating_sub(1);
        while let Some(entry) = partition.window.front().filter(|entry| entry.pending == 0) {
            partition.committable = Some(entry.offset + 1);
            partition.last_finished_timestamp = Some(entry.timestamp);
            partition.window.pop_front();
            partition.first_sequence += 1;
        }
    }

    /// Forgets partitions that are no longer ours.
    pub fn forget(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            self.partitions.remove(&partition);
        }
    }

    /// The offsets that may be committed and have not been.
    pub fn committable(&self) -> Vec<(TopicPartition, i64)> {
        self.partitions
            .iter()
            .filter(|(_, partition)| partition.committable != partition.committed)
            .filter_map(|(&id, partition)| Some((id, partition.committable?)))
            .collect()
    }

    /// These offsets were handed to Kafka.
    pub fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (id, offset) in offsets {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.committed = Some(*offset);
            }
        }
    }

    /// Some commit failed: everything that may be committed is offered again.
    pub fn commit_failed(&mut self) {
        for partition in self.partitions.values_mut() {
            partition.committed = None;
        }
    }

    /// The last offset of `partition` that was committed by this process.
    pub fn committed_offset(&self, partition: TopicPartition) -> Option<i64> {
        self.partitions.get(&partition).and_then(|partition| partition.committed)
    }

    /// The partitions that are ours.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.partitions.keys().copied()
    }

    /// The offset after the last message of `partition` that was begun; `None` before the first.
    pub fn next_offset(&self, partition: TopicPartition) -> Option<i64> {
        self.partitions.get(&partition).and_then(|partition| partition.next)
    }

    /// Whether every message of `partition` below `offset` that was begun is finished.
    pub fn has_finished_below(&self, partition: TopicPartition, offset: i64) -> bool {
        let oldest = self.partitions.get(&partition).and_then(|partition| partition.window.front());
        oldest.is_none_or(|entry| entry.offset >= offset)
    }

    /// Whether every message of `partition` that was begun is finished.
    pub fn has_finished(&self, partition: TopicPartition) -> bool {
        self.partitions.get(&partition).is_none_or(|partition| partition.window.is_empty())
    }

    /// Whether every message of `partition` that was begun is finished and committed.
    pub fn is_finished(&self, partition: TopicPartition) -> bool {
        self.partitions.get(&partition).is_none_or(|partition| {
            partition.window.is_empty() && partition.committable == partition.committed
        })
    }

    /// The next offset of a partition to store, and the Kafka timestamp in ms up to which it is stored; `None` if they are
    /// not known.
    pub fn position(&self, partition: TopicPartition) -> Option<(i64, Option<i64>)> {
        let partition = self.partitions.get(&partition)?;
        let oldest_unfinished = partition.window.front().map(|entry| entry.timestamp);
        Some((partition.committable?, partition.last_finished_timestamp.or(oldest_unfinished)))
    }
}

impl Partition {
    fn starting_at(first_sequence: u64) -> Self {
        Self {
            first_sequence,
            window: VecDeque::new(),
            committable: None,
            committed: None,
            last_finished_timestamp: None,
            first: None,
            next: None,
            skipped: Vec::new(),
            is_at_end: false,
            is_end_unchecked: false,
        }
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        let index = ticket.sequence.checked_sub(self.first_sequence)?;
        self.window.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("readings", partition)
    }

    #[test]
    fn a_commit_never_passes_an_unfinished_message() {
        let mut tracker = Tracker::default();
        let tickets: Vec<_> = [10, 11, 15].map(|offset| tracker.begin(of(0), offset, 0)).into();
        tracker.finish(tickets[1]);
        tracker.finish(tickets[2]);
        assert_eq!(tracker.committable(), []);
        tracker.finish(tickets[0]);
        assert_eq!(tracker.committable(), [(of(0), 16)]);
        tracker.committed(&[(of(0), 16)]);
        assert_eq!(tracker.committable(), []);
        assert!(tracker.is_finished(of(0)));
    }

    #[test]
    fn a_message_is_finished_when_all_that_it_waits_for_is_done() {
        let mut tracker = Tracker::default();
        let ticket = tracker.begin(of(0), 4, 0);
        tracker.hold(ticket);
        tracker.hold(ticket);
        for done in 1..=3 {
            assert_eq!(tracker.committable(), [], "after {} of 3", done - 1);
            tracker.finish(ticket);
        }
        assert_eq!(tracker.committable(), [(of(0), 5)]);
    }

    #[test]
    fn a_ticket_of_a_revoked_partition_finishes_nothing_of_its_next_assignment() {
        let mut tracker = Tracker::default();
        let old = tracker.begin(of(3), 100, 0);
        tracker.forget([of(3)]);
        tracker.begin(of(3), 100, 0);
        tracker.finish(old);
        assert_eq!(tracker.committable(), []);
        assert!(!tracker.is_finished(of(3)));
    }

    #[test]
    fn an_end_beyond_unfinished_messages_is_committed_after_them() {
        let mut tracker = Tracker::default();
        let ticket = tracker.begin(of(0), 7, 0);
        tracker.reached_end(of(0));
        assert_eq!(tracker.take_skipped(of(0), 20), [(8, 20)]);
        assert_eq!(tracker.committable(), []);
        let next = tracker.begin(of(0), 20, 0);
        tracker.finish(ticket);
        assert_eq!(tracker.committable(), [(of(0), 20)]);
        tracker.finish(next);
        assert_eq!(tracker.committable(), [(of(0), 21)]);
    }

    #[test]
    fn an_end_that_is_reported_late_does_not_hide_what_came_since() {
        let mut tracker = Tracker::default();
        assert!(!tracker.reached_end_at(of(0), 5), "it is not ours");
        tracker.assign(&[of(0), of(1)]);
        assert!(tracker.reached_end_at(of(0), 0), "it is empty");
        tracker.begin(of(1), 4, 0);
        assert!(tracker.reached_end_at(of(1), 6), "markers stand at its end");
        tracker.begin(of(1), 6, 0);
        assert!(!tracker.reached_end_at(of(1), 6) && !tracker.is_at_end(of(1)));
        assert!(tracker.is_at_end(of(0)));
    }

    #[test]
    fn after_a_failed_commit_the_offsets_are_offered_again() {
        let mut tracker = Tracker::default();
        let ticket = tracker.begin(of(0), 7, 0);
        tracker.finish(ticket);
        tracker.committed(&[(of(0), 8)]);
        tracker.commit_failed();
        assert_eq!(tracker.committable(), [(of(0), 8)]);
    }

    proptest! {
        #[test]
        fn what_is_committable_is_the_contiguous_finished_prefix(
            order in Just((0usize..60).collect::<Vec<_>>()).prop_shuffle(),
            finished in 0usize..60,
        ) {
            let mut tracker = Tracker::default();
            // Two partitions, with gaps in the offsets.
            let tickets: Vec<_> = (0..60).map(|n| tracker.begin(of(n % 2), i64::from(n) * 3, 0)).collect();
            let mut is_finished = [false; 60];
            for &index in &order[..finished] {
                tracker.finish(tickets[index]);
                is_finished[index] = true;
            }
            for partition in 0..2usize {
                let prefix = (partition..60).step_by(2).take_while(|&n| is_finished[n]).last();
                let committable = tracker.committable().into_iter().find(|(id, _)| *id == of(partition as i32));
                prop_assert_eq!(committable.map(|(_, offset)| offset), prefix.map(|n| (n * 3) as i64 + 1));
            }
        }
    }
}
