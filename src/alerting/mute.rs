//! Silences that people ask for: alerts that match one are not sent to receivers while it lasts. A record of its own in the topic
//! of alerts, known by its id; the newest record of an id counts, so that a silence can be ended early.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::alert::Alert;

/// Silences that are remembered; beyond it those that are over are forgotten, and further ones are not taken.
const MOST: usize = 10_000;

/// A silence. Readers that know alerts alone skip it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    kind: Kind,
    pub id: Uuid,
    pub matchers: Matchers,
    pub starts: DateTime<Utc>,
    /// Exclusive.
    pub ends: DateTime<Utc>,
    /// The user's name.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When this was asked for; the newest record of an id counts.
    pub noted_timestamp: DateTime<Utc>,
}

/// So that no alert is read as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Silence,
}

/// Which alerts; all that are given have to match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matchers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iot_sensor_id: Option<Uuid>,
    /// A sensor that is not registered yet: `iot_sensor_id` is the id of this name, and alerts with the name match too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Mute {
    /// One that begins to be known now.
    pub fn new(
        matchers: Matchers,
        (starts, ends): (DateTime<Utc>, DateTime<Utc>),
        by: String,
        comment: Option<String>,
    ) -> Self {
        let (kind, id, noted_timestamp) = (Kind::Silence, Uuid::new_v4(), Utc::now());
        Self { kind, id, matchers, starts, ends, by, comment, noted_timestamp }
    }

    /// The same, with its end now.
    #[must_use]
    pub fn ended(&self, by: String) -> Self {
        let now = Utc::now();
        Self {
            ends: now.min(self.ends),
            starts: self.starts.min(now),
            by,
            noted_timestamp: now,
            ..self.clone()
        }
    }

    /// Whether it holds back an alert at this time.
    pub fn holds(&self, alert: &Alert, at: DateTime<Utc>) -> bool {
        (self.starts..self.ends).contains(&at) && self.matchers.match_alert(alert)
    }
}

impl Matchers {
    /// Whether any alert matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn match_alert(&self, alert: &Alert) -> bool {
        self.rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && self.iot_sensor_id.is_none_or(|sensor| sensor == alert.iot_sensor_id || self.is_named(alert))
            && self.location.as_ref().is_none_or(|location| *location == alert.location)
            && self.device_type.as_ref().is_none_or(|device_type| *device_type == alert.device_type)
            && self.labels.iter().all(|(name, value)| alert.labels.get(name) == Some(value))
    }

    fn is_named(&self, alert: &Alert) -> bool {
        self.sensor_name.is_some() && self.sensor_name == alert.sensor_name
    }

    /// "rule=hot, location=plant-3"; the sensor by its name, if it has one.
    pub fn text(&self, sensor_name: Option<&str>) -> String {
        let id = self.iot_sensor_id.map(|sensor| sensor.to_string());
        let sensor = id.map(|id| sensor_name.or(self.sensor_name.as_deref()).map_or(id, str::to_owned));
        let fields = [
            ("rule", self.rule.as_deref()),
            ("sensor", sensor.as_deref()),
            ("location", self.location.as_deref()),
            ("device_type", self.device_type.as_deref()),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let all: Vec<_> = fields.chain(labels).collect();
        if all.is_empty() { "all alerts".to_owned() } else { all.join(", ") }
    }
}

/// The silences that are known.
#[derive(Debug, Clone, Default)]
pub struct Mutes(HashMap<Uuid, Mute>);

impl Mutes {
    pub fn add(&mut self, mute: Mute) {
        let Self(known) = self;
        if known.len() >= MOST && !known.contains_key(&mute.id) {
            let now = Utc::now();
            known.retain(|_, mute| mute.ends > now);
            if known.len() >= MOST {
                return;
            }
        }
        if known.get(&mute.id).is_none_or(|known| known.noted_timestamp <= mute.noted_timestamp) {
            known.insert(mute.id, mute);
        }
    }

    pub fn get(&self, id: Uuid) -> Option<&Mute> {
        self.0.get(&id)
    }

    /// The one that holds an alert back for longest.
    pub fn holding(&self, alert: &Alert, at: DateTime<Utc>) -> Option<&Mute> {
        self.0.values().filter(|mute| mute.holds(alert, at)).max_by_key(|mute| (mute.ends, mute.id))
    }

    /// Whether one that ended since `after` held back an alert of the time before.
    pub fn has_released(&self, alert: &Alert, after: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.0.values().any(|mute| {
            (after..=now).contains(&mute.ends)
                && mute.starts < mute.ends
                && alert.detected_timestamp < mute.ends
                && mute.matchers.match_alert(alert)
        })
    }

    /// Those that are not over, by their end.
    pub fn open(&self, now: DateTime<Utc>) -> Vec<&Mute> {
        let mut open: Vec<_> = self.0.values().filter(|mute| mute.ends > now).collect();
        open.sort_by_key(|mute| (mute.ends, mute.id));
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::{State, example};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap_or_default()
    }

    fn mute(matchers: Matchers, from: i64, to: i64) -> Mute {
        Mute::new(matchers, (at(from), at(to)), "ada".to_owned(), None)
    }

    fn of_rule(rule: &str) -> Matchers {
        Matchers { rule: Some(rule.to_owned()), ..Matchers::default() }
    }

    #[test]
    fn a_silence_holds_what_matches_all_of_it_from_its_start_to_its_end() {
        let mut alert = example("hot", 1, State::Firing, 5);
        let silence = mute(of_rule("hot"), 10, 20);
        assert_eq!([9, 10, 19, 20].map(|now| silence.holds(&alert, at(now))), [false, true, true, false]);
        let labels = BTreeMap::from([("team".to_owned(), "cooling".to_owned())]);
        let narrow = mute(Matchers { labels, ..of_rule("hot") }, 10, 20);
        assert!(!narrow.holds(&alert, at(15)));
        alert.labels.insert("team".to_owned(), "cooling".to_owned());
        assert!(narrow.holds(&alert, at(15)));
        let elsewhere = Matchers { location: Some("plant-2".to_owned()), ..of_rule("hot") };
        assert!(!mute(elsewhere, 10, 20).holds(&alert, at(15)));
        assert!(mute(Matchers::default(), 10, 20).holds(&alert, at(15)));
    }

    #[test]
    fn a_silence_of_a_name_that_is_not_registered_holds_by_the_alerts_own_name_and_shows_it() {
        let matchers = Matchers {
            iot_sensor_id: Some(Uuid::from_u128(9)),
            sensor_name: Some("o1".to_owned()),
            ..Matchers::default()
        };
        let mut alert = example("hot", 1, State::Firing, 5);
        assert!(!matchers.match_alert(&alert));
        alert.sensor_name = Some("o1".to_owned());
        assert!(matchers.match_alert(&alert));
        assert_eq!(matchers.text(None), "sensor=o1");
        assert_eq!(matchers.text(Some("boiler")), "sensor=boiler");
    }

    #[test]
    fn the_newest_record_of_a_silence_counts_in_any_order() {
        let alert = example("hot", 1, State::Firing, 5);
        let now = Utc::now();
        let long =
            Mute::new(of_rule("hot"), (at(0), now + chrono::TimeDelta::hours(1)), "ada".to_owned(), None);
        let ended = long.ended("bob".to_owned());
        for records in [[&long, &ended], [&ended, &long]] {
            let mut mutes = Mutes::default();
            records.into_iter().for_each(|record| mutes.add(record.clone()));
            assert_eq!(mutes.holding(&alert, Utc::now()), None);
            assert!(mutes.open(Utc::now()).is_empty());
            assert!(mutes.has_released(&alert, now - chrono::TimeDelta::hours(1), Utc::now()));
        }
    }

    #[test]
    fn a_record_is_read_as_what_it_is() {
        use crate::alerting::topic::Record;
        let silence = mute(of_rule("hot"), 1, 2);
        let read = Record::read(&serde_json::to_vec(&silence).unwrap());
        assert_eq!(read, Some(Record::Silence(Box::new(silence))));
    }
}
