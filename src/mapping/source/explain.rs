//! The way of one message through a source, step by step: what `iotctl mapping explain` prints. It calls the functions that
//! read messages, so that it cannot say something else than what happens.

use std::collections::HashMap;

use serde_json::Value;

use super::Source;
use super::element::{Found, found_value, stated_unit};
use super::message::{self, Message, group, text_of};
use super::values::{StatedUnits, fits, renamed};
use crate::mapping::file::{FieldsShape, UnitShape};
use crate::mapping::path::{Path, scalars};
use crate::mapping::{Record, Step};
use crate::output::text::{one_or_many, plural};
use crate::reading::DecodeLimits;
use crate::time;

/// Elements that are shown at most.
const MOST_ELEMENTS: usize = 20;
/// Characters of a value that are shown at most.
const MOST_SHOWN: usize = 120;

/// A value as JSON, cut. The table that it is printed in shows control characters as escapes.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The steps of a message through a source whose topic and key fit.
pub(in crate::mapping) struct Explained {
    pub(in crate::mapping) steps: Vec<Step>,
    /// `only` holds, or there is none.
    pub(in crate::mapping) is_taken: bool,
}

impl Explained {
    fn taken(steps: Vec<Step>) -> Self {
        Self { steps, is_taken: true }
    }
}

impl Source {
    /// Why a message is not of this source; `None` if it is.
    pub(in crate::mapping) fn why_not(&self, record: &Record<'_>) -> Option<String> {
        if self.matches(record).is_some() {
            return None;
        }
        let is_named = self.topics.iter().any(|topic| topic == record.topic);
        let by_pattern = self.topic_pattern.as_ref().is_some_and(|pattern| pattern.is_match(record.topic));
        let is_open = self.topics.is_empty() && self.topic_pattern.is_none();
        if !is_named && !by_pattern && !is_open {
            return Some(format!("no: the topic {:?} is not one of its topics", record.topic));
        }
        Some(match record.key {
            None => "no: the message has no key, and key_pattern needs one".to_owned(),
            Some(key) => {
                let key = crate::reading::shown(&String::from_utf8_lossy(key));
                format!("no: the key \"{key}\" does not fit key_pattern")
            }
        })
    }

    /// The steps of a message whose topic and key fit this source.
    pub(in crate::mapping) fn explain(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Explained {
        let mut steps = Vec::new();
        let mut say = |key: &str, text: String| steps.push(Step { key: key.to_owned(), text });
        let mut named: Vec<_> = captures.iter().collect();
        named.sort();
        for (name, text) in named {
            say(&format!("capture.{name}"), shown(&text.as_str().into()));
        }
        if self.is_dropped && self.only.is_none() {
            say("drop", "the message is skipped".to_owned());
            return Explained::taken(steps);
        }
        let value = match self.parse(record, limits) {
            Ok(Some(value)) => value,
            Ok(None) => {
                say("format", format!("{}: holds no readings: the message is skipped", self.format.name()));
                return Explained::taken(steps);
            }
            Err(rejection) => {
                say("format", format!("{}: dead letter: {rejection}", self.format.name()));
                return Explained::taken(steps);
            }
        };
        say("value", format!("{} (format {})", shown(&value), self.format.name()));
        let message = self.message(record, captures, value);
        if self.only.is_some() {
            match self.holds(&message) {
                Ok(true) => say("only", "holds".to_owned()),
                Ok(false) => {
                    say("only", "does not hold".to_owned());
                    return Explained { steps, is_taken: false };
                }
                Err(rejection) => {
                    say("only", format!("dead letter: {rejection}"));
                    return Explained::taken(steps);
                }
            }
        }
        if self.is_dropped {
            say("drop", "the message is skipped".to_owned());
            return Explained::taken(steps);
        }
        let (message, values) = match self.values(message) {
            Ok(found) => found,
            Err(rejection) => {
                say("transform", format!("dead letter: {rejection}"));
                return Explained::taken(steps);
            }
        };
        steps.extend(self.explained_values(&message, &values));
        steps.push(match self.read(record, captures, limits, now) {
            Ok(mapped) => Step { key: "result".to_owned(), text: result(&mapped.unwrap_or_default()) },
            Err(rejection) => Step { key: "result".to_owned(), text: format!("dead letter: {rejection}") },
        });
        Explained::taken(steps)
    }

    /// The payload, or the outputs of `transform`, of which each is read by itself.
    fn explained_values(&self, message: &Message<'_, '_>, values: &[Value]) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_many = values.len() > 1;
        if is_many {
            let text = format!("{} outputs, each of them is read by itself", values.len());
            steps.push(Step { key: "transform".to_owned(), text });
        }
        for (index, value) in values.iter().take(MOST_ELEMENTS).enumerate() {
            let prefix = if is_many { format!("output[{index}] ") } else { String::new() };
            if self.transform.is_some() {
                steps.push(Step { key: format!("{prefix}transform"), text: shown(value) });
            }
            let message = message.with_value(value);
            match &self.each {
                None => steps.extend(self.targets(&prefix, &message)),
                Some(each) => steps.extend(self.explained_elements(&prefix, each, &message)),
            }
        }
        if let Some(more) = values.len().checked_sub(MOST_ELEMENTS).filter(|more| *more > 0) {
            steps.push(Step { key: "transform".to_owned(), text: format!("… and {more} more") });
        }
        steps
    }

    fn explained_elements(&self, outer: &str, each: &Path, message: &Message<'_, '_>) -> Vec<Step> {
        let key = format!("{outer}each");
        let elements = match each.follow(&message.value) {
            Some(found @ (Value::Array(_) | Value::Object(_))) => message::members(found),
            _ => return vec![Step { key, text: format!("{each} is not an array or object") }],
        };
        let text = format!("{each} has {} elements", elements.len());
        let mut steps = vec![Step { key: key.clone(), text }];
        let count = elements.len();
        let whole = message.without_value();
        for (name, element) in elements.into_iter().take(MOST_ELEMENTS) {
            let prefix = format!("{outer}each[{name}] ");
            let taken = match self.problem_of(element) {
                Some(problem) => Err(problem),
                None => self.takes(&whole, &name, element),
            };
            match taken {
                Ok(true) => {}
                Ok(false) => {
                    let text = "only_each does not hold: left out".to_owned();
                    steps.push(Step { key: prefix.trim_end().to_owned(), text });
                    continue;
                }
                Err(rejection) => {
                    steps.push(Step { key: prefix.trim_end().to_owned(), text: rejection.to_string() });
                    continue;
                }
            }
            let message = Message { each: Some((&*message.value, name, element)), ..whole.clone() };
            steps.extend(self.targets(&prefix, &message));
        }
        if count > MOST_ELEMENTS {
            steps.push(Step { key, text: format!("… and {} more", count - MOST_ELEMENTS) });
        }
        steps
    }

    fn targets(&self, prefix: &str, message: &Message<'_, '_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut say = |key: &str, text: String| steps.push(Step { key: format!("{prefix}{key}"), text });
        for (key, target) in
            [("location", &self.location), ("device_type", &self.device_type), ("sensor", &self.sensor)]
        {
            let from = sources(message, &target.from.0);
            say(
                key,
                match message.name(key, target) {
                    Ok(name) if from.is_empty() => format!("\"{name}\" (constant)"),
                    Ok(name) => format!("{from} -> \"{name}\""),
                    Err(rejection) => format!("{from}: {rejection}"),
                },
            );
        }
        let from = sources(message, &self.recorded_timestamp.from.0);
        say(
            "recorded_timestamp",
            match self.moment(message) {
                Ok(at) if from.is_empty() => format!("the record's own -> {}", time::display(at)),
                Ok(at) => format!("{from} -> {}", time::display(at)),
                Err(rejection) => format!("{from}: {rejection}"),
            },
        );
        for (name, metric, conversion) in &self.metrics {
            let path = &metric.from.0[0];
            let found = message.get(path);
            let raw = match &found {
                Some(value) => format!("{path} = {}", shown(value)),
                None => format!("{path} is missing"),
            };
            let unit = stated_unit(message, metric);
            let raw = match (&unit, metric.unit.as_ref().and_then(UnitShape::path)) {
                (Some(unit), Some(place)) => format!("{raw}, unit {place} = {unit:?}"),
                (None, Some(place)) => format!("{raw}, unit {place} is missing"),
                _ => raw,
            };
            say(
                name,
                match found_value(name, metric, *conversion, found, unit.as_deref()) {
                    Ok(Found::Value(value)) => format!("{raw} -> {}", shown(&value)),
                    Ok(Found::Default(value)) => format!("{raw} -> {} (default)", shown(&value)),
                    Ok(Found::Missing) => raw,
                    Err(problem) => format!("{raw}: {problem}"),
                },
            );
        }
        for (fields, _) in &self.fields {
            for (key, text) in members(message, fields) {
                say(&key, text);
            }
        }
        steps
    }
}

/// What the members of an object, or a pair, become; by the name in the message.
fn members(message: &Message<'_, '_>, fields: &FieldsShape) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let members = fields.from.as_ref().and_then(|path| Some((message.get(path)?, path.wildcard?)));
    let units = match &members {
        Some((value, wildcard)) => StatedUnits::of(fields, value, *wildcard),
        None => StatedUnits::default(),
    };
    let mut look = |name: &str, value: &Value| {
        if units.is_unit(name) {
            return found.push((name.to_owned(), format!("the unit of another value: {}", shown(value))));
        }
        let text = shown(value);
        let Some(cut) = fields.name_pattern.as_ref().map_or(Some(name), |pattern| group(pattern, name))
        else {
            return found.push((name.to_owned(), "left out: the name does not fit name_pattern".to_owned()));
        };
        let fits_one = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, cut));
        found.push(match () {
            () if !fields.keep.is_empty() && !fits_one(&fields.keep) => {
                (name.to_owned(), "left out: not in keep".to_owned())
            }
            () if fits_one(&fields.drop) => (name.to_owned(), "left out: in drop".to_owned()),
            () => {
                let unit = units.unit(name).map(|unit| format!(", unit {unit:?}")).unwrap_or_default();
                (renamed(fields, cut), format!("{name} = {text}{unit}"))
            }
        });
    };
    if let Some((path, wildcard)) = fields.from.as_ref().and_then(|path| Some((path, path.wildcard?))) {
        match message.get(path) {
            Some(value) => scalars(&value, wildcard, &mut look),
            None => found.push((path.to_string(), "is missing".to_owned())),
        }
    } else if let (Some(name), Some(value)) = (&fields.name, &fields.value) {
        match (message.get(name).and_then(|name| text_of(&name)), message.get(value)) {
            (Some(name), Some(value)) => look(&name, &value),
            (None, _) => found.push((name.to_string(), "is missing".to_owned())),
            (_, None) => found.push((value.to_string(), "is missing".to_owned())),
        }
    }
    found
}

/// "value.site = \"north\", key = \"a\"".
fn sources(message: &Message<'_, '_>, paths: &[Path]) -> String {
    let parts = paths.iter().map(|path| match message.get(path) {
        Some(value) => format!("{path} = {}", shown(&value)),
        None => format!("{path} is missing"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn result(mapped: &crate::mapping::Mapped<'_>) -> String {
    let readings = plural(mapped.readings.len(), "reading");
    let empty = match mapped.empty.len() {
        0 => String::new(),
        count => {
            format!("; {} no value: not stored", one_or_many(count, "reading has", "readings have"))
        }
    };
    let faults = mapped.faults.iter().map(|fault| format!("; dead letter: {fault}"));
    match mapped.is_skipped {
        true => "skipped".to_owned(),
        false => readings + &empty + &faults.collect::<String>(),
    }
}
