//! Result rows, read in place: a cell is decoded when it is asked for, without copying the row.

use std::borrow::Cow;
use std::collections::BTreeMap;

use uuid::Uuid;

/// One page of rows and where the next one starts.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    columns: Vec<String>,
    cells: Vec<Option<std::ops::Range<usize>>>,
    bytes: Vec<u8>,
    /// Opaque; `None` on the last page.
    pub(super) paging_state: Option<Vec<u8>>,
}

/// A row of [`Rows`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    rows: &'a Rows,
    first_cell: usize,
}

/// A cell was not what the statement says it is: the table has another shape than schema.cql.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {column} holds no {expected}: the table's shape is not that of schema.cql (see `iotctl schema check`)"
)]
pub struct CellError {
    pub column: String,
    pub expected: &'static str,
}

impl Rows {
    /// Reads the body of a RESULT message (native protocol v4, section 4.2.5). Results other than rows are empty.
    /// `None` where the bytes are not such a body.
    #[doc(hidden)]
    pub fn parse(body: Vec<u8>) -> Option<Self> {
        const KIND_ROWS: i32 = 2;
        const GLOBAL_TABLE_SPEC: i32 = 0x01;
        const HAS_MORE_PAGES: i32 = 0x02;

        let mut rest = body.as_slice();
        if take_int(&mut rest)? != KIND_ROWS {
            return Some(Self::default());
        }
        let flags = take_int(&mut rest)?;
        let column_count = usize::try_from(take_int(&mut rest)?).ok()?;
        let paging_state = match flags & HAS_MORE_PAGES {
            0 => None,
            _ => Some(take_bytes(&mut rest)?.to_vec()),
        };
        let has_global_spec = flags & GLOBAL_TABLE_SPEC != 0;
        if has_global_spec {
            take_string(&mut rest)?;
            take_string(&mut rest)?;
        }
        let mut columns = Vec::new();
        for _ in 0..column_count {
            if !has_global_spec {
                take_string(&mut rest)?;
                take_string(&mut rest)?;
            }
            columns.push(take_string(&mut rest)?.to_owned());
            skip_type(&mut rest, 0)?;
        }
        let row_count = usize::try_from(take_int(&mut rest)?).ok()?;
        // A hostile count must not allocate: each cell has at least its length's four bytes.
        let cell_count = row_count.checked_mul(column_count).filter(|count| *count <= rest.len() / 4)?;
        let mut cells = Vec::with_capacity(cell_count);
        let total = body.len();
        for _ in 0..cell_count {
            let length = take_int(&mut rest)?;
            match usize::try_from(length) {
                Err(_) => cells.push(None),
                Ok(length) => {
                    let start = total - rest.len();
                    rest = rest.get(length..)?;
                    cells.push(Some(start..start + length));
                }
            }
        }
        Some(Self { columns, cells, bytes: body, paging_state })
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn len(&self) -> usize {
        if self.columns.is_empty() { 0 } else { self.cells.len() / self.columns.len() }
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.len()).map(|index| Row { rows: self, first_cell: index * self.columns.len() })
    }

    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }
}

impl<'a> Row<'a> {
    /// The cell in column `index` (as the statement lists them) as a `T`, or `Option<T>` where it may be null.
    pub fn get<T: FromCell<'a>>(&self, index: usize) -> Result<T, CellError> {
        let refused = |column: String| CellError { column, expected: T::EXPECTED };
        // A column that the server left out is not the next row's first cell.
        let Some(column) = self.rows.columns.get(index) else { return Err(refused(format!("#{index}"))) };
        let cell = self.rows.cells.get(self.first_cell + index).and_then(std::clone::Clone::clone);
        T::from_cell(cell.map(|range| &self.rows.bytes[range])).ok_or_else(|| refused(column.clone()))
    }

    /// The cell in the column named `name`; for small results of system tables.
    pub fn named<T: FromCell<'a>>(&self, name: &str) -> Result<T, CellError> {
        match self.rows.columns.iter().position(|column| column == name) {
            Some(index) => self.get(index),
            None => Err(CellError { column: name.to_owned(), expected: T::EXPECTED }),
        }
    }
}

/// A Rust type that a CQL cell can be read as.
pub trait FromCell<'a>: Sized {
    const EXPECTED: &'static str;

    /// `None` where the bytes are not of this type; a null cell is `None` on the way in.
    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self>;
}

impl<'a, T: FromCell<'a>> FromCell<'a> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        match cell {
            None => Some(None),
            some => T::from_cell(some).map(Some),
        }
    }
}

impl<'a> FromCell<'a> for &'a str {
    const EXPECTED: &'static str = "text";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        std::str::from_utf8(cell?).ok()
    }
}

impl<'a> FromCell<'a> for String {
    const EXPECTED: &'static str = "text";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        <&str>::from_cell(cell).map(str::to_owned)
    }
}

impl<'a> FromCell<'a> for Cow<'a, str> {
    const EXPECTED: &'static str = "text";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        <&str>::from_cell(cell).map(Cow::Borrowed)
    }
}

impl<'a> FromCell<'a> for &'a [u8] {
    const EXPECTED: &'static str = "blob";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        cell
    }
}

impl<'a> FromCell<'a> for Uuid {
    const EXPECTED: &'static str = "uuid";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        Uuid::from_slice(cell?).ok()
    }
}

impl<'a> FromCell<'a> for bool {
    const EXPECTED: &'static str = "boolean";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        <[u8; 1]>::try_from(cell?).ok().map(|[byte]| byte != 0)
    }
}

/// Also a `timestamp`, in milliseconds since the epoch.
impl<'a> FromCell<'a> for i64 {
    const EXPECTED: &'static str = "bigint or timestamp";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        cell?.try_into().ok().map(i64::from_be_bytes)
    }
}

impl<'a> FromCell<'a> for i32 {
    const EXPECTED: &'static str = "int";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        cell?.try_into().ok().map(i32::from_be_bytes)
    }
}

impl<'a> FromCell<'a> for f32 {
    const EXPECTED: &'static str = "float";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        cell?.try_into().ok().map(f32::from_be_bytes)
    }
}

impl<'a> FromCell<'a> for f64 {
    const EXPECTED: &'static str = "double";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        cell?.try_into().ok().map(f64::from_be_bytes)
    }
}

impl<'a> FromCell<'a> for std::net::IpAddr {
    const EXPECTED: &'static str = "inet";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        let cell = cell?;
        let v4 = <[u8; 4]>::try_from(cell).ok().map(std::net::IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(cell).ok().map(std::net::IpAddr::from))
    }
}

/// A list or a set.
impl<'a, T: FromCell<'a>> FromCell<'a> for Vec<T> {
    const EXPECTED: &'static str = "list or set";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        let mut rest = cell?;
        let count = take_length(&mut rest)?;
        (0..count).map(|_| T::from_cell(Some(take_bytes(&mut rest)?))).collect()
    }
}

impl<'a, K: FromCell<'a> + Ord, V: FromCell<'a>> FromCell<'a> for BTreeMap<K, V> {
    const EXPECTED: &'static str = "map";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        let mut rest = cell?;
        let count = take_length(&mut rest)?;
        (0..count)
            .map(|_| {
                let key = K::from_cell(Some(take_bytes(&mut rest)?))?;
                Some((key, V::from_cell(Some(take_bytes(&mut rest)?))?))
            })
            .collect()
    }
}

/// A map in the order of the table, which is that of its keys.
#[derive(Debug, Default)]
pub struct Pairs<K, V>(pub Vec<(K, V)>);

impl<'a, K: FromCell<'a>, V: FromCell<'a>> FromCell<'a> for Pairs<K, V> {
    const EXPECTED: &'static str = "map";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        let mut rest = cell?;
        let pairs = (0..take_length(&mut rest)?).map(|_| {
            let key = K::from_cell(Some(take_bytes(&mut rest)?))?;
            Some((key, V::from_cell(Some(take_bytes(&mut rest)?))?))
        });
        pairs.collect::<Option<_>>().map(Self)
    }
}

pub(super) fn take_int(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(i32::from_be_bytes(*bytes))
}

pub(super) fn take_short(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    Some(u16::from_be_bytes(*bytes))
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(take_int(rest)?).ok()
}

pub(super) fn take_short_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_short(rest)?.into();
    rest.split_off(..length)
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_short_bytes(rest)?).ok()
}

/// Steps over a column's type; cells are read as the statement's author knows them to be.
fn skip_type(rest: &mut &[u8], depth: u8) -> Option<()> {
    const CUSTOM: u16 = 0x00;
    const LIST: u16 = 0x20;
    const MAP: u16 = 0x21;
    const SET: u16 = 0x22;
    const USER_DEFINED: u16 = 0x30;
    const TUPLE: u16 = 0x31;
    const MAX_DEPTH: u8 = 32;

    if depth > MAX_DEPTH {
        return None;
    }
    match take_short(rest)? {
        CUSTOM => take_string(rest).map(|_| ()),
        LIST | SET => skip_type(rest, depth + 1),
        MAP => {
            skip_type(rest, depth + 1)?;
            skip_type(rest, depth + 1)
        }
        USER_DEFINED => {
            take_string(rest)?;
            take_string(rest)?;
            for _ in 0..take_short(rest)? {
                take_string(rest)?;
                skip_type(rest, depth + 1)?;
            }
            Some(())
        }
        TUPLE => {
            for _ in 0..take_short(rest)? {
                skip_type(rest, depth + 1)?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

pub(super) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(rest)?;
    rest.split_off(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_is_not_there_is_an_error_and_not_the_next_rows_cell() {
        let mut body = [2_i32, 1, 1].map(i32::to_be_bytes).concat();
        body.extend(b"\0\x01k\0\x01t\0\x01a\0\x09");
        body.extend([2_i32, 4, 7, 4, 8].map(i32::to_be_bytes).concat());
        let rows = Rows::parse(body).unwrap();
        let first = rows.first().unwrap();
        assert_eq!(first.get::<i32>(0), Ok(7));
        assert_eq!(first.get::<i32>(1).unwrap_err().column, "#1");
        assert_eq!(first.get::<Option<i32>>(1).unwrap_err().column, "#1");
    }
}
