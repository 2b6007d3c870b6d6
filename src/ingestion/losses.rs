//! Messages that Kafka deleted (by retention or on request) before they were read. Wherever the position of a partition
//! moves by other than what was read, the skipped offsets are compared with the first offset that Kafka still keeps: below
//! it they are lost. Offsets above it that hold no message (transaction markers, compacted messages) are no loss.
//!
//! The check comes before each commit, so no commit passes deleted messages without a note of them beside it (see
//! [`crate::kafka::losses`]). Deletions of the moment between a message's reading and the check may count a transaction
//! marker as a message.

use std::collections::HashMap;

use super::tracker::Tracker;
use crate::kafka::TopicPartition;
use crate::kafka::consumer::{GroupOffset, GroupOffsets};
use crate::kafka::losses::{LossNote, LostRange};

/// Deleted messages that were just found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub partition: TopicPartition,
    pub range: LostRange,
}

/// The notes of the partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// `None` until what is committed was read.
    notes: HashMap<TopicPartition, Option<LossNote>>,
}

impl Losses {
    pub(super) fn assign(&mut self, partitions: &[TopicPartition]) {
        self.notes.extend(partitions.iter().map(|&partition| (partition, None)));
    }

    pub(super) fn forget(&mut self, partition: TopicPartition) {
        self.notes.remove(&partition);
    }

    /// The notes for a commit of these offsets.
    pub(super) fn beside(&self, offsets: &[(TopicPartition, i64)]) -> Vec<GroupOffset> {
        let losses = |partition| self.notes.get(partition).cloned().flatten().unwrap_or_default();
        offsets
            .iter()
            .map(|(partition, offset)| GroupOffset {
                of: *partition,
                offset: *offset,
                losses: losses(partition),
            })
            .collect()
    }

    /// Looks for deleted messages. Asks Kafka only about partitions whose position moved by other than what was read.
    pub(super) fn check(
        &mut self,
        tracker: &mut Tracker,
        kafka: &GroupOffsets<'_>,
    ) -> Result<Vec<Lost>, crate::kafka::Error> {
        let new: Vec<TopicPartition> =
            self.notes.iter().filter(|(_, note)| note.is_none()).map(|(&partition, _)| partition).collect();
        if !new.is_empty() {
            self.begin(tracker, &new, kafka.committed(&new)?);
        }
        let moved = tracker.moved();
        if moved.is_empty() {
            return Ok(Vec::new());
        }
        let first = kafka.first_offsets(&moved)?;
        Ok(self.judge(tracker, &first, chrono::Utc::now().timestamp_millis()))
    }

    /// Partitions begin at what the group had committed.
    fn begin(&mut self, tracker: &mut Tracker, partitions: &[TopicPartition], committed: Vec<GroupOffset>) {
        for &partition in partitions {
            self.notes.insert(partition, Some(LossNote::default()));
        }
        for GroupOffset { of, offset, losses } in committed {
            tracker.expect(of, offset);
            self.notes.insert(of, Some(losses));
        }
    }

    /// Of the partitions in `first`, with the first offset that Kafka keeps.
    fn judge(
        &mut self,
        tracker: &mut Tracker,
        first: &HashMap<TopicPartition, i64>,
        found_at: i64,
    ) -> Vec<Lost> {
        let mut lost = Vec::new();
        for (&partition, &first) in first {
            for (from, to) in tracker.take_skipped(partition, first) {
                let range = LostRange { from, to: to.min(first), found_at };
                if range.is_empty() {
                    continue;
                }
                if let Some(Some(note)) = self.notes.get_mut(&partition) {
                    note.add(range);
                }
                lost.push(Lost { partition, range });
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("readings", partition)
    }

    fn ours() -> (Losses, Tracker) {
        let (mut losses, mut tracker) = (Losses::default(), Tracker::default());
        losses.assign(&[of(0)]);
        tracker.assign(&[of(0)]);
        (losses, tracker)
    }

    fn begun_at(committed: i64) -> (Losses, Tracker) {
        let (mut losses, mut tracker) = ours();
        let committed = GroupOffset { of: of(0), offset: committed, losses: LossNote::default() };
        losses.begin(&mut tracker, &[of(0)], vec![committed]);
        (losses, tracker)
    }

    fn ranges(lost: &[Lost]) -> Vec<(i64, i64)> {
        lost.iter().map(|lost| (lost.range.from, lost.range.to)).collect()
    }

    #[test]
    fn offsets_below_the_first_kept_one_are_lost() {
        let (mut losses, mut tracker) = begun_at(10);
        tracker.begin(of(0), 25, 0);
        assert_eq!(tracker.moved(), [of(0)]);
        assert_eq!(ranges(&losses.judge(&mut tracker, &HashMap::from([(of(0), 25)]), 7)), [(10, 25)]);
        assert!(tracker.moved().is_empty(), "it is found once");
        let [beside] = &losses.beside(&[(of(0), 26)])[..] else { panic!("one partition") };
        assert_eq!((beside.offset, beside.losses.messages), (26, 15));
    }

    #[test]
    fn markers_and_compacted_messages_are_no_loss() {
        let (mut losses, mut tracker) = begun_at(10);
        for offset in [10, 11, 13, 20] {
            tracker.begin(of(0), offset, 0);
        }
        assert!(losses.judge(&mut tracker, &HashMap::from([(of(0), 5)]), 7).is_empty());
    }

    #[test]
    fn of_a_range_that_deletion_has_only_begun_only_its_beginning_is_lost() {
        let (mut losses, mut tracker) = begun_at(10);
        tracker.begin(of(0), 20, 0);
        assert_eq!(ranges(&losses.judge(&mut tracker, &HashMap::from([(of(0), 14)]), 7)), [(10, 14)]);
    }

    #[test]
    fn a_partition_that_was_deleted_to_its_end_is_committed_there() {
        let (mut losses, mut tracker) = begun_at(10);
        tracker.reached_end(of(0));
        assert_eq!(ranges(&losses.judge(&mut tracker, &HashMap::from([(of(0), 30)]), 7)), [(10, 30)]);
        assert_eq!(tracker.committable(), [(of(0), 30)]);
    }

    #[test]
    fn a_group_that_never_committed_has_lost_nothing() {
        let (mut losses, mut tracker) = ours();
        tracker.begin(of(0), 30, 0);
        losses.begin(&mut tracker, &[of(0)], Vec::new());
        tracker.reached_end(of(0));
        assert!(losses.judge(&mut tracker, &HashMap::from([(of(0), 30)]), 7).is_empty());
    }

    #[test]
    fn what_was_read_before_the_committed_offset_was_known_counts_too() {
        let (mut losses, mut tracker) = ours();
        tracker.begin(of(0), 30, 0);
        tracker.begin(of(0), 31, 0);
        let committed = GroupOffset { of: of(0), offset: 10, losses: LossNote::default() };
        losses.begin(&mut tracker, &[of(0)], vec![committed]);
        assert_eq!(ranges(&losses.judge(&mut tracker, &HashMap::from([(of(0), 30)]), 7)), [(10, 30)]);
    }

    #[test]
    fn the_notes_of_earlier_owners_are_kept() {
        let (mut losses, mut tracker) = ours();
        let mut note = LossNote::default();
        note.add(LostRange { from: 0, to: 5, found_at: 1 });
        losses.begin(
            &mut tracker,
            &[of(0)],
            vec![GroupOffset { of: of(0), offset: 10, losses: note.clone() }],
        );
        tracker.begin(of(0), 10, 0);
        assert_eq!(losses.beside(&[(of(0), 11)])[0].losses, note);
    }
}
