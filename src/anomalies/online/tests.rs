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
fn working_day(row: usize, noise: f64) -> f64 {
    let hour = row % 288 / 12;
    noise + if (8..17).contains(&hour) { 60.0 } else { 20.0 }
}

/// What happens at `start` has its first alarm within this many readings in each series of noise, except where it belongs to an
/// alarm of chance; those are few.
fn found(values: impl Fn(usize, f64) -> f64, start: usize, within: usize) {
    const SERIES: usize = 10;
    let all: Vec<Vec<usize>> = (0..SERIES)
        .map(|series| alarms((0..start + within).map(|row| values(row, noise(series * 100_000 + row)))))
        .collect();
    let has = |alarms: &[usize], from, to| alarms.iter().any(|row| (from..to).contains(row));
    let (hidden, judged): (Vec<_>, Vec<_>) =
        all.iter().partition(|alarms| has(alarms, start - REST as usize, start));
    assert!(judged.iter().all(|alarms| has(alarms, start, start + within)), "{all:?}");
    assert!(hidden.len() * 2 < SERIES, "{all:?}");
    let before = all.iter().flatten().filter(|row| **row < start).count();
    assert!(before <= SERIES * (1 + start / 1000), "{all:?}");
}

#[test]
fn a_constant_never_alarms_and_its_first_jump_does() {
    assert!(scores((0..5000).map(|_| 21.5)).iter().all(|score| *score < Judgement::ALARM));
    let alarms = alarms((0..200).map(|row| if row >= 120 { 22.0 } else { 21.5 }));
    assert!(alarms == [120] || alarms == [121], "{alarms:?}");
}

#[test]
fn spikes_steps_flat_lines_wild_times_and_missing_peaks_are_found() {
    found(|row, noise| if row == 1250 { 30.0 } else { noise }, 1250, 2);
    found(|row, noise| noise + if row >= 1250 { 8.0 } else { 0.0 }, 1250, 6);
    found(|row, noise| if row >= 1250 { 0.1 } else { noise }, 1250, 60);
    found(|row, noise| noise * if row >= 1250 { 4.0 } else { 1.0 }, 1250, 40);
    // The ninth working day does not begin.
    let begins = 8 * 288 + 8 * 12;
    found(|row, noise| if row >= begins { 20.0 + noise } else { working_day(row, noise) }, begins, 60);
    // Bursts over zero: more of them than ever.
    let burst = |row: usize| f64::from(u8::from(row.is_multiple_of(97))) * 3.0;
    found(|row, _| if row >= 1250 && row % 3 == 0 { 3.0 } else { burst(row) }, 1250, 60);
}

#[test]
fn usual_noise_and_usual_days_raise_few_alarms() {
    assert!(alarms((0..10_000).map(noise)).len() <= 30, "{:?}", alarms((0..10_000).map(noise)));
    let days = alarms((0..10_000).map(|row| working_day(row, noise(row))));
    assert!(days.len() <= 30, "{days:?}");
}

/// The share of series of noise in which `alarmed` holds of the alarms.
fn share_of_noises(what: impl Fn(usize, f64) -> f64, rows: usize, alarmed: impl Fn(&[usize]) -> bool) -> f64 {
    let series = 0..40;
    let count = series.len();
    let holds =
        series.filter(|seed| alarmed(&alarms((0..rows).map(|row| what(row, noise(seed * 10_000 + row))))));
    holds.count() as f64 / count as f64
}

#[test]
fn the_first_hundred_readings_of_noise_raise_few_alarms_that_would_hide_what_follows() {
    let early = share_of_noises(|_, noise| noise, 100, |alarms| !alarms.is_empty());
    assert!(early <= 0.2, "{early}");
    for at in [60, 80, 100, 150, 200, 300] {
        let spike = |row, noise| if row == at { 20.0 } else { noise };
        let found = share_of_noises(spike, at + 2, |alarms| alarms.contains(&at));
        assert!(found >= 0.7, "{found} of the spikes at {at}");
        let step = |row, noise| noise + if row >= at { 12.0 } else { 0.0 };
        let found = share_of_noises(step, at + 10, |alarms| alarms.iter().any(|row| *row >= at));
        assert!(found >= 0.7, "{found} of the steps at {at}");
    }
}

#[test]
fn a_constant_that_jumps_within_its_first_hundred_readings_alarms() {
    for at in [60, 80, 99, 120, 250] {
        let alarms = alarms((0..=at).map(|row| if row == at { 500.0 } else { 5.0 }));
        assert_eq!(alarms, [at]);
    }
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
        online.judge(row as i64 * MINUTE, working_day(row, noise(row)));
    }
    let state = rmp_serde::to_vec(&online).unwrap();
    assert!(state.len() < 2 * MEMORY, "{}", state.len());
    let mut again: Online = rmp_serde::from_slice(&state).unwrap();
    for row in 30_000..31_000_usize {
        let value = working_day(row, noise(row)) * if row > 30_500 { 3.0 } else { 1.0 };
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
