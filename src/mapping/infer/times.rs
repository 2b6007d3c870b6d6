//! How the moments in samples are written.

use serde_json::Value;

use super::observed::Place;
use super::quoted;
use crate::mapping::moment::{TimestampFormat, moment, suggested_unit};
use crate::time::Zone;

const DATES: &[&str] = &["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d"];
const CLOCKS: &[&str] = &["%H:%M:%S", "%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H%M%S"];

/// What to write for `recorded_timestamp`, with `PATH` for the path, and what of it is a guess.
pub(super) fn format(examples: &[Value]) -> Option<(String, &'static str)> {
    let first = examples.first()?;
    let is_text = examples.iter().all(Value::is_string);
    let fit = |format: &TimestampFormat, zone: Option<Zone>| {
        examples.iter().all(|example| moment(example, format, zone).is_ok())
    };
    if is_text && fit(&TimestampFormat::Rfc3339, None) {
        return Some(("PATH".to_owned(), ""));
    }
    let utc = Zone::named("UTC").ok();
    let is_long = examples.iter().all(|example| example.as_str().is_some_and(|text| text.len() > 9));
    if is_long && fit(&TimestampFormat::Rfc3339, utc) {
        return Some(("{ from = PATH, time_zone = \"UTC\" }".to_owned(), "guessed: the zone"));
    }
    if let Some(unit) = suggested_unit(first)
        && examples.iter().all(|example| suggested_unit(example) == Some(unit))
        && TimestampFormat::parse(unit).is_ok()
    {
        return Some((
            format!("{{ from = PATH, format = \"{unit}\" }}"),
            "guessed: the unit, by the size of the number",
        ));
    }
    let both = DATES.iter().flat_map(|date| CLOCKS.iter().map(move |clock| format!("{date} {clock}")));
    let pattern =
        both.filter(|_| is_text).find(|pattern| fit(&TimestampFormat::Pattern(pattern.clone()), utc))?;
    Some((
        format!("{{ from = PATH, format = \"{pattern}\", time_zone = \"UTC\" }}"),
        "guessed: the order of day and month, and the zone",
    ))
}

/// A date and a time of day in two fields.
pub(super) fn of_two(places: &[Place]) -> Option<([&Place; 2], String)> {
    let pattern = |place: &Place, known: &[&'static str], other: &str, joined: fn(&str, &str) -> String| {
        known.iter().copied().find(|pattern| {
            let format = TimestampFormat::Pattern(joined(pattern, "%H:%M:%S"));
            place.examples.iter().all(|example| {
                let text = example.as_str().unwrap_or_default();
                let whole = joined(text, other);
                !text.is_empty() && moment(&whole.into(), &format, Zone::named("UTC").ok()).is_ok()
            })
        })
    };
    let date = places.iter().find_map(|place| {
        let found = pattern(place, DATES, "00:00:00", |date, clock| format!("{date} {clock}"))?;
        Some((place, found))
    })?;
    let clock = places.iter().filter(|place| place.path != date.0.path).find_map(|place| {
        let found = CLOCKS.iter().copied().find(|clock| {
            let format = TimestampFormat::Pattern(format!("%Y-%m-%d {clock}"));
            place.examples.iter().all(|example| {
                let whole = format!("2026-01-01 {}", example.as_str().unwrap_or_default());
                moment(&whole.into(), &format, Zone::named("UTC").ok()).is_ok()
            })
        })?;
        Some((place, found))
    })?;
    let text = format!(
        "{{ from = [{}, {}], format = \"{} {}\", time_zone = \"UTC\" }}",
        quoted(&date.0.path),
        quoted(&clock.0.path),
        date.1,
        clock.1
    );
    Some(([date.0, clock.0], text))
}
