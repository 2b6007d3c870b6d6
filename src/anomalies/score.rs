//! Precision, recall and F1 of a detector against labelled windows.

use std::collections::HashMap;

use uuid::Uuid;

use super::Anomaly;
use super::labels::Label;

/// Counts against labelled windows, as for an alert that a person has to look at: an anomaly within a window finds it,
/// further anomalies in the same window do not count, and an anomaly outside of all windows is false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    pub windows: usize,
    pub found: usize,
    pub false_alarms: usize,
}

impl Score {
    /// The score of these anomalies. A window without a sensor applies to all sensors.
    pub fn of<'a>(anomalies: impl IntoIterator<Item = (Uuid, &'a Anomaly)>, labels: &[Label]) -> Self {
        let mut by_sensor: HashMap<Option<Uuid>, Vec<usize>> = HashMap::new();
        for (index, label) in labels.iter().enumerate() {
            by_sensor.entry(label.sensor).or_default().push(index);
        }
        let mut found = vec![false; labels.len()];
        let mut false_alarms = 0;
        for (sensor, anomaly) in anomalies {
            let of_sensor = by_sensor.get(&Some(sensor)).into_iter().chain(by_sensor.get(&None)).flatten();
            let mut is_false = true;
            for &index in of_sensor {
                if anomaly.from <= labels[index].to && labels[index].from <= anomaly.to {
                    found[index] = true;
                    is_false = false;
                }
            }
            false_alarms += usize::from(is_false);
        }
        Self { windows: labels.len(), found: found.into_iter().filter(|found| *found).count(), false_alarms }
    }

    /// Precision: the share of alarms that were right; `None` without an alarm.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.found, self.found + self.false_alarms)
    }

    /// Recall: the share of windows that were found; `None` without a window.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.found, self.windows)
    }

    /// F1: the harmonic mean of both; `None` without windows and alarms.
    pub fn f1(&self) -> Option<f64> {
        ratio(2 * self.found, self.found + self.windows + self.false_alarms)
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomalies::Finding;
    use crate::series::Point;

    fn anomaly(from: i64, to: i64) -> Anomaly {
        let worst = Finding { point: Point { at: from, value: 0.0 }, expected: 0.0, score: None };
        Anomaly { from, to, points: 1, worst }
    }

    fn label(sensor: Option<u128>, from: i64, to: i64) -> Label {
        Label { sensor: sensor.map(Uuid::from_u128), from, to }
    }

    #[test]
    fn one_alarm_in_a_window_counts_and_those_outside_are_false() {
        let labels = [label(None, 10, 20), label(None, 30, 35), label(None, 40, 50)];
        let anomalies = [anomaly(5, 10), anomaly(11, 12), anomaly(25, 29), anomaly(40, 60)];
        let score = Score::of(anomalies.iter().map(|anomaly| (Uuid::nil(), anomaly)), &labels);
        assert_eq!(score, Score { windows: 3, found: 2, false_alarms: 1 });
        assert_eq!(
            (score.precision(), score.recall(), score.f1()),
            (Some(2.0 / 3.0), Some(2.0 / 3.0), Some(2.0 / 3.0))
        );
    }

    #[test]
    fn another_sensors_window_is_not_found() {
        let labels = [label(Some(1), 10, 10), label(Some(2), 10, 10)];
        let found = anomaly(10, 10);
        let score = Score::of([(Uuid::from_u128(1), &found), (Uuid::from_u128(3), &found)], &labels);
        assert_eq!(score, Score { windows: 2, found: 1, false_alarms: 1 });
    }

    #[test]
    fn silence_has_no_precision_and_finds_nothing() {
        let score = Score::of([], &[label(None, 10, 20)]);
        assert_eq!((score.precision(), score.recall(), score.f1()), (None, Some(0.0), Some(0.0)));
    }
}
