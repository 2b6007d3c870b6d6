//! The result of an audit.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::compare::Compared;
use super::findings::{FindingRange, Findings, Kind};
use super::names::GroupNames;
use super::topics::AuditedTopics;
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::store::sensors::SensorNames;

/// The contents of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerSide {
    pub path: PathBuf,
    pub entries: u64,
    /// Entries of messages that were damaged on purpose.
    pub malformed: u64,
    /// Incomplete lines, left by a process that was killed while it wrote.
    pub unreadable_lines: u64,
}

/// The contents of the topics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicSide {
    pub name: String,
    pub messages: u64,
    pub undecodable: u64,
    /// Messages that the group has not committed yet.
    pub not_committed: u64,
    /// Messages of the topic that are in the dead-letter topic too.
    pub dead_lettered: u64,
    /// All messages in the dead-letter topic.
    pub dead_letters: u64,
    /// Messages without a payload, which `ingest` skips.
    pub tombstones: u64,
    /// Messages that the mapping says hold no reading.
    pub skipped: u64,
    /// Readings without any value, which `ingest` does not store.
    pub empty_readings: u64,
    /// Messages that Kafka deleted before the group had read them: those that `ingest` noted, and those deleted since
    /// its last commit.
    pub deleted_unread: u64,
    /// Whether retention has deleted messages from the start of the topic.
    pub is_cut: bool,
}

/// The count of one kind of finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    pub readings: u64,
    pub sensors: u64,
    pub ranges: u64,
}

/// A range of a sensor's readings with the same finding. Partition and offset are those of the first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    pub kind: Kind,
    pub iot_sensor_id: Option<Uuid>,
    /// What it is called, if it has a name.
    pub sensor_name: Option<String>,
    pub location: Option<String>,
    pub device_type: Option<String>,
    /// Milliseconds since the epoch, the first and the last.
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub readings: u64,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
}

/// The result of an audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether nothing is missing, different or unexpected.
    pub is_sound: bool,
    /// The mapping's place and fingerprint; `None` for the built-in format.
    pub mapping: Option<String>,
    pub ledger: Option<LedgerSide>,
    pub topic: TopicSide,
    pub rows: u64,
    pub compared: Compared,
    pub troubles: BTreeMap<Kind, Trouble>,
    pub examples: Vec<Example>,
    pub seconds: f64,
}

/// What was compared.
pub(super) struct Sides {
    pub mapping: Option<String>,
    pub ledger: Option<LedgerSide>,
    pub topic: TopicSide,
    pub rows: u64,
}

impl Report {
    pub(super) fn new(
        Sides { mapping, ledger, topic, rows }: Sides,
        compared: Compared,
        findings: Findings,
        names: &GroupNames,
        topics: &AuditedTopics,
    ) -> Self {
        let mut troubles = BTreeMap::new();
        for kind in Kind::ALL {
            let tally = findings.tally(kind);
            let (readings, sensors, ranges) = (tally.readings, tally.sensors, tally.ranges);
            troubles.insert(kind, Trouble { readings, sensors, ranges });
        }
        let is_sound = Kind::ALL.into_iter().all(|kind| kind.is_harmless() || findings.count(kind) == 0)
            && topic.deleted_unread == 0;
        let examples =
            findings.into_examples().iter().map(|range| Example::of(range, names, topics)).collect();
        Self { is_sound, mapping, ledger, topic, rows, compared, troubles, examples, seconds: 0.0 }
    }

    /// What the ledger calls the sensors of the examples.
    pub(super) fn name_sensors_by(&mut self, ledger: &HashMap<Uuid, Box<str>>) {
        for example in &mut self.examples {
            example.sensor_name =
                example.iot_sensor_id.and_then(|id| ledger.get(&id)).map(ToString::to_string);
        }
    }

    /// Looks up what the sensors of the examples are called; of those that are not registered, the name of the ledger stays.
    pub(super) async fn name_sensors(&mut self, session: &Session) -> Result<(), Error> {
        let mut names = SensorNames::default();
        let of = |example: &Example| {
            let (location, device_type) = (example.location.clone()?, example.device_type.clone()?);
            Some((Arc::new(Group { location, device_type }), example.iot_sensor_id?))
        };
        let sensors: Vec<_> = self.examples.iter().filter_map(of).collect();
        names.learn(session, sensors.iter().map(|(group, sensor)| (group, *sensor))).await?;
        // What only the ledger knows has no group.
        let rest = self.examples.iter().filter(|example| of(example).is_none());
        names.learn_by_id(session, rest.filter_map(|example| example.iot_sensor_id)).await?;
        for example in &mut self.examples {
            if let Some(name) = example.iot_sensor_id.and_then(|id| names.get(id)) {
                example.sensor_name = Some(name.to_owned());
            }
        }
        Ok(())
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.troubles.get(&kind).map_or(0, |trouble| trouble.readings)
    }
}

impl Example {
    fn of(range: &FindingRange, names: &GroupNames, topics: &AuditedTopics) -> Self {
        let place = range.first.position.map(|position| topics.place(position));
        let group = names.get(range.first.group);
        Self {
            kind: range.kind,
            iot_sensor_id: range.first.sensor,
            sensor_name: None,
            location: group.map(|group| group.location.clone()),
            device_type: group.map(|group| group.device_type.clone()),
            from: range.first.recorded_at,
            to: range.last.recorded_at,
            readings: range.readings,
            partition: place.as_ref().map(|(_, partition)| *partition),
            topic: place.and_then(|(topic, _)| topic),
            offset: range.first.position.map(|position| position.offset),
        }
    }
}
