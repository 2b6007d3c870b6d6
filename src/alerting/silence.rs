//! Sensors that have sent nothing for too long: judged by their readings, and by the clock once all readings are known.
//!
//! Silence is counted from the newest `recorded_timestamp`. The alert has the moment at which the silence became too long,
//! whenever it was noticed, so a silence that is noticed again after a restart has the same alert with the same id.

use std::collections::HashMap;

use uuid::Uuid;

use super::alert::{About, Alert};
use super::episode::Transition;
use super::rules::{Condition, Rule, Silent};
use super::state::{KeptAlert, KeptSilence};
use crate::kafka::TopicPartition;
use crate::reading::Reading;

/// Sensors that are remembered: about 100 MB. Others are not judged.
const MOST: usize = 500_000;

/// All sensors that are known, from readings and from the store.
#[derive(Debug, Default)]
pub(super) struct Silences {
    sensors: HashMap<Uuid, Sensor>,
    left_out: u64,
}

/// A sensor of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSensor {
    pub location: String,
    pub device_type: String,
    pub sensor: Uuid,
    /// The time of its newest reading, in milliseconds since the epoch.
    pub newest: i64,
}

#[derive(Debug)]
struct Sensor {
    /// Where its readings come from; `None` for one of which none has come.
    partition: Option<TopicPartition>,
    location: Box<str>,
    device_type: Box<str>,
    name: Option<Box<str>>,
    newest: i64,
    /// By rule: the alert, while it fires.
    fired: Box<[Option<Box<Alert>>]>,
}

impl Silences {
    /// Takes note of a reading, which ends a silence.
    pub(super) fn pass(
        &mut self,
        rules: &[Rule],
        partition: TopicPartition,
        reading: &Reading<'_>,
        raise: &mut impl FnMut(Alert),
    ) {
        if !self.sensors.contains_key(&reading.sensor) {
            if self.sensors.len() >= MOST {
                self.left_out += 1;
                return;
            }
            let sensor = Sensor::new(rules, &reading.location, &reading.device_type, i64::MIN);
            self.sensors.insert(reading.sensor, sensor);
        }
        let Some(sensor) = self.sensors.get_mut(&reading.sensor) else { return };
        sensor.partition = Some(partition);
        let at = reading.recorded_at;
        if at <= sensor.newest {
            return;
        }
        for (rule, silent, index) in silent(rules) {
            if sensor.newest > i64::MIN {
                sensor.judge(reading.sensor, rule, silent, index, at, raise);
            }
            if let Some(fired) = sensor.fired.get_mut(index).and_then(Option::take) {
                // Later than the alert that it ends, also where readings were delayed.
                let after = at.max(fired.recorded_timestamp.timestamp_millis() + 1);
                let transition = Transition::Resolves { since: sensor.newest };
                raise(sensor.alert(reading.sensor, rule, transition, after, at));
            }
        }
        if *sensor.location != *reading.location || *sensor.device_type != *reading.device_type {
            sensor.location = (&*reading.location).into();
            sensor.device_type = (&*reading.device_type).into();
        }
        if sensor.name.as_deref() != reading.sensor_name.as_deref() {
            sensor.name = reading.sensor_name.as_deref().map(Into::into);
        }
        sensor.newest = at;
    }

    /// Takes sensors of the store. A newer reading of one that is read by another member of the consumer group ends its
    /// silence there.
    pub(super) fn learn(&mut self, rules: &[Rule], known: Vec<KnownSensor>) {
        for KnownSensor { location, device_type, sensor, newest } in known {
            if !silent(rules).any(|(rule, ..)| rule.is_about(&location, &device_type)) {
                continue;
            }
            let is_full = self.sensors.len() >= MOST;
            match self.sensors.get_mut(&sensor) {
                Some(ours) if ours.partition.is_none() && newest > ours.newest => {
                    ours.newest = newest;
                    ours.fired.fill(None);
                }
                Some(_) => {}
                None if is_full => self.left_out += 1,
                None => {
                    let state = Sensor::new(rules, &location, &device_type, newest);
                    self.sensors.insert(sensor, state);
                }
            }
        }
    }

    /// Judges by the clock. `known_until` is the time up to which all readings of a partition are known, and of `None` those of
    /// all sensors of which no reading came. `changed` gets the sensors with readings that fire now.
    pub(super) fn judge(
        &mut self,
        rules: &[Rule],
        known_until: impl Fn(Option<TopicPartition>) -> Option<i64>,
        raise: &mut impl FnMut(Alert),
        changed: &mut Vec<(TopicPartition, Uuid)>,
    ) {
        for (id, sensor) in &mut self.sensors {
            let Some(now) = known_until(sensor.partition) else { continue };
            for (rule, silent, index) in silent(rules) {
                // One that is out of service is not reported when it is seen first.
                if sensor.partition.is_some() || now.saturating_sub(sensor.newest) <= silent.forget_after {
                    let has_fired = sensor.judge(*id, rule, silent, index, now, raise);
                    changed.extend(sensor.partition.filter(|_| has_fired).map(|of| (of, *id)));
                }
            }
        }
    }

    /// What is remembered of a sensor of the partition.
    pub(super) fn kept(&self, partition: TopicPartition, id: Uuid) -> Option<KeptSilence> {
        let sensor = self.sensors.get(&id).filter(|sensor| sensor.partition == Some(partition))?;
        Some(KeptSilence {
            location: sensor.location.to_string(),
            device_type: sensor.device_type.to_string(),
            name: sensor.name.as_deref().map(str::to_owned),
            newest: sensor.newest,
            fired: sensor.fired.iter().flatten().map(|fired| KeptAlert((**fired).clone())).collect(),
        })
    }

    /// Goes on from what was remembered; what is silent by a rule that is gone is resolved. Returns the number of alerts that
    /// still fire.
    pub(super) fn restore(
        &mut self,
        rules: &[Rule],
        partition: TopicPartition,
        id: Uuid,
        kept: KeptSilence,
        raise: &mut impl FnMut(Alert),
    ) -> usize {
        let is_judged = silent(rules).any(|(rule, ..)| rule.is_about(&kept.location, &kept.device_type));
        let mut sensor = Sensor::new(rules, &kept.location, &kept.device_type, kept.newest);
        (sensor.partition, sensor.name) = (Some(partition), kept.name.as_deref().map(Into::into));
        let mut firing = 0;
        for KeptAlert(alert) in kept.fired {
            let rule = silent(rules).find(|(rule, ..)| {
                rule.name == alert.rule && rule.is_about(&kept.location, &kept.device_type)
            });
            match rule.and_then(|(.., index)| sensor.fired.get_mut(index)) {
                Some(fired) => {
                    *fired = Some(Box::new(alert));
                    firing += 1;
                }
                None => raise(Alert::withdrawn(&alert, kept.newest)),
            }
        }
        let is_full = self.sensors.len() >= MOST && !self.sensors.contains_key(&id);
        // Readings that the store knows already come again.
        if is_judged && !is_full {
            self.sensors.insert(id, sensor);
        }
        firing
    }

    /// Whether the store has to be asked again about sensors of which no reading came.
    pub(super) fn has_unseen(&self) -> bool {
        self.sensors.values().any(|sensor| sensor.partition.is_none())
    }

    /// Other rules: `before` has for each of them its place among the old ones.
    pub(super) fn replace(
        &mut self,
        rules: &[Rule],
        before: &[Option<usize>],
        raise: &mut impl FnMut(Alert),
    ) {
        for sensor in self.sensors.values_mut() {
            let mut old = std::mem::take(&mut sensor.fired);
            let goes_on = |rule: &Rule| {
                let is_silent = matches!(rule.condition, Condition::Silent(_));
                is_silent && rule.is_about(&sensor.location, &sensor.device_type)
            };
            sensor.fired = rules
                .iter()
                .zip(before)
                .map(|(rule, index)| {
                    let fired = index.filter(|_| goes_on(rule)).and_then(|index| old.get_mut(index));
                    fired.and_then(Option::take)
                })
                .collect();
            old.iter().flatten().for_each(|fired| raise(Alert::withdrawn(fired, sensor.newest)));
        }
    }

    /// Sensors that stay known without being read.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        for sensor in self.sensors.values_mut() {
            if sensor.partition == Some(partition) {
                sensor.partition = None;
            }
        }
    }

    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

impl Sensor {
    /// One of which no reading came, and nothing fires.
    fn new(rules: &[Rule], location: &str, device_type: &str, newest: i64) -> Self {
        Self {
            partition: None,
            location: location.into(),
            device_type: device_type.into(),
            name: None,
            newest,
            fired: rules.iter().map(|_| None).collect(),
        }
    }

    /// Fires if the silence until `now` is too long. Returns whether it does.
    fn judge(
        &mut self,
        id: Uuid,
        rule: &Rule,
        silent: &Silent,
        index: usize,
        now: i64,
        raise: &mut impl FnMut(Alert),
    ) -> bool {
        let due = self.newest.saturating_add(silent.after);
        let fires = now > due
            && self.fired.get(index) == Some(&None)
            && rule.is_about(&self.location, &self.device_type)
            && !(rule.schedule.is_quiet(due) && rule.schedule.is_quiet(now));
        if fires {
            let alert = self.alert(id, rule, Transition::Fires { since: self.newest }, due, due);
            if let Some(fired) = self.fired.get_mut(index) {
                *fired = Some(Box::new(alert.clone()));
            }
            raise(alert);
        }
        fires
    }

    fn alert(&self, id: Uuid, rule: &Rule, transition: Transition, at: i64, until: i64) -> Alert {
        let about = About {
            sensor: id,
            sensor_name: self.name.as_deref(),
            location: &self.location,
            device_type: &self.device_type,
            at,
        };
        Alert::of_silence(rule, about, transition, until.saturating_sub(self.newest) as f64 / 1e3)
    }
}

fn silent(rules: &[Rule]) -> impl Iterator<Item = (&Rule, &Silent, usize)> {
    rules.iter().enumerate().filter_map(|(index, rule)| match &rule.condition {
        Condition::Silent(silent) => Some((rule, silent, index)),
        _ => None,
    })
}
