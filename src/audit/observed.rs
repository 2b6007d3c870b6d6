//! What is known of one reading: the positions in the ledger, its row, and the cells that its messages explain.
//!
//! Within a partition the later message's cells win, and a cell that it lacks stays as it was, because that is how rows
//! are written. Across partitions there is no order (after partitions were added to a topic, a sensor's messages go to
//! another one), so the outcome of any partition is accepted.

use uuid::Uuid;

use super::findings::Evidence;
use super::record::{CELLS, Cells, Record, Value};
use crate::kafka::producer::Position;

/// What is known of one reading, a sensor's moment, so far.
pub(super) struct ObservedReading {
    pub sensor: Uuid,
    pub recorded_at: i64,
    /// The positions that the ledger lists, in order, and whether the topic has each.
    pub ledger: Vec<(Position, bool)>,
    pub has_row: bool,
    pub group: Option<ObservedGroup>,
}

/// What is known of the reading within one group.
pub(super) struct ObservedGroup {
    pub id: u64,
    pub row: Option<Cells>,
    pub messages: u64,
    pub first_due: Option<Position>,
    /// The partition whose messages are being taken in, and the cells that its messages leave.
    partition: Option<i32>,
    outcome: [Option<Value>; CELLS],
    /// Cells that a due message has set, and cells of the row whose value comes from a message.
    required: [bool; CELLS],
    explained: [bool; CELLS],
}

impl ObservedReading {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            sensor: record.sensor,
            recorded_at: record.recorded_at,
            ledger: Vec::new(),
            has_row: false,
            group: None,
        }
    }

    pub(super) fn take_message(&mut self, record: &Record, due: bool) {
        if let Ok(index) = self.ledger.binary_search_by_key(&record.position, |(position, _)| *position) {
            self.ledger[index].1 = true;
        }
        if let Some(group) = &mut self.group {
            group.take(record, due);
        }
    }

    pub(super) fn evidence(&self, index: u64, position: Option<Position>) -> Evidence {
        let group = self.group.as_ref().map_or(0, |group| group.id);
        Evidence { sensor: Some(self.sensor), recorded_at: Some(self.recorded_at), group, position, index }
    }
}

impl ObservedGroup {
    pub(super) fn new(id: u64) -> Self {
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

    pub(super) fn take(&mut self, record: &Record, due: bool) {
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
            } else if self.row.is_some_and(|row| row.holds(cell, value)) {
                // A message that is not due may have been written already, or may never be.
                self.explained[cell] = true;
            }
        }
    }

    pub(super) fn end_partition(&mut self) {
        let outcome = std::mem::take(&mut self.outcome);
        for (cell, value) in outcome.into_iter().enumerate() {
            if let (Some(value), Some(row)) = (value, self.row)
                && row.holds(cell, value)
            {
                self.explained[cell] = true;
            }
        }
    }

    /// Whether each cell of the row comes from a message, and no cell of a message is missing in the row.
    pub(super) fn explains(&self, row: &Cells) -> bool {
        (0..CELLS).all(|cell| match row.get(cell) {
            Some(_) => self.explained[cell],
            None => !self.required[cell],
        })
    }
}
