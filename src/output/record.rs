//! Results of many rows, printed as they come: aligned columns, a JSON array, JSON lines or CSV. Memory does not grow
//! with the number of rows: a table takes its columns' widths from its first [`BLOCK`] rows and keeps them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{BufWriter, StdoutLock, Write};
use std::sync::Arc;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};
use serde::Serialize;
use uuid::Uuid;

use super::{Format, Output, closed};
use crate::time::Zone;

/// Rows of a table that are held until they are laid out.
const BLOCK: usize = 1_000;
/// A column is not narrowed below this, whatever the terminal's width.
const NARROWEST: u16 = 8;
/// A blank after each cell; comfy-table puts another one between columns.
const PADDING: u16 = 1;
const JUNCTION: u16 = 1;

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The key in JSON and the heading in CSV.
    pub name: String,
    /// The heading in a table, with its unit.
    pub title: String,
    /// Numbers stand to the right in a table.
    pub align_right: bool,
}

impl Heading {
    pub fn left(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { title: name.clone(), name, align_right: false }
    }

    pub fn right(name: impl Into<String>) -> Self {
        Self { align_right: true, ..Self::left(name) }
    }

    /// With another text in tables.
    pub fn titled(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }
}

/// One cell of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Empty in tables and CSV, left out of JSON objects.
    Missing,
    Text(&'a str),
    Uuid(Uuid),
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

/// Prints rows under the same headings. Call [`Records::finish`] after the last.
pub struct Records<W: Write> {
    writer: W,
    format: Format,
    /// Of the times that are printed.
    zone: Zone,
    headings: Vec<Heading>,
    /// Reused for each line.
    line: Vec<u8>,
    /// JSON keys, quoted.
    keys: Vec<String>,
    block: Vec<Vec<String>>,
    /// The columns' widths once the first block is laid out.
    widths: Option<Vec<u16>>,
    terminal_width: Option<u16>,
    rows: u64,
}

impl Output {
    /// Rows to stdout.
    pub fn records(
        &self,
        format: Format,
        zone: Zone,
        headings: Vec<Heading>,
    ) -> anyhow::Result<Records<BufWriter<StdoutLock<'static>>>> {
        let terminal_width = if self.stdout_is_terminal { Table::new().width() } else { None };
        Records::new(self.stream(), format, zone, headings, terminal_width)
    }
}

impl<W: Write> Records<W> {
    fn new(
        writer: W,
        format: Format,
        zone: Zone,
        headings: Vec<Heading>,
        terminal_width: Option<u16>,
    ) -> anyhow::Result<Self> {
        let keys =
            headings.iter().map(|heading| serde_json::to_string(&heading.name)).collect::<Result<_, _>>()?;
        let mut records = Self {
            writer,
            format,
            zone,
            headings,
            line: Vec::new(),
            keys,
            block: Vec::new(),
            widths: None,
            terminal_width,
            rows: 0,
        };
        if format == Format::Csv {
            let names = records.headings.iter().map(|heading| Cow::Borrowed(heading.name.as_str()));
            csv_line(&mut records.line, names);
            records.write_line()?;
        }
        Ok(records)
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Prints a row; `cells` are in the headings' order.
    pub fn write(&mut self, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows += 1;
        match self.format {
            Format::Table => {
                self.name_zone(cells);
                self.block.push(cells.iter().map(|cell| self.table_text(cell)).collect());
                if self.block.len() >= BLOCK { self.write_block() } else { Ok(()) }
            }
            Format::Csv => {
                let zone = self.zone;
                csv_line(&mut self.line, cells.iter().map(|cell| plain_text(cell, zone)));
                self.write_line()
            }
            Format::Ndjson => {
                self.json_object(cells)?;
                self.line.push(b'\n');
                self.write_line()
            }
            Format::Json => {
                self.line.extend_from_slice(if self.rows == 1 { b"[\n  " } else { b",\n  " });
                self.json_object(cells)?;
                self.write_line()
            }
        }
    }

    /// In a table, the headings of times name the zone unless it is UTC.
    fn name_zone(&mut self, cells: &[Cell<'_>]) {
        if self.zone == Zone::Utc || self.widths.is_some() {
            return;
        }
        let zone = format!(" ({})", self.zone.name());
        for (heading, cell) in self.headings.iter_mut().zip(cells) {
            if matches!(cell, Cell::Moment(_)) && !heading.title.ends_with(&zone) {
                heading.title += &zone;
            }
        }
    }

    /// Hands what is written so far to the reader; a table holds its first rows back until it knows their widths.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        closed(self.writer.flush())
    }

    /// Shows what is written so far: for rows that come slowly. A table's widths are then those of its first rows.
    pub fn show(&mut self) -> anyhow::Result<()> {
        if self.format == Format::Table && !self.block.is_empty() {
            self.write_block()?;
        }
        self.flush()
    }

    /// Ends the result. Returns the number of rows.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        match self.format {
            Format::Table if self.rows > 0 => self.write_block()?,
            Format::Json if self.rows == 0 => closed(self.writer.write_all(b"[]\n"))?,
            Format::Json => closed(self.writer.write_all(b"\n]\n"))?,
            Format::Table | Format::Csv | Format::Ndjson => {}
        }
        self.flush()?;
        Ok(self.rows)
    }

    fn write_line(&mut self) -> anyhow::Result<()> {
        closed(self.writer.write_all(&self.line))?;
        self.line.clear();
        Ok(())
    }

    fn json_object(&mut self, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        self.line.push(b'{');
        let mut first = true;
        for (key, cell) in self.keys.iter().zip(cells) {
            if *cell == Cell::Missing {
                continue;
            }
            if !first {
                self.line.push(b',');
            }
            first = false;
            self.line.extend_from_slice(key.as_bytes());
            self.line.push(b':');
            json_value(&mut self.line, cell, self.zone)?;
        }
        self.line.push(b'}');
        Ok(())
    }

    /// Lays the held rows out. The first block fixes the widths; later ones wrap longer cells within them.
    fn write_block(&mut self) -> anyhow::Result<()> {
        let is_first = self.widths.is_none();
        let mut table = Table::new();
        table.force_no_tty();
        table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
        if is_first {
            table.set_header(self.headings.iter().map(|heading| heading.title.as_str()));
        }
        table.add_rows(self.block.drain(..));
        let widths = match self.widths.take() {
            Some(widths) => widths,
            None => fitted(table.column_max_content_widths(), self.terminal_width),
        };
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(widths.iter().fold(0, |total, width| total.saturating_add(width + JUNCTION)));
        table.set_constraints(widths.iter().map(|&width| ColumnConstraint::Absolute(Width::Fixed(width))));
        for (column, heading) in table.column_iter_mut().zip(&self.headings) {
            column.set_padding((0, PADDING));
            if heading.align_right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.widths = Some(widths);
        for line in table.lines() {
            closed(writeln!(self.writer, "{}", line.trim_end()))?;
        }
        Ok(())
    }

    /// A cell as people read it. Control characters could steer the terminal.
    fn table_text(&self, cell: &Cell<'_>) -> String {
        let text = match cell {
            Cell::Metrics(metrics) => {
                let mut text = String::new();
                for (index, (name, value)) in metrics.iter().enumerate() {
                    let blank = if index == 0 { "" } else { " " };
                    let _ = write!(text, "{blank}{name}={value}");
                }
                Cow::Owned(text)
            }
            Cell::States(states) => {
                let states: Vec<_> = states.iter().map(|(name, text)| format!("{name}={text}")).collect();
                Cow::Owned(states.join(" "))
            }
            other => plain_text(other, self.zone),
        };
        text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
    }
}

/// Column widths with padding that fit the terminal: the widest give way first.
fn fitted(content: Vec<u16>, terminal_width: Option<u16>) -> Vec<u16> {
    let mut widths: Vec<u16> = content.into_iter().map(|width| width.min(u16::MAX / 2) + PADDING).collect();
    let Some(terminal_width) = terminal_width else { return widths };
    let total: u32 = widths.iter().map(|&width| u32::from(width + JUNCTION)).sum();
    let mut excess = total.saturating_sub(terminal_width.into());
    while excess > 0 {
        let Some(widest) = widths.iter_mut().max().filter(|width| **width > NARROWEST) else { break };
        *widest -= 1;
        excess -= 1;
    }
    widths
}

/// Up to nine significant digits, without an exponent where that is readable.
fn nine_digits(number: f64) -> String {
    let rounded: f64 = format!("{number:.8e}").parse().unwrap_or(number);
    match rounded.abs() {
        0.0 | 1e-5..1e15 => rounded.to_string(),
        _ => format!("{rounded:e}"),
    }
}

fn plain_text<'a>(cell: &Cell<'a>, zone: Zone) -> Cow<'a, str> {
    match *cell {
        Cell::Missing => Cow::Borrowed(""),
        Cell::Text(text) => Cow::Borrowed(text),
        Cell::Uuid(uuid) => Cow::Owned(uuid.to_string()),
        Cell::Count(count) => Cow::Owned(count.to_string()),
        Cell::Number(number) => Cow::Owned(number.to_string()),
        Cell::Double(number) => Cow::Owned(nine_digits(number)),
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

fn json_value(line: &mut Vec<u8>, cell: &Cell<'_>, zone: Zone) -> serde_json::Result<()> {
    match *cell {
        Cell::Missing => serde_json::to_writer(line, &()),
        Cell::Text(text) => serde_json::to_writer(line, text),
        Cell::Uuid(uuid) => serde_json::to_writer(line, &uuid),
        Cell::Count(count) => serde_json::to_writer(line, &count),
        Cell::Number(number) => serde_json::to_writer(line, &number),
        Cell::Double(number) => serde_json::to_writer(line, &number),
        Cell::Boolean(boolean) => serde_json::to_writer(line, &boolean),
        Cell::Moment(at) => serde_json::to_writer(line, &zone.show(at)),
        Cell::Metrics(metrics) => json_map(line, metrics.iter().map(|(name, value)| (&**name, value))),
        Cell::States(states) => json_map(line, states.iter().map(|(name, text)| (&**name, &**text))),
    }
}

/// A line of RFC 4180: quotes where a field holds a comma, a quote or a line end.
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

fn csv_line<'a>(line: &mut Vec<u8>, fields: impl Iterator<Item = Cow<'a, str>>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            line.push(b',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            line.push(b'"');
            line.extend_from_slice(field.replace('"', "\"\"").as_bytes());
            line.push(b'"');
        } else {
            line.extend_from_slice(field.as_bytes());
        }
    }
    line.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings() -> Vec<Heading> {
        vec![
            Heading::left("recorded_timestamp"),
            Heading::right("temperature").titled("temperature (°C)"),
            Heading::left("other_metrics"),
        ]
    }

    fn printed(format: Format, terminal_width: Option<u16>, rows: &[[Cell<'_>; 3]]) -> String {
        let mut bytes = Vec::new();
        let mut records = Records::new(&mut bytes, format, Zone::Utc, headings(), terminal_width).unwrap();
        for row in rows {
            records.write(row).unwrap();
        }
        assert_eq!(records.finish().unwrap(), rows.len() as u64);
        String::from_utf8(bytes).unwrap()
    }

    fn metrics() -> [(Arc<str>, f64); 2] {
        [("fan \"1\"".into(), 0.1), ("rpm".into(), 1500.0)]
    }

    #[test]
    fn times_have_the_offset_of_the_zone_and_a_table_names_it() {
        let rows = [[Cell::Moment(1_769_860_800_000), Cell::Number(21.3), Cell::Missing]];
        let printed = |format| {
            let mut bytes = Vec::new();
            let zone = Zone::named("Asia/Kathmandu").unwrap();
            let mut records = Records::new(&mut bytes, format, zone, headings(), None).unwrap();
            rows.iter().for_each(|row| records.write(row).unwrap());
            records.finish().unwrap();
            String::from_utf8(bytes).unwrap()
        };
        for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
            assert!(printed(format).contains("2026-01-31T17:45:00.000+05:45"), "{}", printed(format));
        }
        let named = "recorded_timestamp (Asia/Kathmandu)";
        assert_eq!(printed(Format::Table).matches("Asia/Kathmandu").count(), 1);
        assert!(printed(Format::Table).starts_with(named) && !printed(Format::Csv).contains(named));
    }

    #[test]
    fn json_is_one_array_and_leaves_missing_values_out() {
        let metrics = metrics();
        let rows = [
            [Cell::Moment(1_769_860_800_000), Cell::Number(21.3), Cell::Metrics(&metrics)],
            [Cell::Moment(1_769_860_800_001), Cell::Missing, Cell::Missing],
        ];
        let json: serde_json::Value = serde_json::from_str(&printed(Format::Json, None, &rows)).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                { "recorded_timestamp": "2026-01-31T12:00:00.000Z", "temperature": 21.3,
                  "other_metrics": { "fan \"1\"": 0.1, "rpm": 1500.0 } },
                { "recorded_timestamp": "2026-01-31T12:00:00.001Z" },
            ])
        );
        assert_eq!(printed(Format::Json, None, &[]), "[]\n");
    }

    #[test]
    fn ndjson_is_an_object_a_line() {
        let rows = [[Cell::Moment(0), Cell::Number(1e-7), Cell::Missing]; 2];
        let text = printed(Format::Ndjson, None, &rows);
        assert_eq!(text.lines().count(), 2);
        assert_eq!(
            text.lines().next(),
            Some(r#"{"recorded_timestamp":"1970-01-01T00:00:00.000Z","temperature":1e-7}"#)
        );
    }

    #[test]
    fn csv_reads_back_with_plain_column_names() {
        let metrics = metrics();
        let rows = [[Cell::Moment(0), Cell::Missing, Cell::Metrics(&metrics)]];
        let text = printed(Format::Csv, None, &rows);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(
            reader.headers().unwrap(),
            ["recorded_timestamp", "temperature", "other_metrics"].as_slice()
        );
        let record = reader.records().next().unwrap().unwrap();
        let fields: Vec<_> = record.iter().collect();
        assert_eq!(fields, ["1970-01-01T00:00:00.000Z", "", r#"{"fan \"1\"":0.1,"rpm":1500.0}"#]);
    }

    #[test]
    fn a_table_keeps_its_columns_beyond_the_first_block() {
        let rows = vec![[Cell::Moment(0), Cell::Number(21.25), Cell::Text("x")]; BLOCK * 2 + 1];
        let text = printed(Format::Table, None, &rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), rows.len() + 2, "a heading, a rule, the rows");
        assert!(lines[0].contains("temperature (°C)"));
        assert!(lines[2..].iter().all(|line| *line == lines[2]), "{}\n{}", lines[2], lines[BLOCK + 2]);
        assert!(lines[2].ends_with("21.25  x"), "{:?}", lines[2]);
    }

    #[test]
    fn a_table_fits_the_terminal_and_cannot_steer_it() {
        let long = "a long name ".repeat(10) + "\u{1b}[31m";
        let rows = [[Cell::Moment(0), Cell::Number(1.0), Cell::Text(&long)]];
        let text = printed(Format::Table, Some(80), &rows);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(printed(Format::Table, None, &rows).lines().count(), 3, "no wrapping without a terminal");
    }

    #[test]
    fn rows_that_come_slowly_are_shown_as_they_come() {
        let mut shown = Vec::new();
        let headings = vec![Heading::left("name")];
        let mut records = Records::new(&mut shown, Format::Table, Zone::Utc, headings, None).unwrap();
        records.show().unwrap();
        records.write(&[Cell::Text("first")]).unwrap();
        records.show().unwrap();
        assert!(String::from_utf8_lossy(records.writer.as_slice()).contains("first"));
        records.write(&[Cell::Text("second")]).unwrap();
        assert_eq!(records.finish().unwrap(), 2);
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown.matches("name").count(), 1, "{shown}");
        assert!(shown.contains("first") && shown.contains("secon"), "{shown}");
    }

    #[test]
    fn an_empty_table_prints_nothing() {
        assert_eq!(printed(Format::Table, None, &[]), "");
    }
}
