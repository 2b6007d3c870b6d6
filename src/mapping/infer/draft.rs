//! The text of a drafted mapping.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::formats::{self, Payloads};
use super::keys::{self, KeyPattern};
use super::names;
use super::observed::{self, Each, Place};
use super::pairs::pair;
use super::texts::{of_texts, sentinels};
use super::units::{self, Stated};
use super::{Sample, quoted, times, unit_topics};
use crate::mapping::path::Path;
use crate::mapping::units::Conversion;

/// Sources that are drafted at most, one for each topic.
const MOST_SOURCES: usize = 20;
/// Members that are listed in comments at most.
const MOST_LISTED: usize = 60;

/// # Errors
/// Why none can be drafted.
pub(super) fn draft(samples: &[Sample]) -> Result<String, String> {
    let mut by_topic: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_topic.entry(&sample.topic).or_default().push(sample);
    }
    if by_topic.len() == 1 || by_topic.len() > MOST_SOURCES {
        let topics: Vec<&str> = by_topic.keys().copied().collect();
        let samples = formats::alike(&samples.iter().collect::<Vec<_>>());
        return Ok(source("draft", &topics, &samples, &formats::read(&samples)?));
    }
    // Topics whose messages look the same share a source.
    let mut groups: BTreeMap<BTreeSet<String>, Vec<&str>> = BTreeMap::new();
    for (topic, samples) in &by_topic {
        let values = formats::read(&formats::alike(samples))?.values;
        let names = observed::places("value", &values.iter().collect::<Vec<_>>());
        let names = names.into_iter().filter(|place| !place.path.contains('[')).map(|place| place.path);
        groups.entry(names.collect()).or_default().push(topic);
    }
    let mut texts = Vec::new();
    for (number, topics) in groups.values().enumerate() {
        let samples: Vec<&Sample> =
            samples.iter().filter(|sample| topics.contains(&sample.topic.as_str())).collect();
        let samples = formats::alike(&samples);
        let name = if groups.len() == 1 { "draft".to_owned() } else { format!("draft-{}", number + 1) };
        texts.push(source(&name, topics, &samples, &formats::read(&samples)?));
    }
    Ok(texts.join("\n"))
}

/// What a source is drafted from.
pub(super) struct Found<'s> {
    pub(super) each: Option<Each>,
    key: Option<KeyPattern>,
    /// In the payload, in the element of `each` first; and in the headers.
    pub(super) places: Vec<Place>,
    samples: &'s [&'s Sample],
}

impl Found<'_> {
    /// Whether a place names messages and not sensors: the `id` of an event, a number that counts them, or an id that is
    /// another one in each message.
    fn is_message_id(&self, place: &Place) -> bool {
        const FEWEST: usize = 10;
        let is_bare = ["id", "uuid", "guid", "messageid", "eventid"]
            .contains(&names::plain(place.last_name()).as_str());
        let is_everywhere = is_bare && place.path.starts_with("value.") && place.count == place.of;
        let texts: BTreeSet<String> = place.examples.iter().map(Value::to_string).collect();
        let is_distinct = place.of >= FEWEST && texts.len() == place.of.min(place.examples.len());
        let number =
            |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        let numbers: Option<Vec<i64>> = place.examples.iter().map(number).collect();
        let counts = numbers.is_some_and(|numbers| {
            numbers.len() > 2 && numbers.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]))
        });
        let is_outermost = Path::parse(&place.path).is_ok_and(|path| path.names().len() == 1);
        self.is_event_id(place) || is_everywhere && (is_distinct || is_outermost && counts)
    }

    /// Of CloudEvents, whose `source` says who sends them.
    fn is_event_id(&self, place: &Place) -> bool {
        let has = |name: &str| self.places.iter().any(|place| place.path == name);
        has("value.specversion") && has("value.source") && place.path == "value.id"
    }
}

fn source(name: &str, topics: &[&str], samples: &[&Sample], payloads: &Payloads) -> String {
    let values: Vec<&Value> = payloads.values.iter().collect();
    let each = match payloads.is_list {
        true => Some(Each { path: "value".to_owned(), is_keyed: false }),
        false => match &payloads.each {
            Some(path) => Some(Each { path: path.clone(), is_keyed: false }),
            None => observed::each(&payloads.values),
        },
    };
    let mut places = Vec::new();
    if let Some(each) = &each {
        let elements: Vec<&Value> = values.iter().flat_map(|value| each.elements(value)).collect();
        places.extend(observed::places("each", &elements));
    }
    let is_inside = |place: &Place| {
        each.as_ref().is_some_and(|each| {
            each.path == "value"
                || place.path.strip_prefix(&each.path).is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    };
    places.extend(observed::places("value", &values).into_iter().filter(|place| !is_inside(place)));
    places.extend(headers(samples));
    let one_value = if payloads.is_list { None } else { path_of_one_value(payloads) };
    let key = keys::pattern(samples, one_value.is_some());
    let found = Found { each, key, places, samples };
    let mut text = format!("[[source]]\nname = \"{name}\"\n");
    if topics.iter().any(|topic| !topic.is_empty()) {
        let topics: Vec<String> = topics.iter().map(|topic| quoted(topic)).collect();
        let _ = writeln!(text, "topics = [{}]", topics.join(", "));
    }
    text.push_str(&payloads.lines);
    let mut body = String::new();
    let used = targets(&found, &mut body);
    if let Some(key) = &found.key
        && (body.contains("\"capture.") || key.has_metric)
    {
        let _ = writeln!(text, "key_pattern = '{}'    # guessed: what the parts of the key are", key.pattern);
    }
    if let Some(each) = &found.each
        && !payloads.is_list
    {
        let _ = writeln!(text, "each = {}    # guessed: one message holds many readings", quoted(&each.path));
    }
    text.push('\n');
    text.push_str(&body);
    let has_metric = found.key.as_ref().is_some_and(|key| key.has_metric);
    match one_value.filter(|_| has_metric || payloads.is_text) {
        Some(path) => of_one_value(&found, &path, &payloads.values, &mut text),
        None => metrics(&found, payloads.metrics, &used, &mut text),
    }
    text
}

fn headers(samples: &[&Sample]) -> Vec<Place> {
    let mut found: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, text) in samples.iter().flat_map(|sample| &sample.headers) {
        found.entry(name).or_default().push(text.as_str().into());
    }
    let is_writable = |name: &str| !name.is_empty() && !name.contains(['.', '"', '[', ']', '*']);
    let places = found.into_iter().filter(|(name, _)| is_writable(name)).map(|(name, examples)| Place {
        path: format!("header.{name}"),
        name: name.to_owned(),
        count: examples.len(),
        of: samples.len(),
        examples,
    });
    places.collect()
}

/// Writes where each target comes from; answers with the paths that are used.
fn targets(found: &Found<'_>, text: &mut String) -> Vec<String> {
    let pair = pair(found);
    let mut used: Vec<String> =
        pair.iter().flat_map(|(name, value)| [name.path.clone(), value.path.clone()]).collect();
    let is_name = |place: &Place| {
        place.examples.iter().all(|value| value.is_string() || value.is_i64() || value.is_u64())
            && !place.path.contains('[')
    };
    let best = |used: &[String], rank: fn(&str) -> Option<usize>| {
        let free = found.places.iter().filter(|place| is_name(place) && !used.contains(&place.path));
        free.filter_map(|place| Some((rank(place.last_name())?, place)))
            // What few messages have is no good name for all, nor is what names the message itself.
            .min_by_key(|(rank, place)| {
                (place.count * 2 < place.of, found.is_message_id(place), *rank, place.path.len())
            })
            .map(|(rank, place)| (rank, place.clone()))
    };
    let time = moment(found, &used);
    used.extend(time.iter().flat_map(|time| time.used.clone()));
    // Failing a name that tells, a text that looks like an id.
    let by_value = || {
        let is_id = |place: &&Place| {
            place.count == place.of
                && !used.contains(&place.path)
                && !place.path.contains('[')
                && names::pair_value_rank(place.last_name()).is_none()
                && names::time_rank(place.last_name()).is_none()
                && names::about_unit(place.last_name()).is_none()
                && !names::is_label(place.last_name())
                && place.examples.iter().all(|value| value.as_str().is_some_and(names::is_identifier))
        };
        found.places.iter().find(is_id).map(|place| (names::FAINT, place.clone()))
    };
    let sensor = match best(&used, names::sensor_rank) {
        Some((_, place)) if found.is_event_id(&place) => {
            let source = found.places.iter().find(|place| place.path == "value.source");
            source.map(|place| (names::FAINT - 1, place.clone()))
        }
        other => other,
    };
    let sensor = sensor.or_else(by_value);
    used.extend(sensor.iter().map(|(_, place)| place.path.clone()));
    let location = best(&used, names::location_rank);
    used.extend(location.iter().map(|(_, place)| place.path.clone()));
    // A number is the code of something else: a data type, a kind of message.
    let kind = best(&used, names::type_rank).filter(|(_, place)| place.examples.iter().all(Value::is_string));
    used.extend(kind.iter().map(|(_, place)| place.path.clone()));

    let of_place = |place: &Place| format!("{}    # {}", quoted(&place.path), place.noted());
    let key = found.key.as_ref();
    let location = match (location, key) {
        (Some((_, place)), _) => of_place(&place),
        (None, Some(key)) if key.has_location => "\"capture.location\"    # guessed: from the key".to_owned(),
        (None, _) => "{ constant = \"unknown\" }    # guessed: no field looks like a location".to_owned(),
    };
    let kind = match kind {
        Some((_, place)) => of_place(&place),
        None => "{ constant = \"device\" }    # guessed: no field looks like a device type".to_owned(),
    };
    let is_keyed = found.each.as_ref().is_some_and(|each| each.is_keyed);
    let has_key = found.samples.iter().all(|sample| {
        sample.key.as_deref().is_some_and(|key| std::str::from_utf8(key).is_ok_and(|key| !key.is_empty()))
    });
    let sensor = match (sensor, key) {
        (Some((rank, place)), _) if rank < names::FAINT && !is_keyed => of_place(&place),
        _ if is_keyed => "\"each-name\"    # guessed: the names are those of sensors".to_owned(),
        (_, Some(_)) => "\"capture.sensor\"    # guessed: from the key".to_owned(),
        _ if has_key => "\"key\"    # guessed: no field looks like a sensor".to_owned(),
        (Some((_, place)), None) => of_place(&place),
        (None, None) => "{ constant = \"sensor\" }    # guessed: no field looks like a sensor".to_owned(),
    };
    let _ = writeln!(text, "location = {location}\ndevice_type = {kind}\nsensor = {sensor}");
    match time {
        Some(time) => {
            let _ = writeln!(text, "recorded_timestamp = {}    # {}", time.text, time.note);
        }
        None => text.push_str(
            "# guessed: no field looks like a time, so the record's own timestamp is taken\nrecorded_timestamp = \"timestamp\"\n",
        ),
    }
    used
}

struct Moment {
    text: String,
    note: String,
    used: Vec<String>,
}

fn moment(found: &Found<'_>, taken: &[String]) -> Option<Moment> {
    let free = || found.places.iter().filter(|place| !taken.contains(&place.path));
    let ranked = free().filter(|place| !place.path.contains('[')).filter_map(|place| {
        let (text, guess) = times::format(&place.examples)?;
        let is_number = !text.starts_with("PATH") && guess.contains("unit");
        let rank = match names::time_rank(place.last_name()) {
            Some(rank) => rank,
            None if is_number => names::FAINT + 20,
            None => names::FAINT,
        };
        // An element's own time is better than one for all.
        let level = match place.path.starts_with("each") {
            true => 0,
            false if place.path.starts_with("header.") => 2,
            false => 1,
        };
        Some(((rank >= names::FAINT, level, rank, place.path.len()), place, text, guess))
    });
    if let Some((_, place, text, guess)) = ranked.min_by_key(|(rank, ..)| *rank) {
        let is_rare = place.count * 2 < place.of;
        if !is_rare {
            let mut text = text.replace("PATH", &quoted(&place.path));
            if place.count < place.of {
                text = match text.strip_suffix(" }") {
                    Some(open) => format!("{open}, default = \"timestamp\" }}"),
                    None => format!("{{ from = {text}, default = \"timestamp\" }}"),
                };
            }
            let note = match guess {
                "" => place.noted(),
                guess => format!("{guess}; {}", place.noted()),
            };
            return Some(Moment { text, note, used: vec![place.path.clone()] });
        }
    }
    let named: Vec<Place> = free().filter(|place| !place.path.contains('[')).cloned().collect();
    let (places, text) = times::of_two(&named)?;
    let used = places.iter().map(|place| place.path.clone()).collect();
    Some(Moment { text, note: "guessed: the order of day and month, and the zone".to_owned(), used })
}

/// A payload of one value, named by the key.
fn of_one_value(found: &Found<'_>, path: &str, values: &[Value], text: &mut String) {
    let examples: Vec<&Value> = match Path::parse(path) {
        Ok(path) => values.iter().filter_map(|value| path.follow(value)).collect(),
        Err(_) => Vec::new(),
    };
    let keys = of_texts(examples.iter().copied());
    let path = quoted(path);
    let has_metric = found.key.as_ref().is_some_and(|key| key.has_metric);
    if let Some(units) = unit_topics::found(found.samples).filter(|_| has_metric) {
        units.written(&path, text);
        text.push_str(&keys);
    } else if has_metric {
        let _ = write!(text, "\n[[source.fields]]\nname = \"capture.metric\"\nvalue = {path}\n{keys}");
    } else {
        let _ = write!(text, "\n[source.metrics.value]\nfrom = {path}\n{keys}");
    }
}

/// Where the value is, if payloads have one alone: they are texts, or objects such as `{"value": 21.5}`.
fn path_of_one_value(payloads: &Payloads) -> Option<String> {
    if payloads.is_text {
        return Some("value".to_owned());
    }
    let only = |value: &Value| match value.as_object()?.iter().collect::<Vec<_>>()[..] {
        [(name, member)] if !member.is_object() && !member.is_array() => {
            names::pair_value_rank(name).map(|_| name.clone())
        }
        _ => None,
    };
    let name = only(payloads.values.first()?)?;
    payloads.values.iter().all(|value| only(value).as_ref() == Some(&name)).then(|| format!("value.{name}"))
}

fn metrics(found: &Found<'_>, root: Option<&str>, used: &[String], text: &mut String) {
    let root = root.unwrap_or(if found.each.is_some() { "each" } else { "value" });
    text.push_str("\n[[source.fields]]\n");
    if let Some((name, value)) = pair(found) {
        let _ = writeln!(text, "name = {}    # {}", quoted(&name.path), name.noted());
        let _ = writeln!(text, "value = {}    # {}", quoted(&value.path), value.noted());
        let unit = found.places.iter().find(|place| {
            place.parent() == name.parent() && names::is_unit(place.last_name()) && is_known_unit(place)
        });
        if let Some(unit) = unit {
            let _ = writeln!(text, "unit = {}    # {}", quoted(&unit.path), unit.noted());
        }
        let metrics: BTreeSet<&str> = name.examples.iter().filter_map(Value::as_str).collect();
        text.push_str(&columns(metrics.iter().map(|metric| (*metric, None)), &Stated::default()));
        text.push_str(&of_texts(value.examples.iter()));
        text.push_str(&sentinels(std::iter::once(&value)));
        let taken = [&name.path, &value.path];
        let others = found.places.iter().filter(|place| {
            place.path.starts_with(&format!("{root}."))
                && !used.contains(&place.path)
                && !taken.contains(&&place.path)
        });
        for place in others.filter(|place| unit.is_none_or(|unit| unit.path != place.path)).take(MOST_LISTED)
        {
            let _ = writeln!(text, "# {}: not stored; {}", place.path, place.noted());
        }
        text.push_str(&left_out(found, used));
        return;
    }
    let prefix = format!("{root}.");
    let members: Vec<(&Place, &str)> = found
        .places
        .iter()
        .filter(|place| place.path.starts_with(&prefix) || place.path.starts_with(&format!("{root}[")))
        .map(|place| (place, below(place, root)))
        .collect();
    let free: Vec<(&Place, &str)> =
        members.iter().filter(|(place, _)| !used.contains(&place.path)).copied().collect();
    let _ = writeln!(text, "from = \"{root}.**\"");
    // An object for each metric, with its value in it.
    let numbers: Vec<&str> =
        free.iter().filter(|(place, _)| place.is_number()).map(|(_, name)| *name).collect();
    let suffix = [".value", ".Value"].into_iter().find(|suffix| {
        !numbers.is_empty()
            && numbers.iter().all(|name| name.strip_suffix(suffix).is_some_and(|it| !it.contains('.')))
    });
    let stated = units::stated(&free);
    if let Some(suffix) = suffix {
        let _ = writeln!(text, "keep = [\"*{suffix}\"]    # guessed: an object for each metric");
        let mut renames = vec![format!("\"*{suffix}\" = \"*\"")];
        let mut own_units = Vec::new();
        for name in &numbers {
            let base = name.strip_suffix(suffix).unwrap_or(name);
            let Some((column, unit)) = names::column(base) else { continue };
            if stated.is_unknown(name) {
                renames.extend((base == column).then(|| format!("{} = \"{column}_raw\"", quoted(name))));
                continue;
            }
            let is_taken = base != column && numbers.iter().any(|it| it.strip_suffix(suffix) == Some(column));
            if is_taken {
                continue;
            }
            if base != column {
                renames.push(format!("{} = \"{column}\"", quoted(name)));
            }
            own_units.extend(
                unit.filter(|_| !stated.is_known(name)).map(|unit| format!("{} = \"{unit}\"", quoted(name))),
            );
        }
        let _ = writeln!(text, "rename = {{ {} }}", renames.join(", "));
        if !own_units.is_empty() {
            let _ = writeln!(text, "units = {{ {} }}    # guessed: from names", own_units.join(", "));
        }
    } else {
        let left_out: Vec<String> = members
            .iter()
            .filter(|(place, _)| used.contains(&place.path))
            .map(|(_, name)| quoted(name))
            .collect();
        if !left_out.is_empty() {
            let _ = writeln!(text, "drop = [{}]    # used above", left_out.join(", "));
        }
        text.push_str(&columns(free.iter().map(|(place, name)| (*name, Some(*place))), &stated));
    }
    text.push_str(&units::written(&stated, suffix));
    text.push_str(&of_texts(free.iter().flat_map(|(place, _)| &place.examples)));
    text.push_str(&sentinels(free.iter().map(|(place, _)| *place)));
    let labels: Vec<String> = free
        .iter()
        .filter(|(place, name)| {
            names::is_label(place.last_name())
                && looks_like_numbers(place)
                && suffix.is_none_or(|suffix| name.ends_with(suffix))
        })
        .map(|(_, name)| quoted(name))
        .collect();
    if !labels.is_empty() {
        let _ = writeln!(text, "text = [{}]    # guessed: labels, and no numbers", labels.join(", "));
    }
    for (place, _) in free.iter().take(MOST_LISTED) {
        let _ = writeln!(text, "# {}: {}", place.path, place.noted());
    }
    if free.len() > MOST_LISTED {
        let _ = writeln!(text, "# … and {} more", free.len() - MOST_LISTED);
    }
    if free.iter().any(|(place, _)| place.path.contains('[')) {
        text.push_str(
            "# What stands in arrays is named by its index. If each element is a reading of its own, see the recipes for arrays in\n\
             # docs/mapping.md.\n",
        );
    }
    text.push_str(&left_out(found, used));
}

/// What messages hold beside the elements of `each`, for a comment: a draft does not store it.
fn left_out(found: &Found<'_>, used: &[String]) -> String {
    let Some(each) = found.each.as_ref().filter(|each| each.path != "value") else { return String::new() };
    let beside = found.places.iter().filter(|place| {
        place.path.starts_with("value.") && !used.contains(&place.path) && !place.path.contains('[')
    });
    let beside: Vec<&Place> = beside.collect();
    let mut text = String::new();
    if !beside.is_empty() {
        let _ = writeln!(text, "# Not stored, because it is not in {}:", each.path);
    }
    for place in beside.iter().take(MOST_LISTED) {
        let _ = writeln!(text, "# {}: {}", place.path, place.noted());
    }
    text
}

/// The name of a place as a wildcard below `root` gives it.
fn below<'p>(place: &'p Place, root: &str) -> &'p str {
    let inside = root.strip_prefix("each").or_else(|| root.strip_prefix("value")).unwrap_or_default();
    match inside.strip_prefix('.') {
        Some(inside) => {
            place.name.strip_prefix(inside).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&place.name)
        }
        None => &place.name,
    }
}

/// Whether texts there would be taken as numbers.
fn looks_like_numbers(place: &Place) -> bool {
    place.examples.iter().any(|value| value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_ok()))
        && place.examples.iter().all(Value::is_string)
}

fn is_known_unit(place: &Place) -> bool {
    place
        .examples
        .iter()
        .all(|unit| unit.as_str().is_some_and(|unit| Conversion::between(unit, unit).is_ok()))
}

/// `rename` and `units` for what has a column under another name or in another unit.
/// Of those in `stated`, messages state the unit.
fn columns<'p>(members: impl Iterator<Item = (&'p str, Option<&'p Place>)>, stated: &Stated) -> String {
    let members: Vec<_> = members.collect();
    let (mut rename, mut units, mut kelvin, mut taken) =
        (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    taken.extend(members.iter().map(|(name, _)| *name));
    // What a nested name ends with, unless several end so.
    let mut at_end: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in &members {
        if let Some((column, _)) = names::column(name).or_else(|| names::column_at_end(name)) {
            *at_end.entry(column).or_default() += 1;
        }
    }
    for (name, place) in &members {
        let nested = || {
            let is_value = place
                .is_some_and(|place| !place.examples.iter().all(Value::is_string) || place.is_measured());
            names::column_at_end(name).filter(|(column, _)| is_value && at_end.get(column) == Some(&1))
        };
        let Some((column, mut unit)) = names::column(name).or_else(nested) else { continue };
        // A pressure of the air is about 1000 hPa.
        let by_size = |low: f64, high: f64| {
            place.is_some_and(|place| {
                place.examples.iter().all(|value| value.as_f64().is_some_and(|it| it > low && it < high))
            })
        };
        if stated.is_unknown(name) {
            rename.extend((*name == column).then(|| format!("{} = \"{column}_raw\"", quoted(name))));
            continue;
        }
        if stated.is_known(name) {
            unit = None;
        } else if column == "temperature" && unit.is_none() && by_size(200.0, 340.0) {
            kelvin.push(format!("{} = \"K\"", quoted(name)));
        } else if column == "pressure" && unit.is_none() {
            unit = match (by_size(85_000.0, 110_000.0), by_size(85.0, 110.0)) {
                (true, _) => Some("Pa"),
                (_, true) => Some("kPa"),
                _ => None,
            };
        }
        if *name != column && taken.insert(column) {
            rename.push(format!("{} = \"{column}\"", quoted(name)));
        } else if *name != column {
            continue;
        }
        units.extend(unit.map(|unit| format!("{} = \"{unit}\"", quoted(name))));
    }
    let mut text = String::new();
    if !rename.is_empty() {
        let _ = writeln!(text, "rename = {{ {} }}    # guessed: columns by their names", rename.join(", "));
    }
    if !units.is_empty() {
        let _ = writeln!(text, "units = {{ {} }}    # guessed: from names or sizes", units.join(", "));
    }
    if !kelvin.is_empty() {
        let _ = writeln!(text, "# units = {{ {} }}    # if such values are in kelvin", kelvin.join(", "));
    }
    text
}
