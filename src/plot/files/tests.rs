//! Files compared with their data, pixel by pixel.

use super::*;
use crate::plot::{Range, Series};
use crate::series::Point;
use crate::time::HOUR;
use crate::time::Zone;

/// 2026-11-23T00:00:00Z.
const START: i64 = 1_795_392_000_000;

fn chart_of(points: Vec<Point>) -> Chart {
    Chart {
        title: "temperature (°C)".into(),
        subject: "thermostat at plant-1".into(),
        series: vec![Series { name: "measured".into(), points }],
        ..Chart::default()
    }
}

fn chart() -> Picture {
    let point = |at: i64| Point { at: at * 60_000, value: (at as f64 / 9.0).sin() };
    let points: Vec<_> = (0..100).map(point).collect();
    Picture::Chart(Chart {
        title: "a < b (°C)".into(),
        band: points
            .iter()
            .map(|point| Range { at: point.at, low: point.value - 0.5, high: point.value + 0.5 })
            .collect(),
        band_name: "95 % interval".into(),
        marks: vec![points[14]],
        marks_name: "highest value".into(),
        series: vec![
            Series { name: "one".into(), points: points.clone() },
            Series { name: "other".into(), points },
        ],
        limit: Some(0.75),
        ..Chart::default()
    })
}

#[test]
fn a_period_without_neighbours_has_its_band() {
    let point = Point { at: START, value: 20.0 };
    let band = vec![Range { at: START, low: 10.0, high: 30.0 }];
    let (drawn, frame) = svg::chart(&Chart { band, ..chart_of(vec![point]) }).unwrap();
    let ends =
        format!("y1=\"{:.2}\" x2=\"{:.2}\" y2=\"{:.2}\"", frame.y(10.0), frame.x(START), frame.y(30.0));
    assert!(drawn.contains(&ends), "{ends}");
}

/// Pixels by column: the first and the last row of those that the line of the first series covers.
fn line_of(chart: &Chart) -> (svg::Frame, Vec<Option<(u32, u32)>>) {
    let (svg, frame) = svg::chart(chart).unwrap();
    let pixels = to_pixels(&svg).unwrap();
    let (width, height) = (pixels.width(), pixels.height());
    // Only below the legend, whose sample has the same colour.
    let first = (frame.top as f32 * SCALE) as u32;
    let is_line = |x, y| {
        // #0072b2, also where it is mixed with white at an edge.
        pixels.pixel(x, y).is_some_and(|pixel| pixel.red() < 128 && pixel.blue() > pixel.red() + 60)
    };
    let column = |x: u32| {
        let mut rows = (first..height).filter(|&y| is_line(x, y));
        let top = rows.next()?;
        Some((top, rows.next_back().unwrap_or(top)))
    };
    (frame, (0..width).map(column).collect())
}

/// Of the PNG.
fn row(frame: &svg::Frame, value: f64) -> f64 {
    frame.y(value) * f64::from(SCALE)
}

/// Half of a line's width and the edge of a pixel.
const TOLERANCE: f64 = svg::STROKE * SCALE as f64 / 2.0 + 1.5;

fn noise(index: i64) -> f64 {
    ((index * 7_919) % 601) as f64 / 1_000.0 - 0.3
}

#[test]
fn four_dips_among_many_values_are_four_dips_of_full_depth_and_nothing_else() {
    let dips = [400, 1_133, 1_134 + 700, 2_600];
    let value = |index: i64| if dips.contains(&index) { -20.0 } else { 20.0 + noise(index) };
    let points: Vec<_> =
        (0..2_880).map(|index| Point { at: START + index * 30_000, value: value(index) }).collect();
    let (frame, columns) = line_of(&chart_of(points));
    let (lowest, highest) = (row(&frame, -20.0), row(&frame, 20.3));
    for (top, bottom) in columns.iter().flatten() {
        assert!(f64::from(*top) >= highest - TOLERANCE, "above the highest value: row {top}");
        assert!(f64::from(*bottom) <= lowest + TOLERANCE, "below the lowest value: row {bottom}");
    }
    // Neighbouring columns below 0 °C are one dip.
    let middle = row(&frame, 0.0);
    let is_low = |column: &Option<(u32, u32)>| column.is_some_and(|(_, bottom)| f64::from(bottom) > middle);
    let found: Vec<Vec<(usize, u32)>> = columns
        .iter()
        .enumerate()
        .collect::<Vec<_>>()
        .chunk_by(|left, right| is_low(left.1) == is_low(right.1))
        .filter(|run| is_low(run[0].1))
        .map(|run| run.iter().filter_map(|(x, column)| column.map(|(_, bottom)| (*x, bottom))).collect())
        .collect();
    assert_eq!(found.len(), dips.len(), "{found:?}");
    for (dip, run) in dips.iter().zip(&found) {
        let (x, bottom) = run.iter().max_by_key(|(_, bottom)| bottom).unwrap();
        let expected = frame.x(START + dip * 30_000) * f64::from(SCALE);
        assert!((*x as f64 - expected).abs() <= 2.0, "a dip at {x} instead of {expected}");
        assert!((f64::from(*bottom) - lowest).abs() <= 3.0, "a dip ends at row {bottom}, not {lowest}");
    }
}

#[test]
fn values_of_every_second_never_rise_above_their_maximum() {
    // The highest value alone, between lower ones: the sharpest corner that there can be.
    let value = |index: i64| if index == 5_000 { 20.1 } else { 19.4 + noise(index) };
    let points: Vec<_> =
        (0..10_000).map(|index| Point { at: START + index * 1_000, value: value(index) }).collect();
    let (frame, columns) = line_of(&chart_of(points));
    let top = columns.iter().flatten().map(|(top, _)| *top).min().unwrap();
    assert!((f64::from(top) - row(&frame, 20.1)).abs() <= TOLERANCE, "{top} and {}", row(&frame, 20.1));
    // Every column of the frame has the line: nothing is left out.
    let drawn = columns.iter().flatten().count() as f64;
    assert!(drawn >= (frame.right - frame.left) * f64::from(SCALE) - 2.0, "{drawn} columns");
}

#[test]
fn text_is_drawn_where_no_font_is_installed_and_the_last_label_is_whole() {
    // The axis ends with a tick: its label stands half to the right of the frame.
    let points = (0..=24).map(|hour| Point { at: START + hour * HOUR, value: 1.0 }).collect();
    let (svg, frame) = svg::chart(&chart_of(points)).unwrap();
    let last = svg.lines().rfind(|line| line.contains(">00:00<")).unwrap();
    assert!(last.contains(&format!("x=\"{:.2}\"", frame.right)), "{last}");
    let pixels = to_pixels(&svg).unwrap();
    let dark = |x: u32, from: f64, to: f64| {
        let rows = (from * f64::from(SCALE)) as u32..(to * f64::from(SCALE)) as u32;
        rows.filter(|&y| pixels.pixel(x, y).is_some_and(|pixel| pixel.red() < 120)).count()
    };
    let (below, end) = (frame.bottom + 6.0, frame.bottom + 42.0);
    let right = (frame.right * f64::from(SCALE)) as u32 + 4;
    let columns: Vec<u32> = (right..pixels.width()).filter(|&x| dark(x, below, end) > 0).collect();
    assert!(columns.len() > 20, "the last label has {} dark columns right of the frame", columns.len());
    assert!(
        columns.last().is_some_and(|last| last + 4 < pixels.width()),
        "the last label is cut: {columns:?}"
    );
    // The title, in the first rows.
    assert!((0..pixels.width()).filter(|&x| dark(x, 0.0, 40.0) > 0).count() > 100, "no title");
}

#[test]
fn every_mark_is_explained_and_the_title_names_subject_unit_and_zone() {
    let svg = chart().to_svg().unwrap();
    for name in ["one", "other", "95 % interval", "highest value", "limit 0.75", "a &lt; b (°C)", ">UTC<"] {
        assert!(svg.contains(name), "no {name} in\n{svg}");
    }
    let Picture::Chart(inner) = chart() else { panic!("not a chart") };
    let local = Chart {
        subject: "thermostat at plant-1".into(),
        zone: Zone::named("Asia/Kathmandu").unwrap(),
        ..inner
    };
    let svg = svg::chart(&local).unwrap().0;
    assert!(svg.contains("thermostat at plant-1 · Asia/Kathmandu (+05:30)"), "the offset of 1970: {svg}");
}

#[test]
fn a_heat_map_has_a_colour_for_each_value_and_a_bar_that_explains_it() {
    let hours = (0..72).filter(|hour| *hour != 30).map(|hour| Point { at: hour * HOUR, value: hour as f64 });
    let map = HeatMap { title: "rpm".into(), ..HeatMap::of(Zone::Utc, hours) };
    let svg = svg::heat_map(&map).unwrap();
    assert_eq!(svg.matches(&svg::ramp(0.0)).count(), 2, "the lowest: a cell and the bar");
    assert_eq!(svg.matches(&svg::ramp(1.0)).count(), 2, "the highest: a cell and the bar");
    for label in [">0<", ">20<", ">60<", ">1970-01-02<", ">grey: nothing measured<"] {
        assert!(svg.contains(label), "no {label} in\n{svg}");
    }
    assert_eq!(svg.matches("<rect").count(), 71 + 3, "71 cells, the ground of picture and map, the bar");
}

#[test]
fn each_file_has_the_format_of_its_ending() {
    let folder = tempfile::tempdir().unwrap();
    let hours = (0..72).map(|hour| Point { at: hour * HOUR, value: hour as f64 });
    for picture in [chart(), Picture::HeatMap(HeatMap::of(Zone::Utc, hours))] {
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
fn a_name_cannot_leave_its_element_or_break_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let Picture::Chart(inner) = chart() else { panic!("not a chart") };
    let name = "</title><script>alert(1)</script>\u{0}\u{202e}\"&".to_owned();
    let chart = Chart { title: name.clone(), subject: name.clone(), band_name: name, ..inner };
    let picture = Picture::Chart(chart);
    for file in ["a.html", "a.svg", "a.png"] {
        write(&picture, &folder.path().join(file)).unwrap();
    }
    assert!(!fs::read_to_string(folder.path().join("a.html")).unwrap().contains("<script>"));
}
