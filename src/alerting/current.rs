//! What fires now: the latest state of each rule and sensor.

use std::collections::HashMap;

use uuid::Uuid;

use super::alert::{Alert, State};

/// Takes alerts in any order. Memory grows with the rules and sensors that have alerts.
#[derive(Debug, Default)]
pub struct Current {
    latest: HashMap<(String, Uuid), Alert>,
}

impl Current {
    pub fn add(&mut self, alert: Alert) {
        let key = (alert.rule.clone(), alert.iot_sensor_id);
        match self.latest.get_mut(&key) {
            // Of two alerts with the same time, the one that was sent later is the later one.
            Some(known) if known.recorded_timestamp <= alert.recorded_timestamp => *known = alert,
            Some(_) => {}
            None => {
                self.latest.insert(key, alert);
            }
        }
    }

    /// The latest alert of each rule and sensor that fires, in the order in which their episodes began.
    pub fn firing(self) -> Vec<Alert> {
        let mut firing: Vec<Alert> =
            self.latest.into_values().filter(|alert| alert.state == State::Firing).collect();
        firing.sort_by(|left, right| {
            let key = |alert: &Alert| (alert.since, alert.recorded_timestamp, alert.iot_sensor_id);
            key(left).cmp(&key(right)).then_with(|| left.rule.cmp(&right.rule))
        });
        firing
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::rules::Severity;
    use super::*;

    fn alert(rule: &str, sensor: u128, state: State, since: i64, at: i64) -> Alert {
        let moment = |at: i64| DateTime::from_timestamp(at, 0).unwrap();
        Alert {
            id: Uuid::new_v4(),
            rule: rule.to_owned(),
            severity: Severity::Warning,
            state,
            location: "plant-1".to_owned(),
            device_type: "thermostat".to_owned(),
            iot_sensor_id: Uuid::from_u128(sensor),
            sensor_name: None,
            metric: "temperature".to_owned(),
            value: 30.0,
            expected: None,
            score: None,
            recorded_timestamp: moment(at),
            since: moment(since),
            detected_timestamp: moment(at),
            message: String::new(),
        }
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
        let firing: Vec<_> =
            current.firing().into_iter().map(|alert| (alert.rule, alert.iot_sensor_id.as_u128())).collect();
        assert_eq!(firing, [("damp".to_owned(), 2), ("hot".to_owned(), 4), ("hot".to_owned(), 1)]);
    }
}
