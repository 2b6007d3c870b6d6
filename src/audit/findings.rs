//! What is wrong: counted in full, with the first ranges of each kind as examples.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use crate::kafka::producer::Position;

/// What can be wrong with a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its message was acknowledged and committed, but there is neither a row nor a dead letter.
    Missing,
    /// The ledger lists it as acknowledged, but neither Kafka nor Cassandra has it.
    NotInKafka,
    /// Its message is committed and cannot be decoded, but is not in the dead-letter topic.
    NoDeadLetter,
    /// Its row has other values than its messages.
    Different,
    /// Its row has no message.
    Unexpected,
    /// It is in two buckets, because the bucket width was changed in between. Queries return it once.
    StoredTwice,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::NotInKafka,
        Self::NoDeadLetter,
        Self::Different,
        Self::Unexpected,
        Self::StoredTwice,
    ];

    /// Whether it makes no difference to queries.
    pub fn is_harmless(self) -> bool {
        self == Self::StoredTwice
    }

    /// The name in tables and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotInKafka => "not in Kafka",
            Self::NoDeadLetter => "no dead letter",
            Self::Different => "different",
            Self::Unexpected => "unexpected",
            Self::StoredTwice => "stored twice",
        }
    }
}

/// One reading or message with something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// `None` for a message that cannot be decoded.
    pub sensor: Option<Uuid>,
    pub recorded_at: Option<i64>,
    /// 0 if it is not known.
    pub group: u64,
    pub position: Option<Position>,
    /// The number of the reading in sort order; neighbours with the same finding form one range.
    pub index: u64,
}

/// Neighbouring readings of a sensor with the same finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingRange {
    pub kind: Kind,
    pub first: Evidence,
    pub last: Evidence,
    pub readings: u64,
}

/// The count of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub readings: u64,
    /// Sensors with at least one.
    pub sensors: u64,
    pub ranges: u64,
    last: Option<Evidence>,
}

/// Memory grows with the examples only.
#[derive(Debug)]
pub struct Findings {
    tallies: HashMap<Kind, Tally>,
    examples: Vec<FindingRange>,
    max_examples: usize,
}

impl Findings {
    /// Keeps the first `max_examples` ranges of each kind.
    pub fn new(max_examples: usize) -> Self {
        Self { tallies: HashMap::new(), examples: Vec::new(), max_examples }
    }

    /// Adds a finding. Findings of one kind come in order of sensor and time, or of partition and offset.
    pub fn note(&mut self, kind: Kind, evidence: Evidence) {
        let tally = self.tallies.entry(kind).or_default();
        let continues = tally.last.is_some_and(|last| evidence.follows(&last));
        let is_new_sensor = tally.last.is_none_or(|last| last.sensor != evidence.sensor);
        tally.last = Some(evidence);
        tally.readings += 1;
        tally.sensors += u64::from(is_new_sensor && evidence.sensor.is_some());
        if !continues {
            tally.ranges += 1;
            if tally.ranges <= self.max_examples as u64 {
                self.examples.push(FindingRange { kind, first: evidence, last: evidence, readings: 1 });
            }
        } else if tally.ranges <= self.max_examples as u64
            && let Some(range) = self.examples.iter_mut().rev().find(|range| range.kind == kind)
        {
            range.last = evidence;
            range.readings += 1;
        }
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.tally(kind).readings
    }

    pub fn tally(&self, kind: Kind) -> Tally {
        self.tallies.get(&kind).cloned().unwrap_or_default()
    }

    /// The examples, by kind.
    pub fn into_examples(mut self) -> Vec<FindingRange> {
        self.examples.sort_by_key(|range| range.kind);
        self.examples
    }
}

impl Evidence {
    /// Whether no correct reading lies between the other and this.
    fn follows(&self, other: &Self) -> bool {
        self.sensor == other.sensor
            && self.group == other.group
            && self.index <= other.index + 1
            && match (self.sensor, self.position, other.position) {
                (None, Some(here), Some(there)) => {
                    here.partition == there.partition && here.offset == there.offset + 1
                }
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_sensor(sensor: u128, recorded_at: i64, index: u64) -> Evidence {
        Evidence {
            sensor: Some(Uuid::from_u128(sensor)),
            recorded_at: Some(recorded_at),
            group: 1,
            position: None,
            index,
        }
    }

    #[test]
    fn neighbours_form_one_range_and_a_correct_reading_in_between_makes_two() {
        let mut findings = Findings::new(2);
        for evidence in [of_sensor(1, 10, 0), of_sensor(1, 20, 1), of_sensor(1, 40, 3), of_sensor(2, 10, 4)] {
            findings.note(Kind::Missing, evidence);
        }
        let tally = findings.tally(Kind::Missing);
        assert_eq!((tally.readings, tally.sensors, tally.ranges), (4, 2, 3));
        let examples = findings.into_examples();
        let shape: Vec<_> = examples
            .iter()
            .map(|range| (range.first.recorded_at, range.last.recorded_at, range.readings))
            .collect();
        assert_eq!(shape, [(Some(10), Some(20), 2), (Some(40), Some(40), 1)]);
    }

    #[test]
    fn messages_without_a_sensor_are_joined_by_their_offsets() {
        let mut findings = Findings::new(9);
        for offset in [5, 6, 9] {
            let position = Some(Position { partition: 0, offset });
            let evidence = Evidence { sensor: None, recorded_at: None, group: 0, position, index: 0 };
            findings.note(Kind::NoDeadLetter, evidence);
        }
        let tally = findings.tally(Kind::NoDeadLetter);
        assert_eq!((tally.readings, tally.sensors, tally.ranges), (3, 0, 2));
    }
}
