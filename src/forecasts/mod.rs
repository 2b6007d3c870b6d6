//! Forecasts: models over regular series in memory, chosen by their errors in back-tests. No CQL here and no printing.
//!
//! - [`models`]: seasonal-naive, ETS, MSTL, their mean and, where it is built in, Prophet: point forecasts.
//! - [`backtest`]: forecasts from many past moments, compared with the values that followed. [`intervals`]: from their errors.
//! - [`recorded`]: all of it over a file, without a server.
//! - [`forecast`]: the chosen model's forecast with intervals, and when it crosses a limit.

use crate::series::Regular;

mod autoregression;
pub mod backtest;
pub mod intervals;
pub mod metrics;
pub mod models;
#[cfg(feature = "prophet")]
mod prophet;
pub mod recorded;

use crate::output::text::plural;
pub use crate::series::Step;

use backtest::{Backtest, Tried};
use models::Fits;
pub use models::Model;

/// Why there is no forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ForecastError {
    #[error(
        "not enough history: {}, at least {needs} are needed to forecast {horizon} (use a longer --history or \
         a shorter --horizon)",
        plural(*.has, "step")
    )]
    TooShort { has: usize, needs: usize, horizon: usize },
    #[error(
        "{missing} of {of} steps do not have a value, too many to fill with straight lines (use a longer --step or \
         another --history)"
    )]
    TooManyGaps { missing: usize, of: usize },
    #[error("cannot fit {model}: {reason}")]
    Model { model: &'static str, reason: String },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    pub model: Model,
    pub steps: Vec<Step>,
    /// The back-test of each model that was tried, the chosen one included.
    pub backtests: Vec<Backtest>,
    /// The models that could not be fitted, and why.
    pub left_out: Vec<String>,
    /// Steps of history without a value, filled by straight lines.
    pub filled: usize,
}

/// Which models to use, how far ahead, and at which level.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The models to try. The one with the smallest error in the back-test is chosen.
    pub models: Vec<Model>,
    /// Steps ahead.
    pub horizon: usize,
    pub seasons: Seasons,
    /// The share of values that an interval should contain, such as 0.95.
    pub level: f64,
}

/// The seasons of a series, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seasons {
    pub short: usize,
    /// A multiple of `short`, such as a week of days. Used where the history is long enough.
    pub long: Option<usize>,
}

impl Seasons {
    pub fn longest(self) -> usize {
        self.long.unwrap_or(self.short)
    }

    /// Without the long one where `length` steps are too few for it.
    fn within(self, length: usize, plan: &Plan) -> Self {
        let is_enough = length >= needs(&plan.models, self, plan.horizon);
        Self { long: self.long.filter(|_| is_enough), ..self }
    }
}

/// The minimum share of the history that must have been measured.
const MEASURED: f64 = 0.5;

/// Steps of history that a forecast of `horizon` steps by any of the models needs.
pub fn needs(models: &[Model], seasons: Seasons, horizon: usize) -> usize {
    backtest::needs_at_all(models, seasons, horizon)
}

/// Forecasts a series.
pub fn forecast(history: &Regular, plan: &Plan) -> Result<Forecast, ForecastError> {
    let (measured, of) = (history.measured(), history.len());
    if (measured as f64) < MEASURED * of as f64 {
        return Err(ForecastError::TooManyGaps { missing: of - measured, of });
    }
    let plan = &Plan { seasons: plan.seasons.within(of, plan), ..plan.clone() };
    let Tried { models: tried, mut refused } = backtest::run(history, plan)?;
    if plan.models.len() == 1 && !refused.is_empty() {
        return Err(refused.remove(0));
    }
    let left_out = refused.iter().map(ToString::to_string).collect();
    let best = tried.iter().enumerate().min_by(|(_, (left, _)), (_, (right, _))| {
        left.mean_absolute_error.total_cmp(&right.mean_absolute_error)
    });
    let Some((best, _)) = best else {
        return Ok(Forecast {
            model: Model::SeasonalNaive,
            steps: Vec::new(),
            backtests: Vec::new(),
            left_out,
            filled: 0,
        });
    };
    let (model, errors) = (tried[best].0.model, &tried[best].1.errors);
    // Fitted to as many steps as in the back-test, so that the back-test's errors hold for this forecast.
    let values = backtest::known(history, history.len(), plan.seasons);
    let points = Fits::new(&values, plan.seasons, plan.horizon).forecast(model)?;
    let widths = intervals::widths(errors, plan.level);
    let forecast = points.iter().zip(&widths).enumerate();
    let forecast = forecast.filter(|(index, _)| !history.is_skipped(history.len() + index));
    let steps = forecast.map(|(index, (value, width))| Step {
        at: history.at(history.len() + index),
        value: *value,
        low: value - width,
        high: value + width,
    });
    Ok(Forecast {
        model,
        steps: steps.collect(),
        backtests: tried.into_iter().map(|(backtest, _)| backtest).collect(),
        left_out,
        filled: of - measured,
    })
}

/// In which direction a limit is crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Above,
    Below,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

/// When a forecast crosses a limit: the moment of the forecast itself, and the earliest and latest by its interval.
/// `None`: not within the horizon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossing {
    pub likely: Option<i64>,
    pub earliest: Option<i64>,
    pub latest: Option<i64>,
}

impl Crossing {
    pub fn of(steps: &[Step], limit: f64, direction: Direction) -> Self {
        let first = |value: fn(&Step) -> f64| {
            let crosses = |step: &&Step| match direction {
                Direction::Above => value(step) > limit,
                Direction::Below => value(step) < limit,
            };
            steps.iter().find(crosses).map(|step| step.at)
        };
        let (low, high) = (first(|step| step.low), first(|step| step.high));
        let (earliest, latest) = if direction == Direction::Above { (high, low) } else { (low, high) };
        Self { likely: first(|step| step.value), earliest, latest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Zone;

    pub(super) const HOUR: i64 = 3_600_000;

    /// A daily cycle with a trend and a little noise that is the same in each run.
    pub(super) fn history(days: usize) -> Regular {
        let value = |hour: usize| {
            let noise = ((hour * 7_919) % 101) as f64 / 101.0 - 0.5;
            20.0 + 0.05 * hour as f64 + 5.0 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin() + noise
        };
        Regular { start: 0, step: HOUR, values: (0..days * 24).map(value).collect(), zone: Zone::Utc }
    }

    fn plan() -> Plan {
        Plan {
            models: Model::QUICK.to_vec(),
            horizon: 24,
            seasons: Seasons { short: 24, long: None },
            level: 0.9,
        }
    }

    #[test]
    fn a_season_with_a_trend_is_forecast_closely_and_its_interval_holds_what_comes() {
        let whole = history(22);
        let known = Regular { values: whole.values[..20 * 24].to_vec(), ..whole.clone() };
        let forecast = forecast(&known, &plan()).unwrap();
        assert_eq!(forecast.steps.len(), 24);
        assert_eq!(forecast.steps[0].at, 20 * 24 * HOUR);
        assert_eq!(forecast.model, Model::Mstl, "{:?}", forecast.backtests);
        let held = (0..24).filter(|&index| {
            let (step, came) = (forecast.steps[index], whole.values[20 * 24 + index]);
            (step.value - came).abs() < 1.5 && (step.low..=step.high).contains(&came)
        });
        assert!(held.count() >= 20, "{:?}", forecast.steps);
    }

    #[test]
    fn a_model_asks_only_for_the_history_that_it_needs() {
        let with = |models: Vec<Model>, hours: usize| {
            let mut past = history(10);
            past.values.truncate(hours);
            forecast(&past, &Plan { models, horizon: 1, ..plan() })
        };
        // A season, the step ahead, and seven more origins to learn the errors from.
        let naive = with(vec![Model::SeasonalNaive], 32).unwrap();
        assert!(naive.steps[0].low < naive.steps[0].value, "{:?}", naive.steps);
        assert_eq!(
            with(vec![Model::SeasonalNaive], 31).unwrap_err(),
            ForecastError::TooShort { has: 31, needs: 32, horizon: 1 }
        );
        assert!(with(vec![Model::Ets], 18).is_ok());
        // All models are compared from the same origins: MSTL needs two seasons and one step.
        assert!(with(Model::QUICK.to_vec(), 57).is_ok());
        assert!(with(Model::QUICK.to_vec(), 56).is_err());
    }

    #[test]
    fn a_constant_series_is_forecast_as_it_is() {
        let past = Regular { values: vec![21.5; 10 * 24], ..history(10) };
        let found = forecast(&past, &plan()).unwrap();
        assert!(
            found.steps.iter().all(|step| (step.low, step.value, step.high) == (21.5, 21.5, 21.5)),
            "{found:?}"
        );
    }

    #[test]
    fn a_history_that_is_too_short_or_mostly_missing_is_told() {
        let error = forecast(&history(2), &plan()).unwrap_err().to_string();
        assert!(error.contains("48 steps") && error.contains("--history"), "{error}");
        let mut holes = history(20);
        holes.values.iter_mut().skip(1).step_by(2).for_each(|value| *value = f64::NAN);
        holes.values[0] = f64::NAN;
        assert!(matches!(
            forecast(&holes, &plan()),
            Err(ForecastError::TooManyGaps { missing: 241, of: 480 })
        ));
    }

    #[test]
    fn a_crossing_has_its_interval() {
        let step =
            |hour: i64, value: f64| Step { at: hour * HOUR, value, low: value - 2.0, high: value + 2.0 };
        let steps: Vec<_> = (0..10).map(|hour| step(hour, 20.0 + hour as f64)).collect();
        let above = Crossing::of(&steps, 25.5, Direction::Above);
        assert_eq!(
            above,
            Crossing { likely: Some(6 * HOUR), earliest: Some(4 * HOUR), latest: Some(8 * HOUR) }
        );
        let never = Crossing::of(&steps, 28.5, Direction::Above);
        assert_eq!(never, Crossing { likely: Some(9 * HOUR), earliest: Some(7 * HOUR), latest: None });
        assert_eq!(Crossing::of(&steps, 15.0, Direction::Below), Crossing::default());
        assert_eq!(Crossing::of(&steps, 18.5, Direction::Below).earliest, Some(0));
    }

    #[test]
    fn an_hour_that_the_clock_is_set_forward_over_is_not_forecast() {
        // Ten days on the clock of Berlin until 2026-03-29 00:00, three hours before it is set.
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let past = history(10);
        let end = 1_774_742_400_000;
        let past = Regular { start: end - 10 * 24 * HOUR, zone: berlin, ..past };
        let seasons = Seasons { short: 24, long: None };
        let found =
            forecast(&past, &Plan { models: vec![Model::SeasonalNaive], horizon: 6, seasons, level: 0.9 });
        let hours: Vec<_> = found.unwrap().steps.iter().map(|step| berlin.format(step.at, "%H:%M")).collect();
        assert_eq!(hours, ["00:00", "01:00", "03:00", "04:00", "05:00"]);
    }
}
