//! Models: each continues a series without gaps.

use std::cell::OnceCell;

use augurs::ets::AutoETS;
use augurs::mstl::stlrs::{MstlParams, StlParams};
use augurs::{Fit, Predict};

use super::{ForecastError, Seasons, autoregression};

/// Steps that exponential smoothing is fitted to: it forgets older ones, and its search takes most of the time.
const ETS_STEPS: usize = 336;
/// Passes that lower the weight of outliers. The library's 15 change no forecast that was measured.
const ROBUST_PASSES: usize = 3;

/// How a series is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The value of one season ago: what every other model has to beat.
    SeasonalNaive,
    /// Exponential smoothing of level and trend, chosen by AICc. It does not model a season.
    Ets,
    /// The last seasons that MSTL finds, plus ETS of the series without its seasons.
    Mstl,
    /// The last seasons that MSTL finds, plus an autoregressive process of the series without its seasons.
    MstlAr,
    /// The mean of the value of one (long) season ago, `Mstl` and `MstlAr`.
    Mean,
    /// Trend with change points and a Fourier season; only with the feature `prophet`.
    Prophet,
}

impl Model {
    /// Models that take milliseconds.
    pub const QUICK: [Self; 5] = [Self::SeasonalNaive, Self::Ets, Self::Mstl, Self::MstlAr, Self::Mean];

    /// All models of this build.
    pub fn all() -> Vec<Self> {
        let prophet = cfg!(feature = "prophet").then_some(Self::Prophet);
        Self::QUICK.into_iter().chain(prophet).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::SeasonalNaive => "seasonal-naive",
            Self::Ets => "ets",
            Self::Mstl => "mstl",
            Self::MstlAr => "mstl-ar",
            Self::Mean => "mean",
            Self::Prophet => "prophet",
        }
    }

    /// Minimum number of steps of history.
    pub fn needs(self, seasons: Seasons) -> usize {
        const FEWEST: usize = 10;
        match self {
            Self::SeasonalNaive => seasons.short,
            Self::Ets => FEWEST,
            Self::Mstl | Self::MstlAr | Self::Mean => (2 * seasons.longest() + 1).max(FEWEST),
            Self::Prophet => (2 * seasons.short + 1).max(FEWEST),
        }
    }
}

/// A history that several models are fitted to; what they share is computed once.
pub struct Fits<'a> {
    history: &'a [f64],
    seasons: Seasons,
    horizon: usize,
    decomposed: OnceCell<Result<Decomposed, ForecastError>>,
}

/// A series as the sum of its seasons, continued over the horizon, and the rest.
#[derive(Debug, Clone)]
struct Decomposed {
    seasonal: Vec<f64>,
    rest: Vec<f64>,
}

impl<'a> Fits<'a> {
    pub fn new(history: &'a [f64], seasons: Seasons, horizon: usize) -> Self {
        Self { history, seasons, horizon, decomposed: OnceCell::new() }
    }

    /// The values after the history, whose length is at least [`Model::needs`].
    pub fn forecast(&self, model: Model) -> Result<Vec<f64>, ForecastError> {
        let &Self { history, seasons, horizon, .. } = self;
        match model {
            Model::SeasonalNaive => Ok(last_season(history, seasons.short, horizon)),
            Model::Ets => ets(history, horizon, model.name()),
            Model::Mstl => {
                let Decomposed { seasonal, rest } = self.decomposed()?;
                Ok(sum(seasonal, &ets(rest, horizon, model.name())?))
            }
            Model::MstlAr => {
                let Decomposed { seasonal, rest } = self.decomposed()?;
                Ok(sum(seasonal, &autoregression::forecast(rest, horizon)))
            }
            Model::Mean => {
                let naive = last_season(history, seasons.longest(), horizon);
                let others = sum(&self.forecast(Model::Mstl)?, &self.forecast(Model::MstlAr)?);
                Ok(sum(&naive, &others).into_iter().map(|total| total / 3.0).collect())
            }
            Model::Prophet => prophet(history, seasons.short, horizon),
        }
    }

    fn decomposed(&self) -> Result<&Decomposed, ForecastError> {
        let found = self.decomposed.get_or_init(|| decompose(self.history, self.seasons, self.horizon));
        found.as_ref().map_err(Clone::clone)
    }
}

fn sum(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(left, right)| left + right).collect()
}

#[cfg(feature = "prophet")]
fn prophet(history: &[f64], season: usize, horizon: usize) -> Result<Vec<f64>, ForecastError> {
    super::prophet::forecast(history, season, horizon)
        .map_err(|reason| ForecastError::Model { model: Model::Prophet.name(), reason })
}

#[cfg(not(feature = "prophet"))]
fn prophet(_: &[f64], _: usize, _: usize) -> Result<Vec<f64>, ForecastError> {
    let reason = "this iotctl was built without it (build with --features prophet)".to_owned();
    Err(ForecastError::Model { model: Model::Prophet.name(), reason })
}

fn last_season(history: &[f64], season: usize, horizon: usize) -> Vec<f64> {
    let last = &history[history.len().saturating_sub(season)..];
    last.iter().copied().cycle().take(horizon).collect()
}

/// With additive errors: the library does not have intervals for multiplicative ones, nor seasons.
fn ets(history: &[f64], horizon: usize, model: &'static str) -> Result<Vec<f64>, ForecastError> {
    let history = &history[history.len().saturating_sub(ETS_STEPS)..];
    // A constant series leaves nothing to estimate.
    if history.iter().all(|value| *value == history[0]) {
        return Ok(vec![history[0]; horizon]);
    }
    let refused = |error: augurs::ets::Error| ForecastError::Model { model, reason: error.to_string() };
    let fitted = AutoETS::new(1, "AZN").and_then(|search| search.fit(history)).map_err(refused)?;
    let forecast = fitted.predict(horizon, None).map_err(refused)?;
    match forecast.point.iter().all(|value| value.is_finite()) {
        true => Ok(forecast.point),
        false => Err(ForecastError::Model { model, reason: "it grows without bounds".to_owned() }),
    }
}

fn decompose(history: &[f64], seasons: Seasons, horizon: usize) -> Result<Decomposed, ForecastError> {
    let mut stl = StlParams::new();
    stl.robust(true).outer_loops(ROBUST_PASSES);
    let mut params = MstlParams::new();
    params.stl_params(stl);
    let periods: Vec<usize> = [seasons.short].into_iter().chain(seasons.long).collect();
    let fit = params
        .fit(history, &periods)
        .map_err(|error| ForecastError::Model { model: Model::Mstl.name(), reason: error.to_string() })?;
    let (mut seasonal, mut rest) = (vec![0.0; horizon], history.to_vec());
    for (found, &period) in fit.seasonal().iter().zip(&periods) {
        seasonal = sum(&seasonal, &last_season(found, period, horizon));
        rest.iter_mut().zip(found).for_each(|(rest, found)| *rest -= found);
    }
    Ok(Decomposed { seasonal, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Seasons = Seasons { short: 24, long: None };

    #[test]
    fn a_season_repeats_itself() {
        assert_eq!(last_season(&[9.0, 1.0, 2.0, 3.0], 3, 5), [1.0, 2.0, 3.0, 1.0, 2.0]);
    }

    #[test]
    fn a_line_goes_on_and_what_stands_still_stays() {
        let line: Vec<f64> = (0..40).map(|step| 3.0 + 0.5 * f64::from(step)).collect();
        let found = Fits::new(&line, DAY, 4).forecast(Model::Ets).unwrap();
        assert!((found[3] - 24.5).abs() < 0.2, "{found:?}");
        for model in Model::all() {
            let found = Fits::new(&[7.0; 60], DAY, 3).forecast(model).unwrap();
            assert!(found.iter().all(|value| (value - 7.0).abs() < 1e-4), "{model:?} {found:?}");
        }
    }

    #[test]
    fn a_quiet_weekend_is_forecast_where_the_long_season_is_known() {
        // Five days with a peak, two without.
        let value = |hour: usize| {
            let peak = if (hour / 24) % 7 < 5 { 10.0 } else { 0.0 };
            peak * f64::from(u8::from((8..18).contains(&(hour % 24)))) + ((hour * 7_919) % 101) as f64 / 101.0
        };
        let history: Vec<f64> = (0..4 * 168 + 5 * 24).map(value).collect();
        let both = Seasons { short: 24, long: Some(168) };
        let error = |seasons: Seasons, model: Model| {
            let found = Fits::new(&history, seasons, 48).forecast(model).unwrap();
            let errors =
                found.iter().enumerate().map(|(step, found)| (found - value(history.len() + step)).abs());
            errors.sum::<f64>() / 48.0
        };
        for model in [Model::Mstl, Model::MstlAr, Model::Mean] {
            assert!(error(both, model) < 0.8, "{model:?} {}", error(both, model));
            assert!(error(DAY, model) > 1.0, "{model:?} {}", error(DAY, model));
        }
    }
}
