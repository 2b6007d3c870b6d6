//! The rules applied to each reading, with the state of each rule per sensor.

use uuid::Uuid;

use super::alert::Alert;
use super::episode::{Episode, Hold};
use super::memory::Recent;
use super::rules::{Rule, Rules};
use super::window::Window;
use crate::kafka::TopicPartition;
use crate::reading::Reading;

/// Memory of all sensors together.
const MEMORY_BYTES: usize = 256 << 20;
/// Minimum number of sensors in memory, whatever the rules need for each.
const MIN_SENSORS: usize = 1_000;

/// Applies rules to readings, partition by partition.
#[derive(Debug)]
pub struct Detector {
    rules: Vec<Rule>,
    sensors: Recent<(TopicPartition, Uuid), Box<[Option<Watch>]>>,
    /// Values that arrived too late to be judged.
    late: u64,
}

/// The state of one rule for one sensor.
#[derive(Debug)]
struct Watch {
    /// The time of the newest value, in milliseconds since the epoch.
    newest: i64,
    /// The usual time between two values, in milliseconds; 0 before the second value.
    usual_gap: i64,
    window: Window,
    episode: Episode,
}

impl Detector {
    pub fn new(rules: Rules) -> Self {
        let rules = rules.into_vec();
        let each: usize = rules.iter().map(|rule| rule.condition.memory() + size_of::<Watch>()).sum();
        let room = (MEMORY_BYTES / each.max(1)).max(MIN_SENSORS);
        Self { rules, sensors: Recent::new(room), late: 0 }
    }

    /// Judges a reading by every rule that applies to it. Readings of a partition come in offset order.
    pub fn observe(
        &mut self,
        partition: TopicPartition,
        reading: &Reading<'_>,
        mut raise: impl FnMut(Alert),
    ) {
        let Self { rules, sensors, late } = self;
        if !rules.iter().any(|rule| rule.value(reading).is_some()) {
            return;
        }
        let watches =
            sensors.get_or_insert_with((partition, reading.sensor), || rules.iter().map(|_| None).collect());
        for (rule, watch) in rules.iter().zip(watches) {
            let Some(value) = rule.value(reading) else { continue };
            let watch = watch.get_or_insert_with(|| Watch::new(rule));
            if reading.recorded_at <= watch.newest {
                *late += 1;
                continue;
            }
            let at = reading.recorded_at;
            let hold = Hold { length: rule.hold, max_gap: rule.max_gap(watch.usual_gap) };
            watch.pass(at);
            let verdict = watch.window.judge(&rule.condition, at, value);
            if let Some(change) = watch.episode.advance(at, hold, &verdict) {
                raise(Alert::new(rule, reading, value, &verdict, change));
            }
        }
    }

    /// Drops the state of a partition that was revoked; its next owner builds its own.
    pub fn forget(&mut self, partition: TopicPartition) {
        self.sensors.retain(|(of, _)| *of != partition);
    }

    /// Number of values since the last call that arrived too late to be judged.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Number of sensors since the last call that were dropped to stay within the memory limit.
    pub fn take_forgotten(&mut self) -> u64 {
        self.sensors.take_forgotten()
    }
}

impl Watch {
    fn new(rule: &Rule) -> Self {
        let window = Window::new(&rule.condition);
        Self { newest: i64::MIN, usual_gap: 0, window, episode: Episode::default() }
    }

    /// Takes note of a value's time.
    fn pass(&mut self, at: i64) {
        /// A longer silence counts as this many usual gaps, so that one outage does not change what is usual.
        const MAX_FACTOR: i64 = 4;
        /// The weight of the newest gap is one in this many.
        const WEIGHT: i64 = 8;
        if self.newest > i64::MIN {
            let gap = at - self.newest;
            self.usual_gap = match self.usual_gap {
                0 => gap,
                usual => usual + (gap.min(usual.saturating_mul(MAX_FACTOR)) - usual) / WEIGHT,
            };
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::State;
    use super::*;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("readings", partition)
    }

    const MINUTE: i64 = 60_000;

    fn detector(rules: &str) -> Detector {
        Detector::new(Rules::parse(rules).unwrap())
    }

    fn reading(sensor: u128, minute: i64, temperature: f32) -> Reading<'static> {
        Reading {
            location: "plant-1".into(),
            device_type: "thermostat".into(),
            sensor: Uuid::from_u128(sensor),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: minute * MINUTE,
            temperature: Some(temperature),
            humidity: None,
            pressure: None,
            motion_detected: None,
            light_level: None,
            gas_concentration: None,
            other_metrics: Vec::new(),
            states: Vec::new(),
        }
    }

    /// (minute, state) of each alert that a series of values raises.
    fn alerts(detector: &mut Detector, values: &[f32]) -> Vec<(i64, State)> {
        let mut raised = Vec::new();
        for (minute, &value) in (0..).zip(values) {
            detector.observe(of(0), &reading(1, minute, value), |alert| raised.push((minute, alert.state)));
        }
        raised
    }

    #[test]
    fn a_threshold_fires_once_an_episode_and_resolves_below_its_hysteresis() {
        let mut hot = detector(
            "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 28, hysteresis = 1 }",
        );
        let values = [27.0, 28.0, 29.0, 30.0, 27.5, 28.5, 27.0, 26.0, 29.0];
        let expected = [(2, State::Firing), (6, State::Resolved), (8, State::Firing)];
        assert_eq!(alerts(&mut hot, &values), expected);
    }

    #[test]
    fn a_condition_has_to_hold_for_as_long_as_the_rule_says() {
        let mut hot = detector(
            "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nfor = \"3m\"\nthreshold = { above = 28 }",
        );
        // The first episode is over after two minutes; the second one lasts.
        let values = [29.0, 29.0, 29.0, 20.0, 29.0, 29.0, 29.0, 29.0, 29.0, 20.0];
        assert_eq!(alerts(&mut hot, &values), [(7, State::Firing), (9, State::Resolved)]);
    }

    /// The minutes at which a rule `hot` above 28 fires, for hot readings at these minutes.
    fn fires_at(rest: &str, minutes: &[i64]) -> Vec<i64> {
        let mut hot = detector(&format!(
            "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nfor = \"5m\"\n{rest}\nthreshold = {{ above = 28 }}"
        ));
        let mut fired = Vec::new();
        for &minute in minutes {
            hot.observe(of(0), &reading(1, minute, 30.0), |_| fired.push(minute));
        }
        fired
    }

    #[test]
    fn readings_with_a_long_silence_between_them_do_not_show_that_a_condition_held() {
        assert!(fires_at("", &[0, 60]).is_empty());
        assert_eq!(fires_at("", &[0, 1, 2, 62, 63, 67]), [67]);
        assert_eq!(fires_at("", &[0, 4, 5]), [5]);
        // An hour is what is usual here.
        assert_eq!(fires_at("", &[0, 60, 120]), [120]);
        assert_eq!(fires_at("max_gap = \"1h\"", &[0, 60]), [60]);
        assert_eq!(fires_at("max_gap = \"2m\"", &[0, 3, 6, 8, 10, 11]), [11]);
    }

    #[test]
    fn a_jump_of_a_stuck_value_is_unusual() {
        let mut odd = detector("[[rule]]\nname = \"odd\"\nmetric = \"temperature\"\nrobust-z = {}");
        let mut values = vec![5.0; 100];
        values.extend([500.0, 5.0]);
        assert_eq!(alerts(&mut odd, &values), [(100, State::Firing), (101, State::Resolved)]);
        let mut coarse = detector(
            "[[rule]]\nname = \"odd\"\nmetric = \"temperature\"\nrobust-z = { min_deviation = 0.1 }",
        );
        let mut values = vec![5.0; 100];
        values.extend([5.1, 5.0, 5.7]);
        assert_eq!(alerts(&mut coarse, &values), [(102, State::Firing)]);
    }

    #[test]
    fn a_value_unlike_the_sensors_own_is_found_once_its_window_says_something() {
        let mut odd =
            detector("[[rule]]\nname = \"odd\"\nmetric = \"temperature\"\nrobust-z = { readings = 20 }");
        let mut values: Vec<f32> = [20.0, 20.5, 21.0, 21.5, 22.0].repeat(8);
        values[3] = 80.0;
        values[30] = 80.0;
        assert_eq!(alerts(&mut odd, &values), [(30, State::Firing), (31, State::Resolved)]);
    }

    #[test]
    fn the_online_rule_fires_where_the_score_of_a_file_is_an_alarm_and_resolves_when_its_readings_are_over() {
        let value = |minute: i64| {
            let unusual = if minute % 400 == 399 { 40.0 } else { 0.0 };
            ((minute as f64 * 7.3).sin() * 43_758.5).fract() as f32 + unusual
        };
        let mut strange = detector("[[rule]]\nname = \"s\"\nmetric = \"temperature\"\nonline = {}");
        let values: Vec<f32> = (0..2_000).map(value).collect();
        let raised = alerts(&mut strange, &values);
        let fired: Vec<i64> =
            raised.iter().filter(|(_, state)| *state == State::Firing).map(|(minute, _)| *minute).collect();
        let mut online = crate::anomalies::online::Online::new(crate::anomalies::Sensitivity::DEFAULT);
        let scored: Vec<i64> = (0..2_000)
            .filter(|minute| {
                let value = crate::reading::widen(value(*minute));
                online.judge(minute * MINUTE, value).is_alarm()
            })
            .collect();
        assert_eq!(fired, scored);
        assert!(fired.contains(&399) && fired.len() < 12, "{fired:?}");
        assert!(raised.contains(&(399 + 150, State::Resolved)), "{raised:?}");
    }

    #[test]
    fn a_rise_is_measured_against_the_lowest_value_of_its_time() {
        let mut rising = detector(
            "[[rule]]\nname = \"r\"\nmetric = \"temperature\"\nchange = { rise = 4, within = \"3m\" }",
        );
        let values = [20.0, 22.0, 24.0, 25.0, 25.0, 25.0, 25.0, 20.0, 30.0];
        // At minute 3 it is 5 above minute 0; at minute 4 it is 3 above minute 1, and minute 0 is too long ago.
        let expected = [(3, State::Firing), (4, State::Resolved), (8, State::Firing)];
        assert_eq!(alerts(&mut rising, &values), expected);
    }

    #[test]
    fn sensors_partitions_and_other_groups_do_not_mix() {
        let rules = "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nlocation = \"plant-1\"\n\
                     threshold = { above = 28 }";
        let mut hot = detector(rules);
        let mut raised = Vec::new();
        let elsewhere = Reading { location: "plant-2".into(), ..reading(1, 0, 40.0) };
        let silent = Reading { temperature: None, ..reading(1, 0, 40.0) };
        for (partition, reading) in [
            (0, elsewhere),
            (0, silent),
            (0, reading(1, 0, 40.0)),
            (0, reading(1, 0, 40.0)),
            (0, reading(2, 0, 40.0)),
            (7, reading(1, 0, 40.0)),
        ] {
            hot.observe(of(partition), &reading, |alert| {
                raised.push((partition, alert.iot_sensor_id.as_u128()));
            });
        }
        assert_eq!(raised, [(0, 1), (0, 2), (7, 1)]);
        assert_eq!((hot.take_late(), hot.take_late()), (1, 0));
        hot.forget(of(0));
        hot.observe(of(7), &reading(1, 1, 40.0), |_| panic!("it fires already"));
        hot.observe(of(0), &reading(1, 1, 40.0), |_| raised.clear());
        assert_eq!(raised, []);
    }
}
