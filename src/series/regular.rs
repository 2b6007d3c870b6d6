//! Points of one sensor, and their means on a regular grid.

use super::Mean;
use crate::time::Zone;

/// Steps of one regular series.
pub const MOST_STEPS: usize = 200_000;

/// A value and its moment, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at: i64,
    pub value: f64,
}

/// A predicted step of a regular series, with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The step's beginning, in milliseconds since the epoch.
    pub at: i64,
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// A regular series would have more than [`MOST_STEPS`] steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MOST_STEPS} steps (give a longer --step or a shorter range of time)")]
pub struct TooManySteps;

/// One sensor's means, of points that come in order of their steps.
#[derive(Debug, Default)]
pub struct Means {
    points: Vec<Point>,
    open: Option<(i64, Mean)>,
}

impl Means {
    /// Adds a value of the step that begins at `at`. Whether an earlier step was finished by that.
    pub fn add(&mut self, at: i64, value: f64) -> bool {
        match &mut self.open {
            Some((open, mean)) if *open == at => {
                mean.add(value);
                false
            }
            _ => {
                let mut mean = Mean::default();
                mean.add(value);
                let before = self.open.replace((at, mean));
                self.points.extend(before.and_then(finished));
                before.is_some()
            }
        }
    }

    pub fn finish(mut self) -> Vec<Point> {
        self.points.extend(self.open.and_then(finished));
        self.points
    }
}

fn finished((at, mean): (i64, Mean)) -> Option<Point> {
    mean.get().map(|value| Point { at, value })
}

/// Values at equal distances. NaN where nothing was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Regular {
    /// The start of the first step, a multiple of `step`: what the clock of `zone` shows, in milliseconds since 1970-01-01
    /// 00:00 on that clock. So a season of a day stays where it is when the clock is set.
    pub start: i64,
    /// Milliseconds.
    pub step: i64,
    pub values: Vec<f64>,
    pub zone: Zone,
}

impl Regular {
    /// The means of `points`, which are in order of time, within each step from the first point to the last. `None`
    /// without a point.
    pub fn of(points: &[Point], step: i64) -> Result<Option<Self>, TooManySteps> {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(None) };
        Self::within(points, step, first.at, last.at).map(Some)
    }

    /// The same with steps on the clock of a zone: an hour that comes twice is one step, and the skipped one has no value.
    pub fn on_clock(points: &[Point], step: i64, zone: Zone) -> Result<Option<Self>, TooManySteps> {
        let shown: Vec<_> = points.iter().map(|point| Point { at: zone.wall(point.at), ..*point }).collect();
        let moments = || shown.iter().map(|point| point.at);
        let (Some(from), Some(to)) = (moments().min(), moments().max()) else { return Ok(None) };
        Ok(Some(Self { zone, ..Self::within(&shown, step, from, to)? }))
    }

    /// The same as `of` from the step of `from` to the step of `to`, whatever of it was measured. Steps are those of UTC.
    pub fn within(points: &[Point], step: i64, from: i64, to: i64) -> Result<Self, TooManySteps> {
        let start = from.div_euclid(step) * step;
        let steps = to.saturating_sub(start).max(0) / step + 1;
        let length = usize::try_from(steps).ok().filter(|&steps| steps <= MOST_STEPS);
        let Some(length) = length else { return Err(TooManySteps) };
        let mut means = vec![Mean::default(); length];
        for point in points {
            let index = usize::try_from((point.at - start).div_euclid(step)).ok();
            if let Some(mean) = index.and_then(|index| means.get_mut(index)) {
                mean.add(point.value);
            }
        }
        let values = means.into_iter().map(|mean| mean.get().unwrap_or(f64::NAN)).collect();
        Ok(Self { start, step, values, zone: Zone::Utc })
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Steps with a value.
    pub fn measured(&self) -> usize {
        self.values.iter().filter(|value| !value.is_nan()).count()
    }

    /// When a step begins.
    pub fn at(&self, index: usize) -> i64 {
        self.zone.first_of(self.start + self.step * index as i64)
    }

    /// Whether the clock is set forward over the whole step, so that nothing can be measured in it.
    pub fn is_skipped(&self, index: usize) -> bool {
        self.at(index) == self.at(index + 1)
    }

    /// The values with straight lines through what is missing between two measured ones.
    pub fn filled(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        let mut before: Option<usize> = None;
        for index in 0..values.len() {
            if values[index].is_nan() {
                continue;
            }
            let from = before.map_or(0, |before| before + 1);
            for gap in from..index {
                values[gap] = match before {
                    None => values[index],
                    Some(before) => {
                        let share = (gap - before) as f64 / (index - before) as f64;
                        values[before] + share * (values[index] - values[before])
                    }
                };
            }
            before = Some(index);
        }
        if let Some(before) = before {
            let last = values[before];
            values[before + 1..].fill(last);
        }
        values
    }
}

/// The usual distance of points, rounded to what divides a day: the grid on which they lie. `None` for fewer than two.
pub fn usual_step(points: &[Point]) -> Option<i64> {
    let mut gaps: Vec<i64> =
        points.windows(2).map(|pair| pair[1].at - pair[0].at).filter(|&gap| gap > 0).collect();
    let middle = gaps.len() / 2;
    (!gaps.is_empty()).then(|| round_step(*gaps.select_nth_unstable(middle).1))
}

/// The shortest step that divides a day and is not clearly shorter than `length`, in milliseconds; a day at most.
pub fn round_step(length: i64) -> i64 {
    const SECONDS: [i64; 19] =
        [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200];
    let at_least = length - length / 10;
    SECONDS.into_iter().map(|seconds| seconds * 1_000).find(|&step| step >= at_least).unwrap_or(86_400_000)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values a minute apart.
    pub(crate) fn points(values: &[f64]) -> Vec<Point> {
        (0..).zip(values).map(|(index, &value)| Point { at: index * 60_000, value }).collect()
    }

    #[test]
    fn gaps_are_kept_as_gaps_and_filled_by_straight_lines() {
        let mut points = points(&[1.0, 2.0, 0.0, 0.0, 8.0]);
        points.drain(2..4);
        let regular = Regular::within(&points, 60_000, -60_000, 300_000).unwrap();
        assert_eq!((regular.start, regular.len(), regular.measured()), (-60_000, 7, 3));
        assert_eq!(regular.at(1), 0);
        assert_eq!(regular.filled(), [1.0, 1.0, 2.0, 4.0, 6.0, 8.0, 8.0]);
    }

    #[test]
    fn a_step_divides_a_day_and_jitter_does_not_change_it() {
        let jitter: Vec<_> =
            [0, 59_000, 121_000, 179_500, 600_000, 660_100].map(|at| Point { at, value: 0.0 }).to_vec();
        assert_eq!(usual_step(&jitter), Some(60_000));
        assert_eq!(usual_step(&jitter[..1]), None);
        for (length, step) in [(1, 1_000), (70_000, 120_000), (300_000, 300_000), (i64::MAX, 86_400_000)] {
            assert_eq!(round_step(length), step);
            assert_eq!(86_400_000 % round_step(length), 0);
        }
    }

    #[test]
    fn hours_of_a_zone_stay_in_their_place_of_the_day_when_clocks_are_set() {
        const HOUR: i64 = 3_600_000;
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (day, missing) in [("2026-10-24T22:00:00Z", 0), ("2026-03-27T23:00:00Z", 1)] {
            let from = crate::time::rfc3339(day).unwrap();
            let hour_of_day = |at: i64| berlin.wall(at).rem_euclid(24 * HOUR) / HOUR;
            let points: Vec<_> = (0..24 * 4)
                .map(|hour| from + hour * HOUR)
                .map(|at| Point { at, value: hour_of_day(at) as f64 })
                .collect();
            let series = Regular::on_clock(&points, HOUR, berlin).unwrap().unwrap();
            assert_eq!(series.values.iter().filter(|value| value.is_nan()).count(), missing);
            for (index, value) in series.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                assert_eq!(*value, (index % 24) as f64, "{day}");
                assert_eq!(hour_of_day(series.at(index)) as f64, *value);
            }
        }
        assert_eq!(Regular::on_clock(&[], HOUR, berlin), Ok(None));
    }

    #[test]
    fn a_series_of_too_many_steps_is_refused_and_not_allocated() {
        let far = [Point { at: 0, value: 1.0 }, Point { at: i64::MAX / 2, value: 1.0 }];
        assert!(matches!(Regular::of(&far, 1_000), Err(TooManySteps)));
    }

    proptest! {
        #[test]
        fn means_are_those_of_brute_force(
            mut readings in prop::collection::vec((0i64..100, -50.0f64..50.0), 1..100),
            step in 1i64..20,
        ) {
            readings.sort_by_key(|(at, _)| *at);
            let of = |bucket: i64| {
                let values: Vec<f64> =
                    readings.iter().filter(|(at, _)| at / step == bucket).map(|(_, value)| *value).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let mut means = Means::default();
            for &(at, value) in &readings {
                means.add(at.div_euclid(step) * step, value);
            }
            let expected: Vec<(i64, f64)> =
                (0..=(99 / step)).filter_map(|bucket| of(bucket).map(|mean| (bucket * step, mean))).collect();
            let found = means.finish();
            prop_assert_eq!(found.len(), expected.len());
            for (point, (at, value)) in found.iter().zip(&expected) {
                prop_assert!(point.at == *at && (point.value - value).abs() < 1e-9);
            }
            let regular = Regular::of(&found, step).unwrap();
            if let Some(regular) = regular {
                for (at, value) in expected {
                    let index = usize::try_from((at - regular.start) / step).unwrap();
                    prop_assert!((regular.values[index] - value).abs() < 1e-9);
                }
            }
        }
    }
}
