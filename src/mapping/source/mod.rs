//! One `[[source]]`, and how it turns a message into readings: `compile` checks it, `message` is what paths are followed in,
//! `outline` takes of a JSON payload what the paths lead to, `parts` takes a message apart, `element` makes a reading of a part,
//! `values` has the rules for names and texts, `explain` says each step.

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
use crate::reading::{DecodeLimits, Rejection};
use crate::time::Zone;

mod compile;
mod element;
mod explain;
mod message;
mod outline;
mod parts;
mod values;

use compile::PayloadSchema;
pub(in crate::mapping) use compile::Surroundings;
use message::{Message, take_groups, unmapped};
use outline::Outline;
pub(in crate::mapping) use values::decimal;

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
    /// Whether a path goes into the key as JSON.
    reads_key: bool,
    /// Where single members of the payload are all that is asked for.
    outline: Option<Outline>,
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

    /// Whether it may leave messages that fit its topics and keys to the sources after it.
    pub(in crate::mapping) fn has_condition(&self) -> bool {
        self.only.is_some()
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

    /// The readings of a message. `None` where `only` does not hold: the message is left to the sources after this one.
    pub(in crate::mapping) fn read(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Option<Mapped<'static>>, Rejection> {
        if self.is_dropped {
            return self.drop(record, captures, limits);
        }
        if let Some(outline) = &self.outline
            // What is no plain JSON is read, or refused, as a whole.
            && let Ok(text) = std::str::from_utf8(&self.payload(record, limits)?)
            && let Ok(taken) = outline.take(text)
        {
            let message = Message { taken: Some(&taken), ..self.message(record, captures, Value::Null) };
            return self.reading(&message, limits, now).map(Some);
        }
        let Some(value) = self.parse(record, limits)? else { return Ok(Some(Mapped::skipped())) };
        self.read_value(record, captures, value, limits, now)
    }

    /// What `drop` makes of a message: it is skipped, unless `only` leaves it to other sources.
    fn drop(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        limits: &DecodeLimits,
    ) -> Result<Option<Mapped<'static>>, Rejection> {
        let skipped = || Some(Mapped::skipped());
        if self.only.is_none() {
            return Ok(skipped());
        }
        let Some(value) = self.parse(record, limits)? else { return Ok(skipped()) };
        let holds = self.holds(&self.message(record, captures, value))?;
        Ok(if holds { skipped() } else { None })
    }

    /// A payload that is a value already, as rows of files with columns are.
    pub(in crate::mapping) fn read_value(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        value: Value,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Option<Mapped<'static>>, Rejection> {
        let message = self.message(record, captures, value);
        if !self.holds(&message)? {
            return Ok(None);
        }
        if self.is_dropped {
            return Ok(Some(Mapped::skipped()));
        }
        let (message, values) = self.values(message)?;
        if let (None, [value]) = (&self.each, values.as_slice()) {
            return self.reading(&message.with_value(value), limits, now).map(Some);
        }
        self.read_parts(&message, self.parts(&values)?, limits, now).map(Some)
    }

    /// A message that is one reading.
    fn reading(
        &self,
        message: &Message<'_, '_>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        let (identity, name, builder) = self.element(message)?;
        let replaced = builder.replaced();
        let decoded = builder.finish(identity, name, limits, now)?;
        Ok(Mapped { replaced, ..decoded.into() })
    }

    fn message<'m, 'r>(
        &self,
        record: &'m Record<'r>,
        captures: &'m HashMap<String, String>,
        value: Value,
    ) -> Message<'m, 'r> {
        let key = match self.reads_key {
            true => record.key.and_then(|key| serde_json::from_slice(key).ok()),
            false => None,
        };
        Message { record, captures, value: Cow::Owned(value), taken: None, key, each: None }
    }

    /// Whether `only` holds.
    fn holds(&self, message: &Message<'_, '_>) -> Result<bool, Rejection> {
        let Some(only) = &self.only else { return Ok(true) };
        only.holds(message.to_json()).map_err(|problem| unmapped("only", problem))
    }

    /// The values that a message is read as: its payload, or the outputs of `transform`.
    fn values<'m, 'r>(
        &self,
        mut message: Message<'m, 'r>,
    ) -> Result<(Message<'m, 'r>, Vec<Value>), Rejection> {
        let values = match &self.transform {
            Some(transform) => {
                transform.outputs(message.to_json()).map_err(|problem| unmapped("transform", problem))?
            }
            None => vec![std::mem::take(&mut message.value).into_owned()],
        };
        message.value = Cow::Owned(Value::Null);
        Ok((message, values))
    }

    /// `None` for messages that hold no readings by their format.
    fn parse(&self, record: &Record<'_>, limits: &DecodeLimits) -> Result<Option<Value>, Rejection> {
        let payload = self.payload(record, limits)?;
        let value = match &self.schema {
            PayloadSchema::None => self.format.parse(&payload, &self.csv, record.timestamp),
            PayloadSchema::Local(schema) => schema.read(&payload),
            PayloadSchema::Registry(schemas) => schemas.read(self.format, &payload),
            PayloadSchema::Births(births) => return sparkplug::read(record, births),
        };
        let value = value?;
        if let (Some(_), true, Some(records)) = (&self.transform, self.format.is_list(), value.as_array())
            && let Some(problem) = records.iter().find_map(|record| self.format.problem(record))
        {
            return Err(Rejection::NotInFormat { format: self.format.name(), problem: problem.to_owned() });
        }
        Ok(Some(value))
    }

    /// The payload, expanded where it is compressed.
    fn payload<'r>(&self, record: &Record<'r>, limits: &DecodeLimits) -> Result<Cow<'r, [u8]>, Rejection> {
        Ok(match self.compression {
            Some(compression) => Cow::Owned(compression.expand(record.payload, limits.max_message_bytes)?),
            None => Cow::Borrowed(record.payload),
        })
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
}
