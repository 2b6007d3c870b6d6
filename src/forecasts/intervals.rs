//! Half the width of an interval at each step ahead, from the errors of earlier forecasts (conformal prediction).
//!
//! A plain quantile of past errors holds too little when the past was calm, and its interval never exceeds the largest error
//! seen. So the quantile is multiplied by a factor that follows how often such intervals have missed: adaptive conformal
//! inference (Gibbs and Candès, 2021), with the factor in place of the level, as quantile tracking does (Angelopoulos, Candès
//! and Tibshirani, 2023).

/// Minimum number of errors behind a width. Where a step has fewer, its neighbours' errors are used too.
const FEWEST_ERRORS: usize = 20;
/// Origins before the first one whose misses move the factor.
const FEWEST_ORIGINS: usize = 6;
/// How much the logarithm of the factor moves when all steps of an origin missed.
const RATE: f64 = 0.5;
/// Bounds of the factor: a series that never misses still has an interval.
const FACTOR: (f64, f64) = (0.85, 4.0);

/// Half the widths at each step ahead after `errors`: absolute errors by origin, in order of time, and then by step. NaN
/// where the value is not known. They never become narrower farther ahead.
pub fn widths(errors: &[Vec<f64>], level: f64) -> Vec<f64> {
    let factor = factor(errors, level);
    quantiles(errors, level).into_iter().map(|width| width * factor).collect()
}

/// The factor after all origins.
fn factor(errors: &[Vec<f64>], level: f64) -> f64 {
    let mut logarithm = 0.0_f64;
    for at in FEWEST_ORIGINS..errors.len() {
        logarithm = follow(logarithm, &errors[at], &quantiles(&errors[..at], level), level);
    }
    logarithm.exp()
}

/// The logarithm of the factor after one more origin, whose plain widths were `widths`.
fn follow(logarithm: f64, errors: &[f64], widths: &[f64], level: f64) -> f64 {
    match missed(errors, widths, logarithm.exp()) {
        Some(missed) => (logarithm + RATE * (missed - (1.0 - level))).clamp(FACTOR.0.ln(), FACTOR.1.ln()),
        None => logarithm,
    }
}

/// The share of known errors beyond their widths.
fn missed(errors: &[f64], widths: &[f64], factor: f64) -> Option<f64> {
    let known = errors.iter().zip(widths).filter(|(error, _)| !error.is_nan());
    let (beyond, count) = known.fold((0.0, 0.0), |(beyond, count), (error, width)| {
        (beyond + f64::from(u8::from(*error > factor * width)), count + 1.0)
    });
    (count > 0.0).then(|| beyond / count)
}

/// The share of the values of the later half of the origins that the intervals from the origins before them contain.
pub fn coverage(errors: &[Vec<f64>], level: f64) -> f64 {
    let (mut held, mut count) = (0.0, 0.0);
    let mut logarithm = 0.0_f64;
    for (at, found) in errors.iter().enumerate().skip((errors.len() / 2).min(FEWEST_ORIGINS)) {
        let widths = quantiles(&errors[..at], level);
        if at >= errors.len() / 2 {
            let factor = logarithm.exp();
            for (error, width) in found.iter().zip(&widths).filter(|(error, _)| !error.is_nan()) {
                held += f64::from(u8::from(*error <= width * factor));
                count += 1.0;
            }
        }
        if at >= FEWEST_ORIGINS {
            logarithm = follow(logarithm, found, &widths, level);
        }
    }
    held / count
}

/// The plain quantiles by step, never narrower farther ahead.
fn quantiles(errors: &[Vec<f64>], level: f64) -> Vec<f64> {
    let steps = errors.first().map_or(0, Vec::len);
    let mut widest = 0.0_f64;
    (0..steps)
        .map(|step| {
            widest = widest.max(quantile(around(errors, step, steps), level));
            widest
        })
        .collect()
}

/// The errors at a step, and at its neighbours if it has too few.
fn around(errors: &[Vec<f64>], step: usize, steps: usize) -> Vec<f64> {
    let mut reach = 0;
    loop {
        let (from, to) = (step.saturating_sub(reach), (step + reach + 1).min(steps));
        let found = errors.iter().flat_map(|errors| &errors[from..to]);
        let found: Vec<f64> = found.copied().filter(|error| !error.is_nan()).collect();
        if found.len() >= FEWEST_ERRORS || to - from == steps {
            return found;
        }
        reach += 1;
    }
}

/// The error that a share `level` of all future ones does not exceed: with `n` errors it is the one of rank
/// `level * (n + 1)`, or the largest.
fn quantile(mut errors: Vec<f64>, level: f64) -> f64 {
    errors.sort_unstable_by(f64::total_cmp);
    let rank = (level * (errors.len() + 1) as f64).ceil() as usize;
    errors.get(rank.clamp(1, errors.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_never_narrow_and_hold_their_share() {
        let errors: Vec<Vec<f64>> =
            (0..40).map(|n| (1..=6).map(|step| f64::from(step * (n * 7 % 40))).collect()).collect();
        let widths = widths(&errors, 0.9);
        assert!(widths.windows(2).all(|pair| pair[0] <= pair[1]), "{widths:?}");
        assert!((0.85..=0.95).contains(&coverage(&errors, 0.9)), "{}", coverage(&errors, 0.9));
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.95), 3.0);
    }

    #[test]
    fn after_a_calm_past_they_widen_beyond_every_error_that_was_seen() {
        let error = |origin: usize, step: usize| {
            let spread = if origin < 20 { 1.0 } else { 1.2_f64.powi(origin as i32 - 19) };
            spread * (1.0 + ((origin * 31 + step * 17) % 11) as f64 / 11.0)
        };
        let errors: Vec<Vec<f64>> =
            (0..30).map(|origin| (0..12).map(|step| error(origin, step)).collect()).collect();
        let largest = errors.iter().flatten().copied().fold(0.0, f64::max);
        let found = widths(&errors, 0.95);
        assert!(found[0] > largest, "{} {largest}", found[0]);
        let calm = widths(&errors[..20], 0.95);
        let plain = quantiles(&errors[..20], 0.95);
        assert!(calm[0] <= plain[0], "a past without misses narrows them: {calm:?} {plain:?}");
    }

    #[test]
    fn an_error_that_is_not_known_does_not_count() {
        let error = |origin: u32| vec![f64::from(origin * 7 % 31), f64::NAN];
        let mut errors: Vec<Vec<f64>> = (0..30).map(error).collect();
        let known = widths(&errors, 0.9);
        assert!(known[0] > 20.0 && known[0] == known[1], "{known:?}");
        errors.push(vec![f64::NAN, f64::NAN]);
        assert_eq!(widths(&errors, 0.9), known);
    }
}
