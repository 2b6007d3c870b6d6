//! `--plot`: pictures of real answers, in files that other programs open and in text that fits a terminal.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::support::{Lab, message};

crate::trials!(
    each_verb_draws_files_that_can_be_opened,
    a_terminal_gets_text_that_fits_it,
    axes_show_the_time_that_was_asked_for
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const QUARTER: i64 = 15 * 60_000;
const RANGE: [&str; 4] = ["--from", "2026-11-01", "--to", "2026-11-15"];

/// Two weeks of a sensor with a daily cycle, and one value far out.
fn lab(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    lab.send((0..14 * 96).map(|quarter| {
        let day = f64::from(quarter) / 96.0;
        let noise = f64::from((quarter * 7_919) % 101) / 101.0;
        let value =
            if quarter == 700 { 61.5 } else { 20.0 + 5.0 * (day * std::f64::consts::TAU).sin() + noise };
        message("plant-1", 1, START + i64::from(quarter) * QUARTER, &format!(r#","temperature":{value}"#))
    }))?;
    lab.ingest()?;
    Ok(lab)
}

/// The verbs, each with what it draws.
fn verbs() -> Vec<(&'static str, Vec<String>)> {
    let sensor = uuid::Uuid::from_u128(1).to_string();
    let group = ["--location", "plant-1", "--device-type", "thermostat"];
    let all = |verb: &[&str], more: &[&str]| {
        [verb, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let metric = ["--metric", "temperature"];
    vec![
        ("query", all(&[&["query"], &group[..], &RANGE[..]].concat(), &[])),
        ("stats", all(&[&["stats", "--by", "hour"], &metric[..], &RANGE[..]].concat(), &[])),
        ("heat map", all(&[&["stats", "--by", "hour", "--heat-map"], &metric[..], &RANGE[..]].concat(), &[])),
        (
            "forecast",
            all(
                &[&["forecast", "--at=2026-11-15", "--history", "14d"], &metric[..], &group[..]].concat(),
                &[],
            ),
        ),
        ("anomalies", all(&[&["anomalies", "--sensor", &sensor], &metric[..], &RANGE[..]].concat(), &[])),
    ]
}

fn draw(lab: &Lab, verb: &[String], target: &[&str]) -> anyhow::Result<String> {
    let verb: Vec<&str> = verb.iter().map(String::as_str).collect();
    lab.ok(&[&["-q"], &verb[..], target].concat())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn each_verb_draws_files_that_can_be_opened() -> anyhow::Result<()> {
    let lab = lab("plot_files")?;
    let folder = tempfile::tempdir()?;
    for (name, verb) in verbs() {
        let path = |kind: &str| folder.path().join(format!("{}.{kind}", name.replace(' ', "-")));
        for kind in ["svg", "png", "html"] {
            let file = path(kind);
            draw(&lab, &verb, &["--plot", file.to_str().context("a path in UTF-8")?])?;
        }
        let svg = String::from_utf8(read(&path("svg"))?)?;
        ensure!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}: no SVG");
        ensure!(svg.matches('<').count() == svg.matches('>').count(), "{name}: unbalanced");
        ensure!(svg.contains("temperature (°C)"), "{name}: no title with its unit");
        ensure!(svg.contains("UTC") && svg.contains("2026"), "{name}: no zone or date");
        ensure!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: a coordinate is no number");
        ensure!(
            svg.matches("<polyline").count() + svg.matches("<rect").count() > 1,
            "{name}: nothing is drawn"
        );
        let png = read(&path("png"))?;
        let header = png.get(..24).context("a PNG has a header")?;
        ensure!(header.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}: no PNG");
        let side =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        ensure!(side(16) >= 600 && side(20) >= 200, "{name}: {} x {}", side(16), side(20));
        ensure!(png.len() > 5_000, "{name}: an empty picture has {} bytes", png.len());
        let html = String::from_utf8(read(&path("html"))?)?;
        ensure!(
            html.to_lowercase().starts_with("<!doctype html>") && html.contains("<svg"),
            "{name}: no page"
        );
        let outside = html.replace("http://www.w3.org/", "");
        ensure!(
            !outside.contains("http://") && !outside.contains("https://"),
            "{name}: the page needs others"
        );
    }
    // The forecast's interval and the values far out are there, and explained.
    let svg = |name: &str| -> anyhow::Result<String> {
        Ok(String::from_utf8(read(&folder.path().join(format!("{name}.svg")))?)?)
    };
    let forecast = svg("forecast")?;
    ensure!(forecast.contains("<polygon") && forecast.contains("95 % interval"), "no band");
    // Both lines meet: the first point of the forecast is the last of the measured line.
    let lines: Vec<&str> = forecast.lines().filter(|line| line.starts_with("<polyline")).collect();
    let points = |line: &str| line.split('"').nth(5).unwrap_or_default().to_owned();
    let (measured, next) = (points(lines[lines.len() - 2]), points(lines[lines.len() - 1]));
    ensure!(measured.rsplit(' ').next() == next.split(' ').next(), "a gap: {measured} and {next}");
    let anomalies = svg("anomalies")?;
    ensure!(anomalies.contains("<circle") && anomalies.contains("most unusual value"), "no mark");
    ensure!(svg("heat-map")?.contains("linearGradient"), "no colour bar");
    let wrong =
        lab.run(&["-q", "query", "--location", "plant-1", "--device-type", "thermostat", "--plot", "a.bmp"])?;
    ensure!(wrong.code == Some(2) && wrong.stderr.contains("FILE.svg"), "{wrong:#?}");
    Ok(())
}

fn a_terminal_gets_text_that_fits_it() -> anyhow::Result<()> {
    let lab = lab("plot_text")?;
    for (name, verb) in verbs() {
        let text = draw(&lab, &verb, &["--plot"])?;
        ensure!(!text.contains('\u{1b}'), "{name}: colours in a pipe: {text}");
        ensure!(text.contains("temperature (°C)"), "{name}: {text}");
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        ensure!(widest <= 80, "{name}: {widest} columns\n{text}");
        let is_drawn = |glyph: char| ('\u{2800}'..='\u{28ff}').contains(&glyph) || "░▒▓█".contains(glyph);
        let drawn = text.chars().filter(|glyph| is_drawn(*glyph)).count();
        ensure!(drawn > 40, "{name}: {drawn} glyphs\n{text}");
    }
    Ok(())
}

fn axes_show_the_time_that_was_asked_for() -> anyhow::Result<()> {
    let mut lab = lab("plot_clock")?;
    lab.set("TZ", "JST-9");
    let range = ["--from", "2026-11-01T00:00:00Z", "--to", "2026-11-01T08:00:00Z"];
    let group = ["--location", "plant-1", "--device-type", "thermostat"];
    let metric = ["--metric", "temperature"];
    let sensor = uuid::Uuid::from_u128(1).to_string();
    for (verb, subject) in [
        ([&["query"], &group[..], &range[..]].concat(), "thermostat at plant-1"),
        ([&["stats", "--by", "hour"], &metric[..], &range[..]].concat(), "all sensors"),
        ([&["anomalies", "--sensor", &sensor], &metric[..], &range[..]].concat(), sensor.as_str()),
    ] {
        let drawn = |more: &[&str]| lab.ok(&[&["-q"], &verb[..], more].concat());
        let utc = drawn(&["--plot"])?;
        ensure!(utc.contains("00:00") && utc.contains(" UTC") && utc.contains(subject), "{verb:?}\n{utc}");
        let local = drawn(&["--plot", "--local"])?;
        ensure!(local.contains("12:00") && local.contains("2026-11-01"), "{verb:?}\n{local}");
        ensure!(local.contains("(+09:00)") && !local.contains("00:00 "), "{verb:?}\n{local}");
    }
    // Days and hours of a heat map too: the first value is at 09:00 in Tokyo.
    let map = ["-q", "stats", "--by", "hour", "--heat-map", "--plot", "--metric", "temperature"];
    let first_row = |more: &[&str]| -> anyhow::Result<String> {
        let text = lab.ok(&[&map[..], &range[..], more].concat())?;
        Ok(text.lines().find(|line| line.starts_with("2026-11-01")).context(text.clone())?.to_owned())
    };
    ensure!(!first_row(&[])?.starts_with("2026-11-01  "), "no value at 00:00");
    ensure!(
        first_row(&["--local"])?.starts_with(&format!("2026-11-01 {}", "  ".repeat(9))),
        "a value before 09:00"
    );
    let forecast =
        [&["-q", "forecast", "--at=2026-11-15T00:00:00Z", "--history", "14d"], &metric[..], &group[..]];
    let forecast = forecast.concat();
    let zone = |more: &[&str]| lab.ok(&[&forecast[..], more].concat());
    ensure!(zone(&["--plot"])?.contains("thermostat at plant-1 · UTC"));
    ensure!(zone(&["--plot", "--local"])?.contains("thermostat at plant-1 · JST-9 (+09:00)"));
    Ok(())
}
