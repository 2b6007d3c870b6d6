//! Tables of two ages. Other metrics were 32-bit floats in the first version of the schema, and the type of a frozen map
//! cannot be altered. A table of that age keeps its column, and `iotctl schema apply` adds another one beside it
//! ([`WIDE_OTHERS`]) for what is written from then on. Nothing is copied, and nothing is lost.
//!
//! | table | columns | written to | read from |
//! |---|---|---|---|
//! | new | `other_metrics map<text, double>` | `other_metrics` | `other_metrics` |
//! | migrated | also `other_metrics_64 map<text, double>` | `other_metrics_64` | `other_metrics_64`, else `other_metrics` |
//! | old | `other_metrics map<text, float>` | refused | `other_metrics` |
//!
//! In the first two versions the maps were frozen, each a single value. In such a table the map of a reading's later message
//! replaces that of an earlier one; in a new table the names of both add up.

use std::borrow::Cow;

use crate::cassandra::{CellError, Error, FromCell, Pairs, Row, Session};
use crate::reading::widen;

/// The column that a table of the first version gets beside its `other_metrics`.
pub(super) const WIDE_OTHERS: &str = "other_metrics_64";
pub(super) const OTHERS: &str = "other_metrics";
pub(super) const STATES: &str = "states";
/// The type of [`OTHERS`] in the first version.
pub(super) const NARROW_TYPE: &str = "frozen<map<text, float>>";

/// What a table of readings (`iot_sensor_metrics`, `iot_latest`) has of the columns that the first version lacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) is_narrow: bool,
    pub(super) has_wide: bool,
    pub(super) has_states: bool,
    /// Whether names can be added to the map that is written: it is not frozen.
    pub(super) merges_others: bool,
    pub(super) merges_states: bool,
}

/// A value of either width. Four bytes are a 32-bit float and stand for its shortest decimal.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Number(pub f64);

impl<'a> FromCell<'a> for Number {
    const EXPECTED: &'static str = "float or double";

    fn from_cell(cell: Option<&'a [u8]>) -> Option<Self> {
        let cell = cell?;
        match cell.len() {
            4 => f32::from_cell(Some(cell)).map(widen).map(Self),
            _ => f64::from_cell(Some(cell)).map(Self),
        }
    }
}

pub(super) type Others<'a> = Pairs<Cow<'a, str>, Number>;
pub(super) type States<'a> = Pairs<Cow<'a, str>, Cow<'a, str>>;

impl Shape {
    /// A table that does not exist counts as new: the statement over it will say so.
    pub(super) async fn of(session: &Session, table: &str) -> Result<Self, Error> {
        let columns = session.columns(table).await?;
        let merges = |name: &str| columns.get(name).is_some_and(|cql_type| cql_type.starts_with("map<"));
        let is_narrow = columns.get(OTHERS).is_some_and(|cql_type| cql_type == NARROW_TYPE);
        Ok(Self {
            merges_others: merges(if is_narrow { WIDE_OTHERS } else { OTHERS }),
            merges_states: merges(STATES),
            is_narrow,
            has_wide: columns.contains_key(WIDE_OTHERS),
            has_states: columns.is_empty() || columns.contains_key(STATES),
        })
    }

    /// Whether a row's other metrics may be in either of two columns, so that no single element of a map is the answer.
    pub(super) fn is_migrated(self) -> bool {
        self.has_wide
    }

    /// The columns after the fixed ones that hold what [`Shape::others`] reads, and the states.
    pub(super) fn columns(self) -> Vec<&'static str> {
        let wide = self.has_wide.then_some(WIDE_OTHERS);
        let states = self.has_states.then_some(STATES);
        [Some(OTHERS), wide, states].into_iter().flatten().collect()
    }

    /// The column that other metrics are written to.
    ///
    /// # Errors
    /// [`Error::Schema`] where the table is older than this program: a value would lose its digits, or a state its place.
    pub(super) fn written(self, table: &str) -> Result<&'static str, Error> {
        match (self.is_narrow, self.has_wide, self.has_states) {
            (false, _, true) => Ok(OTHERS),
            (true, true, true) => Ok(WIDE_OTHERS),
            _ => Err(Error::Schema(format!(
                "table {table} is of an earlier version and has no place for 64-bit metrics and states (run `iotctl \
                 schema apply`, which adds columns and keeps every row)"
            ))),
        }
    }

    /// A row's other metrics; the first of [`Shape::columns`] is at `index`. `None` where none were measured.
    pub(super) fn others<'a>(self, row: Row<'a>, index: usize) -> Result<Option<Others<'a>>, CellError> {
        if self.has_wide
            && let Some(wide) = row.get(index + 1)?
        {
            return Ok(Some(wide));
        }
        row.get(index)
    }

    /// Whether [`Shape::others`] are 32-bit floats.
    pub(super) fn is_row_narrow(self, row: Row<'_>, index: usize) -> Result<bool, CellError> {
        Ok(self.is_narrow && !(self.has_wide && row.get::<Option<&[u8]>>(index + 1)?.is_some()))
    }
}
