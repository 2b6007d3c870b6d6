//! Charts and heat maps as SVG. All files are made of it: PNG is this SVG in pixels, a page contains it.

use std::fmt::Write as _;

use super::text::{escape, fitting, width};
use super::ticks::{self, Tick};
use super::{Chart, HeatMap, Range};
use crate::series::Point;

/// Of a picture, in the unit of the SVG.
const WIDTH: f64 = 1_200.0;
const CHART_HEIGHT: f64 = 620.0;
const MARGIN: f64 = 18.0;
const TITLE: f64 = 20.0;
const SMALL: f64 = 14.0;
/// The widest part of a value's label that is shown; longer ones are numbers of more than a dozen digits.
const LABELS: f64 = 130.0;
/// Of the line of a series. Corners are round: a pointed one would show a value that was not measured.
pub(super) const STROKE: f64 = 1.6;
/// First in the list; Verdana has the same widths, for viewers without it.
pub(super) const FONT: &str = "DejaVu Sans";
/// Distinguishable with red-green colour blindness too (Okabe and Ito).
pub(super) const COLORS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#785ef0", "#5a5a5a"];
const MARK: &str = "#c81e1e";
const TEXT: &str = "#222";
const FAINT: &str = "#666";
const GRID: &str = "#e1e1e1";
/// Cells of a heat map without a value.
const EMPTY: &str = "#e6e6e6";

/// Where the values of a chart stand in its picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    times: (i64, i64),
    values: (f64, f64),
}

impl Frame {
    pub(super) fn x(&self, at: i64) -> f64 {
        let (from, to) = (self.times.0 as f64, self.times.1 as f64);
        self.left + (at as f64 - from) / (to - from) * (self.right - self.left)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        // Halved, so that the widest range of values does not overflow.
        let (low, high) = (self.values.0 / 2.0, self.values.1 / 2.0);
        self.bottom - (value / 2.0 - low) / (high - low) * (self.bottom - self.top)
    }
}

/// What a legend shows beside a name.
enum Sample {
    Line(&'static str),
    Band,
    Mark,
    Limit,
}

/// A picture and the frame of its values; `None` where there is nothing to draw.
pub(super) fn chart(chart: &Chart) -> Option<(String, Frame)> {
    let (times, values) = chart.bounds()?;
    let mut svg = begin(CHART_HEIGHT, &chart.title, &chart.subtitle());
    let top = MARGIN + TITLE + 2.0 * SMALL + 16.0;
    let top = legend(&mut svg, &legend_of(chart), top) + 16.0;
    let labels = ticks::values(values.0, values.1, 7);
    let label_width = labels.iter().map(|(_, label)| width(label, SMALL)).fold(30.0, f64::max).min(LABELS);
    let frame = Frame {
        left: MARGIN + label_width + 8.0,
        // Half of the last label of time, so that it is never cut off.
        right: WIDTH - MARGIN - width("2026-11-26", SMALL) / 2.0,
        top,
        bottom: CHART_HEIGHT - MARGIN - 2.0 * SMALL - 16.0,
        times,
        values,
    };
    let Frame { left, right, bottom, .. } = frame;
    for (value, label) in &labels {
        let y = frame.y(*value);
        line(&mut svg, (left, y), (right, y), GRID, "");
        text(&mut svg, (left - 8.0, y + SMALL * 0.35), "end", SMALL, TEXT, label);
    }
    let most = ((right - left) / 110.0) as usize;
    let ticks = ticks::times(times.0, times.1, most, |at| chart.zone.offset(at));
    for Tick { at, label, under } in &ticks {
        let x = frame.x(*at);
        line(&mut svg, (x, top), (x, bottom), GRID, "");
        line(&mut svg, (x, bottom), (x, bottom + 5.0), FAINT, "");
        text(&mut svg, (x, bottom + 7.0 + SMALL), "middle", SMALL, TEXT, label);
        if let Some(under) = under {
            text(&mut svg, (x, bottom + 12.0 + 2.0 * SMALL), "middle", SMALL, FAINT, under);
        }
    }
    line(&mut svg, (left, bottom), (right, bottom), FAINT, "");
    line(&mut svg, (left, top), (left, bottom), FAINT, "");
    let _ = write!(
        svg,
        "<clipPath id=\"frame\"><rect x=\"{:.2}\" y=\"{top:.2}\" width=\"{:.2}\" height=\"{:.2}\"/></clipPath>\n\
         <g clip-path=\"url(#frame)\" fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n",
        // Half of a dot more on both sides, so that one at the edge is whole.
        left - 2.0 * STROKE,
        right - left + 4.0 * STROKE,
        bottom - top
    );
    draw_band(&mut svg, &frame, &chart.band);
    if let Some(limit) = chart.limit {
        let y = frame.y(limit);
        line(&mut svg, (left, y), (right, y), MARK, " stroke-width=\"1.5\" stroke-dasharray=\"7 5\"");
    }
    for (series, color) in chart.series.iter().zip(COLORS.into_iter().cycle()) {
        draw_line(&mut svg, &frame, &series.points, color);
    }
    svg += "</g>\n";
    for mark in chart.marks.iter().filter(|mark| mark.value.is_finite()) {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.2}\" cy=\"{:.2}\" r=\"4.5\" fill=\"{MARK}\" stroke=\"#fff\"/>",
            frame.x(mark.at),
            frame.y(mark.value)
        );
    }
    svg += "</svg>\n";
    Some((svg, frame))
}

fn legend_of(chart: &Chart) -> Vec<(Sample, String)> {
    let lines = chart.series.iter().zip(COLORS.into_iter().cycle());
    let mut entries: Vec<_> =
        lines.map(|(series, color)| (Sample::Line(color), series.name.clone())).collect();
    if !chart.band.is_empty() {
        entries.push((Sample::Band, chart.band_name.clone()));
    }
    if !chart.marks.is_empty() {
        entries.push((Sample::Mark, chart.marks_name.clone()));
    }
    if let Some(limit) = chart.limit {
        entries.push((Sample::Limit, format!("limit {limit}")));
    }
    entries
}

/// Draws the legend in as many rows as it needs, and returns where it ends.
fn legend(svg: &mut String, entries: &[(Sample, String)], top: f64) -> f64 {
    const SAMPLE: f64 = 26.0;
    let row = SMALL + 8.0;
    let (mut x, mut y) = (MARGIN, top);
    for (sample, name) in entries {
        let name = fitting(name, SMALL, 420.0);
        let needed = SAMPLE + 8.0 + width(&name, SMALL) + 22.0;
        if x > MARGIN && x + needed > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + row);
        }
        let middle = y - SMALL * 0.35;
        match sample {
            Sample::Line(color) => {
                line(svg, (x, middle), (x + SAMPLE, middle), color, " stroke-width=\"2.5\"");
            }
            Sample::Limit => line(
                svg,
                (x, middle),
                (x + SAMPLE, middle),
                MARK,
                " stroke-width=\"1.5\" stroke-dasharray=\"7 5\"",
            ),
            Sample::Band => {
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.2}\" y=\"{:.2}\" width=\"{SAMPLE}\" height=\"12\" fill=\"{}\" fill-opacity=\"0.2\"/>",
                    middle - 6.0,
                    COLORS[0]
                );
            }
            Sample::Mark => {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.2}\" cy=\"{middle:.2}\" r=\"4.5\" fill=\"{MARK}\" stroke=\"#fff\"/>",
                    x + SAMPLE / 2.0
                );
            }
        }
        text(svg, (x + SAMPLE + 8.0, y), "start", SMALL, TEXT, &name);
        x += needed;
    }
    y
}

fn draw_band(svg: &mut String, frame: &Frame, band: &[Range]) {
    for part in band.split(|range| !(range.low.is_finite() && range.high.is_finite())) {
        match part {
            [] => continue,
            // A period without neighbours has no width.
            [range] => {
                let x = frame.x(range.at);
                let more = format!(" stroke-width=\"{}\" stroke-opacity=\"0.35\"", 3.0 * STROKE);
                line(svg, (x, frame.y(range.low)), (x, frame.y(range.high)), COLORS[0], &more);
                continue;
            }
            _ => {}
        }
        let upper = part.iter().map(|range| (range.at, range.high));
        let lower = part.iter().rev().map(|range| (range.at, range.low));
        let _ = write!(svg, "<polygon fill=\"{}\" fill-opacity=\"0.2\" points=\"", COLORS[0]);
        points(svg, frame, upper.chain(lower));
        svg.push_str("\"/>\n");
    }
}

fn draw_line(svg: &mut String, frame: &Frame, values: &[Point], color: &str) {
    for part in values.split(|point| !point.value.is_finite()) {
        match part {
            [] => {}
            // A line of length 0 with round ends is a dot.
            [point] => {
                let _ = writeln!(
                    svg,
                    "<path d=\"M{:.2} {:.2}h0.01\" stroke=\"{color}\" stroke-width=\"{}\"/>",
                    frame.x(point.at),
                    frame.y(point.value),
                    3.0 * STROKE
                );
            }
            part => {
                let _ = write!(svg, "<polyline stroke=\"{color}\" stroke-width=\"{STROKE}\" points=\"");
                points(svg, frame, part.iter().map(|point| (point.at, point.value)));
                svg.push_str("\"/>\n");
            }
        }
    }
}

fn points(svg: &mut String, frame: &Frame, points: impl Iterator<Item = (i64, f64)>) {
    for (index, (at, value)) in points.enumerate() {
        let separator = if index == 0 { "" } else { " " };
        let _ = write!(svg, "{separator}{:.2},{:.2}", frame.x(at), frame.y(value));
    }
}

/// A picture; `None` where there is nothing to draw.
pub(super) fn heat_map(map: &HeatMap) -> Option<String> {
    let (low, high) = map.bounds()?;
    let rows = map.days.len();
    // A year of days is 1,460 high, and a week is not flat.
    let row = (1_460.0 / rows as f64).clamp(4.0, 24.0);
    let (left, right) = (MARGIN + width("2026-11-26", SMALL) + 10.0, WIDTH - MARGIN - 150.0);
    let top = MARGIN + TITLE + SMALL + 26.0;
    // Not lower than its colour bar.
    let bottom = top + (row * rows as f64).max(140.0);
    let height = bottom + SMALL + 10.0 + SMALL + 14.0 + MARGIN;
    let mut svg = begin(height, &map.title, &map.subtitle());
    let column = (right - left) / 24.0;
    let end = top + row * rows as f64;
    let _ = writeln!(
        svg,
        "<rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{EMPTY}\"/>",
        right - left,
        end - top
    );
    svg += "<g shape-rendering=\"crispEdges\">\n";
    for ((_, hours), y) in map.days.iter().zip((0..).map(|index| top + row * f64::from(index))) {
        for (value, x) in hours.iter().zip((0..24).map(|hour| left + column * f64::from(hour))) {
            let Some(value) = value else { continue };
            let color = ramp(share(*value, low, high));
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{column:.2}\" height=\"{row:.2}\" fill=\"{color}\"/>"
            );
        }
    }
    svg += "</g>\n";
    for hour in (0..=24).step_by(2) {
        let x = left + column * f64::from(hour);
        line(&mut svg, (x, end), (x, end + 5.0), FAINT, "");
        text(&mut svg, (x, end + 8.0 + SMALL), "middle", SMALL, TEXT, &format!("{hour:02}:00"));
    }
    // Every row where there is room, else every second, fifth, …
    let every =
        [1, 2, 5, 7, 14, 28, 56, 112].into_iter().find(|every| row * f64::from(*every) >= SMALL + 4.0);
    let every = usize::try_from(every.unwrap_or(365)).unwrap_or(1);
    for (index, (day, _)) in map.days.iter().enumerate().step_by(every) {
        let y = top + row * (index as f64 + 0.5) + SMALL * 0.35;
        text(&mut svg, (left - 8.0, y), "end", SMALL, TEXT, &HeatMap::day(*day));
    }
    let note = "grey: nothing measured";
    text(&mut svg, (left, height - MARGIN), "start", SMALL, FAINT, note);
    color_bar(&mut svg, (right + 40.0, top), (bottom - top).min(420.0), (low, high));
    svg += "</svg>\n";
    Some(svg)
}

/// The colours from the lowest value at the bottom to the highest at the top, with their values.
fn color_bar(svg: &mut String, (x, top): (f64, f64), height: f64, (low, high): (f64, f64)) {
    const WIDE: f64 = 20.0;
    svg.push_str("<linearGradient id=\"ramp\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">");
    for index in 0..=16 {
        let at = f64::from(index) / 16.0;
        let _ = write!(svg, "<stop offset=\"{at}\" stop-color=\"{}\"/>", ramp(at));
    }
    let _ = writeln!(
        svg,
        "</linearGradient>\n<rect x=\"{x:.2}\" y=\"{top:.2}\" width=\"{WIDE}\" height=\"{height:.2}\" fill=\"url(#ramp)\"/>"
    );
    let mut ticks = ticks::values(low, high, 6);
    if ticks.is_empty() {
        ticks.push((low, ticks::figure(low, low.abs() / 100.0)));
    }
    for (value, label) in ticks {
        let y = top + height * (1.0 - share(value, low, high).clamp(0.0, 1.0));
        line(svg, (x + WIDE, y), (x + WIDE + 5.0, y), FAINT, "");
        text(svg, (x + WIDE + 9.0, y + SMALL * 0.35), "start", SMALL, TEXT, &label);
    }
}

/// Where a value is between the lowest (0) and the highest (1).
fn share(value: f64, low: f64, high: f64) -> f64 {
    if high > low { (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) } else { 0.5 }
}

/// From dark blue to yellow: higher is brighter, in greyscale too (the palette `plasma` of matplotlib).
pub(super) fn ramp(share: f64) -> String {
    const STOPS: [[f64; 3]; 5] = [
        [13.0, 8.0, 135.0],
        [126.0, 3.0, 168.0],
        [204.0, 71.0, 120.0],
        [248.0, 149.0, 64.0],
        [240.0, 249.0, 33.0],
    ];
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (position as usize).min(STOPS.len() - 2);
    let (from, to, part) = (STOPS[index], STOPS[index + 1], position - index as f64);
    let [red, green, blue] =
        [0, 1, 2].map(|channel| (from[channel] + (to[channel] - from[channel]) * part).round() as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The picture's first elements: a white ground, the title and a line below it.
fn begin(height: f64, title: &str, subtitle: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"{FONT}, Verdana, sans-serif\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        escape(&format!("{title}, {subtitle}"))
    );
    let room = WIDTH - 2.0 * MARGIN;
    text(&mut svg, (MARGIN, MARGIN + TITLE * 0.8), "start", TITLE, TEXT, &fitting(title, TITLE, room));
    let y = MARGIN + TITLE + 4.0 + SMALL;
    text(&mut svg, (MARGIN, y), "start", SMALL, FAINT, &fitting(subtitle, SMALL, room));
    svg
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), color: &str, more: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.2}\" y1=\"{:.2}\" x2=\"{:.2}\" y2=\"{:.2}\" stroke=\"{color}\"{more}/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: f64, color: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{color}\">{}</text>",
        escape(text)
    );
}
