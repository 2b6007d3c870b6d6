//! When offsets are committed, and which. A commit has three steps: the offsets that are finished are noted; the
//! catalog rows that were gathered until then are stored (so that readers find the rows, and the newest readings are
//! there); the noted offsets go to Kafka.

use std::time::{Duration, Instant};

use super::tracker::Tracker;
use crate::kafka::TopicPartition;

/// The finished messages and the commit under way.
#[derive(Debug)]
pub(super) struct Commits {
    pub tracker: Tracker,
    interval: Duration,
    last: Instant,
    /// No commit begins before this: the last attempt to begin one failed.
    not_before: Option<Instant>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    /// What was finished when it began.
    offsets: Vec<(TopicPartition, i64)>,
    /// Whether the catalog rows that were gathered until then are stored.
    is_recorded: bool,
}

impl Commits {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            tracker: Tracker::default(),
            interval,
            last: Instant::now(),
            not_before: None,
            under_way: None,
        }
    }

    /// Whether the next commit should begin; `is_urgent` where it should not wait for the interval.
    pub(super) fn is_due(&self, is_urgent: bool) -> bool {
        self.under_way.is_none()
            && (is_urgent || self.last.elapsed() >= self.interval)
            && self.not_before.is_none_or(|earliest| Instant::now() >= earliest)
    }

    /// The next commit begins an interval from now at the earliest.
    pub(super) fn postpone(&mut self) {
        self.not_before = Some(Instant::now() + self.interval);
    }

    /// The first step. The offsets of a commit that is under way are part of the new one.
    pub(super) fn begin(&mut self) {
        self.last = Instant::now();
        self.not_before = None;
        self.under_way = Some(UnderWay { offsets: self.tracker.committable(), is_recorded: false });
    }

    /// The second step is done.
    pub(super) fn recorded(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            under_way.is_recorded = true;
        }
    }

    /// The offsets for the third step, once the second is done.
    pub(super) fn take_recorded(&mut self) -> Option<Vec<(TopicPartition, i64)>> {
        self.under_way.take_if(|under_way| under_way.is_recorded).map(|under_way| under_way.offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_to_kafka_only_after_their_catalog_rows_are_stored() {
        let mut commits = Commits::new(Duration::ZERO);
        let readings = TopicPartition::new("readings", 0);
        let first = commits.tracker.begin(readings, 10, 0);
        commits.tracker.finish(first);
        assert!(commits.is_due(false));
        commits.begin();
        assert!(!commits.is_due(true), "one at a time");
        let second = commits.tracker.begin(readings, 11, 0);
        commits.tracker.finish(second);
        assert_eq!(commits.take_recorded(), None);
        commits.recorded();
        // Not 12: what finished later may need catalog rows that are not stored.
        assert_eq!(commits.take_recorded(), Some(vec![(readings, 11)]));
        assert_eq!(commits.take_recorded(), None);
    }

    #[test]
    fn a_commit_is_due_after_the_interval_or_when_it_is_urgent() {
        let mut commits = Commits::new(Duration::from_secs(3600));
        assert!(!commits.is_due(false));
        assert!(commits.is_due(true));
        commits.postpone();
        assert!(!commits.is_due(true));
    }
}
