//! Results of many rows, printed as they come: aligned columns, a JSON array, JSON lines or CSV. Memory does not grow
//! with the number of rows: a table takes its columns' widths from its first [`BLOCK`] rows and keeps them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{BufWriter, StdoutLock, Write};

use super::cell::{json_value, plain_text};
use super::ids::Abbreviation;
use super::layout::{self, LEAST_TEXT, Layout, Needs, Versions};
use super::table::{self, longest_word, width};
use super::{Format, Output, closed};
use crate::time::Zone;

pub use super::cell::{Cell, Heading};

/// Rows of a table that are held until they are laid out.
const BLOCK: usize = 1_000;

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
    block: Vec<Vec<Versions>>,
    /// What each column has had so far.
    contents: Vec<Contents>,
    /// The columns once the first block is laid out.
    layout: Option<Layout>,
    terminal_width: Option<u16>,
    /// Where it is said what a narrow terminal has no room for.
    output: Option<Output>,
    rows: u64,
}

/// What the cells of a column have been.
#[derive(Debug, Clone, Copy, Default)]
struct Contents {
    has_value: bool,
    /// Besides text: it must not be broken over lines.
    has_number: bool,
    has_id: bool,
    abbreviation: Option<Abbreviation>,
}

impl Output {
    /// Rows to stdout.
    pub fn records(
        &self,
        format: Format,
        zone: Zone,
        headings: Vec<Heading>,
    ) -> anyhow::Result<Records<BufWriter<StdoutLock<'static>>>> {
        let terminal_width = if self.stdout_is_terminal { table::terminal_width() } else { None };
        let mut records = Records::new(self.stream(), format, zone, headings, terminal_width)?;
        records.output = Some(*self);
        Ok(records)
    }

    /// Rows to a file.
    pub fn records_to<W: Write>(
        &self,
        writer: W,
        format: Format,
        zone: Zone,
        headings: Vec<Heading>,
    ) -> anyhow::Result<Records<W>> {
        Records::new(writer, format, zone, headings, None)
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
            contents: Vec::new(),
            layout: None,
            terminal_width,
            output: None,
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
                self.contents.resize(cells.len(), Contents::default());
                for (contents, cell) in self.contents.iter_mut().zip(cells) {
                    contents.has_value |= !cell.is_missing();
                    contents.has_number |= !cell.is_text();
                    contents.has_id |= matches!(cell, Cell::Uuid(_) | Cell::Sensor(..));
                }
                let zone = self.zone;
                self.block.push(cells.iter().map(|cell| cell.versions(zone)).collect());
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
        if self.zone == Zone::Utc || self.layout.is_some() {
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
        if let (Some(output), Some(note)) = (&self.output, self.narrow_note()) {
            output.note(note);
        }
        Ok(self.rows)
    }

    /// What a narrow terminal had no room for.
    fn narrow_note(&self) -> Option<String> {
        let layout = self.layout.as_ref()?;
        let is_shown = |index| layout.columns.iter().any(|(shown, _)| *shown == index);
        let columns = self.headings.iter().zip(&self.contents).enumerate();
        let left_out = columns.filter(|(index, (_, contents))| contents.has_value && !is_shown(*index));
        let names: Vec<_> = left_out.map(|(_, (heading, _))| heading.name.as_str()).collect();
        let is_short =
            layout.level == 2 && layout.columns.iter().any(|(index, _)| self.contents[*index].has_id);
        let what = match (names.is_empty(), is_short) {
            (true, false) => return None,
            (true, true) => "ids are shortened".to_owned(),
            (false, false) => format!("no room for {}", names.join(", ")),
            (false, true) => format!("ids are shortened, no room for {}", names.join(", ")),
        };
        Some(format!("{what} (in full: --format csv, or pipe the table into `less -S`)"))
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
            if cell.is_missing() {
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

    /// Lays the held rows out. The first block fixes the columns; later ones wrap longer text within them, and widen a
    /// column rather than break an id, a time or a number.
    fn write_block(&mut self) -> anyhow::Result<()> {
        self.abbreviate_ids();
        let needs = self.needs();
        let is_first = self.layout.is_none();
        let layout = match self.layout.take() {
            None => layout::fit(&needs, self.terminal_width),
            Some(layout) => layout.widened(&needs),
        };
        let block = std::mem::take(&mut self.block);
        let rows = block
            .iter()
            .map(|row| layout.columns.iter().map(|(index, _)| row[*index].at(layout.level)).collect());
        let titles: Vec<String> = layout
            .columns
            .iter()
            .map(|(index, width)| layout::broken(&self.headings[*index].title, *width))
            .collect();
        let titles = is_first.then(|| titles.iter().map(String::as_str).collect());
        let is_right = |index: usize| self.headings[index].align_right;
        let lines = table::lines(titles, rows, &layout, is_right);
        self.layout = Some(layout);
        lines.iter().try_for_each(|line| closed(writeln!(self.writer, "{line}")))
    }

    /// Abbreviates the ids of the held rows, so that those of one column stay distinct.
    fn abbreviate_ids(&mut self) {
        for (index, contents) in self.contents.iter_mut().enumerate().filter(|(_, contents)| contents.has_id)
        {
            // Names have been shortened by themselves.
            let is_id = |row: &&Vec<Versions>| row[index].shortest.is_none();
            let ids: BTreeSet<&str> =
                self.block.iter().filter(is_id).map(|row| row[index].full.as_str()).collect();
            let abbreviation = match contents.abbreviation {
                None => Abbreviation::of(&ids),
                Some(before) => before.extended(&ids),
            };
            contents.abbreviation = Some(abbreviation);
            for row in &mut self.block {
                let id = &mut row[index];
                if id.shortest.is_none() {
                    id.shortest = Some(abbreviation.apply(&id.full));
                }
            }
        }
    }

    /// What the held rows need in each column.
    fn needs(&self) -> Vec<Needs> {
        let columns = self.headings.iter().zip(&self.contents).enumerate();
        let needs = columns.map(|(index, (heading, contents))| {
            let cells = || self.block.iter().map(|row| &row[index]);
            let widest = |level| cells().map(|cell| width(cell.at(level))).max().unwrap_or(0);
            Needs {
                heading: width(&heading.title),
                heading_word: layout::longest_part(&heading.title),
                content: [widest(0), widest(1), widest(2)],
                word: (!contents.has_number).then(|| {
                    [cells().map(|cell| longest_word(&cell.full)).max().unwrap_or(0).min(LEAST_TEXT); 3]
                }),
                is_empty: !contents.has_value,
                rank: heading.rank,
            }
        });
        needs.collect()
    }
}

/// A line of RFC 4180: quotes where a field holds a comma, a quote or a line end.
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
    use std::sync::Arc;

    use uuid::Uuid;

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
        assert!(shown.contains("first") && shown.contains("second"), "{shown}");
    }

    const ID: Uuid = Uuid::from_u128(0x5f0c_1c9e_8b7b_5d3c_9d55_0b8b_2f7e_6a11);

    /// The columns of `iotctl sensors`.
    fn sensors(terminal_width: Option<u16>, rows: usize) -> (String, Option<String>) {
        let names = ["location", "device_type", "iot_sensor_id", "last reading", "age"].map(Heading::left);
        let metrics = ["temperature (°C)", "humidity (%RH)", "pressure (hPa)", "light_level (lux)"];
        let headings = names.into_iter().chain(metrics.map(Heading::right)).collect();
        let mut bytes = Vec::new();
        let mut records =
            Records::new(&mut bytes, Format::Table, Zone::Utc, headings, terminal_width).unwrap();
        for row in 0..rows {
            let moment = 1_769_860_800_000 + row as i64;
            let cells =
                [Cell::Text("plant-1"), Cell::Text("thermostat"), Cell::Uuid(ID), Cell::Moment(moment)];
            let values = [
                Cell::Text("3m 20s"),
                Cell::Number(21.25),
                Cell::Missing,
                Cell::Number(1013.2),
                Cell::Missing,
            ];
            records.write(&[&cells[..], &values].concat()).unwrap();
        }
        records.write_block().unwrap();
        let note = records.narrow_note();
        records.finish().unwrap();
        (String::from_utf8(bytes).unwrap(), note)
    }

    #[test]
    fn at_80_columns_a_row_is_one_line_with_whole_times_and_short_ids() {
        let (text, note) = sensors(Some(80), 3);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        let rows: Vec<_> = lines.iter().filter(|line| line.starts_with("plant-1")).collect();
        assert_eq!(rows.len(), 3, "{text}");
        for row in rows {
            assert!(row.contains(" 5f0c1c9e… 2026-01-31T12:00:00Z "), "{text}");
            assert!(row.contains("3m 20s") && row.contains("21.25") && row.ends_with("1013.2"), "{text}");
        }
        assert!(!text.contains("humidity"), "an empty column takes no room: {text}");
        assert_eq!(
            note.as_deref(),
            Some("ids are shortened (in full: --format csv, or pipe the table into `less -S`)")
        );
    }

    #[test]
    fn a_sensors_name_stands_for_its_id_and_never_makes_a_row_too_wide() {
        let long = "building-".repeat(28);
        let hostile = "x\u{202e}\u{1b}[31m,👨‍🔧\"";
        let mut bytes = Vec::new();
        let headings = ["sensor", "recorded_timestamp", "value"].map(Heading::left).to_vec();
        let mut records = Records::new(&mut bytes, Format::Table, Zone::Utc, headings, Some(80)).unwrap();
        for name in [None, Some("th-1"), Some(long.as_str()), Some(hostile)] {
            records.write(&[Cell::Sensor(ID, name), Cell::Moment(0), Cell::Number(21.5)]).unwrap();
        }
        records.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.lines().all(|line| table::width(line) <= 80), "{text}");
        assert_eq!(text.lines().count(), 6, "each row is one line: {text}");
        assert!(text.contains("th-1 ") && text.contains("building-b…"), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_column_without_room_is_named_and_the_others_stay_whole() {
        let (text, note) = sensors(Some(60), 1);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.contains("2026-01-31T12:00:00Z"), "{text}");
        assert!(note.unwrap().contains("no room for temperature (°C), pressure (hPa)"), "{text}");
    }

    #[test]
    fn without_a_terminal_ids_and_times_are_whole() {
        let (text, note) = sensors(None, 1);
        assert!(text.contains(&ID.to_string()) && text.contains("2026-01-31T12:00:00.000Z"), "{text}");
        assert!(text.contains("humidity (%RH)") && note.is_none(), "{text}");
    }

    #[test]
    fn a_later_block_is_not_broken_either() {
        let mut bytes = Vec::new();
        let headings = vec![Heading::right("value"), Heading::left("name")];
        let mut records = Records::new(&mut bytes, Format::Table, Zone::Utc, headings, Some(30)).unwrap();
        for number in [1.5, 123_456.79] {
            records.write(&[Cell::Number(number), Cell::Text("x")]).unwrap();
            records.show().unwrap();
        }
        records.finish().unwrap();
        assert!(String::from_utf8(bytes).unwrap().contains("123456.79"));
    }

    #[test]
    fn names_that_reorder_text_are_escaped_in_tables_and_kept_in_json() {
        let metrics: [(Arc<str>, f64); 1] = [("x\u{202e}y".into(), 3e38)];
        let rows = [[Cell::Moment(0), Cell::Number(3e38), Cell::Metrics(&metrics)]];
        let text = printed(Format::Table, None, &rows);
        assert!(text.contains("x\\u{202e}y=3e38") && text.contains(" 3e38 "), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains("0000000000000"), "{text}");
        assert!(printed(Format::Ndjson, None, &rows).contains("x\u{202e}y"));
        assert!(printed(Format::Csv, None, &rows).contains(",3e38,"));
    }

    #[test]
    fn what_is_not_a_number_is_no_value() {
        let rows = [[Cell::Moment(0), Cell::Number(f64::NAN), Cell::Double(f64::INFINITY)]];
        assert!(!printed(Format::Table, None, &rows).contains("NaN"));
        assert_eq!(printed(Format::Csv, None, &rows).lines().nth(1), Some("1970-01-01T00:00:00.000Z,,"));
        assert!(!printed(Format::Ndjson, None, &rows).contains("null"));
    }

    #[test]
    fn an_empty_table_prints_nothing() {
        assert_eq!(printed(Format::Table, None, &[]), "");
    }
}
