//! How good a detector is against what people labelled.

/// Counts against labelled windows, as for an alert that somebody has to look at: an anomaly that begins in a window
/// finds it, further ones in the same window count for nothing, and one that begins elsewhere is false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    pub windows: usize,
    pub found: usize,
    pub false_alarms: usize,
}

impl Score {
    /// `begins` are the anomalies' first moments, `windows` the labelled ones, both ends within.
    pub fn of(begins: impl IntoIterator<Item = i64>, windows: &[(i64, i64)]) -> Self {
        let mut found = vec![false; windows.len()];
        let mut false_alarms = 0;
        for at in begins {
            let mut is_false = true;
            for (found, (from, to)) in found.iter_mut().zip(windows) {
                if (*from..=*to).contains(&at) {
                    *found = true;
                    is_false = false;
                }
            }
            false_alarms += usize::from(is_false);
        }
        Self { windows: windows.len(), found: found.into_iter().filter(|found| *found).count(), false_alarms }
    }

    /// Several sensors' scores as one.
    pub fn add(&mut self, other: Self) {
        self.windows += other.windows;
        self.found += other.found;
        self.false_alarms += other.false_alarms;
    }

    /// Of the alarms, how many were right; `None` without an alarm.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.found, self.found + self.false_alarms)
    }

    /// Of the windows, how many were found; `None` without a window.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.found, self.windows)
    }

    /// Their harmonic mean; `None` where there is neither a window nor an alarm.
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

    #[test]
    fn one_alarm_in_a_window_counts_and_those_outside_are_false() {
        let score = Score::of([10, 11, 25, 40], &[(10, 20), (30, 35), (40, 50)]);
        assert_eq!(score, Score { windows: 3, found: 2, false_alarms: 1 });
        assert_eq!(
            (score.precision(), score.recall(), score.f1()),
            (Some(2.0 / 3.0), Some(2.0 / 3.0), Some(2.0 / 3.0))
        );
    }

    #[test]
    fn silence_has_no_precision_and_finds_nothing() {
        let score = Score::of([], &[(10, 20)]);
        assert_eq!((score.precision(), score.recall(), score.f1()), (None, Some(0.0), Some(0.0)));
    }
}
