//! An episode: from the first value that meets a condition to the one that ends it.

use super::verdict::{Standing, Verdict};

/// The state of a rule for a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Episode {
    #[default]
    Calm,
    /// The condition is met, but not for long enough yet.
    Pending {
        since: i64,
    },
    Firing {
        since: i64,
    },
}

/// A change of state that raises an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    Fires { since: i64 },
    Resolves { since: i64 },
}

impl Episode {
    /// Adds the verdict on the value at `at`. The condition has to hold for `hold` milliseconds before the rule fires.
    pub fn advance(&mut self, at: i64, hold: i64, verdict: &Verdict) -> Option<Transition> {
        let is_breach = verdict.standing == Standing::Breach;
        let (next, transition) = match *self {
            Self::Calm if is_breach && hold == 0 => {
                (Self::Firing { since: at }, Some(Transition::Fires { since: at }))
            }
            Self::Calm if is_breach => (Self::Pending { since: at }, None),
            Self::Pending { since } if is_breach && at.saturating_sub(since) >= hold => {
                (Self::Firing { since }, Some(Transition::Fires { since }))
            }
            Self::Pending { .. } if !is_breach => (Self::Calm, None),
            Self::Firing { since } if verdict.standing == Standing::Clear => {
                (Self::Calm, Some(Transition::Resolves { since }))
            }
            same => (same, None),
        };
        *self = next;
        transition
    }
}
