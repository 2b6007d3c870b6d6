//! The rules of alerts: what is judged, by which condition, and how the reason reads. [`mod@file`] reads them from TOML.

pub mod file;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::window;
use crate::alerting::verdict::Verdict;
use crate::anomalies::Sensitivity;
use crate::anomalies::online;
use crate::output::number;
use crate::reading::{Metric, Reading};

/// The checked rules of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules(Vec<Rule>);

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: String,
    pub severity: Severity,
    pub metric: Metric,
    /// The group of the readings; `None` matches all.
    pub location: Option<String>,
    pub device_type: Option<String>,
    /// How long the condition has to hold before the rule fires, in milliseconds.
    pub hold: i64,
    /// Longest time between two values that shows that the condition held between them, in milliseconds.
    pub max_gap: Option<i64>,
    pub condition: Condition,
}

/// How serious an alert is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

/// What makes a rule fire.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Threshold(Threshold),
    RobustZ(RobustZ),
    Change(Change),
    Online(Online),
}

/// A value beyond a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub above: Option<f64>,
    pub below: Option<f64>,
    /// How far inside the limits a value has to be to end the episode.
    pub hysteresis: f64,
}

/// A value far from the sensor's own median.
#[derive(Debug, Clone, PartialEq)]
pub struct RobustZ {
    pub readings: usize,
    pub sensitivity: Sensitivity,
    /// Least robust standard deviation, in the metric's unit: the noise of a sensor that often repeats a value.
    pub min_deviation: f64,
}

/// A value that is unusual for its sensor, by the streaming detector of [`online`].
#[derive(Debug, Clone, PartialEq)]
pub struct Online {
    pub sensitivity: Sensitivity,
}

/// A value that rose or fell too far within a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub rise: Option<f64>,
    pub fall: Option<f64>,
    /// Milliseconds.
    pub within: i64,
}

impl Rules {
    pub fn into_vec(self) -> Vec<Rule> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    /// The value to judge, if the reading is in the rule's group and has one.
    pub(in crate::alerting) fn value(&self, reading: &Reading<'_>) -> Option<f64> {
        let is_ours = self.location.as_ref().is_none_or(|location| *location == reading.location)
            && self.device_type.as_ref().is_none_or(|device_type| *device_type == reading.device_type);
        if is_ours { reading.value(&self.metric) } else { None }
    }

    /// The longest time between two values, in milliseconds, over which the condition counts as held: without a setting the
    /// longer one of `for` and four times the sensor's usual gap.
    pub(in crate::alerting) fn max_gap(&self, usual_gap: i64) -> i64 {
        const USUAL_GAPS: i64 = 4;
        self.max_gap.unwrap_or_else(|| self.hold.max(usual_gap.saturating_mul(USUAL_GAPS)))
    }

    /// Why the rule fires, for people.
    pub(in crate::alerting) fn explain(&self, verdict: &Verdict) -> String {
        let score = verdict.score;
        let expected = verdict.expected.unwrap_or_default();
        let what = match &self.condition {
            Condition::Threshold(Threshold { above, .. }) if *above == Some(expected) => {
                format!("above {}", number::exact(expected))
            }
            Condition::Threshold(_) => format!("below {}", number::exact(expected)),
            Condition::RobustZ(_) => {
                let (score, median) = (score.unwrap_or_default(), number::fixed(expected, 2));
                format!("{} robust deviations from the median {median}", number::fixed(score, 1))
            }
            Condition::Online(_) => {
                let what = verdict.cause.map_or("value", online::Cause::text);
                format!("unusual {what}, score {}", number::fixed(score.unwrap_or_default(), 2))
            }
            Condition::Change(change) => {
                let within = humantime::format_duration(millis(change.within));
                format!("it was {} within {within}", number::exact(expected))
            }
        };
        match self.hold {
            0 => what,
            hold => format!("{what}, for {} or longer", humantime::format_duration(millis(hold))),
        }
    }
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Condition {
    /// Approximate memory per sensor, in bytes.
    pub(in crate::alerting) fn memory(&self) -> usize {
        match self {
            Self::Threshold(_) => 0,
            Self::RobustZ(rule) => rule.readings * 2 * size_of::<f64>(),
            Self::Online(_) => online::MEMORY,
            Self::Change(_) => window::PARTS as usize * size_of::<window::Part>(),
        }
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}
