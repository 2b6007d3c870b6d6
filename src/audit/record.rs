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

#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cells {
    columns: [Option<u32>; 5],
    motion_detected: Option<bool>,
    /// Other metrics and states, sorted.
    named: Box<[Named]>,
    /// Of a row whose other metrics are 32-bit floats, as in the first version of the table.
    is_narrow: bool,
}

/// Another metric or a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pub name: Name,
    /// The bits of a number, or a hash of a text.
    pub value: u64,
}

/// What it is, and a hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Metric(u64),
    State(u64),
}

/// Number of the cells that each reading may have beside the [`Named`] ones.
pub const FIXED_CELLS: usize = 6;

impl Cells {
    pub fn of_message(reading: &Reading<'_>) -> Self {
        let others = reading.other_metrics.iter().map(|(name, value)| (&**name, *value));
        let states = reading.states.iter().map(|(name, text)| (&**name, &**text));
        Self {
            columns: Metric::COLUMNS.each_ref().map(|metric| reading.column(metric).map(f32::to_bits)),
            motion_detected: reading.motion_detected,
            named: named(others, states),
            is_narrow: false,
        }
    }

    pub fn of_row(reading: &StoredReading) -> Self {
        let others = reading.other_metrics.iter().map(|(name, value)| (&**name, *value));
        let states = reading.states.iter().map(|(name, text)| (&**name, &**text));
        Self {
            columns: Metric::COLUMNS.each_ref().map(|metric| reading.column(metric).map(f32::to_bits)),
            motion_detected: reading.motion_detected,
            named: named(others, states),
            is_narrow: reading.has_narrow_metrics,
        }
    }

    /// The value of one of the [`FIXED_CELLS`], if it has one.
    pub fn get(&self, cell: usize) -> Option<u32> {
        match self.columns.get(cell) {
            Some(column) => *column,
            None => self.motion_detected.map(u32::from),
        }
    }

    /// The other metrics and states.
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// Whether a message's value is what the row has under its name.
    pub fn holds(&self, message: Named) -> bool {
        self.named.iter().any(|own| own.name == message.name && self.is_same(*own, message))
    }

    fn is_same(&self, own: Named, message: Named) -> bool {
        let narrow = |bits: u64| (f64::from_bits(bits) as f32).to_bits();
        match (own.name, self.is_narrow) {
            (Name::Metric(_), true) => narrow(own.value) == narrow(message.value),
            _ => own.value == message.value,
        }
    }
}

fn named<'a>(
    others: impl Iterator<Item = (&'a str, f64)>,
    states: impl Iterator<Item = (&'a str, &'a str)>,
) -> Box<[Named]> {
    let others =
        others.map(|(name, value)| Named { name: Name::Metric(hash_of(name)), value: value.to_bits() });
    let states = states.map(|(name, text)| Named { name: Name::State(hash_of(name)), value: hash_of(text) });
    let mut named: Vec<_> = others.chain(states).collect();
    named.sort_unstable();
    named.into()
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
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

/// The kinds of named cells.
const METRIC: u8 = 0;
const STATE: u8 = 1;

/// Bits of the next two bytes: the cells that follow. The columns come first, then these.
const MOTION: u16 = 1 << 5;
const MOVES: u16 = 1 << 6;
const NAMED: u16 = 1 << 7;
const NARROW: u16 = 1 << 8;

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
        let Cells { columns, motion_detected, named, is_narrow } = &self.cells;
        let mut present = 0_u16;
        for (bit, _) in columns.iter().enumerate().filter(|(_, column)| column.is_some()) {
            present |= 1 << bit;
        }
        if let Some(moves) = motion_detected {
            present |= MOTION | if *moves { MOVES } else { 0 };
        }
        if !named.is_empty() {
            present |= NAMED;
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
        if named.is_empty() {
            return Ok(());
        }
        writer.write_all(&u32::try_from(named.len()).map_err(io::Error::other)?.to_le_bytes())?;
        for Named { name, value } in named {
            let (kind, hash) = match name {
                Name::Metric(hash) => (METRIC, hash),
                Name::State(hash) => (STATE, hash),
            };
            writer.write_all(&[kind])?;
            writer.write_all(&hash.to_le_bytes())?;
            writer.write_all(&value.to_le_bytes())?;
        }
        Ok(())
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
        if present & NAMED != 0 {
            let count = u32::from_le_bytes(bytes(reader)?);
            cells.named = (0..count).map(|_| read_named(reader)).collect::<io::Result<_>>()?;
        }
        cells.is_narrow = present & NARROW != 0;
        Ok(Some(Self { sensor, recorded_at, side, group, position, cells }))
    }
}

fn read_named(reader: &mut impl Read) -> io::Result<Named> {
    let [kind] = bytes(reader)?;
    let hash = u64::from_le_bytes(bytes(reader)?);
    let name = if kind == METRIC { Name::Metric(hash) } else { Name::State(hash) };
    Ok(Named { name, value: u64::from_le_bytes(bytes(reader)?) })
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
        let name = prop_oneof![(0u64..3).prop_map(Name::Metric), (0u64..3).prop_map(Name::State)];
        let named = prop::collection::btree_map(name, 0u64..3, 0..4);
        ([column(), column(), column(), column(), column()], any::<Option<bool>>(), named).prop_map(
            |(columns, motion_detected, named)| Cells {
                columns,
                motion_detected,
                named: named.into_iter().map(|(name, value)| Named { name, value }).collect(),
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
        let metrics = |pairs: &[(&str, f64)]| cells(pairs, &[]);
        assert_eq!(metrics(&[("a", 1.0), ("b", 2.0)]), metrics(&[("b", 2.0), ("a", 1.0)]));
        assert_ne!(metrics(&[("a", 1.0)]), metrics(&[("a", 2.0)]));
        assert!(metrics(&[]).named().is_empty());
        let states = |states: &[(&str, &str)]| cells(&[], states);
        assert_eq!(states(&[("a", "x"), ("b", "y")]), states(&[("b", "y"), ("a", "x")]));
        assert_ne!(states(&[("a", "x")]), states(&[("a", "y")]));
        let row = cells(&[("a", 1.0), ("b", 2.0)], &[("a", "x")]);
        let holds = |message: &Cells| message.named().iter().all(|value| row.holds(*value));
        assert!(holds(&metrics(&[("b", 2.0)])) && holds(&states(&[("a", "x")])));
        assert!(!holds(&metrics(&[("b", 1.0)])) && !holds(&states(&[("b", "x")])));
    }

    #[test]
    fn a_row_of_the_first_version_holds_a_message_up_to_32_bits() {
        let cells = |value: f64, is_narrow| Cells {
            named: named([("energy", value)].into_iter(), std::iter::empty()),
            is_narrow,
            ..Cells::default()
        };
        let message = cells(123_456_789.125, false).named()[0];
        assert!(cells(123_456_789.125, false).holds(message));
        assert!(!cells(123_456_789.0, false).holds(message), "64-bit rows have all digits");
        let stored = crate::reading::widen(123_456_789.125_f64 as f32);
        assert!(cells(stored, true).holds(message));
        assert!(!cells(stored + 100.0, true).holds(message));
    }
}
