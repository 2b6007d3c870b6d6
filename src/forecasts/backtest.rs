//! Back-tests: forecasts from past moments, each from the values before that moment only.

use super::models::{Fits, Model};
use super::{ForecastError, Plan, Seasons, intervals};
use crate::series::Regular;

/// Past moments that forecasts are made from.
pub(super) const MAX_ORIGINS: usize = 40;
const FEWEST_ORIGINS: usize = 8;
/// Maximum number of seasons in a fit: older history adds little accuracy and costs time.
const MAX_SEASONS: usize = 60;

/// A model's errors over all origins and horizons.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    pub model: Model,
    pub origins: usize,
    pub mean_absolute_error: f64,
    /// Mean absolute scaled error (Hyndman and Koehler, 2006): the mean error divided by that of repeating the value
    /// of one season ago, within the history. Below 1 the model is better than that.
    pub scaled_error: f64,
    /// The share of values that lay within intervals from earlier errors only. It should be close to the level.
    pub coverage: f64,
}

/// What a back-test found, by model.
#[derive(Debug)]
pub struct Tried {
    pub models: Vec<(Backtest, Walk)>,
    /// The models that could not be fitted.
    pub refused: Vec<ForecastError>,
}

/// One model's forecasts from past moments, in order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    pub model: Model,
    /// Indices of the first forecast step.
    pub origins: Vec<usize>,
    /// Values by origin and step ahead.
    pub points: Vec<Vec<f64>>,
    /// Absolute errors, likewise. NaN where nothing was measured.
    pub errors: Vec<Vec<f64>>,
}

impl Walk {
    /// The errors that were known at the origin of this index: of the latest [`MAX_ORIGINS`] before it, up to its moment.
    pub fn known_at(&self, index: usize) -> Vec<Vec<f64>> {
        let now = self.origins[index];
        (index.saturating_sub(MAX_ORIGINS)..index)
            .map(|earlier| {
                let is_over = |step: usize| self.origins[earlier] + step < now;
                let errors = self.errors[earlier].iter().enumerate();
                errors.map(|(step, &error)| if is_over(step) { error } else { f64::NAN }).collect()
            })
            .collect()
    }

    /// The mean absolute error of all origins.
    pub fn mean_absolute_error(&self) -> f64 {
        mean_error(&self.errors)
    }
}

/// The mean of the known errors; NaN without one.
pub(super) fn mean_error(errors: &[Vec<f64>]) -> f64 {
    mean(errors.iter().flatten().copied())
}

/// Forecasts by every model of the plan from `origins`, which are in order of time. A model that cannot be fitted at one of
/// them is left out, with the reason.
pub fn walk(history: &Regular, plan: &Plan, origins: &[usize]) -> (Vec<Walk>, Vec<ForecastError>) {
    let empty = |&model: &Model| Walk { model, origins: Vec::new(), points: Vec::new(), errors: Vec::new() };
    let mut walks: Vec<Walk> = plan.models.iter().map(empty).collect();
    let mut refused = Vec::new();
    for &origin in origins {
        // Gaps are filled from values before the origin only: a line towards a later value would leak it.
        let known = known(history, origin, plan.seasons);
        if known.is_empty() || known.iter().any(|value| value.is_nan()) {
            continue;
        }
        let fits = Fits::new(&known, plan.seasons, plan.horizon);
        walks.retain_mut(|walk| match fits.forecast(walk.model) {
            Ok(points) => {
                let values = &history.values[origin..];
                walk.errors
                    .push(points.iter().zip(values).map(|(point, value)| (point - value).abs()).collect());
                walk.origins.push(origin);
                walk.points.push(points);
                true
            }
            Err(error) => {
                refused.push(error);
                false
            }
        });
    }
    (walks, refused)
}

/// Runs every model from up to [`MAX_ORIGINS`] moments of the past. Steps without a value do not count.
pub fn run(history: &Regular, plan: &Plan) -> Result<Tried, ForecastError> {
    let Plan { horizon, seasons, level, .. } = *plan;
    let needs = needs_before_origin(&plan.models, seasons);
    // Every model runs from the same origins, so that they can be compared.
    let possible = (history.len() + 1).saturating_sub(needs + horizon);
    if possible < FEWEST_ORIGINS {
        return Err(ForecastError::TooShort {
            has: history.len(),
            needs: needs_at_all(&plan.models, seasons, horizon),
            horizon,
        });
    }
    let origins: Vec<usize> = origins(possible).map(|index| needs + index).collect();
    let (walks, refused) = walk(history, plan, &origins);
    let naive = naive_error(history, seasons);
    let tests = walks.into_iter().map(|walk| {
        let mean_absolute_error = walk.mean_absolute_error();
        let backtest = Backtest {
            model: walk.model,
            origins: walk.origins.len(),
            mean_absolute_error,
            scaled_error: mean_absolute_error / naive,
            coverage: intervals::coverage(&walk.errors, level),
        };
        (backtest, walk)
    });
    Ok(Tried { models: tests.collect(), refused })
}

/// The mean absolute error of repeating the value of one (short) season ago, within the history.
pub fn naive_error(history: &Regular, seasons: Seasons) -> f64 {
    let season = seasons.short;
    mean(history.values.windows(season + 1).map(|window| (window[season] - window[0]).abs()))
}

/// Steps before the first moment that forecasts are made from: enough for each of the models.
pub(super) fn needs_before_origin(models: &[Model], seasons: Seasons) -> usize {
    models.iter().map(|model| model.needs(seasons)).max().unwrap_or(seasons.short)
}

/// Steps of history that a back-test needs.
pub(super) fn needs_at_all(models: &[Model], seasons: Seasons, horizon: usize) -> usize {
    needs_before_origin(models, seasons) + horizon + FEWEST_ORIGINS - 1
}

/// What a model is fitted to at `origin`: the last seasons before it, gaps filled by straight lines. NaN where nothing
/// was measured.
pub(super) fn known(history: &Regular, origin: usize, seasons: Seasons) -> Vec<f64> {
    let from = origin.saturating_sub(MAX_SEASONS * seasons.short);
    let values = history.values[from..origin].to_vec();
    Regular { values, ..*history }.filled()
}

/// Spread over all possible origins, the last included.
fn origins(possible: usize) -> impl Iterator<Item = usize> {
    let count = possible.min(MAX_ORIGINS);
    (0..count).map(move |index| possible - 1 - (count - 1 - index) * (possible - 1) / (count - 1).max(1))
}

/// NaN without a value; NaN among the values is left out.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values
        .filter(|value| !value.is_nan())
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::super::tests::history;
    use super::*;

    const DAY: Seasons = Seasons { short: 24, long: None };

    #[test]
    fn origins_reach_from_the_first_to_the_last() {
        assert_eq!(origins(3).collect::<Vec<_>>(), [0, 1, 2]);
        let many: Vec<_> = origins(1_000).collect();
        assert_eq!((many.len(), many[0], many[39]), (40, 0, 999));
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_scaled_error_is_brute_force_and_missing_values_are_no_errors() {
        let mut series = history(14);
        let filled = series.values.clone();
        let measured: Vec<usize> = (24..filled.len()).filter(|at| ![300, 324].contains(at)).collect();
        series.values[300] = f64::NAN;
        let plan = Plan { models: vec![Model::SeasonalNaive], horizon: 12, seasons: DAY, level: 0.9 };
        let Tried { models, refused } = run(&series, &plan).unwrap();
        let (found, walk) = &models[0];
        assert!(refused.is_empty());
        let all: Vec<f64> = walk.errors.iter().flatten().copied().filter(|error| !error.is_nan()).collect();
        let mae = all.iter().sum::<f64>() / all.len() as f64;
        let naive: f64 = measured.iter().map(|&at| (filled[at] - filled[at - 24]).abs()).sum();
        let naive = naive / measured.len() as f64;
        assert!((found.mean_absolute_error - mae).abs() < 1e-12);
        assert!((found.scaled_error - mae / naive).abs() < 1e-12);
        assert!(found.scaled_error > 0.5 && found.scaled_error < 1.5, "{found:?}");
        assert!((0.5..=1.0).contains(&found.coverage), "{found:?}");
    }

    #[test]
    fn what_comes_after_an_origin_does_not_change_its_forecast() {
        let mut series = history(14);
        series.values[200..240].fill(f64::NAN);
        let mut other = series.clone();
        other.values[240..].iter_mut().for_each(|value| *value += 100.0);
        for origin in [205, 220, 239, 240] {
            assert_eq!(known(&series, origin, DAY), known(&other, origin, DAY), "{origin}");
        }
        assert_ne!(known(&series, 241, DAY), known(&other, 241, DAY));
    }

    #[test]
    fn an_interval_knows_only_errors_of_values_that_had_come() {
        let walk = Walk {
            model: Model::Ets,
            origins: vec![10, 12, 13],
            points: vec![vec![0.0; 3]; 3],
            errors: vec![vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0], vec![7.0, 8.0, 9.0]],
        };
        let known = walk.known_at(2);
        assert_eq!(known[0], [1.0, 2.0, 3.0]);
        assert!(known[1][0] == 4.0 && known[1][1].is_nan() && known[1][2].is_nan(), "{known:?}");
        assert!(walk.known_at(0).is_empty());
    }
}
