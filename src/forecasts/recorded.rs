//! How good forecasts of a recorded series have been, origin by origin. Each forecast and interval is made from what was
//! known at its origin.

use super::backtest::{self, MAX_ORIGINS, Walk};
use super::intervals;
use super::{ForecastError, Model, Plan, Seasons};
use crate::series::Regular;

/// Origins whose errors come before the first interval.
const WARM_UP: usize = 8;

/// How good a model's forecasts have been.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// `None` for the choice that `auto` makes at each origin.
    pub model: Option<Model>,
    pub origins: usize,
    /// Mean absolute error divided by that of repeating the value of one season ago, within the whole series.
    pub scaled_error: f64,
    /// Symmetric mean absolute percentage error, from 0 to 200.
    pub percentage_error: f64,
    pub root_mean_square: f64,
    /// The share of values within their intervals.
    pub coverage: f64,
    /// The mean width of the intervals, in the unit of the values.
    pub width: f64,
    pub steps: Vec<ScoredStep>,
}

/// A forecast of a past value. Moments are in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredStep {
    pub origin: i64,
    pub at: i64,
    pub value: f64,
    pub forecast: f64,
    pub low: f64,
    pub high: f64,
}

/// Scores each model of the plan, and the choice among them, from the last `origins` origins that are `every` steps apart.
/// Earlier ones, up to 40, are for the intervals and the choice alone.
///
/// # Errors
/// A series that is too short, or a single model that cannot be fitted.
pub fn score(
    history: &Regular,
    plan: &Plan,
    origins: usize,
    every: usize,
) -> Result<(Vec<Score>, Vec<ForecastError>), ForecastError> {
    let plan = Plan { seasons: fitting(history, plan, origins, every), ..plan.clone() };
    let all = places(history.len(), &plan, every, origins + MAX_ORIGINS);
    if all.len() <= WARM_UP {
        let needs = needs(&plan, WARM_UP, every);
        return Err(ForecastError::TooShort { has: history.len(), needs, horizon: plan.horizon });
    }
    let (walks, mut refused) = backtest::walk(history, &plan, &all);
    if plan.models.len() == 1 && !refused.is_empty() {
        return Err(refused.remove(0));
    }
    let Some(made) = walks.first().map(|walk| walk.origins.len()) else { return Ok((Vec::new(), refused)) };
    let first = made.saturating_sub(origins).max(WARM_UP.min(made));
    let naive = backtest::naive_error(history, plan.seasons);
    let of = |model: Option<Model>, pick: &dyn Fn(usize) -> usize| {
        let steps = (first..made).flat_map(|index| steps(history, &walks[pick(index)], index, plan.level));
        figures(model, made - first, steps.collect(), naive)
    };
    let mut scores: Vec<Score> =
        walks.iter().enumerate().map(|(at, walk)| of(Some(walk.model), &|_| at)).collect();
    if walks.len() > 1 {
        scores.push(of(None, &|index| best_at(&walks, index)));
    }
    Ok((scores, refused))
}

/// The model with the smallest mean absolute error that is known at this origin.
fn best_at(walks: &[Walk], index: usize) -> usize {
    let errors = walks.iter().map(|walk| backtest::mean_error(&walk.known_at(index)));
    errors.enumerate().min_by(|(_, left), (_, right)| left.total_cmp(right)).map_or(0, |(at, _)| at)
}

fn steps(history: &Regular, walk: &Walk, index: usize, level: f64) -> Vec<ScoredStep> {
    let origin = walk.origins[index];
    let widths = intervals::widths(&walk.known_at(index), level);
    let steps = walk.points[index].iter().zip(&widths).enumerate();
    let steps = steps.map(|(step, (&forecast, width))| ScoredStep {
        origin: history.at(origin),
        at: history.at(origin + step),
        value: history.values[origin + step],
        forecast,
        low: forecast - width,
        high: forecast + width,
    });
    steps.filter(|step| !step.value.is_nan()).collect()
}

fn figures(model: Option<Model>, origins: usize, steps: Vec<ScoredStep>, naive: f64) -> Score {
    let mean = |of: &dyn Fn(&ScoredStep) -> f64| steps.iter().map(of).sum::<f64>() / steps.len() as f64;
    let error = |step: &ScoredStep| (step.forecast - step.value).abs();
    Score {
        model,
        origins,
        scaled_error: mean(&error) / naive,
        percentage_error: mean(&|step| {
            let size = step.forecast.abs() + step.value.abs();
            if size > 0.0 { 200.0 * error(step) / size } else { 0.0 }
        }),
        root_mean_square: mean(&|step| error(step).powi(2)).sqrt(),
        coverage: mean(&|step| f64::from(u8::from((step.low..=step.high).contains(&step.value)))),
        width: mean(&|step| step.high - step.low),
        steps,
    }
}

/// Up to `count` origins, `every` steps apart, the last one a horizon before the end; in order of time.
fn places(length: usize, plan: &Plan, every: usize, count: usize) -> Vec<usize> {
    let earliest = backtest::needs_before_origin(&plan.models, plan.seasons);
    let last = length.checked_sub(plan.horizon).filter(|&last| last >= earliest);
    let Some(last) = last else { return Vec::new() };
    let count = count.min((last - earliest) / every.max(1) + 1);
    (0..count).rev().map(|index| last - index * every).collect()
}

/// Steps of `earlier` origins and one that is scored.
fn needs(plan: &Plan, earlier: usize, every: usize) -> usize {
    backtest::needs_before_origin(&plan.models, plan.seasons) + earlier * every + plan.horizon
}

/// The seasons without the long one, where it would leave fewer origins than are asked for.
fn fitting(history: &Regular, plan: &Plan, origins: usize, every: usize) -> Seasons {
    let is_enough = history.len() + every >= needs(plan, WARM_UP + origins, every);
    Seasons { long: plan.seasons.long.filter(|_| is_enough), ..plan.seasons }
}

#[cfg(test)]
mod tests {
    use super::super::tests::history;
    use super::*;

    fn plan(models: Vec<Model>) -> Plan {
        Plan { models, horizon: 24, seasons: Seasons { short: 24, long: None }, level: 0.9 }
    }

    #[test]
    fn a_seasonal_naive_score_is_brute_force() {
        let series = history(30);
        let (scores, refused) = score(&series, &plan(vec![Model::SeasonalNaive]), 5, 25).unwrap();
        assert!(refused.is_empty());
        let [found] = &scores[..] else { panic!("one model and no choice: {scores:?}") };
        assert_eq!((found.origins, found.steps.len()), (5, 5 * 24));
        let last = series.len() - 24;
        let origins: Vec<i64> = found.steps.iter().step_by(24).map(|step| step.origin).collect();
        let expected: Vec<i64> = (0..5).rev().map(|index| series.at(last - index * 25)).collect();
        assert_eq!(origins, expected);
        let mut sum = 0.0;
        for step in &found.steps {
            let at = usize::try_from(step.at / series.step).unwrap();
            let origin = usize::try_from(step.origin / series.step).unwrap();
            assert_eq!(step.value, series.values[at]);
            assert_eq!(step.forecast, series.values[origin - 24 + (at - origin) % 24]);
            assert!(step.low < step.forecast && step.forecast < step.high);
            sum += (step.forecast - step.value).abs();
        }
        let naive: f64 =
            (24..series.len()).map(|at| (series.values[at] - series.values[at - 24]).abs()).sum();
        let mase = (sum / 120.0) / (naive / (series.len() - 24) as f64);
        assert!((found.scaled_error - mase).abs() < 1e-9, "{} {mase}", found.scaled_error);
    }

    #[test]
    fn what_comes_after_an_origin_changes_no_forecast_and_no_interval_before_it() {
        let series = history(20);
        let mut other = series.clone();
        let end = other.len() - 24;
        other.values[end..].iter_mut().for_each(|value| *value += 50.0);
        let of = |series: &Regular| score(series, &plan(Model::QUICK.to_vec()), 3, 24).unwrap().0;
        for (left, right) in of(&series).iter().zip(&of(&other)) {
            assert_eq!(left.model, right.model);
            for (left, right) in left.steps.iter().zip(&right.steps) {
                assert_eq!((left.forecast, left.low, left.high), (right.forecast, right.low, right.high));
            }
        }
    }

    #[test]
    fn the_choice_is_nearly_as_good_as_the_best_model() {
        let (scores, _) = score(&history(24), &plan(Model::QUICK.to_vec()), 8, 13).unwrap();
        assert_eq!(scores.len(), Model::QUICK.len() + 1);
        let best = scores.iter().map(|score| score.scaled_error).fold(f64::INFINITY, f64::min);
        let chosen = scores.last().unwrap();
        assert!(
            chosen.model.is_none() && chosen.scaled_error < 1.25 * best,
            "{} {best}",
            chosen.scaled_error
        );
        assert!(chosen.coverage > 0.8, "{}", chosen.coverage);
    }

    #[test]
    fn a_short_series_is_refused_with_what_it_needs() {
        let error = score(&history(8), &plan(Model::QUICK.to_vec()), 5, 24).unwrap_err();
        assert_eq!(error, ForecastError::TooShort { has: 192, needs: 49 + 8 * 24 + 24, horizon: 24 });
    }
}
