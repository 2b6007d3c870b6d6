//! A message while it is read: what stands at a path, and what a pattern takes of it.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

use crate::mapping::Record;
use crate::mapping::file::{Paths, Pattern, TargetShape};
use crate::mapping::path::{Path, Root};
use crate::reading::Rejection;

/// A message while it is read.
#[derive(Clone)]
pub(super) struct Message<'m, 'r> {
    pub(super) record: &'m Record<'r>,
    pub(super) captures: &'m HashMap<String, String>,
    /// Null while an element of `each` is read: the whole is in `each`.
    pub(super) value: Cow<'m, Value>,
    /// What was taken of the payload instead of the whole, by the places of the paths.
    pub(super) taken: Option<&'m [Option<Value>]>,
    pub(super) key: Option<Value>,
    /// The whole payload, and the element's name and value.
    pub(super) each: Option<(&'m Value, String, &'m Value)>,
}

impl Message<'_, '_> {
    pub(super) fn get(&self, path: &Path) -> Option<Cow<'_, Value>> {
        let text = |text: &str| Some(Cow::Owned(Value::from(text)));
        match path.root {
            Root::Value => match (self.taken, path.place) {
                (Some(taken), Some(place)) => {
                    path.follow_after(place.steps, taken.get(place.slot)?.as_ref()?).map(Cow::Borrowed)
                }
                _ => path.follow(self.each.as_ref().map_or(&self.value, |each| each.0)).map(Cow::Borrowed),
            },
            Root::Each => path.follow(self.each.as_ref()?.2).map(Cow::Borrowed),
            Root::EachName => text(&self.each.as_ref()?.1),
            Root::Key if path.steps.is_empty() && path.wildcard.is_none() => {
                text(std::str::from_utf8(self.record.key?).ok()?)
            }
            Root::Key => path.follow(self.key.as_ref()?).map(Cow::Borrowed),
            Root::Header => text(&self.record.headers.text(path.first_name())?),
            Root::Topic => text(self.record.topic),
            Root::Timestamp => Some(Cow::Owned(self.record.timestamp?.into())),
            Root::Capture => text(self.captures.get(path.first_name())?),
        }
    }

    /// The record's own time.
    pub(super) fn own_time(&self, key: &'static str) -> Result<i64, Rejection> {
        self.record.timestamp.ok_or(Rejection::NoTime { key })
    }

    /// A location, device type or sensor.
    pub(super) fn name(&self, key: &'static str, target: &TargetShape) -> Result<String, Rejection> {
        if let Some(constant) = &target.constant {
            return Ok(constant.clone());
        }
        let Some(mut text) = self.joined(target) else {
            return target.default.clone().ok_or_else(|| self.not_a_text(key, &target.from));
        };
        if let Some(pattern) = &target.pattern {
            text = match group(pattern, &text) {
                Some(found) => found.to_owned(),
                None => match &target.default {
                    Some(default) => return Ok(default.clone()),
                    None => {
                        let shown = crate::reading::shown(&text);
                        return Err(unmapped(
                            key,
                            format!("\"{shown}\" does not fit the pattern {}", pattern.0),
                        ));
                    }
                },
            };
        }
        if let Some(normalise) = target.normalise {
            text = normalise.apply(&text);
        }
        match crate::reading::is_name(&text) {
            true => Ok(text),
            false => Err(Rejection::BadName { field: key.to_owned() }),
        }
    }

    /// Why there is no name at these paths.
    fn not_a_text(&self, key: &'static str, from: &Paths) -> Rejection {
        let found = from.0.iter().find_map(|path| match &*self.get(path)? {
            Value::Bool(_) => Some((path, "a boolean")),
            Value::Array(_) => Some((path, "an array")),
            Value::Object(_) => Some((path, "an object")),
            _ => None,
        });
        match found {
            Some((path, kind)) => unmapped(key, format!("{path} is {kind} (take a text or a number)")),
            None => missing(key, from),
        }
    }

    /// The texts at all paths; `None` where one is missing.
    fn joined(&self, target: &TargetShape) -> Option<String> {
        let part = |path| self.get(path).filter(|value| !is_missing(value)).and_then(|value| text_of(&value));
        match target.from.0.as_slice() {
            [path] => part(path),
            paths => {
                let parts: Option<Vec<String>> = paths.iter().map(part).collect();
                Some(parts?.join(target.join.as_deref().unwrap_or("/")))
            }
        }
    }

    /// What a jq program is given.
    pub(super) fn to_json(&self) -> Value {
        let key = self.record.key.map(String::from_utf8_lossy);
        let captures: Map<_, _> =
            self.captures.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
        json!({
            "value": *self.value,
            "key": key,
            "topic": self.record.topic,
            "timestamp": self.record.timestamp,
            "capture": captures,
        })
    }
}

/// The elements of an array by their indices, or the members of an object by their names.
pub(super) fn members(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(index, element)| (index.to_string(), element)).collect()
        }
        Value::Object(members) => members.iter().map(|(name, element)| (name.clone(), element)).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn take_groups(pattern: &Regex, found: &Captures<'_>, captures: &mut HashMap<String, String>) {
    for name in pattern.capture_names().flatten() {
        if let Some(text) = found.name(name) {
            captures.insert(name.to_owned(), text.as_str().to_owned());
        }
    }
}

/// What a pattern takes of a text: the group `value`, else its first group that is not the unit, else the whole match.
pub(super) fn group<'t>(pattern: &Pattern, text: &'t str) -> Option<&'t str> {
    let found = pattern.0.captures(text)?;
    let first = || {
        let names = pattern.0.capture_names().enumerate().skip(1);
        names.filter(|(_, name)| *name != Some("unit")).find_map(|(index, _)| found.get(index))
    };
    found.name("value").or_else(first).or_else(|| found.get(0)).map(|it| it.as_str())
}

/// The unit that a pattern finds in a value's own text.
pub(super) fn unit_in(pattern: &Pattern, value: &Value) -> Option<String> {
    let text = text_of(value)?;
    let unit = pattern.0.captures(&text)?.name("unit")?.as_str().trim();
    (!unit.is_empty()).then(|| unit.to_owned())
}

/// What a pattern takes of a value. Numbers and booleans are matched as they are written; null stays null.
pub(super) fn first_group<'v>(pattern: &Pattern, value: Cow<'v, Value>) -> Result<Cow<'v, Value>, String> {
    let text = match &*value {
        Value::Null => return Ok(value),
        Value::Bool(value) => value.to_string(),
        other => text_of(other).ok_or("pattern: the value is no text")?,
    };
    match group(pattern, &text) {
        Some(found) => Ok(Cow::Owned(found.into())),
        None => Err(format!("\"{}\" does not fit the pattern {}", crate::reading::shown(&text), pattern.0)),
    }
}

pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn is_missing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

pub(super) fn missing(key: &str, from: &Paths) -> Rejection {
    let paths: Vec<_> = from.0.iter().map(ToString::to_string).collect();
    unmapped(key, format!("{} is missing (set a default, or skip such messages with only)", paths.join(", ")))
}

pub(super) fn unmapped(key: &str, problem: String) -> Rejection {
    Rejection::Unmapped { key: crate::reading::shown(key), problem }
}
