//! Models: each continues a series without gaps.

use augurs::ets::AutoETS;
use augurs::mstl::stlrs::{MstlParams, StlParams};
use augurs::{Fit, Predict};

use super::ForecastError;

/// How a series is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The value of one season ago: what every other model has to beat.
    SeasonalNaive,
    /// Exponential smoothing of level and trend, chosen by AICc. It does not model a season.
    Ets,
    /// The last season that MSTL finds, plus ETS of the series without its season.
    Mstl,
    /// Trend with change points and a Fourier season; only with the feature `prophet`.
    Prophet,
}

impl Model {
    /// Models that take milliseconds.
    pub const QUICK: [Self; 3] = [Self::SeasonalNaive, Self::Ets, Self::Mstl];

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
            Self::Prophet => "prophet",
        }
    }

    /// Minimum number of steps of history.
    pub fn needs(self, season: usize) -> usize {
        const FEWEST: usize = 10;
        match self {
            Self::SeasonalNaive => season,
            Self::Ets => FEWEST,
            Self::Mstl | Self::Prophet => (2 * season + 1).max(FEWEST),
        }
    }

    /// The `horizon` values after `history`, whose length is at least [`Model::needs`].
    pub fn forecast(self, history: &[f64], season: usize, horizon: usize) -> Result<Vec<f64>, ForecastError> {
        match self {
            Self::SeasonalNaive => Ok(last_season(history, season, horizon)),
            Self::Ets => ets(history, horizon, self.name()),
            Self::Mstl => mstl(history, season, horizon),
            Self::Prophet => prophet(history, season, horizon),
        }
    }
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

fn mstl(history: &[f64], season: usize, horizon: usize) -> Result<Vec<f64>, ForecastError> {
    let model = Model::Mstl.name();
    let mut stl = StlParams::new();
    stl.robust(true);
    let mut params = MstlParams::new();
    params.stl_params(stl);
    let fit = params
        .fit(history, &[season])
        .map_err(|error| ForecastError::Model { model, reason: error.to_string() })?;
    let Some(seasonal) = fit.seasonal().first() else {
        return ets(history, horizon, model);
    };
    let without: Vec<f64> = history.iter().zip(seasonal).map(|(value, seasonal)| value - seasonal).collect();
    let level = ets(&without, horizon, model)?;
    Ok(level
        .iter()
        .zip(last_season(seasonal, season, horizon))
        .map(|(level, season)| level + season)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_repeats_itself() {
        assert_eq!(last_season(&[9.0, 1.0, 2.0, 3.0], 3, 5), [1.0, 2.0, 3.0, 1.0, 2.0]);
    }

    #[test]
    fn a_line_goes_on_and_what_stands_still_stays() {
        let line: Vec<f64> = (0..40).map(|step| 3.0 + 0.5 * f64::from(step)).collect();
        let found = Model::Ets.forecast(&line, 24, 4).unwrap();
        assert!((found[3] - 24.5).abs() < 0.2, "{found:?}");
        for model in Model::all() {
            let found = model.forecast(&[7.0; 60], 24, 3).unwrap();
            assert!(found.iter().all(|value| (value - 7.0).abs() < 1e-4), "{model:?} {found:?}");
        }
    }
}
