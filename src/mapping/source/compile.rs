//! From a `[[source]]` as it is written to one that reads messages: whatever is wrong with it is said here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;
use std::sync::Arc;

use super::Source;
use super::outline::Outline;
use super::values::renamed;
use crate::mapping::file::{
    FieldsShape, MetricShape, PathOr, SourceShape, Target, TargetShape, UnitShape, ValueShape,
};
use crate::mapping::jq::Program;
use crate::mapping::path::{Path, Root};
use crate::mapping::payload::PayloadFormat;
use crate::mapping::schemas::{LocalSchema, Schemas};
use crate::mapping::sparkplug::Births;
use crate::mapping::units::Conversion;
use crate::reading::tags::{MAX_TAGS, check_key};
use crate::time::Zone;

/// What payloads are read by, beside their format.
#[derive(Debug)]
pub(super) enum PayloadSchema {
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

impl Source {
    /// # Errors
    /// What is wrong, and what to write.
    pub(in crate::mapping) fn compile(
        mut shape: SourceShape,
        number: usize,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Self, String> {
        let schema = surroundings.schema(&shape)?;
        check_roots(&mut shape)?;
        let reads_key = paths(&mut shape).iter().any(|(_, path)| path.is_in_key());
        let outline = outline(&mut shape);
        let program = |key: &str, text: Option<String>| {
            text.map(|text| Program::parse(&text).map_err(|error| format!("{key}: {error}"))).transpose()
        };
        let required = |target: Option<Target>, key: &str, example: &str| match target {
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
        let tags = compile_tags(shape.tags)?;
        let metrics = compile_metrics(shape.metrics)?;
        let mut fields = Vec::new();
        for (index, field) in shape.fields.into_iter().enumerate() {
            let units = check_fields(&field).map_err(|problem| format!("fields[{index}]: {problem}"))?;
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
                (None, Some(_)) => return Err("only_each: needs each".to_owned()),
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
            reads_key,
            outline,
        })
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

/// Whether each path has something to begin with: an element of `each`, a group of a pattern.
fn check_roots(shape: &mut SourceShape) -> Result<(), String> {
    let has_elements = shape.each.is_some() || shape.format.is_list();
    let patterns = [&shape.topic_pattern, &shape.key_pattern];
    let groups: Vec<String> = patterns
        .into_iter()
        .flatten()
        .flat_map(|pattern| pattern.0.capture_names().flatten().map(str::to_owned))
        .collect();
    for (key, path) in paths(shape) {
        match path.root {
            Root::Each | Root::EachName if !has_elements => {
                return Err(format!(
                    "{key}: {path} needs each (set each to the path of the elements, or write a path into value)"
                ));
            }
            Root::Capture if !groups.iter().any(|group| group == path.first_name()) => {
                let name = path.first_name();
                return Err(format!(
                    "{key}: neither topic_pattern nor key_pattern has a group {name:?} (write it as (?<{name}>…){})",
                    match groups.is_empty() {
                        true => String::new(),
                        false => format!("; there is: {}", groups.join(", ")),
                    }
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is taken of each payload, where it is JSON and neither a program nor `each` asks for the whole.
fn outline(shape: &mut SourceShape) -> Option<Outline> {
    let programs = [&shape.only, &shape.only_each, &shape.transform];
    let is_whole = shape.drop || shape.each.is_some() || programs.into_iter().any(Option::is_some);
    if is_whole || shape.format != PayloadFormat::Json {
        return None;
    }
    Outline::of(paths(shape).into_iter().map(|(_, path)| path).collect())
}

/// All paths of a source but `each`, with their keys.
fn paths(shape: &mut SourceShape) -> Vec<(String, &mut Path)> {
    let targets = [
        ("location", &mut shape.location),
        ("device_type", &mut shape.device_type),
        ("sensor", &mut shape.sensor),
    ];
    let targets =
        targets.into_iter().filter_map(|(key, target)| Some((key.to_owned(), &mut target.as_mut()?.0.from)));
    let tags = shape.tags.iter_mut().map(|(key, target)| (format!("tags.{key}"), &mut target.0.from));
    let metrics = shape
        .metrics
        .iter_mut()
        .flat_map(|(name, metric)| metric.0.paths_mut().map(move |path| (format!("metrics.{name}"), path)));
    let moment = shape.recorded_timestamp.as_mut().map(|moment| &mut moment.0);
    let times = moment.into_iter().flat_map(|moment| moment.from.0.iter_mut().chain(&mut moment.default));
    let fields = shape.fields.iter_mut().enumerate().flat_map(|(index, fields)| {
        let paths = [&mut fields.from, &mut fields.name, &mut fields.value, &mut fields.unit];
        paths.into_iter().flatten().map(move |path| (format!("fields[{index}]"), path))
    });
    targets
        .chain(tags)
        .flat_map(|(key, paths)| paths.0.iter_mut().map(move |path| (key.clone(), path)))
        .chain(metrics)
        .chain(times.map(|path| ("recorded_timestamp".to_owned(), path)))
        .chain(fields)
        .collect()
}

fn compile_tags(shapes: BTreeMap<String, Target>) -> Result<Vec<(String, TargetShape)>, String> {
    if shapes.len() > MAX_TAGS {
        return Err(format!("tags: more than {MAX_TAGS} (leave some out)"));
    }
    let tag = |(key, target): (String, Target)| {
        check_key(&key).map_err(|problem| format!("tags: {problem}"))?;
        let target = check_target(target.0, &format!("tags.{key}"))?;
        Ok((key, target))
    };
    shapes.into_iter().map(tag).collect()
}

type Metric = (String, ValueShape, Option<Conversion>);

fn compile_metrics(shapes: BTreeMap<String, MetricShape>) -> Result<Vec<Metric>, String> {
    let metric = |(name, PathOr(shape)): (String, MetricShape)| {
        let stated = shape.unit.as_ref().and_then(UnitShape::path);
        let named = shape.unit.as_ref().and_then(UnitShape::named);
        let conversion = match (stated, &shape.to) {
            (Some(path), _) if path.wildcard.is_some() => {
                Err("unit: the path must have no wildcard".to_owned())
            }
            // It is known with the message.
            (Some(_), Some(to)) => Conversion::between(to, to).map(|_| None),
            (Some(_), None) => Ok(None),
            (None, to) => conversion(&name, named, to.as_deref()),
        };
        let conversion = conversion
            .and_then(|conversion| scaled(conversion, shape.scale, shape.offset))
            .map_err(|problem| format!("metrics.{name}: {problem}"))?;
        if shape.text && (conversion.is_some() || stated.is_some()) {
            return Err(format!("metrics.{name}: text has no unit and no scale (remove one of them)"));
        }
        if shape.from.0.len() != 1 || shape.from.0[0].wildcard.is_some() {
            return Err(format!("metrics.{name}: from must be one path without a wildcard"));
        }
        Ok((name, shape, conversion))
    };
    shapes.into_iter().map(metric).collect()
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

pub(super) fn scaled(
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
    if !fields.units_from.is_empty() && fields.from.is_none() {
        return Err("units_from needs from (of a name and a value, write unit = PATH)".to_owned());
    }
    for (pattern, target) in &fields.units_from {
        if target.contains('*') && pattern.matches('*').count() != 1 {
            return Err(format!("units_from: {pattern} must have one * for that of {target}"));
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
