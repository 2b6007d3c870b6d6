//! The verdict on one reading after another, from all records in order of sensor and time.

use std::collections::HashMap;

use serde::Serialize;

use super::findings::{Evidence, Findings, Kind};
use super::observed::{ObservedGroup, ObservedReading};
use super::record::{Record, Side};
use crate::kafka::producer::Position;

/// The counts of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Distinct readings that the topic holds.
    pub readings: u64,
    /// Messages beyond the first of each reading: retries of producers. Harmless.
    pub repeated_messages: u64,
    /// Readings whose row is there with the values of its messages.
    pub stored: u64,
    /// Readings without a row that need not have one: not committed yet, in the dead-letter topic, expired, or without any value.
    pub not_due: u64,
    /// Readings that only the ledger and the table know: Kafka's retention has deleted their messages.
    pub only_in_table: u64,
    /// Rows without a message that may have had one before Kafka's retention deleted it.
    pub older_than_topic: u64,
}

/// What the comparison needs besides the records.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The first offset that each partition still holds.
    pub first_offsets: HashMap<i32, i64>,
    /// Ledger entries recorded before this have expired, in milliseconds since the epoch.
    pub expired_before: i64,
}

impl Circumstances {
    /// Whether retention has deleted messages, so that rows without a message are expected.
    fn topic_is_cut(&self) -> bool {
        self.first_offsets.values().any(|&first| first > 0)
    }

    fn is_deleted(&self, position: Position) -> bool {
        self.first_offsets.get(&position.partition).is_some_and(|&first| position.offset < first)
    }
}

/// Takes records in order of [`Record::key`].
pub struct Comparison<'a> {
    circumstances: Circumstances,
    /// Whether the message of a position is in the dead-letter topic.
    is_dead_letter: &'a dyn Fn(Position) -> bool,
    findings: &'a mut Findings,
    compared: Compared,
    current: Option<ObservedReading>,
    index: u64,
}

impl<'a> Comparison<'a> {
    pub fn new(
        circumstances: Circumstances,
        is_dead_letter: &'a dyn Fn(Position) -> bool,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            circumstances,
            is_dead_letter,
            findings,
            compared: Compared::default(),
            current: None,
            index: 0,
        }
    }

    pub fn take(&mut self, record: &Record) {
        let is_same = |reading: &ObservedReading| {
            (reading.sensor, reading.recorded_at) == (record.sensor, record.recorded_at)
        };
        if !self.current.as_ref().is_some_and(is_same) {
            self.end_reading();
        }
        let mut reading = self.current.take().unwrap_or_else(|| ObservedReading::of(record));
        match record.side {
            Side::Ledger => {
                // The ledger may list a position twice.
                if reading.ledger.last().is_none_or(|(last, _)| *last != record.position) {
                    reading.ledger.push((record.position, false));
                }
            }
            Side::Row { .. } => {
                self.enter_group(&mut reading, record.group);
                self.take_row(&mut reading, record);
            }
            Side::Message { due } => {
                self.enter_group(&mut reading, record.group);
                reading.take_message(record, due);
            }
        }
        self.current = Some(reading);
    }

    pub fn finish(mut self) -> Compared {
        self.end_reading();
        self.compared
    }

    fn enter_group(&mut self, reading: &mut ObservedReading, id: u64) {
        if reading.group.as_ref().is_none_or(|group| group.id != id) {
            self.end_group(reading);
            reading.group = Some(ObservedGroup::new(id));
        }
    }

    fn take_row(&mut self, reading: &mut ObservedReading, record: &Record) {
        reading.has_row = true;
        let Some(group) = &mut reading.group else { return };
        match group.row {
            None => group.row = Some(record.cells.clone()),
            // The row of the narrowest bucket came first, and is the one that queries return.
            Some(_) => self.findings.note(Kind::StoredTwice, reading.evidence(self.index, None)),
        }
    }

    fn end_group(&mut self, reading: &mut ObservedReading) {
        let Some(mut group) = reading.group.take() else { return };
        group.end_partition();
        if group.messages > 0 {
            self.compared.readings += 1;
            self.compared.repeated_messages += group.messages - 1;
        }
        let evidence = Evidence { group: group.id, ..reading.evidence(self.index, group.first_due) };
        match (&group.row, group.messages, group.first_due) {
            (Some(row), 1.., _) if group.explains(row) => self.compared.stored += 1,
            (Some(_), 1.., _) => self.findings.note(Kind::Different, evidence),
            (Some(_), 0, _) if !reading.ledger.is_empty() => self.compared.only_in_table += 1,
            (Some(_), 0, _) if self.circumstances.topic_is_cut() => self.compared.older_than_topic += 1,
            (Some(_), 0, _) => self.findings.note(Kind::Unexpected, evidence),
            (None, _, Some(_)) => self.findings.note(Kind::Missing, evidence),
            (None, 0, None) => {}
            (None, 1.., None) => self.compared.not_due += 1,
        }
    }

    fn end_reading(&mut self) {
        let Some(mut reading) = self.current.take() else { return };
        self.end_group(&mut reading);
        // An entry of the ledger without a message is not a loss if the table has the row.
        let unseen = reading.ledger.iter().filter(|(_, is_in_topic)| !is_in_topic);
        for &(position, _) in unseen.filter(|_| !reading.has_row) {
            let evidence = reading.evidence(self.index, Some(position));
            if (self.is_dead_letter)(position) || reading.recorded_at < self.circumstances.expired_before {
                self.compared.not_due += 1;
            } else if self.circumstances.is_deleted(position) {
                self.findings.note(Kind::Missing, evidence);
            } else {
                self.findings.note(Kind::NotInKafka, evidence);
            }
        }
        self.index += 1;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::record::Cells;
    use super::super::record::tests::values;
    use super::*;
    use crate::kafka::producer::Position;

    const GROUP: u64 = 7;

    fn record(side: Side, offset: i64, cells: Cells) -> Record {
        Record {
            sensor: Uuid::from_u128(1),
            recorded_at: 1_000,
            side,
            group: if side == Side::Ledger { 0 } else { GROUP },
            position: Position { partition: 0, offset },
            cells,
        }
    }

    fn acknowledged(offset: i64) -> Record {
        record(Side::Ledger, offset, Cells::default())
    }

    fn message(offset: i64, temperature: u32) -> Record {
        record(Side::Message { due: true }, offset, values(Some(temperature), None))
    }

    fn row(temperature: u32) -> Record {
        record(Side::Row { bucket_seconds: 3600 }, 0, values(Some(temperature), None))
    }

    struct Verdict {
        compared: Compared,
        findings: Findings,
    }

    impl Verdict {
        /// What was found, as (kind, readings), without what is zero.
        fn troubles(&self) -> Vec<(Kind, u64)> {
            let counts = Kind::ALL.map(|kind| (kind, self.findings.count(kind)));
            counts.into_iter().filter(|(_, count)| *count > 0).collect()
        }
    }

    fn compare_where(circumstances: Circumstances, dead: &[i64], mut records: Vec<Record>) -> Verdict {
        records.sort_by_key(Record::key);
        let mut findings = Findings::new(3);
        let is_dead_letter = |position: Position| dead.contains(&position.offset);
        let mut comparison = Comparison::new(circumstances, &is_dead_letter, &mut findings);
        records.iter().for_each(|record| comparison.take(record));
        let compared = comparison.finish();
        Verdict { compared, findings }
    }

    fn compare(records: Vec<Record>) -> Verdict {
        compare_where(Circumstances::default(), &[], records)
    }

    #[test]
    fn a_row_with_the_values_of_its_message_is_stored() {
        let verdict = compare(vec![acknowledged(5), message(5, 20), row(20)]);
        assert_eq!(verdict.troubles(), []);
        assert_eq!(verdict.compared, Compared { readings: 1, stored: 1, ..Compared::default() });
    }

    #[test]
    fn a_due_message_without_a_row_is_missing_and_one_that_is_not_due_is_not() {
        assert_eq!(compare(vec![acknowledged(5), message(5, 20)]).troubles(), [(Kind::Missing, 1)]);
        let waiting = record(Side::Message { due: false }, 5, values(Some(20), None));
        let verdict = compare(vec![acknowledged(5), waiting]);
        assert_eq!((verdict.troubles(), verdict.compared.not_due), (vec![], 1));
    }

    #[test]
    fn a_message_without_a_value_needs_no_row_and_explains_an_empty_one() {
        let empty = |offset| record(Side::Message { due: false }, offset, Cells::default());
        let verdict = compare(vec![empty(5)]);
        assert_eq!((verdict.troubles(), verdict.compared.not_due), (vec![], 1));
        let written = record(Side::Row { bucket_seconds: 3600 }, 0, Cells::default());
        assert_eq!(compare(vec![empty(5), written]).troubles(), []);
        // It takes nothing away from the message that has a value.
        assert_eq!(compare(vec![message(5, 20), empty(6), row(20)]).troubles(), []);
        assert_eq!(compare(vec![message(5, 20), empty(6)]).troubles(), [(Kind::Missing, 1)]);
    }

    #[test]
    fn what_was_acknowledged_and_is_nowhere_is_not_in_kafka() {
        assert_eq!(compare(vec![acknowledged(5)]).troubles(), [(Kind::NotInKafka, 1)]);
        // The reading's other message is there; that does not find this one, but its row does.
        assert_eq!(
            compare(vec![acknowledged(5), acknowledged(6), message(6, 20)]).troubles(),
            [(Kind::Missing, 1), (Kind::NotInKafka, 1)]
        );
        assert_eq!(compare(vec![acknowledged(5), acknowledged(6), message(6, 20), row(20)]).troubles(), []);
    }

    #[test]
    fn an_acknowledged_dead_letter_needs_no_row() {
        let verdict = compare_where(Circumstances::default(), &[5], vec![acknowledged(5)]);
        assert_eq!((verdict.troubles(), verdict.compared.not_due), (vec![], 1));
    }

    #[test]
    fn what_retention_deleted_is_missing_unless_the_table_has_it_or_it_expired() {
        let cut = || Circumstances { first_offsets: HashMap::from([(0, 10)]), expired_before: 0 };
        let verdict = compare_where(cut(), &[], vec![acknowledged(5)]);
        assert_eq!(verdict.troubles(), [(Kind::Missing, 1)]);
        let verdict = compare_where(cut(), &[], vec![acknowledged(5), row(20)]);
        assert_eq!((verdict.troubles(), verdict.compared.only_in_table), (vec![], 1));
        let expired = Circumstances { expired_before: 2_000, ..cut() };
        assert_eq!(compare_where(expired, &[], vec![acknowledged(5)]).troubles(), []);
    }

    #[test]
    fn a_row_without_a_message_is_unexpected_unless_the_topic_is_cut() {
        assert_eq!(compare(vec![row(20)]).troubles(), [(Kind::Unexpected, 1)]);
        let cut = Circumstances { first_offsets: HashMap::from([(0, 10)]), expired_before: 0 };
        let verdict = compare_where(cut, &[], vec![row(20)]);
        assert_eq!((verdict.troubles(), verdict.compared.older_than_topic), (vec![], 1));
    }

    #[test]
    fn other_values_a_cell_too_many_and_a_cell_too_few_are_different() {
        let cells = |temperature, humidity| {
            record(Side::Row { bucket_seconds: 3600 }, 0, values(temperature, humidity))
        };
        for row in [cells(Some(21), None), cells(Some(20), Some(1)), cells(None, None)] {
            let verdict = compare(vec![message(5, 20), row.clone()]);
            assert_eq!(verdict.troubles(), [(Kind::Different, 1)], "{row:?}");
        }
    }

    #[test]
    fn the_later_message_of_a_partition_wins_and_cells_it_lacks_stay() {
        let first = record(Side::Message { due: true }, 5, values(Some(20), Some(50)));
        let second = record(Side::Message { due: true }, 6, values(Some(21), None));
        let stored = |temperature, humidity| {
            record(Side::Row { bucket_seconds: 3600 }, 0, values(temperature, humidity))
        };
        let verdict = compare(vec![first.clone(), second.clone(), stored(Some(21), Some(50))]);
        assert_eq!((verdict.troubles(), verdict.compared.repeated_messages), (vec![], 1));
        let overtaken = compare(vec![first, second, stored(Some(20), Some(50))]);
        assert_eq!(overtaken.troubles(), [(Kind::Different, 1)]);
    }

    #[test]
    fn names_of_several_messages_add_up_and_of_each_the_later_value_stays() {
        let named = |side, offset, others: &[(&'static str, f64)]| {
            let other_metrics = others.iter().map(|(name, value)| ((*name).into(), *value)).collect();
            let reading = crate::reading::Reading { other_metrics, ..crate::reading::Reading::sample() };
            record(side, offset, Cells::of_message(&reading))
        };
        let due = Side::Message { due: true };
        let row = |others| named(Side::Row { bucket_seconds: 3600 }, 0, others);
        let messages =
            || vec![named(due, 1, &[("a", 1.0), ("b", 2.0)]), named(due, 2, &[("b", 3.0), ("c", 4.0)])];
        let verdict = |stored| compare([messages(), vec![row(stored)]].concat()).troubles();
        assert_eq!(verdict(&[("a", 1.0), ("b", 3.0), ("c", 4.0)]), []);
        for stored in [
            &[("b", 3.0), ("c", 4.0)][..],
            &[("a", 1.0), ("b", 2.0), ("c", 4.0)],
            &[("a", 1.0), ("b", 3.0), ("c", 4.0), ("d", 5.0)],
        ] {
            assert_eq!(verdict(stored), [(Kind::Different, 1)], "{stored:?}");
        }
    }

    #[test]
    fn messages_in_two_partitions_have_no_order() {
        let mut elsewhere = message(1, 30);
        elsewhere.position.partition = 1;
        for temperature in [20, 30] {
            assert_eq!(compare(vec![message(5, 20), elsewhere.clone(), row(temperature)]).troubles(), []);
        }
        assert_eq!(compare(vec![message(5, 20), elsewhere, row(25)]).troubles(), [(Kind::Different, 1)]);
    }

    #[test]
    fn a_message_that_is_not_committed_may_have_been_written_or_not() {
        let waiting = record(Side::Message { due: false }, 6, values(Some(30), None));
        for temperature in [20, 30] {
            assert_eq!(compare(vec![message(5, 20), waiting.clone(), row(temperature)]).troubles(), []);
        }
    }

    #[test]
    fn a_reading_in_two_buckets_is_stored_twice_and_the_narrow_one_counts() {
        let wide = record(Side::Row { bucket_seconds: 3600 }, 0, values(Some(19), None));
        let narrow = record(Side::Row { bucket_seconds: 300 }, 0, values(Some(20), None));
        let verdict = compare(vec![wide, narrow, message(5, 20)]);
        assert_eq!(verdict.troubles(), [(Kind::StoredTwice, 1)]);
        assert_eq!(verdict.compared.stored, 1);
    }

    #[test]
    fn the_same_moment_of_a_sensor_in_two_groups_is_two_readings() {
        let mut moved = message(6, 20);
        moved.group = GROUP + 1;
        let verdict = compare(vec![message(5, 20), row(20), moved]);
        assert_eq!(verdict.troubles(), [(Kind::Missing, 1)]);
        assert_eq!((verdict.compared.readings, verdict.compared.stored), (2, 1));
    }
}
