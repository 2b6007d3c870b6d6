//! One record of evidence: a side of the audit knows a reading, with these values.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};

use uuid::Uuid;

use crate::kafka::producer::Position;
use crate::reading::{Metric, Reading};
use crate::store::readings::StoredReading;

/// The side that a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The producer's ledger: the broker acknowledged the message.
    Ledger,
    /// The topic holds the message.
    Message {
        /// Whether its row must exist. Not for messages that the group has not committed yet, that are in the
        /// dead-letter topic, or whose row may have expired.
        due: bool,
    },
    /// The table holds the row.
    Row { bucket_seconds: i32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub sensor: Uuid,
    /// Milliseconds since the epoch.
    pub recorded_at: i64,
    pub side: Side,
    /// [`group_id`] of its location and device type; 0 for the ledger, which does not have them.
    pub group: u64,
    /// The position of the message; zero for rows.
    pub position: Position,
    pub cells: Cells,
}

/// The sort order of records: by reading, then group, rows before messages, narrow buckets first.
pub type Key = (Uuid, i64, u64, i32, Position);

/// The values of a reading, as bits: they are only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cells {
    columns: [Option<u32>; 5],
    motion_detected: Option<bool>,
    /// The map is one cell.
    other_metrics: Option<Value>,
    /// A hash of all names and texts; the map is one cell.
    states: Option<u64>,
    /// Of a row whose other metrics are 32-bit floats, as in the first version of the table.
    is_narrow: bool,
}

/// The value of a cell as a number that is equal where the cell is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    exact: u64,
    /// The same with other metrics rounded to 32-bit floats.
    rounded: u64,
}

/// Number of cells of a reading.
pub const CELLS: usize = 8;

impl Cells {
    pub fn of_message(reading: &Reading<'_>) -> Self {
        let mut others: Vec<_> =
            reading.other_metrics.iter().map(|(name, value)| (&**name, *value)).collect();
        others.sort_unstable_by_key(|(name, _)| *name);
        let mut states: Vec<_> = reading.states.iter().map(|(name, text)| (&**name, &**text)).collect();
        states.sort_unstable();
        Self {
            columns: Metric::COLUMNS.each_ref().map(|metric| reading.column(metric).map(f32::to_bits)),
            motion_detected: reading.motion_detected,
            other_metrics: hashes_of(others.into_iter()),
            states: hash_of(states.into_iter()),
            is_narrow: false,
        }
    }

    pub fn of_row(reading: &StoredReading) -> Self {
        let others = reading.other_metrics.iter().map(|(name, value)| (&**name, *value));
        Self {
            columns: Metric::COLUMNS.each_ref().map(|metric| reading.column(metric).map(f32::to_bits)),
            motion_detected: reading.motion_detected,
            other_metrics: hashes_of(others),
            states: hash_of(reading.states.iter().map(|(name, text)| (&**name, &**text))),
            is_narrow: reading.has_narrow_metrics,
        }
    }

    /// The value of a cell, if it has one.
    pub fn get(&self, cell: usize) -> Option<Value> {
        let exact = |value: u64| Value { exact: value, rounded: value };
        match cell {
            0..5 => self.columns[cell].map(|bits| exact(bits.into())),
            5 => self.motion_detected.map(|moves| exact(moves.into())),
            6 => self.other_metrics,
            _ => self.states.map(exact),
        }
    }

    /// Whether a message's `value` is what the row has in this cell.
    pub fn holds(&self, cell: usize, value: Value) -> bool {
        self.get(cell).is_some_and(|own| match self.is_narrow {
            true => own.rounded == value.rounded,
            false => own.exact == value.exact,
        })
    }
}

/// `None` without any metric: an empty map is stored as no cell.
fn hashes_of<'a>(sorted: impl Iterator<Item = (&'a str, f64)> + Clone) -> Option<Value> {
    let rounded = hash_of(sorted.clone().map(|(name, value)| (name, (value as f32).to_bits())))?;
    let exact = hash_of(sorted.map(|(name, value)| (name, value.to_bits())))?;
    Some(Value { exact, rounded })
}

fn hash_of<T: Hash>(entries: impl Iterator<Item = T>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut count = 0;
    for entry in entries {
        entry.hash(&mut hasher);
        count += 1;
    }
    (count > 0).then(|| hasher.finish())
}

/// A number for a location and device type. Among a million groups, the chance that two share one is 1 in 36 million.
pub fn group_id(location: &str, device_type: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (location, device_type).hash(&mut hasher);
    hasher.finish()
}

/// Values of the first byte: the side of the record.
const LEDGER: u8 = 0;
const MESSAGE: u8 = 1;
const MESSAGE_DUE: u8 = 2;
const ROW: u8 = 3;

/// Bits of the next two bytes: the cells that follow. The columns come first, then these.
const MOTION: u16 = 1 << 5;
const MOVES: u16 = 1 << 6;
const OTHERS: u16 = 1 << 7;
const STATES: u16 = 1 << 8;
const NARROW: u16 = 1 << 9;

impl Record {
    pub fn key(&self) -> Key {
        let rank = match self.side {
            Side::Ledger => i32::MIN,
            Side::Row { bucket_seconds } => bucket_seconds,
            Side::Message { .. } => i32::MAX,
        };
        (self.sensor, self.recorded_at, self.group, rank, self.position)
    }

    /// Writes the record to a scratch file, which only this process reads.
    pub fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let (tag, bucket_seconds) = match self.side {
            Side::Ledger => (LEDGER, 0),
            Side::Message { due: false } => (MESSAGE, 0),
            Side::Message { due: true } => (MESSAGE_DUE, 0),
            Side::Row { bucket_seconds } => (ROW, bucket_seconds),
        };
        let Cells { columns, motion_detected, other_metrics, states, is_narrow } = &self.cells;
        let mut present = 0_u16;
        for (bit, _) in columns.iter().enumerate().filter(|(_, column)| column.is_some()) {
            present |= 1 << bit;
        }
        if let Some(moves) = motion_detected {
            present |= MOTION | if *moves { MOVES } else { 0 };
        }
        if other_metrics.is_some() {
            present |= OTHERS;
        }
        if states.is_some() {
            present |= STATES;
        }
        if *is_narrow {
            present |= NARROW;
        }
        let [low, high] = present.to_le_bytes();
        writer.write_all(&[tag, low, high])?;
        writer.write_all(self.sensor.as_bytes())?;
        writer.write_all(&self.recorded_at.to_le_bytes())?;
        match self.side {
            Side::Row { .. } => writer.write_all(&bucket_seconds.to_le_bytes())?,
            Side::Ledger | Side::Message { .. } => {
                writer.write_all(&self.position.partition.to_le_bytes())?;
                writer.write_all(&self.position.offset.to_le_bytes())?;
            }
        }
        if tag != LEDGER {
            writer.write_all(&self.group.to_le_bytes())?;
        }
        for column in columns.iter().flatten() {
            writer.write_all(&column.to_le_bytes())?;
        }
        if let Some(Value { exact, rounded }) = other_metrics {
            writer.write_all(&exact.to_le_bytes())?;
            writer.write_all(&rounded.to_le_bytes())?;
        }
        states.map_or(Ok(()), |hash| writer.write_all(&hash.to_le_bytes()))
    }

    /// The next record, or `None` at the end.
    pub fn read(reader: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 3];
        match reader.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [tag, low, high] = head;
        let present = u16::from_le_bytes([low, high]);
        let sensor = Uuid::from_bytes(bytes(reader)?);
        let recorded_at = i64::from_le_bytes(bytes(reader)?);
        let mut position = Position::default();
        let side = match tag {
            ROW => Side::Row { bucket_seconds: i32::from_le_bytes(bytes(reader)?) },
            _ => {
                position.partition = i32::from_le_bytes(bytes(reader)?);
                position.offset = i64::from_le_bytes(bytes(reader)?);
                if tag == LEDGER { Side::Ledger } else { Side::Message { due: tag == MESSAGE_DUE } }
            }
        };
        let group = if tag == LEDGER { 0 } else { u64::from_le_bytes(bytes(reader)?) };
        let mut cells = Cells::default();
        for (bit, column) in cells.columns.iter_mut().enumerate() {
            if present & (1 << bit) != 0 {
                *column = Some(u32::from_le_bytes(bytes(reader)?));
            }
        }
        cells.motion_detected = (present & MOTION != 0).then_some(present & MOVES != 0);
        if present & OTHERS != 0 {
            let exact = u64::from_le_bytes(bytes(reader)?);
            cells.other_metrics = Some(Value { exact, rounded: u64::from_le_bytes(bytes(reader)?) });
        }
        if present & STATES != 0 {
            cells.states = Some(u64::from_le_bytes(bytes(reader)?));
        }
        cells.is_narrow = present & NARROW != 0;
        Ok(Some(Self { sensor, recorded_at, side, group, position, cells }))
    }
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Temperature and humidity, as far as given.
    pub fn values(temperature: Option<u32>, humidity: Option<u32>) -> Cells {
        Cells { columns: [temperature, humidity, None, None, None], ..Cells::default() }
    }

    pub fn cells() -> impl Strategy<Value = Cells> {
        let column = || prop::option::of(0u32..4);
        let hash = || prop::option::of(0u64..4);
        ([column(), column(), column(), column(), column()], any::<Option<bool>>(), hash(), hash()).prop_map(
            |(columns, motion_detected, other_metrics, states)| Cells {
                columns,
                motion_detected,
                other_metrics: other_metrics.map(|exact| Value { exact, rounded: exact / 2 }),
                states,
                is_narrow: false,
            },
        )
    }

    pub fn record() -> impl Strategy<Value = Record> {
        let side = prop_oneof![
            Just(Side::Ledger),
            any::<bool>().prop_map(|due| Side::Message { due }),
            (1i32..7200).prop_map(|bucket_seconds| Side::Row { bucket_seconds }),
        ];
        (0u128..5, -3i64..3, side, 1u64..4, 0i32..3, 0i64..9, cells()).prop_map(
            |(sensor, recorded_at, side, group, partition, offset, cells)| Record {
                sensor: Uuid::from_u128(sensor),
                recorded_at,
                side,
                group: if side == Side::Ledger { 0 } else { group },
                position: match side {
                    Side::Row { .. } => Position::default(),
                    _ => Position { partition, offset },
                },
                cells: if side == Side::Ledger { Cells::default() } else { cells },
            },
        )
    }

    proptest! {
        #[test]
        fn records_come_back_from_bytes(records in prop::collection::vec(record(), 0..20)) {
            let mut bytes = Vec::new();
            for record in &records {
                record.write(&mut bytes).unwrap();
            }
            let mut reader = bytes.as_slice();
            let mut found = Vec::new();
            while let Some(record) = Record::read(&mut reader).unwrap() {
                found.push(record);
            }
            prop_assert_eq!(found, records);
        }
    }

    #[test]
    fn the_order_of_other_metrics_does_not_count_and_each_value_does() {
        let cells = |pairs: &[(&str, f64)], states: &[(&str, &str)]| {
            let reading = Reading {
                location: "a".into(),
                device_type: "b".into(),
                sensor: Uuid::nil(),
                sensor_name: None,
                sensor_tags: Vec::new(),
                recorded_at: 0,
                temperature: None,
                humidity: None,
                pressure: None,
                motion_detected: None,
                light_level: None,
                gas_concentration: None,
                other_metrics: pairs.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
                states: states.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
            };
            Cells::of_message(&reading)
        };
        let hash = |pairs: &[(&str, f64)]| cells(pairs, &[]).other_metrics;
        assert_eq!(hash(&[("a", 1.0), ("b", 2.0)]), hash(&[("b", 2.0), ("a", 1.0)]));
        assert_ne!(hash(&[("a", 1.0)]), hash(&[("a", 2.0)]));
        assert_eq!(hash(&[]), None);
        let states = |states: &[(&str, &str)]| cells(&[], states).states;
        assert_eq!(states(&[("a", "x"), ("b", "y")]), states(&[("b", "y"), ("a", "x")]));
        assert_ne!(states(&[("a", "x")]), states(&[("a", "y")]));
    }

    #[test]
    fn a_row_of_the_first_version_holds_a_message_up_to_32_bits() {
        let cells = |value: f64, is_narrow| Cells {
            other_metrics: hashes_of([("energy", value)].into_iter()),
            is_narrow,
            ..Cells::default()
        };
        let message = cells(123_456_789.125, false).get(6).unwrap();
        assert!(cells(123_456_789.125, false).holds(6, message));
        assert!(!cells(123_456_789.0, false).holds(6, message), "64-bit rows have all digits");
        let stored = crate::reading::widen(123_456_789.125_f64 as f32);
        assert!(cells(stored, true).holds(6, message));
        assert!(!cells(stored + 100.0, true).holds(6, message));
    }
}
