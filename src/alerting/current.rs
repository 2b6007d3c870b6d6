//! What fires now: the latest state of each rule and sensor.

use std::collections::HashMap;

use uuid::Uuid;

use super::acknowledgement::Acknowledgement;
use super::alert::{Alert, State};

/// Takes alerts in any order.
#[derive(Debug)]
pub struct Current {
    latest: HashMap<(String, Uuid), Alert>,
    acknowledged: HashMap<(String, Uuid), Acknowledgement>,
    most: usize,
}

impl Current {
    /// Of at most so many rules and sensors; alerts of further ones are not taken.
    pub fn of_at_most(most: usize) -> Self {
        Self { latest: HashMap::new(), acknowledged: HashMap::new(), most }
    }

    pub fn add(&mut self, alert: Alert) {
        let is_full = self.latest.len() >= self.most;
        let key = (alert.rule.clone(), alert.iot_sensor_id);
        match self.latest.get_mut(&key) {
            // Of two alerts with the same time, the one that was sent later is the later one.
            Some(known) if known.recorded_timestamp <= alert.recorded_timestamp => *known = alert,
            Some(_) => {}
            None if is_full => {}
            None => {
                self.latest.insert(key, alert);
            }
        }
    }

    /// Takes the acknowledgement of an episode that is known; the newest one of it counts.
    pub fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        let key = (acknowledgement.rule.clone(), acknowledgement.iot_sensor_id);
        if self.latest.get(&key).is_some_and(|alert| acknowledgement.is_of(alert)) {
            self.acknowledged.insert(key, acknowledgement);
        }
    }

    /// Who has seen the episode of an alert.
    pub fn acknowledgement(&self, alert: &Alert) -> Option<&Acknowledgement> {
        let key = (alert.rule.clone(), alert.iot_sensor_id);
        self.acknowledged.get(&key).filter(|acknowledgement| acknowledgement.is_of(alert))
    }

    /// The latest alert of each rule and sensor that fires, in the order in which their episodes began.
    pub fn firing(&self) -> Vec<&Alert> {
        let mut firing: Vec<_> = self.latest.values().filter(|alert| alert.state == State::Firing).collect();
        firing.sort_by(|left, right| {
            let key = |alert: &Alert| (alert.since, alert.recorded_timestamp, alert.iot_sensor_id);
            key(left).cmp(&key(right)).then_with(|| left.rule.cmp(&right.rule))
        });
        firing
    }
}

/// Of all rules and sensors.
impl Default for Current {
    fn default() -> Self {
        Self::of_at_most(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::alerting::alert::example;

    fn alert(rule: &str, sensor: u128, state: State, since: i64, at: i64) -> Alert {
        let since = DateTime::from_timestamp(since, 0).unwrap();
        Alert { since, ..example(rule, sensor, state, at) }
    }

    #[test]
    fn what_fires_now_is_the_latest_state_of_each_rule_and_sensor_in_order_of_time() {
        use State::{Firing, Resolved};
        let mut current = Current::default();
        for alert in [
            alert("hot", 1, Firing, 30, 35),
            alert("hot", 2, Firing, 10, 10),
            alert("hot", 2, Resolved, 10, 20),
            alert("damp", 2, Firing, 5, 5),
            alert("hot", 3, Resolved, 1, 8),
            // Sent again, after its end: a replay of the topic.
            alert("hot", 3, Firing, 1, 2),
            alert("hot", 4, Firing, 1, 2),
            alert("hot", 4, Resolved, 1, 3),
            alert("hot", 4, Firing, 20, 25),
        ] {
            current.add(alert);
        }
        assert_eq!(names(&current), [("damp", 2), ("hot", 4), ("hot", 1)]);
    }

    fn names(current: &Current) -> Vec<(&str, u128)> {
        current.firing().iter().map(|alert| (&*alert.rule, alert.iot_sensor_id.as_u128())).collect()
    }

    #[test]
    fn what_is_known_is_kept_up_to_date_when_there_is_no_room_for_more() {
        use State::{Firing, Resolved};
        let mut current = Current::of_at_most(2);
        for alert in [
            alert("hot", 1, Firing, 1, 1),
            alert("hot", 2, Firing, 2, 2),
            alert("hot", 3, Firing, 3, 3),
            alert("hot", 1, Resolved, 1, 4),
        ] {
            current.add(alert);
        }
        assert_eq!(names(&current), [("hot", 2)]);
    }

    #[test]
    fn an_acknowledgement_is_that_of_one_episode() {
        use State::{Firing, Resolved};
        let mut current = Current::default();
        let first = alert("hot", 1, Firing, 1, 2);
        current.add(first.clone());
        current.acknowledge(Acknowledgement::of(&first, "ada".to_owned(), None));
        assert_eq!(current.acknowledgement(&first).map(|seen| &*seen.by), Some("ada"));
        current.add(alert("hot", 1, Resolved, 1, 3));
        let second = alert("hot", 1, Firing, 5, 6);
        current.add(second.clone());
        assert_eq!(current.acknowledgement(&second), None);
        current.acknowledge(Acknowledgement::of(&first, "ada".to_owned(), None));
        assert_eq!(current.acknowledgement(&second), None);
    }
}
