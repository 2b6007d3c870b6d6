//! An autoregressive process: each value from the values before it. It returns to its mean, which a trend does not.

/// Maximum order. Beyond a day of hours, so that what a season leaves is seen.
const MAX_ORDER: usize = 28;

/// The `horizon` values after `history` by the process of the order that AIC chooses, fitted by Burg's method (Burg, 1975),
/// which always yields a stable process.
pub(super) fn forecast(history: &[f64], horizon: usize) -> Vec<f64> {
    let mean = history.iter().sum::<f64>() / history.len().max(1) as f64;
    let centred: Vec<f64> = history.iter().map(|value| value - mean).collect();
    let coefficients = burg(&centred, MAX_ORDER.min(history.len() / 4));
    let mut values = centred;
    for _ in 0..horizon {
        let next = coefficients.iter().zip(values.iter().rev()).map(|(weight, value)| weight * value).sum();
        values.push(next);
    }
    values[history.len()..].iter().map(|value| value + mean).collect()
}

/// Weights of the last value, the one before it, and so on.
fn burg(values: &[f64], max_order: usize) -> Vec<f64> {
    let count = values.len();
    let mut forward = values.to_vec();
    let mut backward = values.to_vec();
    let mut weights: Vec<f64> = Vec::new();
    let mut variance = values.iter().map(|value| value * value).sum::<f64>() / count.max(1) as f64;
    let mut best = (f64::INFINITY, Vec::new());
    for order in 1..=max_order {
        if variance <= 0.0 {
            break;
        }
        let (mut product, mut squares) = (0.0, 0.0);
        for at in order..count {
            product += forward[at] * backward[at - 1];
            squares += forward[at] * forward[at] + backward[at - 1] * backward[at - 1];
        }
        if squares <= 0.0 {
            break;
        }
        let reflection = 2.0 * product / squares;
        let before = weights.clone();
        for (at, weight) in weights.iter_mut().enumerate() {
            *weight -= reflection * before[order - 2 - at];
        }
        weights.push(reflection);
        for at in (order..count).rev() {
            let (ahead, behind) = (forward[at], backward[at - 1]);
            forward[at] = ahead - reflection * behind;
            backward[at] = behind - reflection * ahead;
        }
        variance *= 1.0 - reflection * reflection;
        let criterion = count as f64 * variance.ln() + 2.0 * order as f64;
        if criterion < best.0 {
            best = (criterion, weights.clone());
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that is the same in each run.
    fn noise(index: u64) -> f64 {
        let mut bits = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D;
        bits ^= bits >> 29;
        bits = bits.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (bits >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    #[test]
    fn a_known_process_is_found_and_returns_to_its_mean() {
        let mut values = vec![0.0, 0.0];
        for index in 2..4_000 {
            let next = 1.2 * values[index - 1] - 0.5 * values[index - 2] + noise(index as u64);
            values.push(next);
        }
        let weights = burg(&values, MAX_ORDER);
        assert!((weights[0] - 1.2).abs() < 0.05 && (weights[1] + 0.5).abs() < 0.05, "{weights:?}");
        let shifted: Vec<f64> = values.iter().map(|value| value + 30.0).collect();
        let found = forecast(&shifted, 200);
        assert!((found[199] - 30.0).abs() < 0.2, "{}", found[199]);
    }

    #[test]
    fn what_does_not_move_stays() {
        assert_eq!(forecast(&[7.0; 40], 3), [7.0; 3]);
    }
}
