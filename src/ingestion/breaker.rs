//! If nearly all messages fail, the cause is not in single messages: a producer has changed its format, or a setting is
//! wrong. Then the pipeline stops with the reason, instead of moving a whole topic into the dead-letter topic.
//!
//! Messages are judged before they are sent to the dead-letter topic: a rejected one waits until its window of messages
//! has passed, at most [`HOLD`]. So a run that stops has sent nothing of that window, and the next one finds it as it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::tracker::Ticket;
use crate::kafka::dead_letters::DeadLetter;
use crate::kafka::producer::Position;

/// Messages judged together. A shorter burst of bad ones does not trip it.
const WINDOW: u64 = 1_000;
/// How long a rejected message waits for the end of its window: on a quiet topic a single one should not wait for long.
const HOLD: Duration = Duration::from_secs(1);

/// A rejected message that waits to be sent to the dead-letter topic.
#[derive(Debug)]
pub(super) struct Held {
    pub letter: DeadLetter,
    pub ticket: Ticket,
}

/// Counts rejected messages, window by window, and holds them back meanwhile.
#[derive(Debug)]
pub(super) struct Breaker {
    /// In hundredths; 100 never trips.
    max_percent: u64,
    messages: u64,
    reasons: BTreeMap<&'static str, u64>,
    /// A message and its error, as an example.
    example: Option<(Position, String)>,
    held: Vec<Held>,
    /// When the oldest of the held messages came.
    held_since: Option<Instant>,
}

/// More than the allowed share was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{rejected} of {messages} messages cannot be stored, most of them for {reason}; the latest is {}/{}: {error} \
     (fix their producer, or raise ingest.max_dead_letter_percent = {max_percent} to move them to the dead-letter topic)",
    position.partition,
    position.offset
)]
pub struct Tripped {
    rejected: u64,
    messages: u64,
    reason: &'static str,
    position: Position,
    error: String,
    max_percent: u64,
}

impl Breaker {
    pub(super) fn new(max_percent: u8) -> Self {
        Self {
            max_percent: max_percent.into(),
            messages: 0,
            reasons: BTreeMap::new(),
            example: None,
            held: Vec::new(),
            held_since: None,
        }
    }

    /// Counts a message that can be stored. Returns whether a window has passed, so that held messages may be sent.
    pub(super) fn accepted(&mut self) -> Result<bool, Tripped> {
        self.count()
    }

    /// Counts and holds a message that cannot be stored. Returns as [`Breaker::accepted`].
    pub(super) fn rejected(&mut self, held: Held, now: Instant) -> Result<bool, Tripped> {
        let DeadLetter { partition, offset, reason, error, .. } = &held.letter;
        *self.reasons.entry(reason).or_default() += 1;
        self.example = Some((Position { partition: *partition, offset: *offset }, error.clone()));
        self.held_since.get_or_insert(now);
        self.held.push(held);
        self.count()
    }

    fn count(&mut self) -> Result<bool, Tripped> {
        self.messages += 1;
        if self.messages < WINDOW {
            return Ok(false);
        }
        let messages = std::mem::take(&mut self.messages);
        let reasons = std::mem::take(&mut self.reasons);
        let rejected = reasons.values().sum::<u64>();
        let commonest = reasons.into_iter().max_by_key(|(_, count)| *count);
        match (commonest, self.example.take()) {
            (Some((reason, _)), Some((position, error))) if rejected * 100 > self.max_percent * messages => {
                Err(Tripped { rejected, messages, reason, position, error, max_percent: self.max_percent })
            }
            _ => Ok(true),
        }
    }

    /// Whether the oldest held message has waited long enough.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.held_since.is_some_and(|since| now.duration_since(since) >= HOLD)
    }

    /// The held messages, to be sent or to be dropped.
    pub(super) fn take_held(&mut self) -> Vec<Held> {
        self.held_since = None;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingestion::tracker::Tracker;
    use crate::kafka::{TopicName, TopicPartition};

    fn held(tracker: &mut Tracker) -> Held {
        let letter = DeadLetter {
            key: None,
            payload: Vec::new(),
            headers: None,
            reason: "missing_field",
            error: "the field location is missing".into(),
            topic: TopicName::of("readings"),
            partition: 2,
            offset: 7,
            timestamp: 0,
        };
        Held { letter, ticket: tracker.begin(TopicPartition::new("readings", 2), 7, 0) }
    }

    /// What tripped it, and how many messages it let go before.
    fn run(max_percent: u8, messages: impl Iterator<Item = bool>) -> (Option<Tripped>, usize) {
        let (mut breaker, mut tracker, mut sent) = (Breaker::new(max_percent), Tracker::default(), 0);
        for is_bad in messages {
            let counted = match is_bad {
                true => breaker.rejected(held(&mut tracker), Instant::now()),
                false => breaker.accepted(),
            };
            match counted {
                Ok(true) => sent += breaker.take_held().len(),
                Ok(false) => {}
                Err(tripped) => return (Some(tripped), sent),
            }
        }
        (None, sent)
    }

    #[test]
    fn it_trips_when_more_than_the_share_of_a_window_fails_and_nothing_of_it_is_sent() {
        let (tripped, sent) = run(80, (0..2000).map(|n| n >= 1000 && n % 10 != 0));
        let tripped = tripped.unwrap();
        assert_eq!((tripped.rejected, tripped.messages, sent), (900, 1000, 0));
        let message = tripped.to_string();
        for part in ["missing_field", "2/7", "location", "ingest.max_dead_letter_percent = 80"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_share_that_is_allowed_and_a_short_burst_do_not_trip_it() {
        assert_eq!(run(50, (0..10_000).map(|n| n % 2 == 0)), (None, 5_000));
        assert_eq!(run(80, (0..999).map(|_| true)), (None, 0));
        assert_eq!(run(100, (0..10_000).map(|_| true)), (None, 10_000));
    }

    #[test]
    fn a_message_is_held_for_a_second_at_most() {
        let (mut breaker, mut tracker, now) = (Breaker::new(80), Tracker::default(), Instant::now());
        assert!(!breaker.is_due(now + HOLD));
        breaker.rejected(held(&mut tracker), now).unwrap();
        breaker.rejected(held(&mut tracker), now + HOLD).unwrap();
        assert!(!breaker.is_due(now + HOLD - Duration::from_millis(1)));
        assert!(breaker.is_due(now + HOLD));
        assert_eq!(breaker.take_held().len(), 2);
        assert!(!breaker.is_due(now + HOLD));
    }
}
