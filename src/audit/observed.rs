//! What is known of one reading: the positions in the ledger, its row, and the cells that its messages explain.
//!
//! Within a partition the later message's cells win, and a cell that it lacks stays as it was, because that is how rows
//! are written. Across partitions there is no order (after partitions were added to a topic, a sensor's messages go to
//! another one), so the outcome of any partition is accepted.

use uuid::Uuid;

use super::findings::Evidence;
use super::record::{Cells, FIXED_CELLS, Name, Named, Record};
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
    outcome: [Option<u32>; FIXED_CELLS],
    /// Cells that a due message has set, and cells of the row whose value comes from a message.
    required: [bool; FIXED_CELLS],
    explained: [bool; FIXED_CELLS],
    /// The same of each other metric and state that a message has.
    named: Vec<ObservedName>,
}

struct ObservedName {
    name: Name,
    outcome: Option<u64>,
    is_required: bool,
    is_explained: bool,
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
            outcome: [None; FIXED_CELLS],
            required: [false; FIXED_CELLS],
            explained: [false; FIXED_CELLS],
            named: Vec::new(),
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
        for cell in 0..FIXED_CELLS {
            let Some(value) = record.cells.get(cell) else { continue };
            if due {
                self.outcome[cell] = Some(value);
                self.required[cell] = true;
            } else if self.row.as_ref().is_some_and(|row| row.get(cell) == Some(value)) {
                // A message that is not due may have been written already, or may never be.
                self.explained[cell] = true;
            }
        }
        for value in record.cells.named() {
            self.take_named(*value, due);
        }
    }

    fn take_named(&mut self, value: Named, due: bool) {
        let is_in_row = self.row.as_ref().is_some_and(|row| row.holds(value));
        let known = self.named.iter().position(|known| known.name == value.name);
        let index = known.unwrap_or_else(|| {
            let name = value.name;
            self.named.push(ObservedName { name, outcome: None, is_required: false, is_explained: false });
            self.named.len() - 1
        });
        let observed = &mut self.named[index];
        if due {
            observed.outcome = Some(value.value);
            observed.is_required = true;
        } else if is_in_row {
            observed.is_explained = true;
        }
    }

    pub(super) fn end_partition(&mut self) {
        let Some(row) = &self.row else { return };
        for (cell, value) in self.outcome.iter_mut().enumerate() {
            if let Some(value) = value.take()
                && row.get(cell) == Some(value)
            {
                self.explained[cell] = true;
            }
        }
        for observed in &mut self.named {
            if let Some(value) = observed.outcome.take()
                && row.holds(Named { name: observed.name, value })
            {
                observed.is_explained = true;
            }
        }
    }

    /// Whether each cell of the row comes from a message, and no cell of a message is missing in the row.
    pub(super) fn explains(&self, row: &Cells) -> bool {
        let has = |name: Name| row.named().iter().any(|own| own.name == name);
        let is_explained = |own: &Named| {
            self.named.iter().any(|observed| observed.name == own.name && observed.is_explained)
        };
        (0..FIXED_CELLS).all(|cell| match row.get(cell) {
            Some(_) => self.explained[cell],
            None => !self.required[cell],
        }) && row.named().iter().all(is_explained)
            && self.named.iter().all(|observed| !observed.is_required || has(observed.name))
    }
}
