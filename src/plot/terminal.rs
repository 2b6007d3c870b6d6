//! Plots as text: braille lines and shaded maps. They are readable without colour.

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart as Widget, Dataset, GraphType, Widget as _};

use super::text::clean;
use super::ticks::{self, Tick};
use super::{Chart, HeatMap};

const COLORS: [Color; 8] = [
    Color::Cyan,
    Color::Yellow,
    Color::Green,
    Color::Magenta,
    Color::Blue,
    Color::LightRed,
    Color::LightCyan,
    Color::LightGreen,
];
/// How often a line shows its letter.
const LETTERS_ON_A_LINE: usize = 6;
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];
/// From cool to warm, in the palette of 256 colours; each is visible on a dark and on a light background.
const RAMP: [u8; 8] = [27, 33, 37, 71, 142, 178, 208, 196];

/// Columns and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

impl Size {
    /// The size of the terminal; 80 columns without a terminal.
    pub fn of_terminal(is_terminal: bool) -> Self {
        let found = is_terminal.then(|| ratatui::crossterm::terminal::size().ok()).flatten();
        // Terminals of containers and of some CI runners say 0.
        let (width, height) = found.filter(|&(width, _)| width > 0).unwrap_or((80, 30));
        Self { width: width.clamp(40, 240), height: (height.saturating_sub(4)).clamp(12, 40) }
    }
}

/// A chart as lines of text.
pub fn chart(chart: &Chart, size: Size, color: bool) -> Option<String> {
    let ((from, to), (low, high)) = chart.bounds()?;
    let x = |at: i64| (at - from) as f64;
    let dim = Style::default().fg(Color::DarkGray);
    let band: Vec<Vec<(f64, f64)>> = [true, false]
        .map(|is_low| {
            let edge =
                chart.band.iter().map(|range| (x(range.at), if is_low { range.low } else { range.high }));
            edge.filter(|(_, value)| value.is_finite()).collect()
        })
        .into();
    let lines: Vec<Vec<Vec<(f64, f64)>>> = chart
        .series
        .iter()
        .map(|series| {
            let parts = series.points.split(|point| !point.value.is_finite());
            parts.map(|part| part.iter().map(|point| (x(point.at), point.value)).collect()).collect()
        })
        .collect();
    let marks: Vec<(f64, f64)> = chart.marks.iter().map(|mark| (x(mark.at), mark.value)).collect();
    let limit: Vec<(f64, f64)> =
        chart.limit.map(|limit| vec![(0.0, limit), (x(to), limit)]).unwrap_or_default();

    let mut sets = Vec::new();
    for edge in &band {
        sets.push(
            Dataset::default().data(edge).marker(Marker::Braille).graph_type(GraphType::Scatter).style(dim),
        );
    }
    if !limit.is_empty() {
        let red = Style::default().fg(Color::Red);
        sets.push(
            Dataset::default().data(&limit).marker(Marker::Braille).graph_type(GraphType::Line).style(red),
        );
    }
    for (parts, color) in lines.iter().zip(COLORS.into_iter().cycle()) {
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let style = Style::default().fg(color);
            sets.push(
                Dataset::default()
                    .data(part)
                    .marker(Marker::Braille)
                    .graph_type(GraphType::Line)
                    .style(style),
            );
        }
    }
    // Letters, for readers who do not see the colours; only with several lines.
    let letters: Vec<Vec<(f64, f64)>> = match lines.len() {
        0 | 1 => Vec::new(),
        count => lines.iter().enumerate().map(|(index, parts)| lettered(parts, index, count)).collect(),
    };
    for ((index, points), color) in letters.iter().enumerate().zip(COLORS.into_iter().cycle()) {
        sets.push(
            Dataset::default()
                .data(points)
                .marker(Marker::Custom(letter(index)))
                .graph_type(GraphType::Scatter)
                .style(Style::default().fg(color)),
        );
    }
    let marked = Style::default().fg(Color::Red).add_modifier(Modifier::BOLD);
    sets.push(
        Dataset::default().data(&marks).marker(Marker::Dot).graph_type(GraphType::Scatter).style(marked),
    );

    let values = (0..5).map(|index| low + (high - low) * f64::from(index) / 4.0);
    let values = values.map(|value| ticks::figure(value, (high - low) / 100.0));
    // Blank labels of time: they are written below, where round instants are.
    let widget = Widget::new(sets)
        .x_axis(Axis::default().bounds([0.0, x(to)]).labels([" ", " "]).style(dim))
        .y_axis(Axis::default().bounds([low, high]).labels(values).style(dim))
        .legend_position(None);
    let mut buffer = Buffer::empty(Rect::new(0, 0, size.width, size.height));
    // One line is for the dates.
    widget.render(Rect::new(0, 0, size.width, size.height.saturating_sub(1)), &mut buffer);
    label_times(&mut buffer, chart, (from, to), dim);
    let mut text = heading(&chart.title, &chart.subtitle(), size.width);
    text += &to_text(&buffer, color);
    text += &legend(chart, size.width, color);
    Some(text)
}

/// What is drawn, then of what and in which zone; on one line if both fit.
fn heading(title: &str, subtitle: &str, width: u16) -> String {
    let (title, subtitle) = (clean(title), clean(subtitle));
    let width = usize::from(width);
    let one = format!("{title} · {subtitle}");
    if one.chars().count() <= width {
        return one + "\n";
    }
    let cut = |text: String| text.chars().take(width).collect::<String>();
    format!("{}\n{}\n", cut(title), cut(subtitle))
}

/// Writes times below the axis and dates below the times, each at its moment; those that would overlap are left out.
fn label_times(buffer: &mut Buffer, chart: &Chart, (from, to): (i64, i64), style: Style) {
    let Rect { width, height, .. } = buffer.area;
    let axis = height.saturating_sub(3);
    // The axis begins at its corner.
    let Some(left) = (0..width).find(|&column| buffer[(column, axis)].symbol() == "└") else { return };
    let columns = width.saturating_sub(left + 1).max(2) - 1;
    let most = usize::from(columns / 11).max(1);
    let mut free = [0; 2];
    for Tick { at, label, under } in ticks::times(from, to, most, |at| chart.zone.offset(at)) {
        let share = (at - from) as f64 / (to - from) as f64;
        let column = left + 1 + (share * f64::from(columns)).round() as u16;
        buffer.set_string(column, axis, "┬", style);
        for (row, text) in [Some(label), under].into_iter().enumerate() {
            let Some(text) = text else { continue };
            let length = text.chars().count() as u16;
            // In the middle below its tick, and within the picture.
            let start = column.saturating_sub(length / 2).min(width.saturating_sub(length));
            if start >= free[row] {
                buffer.set_string(start, axis + 1 + row as u16, &text, style);
                free[row] = start + length + 1;
            }
        }
    }
}

/// Explains every line and mark, in as many lines of text as it needs; nothing where there is one line alone.
fn legend(chart: &Chart, width: u16, color: bool) -> String {
    let is_single = chart.series.len() == 1;
    let mut entries: Vec<(String, Style, &str)> = Vec::new();
    for ((index, series), line) in chart.series.iter().enumerate().zip(COLORS.into_iter().cycle()) {
        let sample = if is_single { "──".to_owned() } else { format!("─{}─", letter(index)) };
        entries.push((sample, Style::default().fg(line), &series.name));
    }
    if !chart.band.is_empty() {
        entries.push(("⠒⠒".to_owned(), Style::default().fg(Color::DarkGray), &chart.band_name));
    }
    let red = Style::default().fg(Color::Red);
    if !chart.marks.is_empty() {
        entries.push(("•".to_owned(), red, &chart.marks_name));
    }
    let limit = chart.limit.map(|limit| format!("limit {limit}"));
    if let Some(limit) = &limit {
        entries.push(("──".to_owned(), red, limit));
    }
    if entries.len() == 1 && is_single {
        return String::new();
    }
    let (mut text, mut used) = (String::new(), 0);
    for (sample, style, name) in entries {
        let name: String = clean(name).chars().take(usize::from(width).saturating_sub(6)).collect();
        let length = sample.chars().count() + 1 + name.chars().count();
        if used > 0 && used + 2 + length > usize::from(width) {
            text.push('\n');
            used = 0;
        }
        if used > 0 {
            text += "  ";
            used += 2;
        }
        text += &paint(&sample, &style, color);
        text.push(' ');
        text += &name;
        used += length;
    }
    text.push('\n');
    text
}

/// A, B, … Z, and again.
fn letter(index: usize) -> char {
    char::from(b'A' + (index % 26) as u8)
}

/// The points of a line that show its letter, apart from the letters of the other lines.
fn lettered(parts: &[Vec<(f64, f64)>], index: usize, of: usize) -> Vec<(f64, f64)> {
    let points: Vec<_> = parts.iter().flatten().copied().collect();
    let turns = LETTERS_ON_A_LINE * of;
    let at = |turn: usize| (turn * of + index) * points.len() / turns;
    (0..LETTERS_ON_A_LINE).filter_map(|turn| points.get(at(turn)).copied()).collect()
}

/// A map as lines of text: one line per day, two columns per hour.
pub fn heat_map(map: &HeatMap, color: bool) -> Option<String> {
    let (low, high) = map.bounds()?;
    let share = |value: f64| if high > low { (value - low) / (high - low) } else { 0.5 };
    let pick = |value: f64, count: usize| ((share(value) * count as f64) as usize).min(count - 1);
    let cell = |value: f64| {
        let shade = SHADES[pick(value, SHADES.len())];
        if color {
            format!("\u{1b}[48;5;{}m  \u{1b}[0m", RAMP[pick(value, RAMP.len())])
        } else {
            format!("{shade}{shade}")
        }
    };
    let mut text = heading(&map.title, &map.subtitle(), 80) + "           ";
    for hour in (0..24).step_by(6) {
        text += &format!("{hour:02}          ");
    }
    text = text.trim_end().to_owned() + "\n";
    for (day, hours) in &map.days {
        text += &HeatMap::day(*day);
        text.push(' ');
        for hour in hours {
            text += &hour.map_or_else(|| "  ".to_owned(), cell);
        }
        text = text.trim_end_matches(' ').to_owned() + "\n";
    }
    let steps = if color { RAMP.len() } else { SHADES.len() };
    let legend = (0..steps).map(|step| cell(low + (high - low) * (step as f64 + 0.5) / steps as f64));
    text += &format!(
        "           {} {} {}   blank: nothing measured\n",
        ticks::figure(low, (high - low).abs() / 100.0),
        legend.collect::<String>(),
        ticks::figure(high, (high - low).abs() / 100.0)
    );
    Some(text)
}

fn to_text(buffer: &Buffer, color: bool) -> String {
    let mut text = String::new();
    for line in buffer.content.chunks(buffer.area.width.max(1).into()) {
        let mut run = String::new();
        let mut style: Option<Style> = None;
        for cell in line {
            if style != Some(cell.style()) {
                text += &style.map_or_else(String::new, |style| paint(&run, &style, color));
                run.clear();
                style = Some(Cell::style(cell));
            }
            run += cell.symbol();
        }
        let last = run.trim_end().to_owned();
        text += &style.map_or_else(String::new, |style| paint(&last, &style, color));
        text = text.trim_end_matches(' ').to_owned();
        text.push('\n');
    }
    text
}

fn paint(text: &str, style: &Style, color: bool) -> String {
    let code = match style.fg {
        Some(Color::Cyan) => "36",
        Some(Color::Yellow) => "33",
        Some(Color::Green) => "32",
        Some(Color::Magenta) => "35",
        Some(Color::Blue) => "34",
        Some(Color::LightRed) => "91",
        Some(Color::LightCyan) => "96",
        Some(Color::LightGreen) => "92",
        Some(Color::Red) => "1;31",
        Some(Color::DarkGray) => "2",
        _ => return text.to_owned(),
    };
    if color && !text.trim().is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::Series;
    use crate::series::Point;
    use crate::time::Zone;

    fn wave() -> Chart {
        let points =
            (0..200).map(|at| Point { at: at * 60_000, value: 20.0 + (at as f64 / 15.0).sin() }).collect();
        Chart {
            title: "temperature (°C)".into(),
            series: vec![Series { name: "a".into(), points }],
            marks: vec![Point { at: 6_000_000, value: 21.0 }],
            marks_name: "highest".into(),
            limit: Some(20.5),
            ..Chart::default()
        }
    }

    #[test]
    fn a_line_has_axes_units_and_marks_and_colour_only_on_request() {
        let size = Size { width: 80, height: 16 };
        let text = chart(&wave(), size, false).unwrap();
        assert!(text.starts_with("temperature (°C) · UTC\n"), "{text}");
        for expected in ["00:00", "03:00", "1970-01-01", "20.55", "•", "• highest", "── limit 20.5"] {
            assert!(text.contains(expected), "no {expected} in\n{text}");
        }
        assert!(text.chars().any(|char| ('\u{2801}'..='\u{28ff}').contains(&char)), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(chart(&wave(), size, true).unwrap().contains("\u{1b}[36m"));
        assert_eq!(chart(&Chart::default(), size, false), None);
    }

    #[test]
    fn several_lines_are_labelled_by_letters() {
        let mut chart = wave();
        let shifted = chart.series[0].points.iter().map(|point| Point { value: point.value + 5.0, ..*point });
        chart.series.push(Series { name: "other".into(), points: shifted.collect() });
        let text = super::chart(&chart, Size { width: 80, height: 20 }, false).unwrap();
        for (name, letter) in [("a", 'A'), ("other", 'B')] {
            assert!(text.contains(&format!("─{letter}─ {name}")), "{text}");
            assert!(text.matches(letter).count() > LETTERS_ON_A_LINE / 2, "{text}");
        }
        let alone = super::chart(&wave(), Size { width: 80, height: 20 }, false).unwrap();
        assert!(!alone.contains('A'), "{alone}");
    }

    #[test]
    fn times_stand_below_the_axis_at_their_moments_and_none_is_cut() {
        for width in [40, 61, 80, 120] {
            let text = chart(&wave(), Size { width, height: 14 }, false).unwrap();
            let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
            let axis = lines.iter().position(|line| line.contains(&'└')).unwrap();
            let times: String = lines[axis + 1].iter().collect();
            let ticks = lines[axis].iter().filter(|char| **char == '┬').count();
            assert_eq!(times.split_whitespace().count(), ticks, "{text}");
            assert!(times.split_whitespace().all(|time| time.len() == 5 && time.ends_with("0")), "{text}");
            assert!(lines.iter().all(|line| line.len() <= width.into()), "{text}");
        }
    }

    #[test]
    fn a_map_has_a_line_per_day_and_a_legend() {
        let hours =
            (0..48).filter(|hour| *hour != 30).map(|hour| Point { at: hour * 3_600_000, value: hour as f64 });
        let map = HeatMap { title: "rpm".into(), ..HeatMap::of(Zone::Utc, hours) };
        let text = heat_map(&map, false).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].starts_with("1970-01-01 ··") && lines[3].ends_with("██"), "{text}");
        assert!(lines[3].contains("  ") && lines[4].contains("47"), "{text}");
        assert!(heat_map(&map, true).unwrap().contains("\u{1b}[48;5;27m"));
    }
}
