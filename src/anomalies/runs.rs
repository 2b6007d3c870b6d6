//! Consecutive findings are one anomaly: people act on events, not on points.

use super::{Anomaly, Finding};

/// Joins one sensor's findings, given in order of time.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    open: Option<Anomaly>,
}

impl Runs {
    /// Adds a finding. Returns the previous anomaly if this finding starts a new one, because more than `quiet`
    /// milliseconds lie in between.
    pub fn add(&mut self, finding: Finding, quiet: i64) -> Option<Anomaly> {
        let at = finding.point.at;
        match &mut self.open {
            Some(open) if at.saturating_sub(open.to) <= quiet => {
                open.to = at;
                open.points += 1;
                if finding.severity() > open.worst.severity() {
                    open.worst = finding;
                }
                None
            }
            _ => self.open.replace(Anomaly { from: at, to: at, points: 1, worst: finding }),
        }
    }

    /// Ends the open anomaly.
    pub fn end(&mut self) -> Option<Anomaly> {
        self.open.take()
    }
}

/// All anomalies of one sensor's findings.
pub fn join(findings: impl IntoIterator<Item = Finding>, quiet: i64) -> Vec<Anomaly> {
    let mut runs = Runs::default();
    let mut anomalies: Vec<Anomaly> =
        findings.into_iter().filter_map(|finding| runs.add(finding, quiet)).collect();
    anomalies.extend(runs.end());
    anomalies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Point;

    fn finding(at: i64, score: f64) -> Finding {
        Finding { point: Point { at, value: score }, expected: 0.0, score: Some(score) }
    }

    #[test]
    fn findings_close_to_each_other_are_one_anomaly_with_its_worst_moment() {
        let found = join([finding(0, 7.0), finding(10, -9.0), finding(20, 8.0), finding(31, 7.0)], 10);
        let shape: Vec<_> =
            found.iter().map(|run| (run.from, run.to, run.points, run.worst.point.at)).collect();
        assert_eq!(shape, [(0, 20, 3, 10), (31, 31, 1, 31)]);
        assert!(join([], 10).is_empty());
    }
}
