//! Payloads that are read by a schema: Avro, Protobuf and JSON Schema in the frames of a schema registry, and Avro and
//! Protobuf by a schema file. [`Schemas`] holds what a registry has told; who asks it is [`crate::registry`].
//!
//! Bytes and schemas may be hostile: the depth and the number of values are bounded by the length of the payload.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::payload::PayloadFormat;
use crate::reading::Rejection;

mod avro;
mod protobuf;

use avro::AvroSchema;
use protobuf::ProtobufSchema;

/// Schemas that are kept; a topic has a few. Beyond it, those used by nobody else are fetched again.
const MAX_SCHEMAS: usize = 1_000;
/// A registry of several servers may know a new id on one of them only.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// Schemas nest no deeper, and neither does what is read by them.
const MAX_DEPTH: usize = 100;
/// Longer texts of other programs are cut in messages.
const MAX_PROBLEM: usize = 300;

/// What kind of schema a registry has under an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    Avro,
    Protobuf,
    Json,
}

/// A schema as a registry has it.
#[derive(Debug, Clone)]
pub struct SchemaText {
    pub kind: SchemaKind,
    pub text: String,
    /// The schemas that it refers to, directly or not, each with the name that it is referred to by.
    pub references: Vec<(String, String)>,
}

/// A compiled schema.
#[derive(Debug)]
enum Schema {
    Avro(AvroSchema),
    Protobuf(ProtobufSchema),
    Json,
}

impl Schema {
    fn compile(schema: &SchemaText) -> Result<Self, String> {
        let compiled = match schema.kind {
            SchemaKind::Avro => AvroSchema::parse(&schema.text, &schema.references).map(Self::Avro),
            SchemaKind::Protobuf => {
                ProtobufSchema::parse(&schema.text, &schema.references).map(Self::Protobuf)
            }
            SchemaKind::Json => Ok(Self::Json),
        };
        compiled.map_err(|problem| shortened(&problem))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Avro(_) => "avro",
            Self::Protobuf(_) => "protobuf",
            Self::Json => "json-schema",
        }
    }
}

#[derive(Debug, Clone)]
enum Entry {
    Usable(Arc<Schema>),
    Unusable(Arc<str>),
    /// Since when.
    Unknown(Instant),
}

/// The schemas of a registry by their ids, as far as they were asked for.
#[derive(Debug, Default)]
pub struct Schemas(RwLock<HashMap<u32, Entry>>);

impl Schemas {
    /// Whether a payload with that id can be read, or refused.
    pub fn has(&self, id: u32) -> bool {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            Some(Entry::Unknown(since)) => since.elapsed() < UNKNOWN_FOR,
            Some(_) => true,
            None => false,
        }
    }

    /// The registry has this under the id.
    pub fn insert(&self, id: u32, schema: &SchemaText) {
        let entry = match Schema::compile(schema) {
            Ok(schema) => Entry::Usable(Arc::new(schema)),
            Err(problem) => Entry::Unusable(problem.into()),
        };
        self.set(id, entry);
    }

    /// The registry has something under the id that nothing can be read by.
    pub fn insert_unusable(&self, id: u32, problem: &str) {
        self.set(id, Entry::Unusable(shortened(problem).into()));
    }

    /// The registry says that it has nothing under the id.
    pub fn insert_unknown(&self, id: u32) {
        self.set(id, Entry::Unknown(Instant::now()));
    }

    fn set(&self, id: u32, entry: Entry) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_SCHEMAS && !entries.contains_key(&id) {
            // Ids that nobody has registered may be any number of them: they go first.
            entries.retain(|_, entry| !matches!(entry, Entry::Unknown(_)));
            if entries.len() >= MAX_SCHEMAS {
                entries.clear();
            }
        }
        entries.insert(id, entry);
    }

    fn get(&self, id: u32) -> Result<Arc<Schema>, Rejection> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            Some(Entry::Usable(schema)) => Ok(schema.clone()),
            Some(Entry::Unusable(problem)) => {
                Err(Rejection::UnusableSchema { id, problem: problem.to_string() })
            }
            Some(Entry::Unknown(_)) | None => Err(Rejection::UnknownSchema { id }),
        }
    }

    /// The value of a framed payload.
    pub(super) fn read(&self, format: PayloadFormat, payload: &[u8]) -> Result<Value, Rejection> {
        let refuse = |problem: String| Rejection::NotInFormat { format: format.name(), problem };
        let (id, data) = unframed(payload).map_err(|problem| refuse(problem.to_owned()))?;
        if format == PayloadFormat::JsonSchema {
            // The data say all that paths need; the schema would only be asked whether they fit.
            return serde_json::from_slice(data).map_err(|error| refuse(error.to_string()));
        }
        let schema = self.get(id)?;
        match (&*schema, format) {
            (Schema::Avro(schema), PayloadFormat::Avro) => schema.read(data).map_err(refuse),
            (Schema::Protobuf(schema), PayloadFormat::Protobuf) => schema.read_indexed(data).map_err(refuse),
            (other, _) => Err(Rejection::UnusableSchema {
                id,
                problem: format!("it is for {} (set format = {:?})", other.kind(), other.kind()),
            }),
        }
    }
}

/// A frame is a zero byte, the schema's id in four bytes, and the data.
fn unframed(payload: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    match payload {
        [0, a, b, c, d, data @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), data)),
        [0, ..] => Err("a schema registry's frame has at least 5 bytes"),
        _ => Err("it does not begin with the byte 0 of a schema registry's frame (set schema_file for data \
                  without one)"),
    }
}

/// The id in a framed payload.
pub(super) fn schema_id(payload: &[u8]) -> Option<u32> {
    unframed(payload).ok().map(|(id, _)| id)
}

/// A schema from a file, for payloads without a frame.
#[derive(Debug)]
pub(super) struct LocalSchema {
    schema: Schema,
    /// Of Protobuf.
    message: Option<prost_reflect::MessageDescriptor>,
}

impl LocalSchema {
    /// With what the mapping's fingerprint has to include.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub(super) fn load(
        format: PayloadFormat,
        file: &Path,
        message: Option<&str>,
    ) -> Result<(Self, Vec<u8>), String> {
        let refuse = |problem: String| format!("schema_file: {}: {}", file.display(), shortened(&problem));
        match format {
            PayloadFormat::Avro if message.is_some() => Err("message is for protobuf (remove it)".to_owned()),
            PayloadFormat::Avro => {
                let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
                let schema = AvroSchema::parse(&text, &[]).map_err(refuse)?;
                Ok((Self { schema: Schema::Avro(schema), message: None }, text.into_bytes()))
            }
            PayloadFormat::Protobuf => {
                let (schema, content) = ProtobufSchema::load(file).map_err(refuse)?;
                let message = schema.named(message).map_err(|problem| format!("message: {problem}"))?;
                Ok((Self { schema: Schema::Protobuf(schema), message: Some(message) }, content))
            }
            _ => Err("schema_file: only avro and protobuf are read by one (remove it)".to_owned()),
        }
    }

    pub(super) fn read(&self, payload: &[u8]) -> Result<Value, Rejection> {
        let read = match (&self.schema, &self.message) {
            (Schema::Avro(schema), _) => schema.read(payload),
            (Schema::Protobuf(_), Some(message)) => protobuf::read(message, payload),
            _ => Err("it has no schema".to_owned()),
        };
        read.map_err(|problem| Rejection::NotInFormat { format: self.schema.kind(), problem })
    }
}

fn shortened(problem: &str) -> String {
    match problem.char_indices().nth(MAX_PROBLEM) {
        Some((end, _)) => format!("{}…", &problem[..end]),
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
