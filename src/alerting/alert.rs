//! The message of a rule that fires or resolves: one JSON object per message in the alerts topic.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::episode::Transition;
use super::rules::{Rule, Severity};
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
    pub metric: String,
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
    pub(super) fn new(
        rule: &Rule,
        reading: &Reading<'_>,
        value: f64,
        verdict: &Verdict,
        transition: Transition,
    ) -> Self {
        let (state, since) = match transition {
            Transition::Fires { since } => (State::Firing, since),
            Transition::Resolves { since } => (State::Resolved, since),
        };
        let name = format!("{}\0{}\0{}\0{}", rule.name, reading.sensor, reading.recorded_at, state.name());
        let (value_shown, unit) =
            (number::exact(value), rule.metric.unit().map(|unit| format!(" {unit}")).unwrap_or_default());
        let message = match state {
            State::Firing => {
                format!("{} {value_shown}{unit}: {}", rule.metric, rule.explain(verdict))
            }
            State::Resolved => {
                format!(
                    "{} {value_shown}{unit}: back to normal since {}",
                    rule.metric,
                    show(reading.recorded_at)
                )
            }
        };
        Self {
            id: Uuid::new_v5(&NAMESPACE, name.as_bytes()),
            rule: rule.name.clone(),
            severity: rule.severity,
            state,
            location: reading.location.to_string(),
            device_type: reading.device_type.to_string(),
            iot_sensor_id: reading.sensor,
            sensor_name: reading.sensor_name.as_deref().map(str::to_owned),
            metric: rule.metric.name().to_owned(),
            value,
            expected: verdict.expected,
            score: verdict.score,
            recorded_timestamp: moment(reading.recorded_at),
            since: moment(since),
            detected_timestamp: moment(Utc::now().timestamp_millis()),
            message,
        }
    }
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
pub(super) fn example(rule: &str, sensor: u128, state: State, at: i64) -> Alert {
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
    }
}
