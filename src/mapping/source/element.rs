//! The reading of a message, or of one element of it: location, device type and sensor, the moment, and the values.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::compile::scaled;
use super::message::{Message, first_group, group, is_missing, missing, text_of, unit_in, unmapped};
use super::values::{Rule, StatedUnits, fits, renamed};
use super::{Identity, Source};
use crate::mapping::file::{FieldsShape, ValueShape};
use crate::mapping::moment::{TimestampFormat, moment};
use crate::mapping::path::{Root, scalars};
use crate::mapping::units::Conversion;
use crate::reading::decode::build::ReadingBuilder;
use crate::reading::{Rejection, sensor};

/// What stands for a metric in a message.
pub(super) enum Found<'v> {
    Value(Cow<'v, Value>),
    /// The default, where the value is missing, null, empty or a word for "not measured".
    Default(Cow<'v, Value>),
    Missing,
}

/// The value of a metric, or its default, which is in the unit that it is stored in.
///
/// # Errors
/// As [`metric_value`].
pub(super) fn found_value<'v>(
    name: &str,
    metric: &'v ValueShape,
    conversion: Option<Conversion>,
    found: Option<Cow<'v, Value>>,
    stated: Option<&str>,
) -> Result<Found<'v>, String> {
    let rule = rule_of(metric);
    let is_nothing = |value: &Value| is_missing(value) || rule.is_null(value);
    let Some(default) = &metric.default else {
        let Some(found) = found else { return Ok(Found::Missing) };
        return metric_value(name, metric, conversion, found, stated).map(Found::Value);
    };
    let value = match found.filter(|value| !is_nothing(value)) {
        Some(found) => Some(metric_value(name, metric, conversion, found, stated)?),
        None => None,
    };
    Ok(match value.filter(|value| !is_missing(value)) {
        Some(value) => Found::Value(value),
        None => Found::Default(rule.convert(Cow::Borrowed(default), None)),
    })
}

fn rule_of(metric: &ValueShape) -> Rule<'_> {
    Rule {
        decimal_mark: metric.decimal_comma,
        null: &metric.null,
        words: &metric.words,
        is_text: metric.text,
    }
}

/// What a metric's value becomes: the part that its pattern takes, as a number where it is one, in the unit that it is stored in.
///
/// # Errors
/// It does not fit the pattern, or has a unit of something else.
fn metric_value<'v>(
    name: &str,
    metric: &ValueShape,
    conversion: Option<Conversion>,
    found: Cow<'v, Value>,
    stated: Option<&str>,
) -> Result<Cow<'v, Value>, String> {
    let rule = rule_of(metric);
    if is_missing(&found) || rule.is_null(&found) {
        return Ok(rule.convert(found, None));
    }
    let own = metric.pattern.as_ref().and_then(|pattern| unit_in(pattern, &found));
    let is_named = metric.unit.as_ref().is_some_and(|unit| unit.named().is_some());
    let conversion = match own.as_deref().or(stated).filter(|_| !is_named) {
        Some(unit) => {
            let converted = match &metric.to {
                Some(to) => Some(Conversion::between(unit, to)?),
                None => Conversion::to_column(name, unit)?,
            };
            scaled(converted, metric.scale, metric.offset)?
        }
        None => conversion,
    };
    Ok(match &metric.pattern {
        Some(pattern) => rule.convert(first_group(pattern, found)?, conversion),
        None => rule.convert(found, conversion),
    })
}

/// The unit that the message states at the path of a metric's `unit`.
pub(super) fn stated_unit(message: &Message<'_, '_>, metric: &ValueShape) -> Option<String> {
    let found = message.get(metric.unit.as_ref()?.path()?)?;
    found.as_str().map(str::trim).filter(|unit| !unit.is_empty()).map(str::to_owned)
}

impl Source {
    pub(super) fn element(
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
        for (fields, units) in &self.fields {
            self.fields(message, fields, units, &mut builder, &mut is_any_there)?;
        }
        // After the fields: what is mapped by its own name replaces what they find under that name.
        for (name, metric, conversion) in &self.metrics {
            let stated = stated_unit(message, metric);
            let found = message.get(&metric.from.0[0]);
            let found = found_value(name, metric, *conversion, found, stated.as_deref())
                .map_err(|problem| unmapped(name, problem))?;
            let (Found::Value(value) | Found::Default(value)) = found else { continue };
            is_any_there = true;
            match metric.text {
                true => builder.set_text(name, &value)?,
                false => builder.set(name, &value)?,
            }
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
            .and_then(|unit| unit.as_str().map(|unit| unit.trim().to_owned()))
            .filter(|unit| !unit.is_empty());
        let members = fields.from.as_ref().and_then(|path| Some((message.get(path)?, path.wildcard?)));
        let stated_beside = match &members {
            Some((value, wildcard)) => StatedUnits::of(fields, value, *wildcard),
            None => StatedUnits::default(),
        };
        let rule = Rule {
            decimal_mark: fields.decimal_comma,
            null: &fields.null,
            words: &fields.words,
            is_text: false,
        };
        let mut take = |whole: &str, value: &Value| {
            if stated_beside.is_unit(whole) {
                return;
            }
            let name = whole;
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
            if fields.text.iter().any(|pattern| fits(pattern, name)) {
                let rule = Rule { is_text: true, ..rule };
                failure = match rule.is_null(value) {
                    true => builder.set(&target, &Value::Null).err(),
                    false => builder.set_text(&target, value).err(),
                };
                return;
            }
            let by_pattern =
                || fields.units.iter().find(|(pattern, _)| fits(pattern, name)).map(|(_, unit)| unit);
            let own = fields.pattern.as_ref().and_then(|pattern| unit_in(pattern, value));
            let beside = stated_beside.unit(whole);
            let conversion = match units.get(name) {
                // What was not measured needs no unit.
                _ if is_missing(value) || rule.is_null(value) => Ok(None),
                Some(conversion) => Ok(Some(*conversion)),
                None => match by_pattern().or(own.as_ref()).or(beside).or(stated.as_ref()) {
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
        if let Some((value, wildcard)) = &members {
            scalars(value, *wildcard, &mut take);
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

    pub(super) fn moment(&self, message: &Message<'_, '_>) -> Result<i64, Rejection> {
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
}
