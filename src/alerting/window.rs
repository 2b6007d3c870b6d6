//! What a rule remembers of a sensor's values, in bounded memory, and its judgement of the next value.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::rules::{Band, Change, Condition, Lasts, Rate, RobustZ, Stuck, Threshold};
use super::verdict::{Standing, Verdict};
use crate::anomalies::online::Online;
use crate::series::Rolling;

/// Minimum number of values before a robust z-score is judged; a shorter window has to be full.
const MIN_VALUES: usize = 30;
/// Number of parts of the time of a change; the lowest and the highest value of each are kept.
pub(super) const PARTS: i64 = 64;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Window {
    /// A threshold needs no memory.
    None,
    Values(Rolling),
    Online(Box<Online>),
    Parts(VecDeque<Part>),
    /// The last value and its time.
    Last(Option<(i64, f64)>),
    Run(Option<Run>),
}

/// Successive values that are the same within a tolerance.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Run {
    since: i64,
    newest: i64,
    lowest: f64,
    highest: f64,
    count: u64,
}

/// The lowest and highest value of a part of the time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Part {
    first_at: i64,
    lowest: f64,
    highest: f64,
}

impl Window {
    pub(super) fn new(condition: &Condition) -> Self {
        match condition {
            Condition::Threshold(_) | Condition::Band(_) | Condition::Silent(_) | Condition::Peers(_) => {
                Self::None
            }
            Condition::Rate(_) => Self::Last(None),
            Condition::Stuck(_) => Self::Run(None),
            Condition::RobustZ(_) => Self::Values(Rolling::default()),
            Condition::Change(_) => Self::Parts(VecDeque::new()),
            Condition::Online(rule) => Self::Online(Box::new(Online::new(rule.sensitivity))),
        }
    }

    /// Judges a value by those before it, then remembers it. Values come in order of time.
    pub(super) fn judge(&mut self, condition: &Condition, at: i64, value: f64) -> Verdict {
        match (condition, self) {
            (Condition::RobustZ(rule), Self::Values(values)) => judge_robust_z(rule, values, value),
            (Condition::Change(rule), Self::Parts(parts)) => judge_change(rule, parts, at, value),
            (Condition::Online(_), Self::Online(online)) => judge_online(online, at, value),
            (Condition::Rate(rule), Self::Last(last)) => judge_rate(rule, last, at, value),
            (Condition::Stuck(rule), Self::Run(run)) => judge_stuck(rule, run, at, value),
            (Condition::Threshold(rule), _) => judge_threshold(rule, value),
            (Condition::Band(rule), _) => judge_band(rule, at, value),
            // A window always belongs to its own condition; these two are judged elsewhere.
            _ => Verdict::CLEAR,
        }
    }
}

/// Nothing is said of a value without one shortly before it.
fn judge_rate(rule: &Rate, last: &mut Option<(i64, f64)>, at: i64, value: f64) -> Verdict {
    match last.replace((at, value)) {
        Some((before, earlier)) if at - before <= rule.max_gap => {
            let rate = (value - earlier) / (at - before) as f64 * rule.per.length();
            Verdict { measured: Some(rate), ..judge_threshold(&rule.limits, rate) }
        }
        _ => Verdict::UNKNOWN,
    }
}

fn judge_stuck(rule: &Stuck, run: &mut Option<Run>, at: i64, value: f64) -> Verdict {
    let longer = run.and_then(|run| {
        let (lowest, highest) = (run.lowest.min(value), run.highest.max(value));
        let goes_on = highest - lowest <= rule.tolerance && at.saturating_sub(run.newest) <= rule.max_gap;
        goes_on.then(|| Run { newest: at, lowest, highest, count: run.count + 1, ..run })
    });
    let run =
        run.insert(longer.unwrap_or(Run { since: at, newest: at, lowest: value, highest: value, count: 1 }));
    let (measured, is_stuck) = match rule.lasts {
        Lasts::Readings(readings) => (run.count as f64, run.count >= readings),
        Lasts::Time(time) => ((at - run.since) as f64, run.count > 1 && at - run.since >= time),
    };
    let standing = if is_stuck { Standing::Breach } else { Standing::Clear };
    Verdict { standing, measured: Some(measured), ..Verdict::CLEAR }
}

fn judge_band(rule: &Band, at: i64, value: f64) -> Verdict {
    let now = rule.hours.iter().find(|(weekly, _)| weekly.contains(rule.zone, at));
    now.map_or(Verdict::CLEAR, |(_, limits)| judge_threshold(limits, value))
}

pub(super) fn judge_threshold(rule: &Threshold, value: f64) -> Verdict {
    let beyond = |by: f64| {
        let above = rule.above.filter(|limit| value > limit - by);
        above.or_else(|| rule.below.filter(|limit| value < limit + by))
    };
    if let Some(limit) = beyond(0.0) {
        return Verdict { standing: Standing::Breach, expected: Some(limit), ..Verdict::CLEAR };
    }
    // A value exactly at the hysteresis ends the episode.
    match beyond(rule.hysteresis) {
        Some(limit) => Verdict { standing: Standing::Near, expected: Some(limit), ..Verdict::CLEAR },
        None => Verdict { expected: rule.above.or(rule.below), ..Verdict::CLEAR },
    }
}

fn judge_robust_z(rule: &RobustZ, values: &mut Rolling, value: f64) -> Verdict {
    let count = values.len();
    let centre = if count >= MIN_VALUES.min(rule.readings) { values.centre() } else { None };
    values.remember(value, rule.readings);
    let Some(centre) = centre else { return Verdict::CLEAR };
    let score = centre.score_of_another(value, count, rule.min_deviation);
    let is_far = score.is_some_and(|score| score.abs() > rule.sensitivity.deviations());
    let standing = if is_far { Standing::Breach } else { Standing::Clear };
    Verdict { standing, expected: Some(centre.median), score, ..Verdict::CLEAR }
}

/// An alarm begins an episode; the readings that belong to it keep it, and the last of them ends it.
fn judge_online(online: &mut Online, at: i64, value: f64) -> Verdict {
    let judgement = online.judge(at, value);
    let standing = match judgement.is_resting {
        true => Standing::Near,
        false if judgement.is_alarm() => Standing::Breach,
        false => Standing::Clear,
    };
    Verdict { standing, score: Some(judgement.score), cause: Some(judgement.cause), ..Verdict::CLEAR }
}

fn judge_change(rule: &Change, parts: &mut VecDeque<Part>, at: i64, value: f64) -> Verdict {
    let since = at.saturating_sub(rule.within);
    while parts.front().is_some_and(|part| part.first_at < since) {
        parts.pop_front();
    }
    let lowest = parts.iter().map(|part| part.lowest).fold(value, f64::min);
    let highest = parts.iter().map(|part| part.highest).fold(value, f64::max);
    let width = (rule.within / PARTS).max(1);
    match parts.back_mut() {
        Some(part) if at.div_euclid(width) == part.first_at.div_euclid(width) => {
            part.lowest = part.lowest.min(value);
            part.highest = part.highest.max(value);
        }
        _ => parts.push_back(Part { first_at: at, lowest: value, highest: value }),
    }
    let rise = value - lowest;
    let fall = highest - value;
    let breach =
        |expected: f64| Verdict { standing: Standing::Breach, expected: Some(expected), ..Verdict::CLEAR };
    match rule {
        Change { rise: Some(limit), .. } if rise > *limit => breach(lowest),
        Change { fall: Some(limit), .. } if fall > *limit => breach(highest),
        _ => Verdict::CLEAR,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::anomalies::Sensitivity;

    proptest! {
        #[test]
        fn a_change_is_that_of_a_full_look_back(values in prop::collection::vec(-9i16..9, 1..60)) {
            // With one value per part the look back is exact.
            let rule = Change { rise: Some(5.0), fall: Some(7.0), within: 10 * PARTS };
            let mut parts = VecDeque::new();
            for (index, value) in values.iter().enumerate() {
                let at = index as i64 * 64;
                let standing = judge_change(&rule, &mut parts, at, f64::from(*value)).standing;
                let back = &values[index.saturating_sub(10)..=index];
                let rise = value - back.iter().min().unwrap();
                let fall = back.iter().max().unwrap() - value;
                prop_assert_eq!(standing == Standing::Breach, rise > 5 || fall > 7);
                prop_assert!(parts.len() as i64 <= PARTS + 1);
            }
        }
    }

    #[test]
    fn a_change_among_many_values_is_kept_in_bounded_memory() {
        let rule = Change { rise: Some(50.0), fall: None, within: 6_400 };
        let mut parts = VecDeque::new();
        let mut breaches = Vec::new();
        for at in 0..10_000 {
            let value = if at == 4_000 { 60.0 } else { 0.0 };
            if judge_change(&rule, &mut parts, at, value).standing == Standing::Breach {
                breaches.push(at);
            }
            assert!(parts.len() as i64 <= PARTS + 1);
        }
        assert_eq!(breaches, [4_000]);
    }

    #[test]
    fn values_that_never_change_are_never_unusual() {
        let rule = RobustZ { readings: 40, sensitivity: Sensitivity::DEFAULT, min_deviation: 0.0 };
        let mut values = Rolling::default();
        assert!((0..100).all(|_| judge_robust_z(&rule, &mut values, 5.0).standing == Standing::Clear));
    }
}
