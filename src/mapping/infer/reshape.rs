//! Readings that stand in tables, in arrays in parallel, or in arrays of arrays: the program that makes an object of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::observed::{self, Place};
use super::{names, times};
use crate::mapping::jq::Program;

/// How deep such objects are looked for.
const DEEPEST: usize = 6;
/// Steps that one message may need: series in results, rows in series.
const MOST_STEPS: usize = 4;

/// A program, what it makes of the samples, and where the readings are then.
pub(super) struct Reshaped {
    /// As jq writes it, after `.value`.
    pub(super) steps: Vec<String>,
    pub(super) values: Vec<Value>,
    /// A path of the mapping; `None` where they are in arrays of arrays still.
    pub(super) each: Option<String>,
}

/// `None` if no message has such a shape.
pub(super) fn reshaped(values: &[Value]) -> Option<Reshaped> {
    let mut found = Reshaped { steps: Vec::new(), values: values.to_vec(), each: None };
    while found.steps.len() < MOST_STEPS
        && let Some((step, rows)) = next(&found.values)
    {
        let Ok(program) = Program::parse(&format!(".value | {step}")) else { break };
        let run = |value: &Value| program.run(serde_json::json!({"value": value})).ok();
        let Some(values) = found.values.iter().map(run).collect::<Option<Vec<Value>>>() else { break };
        if values == found.values {
            break;
        }
        found.steps.push(step);
        found.values = values;
        found.each = rows.mapping_path();
    }
    (!found.steps.is_empty()).then_some(found)
}

fn next(values: &[Value]) -> Option<(String, Route)> {
    let objects = objects(values);
    let most = values.len().div_ceil(2);
    let usual = || objects.iter().filter(|(_, found)| found.messages.len() >= most);
    usual()
        .find_map(|(route, found)| table(route, &found.objects))
        .or_else(|| usual().find_map(|(route, found)| columns(route, &found.objects)))
        .or_else(|| usual().find_map(|(route, found)| nested(route, &found.objects)))
}

/// The way to an object: the names of members, and `None` for all elements of an array.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Route(Vec<Option<String>>);

impl Route {
    fn with(&self, step: Option<&str>) -> Self {
        let mut route = self.clone();
        route.0.push(step.map(str::to_owned));
        route
    }

    /// As jq writes it.
    fn program(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Some(name) => text.push_str(&member(name)),
                None if text.is_empty() => text.push_str(".[]"),
                None => text.push_str("[]"),
            }
        }
        if text.is_empty() { ".".to_owned() } else { text }
    }

    /// As a mapping writes it; `None` if it leads through an array.
    fn mapping_path(&self) -> Option<String> {
        let names: Option<Vec<&str>> = self.0.iter().map(Option::as_deref).collect();
        Some(names?.into_iter().fold("value".to_owned(), |path, name| path + &observed::step(name)))
    }
}

/// A member as jq writes it, whatever its name.
fn member(name: &str) -> String {
    format!(".{}", Value::from(name))
}

/// Objects that are at one place of the messages.
#[derive(Default)]
struct Objects<'v> {
    objects: Vec<&'v Map<String, Value>>,
    messages: BTreeSet<usize>,
}

fn objects(values: &[Value]) -> BTreeMap<Route, Objects<'_>> {
    fn walk<'v>(value: &'v Value, route: &Route, message: usize, found: &mut BTreeMap<Route, Objects<'v>>) {
        match value {
            Value::Object(members) => {
                let here = found.entry(route.clone()).or_default();
                here.objects.push(members);
                here.messages.insert(message);
                let compound = members.iter().filter(|(_, member)| member.is_object() || member.is_array());
                for (name, member) in
                    compound.filter(|(name, _)| route.0.len() < DEEPEST && !name.contains('"'))
                {
                    walk(member, &route.with(Some(name)), message, found);
                }
            }
            Value::Array(elements) if route.0.len() < DEEPEST => {
                let route = route.with(None);
                elements.iter().filter(|it| it.is_object()).for_each(|it| walk(it, &route, message, found));
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for (message, value) in values.iter().enumerate() {
        walk(value, &Route::default(), message, &mut found);
    }
    found
}

fn array<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Vec<Value>> {
    object.get(name)?.as_array()
}

/// Members that are arrays in all objects.
fn arrays<'v>(objects: &[&'v Map<String, Value>]) -> Vec<&'v str> {
    let Some(first) = objects.first() else { return Vec::new() };
    let names = first.keys().filter(|name| objects.iter().all(|object| array(object, name).is_some()));
    names.map(String::as_str).collect()
}

/// Rows in arrays, and the names of their columns apart from them: `{"columns": ["time", "t"], "data": [[1, 21.5]]}`.
fn table(route: &Route, objects: &[&Map<String, Value>]) -> Option<(String, Route)> {
    let arrays = arrays(objects);
    let names_of = |object: &Map<String, Value>, columns: &str, label: Option<&str>| -> Option<Vec<String>> {
        let name = |column: &Value| match label {
            Some(label) => column.get(label)?.as_str().map(str::to_owned),
            None => column.as_str().map(str::to_owned),
        };
        array(object, columns)?.iter().map(name).collect()
    };
    let fits = |columns: &str, label: Option<&str>, rows: &str| {
        let mut has_rows = false;
        let all = objects.iter().all(|object| {
            let Some(names) = names_of(object, columns, label) else { return false };
            let distinct = names.iter().collect::<BTreeSet<_>>().len() == names.len();
            let rows = array(object, rows).map(Vec::as_slice).unwrap_or_default();
            has_rows |= !rows.is_empty();
            let is_row = |row: &Value| row.as_array().is_some_and(|row| row.len() == names.len());
            names.len() > 1 && distinct && rows.iter().all(is_row)
        });
        all && has_rows
    };
    let labels = [None, Some("name"), Some("text"), Some("field")];
    let pairs = arrays.iter().flat_map(|columns| arrays.iter().map(move |rows| (*columns, *rows)));
    let (columns, label, rows) = pairs
        .filter(|(columns, rows)| columns != rows)
        .flat_map(|(columns, rows)| labels.map(|label| (columns, label, rows)))
        .find(|(columns, label, rows)| fits(columns, *label, rows))?;
    let mut names = member(columns);
    if let Some(label) = label {
        let _ = write!(names, " | map({})", member(label));
    }
    let step = format!(
        "{} |= (({names}) as $names | {} |= map([$names, .] | transpose | map({{key: .[0], value: .[1]}}) | from_entries) \
         | del({}))",
        route.program(),
        member(rows),
        member(columns)
    );
    Some((step, route.with(Some(rows))))
}

/// Arrays in parallel, of which one is the time: `{"time": ["…", "…"], "temperature": [21.5, 21.6]}`.
fn columns(route: &Route, objects: &[&Map<String, Value>]) -> Option<(String, Route)> {
    const ROWS: &str = "rows";
    let arrays = arrays(objects);
    if objects.iter().any(|object| object.contains_key(ROWS)) {
        return None;
    }
    let time = arrays.iter().filter(|name| names::time_rank(name).is_some()).find(|name| {
        let moments = || objects.iter().flat_map(|object| array(object, name).into_iter().flatten());
        let moments: Vec<Value> = moments().cloned().collect();
        moments.len() > objects.len() && times::format(&moments).is_some()
    })?;
    let is_beside = |name: &str| {
        let length = |object: &Map<String, Value>, name: &str| array(object, name).map(Vec::len);
        objects.iter().all(|object| length(object, name) == length(object, time))
            && objects.iter().any(|object| array(object, name).into_iter().flatten().any(Value::is_number))
    };
    if !arrays.iter().any(|name| name != time && is_beside(name)) {
        return None;
    }
    let step = format!(
        "{} |= (({} | length) as $length \
         | with_entries(select(.value | type == \"array\" and length == $length)) as $columns \
         | with_entries(select(.value | (type == \"array\" and length == $length) | not)) \
         + {{{ROWS}: [$columns | keys_unsorted as $names | [.[]] | transpose[] | [$names, .] | transpose \
         | map({{key: .[0], value: .[1]}}) | from_entries]}})",
        route.program(),
        member(time)
    );
    Some((step, route.with(Some(ROWS))))
}

/// Arrays of readings in the elements of an array: `[{"group": "a", "points": [{"t": 1, "v": 21.5}]}]`.
fn nested(route: &Route, objects: &[&Map<String, Value>]) -> Option<(String, Route)> {
    let (last, before) = route.0.split_last()?;
    if last.is_some() {
        return None;
    }
    let most = objects.len().div_ceil(2);
    let name = {
        let arrays = objects.iter().flat_map(|object| object.keys()).collect::<BTreeSet<_>>().into_iter();
        let mut inner = arrays.filter(|name| !names::is_detail(name)).filter(|name| {
            let held = objects.iter().filter_map(|object| object.get(*name));
            let (lists, others): (Vec<&Value>, Vec<&Value>) = held.partition(|value| value.is_array());
            let elements: Vec<&Value> = lists.iter().filter_map(|list| list.as_array()).flatten().collect();
            others.iter().all(|other| other.is_null())
                && lists.len() >= most
                && elements.iter().all(|element| element.is_object())
                && holds_readings(&elements)
        });
        // Of two arrays, neither is the one.
        inner.next().filter(|_| inner.next().is_none())?
    };
    let outer = Route(before.to_vec());
    let inner = member(name);
    // An empty array holds no readings, unless there are values beside it.
    let is_measured = |(name, value): (&String, &Value)| {
        value.is_number() && names::time_rank(name).is_none() && names::sensor_rank(name).is_none()
    };
    let empty = match objects.iter().any(|object| object.iter().any(is_measured)) {
        true => " | if . == [] then [{}] else . end",
        false => "",
    };
    let step = format!(
        "{} |= [.[] | del({inner}) as $parent | ({inner} // []{empty})[] | . as $element \
         | if any($parent | keys[]; . as $name | $element | has($name)) then $element + {{parent: $parent}} \
         else $parent + $element end]",
        outer.program()
    );
    Some((step, outer))
}

/// Whether elements are more than a detail: they have numbers, and a time, a sensor or a name of what is measured.
fn holds_readings(elements: &[&Value]) -> bool {
    let inside = observed::places("each", elements);
    let has = |is: &dyn Fn(&Place) -> bool| inside.iter().any(is);
    has(&|place| place.is_number() && names::time_rank(place.last_name()).is_none())
        && (has(&|place| {
            names::time_rank(place.last_name()).is_some() && times::format(&place.examples).is_some()
        }) || has(&|place| names::sensor_rank(place.last_name()).is_some_and(|rank| rank < names::FAINT))
            || has(&|place| names::pair_name_rank(place.last_name()).is_some()))
}
