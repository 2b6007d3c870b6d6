//! The message of a rule that fires or resolves: one JSON object per message in the alerts topic.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::episode::Transition;
use super::rules::{Condition, Rule, Severity};
use super::verdict::Verdict;
use crate::output::number;
use crate::reading::Reading;

/// The UUID namespace of alert ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x0b6d_2f6e_5a0e_4c7b_9d33_7b1f_8e52_c0a4);

/// An alert, as it is sent and read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Derived from rule, sensor, recorded_timestamp and state: a copy of an alert has the same id.
    pub id: Uuid,
    pub rule: String,
    pub severity: Severity,
    pub state: State,
    pub location: String,
    pub device_type: String,
    pub iot_sensor_id: Uuid,
    /// What the reading's message called the sensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor_name: Option<String>,
    /// The metric of the rule, or `silence`.
    pub metric: String,
    /// The value that was judged; of a rule `silent`, the seconds without a reading.
    pub value: f64,
    /// What the value was compared with: a limit, the median of the window, or the earlier value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<f64>,
    /// The distance from `expected` in robust standard deviations; of a rule `online`, its score between 0.5 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The time of the reading that completed the condition, or ended it.
    pub recorded_timestamp: DateTime<Utc>,
    /// The time of the episode's first reading. The firing and the resolved alert share rule, sensor and this.
    pub since: DateTime<Utc>,
    /// When the reading was judged, by the clock of `ingest`.
    pub detected_timestamp: DateTime<Utc>,
    /// The alert in words.
    pub message: String,
    /// The labels of the rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The rule's link to what has to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

/// The sensor that an alert is about, and the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub sensor: Uuid,
    pub sensor_name: Option<&'a str>,
    pub location: &'a str,
    pub device_type: &'a str,
    /// Milliseconds since the epoch.
    pub at: i64,
}

/// Whether an alert begins or ends an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Firing,
    Resolved,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl Alert {
    /// Of the value of a reading.
    pub(super) fn new(
        rule: &Rule,
        reading: &Reading<'_>,
        value: f64,
        verdict: &Verdict,
        transition: Transition,
    ) -> Self {
        let about = About {
            sensor: reading.sensor,
            sensor_name: reading.sensor_name.as_deref(),
            location: &reading.location,
            device_type: &reading.device_type,
            at: reading.recorded_at,
        };
        let (value_shown, unit) =
            (number::exact(value), rule.unit().map(|unit| format!(" {unit}")).unwrap_or_default());
        let subject = rule.subject();
        let message = match transition {
            Transition::Fires { .. } => format!("{subject} {value_shown}{unit}: {}", rule.explain(verdict)),
            Transition::Resolves { .. } => {
                format!("{subject} {value_shown}{unit}: back to normal since {}", show(about.at))
            }
        };
        Self {
            expected: verdict.expected,
            score: verdict.score,
            ..Self::of(rule, about, value, transition, message)
        }
    }

    /// Of a silence that became too long, or ended; `seconds` without a reading.
    pub(super) fn of_silence(rule: &Rule, about: About<'_>, transition: Transition, seconds: f64) -> Self {
        let expected = match &rule.condition {
            Condition::Silent(silent) => Some(silent.after as f64 / 1e3),
            _ => None,
        };
        let message = match transition {
            Transition::Fires { since } => {
                format!("{} since {}", rule.explain(&Verdict::CLEAR), show(since))
            }
            Transition::Resolves { .. } => format!("sends again since {}", show(about.at)),
        };
        Self { expected, ..Self::of(rule, about, seconds, transition, message) }
    }

    /// Of an episode whose rule was removed, or is no longer about its sensor. `newest` is the time of the last value that was
    /// judged.
    pub(super) fn withdrawn(fired: &Self, newest: i64) -> Self {
        // Later than the alert that it ends.
        let at = newest.max(fired.recorded_timestamp.timestamp_millis() + 1);
        Self {
            id: id(&fired.rule, fired.iot_sensor_id, at, State::Resolved),
            state: State::Resolved,
            score: None,
            recorded_timestamp: moment(at),
            detected_timestamp: moment(Utc::now().timestamp_millis()),
            message: format!("the rule {} is no longer applied to this sensor", fired.rule),
            ..fired.clone()
        }
    }

    fn of(rule: &Rule, about: About<'_>, value: f64, transition: Transition, message: String) -> Self {
        let About { sensor, sensor_name, location, device_type, at } = about;
        let (state, since) = split(transition);
        Self {
            id: id(&rule.name, sensor, at, state),
            rule: rule.name.clone(),
            severity: rule.severity,
            state,
            location: location.to_owned(),
            device_type: device_type.to_owned(),
            iot_sensor_id: sensor,
            sensor_name: sensor_name.map(str::to_owned),
            metric: rule.subject().to_owned(),
            value,
            expected: None,
            score: None,
            recorded_timestamp: moment(at),
            since: moment(since),
            detected_timestamp: moment(Utc::now().timestamp_millis()),
            message,
            labels: rule.labels.clone(),
            runbook: rule.runbook.clone(),
        }
    }

    /// "line=3, team=cooling".
    pub fn labels_text(&self) -> String {
        let labels: Vec<_> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.join(", ")
    }
}

fn split(transition: Transition) -> (State, i64) {
    match transition {
        Transition::Fires { since } => (State::Firing, since),
        Transition::Resolves { since } => (State::Resolved, since),
    }
}

fn id(rule: &str, sensor: Uuid, at: i64, state: State) -> Uuid {
    let name = format!("{rule}\0{sensor}\0{at}\0{}", state.name());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// Decoded readings are always within the calendar.
fn moment(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap_or_default()
}

fn show(at: i64) -> String {
    moment(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An alert for tests: times are in seconds.
#[cfg(test)]
pub(crate) fn example(rule: &str, sensor: u128, state: State, at: i64) -> Alert {
    let moment = |at: i64| DateTime::from_timestamp(at, 0).unwrap_or_default();
    Alert {
        id: Uuid::new_v5(&NAMESPACE, format!("{rule} {sensor} {at} {}", state.name()).as_bytes()),
        rule: rule.to_owned(),
        severity: Severity::Warning,
        state,
        location: "plant-1".to_owned(),
        device_type: "thermostat".to_owned(),
        iot_sensor_id: Uuid::from_u128(sensor),
        sensor_name: None,
        metric: "temperature".to_owned(),
        value: 30.0,
        expected: Some(28.0),
        score: None,
        recorded_timestamp: moment(at),
        since: moment(at),
        detected_timestamp: moment(at),
        message: "temperature 30 °C: above 28".to_owned(),
        labels: BTreeMap::new(),
        runbook: None,
    }
}
