use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

fn scores(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut online = Online::new(Sensitivity::DEFAULT);
    (0..).zip(values).map(|(minute, value)| online.judge(minute * 5 * MINUTE, value).score).collect()
}

fn alarms(values: impl IntoIterator<Item = f64>) -> Vec<usize> {
    let scores = scores(values);
    (0..scores.len()).filter(|row| scores[*row] >= Judgement::ALARM).collect()
}

/// Reproducible noise in -1..1.
fn noise(row: usize) -> f64 {
    let mut bits = row as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..3 {
        bits ^= bits >> 30;
        bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits ^= bits >> 27;
    }
    (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// A day of readings every five minutes, with a working day from 8 to 17.
fn working_day(row: usize) -> f64 {
    let hour = row % 288 / 12;
    noise(row) + if (8..17).contains(&hour) { 60.0 } else { 20.0 }
}

/// The first alarm lies within this many readings of what happens at `start`, and there are few before.
fn found(values: impl Fn(usize) -> f64, start: usize, within: usize) {
    let alarms = alarms((0..start + 200).map(values));
    assert!(alarms.iter().any(|row| (start..start + within).contains(row)), "{alarms:?}");
    assert!(alarms.iter().filter(|row| **row < start).count() <= 1 + start / 1000, "{alarms:?}");
}

#[test]
fn a_constant_never_alarms_and_its_first_jump_does() {
    assert!(scores((0..5000).map(|_| 21.5)).iter().all(|score| *score < Judgement::ALARM));
    let alarms = alarms((0..200).map(|row| if row >= 120 { 22.0 } else { 21.5 }));
    assert!(alarms == [120] || alarms == [121], "{alarms:?}");
}

#[test]
fn spikes_steps_flat_lines_wild_times_and_missing_peaks_are_found() {
    found(|row| if row == 1250 { 30.0 } else { noise(row) }, 1250, 2);
    found(|row| noise(row) + if row >= 1250 { 8.0 } else { 0.0 }, 1250, 6);
    found(|row| if row >= 1250 { 0.1 } else { noise(row) }, 1250, 60);
    found(|row| noise(row) * if row >= 1250 { 4.0 } else { 1.0 }, 1250, 40);
    // The ninth working day does not begin.
    let begins = 8 * 288 + 8 * 12;
    found(|row| if row >= begins { 20.0 + noise(row) } else { working_day(row) }, begins, 60);
    // Bursts over zero: more of them than ever.
    let burst = |row: usize| f64::from(u8::from(row.is_multiple_of(97))) * 3.0;
    found(|row| if row >= 1250 && row % 3 == 0 { 3.0 } else { burst(row) }, 1250, 60);
}

#[test]
fn usual_noise_and_usual_days_raise_few_alarms() {
    assert!(alarms((0..10_000).map(noise)).len() <= 30, "{:?}", alarms((0..10_000).map(noise)));
    assert!(alarms((0..10_000).map(working_day)).len() <= 30, "{:?}", alarms((0..10_000).map(working_day)));
}

#[test]
fn readings_after_an_alarm_belong_to_it() {
    let scores = scores((0..2000).map(|row| if row >= 1000 { noise(row) * 50.0 } else { noise(row) }));
    let alarm = (1000..1100).find(|row| scores[*row] >= Judgement::ALARM).unwrap();
    assert!(scores[alarm + 1..=alarm + 150].iter().all(|score| *score == 0.0));
    assert!(scores[alarm + 151..].iter().any(|score| *score > 0.0));
}

#[test]
fn at_a_lower_sensitivity_less_is_an_alarm() {
    let count = |sensitivity| {
        let mut online = Online::new(Sensitivity::new(sensitivity).unwrap());
        (0..10_000).filter(|row| online.judge(*row as i64 * MINUTE, noise(*row)).is_alarm()).count()
    };
    let counts = [0.2, 0.5, 1.0].map(count);
    assert!(counts[0] <= counts[1] && counts[1] < counts[2], "{counts:?}");
}

#[test]
fn the_state_is_bounded_and_a_detector_that_is_read_back_goes_on_as_before() {
    let mut online = Online::new(Sensitivity::DEFAULT);
    for row in 0..30_000_usize {
        online.judge(row as i64 * MINUTE, working_day(row));
    }
    let state = rmp_serde::to_vec(&online).unwrap();
    assert!(state.len() < 2 * MEMORY, "{}", state.len());
    let mut again: Online = rmp_serde::from_slice(&state).unwrap();
    for row in 30_000..31_000_usize {
        let value = working_day(row) * if row > 30_500 { 3.0 } else { 1.0 };
        assert_eq!(online.judge(row as i64 * MINUTE, value), again.judge(row as i64 * MINUTE, value));
    }
    assert_eq!(online, again);
}

proptest! {
    #[test]
    fn a_score_needs_no_later_value(
        values in prop::collection::vec(prop_oneof![-1e3..1e3_f64, Just(0.0), any::<f64>().prop_filter("finite", |value| value.is_finite())], 1..400),
        cut in 0..400_usize,
    ) {
        let all = scores(values.iter().copied());
        let cut = cut.min(values.len());
        prop_assert_eq!(&scores(values[..cut].iter().copied())[..], &all[..cut]);
        prop_assert!(all.iter().all(|score| (0.0..=1.0).contains(score)));
    }
}
