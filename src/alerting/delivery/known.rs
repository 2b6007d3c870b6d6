//! What of an assigned partition is known: the newest alert of each rule and sensor. So a copy is left out, and a consumer
//! group that begins is told what fires now and not what was over before it began.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::alerting::alert::{Alert, State};

/// Of one partition. Alerts of a sensor are all in one.
#[derive(Debug, Default)]
pub(super) struct Known {
    newest: HashMap<(String, Uuid), Newest>,
    /// Without a committed offset: one past the last offset that was there at the assignment.
    backlog: i64,
}

#[derive(Debug)]
struct Newest {
    /// `recorded_timestamp`, in milliseconds since the epoch.
    at: i64,
    offset: i64,
    /// While it fires.
    firing: Option<Arc<Alert>>,
}

/// What to do with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Deliver,
    /// It, or a later one of its rule and sensor, came before.
    Copy,
    /// It was over before the consumer group began.
    Past,
}

/// Rules and sensors of a partition that are remembered; beyond it those that do not fire are forgotten, and a copy of their
/// last alert would be delivered.
const MOST: usize = 200_000;

impl Known {
    /// For a consumer group without a committed offset: `end` is the end of the partition.
    pub(super) fn set_backlog(&mut self, end: i64) {
        self.backlog = end;
    }

    /// Remembers an alert that was there before the assignment.
    pub(super) fn learn(&mut self, offset: i64, alert: Alert) {
        let at = alert.recorded_timestamp.timestamp_millis();
        if self.newest.len() >= MOST {
            self.newest.retain(|_, newest| newest.firing.is_some());
        }
        let key = (alert.rule.clone(), alert.iot_sensor_id);
        let is_newer = self.newest.get(&key).is_none_or(|newest| newest.at < at);
        if is_newer {
            let firing = (alert.state == State::Firing).then(|| Arc::new(alert));
            self.newest.insert(key, Newest { at, offset, firing });
        }
    }

    /// Judges the alert at the next offset of the partition.
    pub(super) fn judge(&mut self, offset: i64, alert: &Alert) -> Judgement {
        if offset < self.backlog {
            let key = (alert.rule.clone(), alert.iot_sensor_id);
            let is_newest = self.newest.get(&key).is_some_and(|newest| newest.offset == offset);
            return if is_newest && alert.state == State::Firing {
                Judgement::Deliver
            } else {
                Judgement::Past
            };
        }
        let key = (alert.rule.clone(), alert.iot_sensor_id);
        let at = alert.recorded_timestamp.timestamp_millis();
        if self.newest.get(&key).is_some_and(|newest| newest.at >= at) {
            return Judgement::Copy;
        }
        self.learn(offset, alert.clone());
        Judgement::Deliver
    }

    /// What fired when the partition was assigned, and was delivered or held back before, with its offset.
    pub(super) fn firing(&self) -> Vec<(i64, Arc<Alert>)> {
        match self.backlog {
            0 => self.newest.values().filter_map(|it| Some((it.offset, it.firing.clone()?))).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::example;

    #[test]
    fn a_copy_is_left_out_also_after_a_restart() {
        let mut known = Known::default();
        known.learn(0, example("hot", 1, State::Firing, 10));
        assert_eq!(known.judge(1, &example("hot", 1, State::Firing, 10)), Judgement::Copy);
        assert_eq!(known.judge(2, &example("hot", 1, State::Firing, 9)), Judgement::Copy);
        assert_eq!(known.judge(3, &example("hot", 2, State::Firing, 9)), Judgement::Deliver);
        assert_eq!(known.judge(4, &example("hot", 1, State::Resolved, 11)), Judgement::Deliver);
        assert_eq!(known.judge(5, &example("hot", 1, State::Resolved, 11)), Judgement::Copy);
        let firing: Vec<_> = known.firing().iter().map(|(_, alert)| alert.iot_sensor_id.as_u128()).collect();
        assert_eq!(firing, [2]);
    }

    #[test]
    fn a_group_that_begins_is_told_what_fires_now() {
        let mut known = Known::default();
        let past = [
            example("hot", 1, State::Firing, 1),
            example("hot", 1, State::Resolved, 2),
            example("hot", 2, State::Firing, 3),
        ];
        for (offset, alert) in (0..).zip(&past) {
            known.learn(offset, alert.clone());
        }
        known.set_backlog(3);
        let judged: Vec<_> = (0..).zip(&past).map(|(offset, alert)| known.judge(offset, alert)).collect();
        assert_eq!(judged, [Judgement::Past, Judgement::Past, Judgement::Deliver]);
        assert_eq!(known.judge(3, &example("hot", 1, State::Firing, 4)), Judgement::Deliver);
    }
}
