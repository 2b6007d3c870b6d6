//! The rules of alerts: what is judged, by which condition, and how the reason reads. [`mod@file`] reads them from TOML,
//! [`checks`] the conditions in it; [`schedule`] has times of the week; [`expression`] is a metric made of others; [`reach`] tells rules that
//! judge nothing.

mod checks;
mod expression;
pub mod file;
mod reach;
pub mod schedule;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::expression::Expression;
pub use self::reach::Reach;
pub use self::schedule::{Schedule, Weekly};
use super::window;
use crate::alerting::verdict::Verdict;
use crate::anomalies::Sensitivity;
use crate::anomalies::online;
use crate::config::duration::exact;
use crate::output::number;
use crate::reading::{Metric, Reading};
use crate::time::Zone;

/// The checked rules of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules(Vec<Rule>);

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: String,
    pub severity: Severity,
    /// What alerts are labelled with.
    pub labels: BTreeMap<String, String>,
    /// A link to what has to be done.
    pub runbook: Option<String>,
    /// What is judged; `None` for silence, which is of no metric.
    pub metric: Option<Metric>,
    /// What makes the metric of others.
    pub expression: Option<Expression>,
    /// The group of the readings; `None` matches all.
    pub location: Option<String>,
    pub device_type: Option<String>,
    /// How long the condition has to hold before the rule fires, in milliseconds.
    pub hold: i64,
    /// Longest time between two values that shows that the condition held between them, in milliseconds.
    pub max_gap: Option<i64>,
    pub schedule: Schedule,
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
    Silent(Silent),
    Rate(Rate),
    Stuck(Stuck),
    Band(Band),
    Peers(Peers),
}

/// No reading for too long.
#[derive(Debug, Clone, PartialEq)]
pub struct Silent {
    /// Milliseconds.
    pub after: i64,
    /// A sensor that has been silent for longer when it is first seen is not reported: it is out of service. Milliseconds.
    pub forget_after: i64,
}

/// The difference of two successive values by the time between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    pub limits: Threshold,
    pub per: Per,
    /// Values further apart, in milliseconds, have no rate.
    pub max_gap: i64,
}

/// The unit of time of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Per {
    #[serde(rename = "s")]
    Second,
    #[serde(rename = "min")]
    Minute,
    #[serde(rename = "h")]
    Hour,
}

/// A value that does not change.
#[derive(Debug, Clone, PartialEq)]
pub struct Stuck {
    pub lasts: Lasts,
    /// Values that differ by this at most are the same.
    pub tolerance: f64,
    /// Values further apart, in milliseconds, are not compared.
    pub max_gap: i64,
}

/// For how long values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    Readings(u64),
    /// Milliseconds.
    Time(i64),
}

/// Limits by the hour of the day.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    pub zone: Zone,
    /// The first that holds counts.
    pub hours: Vec<(Weekly, Threshold)>,
}

/// A value that differs from those of the other sensors of its group.
#[derive(Debug, Clone, PartialEq)]
pub struct Peers {
    /// Of the difference from their median.
    pub limits: Threshold,
    pub min_sensors: usize,
    /// Age of their values, in milliseconds.
    pub within: i64,
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

    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|rule| rule.name.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    /// Whether the rule is about the reading's group.
    pub(in crate::alerting) fn is_about(&self, location: &str, device_type: &str) -> bool {
        self.location.as_ref().is_none_or(|ours| *ours == location)
            && self.device_type.as_ref().is_none_or(|ours| *ours == device_type)
    }

    /// Whether values mean the same to another rule, so that it can go on from this one's windows.
    pub(in crate::alerting) fn judges_like(&self, other: &Self) -> bool {
        self.condition == other.condition
            && self.metric == other.metric
            && self.expression == other.expression
            && self.location == other.location
            && self.device_type == other.device_type
    }

    /// What values mean to the rule, as a number: as in [`Rule::judges_like`].
    pub(in crate::alerting) fn fingerprint(&self) -> Uuid {
        let expression = self.expression.as_ref().map(Expression::text);
        let zone = match &self.condition {
            Condition::Band(band) => band.zone.name(),
            _ => "",
        };
        let condition = match &self.condition {
            // The rules of a zone are no part of it.
            Condition::Band(band) => format!("{:?}", band.hours),
            other => format!("{other:?}"),
        };
        let what = (condition, zone, &self.metric, expression, &self.location, &self.device_type);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{what:?}").as_bytes())
    }

    /// The value to judge, if the reading is in the rule's group and has one.
    pub(in crate::alerting) fn value(&self, reading: &Reading<'_>) -> Option<f64> {
        if !self.is_about(&reading.location, &reading.device_type) {
            return None;
        }
        match (&self.expression, &self.metric) {
            (Some(expression), _) => expression.value(reading),
            (None, Some(metric)) => reading.value(metric),
            (None, None) => None,
        }
    }

    /// What alerts call that which is judged.
    pub(in crate::alerting) fn subject(&self) -> &str {
        self.metric.as_ref().map_or("silence", Metric::name)
    }

    /// The unit of the value that is judged.
    pub(in crate::alerting) fn unit(&self) -> Option<&'static str> {
        match (&self.metric, &self.expression) {
            (Some(metric), None) => metric.unit(),
            (Some(_), Some(_)) => None,
            (None, _) => Some("s"),
        }
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
        let measured = verdict.measured.unwrap_or_default();
        let what = match &self.condition {
            Condition::Threshold(limits) => limits.crossed(expected),
            Condition::RobustZ(_) => {
                let (score, median) = (score.unwrap_or_default(), figure(expected, f64::NAN));
                format!("{} robust deviations from the median {median}", number::fixed(score, 1))
            }
            Condition::Online(_) => {
                let what = verdict.cause.map_or("value", online::Cause::text);
                format!("unusual {what}, score {}", number::fixed(score.unwrap_or_default(), 2))
            }
            Condition::Change(change) => {
                let within = exact(millis(change.within));
                format!("it was {} at some time in the {within} before", number::exact(expected))
            }
            Condition::Silent(rule) => {
                format!("no reading for {} or longer", exact(millis(rule.after)))
            }
            Condition::Rate(rate) => {
                let (by, limit) = (figure(measured, expected), rate.limits.crossed(expected));
                format!("changes by {by} per {}, {limit}", rate.per.name())
            }
            Condition::Stuck(stuck) => match stuck.lasts {
                Lasts::Readings(_) => format!("the same in {measured} readings"),
                Lasts::Time(_) => {
                    let lasted = Duration::from_secs(measured as u64 / 1000);
                    format!("the same for {}", exact(lasted))
                }
            },
            Condition::Band(band) => {
                let limits = band.hours.iter().map(|(_, limits)| limits);
                let crossed = limits.into_iter().find(|limits| limits.has(expected));
                let crossed = crossed.map(|limits| limits.crossed(expected)).unwrap_or_default();
                format!("{crossed} at this time of the week")
            }
            Condition::Peers(_) => {
                let way = if measured < 0.0 { "below" } else { "above" };
                let (by, median) = (figure(measured.abs(), f64::NAN), figure(expected, f64::NAN));
                format!("{by} {way} the median {median} of the other sensors of its group")
            }
        };
        match self.hold {
            0 => what,
            hold => format!("{what}, for {} or longer", exact(millis(hold))),
        }
    }
}

/// A computed value in two digits after the point, or in as many as tell it from 0 and from the limit that it has crossed.
fn figure(value: f64, limit: f64) -> String {
    let tells = |text: &String| {
        text.parse::<f64>()
            .is_ok_and(|shown| (shown != limit || value == limit) && (shown != 0.0 || value == 0.0))
    };
    [2, 3, 4, 6]
        .map(|decimals| number::fixed(value, decimals))
        .into_iter()
        .find(tells)
        .unwrap_or_else(|| number::exact(value))
}

impl Threshold {
    fn has(&self, limit: f64) -> bool {
        self.above == Some(limit) || self.below == Some(limit)
    }

    /// "above 28".
    fn crossed(&self, limit: f64) -> String {
        let way = if self.above == Some(limit) { "above" } else { "below" };
        format!("{way} {}", number::exact(limit))
    }
}

impl Per {
    /// Milliseconds.
    pub(in crate::alerting) fn length(self) -> f64 {
        match self {
            Self::Second => 1e3,
            Self::Minute => 60e3,
            Self::Hour => 3_600e3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
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
            Self::Threshold(_) | Self::Band(_) | Self::Silent(_) => 0,
            Self::Rate(_) => size_of::<(i64, f64)>(),
            Self::Stuck(_) => size_of::<window::Run>(),
            // Its value among those of its group.
            Self::Peers(_) => 64,
            Self::RobustZ(rule) => rule.readings * 2 * size_of::<f64>(),
            Self::Online(_) => online::MEMORY,
            Self::Change(_) => window::PARTS as usize * size_of::<window::Part>(),
        }
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computed_value_is_told_from_the_limit_that_it_has_crossed() {
        for (value, limit, text) in [
            (3.0, 2.0, "3.00"),
            (1.2, 1.2, "1.20"),
            (1.203, 1.2, "1.203"),
            (-1.200_04, -1.2, "-1.200040"),
            (0.0, f64::NAN, "0.00"),
            (0.000_13, f64::NAN, "0.0001"),
        ] {
            assert_eq!(figure(value, limit), text);
        }
    }
}
