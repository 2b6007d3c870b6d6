//! What is in the samples, and where.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::names;
use crate::mapping::path::{Path, Wildcard, scalars};

/// How many values are looked at in one place.
const MOST_EXAMPLES: usize = 100;
/// How deep arrays of readings are looked for.
const DEEPEST: usize = 5;

/// A place that a target can come from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// As the file writes it.
    pub(super) path: String,
    /// As wildcards name it: the names below the root, joined by dots.
    pub(super) name: String,
    /// In how many messages, or elements.
    pub(super) count: usize,
    pub(super) of: usize,
    pub(super) examples: Vec<Value>,
}

impl Place {
    pub(super) fn example(&self) -> &Value {
        self.examples.last().unwrap_or(&Value::Null)
    }

    /// The last name of the path.
    pub(super) fn last_name(&self) -> &str {
        self.path.trim_end_matches('"').rsplit(['.', '"']).next().unwrap_or_default()
    }

    /// The path of the object that it is in.
    pub(super) fn parent(&self) -> &str {
        let last = self.last_name().len() + if self.path.ends_with('"') { 2 } else { 0 };
        self.path.get(..self.path.len().saturating_sub(last + 1)).unwrap_or_default()
    }

    pub(super) fn is_number(&self) -> bool {
        self.examples.iter().all(Value::is_number)
    }

    /// Whether texts there are numbers, with a unit or without.
    pub(super) fn is_measured(&self) -> bool {
        self.examples.iter().filter_map(Value::as_str).map(str::trim).any(|text| {
            text.parse::<f64>().is_ok()
                || text.replace(',', ".").parse::<f64>().is_ok()
                || names::number_with_unit(text).is_some()
        })
    }

    /// For a comment, in which TOML allows no control characters.
    pub(super) fn noted(&self) -> String {
        let example: String =
            self.example().to_string().chars().filter(|char| !char.is_control()).take(60).collect();
        match self.count >= self.of {
            true => format!("always there, such as {example}"),
            false => format!("in {} of {}, such as {example}", self.count, self.of),
        }
    }
}

/// The scalars below a root.
pub(super) fn places(root: &str, values: &[&Value]) -> Vec<Place> {
    let mut found: BTreeMap<String, Place> = BTreeMap::new();
    for value in values {
        scalars(value, Wildcard::All, &mut |name, scalar| {
            // A path has no way to write a quotation mark.
            if scalar.is_null() || name.contains('"') {
                return;
            }
            let place = found.entry(name.to_owned()).or_insert_with(|| Place {
                path: path(root, value, name),
                name: name.to_owned(),
                count: 0,
                of: values.len(),
                examples: Vec::new(),
            });
            place.count += 1;
            if place.examples.len() < MOST_EXAMPLES {
                place.examples.push(scalar.clone());
            }
        });
    }
    found.into_values().filter(|place| Path::parse(&place.path).is_ok()).collect()
}

/// A path with the names that need it in quotation marks; parts that are indices in brackets.
fn path(root: &str, value: &Value, name: &str) -> String {
    let mut path = root.to_owned();
    let mut at = Some(value);
    let mut rest = name;
    while !rest.is_empty() {
        // The longest part that is a member: names may have dots themselves.
        let mut ends = rest.match_indices('.').map(|(index, _)| index).chain([rest.len()]);
        let part = match at {
            Some(Value::Object(members)) => ends.rfind(|end| members.contains_key(&rest[..*end])),
            _ => None,
        };
        let end = part.unwrap_or_else(|| rest.find('.').unwrap_or(rest.len()));
        let (part, after) = rest.split_at(end);
        match at {
            Some(Value::Array(elements)) if part.parse::<usize>().is_ok() => {
                let _ = write!(path, "[{part}]");
                at = part.parse::<usize>().ok().and_then(|index| elements.get(index));
            }
            _ => {
                path.push_str(&step(part));
                at = at.and_then(|value| value.get(part));
            }
        }
        rest = after.strip_prefix('.').unwrap_or_default();
    }
    path
}

/// A step of a path to a member.
pub(super) fn step(name: &str) -> String {
    match name.is_empty() || name.contains(['.', '[', '*', '"', ']']) {
        true => format!(".\"{name}\""),
        false => format!(".{name}"),
    }
}

/// Where elements with readings are.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) path: String,
    /// An object whose names are those of devices.
    pub(super) is_keyed: bool,
}

impl Each {
    pub(super) fn elements<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let found = Path::parse(&self.path).ok().and_then(|path| path.follow(value));
        match found {
            Some(Value::Array(elements)) => elements.iter().collect(),
            Some(Value::Object(members)) => members.values().collect(),
            _ => Vec::new(),
        }
    }
}

/// The array (or object by name) that the readings of the messages are in.
pub(super) fn each(values: &[Value]) -> Option<Each> {
    let first = values.first()?;
    let mut candidates = Vec::new();
    collect(first, "value".to_owned(), "", 0, &mut candidates);
    let scored = candidates.into_iter().filter_map(|(each, depth, name)| {
        let in_all = values.iter().all(|value| !each.elements(value).is_empty());
        let score = score(&each, &name, values)?;
        (in_all && score > 0).then_some((score * 10 - depth, each))
    });
    scored.max_by_key(|(score, _)| *score).map(|(_, each)| each)
}

fn collect(value: &Value, path: String, name: &str, depth: i32, found: &mut Vec<(Each, i32, String)>) {
    let is_path = Path::parse(&path).is_ok();
    match value {
        Value::Array(elements) if is_path && elements.iter().any(Value::is_object) => {
            found.push((Each { path, is_keyed: false }, depth, name.to_owned()));
        }
        Value::Object(members) if depth < DEEPEST as i32 => {
            if is_path && is_keyed(members) {
                found.push((Each { path: path.clone(), is_keyed: true }, depth, name.to_owned()));
            }
            for (name, member) in members.iter().filter(|(name, _)| !name.contains('"')) {
                collect(member, format!("{path}{}", step(name)), name, depth + 1, found);
            }
        }
        _ => {}
    }
}

/// Whether the members are devices by name: objects with the same members, of which one at least is a metric.
fn is_keyed(members: &serde_json::Map<String, Value>) -> bool {
    let mut objects = members.values().map(Value::as_object);
    let Some(Some(first)) = objects.next() else { return false };
    let is_metric = |name: &String, value: &Value| {
        value.is_number() && names::pair_value_rank(name).is_none() && names::time_rank(name).is_none()
    };
    members.len() > 1
        && first.iter().any(|(name, value)| is_metric(name, value))
        && objects.all(|object| object.is_some_and(|object| object.keys().eq(first.keys())))
}

/// How much an array looks like one of readings; `None` if it does not at all.
fn score(each: &Each, name: &str, values: &[Value]) -> Option<i32> {
    let elements: Vec<&Value> = values.iter().flat_map(|value| each.elements(value)).collect();
    let inside = places("each", &elements);
    let direct = |place: &&Place| place.parent() == "each";
    let has_metric = inside.iter().any(|place| {
        place.is_number() && names::time_rank(place.last_name()).is_none()
            || names::pair_value_rank(place.last_name()).is_some()
    });
    if !has_metric {
        return None;
    }
    let has_pair =
        inside.iter().filter(direct).any(|place| names::pair_name_rank(place.last_name()).is_some())
            && inside.iter().filter(direct).any(|place| names::pair_value_rank(place.last_name()).is_some());
    let has_time = inside.iter().any(|place| {
        names::time_rank(place.last_name()).is_some() && super::times::format(&place.examples).is_some()
    });
    let has_sensor = inside
        .iter()
        .any(|place| names::sensor_rank(place.last_name()).is_some_and(|rank| rank < names::FAINT));
    // Beside metrics of the message itself, an array is more likely a detail, such as the gateways that received it.
    let whole: Vec<&Value> = values.iter().collect();
    let prefix = format!("{}.", each.path);
    let has_metrics_outside = each.path != "value"
        && places("value", &whole).iter().any(|place| {
            !place.path.starts_with(&prefix)
                && !place.path.starts_with(&format!("{}[", each.path))
                && place.is_number()
                && !place.path.contains('[')
                && names::time_rank(place.last_name()).is_none()
                && names::sensor_rank(place.last_name()).is_none()
        });
    // What has a column is measured, whatever else the messages hold.
    let has_column = |place: &Place| {
        let name = place.name.as_str();
        let is_value = place.is_number() || place.is_measured();
        is_value && names::column(name).or_else(|| names::column_at_end(name)).is_some()
    };
    let is_outside = |place: &&Place| {
        !place.path.starts_with(&prefix) && !place.path.starts_with(&format!("{}[", each.path))
    };
    let has_columns_outside = each.path != "value"
        && !inside.iter().any(has_column)
        && places("value", &whole).iter().filter(is_outside).any(has_column);
    let mut score = 3 - i32::from(has_columns_outside) * 8;
    score += i32::from(has_pair) * 2 + i32::from(has_time) * 2 + i32::from(has_sensor);
    score -= i32::from(has_metrics_outside) * 4 + i32::from(names::is_detail(name)) * 8;
    Some(score)
}
