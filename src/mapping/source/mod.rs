//! One `[[source]]`, and how it turns a message into readings: `compile` checks it, `message` is what paths are followed in,
//! `element` makes a reading of a message or of an element of it, `values` has the rules for names and texts, `explain` says
//! each step.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::mapping::compression::Compression;
use crate::mapping::file::{FieldsShape, MomentShape, TargetShape, ValueShape};
use crate::mapping::jq::Program;
use crate::mapping::path::Path;
use crate::mapping::payload::{CsvShape, PayloadFormat};
use crate::mapping::units::Conversion;
use crate::mapping::{Mapped, Record, sparkplug};
use crate::reading::decode::build::ReadingBuilder;
use crate::reading::{DecodeLimits, Rejection};
use crate::time::Zone;

mod compile;
mod element;
mod explain;
mod message;
mod values;

use compile::PayloadSchema;
pub(in crate::mapping) use compile::Surroundings;
use message::{Message, members, take_groups, unmapped};

#[derive(Debug)]
pub(in crate::mapping) struct Source {
    pub(in crate::mapping) name: String,
    pub(in crate::mapping) topics: Vec<String>,
    pub(in crate::mapping) topic_pattern: Option<Regex>,
    key_pattern: Option<Regex>,
    format: PayloadFormat,
    compression: Option<Compression>,
    csv: CsvShape,
    schema: PayloadSchema,
    is_dropped: bool,
    only: Option<Program>,
    only_each: Option<Program>,
    transform: Option<Program>,
    each: Option<Path>,
    location: TargetShape,
    device_type: TargetShape,
    sensor: TargetShape,
    recorded_timestamp: MomentShape,
    zone: Option<Zone>,
    tags: Vec<(String, TargetShape)>,
    metrics: Vec<(String, ValueShape, Option<Conversion>)>,
    /// With the conversions of `units` by exact names; a name with a `*` may stand for several columns.
    fields: Vec<(FieldsShape, HashMap<String, Conversion>)>,
}

/// What identifies a reading in a message.
type Identity = (String, String, uuid::Uuid, i64);

impl Source {
    pub(in crate::mapping) fn format(&self) -> PayloadFormat {
        self.format
    }

    pub(in crate::mapping) fn csv(&self) -> &CsvShape {
        &self.csv
    }

    pub(in crate::mapping) fn is_dropped(&self) -> bool {
        self.is_dropped
    }

    /// What the named groups of its topic_pattern match.
    pub(in crate::mapping) fn topic_captures(&self, topic: &str) -> HashMap<String, String> {
        let mut captures = HashMap::new();
        if let Some(pattern) = &self.topic_pattern
            && let Some(found) = pattern.captures(topic)
        {
            take_groups(pattern, &found, &mut captures);
        }
        captures
    }

    /// Whether a message is of this source, by its topic and its key; with what the named groups matched.
    pub(in crate::mapping) fn matches(&self, record: &Record<'_>) -> Option<HashMap<String, String>> {
        let mut captures = HashMap::new();
        let mut take = |pattern: &Regex, found: &Captures<'_>| take_groups(pattern, found, &mut captures);
        let is_named = self.topics.iter().any(|topic| topic == record.topic);
        match &self.topic_pattern {
            Some(pattern) => match pattern.captures(record.topic) {
                Some(found) => take(pattern, &found),
                None if !is_named => return None,
                None => {}
            },
            None if !self.topics.is_empty() && !is_named => return None,
            None => {}
        }
        if let Some(pattern) = &self.key_pattern {
            let key = std::str::from_utf8(record.key?).ok()?;
            take(pattern, &pattern.captures(key)?);
        }
        Some(captures)
    }

    pub(in crate::mapping) fn read(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        if self.is_dropped {
            return Ok(Mapped::skipped());
        }
        let Some(value) = self.parse(record, limits)? else { return Ok(Mapped::skipped()) };
        self.read_value(record, captures, value, limits, now)
    }

    /// A payload that is a value already, as rows of files with columns are.
    pub(in crate::mapping) fn read_value(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        value: Value,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        let mut message = Message { record, captures, value, key: None, each: None };
        if self.key_paths() {
            message.key = record.key.and_then(|key| serde_json::from_slice(key).ok());
        }
        if let Some(only) = &self.only {
            let holds = only.holds(message.to_json());
            if !holds.map_err(|problem| unmapped("only", problem))? {
                return Ok(Mapped::skipped());
            }
        }
        if let Some(transform) = &self.transform {
            message.value =
                transform.run(message.to_json()).map_err(|problem| unmapped("transform", problem))?;
        }
        let Some(each) = &self.each else {
            let (identity, name, builder) = self.element(&message)?;
            let reading = builder.finish(identity, name, limits, now)?;
            return Ok(Mapped { readings: vec![reading], ..Mapped::default() });
        };
        self.elements(message, each, limits, now)
    }

    /// `None` for messages that hold no readings by their format.
    fn parse(&self, record: &Record<'_>, limits: &DecodeLimits) -> Result<Option<Value>, Rejection> {
        let payload = match self.compression {
            Some(compression) => Cow::Owned(compression.expand(record.payload, limits.max_message_bytes)?),
            None => Cow::Borrowed(record.payload),
        };
        let value = match &self.schema {
            PayloadSchema::None => self.format.parse(&payload, &self.csv, record.timestamp),
            PayloadSchema::Local(schema) => schema.read(&payload),
            PayloadSchema::Registry(schemas) => schemas.read(self.format, &payload),
            PayloadSchema::Births(births) => return sparkplug::read(record, births),
        };
        value.map(Some)
    }

    /// Whether its payloads are read by births.
    pub(in crate::mapping) fn needs_births(&self) -> bool {
        !self.is_dropped && matches!(self.schema, PayloadSchema::Births(_))
    }

    /// Whether its payloads are read by schemas of a registry.
    pub(in crate::mapping) fn needs_registry(&self) -> bool {
        !self.is_dropped
            && self.format != PayloadFormat::JsonSchema
            && matches!(self.schema, PayloadSchema::Registry(_))
    }

    /// Elements of one sensor and moment are one reading.
    fn elements(
        &self,
        mut message: Message<'_, '_>,
        each: &Path,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        let value = std::mem::take(&mut message.value);
        let elements = match each.follow(&value) {
            Some(found @ (Value::Array(_) | Value::Object(_))) => members(found),
            _ => return Err(unmapped("each", format!("{each} is no array or object"))),
        };
        let count = elements.len();
        let mut left_out = 0;
        let mut mapped = Mapped::default();
        // Each with the index of its first element.
        let mut groups: Vec<(usize, Identity, Option<String>, ReadingBuilder)> = Vec::new();
        let mut places: HashMap<Identity, usize> = HashMap::new();
        for (index, (name, element)) in elements.into_iter().enumerate() {
            let fault = |cause: Rejection| Rejection::Element { index, count, cause: Box::new(cause) };
            match self.takes(&message, &name, element) {
                Ok(true) => {}
                Ok(false) => {
                    left_out += 1;
                    continue;
                }
                Err(cause) => {
                    mapped.faults.push(fault(cause));
                    continue;
                }
            }
            let message = Message {
                value: Value::Null,
                each: Some((&value, name, element)),
                key: message.key.clone(),
                ..message
            };
            match self.element(&message) {
                Ok((identity, sensor_name, builder)) => match places.get(&identity) {
                    Some(&place) => match groups[place].3.merge(builder) {
                        Ok(replaced) => mapped.replaced += replaced,
                        Err(cause) => mapped.faults.push(fault(cause)),
                    },
                    None => {
                        places.insert(identity.clone(), groups.len());
                        groups.push((index, identity, sensor_name, builder));
                    }
                },
                Err(cause) => mapped.faults.push(fault(cause)),
            }
        }
        for (index, identity, name, builder) in groups {
            match builder.finish(identity, name, limits, now) {
                Ok(reading) => mapped.readings.push(reading),
                Err(cause) => mapped.faults.push(Rejection::Element { index, count, cause: Box::new(cause) }),
            }
        }
        mapped.is_skipped = count > 0 && left_out == count;
        Ok(mapped)
    }

    /// Whether `only_each` holds for an element. The program is not given the whole payload, which would be copied for
    /// each of its elements.
    fn takes(&self, message: &Message<'_, '_>, name: &str, element: &Value) -> Result<bool, Rejection> {
        let Some(only) = &self.only_each else { return Ok(true) };
        let mut about = message.to_json();
        about["each"] = element.clone();
        about["each_name"] = name.into();
        only.holds(about).map_err(|problem| unmapped("only_each", problem))
    }
}
