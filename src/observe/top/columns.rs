//! Which columns of a table fit on the screen. A number is shown whole or not at all: cut, it would be another number.

use ratatui::style::Style;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub heading: &'static str,
    /// Names and states; all else is right-aligned.
    pub is_text: bool,
    /// Smallest width, so that columns do not move with each value.
    width: u16,
    /// Columns of higher ranks are left out first.
    rank: u8,
    /// Takes a share of the cells that no column needs.
    pub grows: bool,
}

impl Column {
    pub(super) const fn text(heading: &'static str, width: u16, rank: u8) -> Self {
        Self { heading, is_text: true, width, rank, grows: false }
    }

    pub(super) const fn number(heading: &'static str, width: u16, rank: u8) -> Self {
        Self { heading, is_text: false, width, rank, grows: false }
    }

    pub(super) const fn growing(self) -> Self {
        Self { grows: true, ..self }
    }
}

/// A value in a table, as text.
#[derive(Debug, Clone, Default)]
pub(super) struct Field {
    pub text: String,
    pub style: Style,
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

impl From<Option<String>> for Field {
    /// An unknown value is a dash.
    fn from(text: Option<String>) -> Self {
        text.unwrap_or_else(|| "-".into()).into()
    }
}

/// The columns that fit into `available` cells, with one between two columns, and their widths, in their order. The
/// columns of rank 0 are always among them.
pub(super) fn fitting(columns: &[Column], rows: &[Vec<Field>], available: u16) -> Vec<(usize, u16)> {
    let widths: Vec<u16> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let values = rows.iter().filter_map(|row| row.get(index));
            let widest = values.map(|field| field.text.chars().count()).max().unwrap_or(0);
            let widest = widest.max(column.heading.len());
            u16::try_from(widest).unwrap_or(u16::MAX).max(column.width)
        })
        .collect();
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|index| columns[*index].rank);
    let (mut shown, mut used) = (Vec::new(), 0_u32);
    for index in by_rank {
        let gap = u32::from(!shown.is_empty());
        let wanted = used + gap + u32::from(widths[index]);
        if columns[index].rank > 0 && wanted > u32::from(available) {
            // A narrower column of a higher rank does not take its place.
            break;
        }
        used = wanted;
        shown.push(index);
    }
    shown.sort_unstable();
    shown.into_iter().map(|index| (index, widths[index])).collect()
}
