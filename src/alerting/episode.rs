//! An episode: from the first value that meets a condition to the one that ends it.

use super::verdict::{Standing, Verdict};

/// The state of a rule for a sensor. Times are those of readings, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Episode {
    #[default]
    Calm,
    /// The condition is met, but not for long enough yet.
    Pending {
        since: i64,
        newest: i64,
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

/// How long a condition has to hold before a rule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    /// Milliseconds.
    pub length: i64,
    /// Values further apart than this many milliseconds do not show that the condition held between them.
    pub max_gap: i64,
}

impl Episode {
    /// Adds the verdict on the value at `at`.
    pub(super) fn advance(&mut self, at: i64, hold: Hold, verdict: &Verdict) -> Option<Transition> {
        let is_breach = verdict.standing == Standing::Breach;
        let (next, transition) = match *self {
            Self::Calm if is_breach && hold.length == 0 => {
                (Self::Firing { since: at }, Some(Transition::Fires { since: at }))
            }
            Self::Calm if is_breach => (Self::Pending { since: at, newest: at }, None),
            Self::Pending { newest, .. } if is_breach && at.saturating_sub(newest) > hold.max_gap => {
                (Self::Pending { since: at, newest: at }, None)
            }
            Self::Pending { since, .. } if is_breach && at.saturating_sub(since) >= hold.length => {
                (Self::Firing { since }, Some(Transition::Fires { since }))
            }
            Self::Pending { since, .. } if is_breach => (Self::Pending { since, newest: at }, None),
            Self::Pending { .. } => (Self::Calm, None),
            Self::Firing { since } if verdict.standing == Standing::Clear => {
                (Self::Calm, Some(Transition::Resolves { since }))
            }
            same => (same, None),
        };
        *self = next;
        transition
    }
}
