//! A first mapping for messages that nobody has described: a preset that reads them all, or a draft with comments that say
//! what was seen and what was guessed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::moment::{TimestampFormat, suggested_unit};
use super::path::{Wildcard, scalars};
use super::{Headers, Mapping, Record, presets};
use crate::reading::DecodeLimits;

/// A message to learn from.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub payload: Vec<u8>,
}

impl Headers for Sample {
    fn text(&self, name: &str) -> Option<String> {
        self.headers.iter().rev().find(|(known, _)| known == name).map(|(_, text)| text.clone())
    }
}

impl Sample {
    pub fn record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            key: self.key.as_deref(),
            headers: self,
            timestamp: self.timestamp,
            payload: &self.payload,
        }
    }
}

/// Names, the most telling first; compared without case and punctuation.
const SENSORS: &[&str] = &[
    "sensorid",
    "sensor",
    "deveui",
    "deviceid",
    "device",
    "eui",
    "mac",
    "macaddress",
    "serial",
    "serialnumber",
    "nodeid",
    "node",
    "host",
    "hostname",
    "uuid",
    "id",
    "name",
];
const LOCATIONS: &[&str] = &[
    "location",
    "site",
    "room",
    "plant",
    "building",
    "place",
    "area",
    "hall",
    "floor",
    "applicationid",
    "applicationname",
    "application",
    "region",
];
const TYPES: &[&str] =
    &["devicetype", "sensortype", "type", "model", "kind", "profile", "class", "measurement"];
const TIMES: &[&str] = &[
    "recordedtimestamp",
    "timestamp",
    "time",
    "ts",
    "datetime",
    "receivedat",
    "lastseen",
    "measuredat",
    "eventtime",
    "createdat",
    "date",
    "at",
    "t",
];
const PAIR_NAMES: &[&str] = &["name", "metric", "n", "measure", "field", "parameter", "key", "type"];
const PAIR_VALUES: &[&str] = &["value", "v", "val"];

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
}

/// The text of a mapping file for messages like these.
///
/// # Errors
/// Why none can be drafted.
pub fn infer(samples: &[Sample], limits: &DecodeLimits, now: i64) -> Result<String, String> {
    if samples.is_empty() {
        return Err("there are no messages to infer a mapping from".to_owned());
    }
    let of_presets = presets::ALL.iter().filter_map(|preset| {
        let mapping = Mapping::parse(preset.name, preset.text).ok()?;
        let outcome = Outcome::of(&mapping, samples, limits, now);
        (outcome.refused == 0 && outcome.readings > 0).then_some((outcome, preset))
    });
    if let Some((outcome, preset)) = of_presets.max_by_key(|(outcome, _)| outcome.mapped) {
        return Ok(format!(
            "# The preset {}: {}.\n# {}.\n\n{}",
            preset.name,
            preset.about,
            outcome.text(samples.len()),
            preset.text
        ));
    }
    let draft = draft(samples)?;
    let outcome = match Mapping::parse("the draft", &draft) {
        Ok(mapping) => Outcome::of(&mapping, samples, limits, now).text(samples.len()),
        Err(error) => error.to_string().replace('\n', "\n# "),
    };
    Ok(format!(
        "# A draft, made from {} messages. {outcome}.\n# Check what is marked as guessed.\n\n{draft}",
        samples.len()
    ))
}

/// What a mapping makes of the samples.
#[derive(Default)]
struct Outcome {
    mapped: usize,
    skipped: usize,
    refused: usize,
    readings: usize,
}

impl Outcome {
    fn of(mapping: &Mapping, samples: &[Sample], limits: &DecodeLimits, now: i64) -> Self {
        let mut outcome = Self::default();
        for sample in samples {
            match mapping.read(&sample.record(), limits, now) {
                Ok(mapped) if mapped.is_skipped => outcome.skipped += 1,
                Ok(mapped) if mapped.faults.is_empty() => {
                    outcome.mapped += 1;
                    outcome.readings += mapped.readings.len();
                }
                _ => outcome.refused += 1,
            }
        }
        outcome
    }

    fn text(&self, messages: usize) -> String {
        format!(
            "{} of {messages} messages become {} readings, {} are skipped, {} refused",
            self.mapped, self.readings, self.skipped, self.refused
        )
    }
}

/// What was seen at a path.
#[derive(Default)]
struct Seen {
    count: usize,
    example: Value,
}

/// A place that a target can come from, as the file names it.
struct Place {
    path: String,
    count: usize,
    example: Value,
}

/// The scalars below a root, by their names joined with dots.
fn seen<'v>(values: impl Iterator<Item = &'v Value>) -> BTreeMap<String, Seen> {
    let mut found: BTreeMap<String, Seen> = BTreeMap::new();
    for value in values {
        scalars(value, Wildcard::All, &mut |name, value| {
            // A path has no way to write a quotation mark.
            if !value.is_null() && !name.contains('"') {
                let seen = found.entry(name.to_owned()).or_default();
                seen.count += 1;
                seen.example = value.clone();
            }
        });
    }
    found
}

/// A path with the names that need it in quotation marks; parts that are indices in brackets.
fn path(root: &str, value: &Value, name: &str) -> String {
    let mut path = root.to_owned();
    let mut at = Some(value);
    let mut rest = name;
    while !rest.is_empty() {
        // The longest part that is a member: names may have dots themselves.
        let ends = rest.match_indices('.').map(|(index, _)| index).chain([rest.len()]);
        let part = match at {
            Some(Value::Object(members)) => ends.rev_first(|end| members.contains_key(&rest[..*end])),
            _ => None,
        };
        let end = part.unwrap_or_else(|| rest.find('.').unwrap_or(rest.len()));
        let (part, after) = rest.split_at(end);
        match at {
            // Another message may have an object there.
            Some(Value::Array(elements)) if part.parse::<usize>().is_ok() => {
                let _ = write!(path, "[{part}]");
                at = part.parse::<usize>().ok().and_then(|index| elements.get(index));
            }
            _ => {
                match part.contains(['.', '[', '*', '"', ']']) {
                    true => drop(write!(path, ".\"{part}\"")),
                    false => drop(write!(path, ".{part}")),
                }
                at = at.and_then(|value| value.get(part));
            }
        }
        rest = after.strip_prefix('.').unwrap_or_default();
    }
    path
}

trait RevFirst: Iterator + Sized {
    fn rev_first(self, fits: impl Fn(&Self::Item) -> bool) -> Option<Self::Item> {
        self.filter(|item| fits(item)).last()
    }
}

impl<I: Iterator> RevFirst for I {}

/// The best name of a list among the places: the earliest in the list, then the shortest path.
fn best<'p>(names: &[&str], places: &'p [Place], fits: impl Fn(&Value) -> bool) -> Option<&'p Place> {
    let rank = |place: &Place| {
        let last = place.path.trim_end_matches('"').rsplit(['.', '"']).next().unwrap_or_default();
        names.iter().position(|name| *name == plain(last))
    };
    let ranked =
        places.iter().filter(|place| fits(&place.example)).filter_map(|place| Some((rank(place)?, place)));
    ranked.min_by_key(|(rank, place)| (*rank, place.path.len())).map(|(_, place)| place)
}

fn draft(samples: &[Sample]) -> Result<String, String> {
    let values: Vec<Value> =
        samples.iter().filter_map(|sample| serde_json::from_slice(&sample.payload).ok()).collect();
    let Some(first) = values.iter().find(|value| value.is_object() || value.is_array()) else {
        return Err("the messages are no JSON, and no preset reads them (see docs/mapping.md for the other formats, such as \
                    format = \"csv\")"
            .to_owned());
    };
    let each = elements(&values);
    let mut places = Vec::new();
    let mut members = Vec::new();
    if let Some(each) = &each {
        let elements: Vec<&Value> = values.iter().flat_map(|value| members_of(each, value)).collect();
        if let Some(element) = elements.first() {
            for (name, seen) in seen(elements.iter().copied()) {
                let path = path("each", element, &name);
                members.push((name, path.clone()));
                places.push(Place { path, count: seen.count, example: seen.example });
            }
        }
    }
    let inside =
        each.as_deref().map(|each| each.trim_start_matches("value").trim_start_matches('.').to_owned());
    for (name, seen) in seen(values.iter()) {
        // Not what is in the array itself.
        if each.is_some()
            && inside.as_deref().is_none_or(|inside| inside.is_empty() || name.starts_with(inside))
        {
            continue;
        }
        let path = path("value", first, &name);
        if each.is_none() {
            members.push((name, path.clone()));
        }
        places.push(Place { path, count: seen.count, example: seen.example });
    }
    let mut headers: BTreeMap<&str, Seen> = BTreeMap::new();
    for (name, text) in samples.iter().flat_map(|sample| &sample.headers) {
        let seen = headers.entry(name).or_default();
        seen.count += 1;
        seen.example = text.as_str().into();
    }
    let of_headers = headers.into_iter().filter(|(name, _)| !name.contains(['.', '"', '[']));
    places.extend(of_headers.map(|(name, seen)| Place {
        path: format!("header.{name}"),
        count: seen.count,
        example: seen.example,
    }));
    Ok(written(samples, each.as_deref(), &places, &members))
}

/// The array of objects that the messages' readings are in, as a path.
fn elements(values: &[Value]) -> Option<String> {
    let is_list = |value: &Value| value.as_array().is_some_and(|it| it.iter().any(Value::is_object));
    if values.iter().all(is_list) {
        return Some("value".to_owned());
    }
    let first = values.iter().find_map(Value::as_object)?;
    let mut lists = first.iter().filter(|(name, value)| is_list(value) && !name.contains(['.', '"', '[']));
    let (name, _) = lists.next()?;
    // Beside metrics at the top, an array is more likely a detail, such as the gateways that received a message.
    let is_metric =
        |(name, value): (&String, &Value)| value.is_number() && !TIMES.contains(&plain(name).as_str());
    (!first.iter().any(is_metric)).then(|| format!("value.{name}"))
}

fn members_of<'v>(each: &str, value: &'v Value) -> Vec<&'v Value> {
    let found = super::path::Path::parse(each).ok().and_then(|path| path.follow(value));
    found.and_then(Value::as_array).into_iter().flatten().collect()
}

fn written(samples: &[Sample], each: Option<&str>, places: &[Place], members: &[(String, String)]) -> String {
    let is_name = |value: &Value| value.is_string() || value.is_i64() || value.is_u64();
    let mut text = String::from("[[source]]\nname = \"draft\"\n");
    let topics: std::collections::BTreeSet<&str> =
        samples.iter().map(|it| it.topic.as_str()).filter(|it| !it.is_empty()).collect();
    if !topics.is_empty() {
        let topics: Vec<String> = topics.into_iter().map(quoted).collect();
        let _ = writeln!(text, "topics = [{}]", topics.join(", "));
    }
    if let Some(each) = each {
        let _ = writeln!(text, "each = \"{each}\"    # guessed: one message holds many readings");
    }
    text.push('\n');
    let root = if each.is_some() { "each" } else { "value" };
    let find = |wanted: &str, value: bool| {
        places.iter().find(|place| {
            place.path.starts_with(root)
                && place.path.rsplit('.').next() == Some(wanted)
                && (value || place.example.is_string())
        })
    };
    let name = PAIR_NAMES.iter().find_map(|name| find(name, false));
    let value = PAIR_VALUES.iter().find_map(|name| find(name, true));
    let pair = name.zip(value);
    let others: Vec<&Place> = places
        .iter()
        .filter(|place| pair.is_none_or(|(name, value)| place.path != name.path && place.path != value.path))
        .collect();
    let others: Vec<Place> = others
        .into_iter()
        .map(|place| Place { path: place.path.clone(), count: place.count, example: place.example.clone() })
        .collect();
    let mut used = Vec::new();
    let has_key = samples.iter().all(|it| {
        it.key.as_deref().is_some_and(|key| std::str::from_utf8(key).is_ok_and(|it| !it.is_empty()))
    });
    for (target, names, otherwise) in [
        ("location", LOCATIONS, "{ constant = \"unknown\" }    # guessed: no field looks like a location"),
        ("device_type", TYPES, "{ constant = \"device\" }    # guessed: no field looks like a device type"),
        (
            "sensor",
            SENSORS,
            if has_key {
                "\"key\"    # guessed: no field looks like a sensor"
            } else {
                "{ constant = \"sensor\" }    # guessed: no field looks like a sensor"
            },
        ),
    ] {
        let free: Vec<Place> = others
            .iter()
            .filter(|place| !used.contains(&place.path))
            .map(|place| Place {
                path: place.path.clone(),
                count: place.count,
                example: place.example.clone(),
            })
            .collect();
        match best(names, &free, is_name) {
            Some(place) => {
                let _ = writeln!(text, "{target} = {}    # {}", quoted(&place.path), noted(place));
                used.push(place.path.clone());
            }
            None => {
                let _ = writeln!(text, "{target} = {otherwise}");
            }
        }
    }
    let is_time = |value: &Value| time_format(value).is_some();
    match best(TIMES, &others, is_time).and_then(|place| Some((place, time_format(&place.example)?))) {
        Some((place, format)) => {
            let _ = writeln!(text, "recorded_timestamp = {} {}", format.replace("PATH", &quoted(&place.path)), noted(place));
            used.push(place.path.clone());
        }
        None => text.push_str("# guessed: no field looks like a time, so the record's own timestamp is taken\nrecorded_timestamp = \"timestamp\"\n"),
    }
    text.push_str("\n[[source.fields]]\n");
    match pair {
        Some((name, value)) => {
            let _ = writeln!(text, "name = {}    # {}", quoted(&name.path), noted(name));
            let _ = writeln!(text, "value = {}    # {}", quoted(&value.path), noted(value));
        }
        None => {
            let _ = writeln!(text, "from = \"{root}.**\"");
            let left_out: Vec<&str> = members
                .iter()
                .filter(|(_, path)| used.contains(path))
                .map(|(name, _)| name.as_str())
                .collect();
            if !left_out.is_empty() {
                let left_out: Vec<String> = left_out.into_iter().map(quoted).collect();
                let _ = writeln!(text, "drop = [{}]    # used above", left_out.join(", "));
            }
            for place in
                places.iter().filter(|place| place.path.starts_with(root) && !used.contains(&place.path))
            {
                let _ = writeln!(text, "# {}: {}", place.path, noted(place));
            }
        }
    }
    text
}

/// A string of TOML, which takes the escapes of JSON.
fn quoted(text: &str) -> String {
    // DEL is the one control character that JSON leaves as it is.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// For a comment, in which TOML allows no control characters.
fn noted(place: &Place) -> String {
    let example: String =
        place.example.to_string().chars().filter(|char| !char.is_control()).take(60).collect();
    match place.count {
        1 => format!("seen once, such as {example}"),
        count => format!("seen {count} times, such as {example}"),
    }
}

/// How a value that may be a time would be written in the file; `PATH` stands for its path.
fn time_format(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if crate::time::rfc3339(text).is_some() => Some("PATH    #".to_owned()),
        Value::String(text) if text.len() > 9 && text.parse::<jiff::civil::DateTime>().is_ok() => {
            Some("{ from = PATH, time_zone = \"UTC\" }    # guessed: the zone;".to_owned())
        }
        other => {
            let unit = suggested_unit(other)?;
            TimestampFormat::parse(unit).ok()?;
            Some(format!(
                "{{ from = PATH, format = \"{unit}\" }}    # guessed: the unit, by the size of the number;"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{LIMITS, NOW};
    use super::*;

    fn sample(message: &Value) -> Sample {
        let headers = message["headers"].as_object().into_iter().flatten();
        Sample {
            topic: message["topic"].as_str().unwrap_or_default().to_owned(),
            key: message["key"].as_str().map(|key| key.as_bytes().to_vec()),
            headers: headers
                .map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned()))
                .collect(),
            timestamp: message["timestamp"].as_i64().unwrap_or(NOW),
            payload: match &message["value"] {
                Value::String(text) => text.clone().into_bytes(),
                other => other.to_string().into_bytes(),
            },
        }
    }

    fn inferred(messages: &[Value]) -> (Vec<Sample>, String) {
        let samples: Vec<Sample> = messages.iter().map(sample).collect();
        let text = infer(&samples, &LIMITS, NOW).unwrap();
        (samples, text)
    }

    #[test]
    fn messages_of_a_preset_are_recognised() {
        for family in ["zigbee2mqtt", "ttn-v3", "telegraf-json", "line-protocol", "senml"] {
            let path = format!("{}/tests/payloads/{family}/messages.ndjson", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let (_, text) = inferred(&messages);
            assert!(text.starts_with(&format!("# The preset {family}:")), "{family}: {text}");
        }
    }

    #[test]
    fn a_draft_says_what_was_seen_and_guessed_and_reads_the_samples() {
        let at = 1_795_600_000_123_i64;
        let flat = json!({"topic": "plant", "key": "k", "value": {"deviceId": "pump-1", "site": "north", "ts": at, "t.c": 21.5, "state": {"on": true}}});
        let batch = json!({"headers": {"site": "w"}, "value": {"gw": "g", "ts": at, "readings": [
            {"id": "m-1", "name": "energy", "value": 1.5}, {"id": "m-2", "name": "valve", "value": "OPEN"}]}});
        let list = json!({"value": [{"serial": 7, "time": "2026-11-25T09:46:40", "humidity": 40}]});
        for (message, readings, words) in [
            (
                flat,
                1,
                vec![
                    "topics = [\"plant\"]",
                    "sensor = \"value.deviceId\"",
                    "location = \"value.site\"",
                    "format = \"ms\"",
                    "# guessed",
                    "\"deviceId\"",
                ],
            ),
            (
                batch,
                2,
                vec![
                    "each = \"value.readings\"",
                    "sensor = \"each.id\"",
                    "name = \"each.name\"",
                    "location = \"header.site\"",
                    "value.ts",
                ],
            ),
            (list, 1, vec!["each = \"value\"", "sensor = \"each.serial\"", "time_zone"]),
        ] {
            let (samples, text) = inferred(&[message]);
            let mapping = Mapping::parse("draft", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let mapped = mapping
                .read(&samples[0].record(), &LIMITS, NOW)
                .unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!((mapped.readings.len(), mapped.faults.len()), (readings, 0), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(text.contains("1 of 1 messages become"), "{text}");
        }
        let flat = inferred(&[json!({"value": {"id": "a", "ts": at, "t": 1}})]).1;
        assert!(flat.contains("# value.t: seen once, such as 1"), "{flat}");
        assert!(infer(&[], &LIMITS, NOW).is_err());
        let noise = Sample { payload: b"\xff\xfe".to_vec(), ..Sample::default() };
        assert!(infer(&[noise], &LIMITS, NOW).is_err());
    }
}
