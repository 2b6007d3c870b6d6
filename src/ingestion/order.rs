//! Messages of several partitions in the order of their timestamps in Kafka, for rules that compare sensors of different
//! partitions. Kafka hands out thousands of messages of one partition before the next one's. While `ingest` catches up those
//! are hours of readings, and what a sensor would be compared with is not read yet or long past. So a message is held, and is
//! not begun, until no partition is behind it; then what is compared is what was known when the readings were sent.
//!
//! Nobody waits for a partition that is at its end, or from which nothing comes. What is held is bounded: a partition that is
//! far ahead is paused, and beyond [`MOST_BYTES`] messages go on without waiting.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::kafka::TopicPartition;

/// Of all held messages.
const MOST_BYTES: usize = 64 << 20;
/// For how long a partition may give nothing, while nothing else comes either, before nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// `T` is a message.
#[derive(Debug)]
pub(super) struct Order<T> {
    partitions: BTreeMap<TopicPartition, Queue<T>>,
    bytes: usize,
    most_bytes: usize,
    /// Since when nothing has come.
    quiet_since: Option<Instant>,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Message(T),
    /// All that the partition held has been handed out; of the offset where it ends, if that is known.
    End(TopicPartition, Option<i64>),
}

#[derive(Debug)]
struct Queue<T> {
    held: VecDeque<Held<T>>,
    bytes: usize,
    /// The latest timestamp of a message that was handed out.
    passed: i64,
    /// Whether something is to be expected of it.
    is_awaited: bool,
    is_paused: bool,
}

#[derive(Debug)]
enum Held<T> {
    Message { at: i64, bytes: usize, message: T },
    End(Option<i64>),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { held: VecDeque::new(), bytes: 0, passed: i64::MIN, is_awaited: true, is_paused: false }
    }
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { partitions: BTreeMap::new(), bytes: 0, most_bytes: MOST_BYTES, quiet_since: None }
    }
}

impl<T> Order<T> {
    /// Partitions are ours from now on.
    pub(super) fn assign(&mut self, partitions: &[TopicPartition]) {
        for &partition in partitions {
            self.partitions.entry(partition).or_default();
        }
    }

    /// A partition is no longer ours; what is held of it comes again to its next owner.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        if let Some(queue) = self.partitions.remove(&partition) {
            self.bytes -= queue.bytes;
        }
    }

    /// Whether a message need not be held. `at` is its timestamp, in milliseconds since the epoch.
    pub(super) fn passes(&mut self, partition: TopicPartition, at: i64) -> bool {
        self.quiet_since = None;
        self.partitions.entry(partition).or_default().is_awaited = true;
        let passes = !self.is_holding() && !self.is_awaited_before(partition, at);
        if passes {
            self.pass(partition, at);
        }
        passes
    }

    pub(super) fn hold(&mut self, partition: TopicPartition, at: i64, bytes: usize, message: T) {
        let queue = self.partitions.entry(partition).or_default();
        queue.held.push_back(Held::Message { at, bytes, message });
        queue.bytes += bytes;
        self.bytes += bytes;
    }

    /// All that the partition holds has come.
    pub(super) fn hold_end(&mut self, partition: TopicPartition, end: Option<i64>) {
        self.quiet_since = None;
        self.partitions.entry(partition).or_default().held.push_back(Held::End(end));
    }

    /// More is to be expected of a partition than was thought.
    pub(super) fn expect(&mut self, partition: TopicPartition) {
        if let Some(queue) = self.partitions.get_mut(&partition) {
            queue.is_awaited = true;
        }
    }

    /// Kafka was not asked for a while.
    pub(super) fn note_busy(&mut self) {
        self.quiet_since = None;
    }

    /// Nothing came when Kafka was asked.
    pub(super) fn note_quiet(&mut self, now: Instant) {
        let since = *self.quiet_since.get_or_insert(now);
        if now.duration_since(since) >= PATIENCE {
            let empty = self.partitions.values_mut().filter(|queue| queue.held.is_empty());
            empty.for_each(|queue| queue.is_awaited = false);
        }
    }

    pub(super) fn is_holding(&self) -> bool {
        self.partitions.values().any(|queue| !queue.held.is_empty())
    }

    /// Whether something of a partition is held.
    pub(super) fn holds(&self, partition: TopicPartition) -> bool {
        self.partitions.get(&partition).is_some_and(|queue| !queue.held.is_empty())
    }

    /// What is next; `None` if it is not known yet. With `at_once` nothing is waited for.
    pub(super) fn next(&mut self, at_once: bool) -> Option<Next<T>> {
        let is_end = |queue: &Queue<T>| matches!(queue.held.front(), Some(Held::End(_)));
        if let Some((&partition, queue)) = self.partitions.iter_mut().find(|(_, queue)| is_end(queue))
            && let Some(Held::End(end)) = queue.held.pop_front()
        {
            queue.is_awaited = !queue.held.is_empty();
            return Some(Next::End(partition, end));
        }
        let heads = self.partitions.iter().filter_map(|(&partition, queue)| match queue.held.front()? {
            Held::Message { at, .. } => Some((*at, partition)),
            Held::End(_) => None,
        });
        let (at, partition) = heads.min()?;
        if !at_once && self.bytes <= self.most_bytes && self.is_awaited_before(partition, at) {
            return None;
        }
        let Held::Message { bytes, message, .. } = self.partitions.get_mut(&partition)?.held.pop_front()?
        else {
            return None;
        };
        self.bytes -= bytes;
        self.pass(partition, at);
        self.partitions.get_mut(&partition)?.bytes -= bytes;
        Some(Next::Message(message))
    }

    /// Partitions to pause because they are far ahead, and those to go on with. What was paused before is not named again.
    pub(super) fn pauses(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let share = self.most_bytes / 2 / self.partitions.len().max(1);
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (&partition, queue) in &mut self.partitions {
            if !queue.is_paused && queue.bytes > share {
                queue.is_paused = true;
                pause.push(partition);
            } else if queue.is_paused && queue.bytes <= share / 2 {
                queue.is_paused = false;
                resume.push(partition);
            }
        }
        (pause, resume)
    }

    /// All partitions were resumed.
    pub(super) fn note_resumed(&mut self) {
        self.partitions.values_mut().for_each(|queue| queue.is_paused = false);
    }

    fn pass(&mut self, partition: TopicPartition, at: i64) {
        if let Some(queue) = self.partitions.get_mut(&partition) {
            queue.passed = queue.passed.max(at);
        }
    }

    /// Whether another partition may still give an earlier message.
    fn is_awaited_before(&self, partition: TopicPartition, at: i64) -> bool {
        self.partitions.iter().any(|(&other, queue)| {
            other != partition && queue.is_awaited && queue.held.is_empty() && queue.passed < at
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("readings", partition)
    }

    /// Hands a message in, and returns what comes out then.
    fn take(order: &mut Order<(i32, i64)>, partition: i32, at: i64) -> Vec<(i32, i64)> {
        let mut out = Vec::new();
        match order.passes(of(partition), at) {
            true => out.push((partition, at)),
            false => order.hold(of(partition), at, 100, (partition, at)),
        }
        out.extend(drained(order));
        out
    }

    fn drained(order: &mut Order<(i32, i64)>) -> Vec<(i32, i64)> {
        let mut out = Vec::new();
        while let Some(next) = order.next(false) {
            if let Next::Message(message) = next {
                out.push(message);
            }
        }
        out
    }

    const SECOND: i64 = 1_000;

    #[test]
    fn a_partition_that_is_ahead_waits_for_the_one_that_is_behind() {
        let mut order = Order::default();
        order.assign(&[of(0), of(1)]);
        let mut out = Vec::new();
        for minute in 0..60 {
            out.extend(take(&mut order, 0, minute * 60 * SECOND));
        }
        assert_eq!(out, [], "the other partition has said nothing");
        for minute in 0..60 {
            out.extend(take(&mut order, 1, minute * 60 * SECOND + 1));
        }
        let times: Vec<i64> = out.iter().map(|(_, at)| *at).collect();
        assert!(times.is_sorted() && times.len() >= 119, "{out:?}");
        assert!(out[..4].iter().map(|(partition, _)| *partition).eq([0, 1, 0, 1]), "{out:?}");
    }

    #[test]
    fn nobody_waits_for_a_partition_at_its_end_until_it_gives_something_again() {
        let mut order = Order::default();
        order.assign(&[of(0), of(1)]);
        order.hold_end(of(1), None);
        assert_eq!(order.next(false), Some(Next::End(of(1), None)));
        assert_eq!(take(&mut order, 0, 10 * SECOND), [(0, 10 * SECOND)]);
        assert_eq!(take(&mut order, 1, 20 * SECOND), [], "the first one may have an earlier one");
        assert_eq!(take(&mut order, 0, 11 * SECOND), [(0, 11 * SECOND)]);
        order.hold_end(of(0), Some(3));
        assert_eq!(drained(&mut order), [(1, 20 * SECOND)]);
        assert!(!order.is_holding());
    }

    #[test]
    fn an_end_comes_after_the_messages_before_it() {
        let mut order = Order::default();
        order.assign(&[of(0), of(1)]);
        assert_eq!(take(&mut order, 0, 0), []);
        order.hold_end(of(0), None);
        assert_eq!(order.next(false), None);
        assert!(order.holds(of(0)) && !order.holds(of(1)));
        order.hold_end(of(1), None);
        let next: Vec<_> = std::iter::from_fn(|| order.next(false)).collect();
        assert_eq!(next, [Next::End(of(1), None), Next::Message((0, 0)), Next::End(of(0), None)]);
    }

    #[test]
    fn a_partition_that_gives_nothing_holds_the_others_up_for_a_while_only() {
        let mut order = Order::default();
        order.assign(&[of(0), of(1)]);
        assert_eq!(take(&mut order, 0, 0), []);
        let now = Instant::now();
        order.note_quiet(now);
        assert_eq!(drained(&mut order), []);
        order.note_quiet(now + PATIENCE);
        assert_eq!(drained(&mut order), [(0, 0)]);
    }

    #[test]
    fn what_is_held_is_bounded_and_a_partition_far_ahead_is_paused_once() {
        let mut order = Order { most_bytes: 4_000, ..Order::default() };
        order.assign(&[of(0), of(1)]);
        let mut out = Vec::new();
        for at in 0..9 {
            out.extend(take(&mut order, 0, at * SECOND));
        }
        assert_eq!(order.pauses(), (vec![], vec![]));
        for at in 9..60 {
            out.extend(take(&mut order, 0, at * SECOND));
        }
        assert_eq!(order.pauses(), (vec![of(0)], vec![]));
        assert_eq!(order.pauses(), (vec![], vec![]));
        assert_eq!(out.len(), 20, "40 messages of 100 bytes have room: {out:?}");
        out.extend(take(&mut order, 1, 100 * SECOND));
        assert_eq!(order.pauses(), (vec![], vec![of(0)]));
        assert_eq!((out.len(), order.bytes), (60, 100));
        order.forget(of(1));
        assert_eq!(order.bytes, 0);
    }

    proptest! {
        /// However the partitions are handed out, the order is that of the timestamps.
        #[test]
        fn the_order_does_not_depend_on_how_partitions_are_interleaved(
            gaps in prop::collection::vec(prop::collection::vec(1i64..90_000, 1..40), 1..5),
            turns in prop::collection::vec((0usize..5, 1usize..20), 0..60),
        ) {
            let mut order = Order::default();
            let mut left: Vec<VecDeque<i64>> = gaps
                .iter()
                .map(|gaps| gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect())
                .collect();
            let count = left.len();
            let numbers: Vec<i32> = (0..).take(count).collect();
            order.assign(&numbers.iter().map(|&number| of(number)).collect::<Vec<_>>());
            let mut out = Vec::new();
            let all = turns.into_iter().chain((0..count).map(|index| (index, usize::MAX)));
            for (index, most) in all {
                let index = index % count;
                let had_some = !left[index].is_empty();
                for _ in 0..most.min(left[index].len()) {
                    let at = left[index].pop_front().unwrap();
                    out.extend(take(&mut order, numbers[index], at));
                }
                if had_some && left[index].is_empty() {
                    order.hold_end(of(numbers[index]), None);
                    out.extend(drained(&mut order));
                }
            }
            prop_assert!(!order.is_holding());
            prop_assert_eq!(out.len(), gaps.iter().map(Vec::len).sum::<usize>());
            prop_assert!(out.is_sorted_by_key(|(_, at)| *at), "{out:?}");
            for number in numbers {
                let own: Vec<i64> = out.iter().filter(|(of, _)| *of == number).map(|(_, at)| *at).collect();
                prop_assert!(own.is_sorted());
            }
        }
    }
}
