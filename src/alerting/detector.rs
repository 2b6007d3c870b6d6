//! The rules applied to each reading, with the state of each rule per sensor.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::alert::Alert;
use super::episode::{Episode, Hold, Transition};
use super::memory::Recent;
use super::peers::{Groups, Peer};
use super::rules::{Condition, Rule, Rules};
use super::silence::{KnownSensor, Silences};
use super::state::{self, Kept, KeptRule, RawState, StateError};
use super::verdict::Standing;
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
    /// What values mean to each of the rules.
    fingerprints: Vec<Uuid>,
    sensors: Recent<(TopicPartition, Uuid), Tracked>,
    /// By rule; empty but for rules that compare with the group.
    groups: Box<[Groups]>,
    /// Whether there is a rule about silence.
    judges_silence: bool,
    silences: Silences,
    /// Values that arrived too late to be judged.
    late: u64,
    /// Sensors whose state has changed since it was last asked for; `None` where nobody asks.
    changed: Option<Changed>,
}

type Changed = HashMap<TopicPartition, Vec<Uuid>>;

/// What is remembered of a sensor.
#[derive(Debug)]
struct Tracked {
    /// By rule.
    watches: Box<[Option<Watch>]>,
    /// Whether it is on the list of the changed ones.
    is_changed: bool,
}

/// The state of one rule for one sensor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    /// The time of the newest value, in milliseconds since the epoch.
    newest: i64,
    /// The usual time between two values, in milliseconds; 0 before the second value.
    usual_gap: i64,
    window: Window,
    episode: Episode,
    /// The alert that began the episode, while it fires.
    #[serde(with = "state::by_name")]
    fired: Option<Box<Alert>>,
    /// With a rule that compares with the group: what its other sensors are compared with.
    peer: Option<Box<Peer>>,
}

impl Detector {
    pub fn new(rules: Rules) -> Self {
        let rules = rules.into_vec();
        let room = room(&rules);
        let groups = rules.iter().map(|_| Groups::default()).collect();
        let judges_silence = rules.iter().any(|rule| matches!(rule.condition, Condition::Silent(_)));
        Self {
            fingerprints: rules.iter().map(Rule::fingerprint).collect(),
            rules,
            sensors: Recent::new(room),
            groups,
            judges_silence,
            silences: Silences::default(),
            late: 0,
            changed: None,
        }
    }

    /// Judges by other rules from now on. A rule that keeps its name keeps its episodes, and its windows too unless it judges
    /// otherwise. What fires by a rule that is gone, or is no longer about the sensor, is resolved.
    pub fn replace(&mut self, rules: Rules, mut raise: impl FnMut(Alert)) {
        let rules = rules.into_vec();
        let before: Vec<Option<usize>> =
            rules.iter().map(|rule| self.rules.iter().position(|old| old.name == rule.name)).collect();
        let keeps: Vec<bool> = rules
            .iter()
            .zip(&before)
            .map(|(rule, old)| {
                old.and_then(|old| self.rules.get(old)).is_some_and(|old| old.judges_like(rule))
            })
            .collect();
        for (key, tracked) in self.sensors.iter_mut() {
            let mut old = std::mem::take(&mut tracked.watches);
            tracked.watches = rules
                .iter()
                .zip(before.iter().zip(&keeps))
                .map(|(rule, (index, keeps))| {
                    let watch = index.and_then(|index| old.get_mut(index)).and_then(Option::take)?;
                    watch.under(rule, *keeps, &mut raise)
                })
                .collect();
            old.iter().flatten().for_each(|watch| watch.withdraw(&mut raise));
            tracked.change(*key, &mut self.changed);
        }
        let mut old = std::mem::take(&mut self.groups);
        self.groups = before
            .iter()
            .zip(&keeps)
            .map(|(index, keeps)| {
                let groups =
                    index.filter(|_| *keeps).and_then(|index| old.get_mut(index)).map(std::mem::take);
                groups.unwrap_or_default()
            })
            .collect();
        self.silences.replace(&rules, &before, &mut raise);
        self.sensors.resize(room(&rules));
        self.judges_silence = rules.iter().any(|rule| matches!(rule.condition, Condition::Silent(_)));
        self.fingerprints = rules.iter().map(Rule::fingerprint).collect();
        self.rules = rules;
    }

    /// Judges a reading by every rule that applies to it. Readings of a partition come in offset order.
    pub fn observe(
        &mut self,
        partition: TopicPartition,
        reading: &Reading<'_>,
        mut raise: impl FnMut(Alert),
    ) {
        let Self { rules, sensors, groups, judges_silence, silences, late, changed, .. } = self;
        if *judges_silence {
            silences.pass(rules, partition, reading, &mut raise);
        }
        if !rules.iter().any(|rule| rule.is_about(&reading.location, &reading.device_type)) {
            return;
        }
        let mut values =
            rules.iter().map(|rule| rule.value(reading)).enumerate().skip_while(|(_, value)| value.is_none());
        let first = values.next();
        if first.is_none() && (changed.is_none() || !*judges_silence) {
            return;
        }
        let key = (partition, reading.sensor);
        let tracked = sensors.get_or_insert_with(key, || Tracked::new(rules));
        tracked.change(key, changed);
        for (index, value) in first.into_iter().chain(values) {
            let Some(value) = value else { continue };
            let (Some(rule), Some(groups)) = (rules.get(index), groups.get_mut(index)) else { continue };
            let Some(watch) = tracked.watches.get_mut(index) else { continue };
            let watch = watch.get_or_insert_with(|| Watch::new(rule));
            if reading.recorded_at <= watch.newest {
                *late += 1;
                continue;
            }
            let at = reading.recorded_at;
            let hold = Hold { length: rule.hold, max_gap: rule.max_gap(watch.usual_gap) };
            watch.pass(at);
            let verdict = match &rule.condition {
                Condition::Peers(peers) => {
                    let verdict = groups.judge(peers, partition, reading, value);
                    Peer::note(&mut watch.peer, reading, value);
                    verdict
                }
                condition => watch.window.judge(condition, at, value),
            };
            // The clock of a schedule is asked only where something could fire.
            let is_quiet = verdict.standing == Standing::Breach && rule.schedule.is_quiet(at);
            if let Some(change) = watch.episode.advance(at, hold, &verdict, is_quiet) {
                let alert = Alert::new(rule, reading, value, &verdict, change);
                let fires = matches!(change, Transition::Fires { .. });
                watch.fired = fires.then(|| Box::new(alert.clone()));
                raise(alert);
            }
        }
    }

    /// Notes from now on whose state has changed.
    pub fn note_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// The sensors of a partition whose state has changed since the last call.
    pub fn take_changed(&mut self, partition: TopicPartition) -> Vec<Uuid> {
        let taken = self.changed.as_mut().and_then(|changed| changed.remove(&partition)).unwrap_or_default();
        for sensor in &taken {
            if let Some(tracked) = self.sensors.peek_mut(&(partition, *sensor)) {
                tracked.is_changed = false;
            }
        }
        taken
    }

    /// A sensor's state counts as changed.
    pub fn mark_changed(&mut self, partition: TopicPartition, sensor: Uuid) {
        let key = (partition, sensor);
        if let Some(tracked) = self.sensors.peek_mut(&key) {
            tracked.change(key, &mut self.changed);
        }
    }

    /// What is remembered of a sensor, for [`Detector::restore`]; `None` of one that was forgotten meanwhile.
    pub fn state(&mut self, partition: TopicPartition, sensor: Uuid) -> Option<RawState> {
        let tracked = self.sensors.peek_mut(&(partition, sensor))?;
        let rules = self.rules.iter().zip(&self.fingerprints).zip(&tracked.watches);
        let rules = rules.filter_map(|((rule, fingerprint), watch)| {
            Some(KeptRule { name: rule.name.as_str(), fingerprint: *fingerprint, watch: watch.as_ref()? })
        });
        let silence = if self.judges_silence { self.silences.kept(partition, sensor) } else { None };
        Some(RawState::of(&Kept { rules: rules.collect(), silence }))
    }

    /// Goes on from what was remembered of a sensor. A rule that judges otherwise now keeps its episode; what fires by a rule that
    /// is gone, or is no longer about the sensor, is resolved.
    ///
    /// # Errors
    /// It cannot be read; nothing is remembered then.
    pub fn restore(
        &mut self,
        partition: TopicPartition,
        sensor: Uuid,
        state: &[u8],
        mut raise: impl FnMut(Alert),
    ) -> Result<(), StateError> {
        let Kept { rules, silence } = state::open(state)?;
        let key = (partition, sensor);
        let tracked = self.sensors.get_or_insert_with(key, || Tracked::new(&self.rules));
        let mut is_other = false;
        for KeptRule { name, fingerprint, watch } in rules {
            let Some(index) = self.rules.iter().position(|rule| rule.name == name) else {
                watch.withdraw(&mut raise);
                is_other = true;
                continue;
            };
            let Some(rule) = self.rules.get(index) else { continue };
            let is_same = self.fingerprints.get(index) == Some(&fingerprint);
            is_other |= !is_same;
            let watch = watch.under(rule, is_same, &mut raise);
            if let (Some(peer), Some(groups)) =
                (watch.as_ref().and_then(|watch| watch.peer.as_ref()), self.groups.get_mut(index))
            {
                groups.restore(partition, sensor, peer);
            }
            if let Some(place) = tracked.watches.get_mut(index) {
                *place = watch;
            }
        }
        if let Some(silence) = silence {
            let fired = silence.fired.len();
            is_other |= self.silences.restore(&self.rules, partition, sensor, silence, &mut raise) < fired;
        }
        if is_other {
            tracked.change(key, &mut self.changed);
        }
        Ok(())
    }

    /// Whether there is a rule that compares sensors, of whichever partition, with each other.
    pub fn compares_sensors(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.condition, Condition::Peers(_)))
    }

    /// Whether sensors have to be judged by the clock too.
    pub fn judges_silence(&self) -> bool {
        self.judges_silence
    }

    /// Takes sensors of the store, so that one is missed that never sends again.
    pub fn learn(&mut self, known: Vec<KnownSensor>) {
        self.silences.learn(&self.rules, known);
    }

    /// Whether sensors are known of which no reading came.
    pub fn has_unseen(&self) -> bool {
        self.silences.has_unseen()
    }

    /// Judges silence by the clock. `known_until` is the time, in milliseconds since the epoch, up to which all readings of a
    /// partition are known; of `None`, those of sensors of which no reading came.
    pub fn judge_silence(
        &mut self,
        known_until: impl Fn(Option<TopicPartition>) -> Option<i64>,
        mut raise: impl FnMut(Alert),
    ) {
        let mut changed = Vec::new();
        self.silences.judge(&self.rules, known_until, &mut raise, &mut changed);
        for (partition, sensor) in changed {
            let key = (partition, sensor);
            if self.changed.is_some() {
                let tracked = self.sensors.get_or_insert_with(key, || Tracked::new(&self.rules));
                tracked.change(key, &mut self.changed);
            }
        }
    }

    /// Drops the state of a partition that was revoked; its next owner builds its own.
    pub fn forget(&mut self, partition: TopicPartition) {
        self.sensors.retain(|(of, _)| *of != partition);
        self.groups.iter_mut().for_each(|groups| groups.forget(partition));
        self.silences.forget(partition);
        self.take_changed(partition);
    }

    /// Number of values since the last call that arrived too late to be judged.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Number of sensors since the last call that were dropped to stay within the memory limit.
    pub fn take_forgotten(&mut self) -> u64 {
        self.sensors.take_forgotten() + self.silences.take_left_out()
    }
}

/// Sensors that fit into memory.
fn room(rules: &[Rule]) -> usize {
    let each: usize = rules.iter().map(|rule| rule.condition.memory() + size_of::<Watch>()).sum();
    (MEMORY_BYTES / each.max(1)).max(MIN_SENSORS)
}

impl Tracked {
    fn new(rules: &[Rule]) -> Self {
        Self { watches: rules.iter().map(|_| None).collect(), is_changed: false }
    }

    /// Takes note of a change, once until it is asked for.
    fn change(&mut self, (partition, sensor): (TopicPartition, Uuid), changed: &mut Option<Changed>) {
        if let Some(changed) = changed.as_mut().filter(|_| !self.is_changed) {
            self.is_changed = true;
            changed.entry(partition).or_default().push(sensor);
        }
    }
}

impl Watch {
    fn new(rule: &Rule) -> Self {
        let window = Window::new(&rule.condition);
        Self { newest: i64::MIN, usual_gap: 0, window, episode: Episode::default(), fired: None, peer: None }
    }

    /// Goes on under a rule of the same name; `is_same` where that judges as before.
    fn under(self, rule: &Rule, is_same: bool, raise: &mut impl FnMut(Alert)) -> Option<Self> {
        if is_same {
            return Some(self);
        }
        if self.fired.as_ref().is_some_and(|fired| !rule.is_about(&fired.location, &fired.device_type)) {
            self.withdraw(raise);
            return None;
        }
        Some(Self { window: Window::new(&rule.condition), peer: None, ..self })
    }

    /// Ends its episode, because the rule is gone.
    fn withdraw(&self, raise: &mut impl FnMut(Alert)) {
        if let Some(fired) = &self.fired {
            raise(Alert::withdrawn(fired, self.newest));
        }
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

    #[test]
    fn lengths_of_time_in_messages_are_those_of_the_rules() {
        let mut quiet = detector("[[rule]]\nname = \"quiet\"\nsilent = { after = \"6d\" }");
        let mut messages = Vec::new();
        for day in [0, 7] {
            quiet.observe(of(0), &reading(1, day * 24 * 60, 20.0), |alert| messages.push(alert.message));
        }
        assert!(messages[0].contains("no reading for 6d or longer"), "{messages:?}");
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

    /// (minute, state) of each alert of a rule on the temperature.
    fn of_rule(rule: &str, values: &[f32]) -> Vec<(i64, State)> {
        alerts(&mut detector(&format!("[[rule]]\nname = \"r\"\nmetric = \"temperature\"\n{rule}")), values)
    }

    #[test]
    fn a_rate_is_that_between_two_values_and_ends_below_its_hysteresis() {
        use State::{Firing, Resolved};
        let values = [20.0, 21.0, 23.0, 24.8, 25.8, 25.8, 20.0];
        let rule = "rate = { above = 1.5, hysteresis = 0.5, per = \"min\" }";
        assert_eq!(of_rule(rule, &values), [(2, Firing), (4, Resolved)]);
        let hourly = "rate = { below = -300, per = \"h\" }";
        assert_eq!(of_rule(hourly, &values), [(6, Firing)]);
        let short = "rate = { above = 0.1, per = \"min\", max_gap = \"30s\" }";
        assert_eq!(of_rule(short, &values), []);
    }

    #[test]
    fn a_value_is_stuck_after_readings_or_a_time_within_its_tolerance() {
        use State::{Firing, Resolved};
        let values = [1.0, 2.0, 2.05, 2.0, 2.0, 2.1, 3.0, 3.0];
        assert_eq!(
            of_rule("stuck = { readings = 4, tolerance = 0.15 }", &values),
            [(4, Firing), (6, Resolved)]
        );
        assert_eq!(of_rule("stuck = { readings = 4 }", &values), []);
        assert_eq!(
            of_rule("stuck = { time = \"3m\", tolerance = 0.15 }", &values),
            [(4, Firing), (6, Resolved)]
        );
        assert_eq!(of_rule("stuck = { readings = 2, tolerance = 9, max_gap = \"30s\" }", &values), []);
    }

    #[test]
    fn a_band_has_other_limits_by_the_hour() {
        use State::{Firing, Resolved};
        // Minutes since the epoch: the first hour of a Thursday.
        let rule = "band = { hysteresis = 1, hours = [{ at = \"00:00-00:03\", above = 20 }, { at = \"thu\", above = 30 }] }";
        let values = [19.0, 21.0, 19.5, 25.0, 31.0];
        assert_eq!(of_rule(rule, &values), [(1, Firing), (3, Resolved), (4, Firing)]);
    }

    #[test]
    fn a_rule_in_quiet_hours_waits_for_their_end() {
        let rule = "schedule = { quiet = [\"00:00-00:03\"] }\nthreshold = { above = 20 }";
        assert_eq!(of_rule(rule, &[21.0, 19.0, 21.0, 21.0]), [(3, State::Firing)]);
    }

    #[test]
    fn an_expression_is_judged_like_a_metric() {
        let rule = "expression = \".temperature * 2 - 10\"\nthreshold = { above = 30 }";
        assert_eq!(of_rule(rule, &[20.0, 21.0]), [(1, State::Firing)]);
    }

    #[test]
    fn a_sensor_is_compared_with_the_others_of_its_group() {
        let mut odd = detector(
            "[[rule]]\nname = \"odd\"\nmetric = \"temperature\"\nlabels = { team = \"cooling\" }\n\
             peers = { above = 5, below = -5, within = \"10m\" }",
        );
        let mut raised = Vec::new();
        for (sensor, minute, value) in [
            (1, 0, 20.0),
            (2, 0, 90.0),
            (3, 1, 21.0),
            (2, 1, 40.0),
            (2, 2, 22.0),
            // The others are too old.
            (1, 60, 90.0),
        ] {
            odd.observe(of(0), &reading(sensor, minute, value), |alert| {
                raised.push((alert.iot_sensor_id.as_u128(), minute, alert.state, alert.expected));
                assert_eq!(alert.labels["team"], "cooling");
            });
        }
        assert_eq!(raised[0], (3, 1, State::Firing, Some(55.0)), "the median of 20 and 90");
        assert_eq!(raised[1..], [(2, 1, State::Firing, Some(20.5)), (2, 2, State::Resolved, Some(20.5))]);
    }

    #[test]
    fn a_sensor_that_sends_nothing_is_silent_by_the_clock_and_by_its_next_reading() {
        let mut quiet = detector("[[rule]]\nname = \"quiet\"\nsilent = { after = \"5m\" }");
        let mut raised = Vec::new();
        let mut note = |alert: Alert| {
            let minute = |at: chrono::DateTime<chrono::Utc>| at.timestamp_millis() / MINUTE;
            raised.push((
                alert.iot_sensor_id.as_u128(),
                alert.state,
                minute(alert.recorded_timestamp),
                minute(alert.since),
            ));
        };
        let known = |sensor, minute: i64| KnownSensor {
            location: "plant-1".to_owned(),
            device_type: "thermostat".to_owned(),
            sensor: Uuid::from_u128(sensor),
            newest: minute * MINUTE,
        };
        quiet.learn(vec![known(9, 20_000), known(8, 0)]);
        quiet.observe(of(0), &reading(1, 20_000, 1.0), &mut note);
        quiet.observe(of(0), &reading(2, 20_000, 1.0), &mut note);
        // A gap that is over when it is seen.
        quiet.observe(of(0), &reading(1, 20_010, 1.0), &mut note);
        // Nothing is known of partition 0 since minute 20004.
        quiet.judge_silence(|of| of.map(|_| 20_004 * MINUTE), &mut note);
        quiet.judge_silence(|_| Some(20_012 * MINUTE), &mut note);
        quiet.judge_silence(|_| Some(20_013 * MINUTE), &mut note);
        // A delayed reading, of before the alert.
        quiet.observe(of(0), &reading(2, 20_003, 1.0), &mut note);
        raised.sort_by_key(|(sensor, ..)| *sensor);
        assert_eq!(
            raised,
            [
                (1, State::Firing, 20_005, 20_000),
                (1, State::Resolved, 20_010, 20_000),
                (2, State::Firing, 20_005, 20_000),
                (2, State::Resolved, 20_005, 20_000),
                // Sensor 8 has been out of service for a week.
                (9, State::Firing, 20_005, 20_000),
            ]
        );
    }

    #[test]
    fn a_changed_rule_keeps_its_episode_and_an_unchanged_one_its_window() {
        let rule = |name: &str, rest: &str| {
            format!("[[rule]]\nname = \"{name}\"\nmetric = \"temperature\"\n{rest}\n")
        };
        let hot = |limit: u32| rule("hot", &format!("threshold = {{ above = {limit} }}"));
        let odd = rule("odd", "robust-z = { readings = 20 }");
        let mut detector = detector(&(hot(28) + &odd));
        let values: Vec<f32> = [29.0, 29.5, 30.0, 29.5, 29.2].repeat(6);
        assert_eq!(alerts(&mut detector, &values), [(0, State::Firing)]);
        // The rules in another order, with another limit and a new rule.
        detector.replace(
            Rules::parse(&(odd + &hot(25) + &rule("cold", "threshold = { below = 50 }"))).unwrap(),
            |_| panic!("no rule is gone"),
        );
        let mut raised = Vec::new();
        for (minute, value) in [(40, 29.0), (41, 20.0)] {
            detector.observe(of(0), &reading(1, minute, value), |alert| {
                raised.push((minute, alert.rule, alert.state));
            });
        }
        let named = |minute, name: &str, state| (minute, name.to_owned(), state);
        assert_eq!(
            raised,
            [
                named(40, "cold", State::Firing),
                named(41, "odd", State::Firing),
                named(41, "hot", State::Resolved),
            ]
        );
    }
}
