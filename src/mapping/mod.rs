//! From any message to readings, by a mapping file: [`Mapping`] is the file, checked and compiled; `source` turns a message
//! into readings; `payload` and `binary` read the formats, `compression` what is packed, `path` finds values, `moment` and `units` convert them, `jq` runs conditions
//! and transformations. [`rows`] are those of files, [`columns`] the mapping that flags say. [`presets`] come with the program. [`subject`] is whom a refused message is about.
//!
//! The built-in wire format needs no mapping; see [`crate::reading::decode`], whose rule for values holds here too. What may
//! not live here: Kafka and CQL.

use std::path::Path as FilePath;
use std::sync::Arc;

use regex::Regex;

pub mod advice;
mod binary;
pub mod columns;
mod compression;
mod file;
pub mod infer;
pub(crate) mod jq;
mod json;
mod lines;
mod moment;
mod path;
mod payload;
pub mod presets;
pub mod rows;
pub mod schemas;
mod source;
pub mod sparkplug;
pub mod subject;
pub mod units;

use crate::encoding::hex;
use crate::error::UsageError;
use crate::reading::decode::Decoded;
use crate::reading::{DecodeLimits, Reading, Rejection};
use file::{FileShape, SourceShape};
use schemas::Schemas;
use source::{Source, Surroundings};
use sparkplug::{Births, NeededBirth};

/// A message, wherever it comes from.
pub struct Record<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub headers: &'a dyn Headers,
    /// The record's own, in milliseconds since the epoch. Rows of files have none.
    pub timestamp: Option<i64>,
    pub payload: &'a [u8],
}

/// The headers of a message.
pub trait Headers {
    /// The text of the last one of that name.
    fn text(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Headers for F {
    fn text(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// What became of a message.
#[derive(Debug, Default, PartialEq)]
pub struct Mapped<'a> {
    pub readings: Vec<Decoded<'a>>,
    /// Readings in which nothing was measured: all values are missing or null. They are not stored.
    pub empty: Vec<Reading<'a>>,
    /// Elements that hold no reading.
    pub faults: Vec<Rejection>,
    /// The mapping says that the message holds none.
    pub is_skipped: bool,
    /// Values that another one of the same name, sensor and moment replaced by a different one.
    pub replaced: usize,
}

impl Mapped<'_> {
    fn skipped() -> Self {
        Self { is_skipped: true, ..Self::default() }
    }
}

impl<'a> Mapped<'a> {
    /// Takes a reading in, by whether anything was measured.
    fn take(&mut self, decoded: Decoded<'a>) {
        match decoded.reading.is_empty() {
            true => self.empty.push(decoded.reading),
            false => self.readings.push(decoded),
        }
    }
}

impl<'a> From<Decoded<'a>> for Mapped<'a> {
    /// The one reading of a message in the built-in format.
    fn from(decoded: Decoded<'a>) -> Self {
        let mut mapped = Self::default();
        mapped.take(decoded);
        mapped
    }
}

/// A step of a message's way through a mapping.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Of the mapping file: a source, `only`, `sensor`, a metric.
    pub key: String,
    /// What was found there, and what it became.
    pub text: String,
}

/// A mapping file, or a preset.
#[derive(Debug)]
pub struct Mapping {
    /// The path, or the preset's name.
    pub place: String,
    /// Of the text, as 12 hexadecimal digits: the same text maps the same way.
    pub fingerprint: String,
    /// Of the file.
    pub text: String,
    sources: Vec<Source>,
    schemas: Arc<Schemas>,
    births: Arc<Births>,
}

/// What has to be known before a message can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The schema of a registry with this id.
    Schema(u32),
    /// A birth certificate of Sparkplug.
    Birth(NeededBirth),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Schema(id) => write!(formatter, "schema {id}"),
            Self::Birth(needed) => {
                write!(formatter, "a birth certificate of {}", crate::reading::shown(&needed.node))
            }
        }
    }
}

impl Mapping {
    /// A file by its path, or a preset by its name.
    ///
    /// # Errors
    /// What is wrong, with the line, and how to write it.
    pub fn load(place: &str) -> Result<Self, UsageError> {
        if let Some(preset) = presets::find(place) {
            return Self::parse(place, preset.text);
        }
        let text = std::fs::read_to_string(FilePath::new(place)).map_err(|error| {
            let names: Vec<_> = presets::ALL.iter().map(|preset| preset.name).collect();
            UsageError::new(format!(
                "mapping {place}: {error} (give a file, or one of the presets: {})",
                names.join(", ")
            ))
        })?;
        Self::parse(place, &text)
    }

    /// # Errors
    /// What is wrong, with the line, and how to write it.
    pub fn parse(place: &str, text: &str) -> Result<Self, UsageError> {
        let refuse = |problem: String| UsageError::new(format!("mapping {place}: {problem}"));
        let shape: FileShape = toml::from_str(text).map_err(|error| refuse(not_toml(&error.to_string())))?;
        if shape.source.is_empty() {
            return Err(refuse("no [[source]]".to_owned()));
        }
        Self::compile(place, text, shape.source.into_iter())
    }

    /// Of one source that no file says.
    fn of_source(place: &str, shape: SourceShape) -> Result<Self, UsageError> {
        Self::compile(place, "", std::iter::once(shape))
    }

    fn compile(
        place: &str,
        text: &str,
        shapes: impl Iterator<Item = SourceShape>,
    ) -> Result<Self, UsageError> {
        let (schemas, births) = (Arc::default(), Arc::default());
        let folder = FilePath::new(place).parent().unwrap_or(FilePath::new(""));
        let mut surroundings =
            Surroundings { folder, schemas: &schemas, births: &births, content: Vec::new() };
        let mut sources = Vec::new();
        for (index, shape) in shapes.enumerate() {
            let name = shape.name.clone().unwrap_or_else(|| (index + 1).to_string());
            let source = Source::compile(shape, index + 1, &mut surroundings).map_err(|problem| {
                let line = lines::of_problem(text, index, &problem);
                let line = line.map_or_else(String::new, |line| format!("line {line}: "));
                UsageError::new(format!("mapping {place}: {line}source {name}: {problem}"))
            })?;
            sources.push(source);
        }
        let content = [text.as_bytes(), &surroundings.content].concat();
        let digest = ring::digest::digest(&ring::digest::SHA256, &content);
        let fingerprint = hex(&digest.as_ref()[..6]);
        Ok(Self { place: place.to_owned(), fingerprint, text: text.to_owned(), sources, schemas, births })
    }

    /// The names of topics and the patterns of all sources, each once and in their order; none if no source says which.
    pub fn topics(&self) -> (Vec<String>, Vec<Regex>) {
        let (mut names, mut patterns): (Vec<String>, Vec<Regex>) = (Vec::new(), Vec::new());
        for source in &self.sources {
            for name in source.topics.iter().filter(|name| !names.contains(name)).collect::<Vec<_>>() {
                names.push(name.clone());
            }
            patterns.extend(source.topic_pattern.clone());
        }
        (names, patterns)
    }

    /// The names of the sources.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.name.as_str())
    }

    /// Where the schemas of a registry are kept; empty at first.
    pub fn schemas(&self) -> &Arc<Schemas> {
        &self.schemas
    }

    /// Whether messages of a source are read by schemas of a registry.
    pub fn needs_registry(&self) -> bool {
        self.sources.iter().any(Source::needs_registry)
    }

    /// Where births are kept; empty at first.
    pub fn births(&self) -> &Arc<Births> {
        &self.births
    }

    /// Whether messages of a source are read by births.
    pub fn needs_births(&self) -> bool {
        self.sources.iter().any(Source::needs_births)
    }

    /// What has to be known before the message can be read.
    pub fn missing(&self, record: &Record<'_>) -> Option<Missing> {
        let id = match self.needs_registry() {
            true => schemas::schema_id(record.payload).filter(|id| !self.schemas.has(*id)),
            false => None,
        };
        if id.is_none() && !self.needs_births() {
            return None;
        }
        // A source with `only` may leave the message to the next one, which may need something else. What is not needed
        // after all costs a look-up and changes nothing.
        for source in self.sources.iter().filter(|source| source.matches(record).is_some()) {
            let missing = match source.needs_births() {
                true => sparkplug::needed(record, &self.births).map(Missing::Birth),
                false => id.filter(|_| source.needs_registry()).map(Missing::Schema),
            };
            if missing.is_some() || !source.has_condition() {
                return missing;
            }
        }
        None
    }

    /// The readings of a message, by the first source that it is of: whose topic and key fit, and whose `only` holds. It is
    /// skipped where `only` of no fitting source holds.
    ///
    /// # Errors
    /// Why the message holds no reading at all.
    pub fn read(
        &self,
        record: &Record<'_>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        if record.payload.len() > limits.max_message_bytes {
            return Err(Rejection::TooLarge { bytes: record.payload.len(), limit: limits.max_message_bytes });
        }
        let mut is_left = false;
        for source in &self.sources {
            let Some(captures) = source.matches(record) else { continue };
            if let Some(mapped) = source.read(record, &captures, limits, now)? {
                return Ok(mapped);
            }
            is_left = true;
        }
        match is_left {
            true => Ok(Mapped::skipped()),
            false => Err(Rejection::NoSource { topic: record.topic.to_owned() }),
        }
    }

    /// The way of a message, step by step.
    pub fn explain(&self, record: &Record<'_>, limits: &DecodeLimits, now: i64) -> Vec<Step> {
        let (mut steps, mut is_left) = (Vec::new(), false);
        for source in &self.sources {
            let key = format!("source {}", source.name);
            match (source.why_not(record), source.matches(record)) {
                (Some(reason), _) => steps.push(Step { key, text: reason }),
                (None, captures) => {
                    let explained = source.explain(record, &captures.unwrap_or_default(), limits, now);
                    let text = match explained.is_taken {
                        true => "takes the message",
                        false => "no: topic and key fit, but only does not hold",
                    };
                    steps.push(Step { key, text: text.to_owned() });
                    steps.extend(explained.steps);
                    if explained.is_taken {
                        return steps;
                    }
                    is_left = true;
                }
            }
        }
        let text = match is_left {
            true => "skipped: only does not hold for any source that the message fits".to_owned(),
            false => format!("dead letter: {}", Rejection::NoSource { topic: record.topic.to_owned() }),
        };
        steps.push(Step { key: "result".to_owned(), text });
        steps
    }
}

/// What is wrong with a file, and for a backslash of a program or a pattern how to write it.
fn not_toml(error: &str) -> String {
    let hint = match error.contains("escape") {
        true => " (write programs and patterns in '…', where a backslash is itself)",
        false => "",
    };
    format!("{}{hint}", error.trim_end())
}

#[cfg(test)]
mod tests;
