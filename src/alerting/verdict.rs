//! What a condition says about a value.

use crate::anomalies::online::Cause;

/// The judgement of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    pub standing: Standing,
    /// The limit, the median or the earlier value that the value was compared with.
    pub expected: Option<f64>,
    /// What was compared, where it is not the value: a rate, a number of readings, milliseconds, or a difference.
    pub measured: Option<f64>,
    /// The distance from it in robust standard deviations, or the score of the online detector; `None` if the condition does
    /// not compute one.
    pub score: Option<f64>,
    /// What the score of the online detector is mostly due to.
    pub cause: Option<Cause>,
}

/// Where a value stands to a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The condition is met.
    Breach,
    /// The condition is not met, but the value is too close to it to end an episode.
    Near,
    Clear,
}

impl Verdict {
    /// The condition is not met.
    pub(super) const CLEAR: Self =
        Self { standing: Standing::Clear, expected: None, measured: None, score: None, cause: None };
    /// Nothing is said: an episode goes on.
    pub(super) const UNKNOWN: Self = Self { standing: Standing::Near, ..Self::CLEAR };
}
