//! Tables for people: a heading line, aligned columns, numbers to the right. Cells are text from anywhere, and are made safe
//! here. A narrow terminal gets text wrapped at blanks; a row that is wider all the same is left to the terminal to wrap, so
//! that an id or a path can still be copied.

use std::fmt;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, TableStyle, Width};
use unicode_width::UnicodeWidthStr;

use super::layout::{self, Layout, Needs};
use super::text;

/// The blank that comfy-table puts between columns by itself if there is a line below the headings.
const JUNCTION: u16 = 1;

/// A table that is printed as a whole. [`super::record`] prints rows as they come.
#[derive(Debug, Clone)]
pub struct Table {
    /// Empty for a list of names and values.
    headings: Vec<String>,
    /// Columns that are aligned to the right.
    right: Vec<usize>,
    rows: Vec<Vec<String>>,
}

/// An empty table with `headings`; columns named in `right` (by index) are aligned to the right.
pub fn table(headings: &[&str], right: &[usize]) -> Table {
    let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
    Table { headings, right: right.to_vec(), rows: Vec::new() }
}

/// A table of names and values, such as a command's closing report.
pub fn report<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> Table {
    let mut table = table(&[], &[1]);
    rows.into_iter().for_each(|(name, value)| table.add_row([name.to_owned(), value]));
    table
}

impl Table {
    pub fn add_row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows
            .push(cells.into_iter().map(|cell| text::visible_lines(cell.as_ref()).into_owned()).collect());
    }

    fn fitted(&self, terminal: Option<u16>) -> String {
        let count = self.rows.iter().map(Vec::len).chain([self.headings.len()]).max().unwrap_or(0);
        let needs: Vec<Needs> = (0..count)
            .map(|index| {
                let cells = || self.rows.iter().filter_map(|row| row.get(index)).map(String::as_str);
                let heading = self.headings.get(index).map_or("", String::as_str);
                Needs {
                    heading: width(heading),
                    heading_word: longest_word(heading),
                    content: [cells().map(width).max().unwrap_or(0); 3],
                    word: Some(cells().map(longest_word).max().unwrap_or(0)),
                    is_empty: false,
                    rank: 0,
                }
            })
            .collect();
        let layout = layout::fit_all(&needs, terminal);
        let rows = self.rows.iter().map(|row| row.iter().map(String::as_str).collect());
        let headings =
            (!self.headings.is_empty()).then(|| self.headings.iter().map(String::as_str).collect());
        lines(headings, rows, &layout, |index| self.right.contains(&index)).join("\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fitted(terminal_width()))
    }
}

/// `None` without a terminal, and for one that says 0, as those of containers and of some CI runners do.
pub(super) fn terminal_width() -> Option<u16> {
    comfy_table::Table::new().width().filter(|&width| width > 0)
}

/// The lines of rows in a layout; each row has the cells of the layout's columns.
pub(super) fn lines<'a>(
    headings: Option<Vec<&'a str>>,
    rows: impl IntoIterator<Item = Vec<&'a str>>,
    layout: &Layout,
    is_right: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut table = comfy_table::Table::new();
    table.force_no_tty();
    let has_headings = headings.is_some();
    let junction = if has_headings { JUNCTION } else { 0 };
    let padding = layout.gap.saturating_sub(junction);
    table.load_style(match has_headings {
        true => TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')),
        false => TableStyle::new(),
    });
    if let Some(headings) = headings {
        table.set_header(headings);
    }
    for row in rows {
        table.add_row(row);
    }
    // The line below the headings ends with the last column.
    let last = layout.columns.len().saturating_sub(1);
    let padding = |at: usize| if at < last { padding } else { 0 };
    let widths = || {
        let columns = layout.columns.iter().enumerate();
        columns.map(|(at, (_, width))| width.saturating_add(padding(at)).max(1))
    };
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(widths().fold(0, |total, width| total.saturating_add(width).saturating_add(junction)));
    table.set_constraints(widths().map(|width| ColumnConstraint::Absolute(Width::Fixed(width))));
    for (at, (column, (index, _))) in table.column_iter_mut().zip(&layout.columns).enumerate() {
        column.set_padding((0, padding(at)));
        if is_right(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// In terminal columns, the widest line of it; wider ones than a table can have are cut.
pub(super) fn width(text: &str) -> u16 {
    let widest = text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
    u16::try_from(widest).unwrap_or(u16::MAX).min(u16::MAX / 64)
}

pub(super) fn longest_word(text: &str) -> u16 {
    text.split([' ', '\n']).map(width).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11";

    fn nodes() -> Table {
        let mut table = table(&["address", "state", "load", "host id"], &[2]);
        table.add_row(["127.0.0.1:9042", "normal", "120.5 MiB", ID]);
        table.add_row(["127.0.0.2:9042", "joining, which takes a while", "7 KiB", ID]);
        table
    }

    #[test]
    fn a_table_has_headings_a_rule_and_numbers_to_the_right() {
        let text = nodes().fitted(None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("address         state"), "{text}");
        assert!(lines[1].chars().all(|char| char == '─'), "{text}");
        assert!(lines[3].contains("a while      7 KiB  5f0c"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_wraps_text_at_blanks_and_breaks_no_id() {
        for terminal in [90, 80, 40] {
            let text = nodes().fitted(Some(terminal));
            assert_eq!(text.matches(ID).count(), 2, "{terminal}:\n{text}");
            assert_eq!(text.matches("127.0.0.2:9042").count(), 1, "{terminal}:\n{text}");
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(terminal == 40 || widest <= terminal.into(), "{terminal}:\n{text}");
        }
    }

    #[test]
    fn a_path_is_not_broken_even_if_the_row_is_wider_than_the_terminal() {
        let path = "/var/lib/iotctl/a-folder-with-a-long-name/logs/cassandra-1.log";
        let mut table = table(&["server", "state", "log"], &[]);
        table.add_row(["cassandra-1", "running", path]);
        assert_eq!(table.fitted(Some(60)).matches(path).count(), 1);
    }

    #[test]
    fn cells_cannot_steer_the_terminal() {
        let mut table = table(&["topic"], &[]);
        table.add_row(["x\u{1b}[31m\u{202e}"]);
        assert!(table.fitted(None).ends_with("x\\u{1b}[31m\\u{202e}"));
    }

    #[test]
    fn a_report_has_names_and_values() {
        let report = report([("rows stored", "180,000".to_owned()), ("elapsed", "1.5 s".to_owned())]);
        assert_eq!(report.fitted(None), "rows stored  180,000\nelapsed        1.5 s");
    }
}
