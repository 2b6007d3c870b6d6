//! Sensors unlike the others of their group at the same time.
//!
//! At each step DBSCAN clusters the sensors whose values lie within a distance of a neighbour's value. Where a
//! majority forms a cluster, the sensors outside of it are found. The distance is the sensitivity's number of robust standard
//! deviations between sensors, taken over all steps.

use super::{Finding, Sensitivity};
use crate::series::robust;
use crate::series::robust::Centre;
use crate::series::{Point, Regular};

/// With two sensors that differ, neither is known to be the wrong one.
pub const MIN_SENSORS: usize = 3;

/// The findings of each of `sensors`, in their order. All have the same start and step.
pub fn find(sensors: &[Regular], sensitivity: Sensitivity) -> Vec<Vec<Finding>> {
    let mut found = vec![Vec::new(); sensors.len()];
    let steps = sensors.iter().map(Regular::len).min().unwrap_or(0);
    let Some(deviation) = deviation(sensors, steps) else { return found };
    let distance = deviation * sensitivity.deviations();
    let mut present: Vec<(f64, usize)> = Vec::with_capacity(sensors.len());
    for step in 0..steps {
        let values = sensors.iter().map(|sensor| sensor.values[step]).zip(0..);
        present.clear();
        present.extend(values.filter(|(value, _)| !value.is_nan()));
        present.sort_unstable_by(|(left, _), (right, _)| left.total_cmp(right));
        let Some((from, to)) = majority(&present, distance) else { continue };
        let expected = present[present.len() / 2].0.midpoint(present[(present.len() - 1) / 2].0);
        for &(value, sensor) in present[..from].iter().chain(&present[to..]) {
            let point = Point { at: sensors[sensor].at(step), value };
            found[sensor].push(Finding { point, expected, score: Some((value - expected) / deviation) });
        }
    }
    found
}

/// The cluster that holds more than half of the sorted values, as `[from, to)`. On a line a cluster is a run whose
/// neighbours lie within the distance, and a majority always holds the value in the middle: so it grows from there.
fn majority(sorted: &[(f64, usize)], distance: f64) -> Option<(usize, usize)> {
    if sorted.len() < MIN_SENSORS {
        return None;
    }
    let is_near = |index: usize| sorted[index].0 - sorted[index - 1].0 <= distance;
    let middle = sorted.len() / 2;
    let mut from = middle;
    while from > 0 && is_near(from) {
        from -= 1;
    }
    let mut to = middle + 1;
    while to < sorted.len() && is_near(to) {
        to += 1;
    }
    (2 * (to - from) > sorted.len()).then_some((from, to))
}

fn values_at(sensors: &[Regular], step: usize) -> Vec<f64> {
    sensors.iter().map(|sensor| sensor.values[step]).filter(|value| !value.is_nan()).collect()
}

/// How far sensors usually lie from their median: the median over the steps, or the mean where most steps have none.
fn deviation(sensors: &[Regular], steps: usize) -> Option<f64> {
    let mut deviations: Vec<f64> = (0..steps)
        .map(|step| values_at(sensors, step))
        .filter(|values| values.len() >= MIN_SENSORS)
        .filter_map(|mut values| Centre::of(&mut values))
        .map(|centre| centre.deviation)
        .collect();
    match robust::median(&mut deviations)? {
        0.0 => Some(deviations.iter().sum::<f64>() / deviations.len() as f64),
        deviation => Some(deviation),
    }
    .filter(|&deviation| deviation > 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Zone;

    fn sensors(values: &[&[f64]]) -> Vec<Regular> {
        values
            .iter()
            .map(|values| Regular { start: 0, step: 1_000, values: values.to_vec(), zone: Zone::Utc })
            .collect()
    }

    #[test]
    fn the_sensor_unlike_the_others_is_found_when_it_is() {
        let gap = f64::NAN;
        let sensors = sensors(&[
            &[20.0, 20.1, 20.2, 20.3],
            &[20.2, gap, 20.4, 20.1],
            &[19.9, 20.0, 20.1, 20.2],
            &[20.1, 26.0, 26.1, gap],
        ]);
        let found = find(&sensors, Sensitivity::DEFAULT);
        assert!(found[..3].iter().all(Vec::is_empty), "{found:?}");
        let moments: Vec<_> = found[3].iter().map(|finding| finding.point.at).collect();
        assert_eq!(moments, [1_000, 2_000]);
        assert_eq!(found[3][0].expected, 20.1);
    }

    #[test]
    fn where_no_majority_agrees_or_there_are_two_nobody_is_unlike_the_others() {
        let apart = sensors(&[&[1.0, 1.0, 1.0], &[1.1, 1.1, 50.0], &[0.9, 0.9, 100.0]]);
        assert!(find(&apart, Sensitivity::DEFAULT).iter().all(Vec::is_empty));
        let two = sensors(&[&[1.0, 1.0], &[1.0, 90.0]]);
        assert!(find(&two, Sensitivity::DEFAULT).iter().all(Vec::is_empty));
        assert!(find(&[], Sensitivity::DEFAULT).is_empty());
    }

    /// DBSCAN on a line by its definition: clusters are what neighbours within the distance connect.
    fn brute_force(sensors: &[Regular], step: usize, distance: f64) -> Vec<usize> {
        let present: Vec<usize> =
            (0..sensors.len()).filter(|&sensor| !sensors[sensor].values[step].is_nan()).collect();
        let value = |sensor: usize| sensors[sensor].values[step];
        for &seed in &present {
            let mut cluster = vec![seed];
            while let Some(&next) = present.iter().find(|sensor| {
                !cluster.contains(sensor)
                    && cluster.iter().any(|&member| (value(member) - value(**sensor)).abs() <= distance)
            }) {
                cluster.push(next);
            }
            if 2 * cluster.len() > present.len() {
                return present.into_iter().filter(|sensor| !cluster.contains(sensor)).collect();
            }
        }
        Vec::new()
    }

    proptest! {
        #[test]
        fn findings_are_those_of_the_definition(
            values in prop::collection::vec(prop::collection::vec(
                prop_oneof![5 => 0.0f64..10.0, 1 => 50.0f64..90.0, 1 => Just(f64::NAN)], 5), 3..9),
        ) {
            let rows: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
            let sensors = sensors(&rows);
            let sensitivity = Sensitivity::new(1.0).unwrap();
            let found = find(&sensors, sensitivity);
            if let Some(deviation) = deviation(&sensors, 5) {
                for step in 0..5 {
                    // With two values there is no majority.
                    if values_at(&sensors, step).len() < MIN_SENSORS {
                        continue;
                    }
                    let expected = brute_force(&sensors, step, deviation * 3.0);
                    let flagged: Vec<usize> = (0..sensors.len())
                        .filter(|&sensor| found[sensor].iter().any(|f| f.point.at == step as i64 * 1_000))
                        .collect();
                    prop_assert_eq!(flagged, expected);
                }
            }
        }
    }
}
