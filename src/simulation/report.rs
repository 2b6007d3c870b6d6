//! What a run did.

use serde::Serialize;

use super::deliveries::Latency;
use super::stream::Counts;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub counts: Counts,
    pub acknowledged: u64,
    pub failed: u64,
    pub first_error: Option<String>,
    /// Lines of a recording that are not readings.
    pub bad_lines: u64,
    /// Lines of a recording that its mapping skips.
    pub skipped_lines: u64,
    /// Columns of a recording that were not sent.
    pub ignored_columns: Vec<String>,
    /// Seconds from the first message until the last was queued, and until the last was acknowledged.
    pub sending_seconds: f64,
    pub elapsed_seconds: f64,
    /// Messages sent per second of sending, and acknowledged per second of the whole run.
    pub rate: f64,
    pub acknowledged_rate: f64,
    /// `None` if nothing was acknowledged.
    pub latency: Option<Latency>,
    /// Seconds of the schedule that were skipped after stalls.
    pub given_up_seconds: f64,
    /// How far the readings' timestamps ran ahead of the clock, in seconds, because there are too few sensors.
    pub ahead_seconds: f64,
    /// Stopped by a signal before its end.
    pub interrupted: bool,
}
