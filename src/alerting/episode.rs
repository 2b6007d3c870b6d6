//! An episode: from the first value that meets a condition to the one that ends it.

use serde::{Deserialize, Serialize};

use super::verdict::{Standing, Verdict};

/// The state of a rule for a sensor. Times are those of readings, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Adds the verdict on the value at `at`. An episode does not begin to fire while it `is_quiet`: a condition that still
    /// holds afterwards does then.
    pub(super) fn advance(
        &mut self,
        at: i64,
        hold: Hold,
        verdict: &Verdict,
        is_quiet: bool,
    ) -> Option<Transition> {
        let is_breach = verdict.standing == Standing::Breach;
        let (next, transition) = match *self {
            Self::Calm | Self::Pending { .. } if is_breach => {
                let since = match *self {
                    Self::Pending { since, newest } if at.saturating_sub(newest) <= hold.max_gap => since,
                    _ => at,
                };
                match !is_quiet && at.saturating_sub(since) >= hold.length {
                    true => (Self::Firing { since }, Some(Transition::Fires { since })),
                    false => (Self::Pending { since, newest: at }, None),
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_in_quiet_hours_fires_after_them_if_it_still_holds() {
        let hold = Hold { length: 0, max_gap: 10 };
        let breach = Verdict { standing: Standing::Breach, ..Verdict::CLEAR };
        let mut episode = Episode::default();
        assert_eq!(episode.advance(1, hold, &breach, true), None);
        assert_eq!(episode.advance(2, hold, &Verdict::CLEAR, true), None);
        assert_eq!(episode.advance(3, hold, &breach, true), None);
        assert_eq!(episode.advance(4, hold, &breach, false), Some(Transition::Fires { since: 3 }));
        // What fires resolves at any time.
        assert_eq!(episode.advance(5, hold, &Verdict::CLEAR, true), Some(Transition::Resolves { since: 3 }));
    }
}
