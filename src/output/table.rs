//! Tables for people: a heading line, aligned columns, numbers to the right. Cells are text from anywhere, and are made safe
//! here. On a narrow terminal columns without values are left out, text is wrapped at blanks, then paths and ids are shortened,
//! and columns that have a rank go. A word that is wider all the same, such as a path, keeps a line for itself, so that it can
//! still be copied. Without a terminal nothing of this happens.

use std::collections::BTreeSet;
use std::fmt;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, TableStyle, Width};
use unicode_width::UnicodeWidthStr;
use uuid::Uuid;

use super::ids::Abbreviation;
use super::layout::{self, Layout, Needs, Versions};
use super::{Output, text};

/// The blank that comfy-table puts between columns by itself if there is a line below the headings.
const JUNCTION: u16 = 1;

/// A table that is printed as a whole. [`super::record`] prints rows as they come.
#[derive(Debug, Clone)]
pub struct Table {
    /// Empty for a list of names and values.
    headings: Vec<String>,
    /// Columns that are aligned to the right.
    right: Vec<usize>,
    /// Columns of paths.
    paths: Vec<usize>,
    /// Columns whose cells are not broken at blanks.
    whole: Vec<usize>,
    /// Columns that may be left out, those of higher ranks first.
    ranks: Vec<(usize, u8)>,
    rows: Vec<Vec<Versions>>,
    /// What is said where cells with a shorter form are shortened.
    shortened: Option<&'static str>,
}

/// What stands in a cell without a value.
const NONE: &str = "-";

/// A table on a terminal.
struct Fitted {
    text: String,
    /// What the terminal had no room for.
    note: Option<String>,
}

/// An empty table with `headings`; columns named in `right` (by index) are aligned to the right.
pub fn table(headings: &[&str], right: &[usize]) -> Table {
    let headings = headings.iter().map(|&heading| heading.to_owned()).collect();
    Table {
        headings,
        right: right.to_vec(),
        paths: Vec::new(),
        whole: Vec::new(),
        ranks: Vec::new(),
        rows: Vec::new(),
        shortened: None,
    }
}

/// A table of names and values, such as a command's closing report.
pub fn report<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> Table {
    let mut table = table(&[], &[1]);
    rows.into_iter().for_each(|(name, value)| table.add_row([name.to_owned(), value]));
    table
}

impl Table {
    pub fn add_row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.add_row_with_shorter(cells.into_iter().map(|cell| (cell, None)));
    }

    /// Cells with what they may be shortened to.
    pub fn add_row_with_shorter<S: AsRef<str>>(
        &mut self,
        cells: impl IntoIterator<Item = (S, Option<String>)>,
    ) {
        let visible = |text: &str| text::visible_lines(text).into_owned();
        let cells = cells.into_iter().map(|(full, short)| Versions {
            full: visible(full.as_ref()),
            short: short.map(|short| visible(&short)),
            shortest: None,
        });
        self.rows.push(cells.collect());
    }

    /// The column has paths: below a folder that all of them are in, if there is no room for more.
    pub fn paths(mut self, column: usize) -> Self {
        self.paths.push(column);
        self
    }

    /// Cells of the column, such as times, are not broken at their blanks.
    pub fn whole(mut self, column: usize) -> Self {
        self.whole.push(column);
        self
    }

    /// The column is left out if there is no room, before those of lower ranks.
    pub fn rank(mut self, column: usize, rank: u8) -> Self {
        self.ranks.push((column, rank));
        self
    }

    /// What is said where cells are shortened.
    pub fn shortened(mut self, note: &'static str) -> Self {
        self.shortened = Some(note);
        self
    }

    /// The table, and below it what a terminal had no room for.
    pub fn with_note(&self, output: &Output) -> String {
        let Fitted { text, note } = self.fitted(terminal_width());
        match note.filter(|_| !output.quiet) {
            Some(note) => format!("{text}\n{}", output.paint(super::Paint::Dim, &format!("({note})"))),
            None => text,
        }
    }

    fn fitted(&self, terminal: Option<u16>) -> Fitted {
        let count = self.rows.iter().map(Vec::len).chain([self.headings.len()]).max().unwrap_or(0);
        let mut rows = self.rows.clone();
        let mut folders = vec![None; count];
        let mut has_ids = vec![false; count];
        for index in 0..count {
            match self.paths.contains(&index) {
                true => folders[index] = shorten_paths(&mut rows, index),
                false => has_ids[index] = abbreviate_ids(&mut rows, index),
            }
        }
        let needs: Vec<Needs> = (0..count).map(|index| self.needs(&rows, index)).collect();
        let layout = layout::fit_all(&needs, terminal);
        let rows: Vec<Vec<&str>> = rows
            .iter()
            .map(|row| {
                let cell = |index: usize| row.get(index).map_or("", |cell| cell.at(layout.level));
                layout.columns.iter().map(|(index, _)| cell(*index)).collect()
            })
            .collect();
        let headings = (!self.headings.is_empty())
            .then(|| layout.columns.iter().map(|(index, _)| self.headings[*index].as_str()).collect());
        let text =
            lines_with_long_words(headings, &rows, &layout, |index| self.right.contains(&index)).join("\n");
        let is_shown = |index: usize| layout.columns.iter().any(|(shown, _)| *shown == index);
        let mut notes = Vec::new();
        let left_out = (0..count).filter(|&index| !is_shown(index) && !needs[index].is_empty);
        let left_out: Vec<_> = left_out.map(|index| self.headings[index].as_str()).collect();
        if layout.level == 2 && (0..count).any(|index| has_ids[index] && is_shown(index)) {
            notes.push("ids are shortened".to_owned());
        }
        if !left_out.is_empty() {
            notes.push(format!("no room for {}", left_out.join(", ")));
        }
        if let Some(note) = self.shortened.filter(|_| layout.level > 0) {
            notes.push(note.to_owned());
        }
        if let Some(last) = notes.last_mut() {
            *last += "; in full: pipe the table into `less -S`";
        }
        let folders = folders.iter().enumerate().filter(|(index, _)| layout.level > 0 && is_shown(*index));
        for (index, folder) in folders {
            if let Some(folder) = folder {
                notes.push(format!("each {} is in {folder}", self.headings[index]));
            }
        }
        Fitted { text, note: (!notes.is_empty()).then(|| notes.join("; ")) }
    }

    fn needs(&self, rows: &[Vec<Versions>], index: usize) -> Needs {
        let cells = || rows.iter().filter_map(|row| row.get(index));
        let widest = |of: fn(&str) -> u16| {
            [0, 1, 2].map(|level| cells().map(|cell| of(cell.at(level))).max().unwrap_or(0))
        };
        let heading = self.headings.get(index).map_or("", String::as_str);
        let rank = self.ranks.iter().find(|(column, _)| *column == index);
        Needs {
            heading: width(heading),
            heading_word: longest_word(heading),
            content: widest(width),
            word: (!self.whole.contains(&index)).then(|| widest(longest_word)),
            // The names of a report say something by themselves.
            is_empty: !self.headings.is_empty()
                && cells().all(|cell| cell.full.is_empty() || cell.full == NONE),
            rank: rank.map_or(0, |(_, rank)| *rank),
        }
    }
}

/// Shortens the ids of a column, if it has any.
fn abbreviate_ids(rows: &mut [Vec<Versions>], index: usize) -> bool {
    let is_id = |cell: &Versions| cell.short.is_none() && Uuid::try_parse(&cell.full).is_ok();
    let ids: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.get(index))
        .filter(|cell| is_id(cell))
        .map(|cell| &*cell.full)
        .collect();
    if ids.is_empty() {
        return false;
    }
    let abbreviation = Abbreviation::of(&ids);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(index)).filter(|cell| is_id(cell)) {
        cell.shortest = Some(abbreviation.apply(&cell.full));
    }
    true
}

/// Shortens the paths of a column by the folder that all of them are in, and returns that.
fn shorten_paths(rows: &mut [Vec<Versions>], index: usize) -> Option<String> {
    let cells = || rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.full.as_str());
    let first = cells().find(|path| *path != NONE)?;
    let ends = first.rmatch_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    let folder = ends
        .map(|at| first[..=at].to_owned())
        .find(|folder| cells().all(|path| path == NONE || path.starts_with(folder.as_str())))?;
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(index)) {
        cell.short = cell.full.strip_prefix(&folder).map(str::to_owned);
    }
    Some(folder)
}

impl Output {
    /// Prints a table, and says what a narrow terminal had no room for.
    pub fn table(&self, table: &Table) -> anyhow::Result<()> {
        let Fitted { text, note } = table.fitted(terminal_width());
        self.print(text)?;
        note.into_iter().for_each(|note| self.note(note));
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fitted(terminal_width()).text)
    }
}

/// [`lines`], of rows whose words may be wider than their column. A cell with such a word ends its line, and the cells after it
/// go on below.
fn lines_with_long_words(
    headings: Option<Vec<&str>>,
    rows: &[Vec<&str>],
    layout: &Layout,
    is_right: impl Fn(usize) -> bool,
) -> Vec<String> {
    let long = |row: &[&str]| {
        row.iter().zip(&layout.columns).position(|(cell, (_, width))| longest_word(cell) > *width)
    };
    // Most tables have none, and are laid out as a whole.
    if rows.iter().all(|row| long(row).is_none()) {
        return lines(headings, rows.iter().cloned(), layout, is_right);
    }
    // A row of a table without a heading line has no gap in common with it.
    let one = |row: Vec<&str>| {
        let titles = layout.columns.iter().map(|_| "").collect();
        let mut printed = lines(headings.is_some().then_some(titles), [row], layout, &is_right);
        let above = if headings.is_some() { 2.min(printed.len()) } else { 0 };
        printed.split_off(above)
    };
    let mut all = Vec::new();
    if headings.is_some() {
        all = lines(headings.clone(), [vec![""; layout.columns.len()]], layout, &is_right);
        all.pop();
    }
    for row in rows {
        let mut rest = row.clone();
        while let Some(at) = long(&rest) {
            let (start, cell) = (layout.start_of(at), std::mem::take(&mut rest[at]));
            let before = rest.iter().enumerate().map(|(index, cell)| if index < at { *cell } else { "" });
            let mut above = one(before.collect());
            let room = layout.columns[at].1;
            for (line, words) in wrapped(cell, room).into_iter().enumerate() {
                let start = usize::from(start);
                if line == above.len() {
                    above.push(String::new());
                }
                let blanks = start.saturating_sub(UnicodeWidthStr::width(above[line].as_str()));
                above[line] += &format!("{}{words}", " ".repeat(blanks));
            }
            all.extend(above);
            rest[..at].fill("");
        }
        if rest.iter().any(|cell| !cell.is_empty()) {
            all.extend(one(rest));
        }
    }
    all
}

/// Lines of at most `room`, unless one word is wider.
fn wrapped(text: &str, room: u16) -> Vec<String> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut current = String::new();
        for word in line.split(' ') {
            if !current.is_empty() && width(&current).saturating_add(1).saturating_add(width(word)) > room {
                all.push(std::mem::take(&mut current));
            } else if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        all.push(current);
    }
    all
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
        let text = nodes().fitted(None).text;
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("address         state"), "{text}");
        assert!(lines[1].chars().all(|char| char == '─'), "{text}");
        assert!(lines[3].contains("a while      7 KiB  5f0c"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_wraps_text_at_blanks_and_breaks_no_id() {
        for terminal in [90, 80] {
            let text = nodes().fitted(Some(terminal)).text;
            assert_eq!(text.matches(ID).count(), 2, "{terminal}:\n{text}");
            assert_eq!(text.matches("127.0.0.2:9042").count(), 1, "{terminal}:\n{text}");
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= terminal.into(), "{terminal}:\n{text}");
        }
    }

    #[test]
    fn a_path_is_not_broken_even_if_the_row_is_wider_than_the_terminal() {
        let path = "/var/lib/iotctl/a-folder-with-a-long-name/logs/cassandra-1.log";
        let mut table = table(&["server", "state", "log"], &[]);
        table.add_row(["cassandra-1", "running", path]);
        assert_eq!(table.fitted(Some(60)).text.matches(path).count(), 1);
    }

    /// The widest line.
    fn widest(text: &str) -> usize {
        text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0)
    }

    #[test]
    fn one_long_word_keeps_a_line_for_itself_and_the_other_rows_their_width() {
        let path = "/var/lib/iotctl/a-folder-with-a-long-name/another-folder-with-a-long-name/of-it";
        let mut table = table(&["key", "value", "origin"], &[]);
        table.add_row(["kafka.topic", "readings", "default"]);
        table.add_row(["local.data_dir", path, "variable IOTCTL_LOCAL_DATA_DIR"]);
        table.add_row(["local.note", &format!("below {path} it is"), "default"]);
        let text = table.fitted(Some(60)).text;
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(text.matches(path).count(), 2, "{text}");
        let long: Vec<_> = lines.iter().filter(|line| line.contains(path)).collect();
        assert!(lines.iter().all(|line| width(line) <= 60 || long.contains(&line)), "{text}");
        assert!(long[0].starts_with("local.data_dir ") && long[0].ends_with(path), "{text}");
        // The origin stands below its heading.
        let origin = lines[0].find("origin").unwrap();
        assert!(lines.iter().any(|line| line.find("variable") == Some(origin)), "{text}");
        assert_eq!(lines.iter().filter(|line| line.find("default") == Some(origin)).count(), 2, "{text}");
    }

    #[test]
    fn a_narrow_terminal_shortens_ids_and_paths_and_says_how_they_begin() {
        let mut table = table(&["server", "host id", "note", "log"], &[]).paths(3);
        for name in ["cassandra-1", "kafka-1"] {
            table.add_row([name, ID, "-", &format!("/var/lib/iotctl/local/logs/{name}.log")]);
        }
        let Fitted { text, note } = table.fitted(Some(70));
        assert!(widest(&text) <= 70 && text.contains(ID) && text.contains(" cassandra-1.log"), "{text}");
        assert!(!text.contains("note"), "an empty column takes no room: {text}");
        assert_eq!(note.as_deref(), Some("each log is in /var/lib/iotctl/local/logs/"));
        let Fitted { text, note } = table.fitted(Some(50));
        assert!(widest(&text) <= 50 && text.contains(" 5f0c1c9e… "), "{text}");
        assert!(
            note.unwrap().starts_with("ids are shortened; in full: pipe the table into `less -S`; each log")
        );
        let Fitted { text, note } = table.fitted(None);
        assert!(text.contains("/logs/kafka-1.log") && text.contains("note") && note.is_none(), "{text}");
    }

    #[test]
    fn a_column_of_a_rank_goes_and_is_named() {
        let mut table = table(&["address", "rack", "version"], &[]).rank(1, 1).rank(2, 2);
        table.add_row(["127.0.0.1:9042", "rack-of-the-south", "5.0.6"]);
        let Fitted { text, note } = table.fitted(Some(34));
        assert!(widest(&text) <= 34 && text.contains("rack-of") && !text.contains("5.0.6"), "{text}");
        assert!(note.unwrap().starts_with("no room for version"), "{text}");
    }

    #[test]
    fn cells_cannot_steer_the_terminal() {
        let mut table = table(&["topic"], &[]);
        table.add_row(["x\u{1b}[31m\u{202e}"]);
        assert!(table.fitted(None).text.ends_with("x\\u{1b}[31m\\u{202e}"));
    }

    #[test]
    fn a_report_has_names_and_values() {
        let report = report([("rows stored", "180,000".to_owned()), ("elapsed", "1.5 s".to_owned())]);
        assert_eq!(report.fitted(None).text, "rows stored  180,000\nelapsed        1.5 s");
    }
}
