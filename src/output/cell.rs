//! The cells of a result and their headings: as text for people and CSV, and as JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::layout::Versions;
use super::{number, text};
use crate::time::Zone;

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The key in JSON and the heading in CSV.
    pub name: String,
    /// The heading in a table, with its unit.
    pub title: String,
    /// Numbers stand to the right in a table.
    pub align_right: bool,
    /// Columns of higher ranks are left out first where a terminal has no room for all; of equal ones, the last.
    pub rank: u8,
}

impl Heading {
    pub fn left(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { title: name.clone(), name, align_right: false, rank: 0 }
    }

    pub fn right(name: impl Into<String>) -> Self {
        Self { align_right: true, ..Self::left(name) }
    }

    /// With another text in tables.
    pub fn titled(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Left out of a narrow table before columns of lower ranks; all start with rank 0.
    pub fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

/// Width of a sensor's name in a table that is short of room.
const SHORT_NAME: u16 = 20;

/// One cell of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Empty in tables and CSV, left out of JSON objects.
    Missing,
    Text(&'a str),
    Uuid(Uuid),
    /// A sensor by its name, or by its id where it has none; for people. Programs get both, in two columns.
    Sensor(Uuid, Option<&'a str>),
    Count(u64),
    /// As it was sent or stored: all its digits.
    Number(f64),
    /// Computed, so that its last digits say nothing: people see nine of them, JSON has all.
    Double(f64),
    Boolean(bool),
    /// Milliseconds since the epoch.
    Moment(i64),
    Metrics(&'a [(Arc<str>, f64)]),
    States(&'a [(Arc<str>, Arc<str>)]),
}

impl Cell<'_> {
    /// Whether there is nothing to print: no value, or a number that is none.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Number(number) | Self::Double(number) => !number.is_finite(),
            _ => false,
        }
    }

    /// Whether it may be broken over lines.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Missing | Self::Text(_) | Self::Metrics(_) | Self::States(_))
    }

    /// As people read it in a table, in full and shortened.
    pub(super) fn versions(&self, zone: Zone) -> Versions {
        let full = match self {
            Self::Metrics(metrics) => {
                pairs(metrics.iter().map(|(name, value)| (&**name, number::exact(*value).into())))
            }
            Self::States(states) => pairs(states.iter().map(|(name, state)| (&**name, text::visible(state)))),
            _ if self.is_missing() => String::new(),
            other => text::visible(&plain_text(other, zone)).into_owned(),
        };
        let short = match self {
            Self::Moment(_) => Some(to_the_second(&full)),
            Self::Double(number) if number.is_finite() => Some(number::rounded(*number, 6)),
            _ => None,
        };
        // Ids are abbreviated when all of a block are known.
        let shortest = match self {
            Self::Sensor(_, Some(_)) => Some(text::middle_cut(&full, SHORT_NAME)),
            _ => None,
        };
        Versions { full, short, shortest }
    }
}

/// `name=value name=value`, safe to print.
fn pairs<'a>(entries: impl Iterator<Item = (&'a str, Cow<'a, str>)>) -> String {
    let mut shown = String::new();
    for (name, value) in entries {
        let blank = if shown.is_empty() { "" } else { " " };
        // Writing to memory cannot fail.
        let _ = write!(shown, "{blank}{}={value}", text::visible(name));
    }
    shown
}

/// RFC 3339 without its fraction of a second.
fn to_the_second(moment: &str) -> String {
    match moment.split_once('.') {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|char: char| char.is_ascii_digit()))
        }
        None => moment.to_owned(),
    }
}

pub(super) fn plain_text<'a>(cell: &Cell<'a>, zone: Zone) -> Cow<'a, str> {
    if cell.is_missing() {
        return Cow::Borrowed("");
    }
    match *cell {
        Cell::Missing => Cow::Borrowed(""),
        Cell::Text(text) => Cow::Borrowed(text),
        Cell::Uuid(uuid) | Cell::Sensor(uuid, None) => Cow::Owned(uuid.to_string()),
        Cell::Sensor(_, Some(name)) => Cow::Borrowed(name),
        Cell::Count(count) => Cow::Owned(count.to_string()),
        Cell::Number(number) => Cow::Owned(number::exact(number)),
        Cell::Double(number) => Cow::Owned(number::rounded(number, 9)),
        Cell::Boolean(true) => Cow::Borrowed("true"),
        Cell::Boolean(false) => Cow::Borrowed("false"),
        Cell::Moment(at) => Cow::Owned(zone.show(at)),
        Cell::Metrics(_) | Cell::States(_) => {
            let mut json = Vec::new();
            // Writing to memory cannot fail, and numbers and names always have a JSON form.
            let _ = json_value(&mut json, cell, zone);
            Cow::Owned(String::from_utf8(json).unwrap_or_default())
        }
    }
}

/// Appends a cell as JSON.
pub(super) fn json_value(line: &mut Vec<u8>, cell: &Cell<'_>, zone: Zone) -> serde_json::Result<()> {
    match *cell {
        Cell::Missing => serde_json::to_writer(line, &()),
        Cell::Text(text) => serde_json::to_writer(line, text),
        Cell::Uuid(uuid) | Cell::Sensor(uuid, _) => serde_json::to_writer(line, &uuid),
        Cell::Count(count) => serde_json::to_writer(line, &count),
        Cell::Number(number) => serde_json::to_writer(line, &number),
        Cell::Double(number) => serde_json::to_writer(line, &number),
        Cell::Boolean(boolean) => serde_json::to_writer(line, &boolean),
        Cell::Moment(at) => serde_json::to_writer(line, &zone.show(at)),
        Cell::Metrics(metrics) => json_map(line, metrics.iter().map(|(name, value)| (&**name, value))),
        Cell::States(states) => json_map(line, states.iter().map(|(name, text)| (&**name, &**text))),
    }
}

fn json_map<'a, V: Serialize>(
    line: &mut Vec<u8>,
    entries: impl Iterator<Item = (&'a str, V)>,
) -> serde_json::Result<()> {
    line.push(b'{');
    for (index, (name, value)) in entries.enumerate() {
        if index > 0 {
            line.push(b',');
        }
        serde_json::to_writer(&mut *line, name)?;
        line.push(b':');
        serde_json::to_writer(&mut *line, &value)?;
    }
    line.push(b'}');
    Ok(())
}
