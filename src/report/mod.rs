//! One page about a range of time, for the meeting of a shift: what it says, and how it is written. The figures are those of the
//! verbs, because they come from the same rooms. No command line here.
//!
//! - [`mod@gather`]: the figures. [`kafka`]: those that are in topics, alerts and dead letters. [`mod@page`]: all of it as HTML.

use std::sync::Arc;

use crate::analytics::extremes::Extreme;
use crate::analytics::silence::Silent;
use crate::anomalies::SensorAnomaly;
use crate::plot::files::Picture;
use crate::reading::{Group, Metric};
use crate::series::Summary;
use crate::store::sensors::SensorNames;
use crate::time::{TimeRange, Zone};

mod gather;
mod kafka;
mod page;

pub use gather::{Question, gather};
pub use kafka::{AlertFigures, LetterFigures};
pub use page::page;

/// Rows of one table; further ones are counted.
const MOST_ROWS: usize = 20;

/// What a report says.
pub struct Report {
    /// Such as `plant-1`.
    pub subject: String,
    pub range: TimeRange,
    pub zone: Zone,
    pub made_at: i64,
    pub groups: Vec<GroupHealth>,
    /// The silent sensors, the longest silent first.
    pub silent: Vec<Silent>,
    pub silent_after: i64,
    pub metrics: Vec<MetricFigures>,
    /// Or why they are not known.
    pub alerts: Result<AlertFigures, String>,
    pub letters: Result<LetterFigures, String>,
    pub names: SensorNames,
    /// What is left out, and why.
    pub remarks: Vec<String>,
}

impl Report {
    /// Whether it ends before it was made: of each sensor only the newest reading of all is known, so not every claim about its end
    /// can be made.
    fn is_past(&self) -> bool {
        self.range.to < self.made_at
    }

    /// Whether the newest reading before the end is known: that of each group is.
    fn knows_newest(&self) -> bool {
        self.groups.iter().all(|group| group.newest.is_some() || group.sensors == 0)
    }
}

/// The sensors of a group.
pub struct GroupHealth {
    pub group: Arc<Group>,
    pub sensors: u64,
    pub silent: u64,
    /// In milliseconds since the epoch; `None` where it is not known.
    pub newest: Option<i64>,
}

/// The figures of a metric.
pub struct MetricFigures {
    pub metric: Metric,
    /// By device type.
    pub statistics: Vec<(String, Summary)>,
    pub highest: Vec<Extreme>,
    pub lowest: Vec<Extreme>,
    /// The most unusual ones, in order of time, and how many there are.
    pub anomalies: Vec<SensorAnomaly>,
    pub anomalies_found: usize,
    /// The range, and forecasts by group.
    pub charts: Vec<Picture>,
}
