//! From the first value that is out of order to the one that ends it.

use super::{Standing, Verdict};

/// Where a rule stands with a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Episode {
    #[default]
    Calm,
    /// Out of order, and not for long enough.
    Pending {
        since: i64,
    },
    Firing {
        since: i64,
    },
}

/// A change that people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Fires { since: i64 },
    Resolves { since: i64 },
}

impl Episode {
    /// Takes note of a verdict at `at`; the condition has to hold for `hold` milliseconds before it fires.
    pub fn advance(&mut self, at: i64, hold: i64, verdict: &Verdict) -> Option<Turn> {
        let is_breach = verdict.standing == Standing::Breach;
        let (next, turn) = match *self {
            Self::Calm if is_breach && hold == 0 => {
                (Self::Firing { since: at }, Some(Turn::Fires { since: at }))
            }
            Self::Calm if is_breach => (Self::Pending { since: at }, None),
            Self::Pending { since } if is_breach && at.saturating_sub(since) >= hold => {
                (Self::Firing { since }, Some(Turn::Fires { since }))
            }
            Self::Pending { .. } if !is_breach => (Self::Calm, None),
            Self::Firing { since } if verdict.standing == Standing::Clear => {
                (Self::Calm, Some(Turn::Resolves { since }))
            }
            same => (same, None),
        };
        *self = next;
        turn
    }
}
