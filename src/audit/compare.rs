//! The verdict over one reading after another, from all evidence in order of sensor and time.
//!
//! Of the messages of a reading within a partition, the later one's cells win, and a cell that it lacks stays as it
//! was: so the rows are written. Across partitions there is no order (a topic that was given more of them sends a
//! sensor's messages elsewhere), so each partition's outcome is as good as another's.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use super::findings::{Evidence, Findings, Kind};
use super::record::{CELLS, Cells, Record, Side};
use crate::kafka::producer::Position;

/// Counts of what was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Different readings that the topic holds.
    pub readings: u64,
    /// Messages beyond the first of each reading: producers that sent again. Harmless.
    pub repeated_messages: u64,
    /// Readings whose row is there with the values of its messages.
    pub stored: u64,
    /// Readings without a row that need not have one: not committed yet, in the dead-letter topic, or expired.
    pub not_due: u64,
    /// Readings known by the ledger and the table alone: Kafka's retention has deleted their messages.
    pub only_in_table: u64,
    /// Rows without a message that may have had one before Kafka's retention deleted it.
    pub older_than_topic: u64,
}

/// What the comparison must know beside the records.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The first offset that each partition still holds.
    pub first_offsets: HashMap<i32, i64>,
    /// Ledger entries recorded before this have expired, in milliseconds since the epoch.
    pub expired_before: i64,
}

impl Circumstances {
    /// Whether retention has deleted messages, so that rows without one are nothing strange.
    fn topic_is_cut(&self) -> bool {
        self.first_offsets.values().any(|&first| first > 0)
    }

    fn is_deleted(&self, position: Position) -> bool {
        self.first_offsets.get(&position.partition).is_some_and(|&first| position.offset < first)
    }
}

/// Takes records in order.
pub struct Comparison<'a> {
    circumstances: Circumstances,
    /// Whether a position of old sits in the dead-letter topic.
    is_dead_letter: &'a dyn Fn(Position) -> bool,
    findings: &'a mut Findings,
    compared: Compared,
    current: Option<Reading>,
    index: u64,
}

/// All that is known of a sensor's moment so far.
struct Reading {
    sensor: Uuid,
    recorded_at: i64,
    /// What the ledger names, in order, and whether the topic has it.
    ledger: Vec<(Position, bool)>,
    has_row: bool,
    group: Option<Group>,
}

/// The same within one group.
struct Group {
    id: u64,
    row: Option<Cells>,
    messages: u64,
    first_due: Option<Position>,
    /// The outcome of the partition that is being taken in.
    partition: Option<i32>,
    outcome: [Option<u64>; CELLS],
    /// Cells that a due message has set, and those whose value explains the row's.
    required: [bool; CELLS],
    explained: [bool; CELLS],
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
        let is_same =
            |reading: &Reading| (reading.sensor, reading.recorded_at) == (record.sensor, record.recorded_at);
        if !self.current.as_ref().is_some_and(is_same) {
            self.end_reading();
        }
        let mut reading = self.current.take().unwrap_or_else(|| Reading::of(record));
        match record.side {
            Side::Ledger => {
                // A ledger that was given twice says nothing new.
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

    fn enter_group(&mut self, reading: &mut Reading, id: u64) {
        if reading.group.as_ref().is_none_or(|group| group.id != id) {
            self.end_group(reading);
            reading.group = Some(Group::new(id));
        }
    }

    fn take_row(&mut self, reading: &mut Reading, record: &Record) {
        reading.has_row = true;
        let Some(group) = &mut reading.group else { return };
        match group.row {
            None => group.row = Some(record.cells),
            // The narrowest bucket's came first, and is the one that readers see.
            Some(_) => self.findings.note(Kind::StoredTwice, reading.evidence(self.index, None)),
        }
    }

    fn end_group(&mut self, reading: &mut Reading) {
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
        // What the ledger has and the topic has not is no loss as long as the table has it.
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

impl Reading {
    fn of(record: &Record) -> Self {
        Self {
            sensor: record.sensor,
            recorded_at: record.recorded_at,
            ledger: Vec::new(),
            has_row: false,
            group: None,
        }
    }

    fn take_message(&mut self, record: &Record, due: bool) {
        if let Ok(index) = self.ledger.binary_search_by_key(&record.position, |(position, _)| *position) {
            self.ledger[index].1 = true;
        }
        if let Some(group) = &mut self.group {
            group.take(record, due);
        }
    }

    fn evidence(&self, index: u64, position: Option<Position>) -> Evidence {
        let group = self.group.as_ref().map_or(0, |group| group.id);
        Evidence { sensor: Some(self.sensor), recorded_at: Some(self.recorded_at), group, position, index }
    }
}

impl Group {
    fn new(id: u64) -> Self {
        Self {
            id,
            row: None,
            messages: 0,
            first_due: None,
            partition: None,
            outcome: [None; CELLS],
            required: [false; CELLS],
            explained: [false; CELLS],
        }
    }

    fn take(&mut self, record: &Record, due: bool) {
        self.messages += 1;
        if self.partition != Some(record.position.partition) {
            self.end_partition();
            self.partition = Some(record.position.partition);
        }
        if due {
            self.first_due = self.first_due.or(Some(record.position));
        }
        for cell in 0..CELLS {
            let Some(value) = record.cells.get(cell) else { continue };
            if due {
                self.outcome[cell] = Some(value);
                self.required[cell] = true;
            } else if self.row.is_some_and(|row| row.get(cell) == Some(value)) {
                // It may have been written already, or stay for ever unwritten.
                self.explained[cell] = true;
            }
        }
    }

    fn end_partition(&mut self) {
        let outcome = std::mem::take(&mut self.outcome);
        for (cell, value) in outcome.into_iter().enumerate() {
            if value.is_some() && self.row.is_some_and(|row| row.get(cell) == value) {
                self.explained[cell] = true;
            }
        }
    }

    /// Whether each cell of the row comes from a message, and none that a message has is missing.
    fn explains(&self, row: &Cells) -> bool {
        (0..CELLS).all(|cell| match row.get(cell) {
            Some(_) => self.explained[cell],
            None => !self.required[cell],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::values;
    use super::*;

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
            assert_eq!(compare(vec![message(5, 20), row]).troubles(), [(Kind::Different, 1)], "{row:?}");
        }
    }

    #[test]
    fn the_later_message_of_a_partition_wins_and_cells_it_lacks_stay() {
        let first = record(Side::Message { due: true }, 5, values(Some(20), Some(50)));
        let second = record(Side::Message { due: true }, 6, values(Some(21), None));
        let stored = |temperature, humidity| {
            record(Side::Row { bucket_seconds: 3600 }, 0, values(temperature, humidity))
        };
        let verdict = compare(vec![first, second, stored(Some(21), Some(50))]);
        assert_eq!((verdict.troubles(), verdict.compared.repeated_messages), (vec![], 1));
        let overtaken = compare(vec![first, second, stored(Some(20), Some(50))]);
        assert_eq!(overtaken.troubles(), [(Kind::Different, 1)]);
    }

    #[test]
    fn messages_in_two_partitions_have_no_order() {
        let mut elsewhere = message(1, 30);
        elsewhere.position.partition = 1;
        for temperature in [20, 30] {
            assert_eq!(compare(vec![message(5, 20), elsewhere, row(temperature)]).troubles(), []);
        }
        assert_eq!(compare(vec![message(5, 20), elsewhere, row(25)]).troubles(), [(Kind::Different, 1)]);
    }

    #[test]
    fn a_message_that_is_not_committed_may_have_been_written_or_not() {
        let waiting = record(Side::Message { due: false }, 6, values(Some(30), None));
        for temperature in [20, 30] {
            assert_eq!(compare(vec![message(5, 20), waiting, row(temperature)]).troubles(), []);
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
