//! How wide the columns of a table are, and what gives way on a terminal that is narrower than the table. An id, a time or a
//! number is never broken over lines: first empty columns go, then times, numbers and ids are shortened, then text is wrapped,
//! and at last whole columns are left out.

use super::table::width;

/// In a table whose rows must fit, a word of text is not broken up to this length: an id, a time or an address fits.
pub(super) const LEAST_TEXT: u16 = 40;

/// Text up to this length stays on one line, such as `12days 4h`.
const SHORT_TEXT: u16 = 12;

/// A cell in full and shortened by one step or two; the same text where there is nothing to shorten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Versions {
    pub full: String,
    /// Times to the second, computed numbers to six digits.
    pub short: Option<String>,
    /// Ids abbreviated, too.
    pub shortest: Option<String>,
}

impl Versions {
    /// The text at a level of shortening, from 0 (none) to 2.
    pub(super) fn at(&self, level: usize) -> &str {
        let shorter = match level {
            0 => None,
            1 => self.short.as_deref(),
            _ => self.shortest.as_deref().or(self.short.as_deref()),
        };
        shorter.unwrap_or(&self.full)
    }
}

/// What a block of rows needs in one column, in terminal columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub heading: u16,
    /// The longest part of the heading, which may be broken after a blank or an underscore.
    pub heading_word: u16,
    /// The widest cell at each level of shortening.
    pub content: [u16; 3],
    /// The longest word that is not broken, at each level, where all cells are text that may be wrapped.
    pub word: Option<[u16; 3]>,
    /// Whether no row has a value.
    pub is_empty: bool,
    /// Columns of higher ranks are left out first.
    pub rank: u8,
}

impl Needs {
    fn natural(&self) -> u16 {
        self.heading.max(self.content[0])
    }

    /// The width at a level, and the least that it may be narrowed to.
    fn width(&self, level: usize) -> (u16, u16) {
        let content = self.content[level];
        let least = match self.word {
            Some(word) if content > SHORT_TEXT => content.min(word[level].max(SHORT_TEXT)),
            _ => content,
        };
        (content.max(self.heading_word), least.max(self.heading_word))
    }

    /// The same with words of text that are wider than this left out of account.
    fn capped(mut self, most: u16) -> Self {
        self.word = self.word.map(|word| word.map(|word| word.min(most)));
        self
    }
}

/// The table's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// (index of the column, its width).
    pub columns: Vec<(usize, u16)>,
    /// How far cells are shortened.
    pub level: usize,
    /// Blanks between two columns.
    pub gap: u16,
}

impl Layout {
    /// Where a column begins; `at` counts those that are shown.
    pub(super) fn start_of(&self, at: usize) -> u16 {
        self.columns[..at].iter().map(|(_, width)| width.saturating_add(self.gap)).sum()
    }

    /// Wide enough for further rows: a column grows rather than break what must not be broken.
    pub(super) fn widened(mut self, needs: &[Needs]) -> Self {
        for (index, width) in &mut self.columns {
            *width = (*width).max(needs[*index].width(self.level).1);
        }
        self
    }
}

/// Blanks between two columns where there is room.
const GAP: u16 = 2;

/// Where a word must not be broken and no layout has room for it, it is wider than its column; down to this width of columns.
const CAPS: [u16; 4] = [40, 30, 20, SHORT_TEXT];

/// The terminal's width and the columns that are not empty; `Err` with the layout where all columns have room as they are.
fn to_narrow(needs: &[Needs], terminal: Option<u16>) -> Result<(u16, Vec<usize>), Layout> {
    let natural: Vec<_> = needs.iter().map(Needs::natural).enumerate().collect();
    match terminal {
        Some(terminal) if total(&natural, GAP) > u32::from(terminal) => {
            let shown: Vec<usize> = (0..needs.len()).filter(|&index| !needs[index].is_empty).collect();
            Ok((terminal, if shown.is_empty() { (0..needs.len()).collect() } else { shown }))
        }
        _ => Err(Layout { columns: natural, level: 0, gap: GAP }),
    }
}

/// Fits the columns into `terminal`, and leaves out only those with a rank. Where that is not enough, single words are wider
/// than their column.
pub(super) fn fit_all(needs: &[Needs], terminal: Option<u16>) -> Layout {
    let (terminal, mut shown) = match to_narrow(needs, terminal) {
        Ok(narrow) => narrow,
        Err(natural) => return natural,
    };
    loop {
        for (level, gap) in [(0, GAP), (0, 1), (1, GAP), (1, 1), (2, GAP), (2, 1)] {
            if let Some(columns) = narrowed(needs, &shown, level, gap, terminal) {
                return Layout { columns, level, gap };
            }
        }
        let ranked = shown.iter().enumerate().filter(|(_, index)| needs[**index].rank > 0);
        let Some((at, _)) = ranked.max_by_key(|(at, index)| (needs[**index].rank, *at)) else { break };
        shown.remove(at);
    }
    let fitted = CAPS.into_iter().find_map(|most| {
        let capped: Vec<_> = needs.iter().map(|needs| needs.capped(most)).collect();
        narrowed(&capped, &shown, 2, 1, terminal)
    });
    let least = || shown.iter().map(|&index| (index, needs[index].width(2).1)).collect();
    Layout { columns: fitted.unwrap_or_else(least), level: 2, gap: 1 }
}

/// Fits the columns into `terminal`, or leaves them as wide as they are without one.
pub(super) fn fit(needs: &[Needs], terminal: Option<u16>) -> Layout {
    let (terminal, mut shown) = match to_narrow(needs, terminal) {
        Ok(narrow) => narrow,
        Err(natural) => return natural,
    };
    let mut is_whole = true;
    loop {
        // Whole ids with tighter gaps are worth more than short ones with wide gaps. Once columns go, everything is tight.
        let attempts = [(0, GAP), (1, GAP), (1, 1), (2, GAP), (2, 1)];
        for (level, gap) in attempts.into_iter().skip(if is_whole { 0 } else { attempts.len() - 1 }) {
            if let Some(columns) = narrowed(needs, &shown, level, gap, terminal) {
                return Layout { columns, level, gap };
            }
        }
        if shown.len() <= 1 {
            let columns = shown.iter().map(|&index| (index, needs[index].width(2).0)).collect();
            return Layout { columns, level: 2, gap: 1 };
        }
        let least_important = (0..shown.len()).max_by_key(|&at| (needs[shown[at]].rank, at)).unwrap_or(0);
        shown.remove(least_important);
        is_whole = false;
    }
}

/// The widths, with text narrowed as far as it has to be; `None` where that is not enough.
fn narrowed(
    needs: &[Needs],
    shown: &[usize],
    level: usize,
    gap: u16,
    terminal: u16,
) -> Option<Vec<(usize, u16)>> {
    let mut columns: Vec<(usize, u16)> =
        shown.iter().map(|&index| (index, needs[index].width(level).0)).collect();
    while total(&columns, gap) > u32::from(terminal) {
        let may_shrink = columns.iter_mut().filter(|(index, width)| *width > needs[*index].width(level).1);
        may_shrink.max_by_key(|(_, width)| *width)?.1 -= 1;
    }
    // What is left goes to headings that would be broken.
    let mut spare = u32::from(terminal) - total(&columns, gap);
    for (index, width) in &mut columns {
        let missing = needs[*index].heading.saturating_sub(*width);
        if u32::from(missing) <= spare {
            *width += missing;
            spare -= u32::from(missing);
        }
    }
    Some(columns)
}

/// The parts of a heading, each with the blank or underscore that it ends with.
fn parts(title: &str) -> impl Iterator<Item = &str> {
    title.split_inclusive([' ', '_'])
}

/// The longest part that must not be broken, as a width of text.
pub(super) fn longest_part(title: &str) -> u16 {
    parts(title).map(|part| width(part.trim_end())).max().unwrap_or(0)
}

/// A heading in lines of at most `room`, as far as its parts allow.
pub(super) fn broken(title: &str, room: u16) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for part in parts(title) {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && width(line).saturating_add(width(part.trim_end())) > room {
            line.truncate(line.trim_end().len());
            lines.push(part.to_owned());
        } else {
            line.push_str(part);
        }
    }
    lines.join("\n")
}

fn total(columns: &[(usize, u16)], gap: u16) -> u32 {
    let gaps = u32::from(gap) * (columns.len().saturating_sub(1) as u32);
    columns.iter().map(|(_, width)| u32::from(*width)).sum::<u32>() + gaps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> Needs {
        Needs { heading: 13, heading_word: 9, content: [36, 36, 9], ..Needs::default() }
    }

    fn time() -> Needs {
        Needs { heading: 12, heading_word: 7, content: [24, 20, 20], ..Needs::default() }
    }

    #[test]
    fn headings_break_after_blanks_and_underscores() {
        assert_eq!(longest_part("gas_concentration (ppm)"), 13);
        assert_eq!(broken("gas_concentration (ppm)", 13), "gas_\nconcentration\n(ppm)");
        assert_eq!(broken("gas_concentration (ppm)", 17), "gas_concentration\n(ppm)");
        assert_eq!(broken("iot_sensor_id", 9), "iot_\nsensor_id");
        assert_eq!(broken("age", 1), "age");
    }

    #[test]
    fn columns_of_higher_ranks_are_left_out_first() {
        let ranked = |rank| Needs { rank, ..time() };
        let layout = fit(&[ranked(1), id(), ranked(2), time()], Some(52));
        assert_eq!(layout.columns.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 3]);
        let layout = fit(&[time(), ranked(1), ranked(1), id()], Some(52));
        assert_eq!(layout.columns.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 3]);
    }

    fn text(width: u16, word: u16) -> Needs {
        Needs { heading: 5, heading_word: 5, content: [width; 3], word: Some([word; 3]), ..Needs::default() }
    }

    #[test]
    fn everything_is_whole_where_there_is_room() {
        let needs = [id(), time(), text(10, 10)];
        for terminal in [None, Some(74)] {
            let layout = fit(&needs, terminal);
            assert_eq!(layout.columns, [(0, 36), (1, 24), (2, 10)]);
            assert_eq!((layout.level, layout.gap), (0, 2));
        }
    }

    #[test]
    fn empty_columns_go_first_then_times_and_ids_are_shortened() {
        let empty = Needs { is_empty: true, heading: 20, heading_word: 20, ..Needs::default() };
        let layout = fit(&[id(), time(), empty, text(10, 10)], Some(74));
        assert_eq!((layout.level, layout.columns.len()), (0, 3), "{layout:?}");
        assert_eq!(fit(&[id(), time(), text(10, 10)], Some(70)).level, 1);
        assert_eq!(fit(&[id(), time(), text(10, 10)], Some(60)).level, 2);
    }

    #[test]
    fn text_is_wrapped_before_a_column_is_left_out() {
        let layout = fit(&[time(), text(100, 9)], Some(60));
        assert_eq!((layout.level, layout.columns[1]), (0, (1, 34)), "{layout:?}");
        let layout = fit(&[time(), text(30, 30), time(), time()], Some(60));
        assert_eq!(layout.columns.len(), 2, "{layout:?}");
    }

    proptest! {
        #[test]
        fn a_layout_fits_and_never_narrows_what_must_not_be_broken(
            kinds in prop::collection::vec(0..3_u8, 1..12), terminal in 40..200_u16,
        ) {
            let needs: Vec<Needs> = kinds.iter().map(|kind| match kind {
                0 => id(),
                1 => time(),
                _ => text(30, 12),
            }).collect();
            let layout = fit(&needs, Some(terminal));
            prop_assert!(total(&layout.columns, layout.gap) <= u32::from(terminal), "{:?}", layout);
            for &(index, width) in &layout.columns {
                let content = needs[index].content[layout.level];
                prop_assert!(needs[index].word.is_some() || width >= content, "{:?}", layout);
            }
        }
    }
}
