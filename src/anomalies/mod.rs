//! Values that are unlike the others: detectors over series in memory, and the search that runs them over stored
//! readings. No CQL here and no printing.
//!
//! - [`search`]: reads the series, runs a detector, joins its findings; the command and the dashboard call it.
//! - [`threshold`]: values beyond a limit; [`robust_z`]: values far from the sensor's own median;
//!   [`seasonal`]: values that the hour of the day and the trend do not explain (MSTL);
//!   [`peers`]: sensors unlike the others of their group (DBSCAN).
//! - [`online`]: one pass over a sensor's values with bounded memory, for `ingest --detect` too; [`recorded`]: the scores of a
//!   file's rows.
//! - [`runs`]: consecutive findings become one [`Anomaly`]; [`labels`], [`score`]: precision and recall against what
//!   people labelled.

use crate::series::Point;

pub mod labels;
pub mod online;
pub mod peers;
pub mod recorded;
pub mod robust_z;
pub mod runs;
pub mod score;
pub mod search;
pub mod seasonal;
pub mod threshold;

pub use search::{Method, Search, SearchError, SearchResult, SensorAnomaly};

/// A point that a detector finds unusual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    pub point: Point,
    /// The value that the detector expected: a median, a limit, a seasonal value.
    pub expected: f64,
    /// How far it is from that, in robust standard deviations; `None` for a limit, which does not have any.
    pub score: Option<f64>,
}

impl Finding {
    /// How unusual it is, for ranking within one method.
    fn severity(&self) -> f64 {
        self.score.unwrap_or(self.point.value - self.expected).abs()
    }
}

/// Consecutive findings of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// The first and the last moment, in milliseconds since the epoch.
    pub from: i64,
    pub to: i64,
    /// Number of points found.
    pub points: u64,
    /// The most unusual of them.
    pub worst: Finding,
}

impl Anomaly {
    pub fn severity(&self) -> f64 {
        self.worst.severity()
    }
}

/// How much counts as unusual, between 0 (nothing) and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity(f64);

impl Sensitivity {
    /// Six robust standard deviations: with normal noise two of a billion readings lie beyond them.
    pub const DEFAULT: Self = Self(0.5);

    /// `None` outside of (0, 1].
    pub fn new(sensitivity: f64) -> Option<Self> {
        (sensitivity > 0.0 && sensitivity <= 1.0).then_some(Self(sensitivity))
    }

    /// The robust standard deviations beyond which a point is found: 3 at 1, 6 at 0.5, 30 at 0.1.
    pub fn deviations(self) -> f64 {
        3.0 / self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sensitive_means_fewer_deviations() {
        let deviations = |value| Sensitivity::new(value).map(Sensitivity::deviations);
        assert_eq!(deviations(1.0), Some(3.0));
        assert_eq!(Sensitivity::DEFAULT.deviations(), 6.0);
        for value in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
            assert_eq!(deviations(value), None, "{value}");
        }
    }
}
