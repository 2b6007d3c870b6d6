//! The outcome of an audit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use uuid::Uuid;

use super::collect::GroupNames;
use super::compare::Compared;
use super::findings::{Findings, Kind, Stretch};

/// What the ledger holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerSide {
    pub path: PathBuf,
    pub entries: u64,
    /// Entries of messages that were made unreadable on purpose.
    pub malformed: u64,
    /// Lines torn by a kill in the middle of writing.
    pub unreadable_lines: u64,
}

/// What Kafka holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicSide {
    pub name: String,
    pub messages: u64,
    pub undecodable: u64,
    /// Messages after what the group has committed: nobody promised anything about them yet.
    pub not_committed: u64,
    /// Messages of the topic that are in the dead-letter topic too.
    pub dead_lettered: u64,
    /// Everything in the dead-letter topic.
    pub dead_letters: u64,
    /// Whether Kafka's retention has deleted messages from its beginning.
    pub is_cut: bool,
}

/// Readings of one kind of trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    pub readings: u64,
    pub sensors: u64,
    pub stretches: u64,
}

/// A stretch of a sensor's readings with the same trouble; the partition and offset are those of the first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    pub kind: Kind,
    pub iot_sensor_id: Option<Uuid>,
    pub location: Option<String>,
    pub device_type: Option<String>,
    /// Milliseconds since the epoch, the first and the last.
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub readings: u64,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether nothing is missing, different or unexpected.
    pub is_sound: bool,
    pub ledger: Option<LedgerSide>,
    pub topic: TopicSide,
    pub rows: u64,
    pub compared: Compared,
    pub troubles: BTreeMap<Kind, Trouble>,
    pub examples: Vec<Example>,
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(
        ledger: Option<LedgerSide>,
        topic: TopicSide,
        rows: u64,
        compared: Compared,
        findings: Findings,
        names: &GroupNames,
    ) -> Self {
        let mut troubles = BTreeMap::new();
        for kind in Kind::ALL {
            let tally = findings.tally(kind);
            let (readings, sensors, stretches) = (tally.readings, tally.sensors, tally.stretches);
            troubles.insert(kind, Trouble { readings, sensors, stretches });
        }
        let is_sound = Kind::ALL.into_iter().all(|kind| kind.is_harmless() || findings.count(kind) == 0);
        let examples = findings.into_examples().iter().map(|stretch| Example::of(stretch, names)).collect();
        Self { is_sound, ledger, topic, rows, compared, troubles, examples, seconds: 0.0 }
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.troubles.get(&kind).map_or(0, |trouble| trouble.readings)
    }
}

impl Example {
    fn of(stretch: &Stretch, names: &GroupNames) -> Self {
        let group = names.get(stretch.first.group);
        Self {
            kind: stretch.kind,
            iot_sensor_id: stretch.first.sensor,
            location: group.map(|group| group.location.clone()),
            device_type: group.map(|group| group.device_type.clone()),
            from: stretch.first.recorded_at,
            to: stretch.last.recorded_at,
            readings: stretch.readings,
            partition: stretch.first.position.map(|position| position.partition),
            offset: stretch.first.position.map(|position| position.offset),
        }
    }
}
