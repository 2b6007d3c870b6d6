//! Values that neither the season (the hour of the day, say) nor the trend explains.
//!
//! MSTL (Bandara, Hyndman and Bergmeir, 2021) splits means on a regular grid into trend, seasons and remainder, robust
//! against outliers. Each point as measured is compared with the expected value, interpolated between the
//! steps of the grid, so that a spike is never averaged out.

use augurs::mstl::stlrs::{MstlParams, StlParams};

use super::{Finding, Sensitivity};
use crate::config::duration::exact;
use crate::series::TooManySteps;
use crate::series::robust::Centre;
use crate::series::{Point, Regular, round_step, usual_step};

/// Maximum number of grid steps per shortest season: more would cost time without adding accuracy.
const MAX_STEPS_PER_SEASON: i64 = 288;
/// The trend is smoothed over this many of the longest seasons, so that it does not follow a fault that lasts a day.
const TREND_SEASONS: usize = 7;

/// Why a seasonal pattern could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum SeasonalError {
    #[error(transparent)]
    Series(#[from] TooManySteps),
    #[error("not enough data for a season of {season}: {data}, at least two seasons are needed")]
    TooShort { season: String, data: String },
    #[error("cannot split the series into trend and season: {0}")]
    Model(String),
}

/// The points beyond the sensitivity's deviations from season and trend, in their order. `seasons` in milliseconds.
pub fn find(
    points: &[Point],
    seasons: &[i64],
    sensitivity: Sensitivity,
) -> Result<Vec<Finding>, SeasonalError> {
    let (Some(shortest), Some(longest)) = (seasons.iter().min(), seasons.iter().max()) else {
        return Ok(Vec::new());
    };
    let (Some(usual), [first, .., last]) = (usual_step(points), points) else { return Ok(Vec::new()) };
    if last.at - first.at < 2 * longest {
        let show = |millis: i64| exact(std::time::Duration::from_millis(millis.unsigned_abs()));
        let data = show((last.at - first.at) / 1_000 * 1_000);
        return Err(SeasonalError::TooShort { season: show(*longest), data });
    }
    let step = usual.max(round_step(shortest / MAX_STEPS_PER_SEASON));
    let Some(grid) = Regular::of(points, step)? else { return Ok(Vec::new()) };
    let expected = expected(&grid, seasons)?;
    let middle = grid.start + step / 2;
    let residual = |point: &Point| point.value - between(&expected, (point.at - middle) as f64 / step as f64);
    let mut residuals: Vec<f64> = points.iter().map(residual).collect();
    let Some(centre) = Centre::of(&mut residuals) else { return Ok(Vec::new()) };
    let finding = |point: &Point| {
        let residual = residual(point);
        let score = centre.score(residual)?;
        let is_far = score.abs() > sensitivity.deviations();
        is_far.then_some(Finding { point: *point, expected: point.value - residual, score: Some(score) })
    };
    Ok(points.iter().filter_map(finding).collect())
}

/// Trend and seasons at each step.
fn expected(grid: &Regular, seasons: &[i64]) -> Result<Vec<f64>, SeasonalError> {
    let values = grid.filled();
    let periods: Vec<usize> =
        seasons.iter().filter_map(|season| usize::try_from(season / grid.step).ok()).collect();
    let longest = periods.iter().max().copied().unwrap_or(2);
    let mut stl = StlParams::new();
    // The smoother needs an odd number of steps.
    stl.robust(true).trend_length((longest * TREND_SEASONS).min(values.len()) | 1);
    let mut mstl = MstlParams::new();
    mstl.stl_params(stl);
    let fit = mstl.fit(&values, &periods).map_err(|error| SeasonalError::Model(error.to_string()))?;
    Ok(values.iter().zip(fit.remainder()).map(|(value, remainder)| value - remainder).collect())
}

/// The value at a fractional step, interpolated linearly.
fn between(values: &[f64], position: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    let position = position.clamp(0.0, last as f64);
    // In bounds: clamped above.
    let index = (position as usize).min(last);
    let next = (index + 1).min(last);
    values[index] + (position - index as f64) * (values[next] - values[index])
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 24 * 60 * MINUTE;

    /// A daily cycle of ±8 with a little noise that is the same in each run.
    fn cycle(days: i64, every: i64) -> Vec<Point> {
        (0..days * DAY / every)
            .map(|index| {
                let at = index * every;
                let noise = ((index * 7_919) % 101) as f64 / 101.0 - 0.5;
                Point { at, value: 20.0 + 8.0 * (at as f64 / DAY as f64 * TAU).sin() + noise }
            })
            .collect()
    }

    #[test]
    fn the_afternoons_value_at_night_is_unusual_though_it_is_within_the_range() {
        let mut points = cycle(10, 10 * MINUTE);
        let night = points.iter().position(|point| point.at == 5 * DAY + 18 * 60 * MINUTE).unwrap();
        points[night].value = 27.0;
        let found = find(&points, &[DAY], Sensitivity::DEFAULT).unwrap();
        assert_eq!(found.iter().map(|finding| finding.point.at).collect::<Vec<_>>(), [points[night].at]);
        assert!((found[0].expected - 12.0).abs() < 1.0, "{found:?}");
        assert!(super::super::robust_z::find(&points, Sensitivity::DEFAULT).is_empty());
    }

    #[test]
    fn a_spike_of_one_reading_is_not_averaged_away_on_the_grid() {
        let mut points = cycle(3, 10_000);
        points[12_345].value += 25.0;
        let found = find(&points, &[DAY], Sensitivity::DEFAULT).unwrap();
        assert_eq!(found.iter().map(|finding| finding.point.at).collect::<Vec<_>>(), [123_450_000]);
    }

    #[test]
    fn a_cycle_as_usual_has_nothing_unusual_even_with_gaps() {
        let mut points = cycle(6, 10 * MINUTE);
        points.drain(300..340);
        assert!(find(&points, &[DAY], Sensitivity::DEFAULT).unwrap().is_empty());
    }

    #[test]
    fn less_than_two_seasons_is_told() {
        let error = find(&cycle(1, 10 * MINUTE), &[DAY], Sensitivity::DEFAULT).unwrap_err().to_string();
        assert!(error.contains("season of 1d:") && error.contains("23h 50m"), "{error}");
        assert!(find(&[], &[DAY], Sensitivity::DEFAULT).unwrap().is_empty());
    }
}
