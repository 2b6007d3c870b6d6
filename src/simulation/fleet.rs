//! The simulated sensors: who they are, where they stand, and their next reading. Everything follows from the seed:
//! the same plan gives the same sensors and, where the clock is stepped, the same readings.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use uuid::Uuid;

use super::clock::Clock;
use super::signals::{Curves, DEVICE_TYPES, DeviceType, Field, MAX_SIGNALS, Moment, State};
use crate::reading::{Reading, widen};

/// What fleet to simulate.
#[derive(Debug, Clone)]
pub struct FleetPlan {
    pub seed: u64,
    pub sensors: usize,
    /// Number of locations, named `plant-1`, `plant-2`…
    pub locations: usize,
    pub device_types: Vec<&'static DeviceType>,
    pub clock: Clock,
    /// The probability that a reading carries an injected extreme.
    pub extreme: f64,
}

impl Default for FleetPlan {
    fn default() -> Self {
        Self {
            seed: 42,
            sensors: 1000,
            locations: 5,
            device_types: DEVICE_TYPES.iter().collect(),
            clock: Clock::Wall,
            extreme: 0.0001,
        }
    }
}

impl FleetPlan {
    /// The names of the locations; a [`Fleet`] borrows them.
    pub fn location_names(&self) -> Vec<String> {
        (1..=self.locations.max(1)).map(|number| format!("plant-{number}")).collect()
    }
}

/// An extreme put into a reading on purpose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extreme {
    pub metric: &'static str,
    pub value: f32,
}

/// Namespace of the ids of simulated sensors, itself made once with `uuidgen`.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d0a_1c1e_52c4_4b0e_9b57_7f3c_8a4e_21d5);

#[derive(Debug)]
struct Sensor {
    id: Uuid,
    location: usize,
    device_type: &'static DeviceType,
    /// Minutes by which its daily cycle is shifted.
    shift: u16,
    last: i64,
    states: [State; MAX_SIGNALS],
}

/// All sensors, read one after another.
#[derive(Debug)]
pub struct Fleet<'n> {
    sensors: Vec<Sensor>,
    locations: &'n [String],
    clock: Clock,
    extreme: f64,
    curves: Curves,
    rng: ChaCha8Rng,
    moment: Moment,
    next: usize,
    round: u64,
    /// How far the readings' timestamps ran ahead of the clock.
    pub ahead: Duration,
}

impl<'n> Fleet<'n> {
    pub fn new(plan: &FleetPlan, locations: &'n [String]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let sensors =
            (0..plan.sensors.max(1)).map(|number| sensor(plan, number, locations, &mut rng)).collect();
        Self {
            sensors,
            locations,
            clock: plan.clock,
            extreme: plan.extreme,
            curves: Curves::new(),
            rng,
            moment: Moment::at(plan.clock.at(0)),
            next: 0,
            round: 0,
            ahead: Duration::ZERO,
        }
    }

    /// Overwrites `reading` with the next sensor's next reading, reusing its memory.
    pub fn read_into(&mut self, reading: &mut Reading<'n>) -> Option<Extreme> {
        let sensor = &mut self.sensors[self.next];
        let clock = self.clock.at(self.round);
        // A sensor's timestamps are unique and even. Unique, because two readings of one sensor with one timestamp are
        // one row; even, because a late reading is shifted by an odd number of milliseconds and so collides with none.
        let at = (clock & !1).max(sensor.last.saturating_add(2));
        sensor.last = at;
        if let Ok(ahead @ 1..) = u64::try_from(at - clock) {
            self.ahead = self.ahead.max(Duration::from_millis(ahead));
        }
        self.moment.move_to(at);
        clear(reading);
        reading.sensor = sensor.id;
        reading.recorded_at = at;
        reading.location = self.locations[sensor.location].as_str().into();
        reading.device_type = sensor.device_type.name.into();
        for (signal, state) in sensor.device_type.signals.iter().zip(&mut sensor.states) {
            let normal = StandardNormal.sample(&mut self.rng);
            let value = state.next(signal, &self.curves, &self.moment, sensor.shift, normal);
            set(reading, signal.field, value);
        }
        if sensor.device_type.detects_motion {
            let probability = self.curves.motion_probability(&self.moment, sensor.shift);
            reading.motion_detected = Some(self.rng.random::<f32>() < probability);
        }
        let extreme = (self.extreme > 0.0 && self.rng.random::<f64>() < self.extreme)
            .then(|| inject(sensor.device_type, reading, &mut self.rng))
            .flatten();
        self.next += 1;
        if self.next == self.sensors.len() {
            self.next = 0;
            self.round += 1;
        }
        extreme
    }

    pub fn len(&self) -> usize {
        self.sensors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty()
    }
}

fn sensor(plan: &FleetPlan, number: usize, locations: &[String], rng: &mut ChaCha8Rng) -> Sensor {
    let types = &plan.device_types;
    let device_type = types[(number / locations.len()) % types.len()];
    let mut states = [State::default(); MAX_SIGNALS];
    for (state, signal) in states.iter_mut().zip(device_type.signals) {
        *state = State::new(signal, || StandardNormal.sample(rng));
    }
    Sensor {
        id: Uuid::new_v5(&NAMESPACE, format!("{}/{number}", plan.seed).as_bytes()),
        location: number % locations.len(),
        device_type,
        shift: rng.random_range(0..90),
        last: i64::MIN,
        states,
    }
}

/// A reading with nothing measured, for [`Fleet::read_into`] to fill.
pub fn blank<'n>() -> Reading<'n> {
    Reading {
        location: "".into(),
        device_type: "".into(),
        sensor: Uuid::nil(),
        sensor_name: None,
        sensor_tags: Vec::new(),
        recorded_at: 0,
        temperature: None,
        humidity: None,
        pressure: None,
        motion_detected: None,
        light_level: None,
        gas_concentration: None,
        other_metrics: Vec::new(),
        states: Vec::new(),
    }
}

fn clear(reading: &mut Reading<'_>) {
    reading.temperature = None;
    reading.humidity = None;
    reading.pressure = None;
    reading.motion_detected = None;
    reading.light_level = None;
    reading.gas_concentration = None;
    reading.other_metrics.clear();
}

fn set(reading: &mut Reading<'_>, field: Field, value: f32) {
    match field {
        Field::Temperature => reading.temperature = Some(value),
        Field::Humidity => reading.humidity = Some(value),
        Field::Pressure => reading.pressure = Some(value),
        Field::LightLevel => reading.light_level = Some(value),
        Field::GasConcentration => reading.gas_concentration = Some(value),
        Field::Other(name) => reading.other_metrics.push((name.into(), widen(value))),
    }
}

/// Pushes one of the reading's values far out of its usual range.
fn inject(device_type: &DeviceType, reading: &mut Reading<'_>, rng: &mut ChaCha8Rng) -> Option<Extreme> {
    let able = || device_type.signals.iter().filter(|signal| signal.extreme > 0.0);
    let signal = able().nth(rng.random_range(0..able().count().max(1)))?;
    let metric = crate::reading::Metric::named(signal.field.name());
    let ordinary = reading.value(&metric)? as f32;
    let distance = signal.extreme * rng.random_range(1.0..1.6);
    // Downwards only where there is room below: concentrations and light have none.
    let below = signal.finish(ordinary - distance);
    let down = below < ordinary - signal.extreme * 0.9 && rng.random_bool(0.3);
    let value = if down { below } else { signal.finish(ordinary + distance) };
    if let Field::Other(name) = signal.field {
        reading.other_metrics.retain(|(other, _)| other != name);
    }
    set(reading, signal.field, value);
    Some(Extreme { metric: signal.field.name(), value })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap, HashSet};

    use super::*;

    const START: i64 = 1_767_225_600_000;

    fn plan() -> FleetPlan {
        let clock = Clock::Stepped { start: START, step: Duration::from_secs(60) };
        FleetPlan { sensors: 50, clock, ..Default::default() }
    }

    fn readings(plan: &FleetPlan, count: usize) -> Vec<Reading<'static>> {
        let names = plan.location_names();
        let mut fleet = Fleet::new(plan, &names);
        let mut reading = blank();
        (0..count)
            .map(|_| {
                fleet.read_into(&mut reading);
                reading.clone().into_owned()
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_seed_others() {
        assert_eq!(readings(&plan(), 500), readings(&plan(), 500));
        let other = readings(&FleetPlan { seed: 7, ..plan() }, 500);
        assert!(readings(&plan(), 500).iter().zip(&other).all(|(a, b)| a.sensor != b.sensor));
    }

    #[test]
    fn every_location_has_every_device_type() {
        let groups: BTreeSet<_> = readings(&FleetPlan { sensors: 1000, ..plan() }, 1000)
            .into_iter()
            .map(|reading| (reading.location, reading.device_type))
            .collect();
        assert_eq!(groups.len(), 5 * DEVICE_TYPES.len());
        assert!(groups.contains(&("plant-1".into(), "thermostat".into())));
    }

    #[test]
    fn a_device_measures_its_own_metrics_and_leaves_the_others_out() {
        for reading in readings(&plan(), 50) {
            match &*reading.device_type {
                "thermostat" => assert!(reading.temperature.is_some() && reading.pressure.is_none()),
                "motion-detector" => {
                    assert!(reading.motion_detected.is_some() && reading.temperature.is_none());
                    assert!(reading.other_metrics.iter().any(|(name, _)| name == "battery_voltage"));
                }
                "weather-station" => assert!(reading.pressure.is_some()),
                _ => {}
            }
        }
    }

    #[test]
    fn a_stepped_clock_advances_once_a_round() {
        let all = readings(&plan(), 150);
        assert!(all[..50].iter().all(|reading| reading.recorded_at == START));
        assert!(all[50..100].iter().all(|reading| reading.recorded_at == START + 60_000));
        assert_eq!(all[0].sensor, all[50].sensor);
    }

    #[test]
    fn no_sensor_has_two_readings_at_one_moment_even_where_it_outruns_the_clock() {
        let all = readings(&FleetPlan { sensors: 1, clock: Clock::Wall, ..plan() }, 1000);
        let moments: HashSet<_> = all.iter().map(|reading| reading.recorded_at).collect();
        assert_eq!(moments.len(), 1000);
        assert!(moments.iter().all(|at| at % 2 == 0));
    }

    #[test]
    fn an_injected_extreme_is_the_value_in_the_reading_and_stands_out() {
        let plan = FleetPlan { extreme: 0.01, ..plan() };
        let names = plan.location_names();
        let mut fleet = Fleet::new(&plan, &names);
        let mut reading = blank();
        let mut found: HashMap<&str, usize> = HashMap::new();
        for _ in 0..20_000 {
            if let Some(extreme) = fleet.read_into(&mut reading) {
                let metric = crate::reading::Metric::named(extreme.metric);
                assert_eq!(reading.value(&metric), Some(widen(extreme.value)));
                if extreme.metric == "temperature" {
                    assert!(!(3.0..26.0).contains(&extreme.value), "{extreme:?}");
                }
                *found.entry(extreme.metric).or_default() += 1;
            }
        }
        let total: usize = found.values().sum();
        assert!((150..250).contains(&total), "{found:?}");
        assert!(found.len() > 5, "{found:?}");
    }
}
