//! Keys that are MQTT topics: which part is the sensor, the location, the metric.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Sample;

/// A `key_pattern`, and the captures that it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyPattern {
    pub(super) pattern: String,
    pub(super) has_location: bool,
    pub(super) has_metric: bool,
}

/// Parts that say what a message is, and not of what.
const VERBS: &[&str] = &[
    "state",
    "status",
    "sensor",
    "up",
    "event",
    "events",
    "telemetry",
    "data",
    "rpc",
    "value",
    "json",
    "measurement",
    "measurements",
    "readings",
    "attributes",
    "tele",
    "stat",
    "out",
    "sensors",
    "devices",
    "device",
];

fn is_verb(part: &str) -> bool {
    VERBS.contains(&part.to_ascii_lowercase().as_str())
}

/// Whether a part looks like an id: a serial number, a MAC address, a name with a number.
fn is_id(part: &str) -> bool {
    part.len() > 2 && part.chars().any(|char| char.is_ascii_digit()) || part.matches([':', '-']).count() > 1
}

/// `None` if the keys are no topics, or have different depths and messages of more than one value.
pub(super) fn pattern(samples: &[&Sample], is_text: bool) -> Option<KeyPattern> {
    let keys: Option<Vec<Vec<&str>>> = samples
        .iter()
        .map(|sample| {
            let key = std::str::from_utf8(sample.key.as_deref()?).ok()?;
            key.contains('/').then(|| key.split('/').collect())
        })
        .collect();
    let keys = keys?;
    let depth = keys.first()?.len();
    if keys.iter().flatten().any(|part| part.is_empty()) {
        return None;
    }
    if keys.iter().any(|key| key.len() != depth) {
        // Of one value each, the last part is its name, or the one before a word that says what all messages are.
        let has_names = is_text && keys.iter().all(|key| key.len() > 1);
        let last = keys.iter().filter(|key| key.len() > 2).filter_map(|key| key.last());
        let ends: BTreeSet<String> =
            last.filter(|part| is_verb(part)).map(|part| regex::escape(part)).collect();
        return has_names.then(|| KeyPattern {
            pattern: match ends.is_empty() {
                true => "^(?<sensor>.+)/(?<metric>[^/]+)$".to_owned(),
                false => {
                    let ends: Vec<_> = ends.into_iter().collect();
                    format!("^(?<sensor>.+?)/(?<metric>[^/]+)(?:/(?:{}))?$", ends.join("|"))
                }
            },
            has_location: false,
            has_metric: true,
        });
    }
    let parts: Vec<BTreeSet<&str>> = (0..depth).map(|at| keys.iter().map(|key| key[at]).collect()).collect();
    let is_fixed = |at: usize| parts[at].len() == 1;
    let verb = |at: usize| parts[at].iter().all(|part| is_verb(part));
    // The last part that says something.
    let last = (0..depth).rev().find(|at| !verb(*at))?;
    let metric = is_text.then_some(last);
    let end = if is_text { last } else { last + 1 };
    let free: Vec<usize> = (0..end).filter(|at| !verb(*at)).collect();
    let by_id = free.iter().rev().copied().find(|at| parts[*at].iter().all(|part| is_id(part)));
    let varied = free.iter().rev().copied().find(|at| !is_fixed(*at));
    let sensor = by_id.or(varied).or(free.last().copied()).filter(|at| *at > 0 || depth == 1)?;
    let location = (0..sensor)
        .rev()
        .find(|at| !verb(*at) && (*at > 0 || !is_fixed(*at)) && !parts[*at].iter().all(|part| is_id(part)));
    let mut pattern = String::from("^");
    for (at, values) in parts.iter().enumerate() {
        let slash = if at + 1 < depth { "/" } else { "" };
        let group = match at {
            at if at == sensor => Some("sensor"),
            at if Some(at) == location => Some("location"),
            at if Some(at) == metric => Some("metric"),
            _ => None,
        };
        let _ = match (group, values.first()) {
            (Some(group), _) => write!(pattern, "(?<{group}>[^/]+){slash}"),
            (None, Some(only)) if values.len() == 1 => write!(pattern, "{}{slash}", regex::escape(only)),
            (None, _) => write!(pattern, "[^/]+{slash}"),
        };
    }
    pattern.push('$');
    // A pattern in single quotes cannot have one.
    let is_writable = !pattern.contains('\'') && !pattern.chars().any(char::is_control);
    is_writable.then_some(KeyPattern {
        pattern,
        has_location: location.is_some(),
        has_metric: metric.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(keys: &[&str], is_text: bool) -> Option<String> {
        let samples: Vec<Sample> = keys
            .iter()
            .map(|key| Sample { key: Some(key.as_bytes().to_vec()), ..Sample::default() })
            .collect();
        pattern(&samples.iter().collect::<Vec<_>>(), is_text).map(|found| found.pattern)
    }

    #[test]
    fn the_parts_of_a_topic_are_told_apart() {
        for (keys, is_text, expected) in [
            (
                &["zigbee2mqtt/kitchen/th-1", "zigbee2mqtt/hall/th-2"][..],
                false,
                Some("^zigbee2mqtt/(?<location>[^/]+)/(?<sensor>[^/]+)$"),
            ),
            (
                &["shellies/shellyht-AB12/sensor/temperature"],
                true,
                Some("^shellies/(?<sensor>[^/]+)/sensor/(?<metric>[^/]+)$"),
            ),
            (
                &["plant/n/press/up", "plant/n/oven/up"],
                false,
                Some("^plant/(?<location>[^/]+)/(?<sensor>[^/]+)/up$"),
            ),
            (&["a/b", "a/b/c"], false, None),
            (&["a/status", "a/b/t/state"], true, Some("^(?<sensor>.+?)/(?<metric>[^/]+)(?:/(?:state))?$")),
            (&["a/b", "a/b/c"], true, Some("^(?<sensor>.+)/(?<metric>[^/]+)$")),
            (&["pump-1"], false, None),
            (&["a//b"], false, None),
        ] {
            assert_eq!(found(keys, is_text).as_deref(), expected, "{keys:?}");
        }
    }
}
