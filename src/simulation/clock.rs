//! When a simulated reading was taken.

use std::time::Duration;

use crate::time::now;

/// The simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Readings are taken when they are sent.
    Wall,
    /// The first round of the fleet is taken at `start` (milliseconds since the epoch), each next one `step` later,
    /// however fast they are sent.
    Stepped { start: i64, step: Duration },
}

impl Clock {
    /// The timestamp of a reading in `round` (from 0), in milliseconds since the epoch.
    pub fn at(&self, round: u64) -> i64 {
        match self {
            Clock::Wall => now(),
            Clock::Stepped { start, step } => {
                let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
                start.saturating_add(step.saturating_mul(i64::try_from(round).unwrap_or(i64::MAX)))
            }
        }
    }
}
