//! Back-tests: forecasts from past moments, each from the values before that moment only.

use super::models::Model;
use super::{ForecastError, Plan};
use crate::series::Regular;

/// Past moments that forecasts are made from.
const MAX_ORIGINS: usize = 40;
const FEWEST_ORIGINS: usize = 8;
/// Minimum number of errors behind an interval. Where a step has fewer, its neighbours' errors are used too.
const FEWEST_ERRORS: usize = 20;
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

/// Absolute errors by how many steps ahead (from 0), in order of the origins. NaN where nothing was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors {
    by_step: Vec<Vec<f64>>,
}

/// Runs a model from up to [`MAX_ORIGINS`] moments of the past. Steps without a value do not count.
pub fn run(history: &Regular, model: Model, plan: &Plan) -> Result<(Backtest, Errors), ForecastError> {
    let Plan { horizon, season, level, .. } = *plan;
    let needs = needs_before_origin(&plan.models, season);
    // Every model runs from the same origins, so that they can be compared.
    let possible = (history.len() + 1).saturating_sub(needs + horizon);
    if possible < FEWEST_ORIGINS {
        return Err(ForecastError::TooShort {
            has: history.len(),
            needs: needs_at_all(&plan.models, season, horizon),
            horizon,
        });
    }
    let origins: Vec<usize> = origins(possible).map(|index| needs + index).collect();
    let mut errors = Errors { by_step: vec![Vec::with_capacity(origins.len()); horizon] };
    for &origin in &origins {
        // Gaps are filled from values before the origin only: a line towards a later value would leak it.
        let known = known(history, origin, season);
        if known.iter().any(|value| value.is_nan()) {
            continue;
        }
        let forecast = model.forecast(&known, season, horizon)?;
        for (step, value) in forecast.iter().enumerate() {
            errors.by_step[step].push((value - history.values[origin + step]).abs());
        }
    }
    let mean_absolute_error = mean(errors.by_step.iter().flatten().copied());
    let naive = history.values.windows(season + 1).map(|window| (window[season] - window[0]).abs());
    let backtest = Backtest {
        model,
        origins: errors.by_step.first().map_or(0, Vec::len),
        mean_absolute_error,
        scaled_error: mean_absolute_error / mean(naive),
        coverage: errors.coverage(level),
    };
    Ok((backtest, errors))
}

/// Steps before the first moment that forecasts are made from: enough for each of the models.
fn needs_before_origin(models: &[Model], season: usize) -> usize {
    models.iter().map(|model| model.needs(season)).max().unwrap_or(season)
}

/// Steps of history that a back-test needs.
pub(super) fn needs_at_all(models: &[Model], season: usize, horizon: usize) -> usize {
    needs_before_origin(models, season) + horizon + FEWEST_ORIGINS - 1
}

/// What a model is fitted to at `origin`: the last seasons before it, gaps filled by straight lines. NaN where nothing
/// was measured.
pub(super) fn known(history: &Regular, origin: usize, season: usize) -> Vec<f64> {
    let from = origin.saturating_sub(MAX_SEASONS * season);
    let values = history.values[from..origin].to_vec();
    Regular { start: history.at(from), step: history.step, values }.filled()
}

/// Spread over all possible origins, the last included.
fn origins(possible: usize) -> impl Iterator<Item = usize> {
    let count = possible.min(MAX_ORIGINS);
    (0..count).map(move |index| possible - 1 - (count - 1 - index) * (possible - 1) / (count - 1).max(1))
}

impl Errors {
    /// Half the width of the interval at each step: it contains a share `level` of the errors, and never becomes
    /// narrower farther ahead.
    pub fn widths(&self, level: f64) -> Vec<f64> {
        let mut widest = 0.0_f64;
        (0..self.by_step.len())
            .map(|step| {
                widest = widest.max(quantile(self.around(step), level));
                widest
            })
            .collect()
    }

    /// The share of values of the later half of the origins that intervals from the errors of the earlier half
    /// contain. It estimates what today's intervals will contain, if the series stays as it is.
    fn coverage(&self, level: f64) -> f64 {
        let origins = self.by_step.first().map_or(0, Vec::len);
        let earlier =
            Self { by_step: self.by_step.iter().map(|errors| errors[..origins / 2].to_vec()).collect() };
        let widths = earlier.widths(level);
        let held = self.by_step.iter().zip(&widths).flat_map(|(errors, width)| {
            let measured = errors[origins / 2..].iter().filter(|error| !error.is_nan());
            measured.map(move |error| f64::from(u8::from(error <= width)))
        });
        mean(held)
    }

    /// The errors at a step, and at its neighbours if it has too few.
    fn around(&self, step: usize) -> Vec<f64> {
        let mut reach = 0;
        loop {
            let from = step.saturating_sub(reach);
            let to = (step + reach + 1).min(self.by_step.len());
            let errors = self.by_step[from..to].iter().flatten();
            let errors: Vec<f64> = errors.copied().filter(|error| !error.is_nan()).collect();
            if errors.len() >= FEWEST_ERRORS || to - from == self.by_step.len() {
                return errors;
            }
            reach += 1;
        }
    }
}

/// The error that a share `level` of all future ones does not exceed, by conformal prediction: with `n` errors it is the
/// one of rank `level * (n + 1)`, or the largest.
fn quantile(mut errors: Vec<f64>, level: f64) -> f64 {
    errors.sort_unstable_by(f64::total_cmp);
    let rank = (level * (errors.len() + 1) as f64).ceil() as usize;
    errors.get(rank.clamp(1, errors.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
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
        let plan = Plan { models: Vec::new(), horizon: 12, season: 24, level: 0.9 };
        let (found, errors) = run(&series, Model::SeasonalNaive, &plan).unwrap();
        let all: Vec<f64> =
            errors.by_step.iter().flatten().copied().filter(|error| !error.is_nan()).collect();
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
            assert_eq!(known(&series, origin, 24), known(&other, origin, 24), "{origin}");
        }
        assert_ne!(known(&series, 241, 24), known(&other, 241, 24));
    }

    #[test]
    fn intervals_never_narrow_and_hold_their_share() {
        let errors =
            Errors { by_step: (1..=6).map(|step| (0..40).map(|n| f64::from(step * n)).collect()).collect() };
        let widths = errors.widths(0.9);
        assert!(widths.windows(2).all(|pair| pair[0] <= pair[1]), "{widths:?}");
        assert_eq!(widths[0], 36.0);
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.95), 3.0);
    }
}
