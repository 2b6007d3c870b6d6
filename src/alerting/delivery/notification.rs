//! What a receiver is sent at once: the alerts of a group, as JSON and in words.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::tracker::Ticket;
use crate::alerting::alert::{Alert, State};
use crate::output::text::visible;
use crate::time;

/// Alerts that a text lists; a program gets all of them.
const MOST_LISTED: usize = 50;
/// The UUID namespace of notification ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f2a_5c11_0d4e_4a6f_b3a0_6d1e_92c7_54b8);

/// An alert on its way to a receiver.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) alert: Arc<Alert>,
    pub(super) ticket: Ticket,
}

/// What the alerts of a group have in common, by the names of `group_by`.
pub(super) type GroupKey = Vec<(&'static str, String)>;

/// One message.
#[derive(Debug)]
pub(super) struct Notification<'a> {
    pub(super) receiver: &'a str,
    pub(super) group: &'a GroupKey,
    pub(super) alerts: Vec<&'a Alert>,
}

impl Notification<'_> {
    /// The same for the same alerts, so that a receiver recognises one that comes again.
    pub(super) fn id(&self) -> Uuid {
        let mut name = self.receiver.as_bytes().to_vec();
        for alert in &self.alerts {
            name.extend(alert.id.as_bytes());
        }
        Uuid::new_v5(&NAMESPACE, &name)
    }

    fn count(&self, state: State) -> usize {
        self.alerts.iter().filter(|alert| alert.state == state).count()
    }

    /// For programs. `sequence` rises with each alert of a rule and sensor.
    pub(super) fn json(&self) -> Value {
        let alerts = self.alerts.iter().map(|alert| {
            let mut value = serde_json::to_value(alert).unwrap_or_default();
            value["sequence"] = alert.recorded_timestamp.timestamp_millis().into();
            value
        });
        let group = self.group.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
        json!({
            "version": 1,
            "id": self.id(),
            "receiver": self.receiver,
            "status": if self.count(State::Firing) > 0 { State::Firing.name() } else { State::Resolved.name() },
            "title": self.title(),
            "group": group.collect::<serde_json::Map<_, _>>(),
            "firing": self.count(State::Firing),
            "resolved": self.count(State::Resolved),
            "alerts": alerts.collect::<Vec<_>>(),
        })
    }

    /// One line: "firing: silent, 37 sensors of plant-3".
    pub(super) fn title(&self) -> String {
        let (firing, resolved) = (self.count(State::Firing), self.count(State::Resolved));
        let status = match (firing, resolved) {
            (_, 0) => "firing".to_owned(),
            (0, _) => "resolved".to_owned(),
            _ => format!("{firing} firing, {resolved} resolved"),
        };
        let names = |of: fn(&Alert) -> &str| listed(self.alerts.iter().map(|alert| of(alert)));
        let rules = names(|alert| &alert.rule);
        let locations = names(|alert| &alert.location);
        let sensors: BTreeSet<Uuid> = self.alerts.iter().map(|alert| alert.iot_sensor_id).collect();
        let who = match self.alerts.as_slice() {
            [alert] => format!("{} of {locations}, {}", sensor(alert), visible(&alert.message)),
            alerts if sensors.len() == 1 => {
                let sensor = alerts.first().map(|alert| sensor(alert)).unwrap_or_default();
                format!("{sensor} of {locations}, {} alerts", alerts.len())
            }
            _ => format!("{} sensors of {locations}", sensors.len()),
        };
        format!("{status}: {rules}, {who}")
    }

    /// For people: the title, and a line for each alert.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title());
        for alert in self.alerts.iter().take(MOST_LISTED) {
            let at = time::display(alert.recorded_timestamp.timestamp_millis());
            let since = time::display(alert.since.timestamp_millis());
            let _ = writeln!(
                text,
                "{:<8}  {at}  {}  {}, {}: {}  (since {since}, {})",
                alert.state.name(),
                visible(&alert.rule),
                sensor(alert),
                visible(&alert.location),
                visible(&alert.message),
                alert.severity.name(),
            );
            if !alert.labels.is_empty() {
                let _ = writeln!(text, "          {}", visible(&alert.labels_text()));
            }
            if let Some(runbook) = &alert.runbook {
                let _ = writeln!(text, "          {}", visible(runbook));
            }
        }
        if let Some(more) = self.alerts.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
            let _ = writeln!(text, "and {more} more");
        }
        text
    }
}

fn sensor(alert: &Alert) -> String {
    match &alert.sensor_name {
        Some(name) => visible(name).into_owned(),
        None => alert.iot_sensor_id.to_string(),
    }
}

/// Up to three names, each once.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 3;
    let names: BTreeSet<&str> = names.collect();
    let mut shown: Vec<_> = names.iter().take(MOST).map(|name| visible(name).into_owned()).collect();
    if names.len() > MOST {
        shown.push(format!("{} more", names.len() - MOST));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::example;

    fn title(alerts: &[Alert]) -> String {
        Notification { receiver: "ops", group: &Vec::new(), alerts: alerts.iter().collect() }.title()
    }

    #[test]
    fn many_sensors_are_one_line() {
        let silent: Vec<_> = (0..37).map(|sensor| example("silent", sensor, State::Firing, 1)).collect();
        assert_eq!(title(&silent), "firing: silent, 37 sensors of plant-1");
        let mut mixed = silent;
        mixed.push(example("silent", 1, State::Resolved, 2));
        assert_eq!(title(&mixed), "37 firing, 1 resolved: silent, 37 sensors of plant-1");
        let id = Uuid::from_u128(1);
        assert_eq!(
            title(&mixed[37..]),
            format!("resolved: silent, {id} of plant-1, temperature 30 °C: above 28")
        );
    }

    #[test]
    fn text_from_outside_cannot_steer_a_terminal_or_a_header() {
        let mut alert = example("hot", 1, State::Firing, 1);
        alert.location = "plant\r\nBcc: all@example.org\u{1b}[2J".to_owned();
        let notification = Notification { receiver: "ops", group: &Vec::new(), alerts: vec![&alert] };
        assert!(!notification.title().contains(['\r', '\n', '\u{1b}']), "{}", notification.title());
        assert_eq!(notification.text().lines().count(), 3);
    }

    #[test]
    fn the_json_of_a_notification_has_the_alerts_with_their_sequence() {
        let (alert, group) = (example("hot", 1, State::Firing, 7), vec![("location", "plant-1".to_owned())]);
        let notification = Notification { receiver: "ops", group: &group, alerts: vec![&alert] };
        let json = notification.json();
        assert_eq!(json["alerts"][0]["sequence"], 7_000);
        assert_eq!(json["alerts"][0]["id"], alert.id.to_string());
        assert_eq!((json["group"]["location"].as_str(), json["firing"].as_u64()), (Some("plant-1"), Some(1)));
        assert_eq!(
            json["id"],
            Notification { receiver: "ops", group: &group, alerts: vec![&alert] }.id().to_string()
        );
    }
}
