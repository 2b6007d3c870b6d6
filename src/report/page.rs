//! A report as one HTML page that loads nothing: its style and its charts are in it. Names come from whoever may send, so every
//! text passes [`escape`].

use std::fmt::Write as _;

use super::{AlertFigures, LetterFigures, MOST_ROWS, MetricFigures, Report};
use crate::analytics::extremes::Extreme;
use crate::output::{number, text};
use crate::plot::{escape, lines};
use crate::store::sensors::SensorNames;
use crate::time::Zone;

/// Significant digits of computed values.
const DIGITS: usize = 5;

/// A cell of a table, escaped when it is written.
enum Cell {
    Text(String),
    Number(String),
    Time(String),
}

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let subject = escape(&report.subject);
    let (from, to) = (moment(report.zone, report.range.from), moment(report.zone, report.range.to));
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Report of {subject}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <h1>Report of {subject}</h1>\n<p class=\"soft\">{from} to {to} ({})</p>\n",
        include_str!("style.css"),
        escape(report.zone.name()),
    );
    tiles(&mut page, report);
    health(&mut page, report);
    silent(&mut page, report);
    alerts(&mut page, report);
    for metric in &report.metrics {
        figures(&mut page, metric, report);
    }
    if report.metrics.is_empty() {
        page.push_str("<h2>Readings</h2>\n<p>No reading has a value in this range of time.</p>\n");
    }
    letters(&mut page, &report.letters);
    if !report.remarks.is_empty() {
        page.push_str("<h2>Left out</h2>\n<ul>\n");
        for remark in &report.remarks {
            let _ = writeln!(page, "<li>{}</li>", escape(remark));
        }
        page.push_str("</ul>\n");
    }
    let _ = writeln!(
        page,
        "<footer>Made by iotctl {} on {} ({}).</footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION"),
        moment(report.zone, report.made_at),
        escape(report.zone.name())
    );
    page
}

fn moment(zone: Zone, at: i64) -> String {
    zone.format(at, "%Y-%m-%d %H:%M")
}

/// With seconds, as a reading's.
fn reading_time(zone: Zone, at: i64) -> Cell {
    Cell::Time(zone.format(at, "%Y-%m-%d %H:%M:%S"))
}

fn table(page: &mut String, headings: &[&str], rows: impl Iterator<Item = Vec<Cell>>) {
    page.push_str("<table>\n<thead><tr>");
    let rows: Vec<_> = rows.collect();
    for (index, heading) in headings.iter().enumerate() {
        let is_number = rows.first().is_some_and(|row| matches!(row.get(index), Some(Cell::Number(_))));
        let class = if is_number { " class=\"number\"" } else { "" };
        let _ = write!(page, "<th{class}>{}</th>", escape(heading));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = match cell {
                Cell::Text(text) => write!(page, "<td>{}</td>", escape(&text)),
                Cell::Number(text) => write!(page, "<td class=\"number\">{}</td>", escape(&text)),
                Cell::Time(text) => write!(page, "<td class=\"time\">{}</td>", escape(&text)),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n");
}

fn count(number: u64) -> Cell {
    Cell::Number(indicatif::HumanCount(number).to_string())
}

fn computed(value: f64) -> Cell {
    Cell::Number(number::rounded(value, DIGITS))
}

fn more(page: &mut String, hidden: usize, verb: &str) {
    if hidden > 0 {
        let _ = writeln!(page, "<p class=\"soft\">{hidden} more: <code>{verb}</code></p>");
    }
}

/// In words: `3h 12m`.
fn length(millis: i64) -> String {
    text::length(millis.max(0).unsigned_abs() / 1000)
}

fn tiles(page: &mut String, report: &Report) {
    let sensors: u64 = report.groups.iter().map(|group| group.sensors).sum();
    let newest = report.groups.iter().filter_map(|group| group.newest).max();
    let unknown = || "–".to_owned();
    let firing = report.alerts.as_ref().map_or_else(|_| unknown(), |alerts| alerts.firing.len().to_string());
    let letters: Result<u64, _> =
        report.letters.as_ref().map(|letters| letters.by_reason.values().map(|(letters, _)| letters).sum());
    let anomalies: usize = report.metrics.iter().map(|metric| metric.anomalies_found).sum();
    page.push_str("<dl class=\"tiles\">\n");
    for (name, value, is_bad) in [
        ("sensors", sensors.to_string(), false),
        (
            if report.is_past() { "silent since then" } else { "silent sensors" },
            report.silent.len().to_string(),
            !report.silent.is_empty(),
        ),
        (
            "newest reading before the end",
            newest
                .filter(|_| report.knows_newest())
                .map_or_else(unknown, |at| length(report.range.to.saturating_sub(at))),
            false,
        ),
        ("alerts that fire", firing.clone(), firing != "0" && firing != "–"),
        ("anomalies", anomalies.to_string(), false),
        (
            "dead letters",
            letters.as_ref().map_or_else(|_| unknown(), u64::to_string),
            letters.is_ok_and(|letters| letters > 0),
        ),
    ] {
        let class = if is_bad { " class=\"bad\"" } else { "" };
        let _ = writeln!(page, "<div><dt>{name}</dt><dd{class}>{value}</dd></div>");
    }
    page.push_str("</dl>\n");
}

fn health(page: &mut String, report: &Report) {
    page.push_str("<h2>Fleet</h2>\n");
    if report.groups.is_empty() {
        page.push_str("<p>No sensor is known.</p>\n");
        return;
    }
    let rows = report.groups.iter().map(|group| {
        vec![
            Cell::Text(group.group.location.clone()),
            Cell::Text(group.group.device_type.clone()),
            count(group.sensors),
            count(group.silent),
            group.newest.map_or(Cell::Time("–".to_owned()), |at| reading_time(report.zone, at)),
        ]
    });
    table(page, &["location", "device type", "sensors", "silent", "newest reading"], rows);
}

fn silent(page: &mut String, report: &Report) {
    page.push_str("<h2>Silent sensors</h2>\n");
    if report.is_past() {
        page.push_str(
            "<p class=\"soft\">The range is past: only sensors that have sent nothing since are listed. Whether others were silent \
             at its end is not known.</p>\n",
        );
        if report.silent.is_empty() {
            return;
        }
    }
    if report.silent.is_empty() {
        let _ = writeln!(
            page,
            "<p class=\"good\">Every sensor has sent within {} before the end.</p>",
            length(report.silent_after)
        );
        return;
    }
    let rows = report.silent.iter().take(MOST_ROWS).map(|silent| {
        vec![
            Cell::Text(name(&report.names, silent.sensor)),
            Cell::Text(silent.group.location.clone()),
            Cell::Text(silent.group.device_type.clone()),
            reading_time(report.zone, silent.last_at),
            Cell::Number(length(report.range.to.saturating_sub(silent.last_at))),
        ]
    });
    table(page, &["sensor", "location", "device type", "last reading", "silent for"], rows);
    more(page, report.silent.len().saturating_sub(MOST_ROWS), "iotctl silent");
}

/// The name of a sensor, or its id.
fn name(names: &SensorNames, sensor: uuid::Uuid) -> String {
    names.get(sensor).map_or_else(|| sensor.to_string(), str::to_owned)
}

fn alerts(page: &mut String, report: &Report) {
    page.push_str("<h2>Alerts</h2>\n");
    let alerts: &AlertFigures = match &report.alerts {
        Ok(alerts) => alerts,
        Err(error) => {
            let _ = writeln!(page, "<p class=\"bad\">Not known: {}</p>", escape(error));
            return;
        }
    };
    if alerts.by_rule.is_empty() && alerts.firing.is_empty() {
        page.push_str("<p class=\"good\">No alert began, and none fires.</p>\n");
        return;
    }
    if !alerts.by_rule.is_empty() {
        let rows = alerts.by_rule.iter().map(|(rule, began)| vec![Cell::Text(rule.clone()), count(*began)]);
        table(page, &["rule", "alerts that began"], rows);
    }
    let (first, hidden) = alerts.first();
    let rows = first.iter().map(|alert| {
        let sensor = report.names.get(alert.iot_sensor_id).or(alert.sensor_name.as_deref());
        vec![
            Cell::Text(alert.severity.name().to_owned()),
            Cell::Text(sensor.map_or_else(|| alert.iot_sensor_id.to_string(), str::to_owned)),
            reading_time(report.zone, alert.since.timestamp_millis()),
            Cell::Text(alert.message.clone()),
        ]
    });
    if !first.is_empty() {
        page.push_str("<h3>Firing at the end</h3>\n");
        table(page, &["severity", "sensor", "since", "alert"], rows);
        more(page, hidden, "iotctl alerts --firing");
    }
}

fn figures(page: &mut String, found: &MetricFigures, report: &Report) {
    let title = lines::title(&found.metric);
    let _ = writeln!(page, "<h2>{}</h2>\n<div class=\"charts\">", escape(&title));
    for chart in &found.charts {
        if let Some(svg) = chart.to_svg() {
            let _ = writeln!(page, "<figure>{svg}</figure>");
        }
    }
    page.push_str("</div>\n<h3>Statistics by device type</h3>\n");
    let rows = found.statistics.iter().map(|(device_type, summary)| {
        vec![
            Cell::Text(device_type.clone()),
            count(summary.count),
            Cell::Number(number::exact(summary.lowest.value)),
            computed(summary.mean()),
            Cell::Number(number::exact(summary.highest.value)),
            computed(summary.standard_deviation()),
        ]
    });
    table(page, &["device type", "values", "lowest", "average", "highest", "deviation"], rows);
    page.push_str("<div class=\"pair\">\n");
    for (title, side) in [("Highest", &found.highest), ("Lowest", &found.lowest)] {
        let _ = writeln!(page, "<div>\n<h3>{title}</h3>");
        extremes(page, side, report);
        page.push_str("</div>\n");
    }
    page.push_str("</div>\n<h3>Anomalies</h3>\n");
    if found.anomalies.is_empty() {
        page.push_str("<p>None: no value is far from the median of its sensor (robust-z).</p>\n");
        return;
    }
    let rows = found.anomalies.iter().map(|found| {
        let worst = &found.anomaly.worst;
        vec![
            Cell::Text(name(&report.names, found.sensor)),
            reading_time(report.zone, found.anomaly.from),
            Cell::Number(length(found.anomaly.to - found.anomaly.from)),
            Cell::Number(number::exact(worst.point.value)),
            computed(worst.expected),
            worst
                .score
                .map_or(Cell::Number("–".to_owned()), |score| Cell::Number(number::rounded(score, 3))),
        ]
    });
    table(page, &["sensor", "from", "for", "most unusual value", "expected", "score"], rows);
    more(page, found.anomalies_found - found.anomalies.len(), "iotctl anomalies --method robust-z");
}

fn extremes(page: &mut String, side: &[Extreme], report: &Report) {
    let rows = side.iter().map(|extreme| {
        vec![
            Cell::Text(name(&report.names, extreme.sensor)),
            Cell::Number(number::exact(extreme.value)),
            reading_time(report.zone, extreme.recorded_at),
        ]
    });
    table(page, &["sensor", "value", "at"], rows);
}

fn letters(page: &mut String, letters: &Result<LetterFigures, String>) {
    page.push_str("<h2>Dead letters</h2>\n");
    match letters {
        Err(error) => {
            let _ = writeln!(page, "<p class=\"bad\">Not known: {}</p>", escape(error));
        }
        Ok(letters) if letters.by_reason.is_empty() => {
            page.push_str("<p class=\"good\">Every message could be stored.</p>\n");
        }
        Ok(letters) => {
            page.push_str(
                "<p class=\"soft\">Of all locations: a message that cannot be read has none.</p>\n",
            );
            let rows = letters.by_reason.iter().map(|(reason, (letters, replayed))| {
                vec![Cell::Text(reason.clone()), count(*letters), count(*replayed)]
            });
            table(page, &["reason", "letters", "replayed"], rows);
        }
    }
}
