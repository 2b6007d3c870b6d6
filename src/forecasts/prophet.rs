//! Prophet: trend with change points and a season as a Fourier series, fitted by Stan in WebAssembly. Behind the feature
//! `prophet`, because its runtime adds half as many crates again, and few users need it.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use augurs::prophet::optimizer::OptimizeOpts;
use augurs::prophet::wasmstan::WasmstanOptimizer;
use augurs::prophet::{
    PositiveFloat, PredictionData, Prophet, ProphetOptions, Seasonality, SeasonalityOption, TrainingData,
};

/// The model sees every step as an hour: it scales time anyway, and its own seasons are switched off.
const STEP_SECONDS: i64 = 3_600;
const STEPS_A_DAY: f64 = 24.0;
/// The authors' default for a day. Fewer where a season has few steps.
const FOURIER_ORDER: usize = 4;
/// Of about 150 fits to the series of docs/analytics.md one failed; ten attempts never failed in a row.
const TRIES: usize = 10;

/// The `horizon` values after `history`, or the reason why there are none.
pub(super) fn forecast(history: &[f64], season: usize, horizon: usize) -> Result<Vec<f64>, String> {
    // Stan's search sometimes reaches a number that a double cannot hold, which ends it in WebAssembly. With one step of
    // history less it takes another path.
    let shorter = |skipped| fit(&history[skipped..], season, horizon);
    let first = shorter(0);
    let mut others = (1..TRIES.min(history.len())).map(shorter);
    first.or_else(|refused| others.find_map(Result::ok).ok_or(refused))
}

fn fit(history: &[f64], season: usize, horizon: usize) -> Result<Vec<f64>, String> {
    // Compiling the model takes a second or two.
    static OPTIMIZER: OnceLock<WasmstanOptimizer> = OnceLock::new();
    let optimizer = OPTIMIZER.get_or_init(WasmstanOptimizer::new).clone();
    let off = SeasonalityOption::Manual(false);
    let options = ProphetOptions {
        yearly_seasonality: off,
        weekly_seasonality: off,
        daily_seasonality: off,
        // Intervals come from back-tests, as for every model.
        uncertainty_samples: 0,
        ..ProphetOptions::default()
    };
    let mut prophet = Prophet::new(options, optimizer);
    // The first line; a WebAssembly stack trace follows.
    let refused = |error: augurs::prophet::Error| {
        let reason = error.to_string();
        reason.split(": error while executing").next().unwrap_or(&reason).to_owned()
    };
    let order = u32::try_from(FOURIER_ORDER.min(season / 2)).ok().and_then(NonZeroU32::new);
    let period = PositiveFloat::try_new(season as f64 / STEPS_A_DAY).ok();
    if let (Some(order), Some(period)) = (order, period) {
        prophet.add_seasonality("season".to_owned(), Seasonality::new(period, order)).map_err(refused)?;
    }
    let moments = |steps: std::ops::Range<usize>| steps.map(|step| step as i64 * STEP_SECONDS).collect();
    let training = TrainingData::new(moments(0..history.len()), history.to_vec()).map_err(refused)?;
    prophet.fit(training, OptimizeOpts::default()).map_err(refused)?;
    let ahead = PredictionData::new(moments(history.len()..history.len() + horizon));
    Ok(prophet.predict(ahead).map_err(refused)?.yhat.point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trend_and_season_go_on() {
        let value = |hour: usize| {
            20.0 + 0.05 * hour as f64 + 5.0 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin()
        };
        let history: Vec<f64> = (0..240).map(value).collect();
        let found = forecast(&history, 24, 24).unwrap();
        for (hour, found) in (240..).zip(&found) {
            assert!((found - value(hour)).abs() < 0.5, "{hour}: {found} instead of {}", value(hour));
        }
    }
}
