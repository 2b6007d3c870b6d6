use proptest::prelude::*;

use super::*;

fn of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    values.iter().for_each(|&value| sketch.add(value));
    sketch
}

/// The value of nearest rank.
fn exact(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = ((quantile * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
    sorted[rank - 1]
}

/// A number from 0 to 1 that follows from `n`, evenly spread.
fn share(n: u64) -> f64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// The largest error of the usual percentiles, as a share of the range of the values.
fn error_of_range(sketch: &Sketch, values: &[f64]) -> f64 {
    let range = exact(values, 1.0) - exact(values, 0.0);
    [0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
        .map(|quantile| (sketch.quantile(quantile).unwrap() - exact(values, quantile)).abs() / range)
        .into_iter()
        .fold(0.0, f64::max)
}

/// Series with an offset: (name, lowest value, range).
const OFFSET: [(&str, f64, f64); 6] = [
    ("pressure", 1010.0, 10.0),
    ("kelvin", 290.0, 6.0),
    ("epoch seconds of a day", 1.7e9, 86_400.0),
    ("epoch milliseconds of an hour", 1.7e12, 3_600_000.0),
    ("below zero", -273.0, 3.0),
    ("share", 0.25, 0.5),
];

#[test]
fn offset_data_has_an_error_below_a_256th_of_its_range_also_when_merged() {
    for (name, lowest, range) in OFFSET {
        for count in [150u64, 5_000, 50_000] {
            let values: Vec<f64> = (0..count).map(|n| lowest + range * share(n)).collect();
            let whole = of(&values);
            let error = error_of_range(&whole, &values);
            assert!(error < 1.0 / 256.0, "{name}, {count} values: {error}");
            // As rollups do it: hours, days, then whatever is asked.
            let mut merged = Sketch::default();
            for chunk in values.chunks(3_600).collect::<Vec<_>>().iter().rev() {
                let mut day = Sketch::default();
                chunk
                    .chunks(61)
                    .for_each(|hour| day.merge(&Sketch::from_bytes(&of(hour).to_bytes()).unwrap()));
                merged.merge(&day);
            }
            assert_eq!(merged.to_bytes(), whole.to_bytes(), "{name}, {count} values");
        }
    }
}

#[test]
fn the_upper_percentiles_of_pressures_differ() {
    let values: Vec<f64> = (0..100_000).map(|n| (101_000 + n % 1_001) as f64 / 100.0).collect();
    let sketch = of(&values);
    for (quantile, expected) in [(0.5, 1015.0), (0.9, 1019.0), (0.95, 1019.5), (0.99, 1019.9)] {
        let found = sketch.quantile(quantile).unwrap();
        assert!((found - expected).abs() < 0.04, "{found} for {expected}");
    }
}

#[test]
fn outliers_do_not_widen_the_buckets() {
    let mut values: Vec<f64> = (0..50_000).map(|n| 1010.0 + 10.0 * share(n)).collect();
    let calm = values.clone();
    values.extend([0.0, -999.0, 65_535.0, 1e9, 3e38, -3e38]);
    let error = error_of_range(&of(&values), &values) * 6e38;
    assert!(error < 0.05, "{error}");
    assert!(of(&calm).to_bytes().len() < 1_700);
}

#[test]
fn values_over_several_octaves_are_within_the_stated_bound() {
    let wide: Vec<f64> = (0..100_000).map(|n| 0.1 * 1e6f64.powf(share(n))).collect();
    let around_zero: Vec<f64> = (0..100_000).map(|n| 40.0 * share(n) - 20.0).collect();
    for values in [wide, around_zero] {
        let sketch = of(&values);
        let octaves = |value: f64| (1.0 + value.abs() / 8.0).log2() + 1.0;
        let span = octaves(exact(&values, 0.0)) + octaves(exact(&values, 1.0));
        for quantile in [0.01, 0.1, 0.5, 0.9, 0.99] {
            let (found, exact) = (sketch.quantile(quantile).unwrap(), exact(&values, quantile));
            let bound = (8.0 + exact.abs()) * span / 256.0;
            assert!((found - exact).abs() < bound, "{found} for {exact}, bound {bound}");
        }
    }
}

#[test]
fn few_values_come_back_as_they_were() {
    let values: Vec<f64> = (0..60).map(|minute| f64::from(200 + minute * 7 % 60) / 10.0).collect();
    let sketch = of(&values);
    for quantile in [0.0, 0.25, 0.5, 0.95, 1.0] {
        assert_eq!(sketch.quantile(quantile), Some(exact(&values, quantile)));
    }
    assert!(sketch.to_bytes().len() <= 5 * 60, "{} bytes", sketch.to_bytes().len());
    let counter = of(&[123_456_789.125]).quantile(0.5).unwrap();
    assert!((counter - 123_456_789.125).abs() < 0.02, "{counter}");
    assert_eq!(of(&[0.0, -0.0]).quantile(0.5), Some(0.0));
    assert_eq!(Sketch::default().quantile(0.5), None);
    assert_eq!(Sketch::from_bytes(&Sketch::default().to_bytes()), Some(Sketch::default()));
}

#[test]
fn sketches_of_version_1_are_read_merged_and_recognised() {
    // Written by the code of version 1: (bucket distance, count) for -5, 21.3, 40.
    let bucket = |value: f32| {
        let bits = value.to_bits();
        (if bits >> 31 == 1 { !bits } else { bits | 1 << 31 } >> 16) as u16
    };
    let mut bytes = vec![1];
    let mut before = 0;
    for (value, count) in [(-5.0, 1u8), (21.3, 2), (40.0, 1)] {
        let mut distance = bucket(value) - before;
        before = bucket(value);
        while distance >= 0x80 {
            bytes.push(distance as u8 | 0x80);
            distance >>= 7;
        }
        bytes.extend([distance as u8, count]);
    }
    let mut old = Sketch::from_bytes(&bytes).unwrap();
    assert!(old.is_legacy());
    assert_eq!(old.count(), 4);
    for (quantile, value) in [(0.2, -5.0), (0.5, 21.3), (0.75, 21.3), (1.0, 40.0)] {
        let found: f64 = old.quantile(quantile).unwrap();
        assert!((found - value).abs() <= value.abs() / 256.0, "{found} for {value}");
    }
    let new = of(&[50.0]);
    assert!(!new.is_legacy());
    old.merge(&new);
    assert!(old.is_legacy() && Sketch::from_bytes(&old.to_bytes()).unwrap().is_legacy());
    assert_eq!((old.count(), old.quantile(1.0)), (5, Some(50.0)));
}

/// Any finite value, large, tiny, negative, or many close together.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let any = any::<f64>().prop_filter("finite", |value| value.is_finite());
    let value =
        prop_oneof![any, -50f64..50.0, (-500i32..500).prop_map(|n| f64::from(n) / 10.0), 1010f64..1020.0];
    prop::collection::vec(value, 1..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merging_gives_the_sketch_of_all_values_in_any_order(one in values(), other in values(), third in values()) {
        let whole = of(&[&one[..], &other, &third].concat());
        let mut merged = of(&third);
        let mut rest = of(&other);
        rest.merge(&of(&one));
        merged.merge(&rest);
        prop_assert_eq!(merged.to_bytes(), whole.to_bytes());
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(Sketch::from_bytes(&merged.to_bytes()), Some(merged));
    }

    #[test]
    fn the_size_is_bounded_and_quantiles_rise(values in values()) {
        let sketch = of(&values);
        prop_assert_eq!(sketch.count(), values.len() as u64);
        prop_assert!(sketch.to_bytes().len() < 2 + 10 + 2 * 512 + 512, "{} bytes", sketch.to_bytes().len());
        let found: Vec<_> = (0..=20).map(|n| sketch.quantile(f64::from(n) / 20.0).unwrap()).collect();
        prop_assert!(found.is_sorted(), "{:?}", found);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0u8..4) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if let Some(mut sketch) = Sketch::from_bytes(&bytes) {
            sketch.quantile(0.5);
            let copy = sketch.clone();
            sketch.merge(&copy);
            prop_assert!(sketch.count() >= copy.count());
        }
    }
}
