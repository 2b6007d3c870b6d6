//! One `[[source]]`, checked and compiled, and how it turns a message into readings.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;
use std::sync::Arc;

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

use crate::mapping::compression::Compression;
use crate::mapping::file::{FieldsShape, MomentShape, Paths, Pattern, SourceShape, TargetShape, ValueShape};
use crate::mapping::jq::Program;
use crate::mapping::moment::{TimestampFormat, moment};
use crate::mapping::path::{Path, Root, scalars};
use crate::mapping::payload::{CsvShape, PayloadFormat};
use crate::mapping::schemas::{LocalSchema, Schemas};
use crate::mapping::sparkplug::{self, Births};
use crate::mapping::units::Conversion;
use crate::mapping::{Mapped, Record};
use crate::reading::decode::build::ReadingBuilder;
use crate::reading::delimited::Dialect;
use crate::reading::tags::{MAX_TAGS, check_key};
use crate::reading::{DecodeLimits, LEGACY_MISSING, Rejection, sensor};
use crate::time::Zone;

mod explain;

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

/// What payloads are read by, beside their format.
#[derive(Debug)]
enum PayloadSchema {
    /// Nothing, or the format needs none.
    None,
    Local(LocalSchema),
    /// Each payload has the id of its own.
    Registry(Arc<Schemas>),
    /// Sparkplug's, of the edge nodes.
    Births(Arc<Births>),
}

/// What a source is compiled with.
pub(in crate::mapping) struct Surroundings<'a> {
    /// Of the mapping file.
    pub(in crate::mapping) folder: &'a FilePath,
    pub(in crate::mapping) schemas: &'a Arc<Schemas>,
    pub(in crate::mapping) births: &'a Arc<Births>,
    /// What the mapping's fingerprint includes beside the text of its file.
    pub(in crate::mapping) content: Vec<u8>,
}

/// What identifies a reading in a message.
type Identity = (String, String, uuid::Uuid, i64);

impl Source {
    /// # Errors
    /// What is wrong, and what to write.
    pub(in crate::mapping) fn compile(
        shape: SourceShape,
        number: usize,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Self, String> {
        let schema = surroundings.schema(&shape)?;
        let program = |key: &str, text: Option<String>| {
            text.map(|text| Program::parse(&text).map_err(|error| format!("{key}: {error}"))).transpose()
        };
        let required = |target: Option<crate::mapping::file::Target>, key: &str, example: &str| match target {
            Some(target) => check_target(target.0, key),
            None if shape.drop => Ok(TargetShape::default()),
            None => Err(format!("{key} is missing (such as {key} = {example})")),
        };
        let moments = shape.recorded_timestamp.map(|moment| moment.0).unwrap_or_default();
        let zone = moments.time_zone.as_deref().map(Zone::named).transpose();
        let zone = zone.map_err(|error| format!("recorded_timestamp: {error}"))?;
        if shape.metrics.is_empty() && shape.fields.is_empty() && !shape.drop {
            return Err("no metrics (write [source.metrics] with temperature = \"value.temperature\", or \
                        [[source.fields]] with from = \"value.*\")"
                .to_owned());
        }
        if shape.tags.len() > MAX_TAGS {
            return Err(format!("tags: more than {MAX_TAGS} (leave some out)"));
        }
        let mut tags = Vec::new();
        for (key, target) in shape.tags {
            check_key(&key).map_err(|problem| format!("tags: {problem}"))?;
            let target = check_target(target.0, &format!("tags.{key}"))?;
            tags.push((key, target));
        }
        let mut metrics = Vec::new();
        for (name, metric) in shape.metrics {
            let conversion = conversion(&name, metric.0.unit.as_deref(), metric.0.to.as_deref())
                .map_err(|problem| format!("metrics.{name}: {problem}"))?;
            let conversion = scaled(conversion, metric.0.scale, metric.0.offset)
                .map_err(|problem| format!("metrics.{name}: {problem}"))?;
            if metric.0.from.0.len() != 1 || metric.0.from.0[0].wildcard.is_some() {
                return Err(format!("metrics.{name}: from must be one path without a wildcard"));
            }
            metrics.push((name, metric.0, conversion));
        }
        let mut fields = Vec::new();
        for field in shape.fields {
            let units = check_fields(&field).map_err(|problem| format!("fields: {problem}"))?;
            fields.push((field, units));
        }
        let each = match shape.each {
            Some(each) if each.wildcard.is_some() || each.root != Root::Value => {
                return Err(format!("each: {each} must be a path into value, without a wildcard"));
            }
            None if shape.format.is_list() => Some(Path::parse("value")?),
            each => each,
        };
        Ok(Self {
            name: shape.name.unwrap_or_else(|| number.to_string()),
            topics: shape.topics,
            topic_pattern: shape.topic_pattern.map(|pattern| pattern.0),
            key_pattern: shape.key_pattern.map(|pattern| pattern.0),
            format: shape.format,
            compression: shape.compression,
            csv: shape.csv,
            schema,
            is_dropped: shape.drop,
            only: program("only", shape.only)?,
            only_each: match (&each, shape.only_each) {
                (None, Some(_)) => return Err("only_each needs each".to_owned()),
                (_, text) => program("only_each", text)?,
            },
            transform: program("transform", shape.transform)?,
            each,
            location: required(shape.location, "location", "\"value.site\" or { constant = \"plant-1\" }")?,
            device_type: required(shape.device_type, "device_type", "{ constant = \"thermostat\" }")?,
            sensor: required(shape.sensor, "sensor", "\"value.id\"")?,
            recorded_timestamp: moments,
            zone,
            tags,
            metrics,
            fields,
        })
    }

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
        let elements: Vec<(String, &Value)> = match each.follow(&value) {
            Some(Value::Array(elements)) => {
                elements.iter().enumerate().map(|(index, element)| (index.to_string(), element)).collect()
            }
            Some(Value::Object(members)) => {
                members.iter().map(|(name, element)| (name.clone(), element)).collect()
            }
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

    fn element(
        &self,
        message: &Message<'_, '_>,
    ) -> Result<(Identity, Option<String>, ReadingBuilder), Rejection> {
        let location = message.name("location", &self.location)?;
        let device_type = message.name("device_type", &self.device_type)?;
        let (id, name) = sensor::identify(message.name("sensor", &self.sensor)?);
        let recorded_at = self.moment(message)?;
        let mut builder = ReadingBuilder::default();
        // A tag without a value is left out: it says nothing about the reading.
        let tags = self
            .tags
            .iter()
            .filter_map(|(key, target)| message.name("tags", target).ok().map(|value| (key.clone(), value)));
        builder.set_tags(tags.collect());
        let mut is_any_there = false;
        for (name, metric, conversion) in &self.metrics {
            let found = message.get(&metric.from.0[0]).or_else(|| metric.default.as_ref().map(Cow::Borrowed));
            let Some(found) = found else { continue };
            is_any_there = true;
            let found = match &metric.pattern {
                Some(pattern) => first_group(pattern, found).map_err(|problem| unmapped(name, problem))?,
                None => found,
            };
            let rule = Rule { decimal_comma: metric.decimal_comma, null: &metric.null, words: &metric.words };
            builder.set(name, &rule.convert(found, *conversion))?;
        }
        for (fields, units) in &self.fields {
            self.fields(message, fields, units, &mut builder, &mut is_any_there)?;
        }
        match is_any_there {
            true => Ok(((location, device_type, id, recorded_at), name, builder)),
            false => Err(unmapped("metrics", "no metric of the mapping is in the message".to_owned())),
        }
    }

    fn fields(
        &self,
        message: &Message<'_, '_>,
        fields: &FieldsShape,
        units: &HashMap<String, Conversion>,
        builder: &mut ReadingBuilder,
        is_any_there: &mut bool,
    ) -> Result<(), Rejection> {
        let mut failure = None;
        let stated = fields
            .unit
            .as_ref()
            .and_then(|unit| message.get(unit))
            .and_then(|unit| unit.as_str().map(str::to_owned));
        let rule = Rule { decimal_comma: fields.decimal_comma, null: &fields.null, words: &fields.words };
        let mut take = |name: &str, value: &Value| {
            let name = match &fields.name_pattern {
                Some(pattern) => match group(pattern, name) {
                    Some(name) => name,
                    None => return,
                },
                None => name,
            };
            let is_kept = fields.keep.is_empty() || fields.keep.iter().any(|pattern| fits(pattern, name));
            if !is_kept || fields.drop.iter().any(|pattern| fits(pattern, name)) || failure.is_some() {
                return;
            }
            *is_any_there = true;
            let target = renamed(fields, name);
            let by_pattern =
                || fields.units.iter().find(|(pattern, _)| fits(pattern, name)).map(|(_, unit)| unit);
            let conversion = match units.get(name) {
                Some(conversion) => Ok(Some(*conversion)),
                None => match by_pattern().or(stated.as_ref()) {
                    Some(unit) => Conversion::to_column(&target, unit),
                    None => Ok(None),
                },
            };
            let value = match &fields.pattern {
                Some(pattern) => first_group(pattern, Cow::Borrowed(value)).unwrap_or(Cow::Borrowed(value)),
                None => Cow::Borrowed(value),
            };
            let scale = fields.scale.iter().find(|(pattern, _)| fits(pattern, name)).map(|(_, scale)| *scale);
            let conversion = conversion.and_then(|conversion| scaled(conversion, scale, None));
            let set = conversion
                .map_err(|problem| unmapped(name, problem))
                .and_then(|conversion| builder.set(&target, &rule.convert(value, conversion)));
            failure = set.err();
        };
        if let Some((path, wildcard)) = fields.from.as_ref().and_then(|path| Some((path, path.wildcard?))) {
            if let Some(value) = message.get(path) {
                scalars(&value, wildcard, &mut take);
            }
        } else if let (Some(name_path), Some(value)) = (&fields.name, &fields.value) {
            let Some(found) = message.get(name_path) else {
                return Err(unmapped("fields.name", format!("{name_path} is missing")));
            };
            let Some(name) = text_of(&found) else {
                return Err(unmapped("fields.name", format!("{name_path} is neither text nor a number")));
            };
            if let Some(value) = message.get(value) {
                take(&name, &value);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn moment(&self, message: &Message<'_, '_>) -> Result<i64, Rejection> {
        let shape = &self.recorded_timestamp;
        let paths = &shape.from.0;
        if paths.is_empty() {
            return message.own_time("recorded_timestamp");
        }
        let found: Option<Vec<_>> =
            paths.iter().map(|path| message.get(path).filter(|value| !is_missing(value))).collect();
        let value = match found.as_deref() {
            Some([one]) => one.clone().into_owned(),
            Some(many) => many.iter().filter_map(|part| text_of(part)).collect::<Vec<_>>().join(" ").into(),
            None => match &shape.default {
                Some(path) if path.root == Root::Timestamp => return message.own_time("recorded_timestamp"),
                Some(path) => match message.get(path) {
                    Some(value) => value.into_owned(),
                    None => return Err(missing("recorded_timestamp", &shape.from)),
                },
                None if paths.iter().any(|path| path.root == Root::Timestamp) => {
                    return message.own_time("recorded_timestamp");
                }
                None => return Err(missing("recorded_timestamp", &shape.from)),
            },
        };
        let value = match &shape.pattern {
            Some(pattern) => first_group(pattern, Cow::Owned(value))
                .map_err(|problem| unmapped("recorded_timestamp", problem))?
                .into_owned(),
            None => value,
        };
        let format = match (&shape.format, paths[0].root) {
            (Some(format), _) => format,
            (None, Root::Timestamp) => return message.own_time("recorded_timestamp"),
            (None, _) => &TimestampFormat::Rfc3339,
        };
        moment(&value, format, self.zone).map_err(|problem| unmapped("recorded_timestamp", problem))
    }

    /// Whether any path goes into the key as JSON.
    fn key_paths(&self) -> bool {
        let is_in_key =
            |path: &Path| path.root == Root::Key && (!path.steps.is_empty() || path.wildcard.is_some());
        let targets = [&self.location, &self.device_type, &self.sensor];
        let tags = self.tags.iter().map(|(_, target)| target);
        targets.into_iter().chain(tags).flat_map(|target| &target.from.0).any(is_in_key)
            || self.recorded_timestamp.from.0.iter().any(is_in_key)
            || self.metrics.iter().flat_map(|(_, metric, _)| &metric.from.0).any(is_in_key)
            || self
                .fields
                .iter()
                .flat_map(|(fields, _)| [&fields.from, &fields.name, &fields.value])
                .flatten()
                .any(is_in_key)
    }
}

impl Surroundings<'_> {
    fn schema(&mut self, shape: &SourceShape) -> Result<PayloadSchema, String> {
        let needs_more = shape.format.has_schema() && shape.schema_file.is_none()
            || shape.format == PayloadFormat::SparkplugB;
        if let Some(compression) = shape.compression
            && needs_more
        {
            return Err(format!(
                "compression: not with format = {:?}, whose frame is outside of it (remove {:?})",
                shape.format.name(),
                compression.name()
            ));
        }
        match (&shape.schema_file, shape.format.has_schema()) {
            (Some(file), _) => {
                let file = self.folder.join(file);
                let (schema, content) = LocalSchema::load(shape.format, &file, shape.message.as_deref())?;
                self.content.extend(content);
                Ok(PayloadSchema::Local(schema))
            }
            (None, _) if shape.message.is_some() => {
                Err("message needs schema_file (set it, or remove message)".to_owned())
            }
            (None, true) => Ok(PayloadSchema::Registry(self.schemas.clone())),
            (None, _) if shape.format == PayloadFormat::SparkplugB => {
                Ok(PayloadSchema::Births(self.births.clone()))
            }
            (None, false) => Ok(PayloadSchema::None),
        }
    }
}

/// A message while it is read.
#[derive(Clone)]
struct Message<'m, 'r> {
    record: &'m Record<'r>,
    captures: &'m HashMap<String, String>,
    value: Value,
    key: Option<Value>,
    /// The whole payload, and the element's name and value.
    each: Option<(&'m Value, String, &'m Value)>,
}

impl Message<'_, '_> {
    fn get(&self, path: &Path) -> Option<Cow<'_, Value>> {
        let text = |text: &str| Some(Cow::Owned(Value::from(text)));
        match path.root {
            Root::Value => {
                path.follow(self.each.as_ref().map_or(&self.value, |each| each.0)).map(Cow::Borrowed)
            }
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
    fn own_time(&self, key: &'static str) -> Result<i64, Rejection> {
        self.record.timestamp.ok_or(Rejection::NoTime { key })
    }

    /// A location, device type or sensor.
    fn name(&self, key: &'static str, target: &TargetShape) -> Result<String, Rejection> {
        if let Some(constant) = &target.constant {
            return Ok(constant.clone());
        }
        let parts: Option<Vec<String>> = target
            .from
            .0
            .iter()
            .map(|path| self.get(path).filter(|value| !is_missing(value)).and_then(|value| text_of(&value)))
            .collect();
        let Some(parts) = parts else {
            return target.default.clone().ok_or_else(|| missing(key, &target.from));
        };
        let mut text = parts.join(target.join.as_deref().unwrap_or("/"));
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

    /// What a jq program is given.
    fn to_json(&self) -> Value {
        let key = self.record.key.map(String::from_utf8_lossy);
        let captures: Map<_, _> =
            self.captures.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
        json!({
            "value": self.value,
            "key": key,
            "topic": self.record.topic,
            "timestamp": self.record.timestamp,
            "capture": captures,
        })
    }
}

fn take_groups(pattern: &Regex, found: &Captures<'_>, captures: &mut HashMap<String, String>) {
    for name in pattern.capture_names().flatten() {
        if let Some(text) = found.name(name) {
            captures.insert(name.to_owned(), text.as_str().to_owned());
        }
    }
}

fn check_target(target: TargetShape, key: &str) -> Result<TargetShape, String> {
    match (target.from.0.is_empty(), &target.constant) {
        (true, None) => Err(format!("{key}: a path (from) or a constant is missing")),
        (false, Some(_)) => Err(format!("{key}: from and constant are both there")),
        _ if target.from.0.iter().any(|path| path.wildcard.is_some()) => {
            Err(format!("{key}: a wildcard is no name"))
        }
        (true, Some(constant)) if !crate::reading::is_name(constant) => {
            Err(format!("{key}: the constant must have 1 to 256 bytes and no control characters"))
        }
        _ => Ok(target),
    }
}

/// What a pattern takes of a text: its first group, or the whole match.
fn group<'t>(pattern: &Pattern, text: &'t str) -> Option<&'t str> {
    let found = pattern.0.captures(text)?;
    found.get(1).or_else(|| found.get(0)).map(|it| it.as_str())
}

/// What a pattern takes of a value. Numbers and booleans are matched as they are written; null stays null.
fn first_group<'v>(pattern: &Pattern, value: Cow<'v, Value>) -> Result<Cow<'v, Value>, String> {
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

/// The name that a metric is stored under.
fn renamed(fields: &FieldsShape, name: &str) -> String {
    if let Some(target) = fields.rename.get(name) {
        return target.clone();
    }
    let pattern = fields.rename.iter().find(|(pattern, _)| pattern.contains('*') && fits(pattern, name));
    match pattern {
        Some((pattern, target)) => match (target.split_once('*'), pattern.split_once('*')) {
            (Some((before, after)), Some((first, last))) => {
                let matched = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
                [before, matched.unwrap_or(name), after].concat()
            }
            _ => target.clone(),
        },
        None => [&fields.prefix, name].concat(),
    }
}

fn scaled(
    conversion: Option<Conversion>,
    scale: Option<f64>,
    offset: Option<f64>,
) -> Result<Option<Conversion>, String> {
    if scale.is_none() && offset.is_none() {
        return Ok(conversion);
    }
    let (scale, offset) = (scale.unwrap_or(1.0), offset.unwrap_or(0.0));
    match scale.is_finite() && scale != 0.0 && offset.is_finite() {
        true => Ok(Some(conversion.unwrap_or(Conversion::NONE).after(scale, offset))),
        false => Err("scale and offset must be numbers, and scale not 0".to_owned()),
    }
}

fn check_fields(fields: &FieldsShape) -> Result<HashMap<String, Conversion>, String> {
    match (&fields.from, &fields.name, &fields.value) {
        (Some(from), None, None) if from.wildcard.is_some() => {}
        (Some(from), None, None) => {
            return Err(format!("{from} must end with .* (its members) or .** (nested ones too)"));
        }
        (None, Some(name), Some(value)) if name.wildcard.is_none() && value.wildcard.is_none() => {}
        _ => return Err("either from (with a wildcard), or name and value".to_owned()),
    }
    for (pattern, target) in &fields.rename {
        if target.contains('*') && pattern.matches('*').count() != 1 {
            return Err(format!("rename: {pattern} must have one * for that of {target}"));
        }
    }
    for scale in fields.scale.values() {
        scaled(None, Some(*scale), None)?;
    }
    let mut units = HashMap::new();
    for (name, unit) in &fields.units {
        if name.contains('*') {
            Conversion::between(unit, unit)?;
        } else if let Some(conversion) = conversion(&renamed(fields, name), Some(unit), None)? {
            units.insert(name.clone(), conversion);
        }
    }
    Ok(units)
}

fn conversion(metric: &str, unit: Option<&str>, to: Option<&str>) -> Result<Option<Conversion>, String> {
    match (unit, to) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err("to needs unit".to_owned()),
        (Some(unit), Some(to)) => Conversion::between(unit, to).map(Some),
        (Some(unit), None) => match Conversion::to_column(metric, unit)? {
            Some(conversion) => Ok(Some(conversion)),
            None => Err(format!(
                "{metric} is stored without a unit of its own: say which (unit = {unit:?}, to = …)"
            )),
        },
    }
}

/// `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| match after.contains('*') {
            false => rest.ends_with(after),
            true => {
                (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
            }
        }),
    }
}

/// How the text of a value is read.
#[derive(Clone, Copy)]
struct Rule<'s> {
    decimal_comma: bool,
    null: &'s [String],
    words: &'s BTreeMap<String, f64>,
}

impl Rule<'_> {
    fn convert<'v>(self, mut value: Cow<'v, Value>, conversion: Option<Conversion>) -> Cow<'v, Value> {
        const COMMA: Dialect = Dialect { delimiter: b';', has_decimal_comma: true };
        if let Value::String(text) = &*value {
            let trimmed = text.trim();
            if self.null.iter().any(|word| word == trimmed) {
                return Cow::Owned(Value::Null);
            }
            if let Some(number) = self.words.get(trimmed) {
                value = Cow::Owned((*number).into());
            } else if self.decimal_comma
                && let Some(number) = COMMA.number(trimmed).or_else(|| grouped(trimmed))
            {
                value = Cow::Owned(number.into());
            }
        }
        let Some(conversion) = conversion else { return value };
        let number = match &*value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            // The sentinel means "missing" in any unit.
            Some(number) if number != LEGACY_MISSING && number.is_finite() => {
                Cow::Owned(conversion.convert(number).into())
            }
            _ => value,
        }
    }
}

/// A number with a decimal comma whose thousands stand apart: `1.013,25`, `1 013,25`. Without the comma a dot could be a
/// decimal point.
fn grouped(text: &str) -> Option<f64> {
    let (whole, decimals) = text.split_once(',')?;
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut groups = digits.split(['.', ' ', '\'', '\u{a0}', '\u{202f}']);
    let is_of = |group: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_number =
        groups.next().is_some_and(|first| is_of(first, 1..=3)) && groups.all(|group| is_of(group, 3..=3));
    let whole: String = digits.chars().filter(char::is_ascii_digit).collect();
    match is_number && is_of(decimals, 1..=20) {
        true => format!("{sign}{whole}.{decimals}").parse().ok(),
        false => None,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_missing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

fn missing(key: &str, from: &Paths) -> Rejection {
    let paths: Vec<_> = from.0.iter().map(ToString::to_string).collect();
    unmapped(key, format!("{} is missing (set a default, or skip such messages with only)", paths.join(", ")))
}

fn unmapped(key: &str, problem: String) -> Rejection {
    Rejection::Unmapped { key: crate::reading::shown(key), problem }
}
