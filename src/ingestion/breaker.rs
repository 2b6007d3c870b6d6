//! If nearly all messages fail, the cause is not in single messages: a producer has changed its format, or a setting is
//! wrong. Then the pipeline stops with the reason, instead of moving a whole topic into the dead-letter topic.

use std::collections::BTreeMap;

use crate::kafka::producer::Position;
use crate::reading::Rejection;

/// Messages judged together. A shorter burst of bad ones does not trip it.
const WINDOW: u64 = 1_000;

/// Counts rejected messages, window by window.
#[derive(Debug)]
pub(super) struct Breaker {
    /// In hundredths; 100 never trips.
    max_percent: u64,
    messages: u64,
    reasons: BTreeMap<&'static str, u64>,
    /// A message and its error, as an example.
    example: Option<(Position, String)>,
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
    pub fn new(max_percent: u8) -> Self {
        Self { max_percent: max_percent.into(), messages: 0, reasons: BTreeMap::new(), example: None }
    }

    /// Counts a message that can be stored.
    pub fn accepted(&mut self) -> Result<(), Tripped> {
        self.count()
    }

    /// Counts a message that cannot be stored.
    pub fn rejected(&mut self, position: Position, rejection: &Rejection) -> Result<(), Tripped> {
        *self.reasons.entry(rejection.reason()).or_default() += 1;
        self.example = Some((position, rejection.to_string()));
        self.count()
    }

    fn count(&mut self) -> Result<(), Tripped> {
        self.messages += 1;
        if self.messages < WINDOW {
            return Ok(());
        }
        let messages = std::mem::take(&mut self.messages);
        let reasons = std::mem::take(&mut self.reasons);
        let rejected = reasons.values().sum::<u64>();
        let commonest = reasons.into_iter().max_by_key(|(_, count)| *count);
        match (commonest, self.example.take()) {
            (Some((reason, _)), Some((position, error))) if rejected * 100 > self.max_percent * messages => {
                Err(Tripped { rejected, messages, reason, position, error, max_percent: self.max_percent })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(max_percent: u8, messages: impl Iterator<Item = bool>) -> Option<Tripped> {
        let mut breaker = Breaker::new(max_percent);
        let position = Position { partition: 2, offset: 7 };
        let mut messages = messages.map(|is_bad| match is_bad {
            true => breaker.rejected(position, &Rejection::MissingField("location")),
            false => breaker.accepted(),
        });
        messages.find_map(Result::err)
    }

    #[test]
    fn it_trips_when_more_than_the_share_of_a_window_fails() {
        let tripped = run(80, (0..1000).map(|n| n % 10 != 0)).unwrap();
        assert_eq!((tripped.rejected, tripped.messages), (900, 1000));
        let message = tripped.to_string();
        for part in ["missing_field", "2/7", "location", "ingest.max_dead_letter_percent = 80"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_share_that_is_allowed_and_a_short_burst_do_not_trip_it() {
        assert_eq!(run(50, (0..10_000).map(|n| n % 2 == 0)), None);
        assert_eq!(run(80, (0..999).map(|_| true)), None);
        assert_eq!(run(100, (0..10_000).map(|_| true)), None);
    }
}
