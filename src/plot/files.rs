//! Plots as files: SVG, PNG, or a page that holds the SVG and follows the reader's dark or light scheme.

use std::fs;
use std::path::Path;
use std::sync::Once;

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use super::{Chart, HeatMap, moment, value};
use crate::output::record::Clock;

const WIDTH: u32 = 1_200;
const HEIGHT: u32 = 600;
const FONT: &str = "sans-serif";
/// Distinguishable with red-green colour blindness too (Okabe and Ito).
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(120, 94, 240),
    RGBColor(90, 90, 90),
];
const MARK: RGBColor = RGBColor(200, 30, 30);

/// The format of a file; its ending decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Svg,
    Png,
    Html,
}

impl Kind {
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            "html" | "htm" => Some(Self::Html),
            _ => None,
        }
    }
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    Chart(Chart),
    HeatMap(HeatMap),
}

/// Writes a plot. An existing file is replaced.
pub fn write(picture: &Picture, path: &Path) -> anyhow::Result<()> {
    let kind = Kind::of(path).context("the file does not end in .svg, .png or .html")?;
    let height = match picture {
        Picture::Chart(_) => HEIGHT,
        Picture::HeatMap(map) => {
            (120 + 22 * u32::try_from(map.days.len()).unwrap_or(u32::MAX).min(400)).max(200)
        }
    };
    let failed = || format!("cannot write {}", path.display());
    if kind == Kind::Png {
        with_font();
        let area = BitMapBackend::new(path, (WIDTH, height)).into_drawing_area();
        draw(picture, &area).with_context(failed)?;
        return area.present().map_err(|error| anyhow::anyhow!("{error}")).with_context(failed);
    }
    let mut svg = String::new();
    {
        with_font();
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(picture, &area).with_context(failed)?;
        area.present().map_err(|error| anyhow::anyhow!("{error}")).with_context(failed)?;
    }
    let text = if kind == Kind::Html { page(picture, &svg) } else { svg };
    fs::write(path, text).with_context(failed)
}

/// An embedded font, so that the text is the same on every machine.
fn with_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for style in [FontStyle::Normal, FontStyle::Bold] {
            // The font is compiled in; a test draws with it.
            let _ = register_font(FONT, style, dejavu::sans::regular());
        }
    });
}

fn page(picture: &Picture, svg: &str) -> String {
    let title = match picture {
        Picture::Chart(chart) => &chart.title,
        Picture::HeatMap(map) => &map.title,
    };
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark }}\nbody {{ margin: 2em; background: #fff }}\n\
         svg {{ max-width: 100%; height: auto }}\n\
         @media (prefers-color-scheme: dark) {{ body {{ background: #000 }} svg {{ filter: invert(1) hue-rotate(180deg) }} }}\n\
         </style>\n{svg}\n</html>\n"
    )
}

fn draw<B: DrawingBackend>(picture: &Picture, area: &DrawingArea<B, Shift>) -> anyhow::Result<()> {
    let drawn = area.fill(&WHITE).map_err(|error| anyhow::anyhow!("{error}"));
    drawn.and_then(|()| match picture {
        Picture::Chart(chart) => draw_chart(chart, area),
        Picture::HeatMap(map) => draw_map(map, area),
    })
}

fn draw_chart<B: DrawingBackend>(chart: &Chart, area: &DrawingArea<B, Shift>) -> anyhow::Result<()> {
    let failed = |error: DrawingAreaErrorKind<B::ErrorType>| anyhow::anyhow!("{error}");
    let ((from, to), (low, high)) = chart.bounds().context("there is nothing to draw")?;
    let mut builder = ChartBuilder::on(area);
    builder.margin(16).caption(&chart.title, (FONT, 22)).x_label_area_size(44).y_label_area_size(84);
    let mut context = builder.build_cartesian_2d(from..to, low..high).map_err(failed)?;
    context
        .configure_mesh()
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|at| moment(*at, to - from, chart.clock))
        .y_label_formatter(&|at| value(*at, high - low))
        .label_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()
        .map_err(failed)?;
    for band in chart.band.split(|range| !(range.low.is_finite() && range.high.is_finite())) {
        if band.is_empty() {
            continue;
        }
        let edge = band.iter().map(|range| (range.at, range.high));
        let edge: Vec<_> = edge.chain(band.iter().rev().map(|range| (range.at, range.low))).collect();
        context.draw_series([Polygon::new(edge, COLORS[0].mix(0.18))]).map_err(failed)?;
    }
    if let Some(limit) = chart.limit {
        context
            .draw_series([PathElement::new(vec![(from, limit), (to, limit)], MARK.mix(0.7))])
            .map_err(failed)?;
    }
    for (series, color) in chart.series.iter().zip(COLORS.into_iter().cycle()) {
        let mut is_named = false;
        for part in series.points.split(|point| !point.value.is_finite()).filter(|part| !part.is_empty()) {
            let line =
                LineSeries::new(part.iter().map(|point| (point.at, point.value)), color.stroke_width(2));
            let drawn = context.draw_series(line).map_err(failed)?;
            if chart.series.len() > 1 && !is_named {
                is_named = true;
                let sample = move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2));
                drawn.label(series.name.clone()).legend(sample);
            }
        }
    }
    let marks = chart.marks.iter().map(|mark| Circle::new((mark.at, mark.value), 5, MARK.filled()));
    context.draw_series(marks).map_err(failed)?;
    if chart.series.len() > 1 {
        let mut labels = context.configure_series_labels();
        labels.label_font((FONT, 14)).background_style(WHITE.mix(0.85)).border_style(RGBColor(200, 200, 200));
        labels.draw().map_err(failed)?;
    }
    Ok(())
}

fn draw_map<B: DrawingBackend>(map: &HeatMap, area: &DrawingArea<B, Shift>) -> anyhow::Result<()> {
    let failed = |error: DrawingAreaErrorKind<B::ErrorType>| anyhow::anyhow!("{error}");
    let (low, high) = map.bounds().context("there is nothing to draw")?;
    let rows = i32::try_from(map.days.len()).unwrap_or(i32::MAX);
    let title =
        format!("{}: {} (blue) to {} (yellow)", map.title, value(low, high - low), value(high, high - low));
    let mut builder = ChartBuilder::on(area);
    builder.margin(16).caption(title, (FONT, 20)).x_label_area_size(36).y_label_area_size(110);
    // The first day on top.
    let mut context = builder.build_cartesian_2d(0i32..24, rows..0).map_err(failed)?;
    let day = |row: &i32| {
        let day = usize::try_from(*row).ok().and_then(|row| map.days.get(row));
        day.map_or_else(String::new, |(day, _)| moment(*day, i64::MAX, Clock::Utc))
    };
    context
        .configure_mesh()
        .disable_mesh()
        .x_labels(12)
        .y_labels(map.days.len().min(20))
        .x_label_formatter(&|hour| format!("{hour:02}:00"))
        .y_label_formatter(&day)
        .label_style((FONT, 14))
        .draw()
        .map_err(failed)?;
    for ((_, hours), row) in map.days.iter().zip(0..) {
        let cells = hours.iter().zip(0..).filter_map(|(value, hour)| {
            let share = if high > low { ((*value)? - low) / (high - low) } else { 0.5 };
            let cell = [(hour, row), (hour + 1, row + 1)];
            Some(Rectangle::new(cell, ramp(share).filled()))
        });
        context.draw_series(cells).map_err(failed)?;
    }
    Ok(())
}

/// From dark blue to yellow: higher is brighter, in greyscale too.
fn ramp(share: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 5] = [
        (13.0, 8.0, 135.0),
        (126.0, 3.0, 168.0),
        (204.0, 71.0, 120.0),
        (248.0, 149.0, 64.0),
        (240.0, 249.0, 33.0),
    ];
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (position as usize).min(STOPS.len() - 2);
    let (from, to, part) = (STOPS[index], STOPS[index + 1], position - index as f64);
    let mix = |from: f64, to: f64| (from + (to - from) * part).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Range, Series};
    use crate::series::Point;

    fn chart() -> Picture {
        let point = |at: i64| Point { at: at * 60_000, value: (at as f64 / 9.0).sin() };
        let points: Vec<_> = (0..100).map(point).collect();
        Picture::Chart(Chart {
            title: "a < b (°C)".into(),
            band: points
                .iter()
                .map(|point| Range { at: point.at, low: point.value - 0.5, high: point.value + 0.5 })
                .collect(),
            marks: vec![points[14]],
            series: vec![
                Series { name: "one".into(), points: points.clone() },
                Series { name: "other".into(), points },
            ],
            limit: Some(0.75),
            clock: Clock::Utc,
        })
    }

    #[test]
    fn each_file_has_the_format_of_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        let hours = (0..72).map(|hour| Point { at: hour * 3_600_000, value: hour as f64 });
        for picture in [chart(), Picture::HeatMap(HeatMap::of("map".into(), hours))] {
            let write = |name: &str| {
                let path = folder.path().join(name);
                write(&picture, &path).unwrap();
                fs::read(path).unwrap()
            };
            assert!(write("a.png").starts_with(b"\x89PNG\r\n"));
            let svg = String::from_utf8(write("a.svg")).unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("</svg>"), "{svg}");
            let page = String::from_utf8(write("a.html")).unwrap();
            assert!(page.contains("prefers-color-scheme: dark") && page.contains(&svg), "no scheme");
            assert!(!page.contains("<script") && !page.contains("src="), "it must need nothing else");
        }
        assert!(write(&Picture::Chart(Chart::default()), &folder.path().join("b.svg")).is_err());
    }

    #[test]
    fn a_title_cannot_leave_its_element() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        let Picture::Chart(inner) = chart() else { panic!("no chart") };
        let title = "</title><script>alert(1)</script>".to_owned();
        write(&Picture::Chart(Chart { title, ..inner }), &path).unwrap();
        assert!(!fs::read_to_string(path).unwrap().contains("<script>"));
    }
}
