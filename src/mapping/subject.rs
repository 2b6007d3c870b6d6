//! Whom a message is about that holds no reading: as far as it says so itself.

use serde_json::Value;
use uuid::Uuid;

use super::source::Source;
use super::{Mapping, Record};
use crate::reading::{DecodeLimits, sensor, shown};

/// The sensor that a message is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    pub id: Option<Uuid>,
    /// What the message calls it.
    pub name: Option<String>,
}

impl Subject {
    /// By the name that a mapping found.
    fn called(name: String) -> Self {
        let (id, name) = sensor::identify(name);
        Self { id: Some(id), name }
    }

    /// Of a message in the built-in format, or of its key if the message does not say it.
    pub fn of_wire(key: Option<&[u8]>, payload: &[u8]) -> Option<Self> {
        let message: Value = serde_json::from_slice(payload).unwrap_or_default();
        let text = |field: &str| match &message[field] {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let key = || std::str::from_utf8(key?).ok().filter(|key| Uuid::try_parse(key).is_ok());
        let written = text("iot_sensor_id").or_else(|| key().map(str::to_owned));
        let id = written.as_deref().and_then(|written| Uuid::try_parse(written).ok());
        // What is there instead of an id tells people which sensor it is.
        let name = text("sensor_name").or_else(|| written.filter(|_| id.is_none()));
        (id.is_some() || name.is_some()).then(|| Self { id, name: name.map(|name| shown(&name)) })
    }
}

impl Mapping {
    /// The sensor that a refused message is about, and if `error` names an element, that this is about.
    pub fn subject(&self, record: &Record<'_>, error: &str, limits: &DecodeLimits) -> Option<Subject> {
        let element = error
            .strip_prefix("element ")
            .and_then(|rest| rest.split_once(" of "))
            .and_then(|(index, _)| index.parse().ok());
        let mut fitting = self.sources.iter().filter_map(|source| Some((source, source.matches(record)?)));
        let taking = |(source, captures): &(&Source, _)| !source.leaves(record, captures, limits);
        let (source, captures) = fitting.find(taking)?;
        source.sensor_of(record, &captures, element, limits).map(Subject::called)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DecodeLimits = DecodeLimits {
        max_message_bytes: 10_000,
        max_future_skew: std::time::Duration::from_secs(60),
        is_any_time: false,
    };

    #[test]
    fn a_message_of_the_built_in_format_names_its_sensor_by_id_name_or_key() {
        let id = "6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5";
        let of = |key: Option<&str>, payload: &str| {
            Subject::of_wire(key.map(str::as_bytes), payload.as_bytes())
                .map(|subject| (subject.id.map(|id| id.to_string()), subject.name))
        };
        let by_id = Some((Some(id.to_owned()), None));
        assert_eq!(of(None, &format!("{{\"iot_sensor_id\":\"{id}\"}}")), by_id);
        assert_eq!(of(Some(id), "{"), by_id, "a broken message has its key");
        assert_eq!(of(None, "{\"iot_sensor_id\":7}"), Some((None, Some("7".to_owned()))));
        let named = of(None, &format!("{{\"iot_sensor_id\":\"{id}\",\"sensor_name\":\"pump\"}}"));
        assert_eq!(named, Some((Some(id.to_owned()), Some("pump".to_owned()))));
        for (key, payload) in [(None, "{}"), (Some("k"), "\u{ff}"), (None, "[1]")] {
            assert_eq!(of(key, payload), None);
        }
    }

    #[test]
    fn a_refused_element_is_about_its_own_sensor() {
        let mapping = Mapping::parse(
            "m.toml",
            "[[source]]\neach = \"value.list\"\nlocation = { constant = \"l\" }\ndevice_type = { constant = \"d\" }\n\
             sensor = \"each.id\"\nmetrics = { temperature = \"each.t\" }\n",
        )
        .unwrap();
        let headers = |_: &str| None;
        let payload = br#"{"list":[{"id":"a","t":1},{"id":"b","t":1e60},{"t":2}]}"#;
        let record = Record { topic: "t", key: None, headers: &headers, timestamp: Some(1), payload };
        let of = |error: &str| mapping.subject(&record, error, &LIMITS).and_then(|subject| subject.name);
        assert_eq!(of("element 1 of 3: field temperature: 1e60").as_deref(), Some("b"));
        assert_eq!(of("element 2 of 3: sensor: each.id is missing"), None);
        // A refusal of the whole: the first that says it.
        assert_eq!(of("each: is no array").as_deref(), Some("a"));
    }
}
