//! Values bound to a statement, encoded as the native protocol (v4, section 4.1.4) wants them: a length and the
//! bytes, or -2 for "not set"; null (-1) is never written, because it leaves a tombstone.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rows::FromCell;

const UNSET: i32 = -2;

/// A CQL string, for the few places where a statement takes no bound value: options of tables, elements of a map.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The values of one statement, in the order of its markers, already in wire format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    count: u16,
    bytes: Vec<u8>,
}

impl Values {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn text(mut self, value: &str) -> Self {
        self.push_text(value);
        self
    }

    pub fn uuid(mut self, value: Uuid) -> Self {
        self.push_uuid(value);
        self
    }

    /// Milliseconds since the Unix epoch.
    pub fn timestamp(mut self, value: i64) -> Self {
        self.push_bigint(value);
        self
    }

    pub fn int(mut self, value: i32) -> Self {
        self.push(&value.to_be_bytes());
        self
    }

    pub fn bigint(mut self, value: i64) -> Self {
        self.push_bigint(value);
        self
    }

    pub fn push_text(&mut self, value: &str) {
        self.push(value.as_bytes());
    }

    pub fn push_uuid(&mut self, value: Uuid) {
        self.push(value.as_bytes());
    }

    pub fn push_bigint(&mut self, value: i64) {
        self.push(&value.to_be_bytes());
    }

    /// A missing value is not set: it writes no cell and no tombstone.
    pub fn push_float(&mut self, value: Option<f32>) {
        match value {
            Some(value) => self.push(&value.to_be_bytes()),
            None => self.push_unset(),
        }
    }

    pub fn push_double(&mut self, value: f64) {
        self.push(&value.to_be_bytes());
    }

    pub fn push_blob(&mut self, value: &[u8]) {
        self.push(value);
    }

    /// A missing value is not set: it writes no cell and no tombstone.
    pub fn push_boolean(&mut self, value: Option<bool>) {
        match value {
            Some(value) => self.push(&[u8::from(value)]),
            None => self.push_unset(),
        }
    }

    /// A `map<text, double>`; an empty one is not set. Keys are written in the order Cassandra sorts them in.
    pub fn push_double_map<'a>(&mut self, entries: impl IntoIterator<Item = (&'a str, f64)>) {
        self.push_map(entries, |value, bytes| {
            bytes.extend_from_slice(&length(8));
            bytes.extend_from_slice(&value.to_be_bytes());
        });
    }

    /// A `map<text, text>`; an empty one is not set.
    pub fn push_text_map<'a>(&mut self, entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.push_map(entries, |value, bytes| {
            bytes.extend_from_slice(&length(value.len()));
            bytes.extend_from_slice(value.as_bytes());
        });
    }

    /// A `list<double>`.
    pub fn push_double_list(&mut self, entries: &[f64]) {
        self.count += 1;
        self.bytes.extend_from_slice(&length(4 + entries.len() * 12));
        self.bytes.extend_from_slice(&length(entries.len()));
        for value in entries {
            self.bytes.extend_from_slice(&length(8));
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
    }

    /// A `list<uuid>`, as `IN` takes it.
    pub fn push_uuid_list(&mut self, entries: &[Uuid]) {
        self.push_list(entries.iter().map(|id| id.as_bytes().as_slice()));
    }

    /// A `set<text>` or `list<text>`.
    pub fn push_text_list(&mut self, entries: &[&str]) {
        self.push_list(entries.iter().map(|text| text.as_bytes()));
    }

    fn push_list<'a>(&mut self, entries: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.count += 1;
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&length(entries.len()));
        for entry in entries {
            self.bytes.extend_from_slice(&length(entry.len()));
            self.bytes.extend_from_slice(entry);
        }
        let written = length(self.bytes.len() - length_at - 4);
        self.bytes[length_at..length_at + 4].copy_from_slice(&written);
    }

    fn push_map<'a, V>(
        &mut self,
        entries: impl IntoIterator<Item = (&'a str, V)>,
        push_value: impl Fn(V, &mut Vec<u8>),
    ) {
        let mut entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return self.push_unset();
        }
        entries.sort_unstable_by(|(left, _), (right, _)| left.as_bytes().cmp(right.as_bytes()));
        self.count += 1;
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&length(entries.len()));
        for (name, value) in entries {
            self.bytes.extend_from_slice(&length(name.len()));
            self.bytes.extend_from_slice(name.as_bytes());
            push_value(value, &mut self.bytes);
        }
        let written = length(self.bytes.len() - length_at - 4);
        self.bytes[length_at..length_at + 4].copy_from_slice(&written);
    }

    /// A value as it is on the wire, or none.
    pub(crate) fn push_wire(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.push(value),
            None => self.push_unset(),
        }
    }

    /// Adds a value that is not set.
    pub fn unset(mut self) -> Self {
        self.push_unset();
        self
    }

    pub fn push_unset(&mut self) {
        self.count += 1;
        self.bytes.extend_from_slice(&UNSET.to_be_bytes());
    }

    /// Adds the values of another statement.
    pub fn and(mut self, others: &Self) -> Self {
        self.count += others.count;
        self.bytes.extend_from_slice(&others.bytes);
        self
    }

    /// How many values were pushed.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The bytes of the value at `index`; `None` where it is not set or not there.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let mut rest = self.bytes.as_slice();
        for position in 0.. {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let value = usize::try_from(i32::from_be_bytes(*length)).ok();
            if position == index {
                return tail.get(..value?);
            }
            rest = tail.get(value.unwrap_or(0)..)?;
        }
        None
    }

    /// The wire format, without the count.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts another 64-bit number in the place of the last value, which must be one.
    pub(crate) fn replace_last_bigint(&mut self, value: i64) {
        let at = self.bytes.len() - size_of::<i64>();
        self.bytes[at..].copy_from_slice(&value.to_be_bytes());
    }

    /// Forgets the values and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    fn push(&mut self, value: &[u8]) {
        self.count += 1;
        self.bytes.extend_from_slice(&length(value.len()));
        self.bytes.extend_from_slice(value);
    }
}

/// Two maps as one, both as they are on the wire. Of a key that both have, the value of the newer stays. `None` for bytes that
/// are no map.
pub(crate) fn merged_maps(older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
    let map = |bytes| BTreeMap::<&[u8], &[u8]>::from_cell(Some(bytes));
    let mut entries = map(older)?;
    entries.extend(map(newer)?);
    let mut merged = length(entries.len()).to_vec();
    for part in entries.into_iter().flat_map(|(key, value)| [key, value]) {
        merged.extend_from_slice(&length(part.len()));
        merged.extend_from_slice(part);
    }
    Some(merged)
}

/// A length as the protocol writes it. Messages are bounded far below 2 GiB before they get here.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).expect("a value below 2 GiB").to_be_bytes()
}
