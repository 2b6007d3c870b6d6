//! Who has seen what fires: a record of its own in the topic of alerts, beside the alerts of its sensor.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::alert::Alert;

/// An episode that somebody has seen. Readers that know alerts alone skip it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    kind: Kind,
    pub rule: String,
    pub iot_sensor_id: Uuid,
    /// The time of the episode's first reading, as in its alerts.
    pub since: DateTime<Utc>,
    /// The user's name.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    pub acknowledged_timestamp: DateTime<Utc>,
}

/// So that no alert is read as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Acknowledgement,
}

impl Acknowledgement {
    /// Of the episode of an alert.
    pub fn of(alert: &Alert, by: String, comment: Option<String>) -> Self {
        Self {
            kind: Kind::Acknowledgement,
            rule: alert.rule.clone(),
            iot_sensor_id: alert.iot_sensor_id,
            since: alert.since,
            by,
            comment,
            acknowledged_timestamp: Utc::now(),
        }
    }

    /// Whether it is about the episode of this alert.
    pub fn is_of(&self, alert: &Alert) -> bool {
        self.rule == alert.rule && self.iot_sensor_id == alert.iot_sensor_id && self.since == alert.since
    }
}
