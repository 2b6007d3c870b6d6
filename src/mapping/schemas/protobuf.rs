//! Protobuf: `.proto` files into descriptors, without protoc, and messages read by them into JSON.
//!
//! Names are those of the `.proto` file. Fields without presence are there with their defaults, for proto3 does not send a
//! 0; others are there if they were sent.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{
    DynamicMessage, FileDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value as Field,
};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use serde_json::{Map, Number, Value};

use super::MAX_DEPTH;

/// A registry's schemas have no file name of their own.
const MAIN: &str = "registered schema.proto";
const MAX_FILE_BYTES: usize = 1 << 20;
/// Values that any payload may have, however short: fields that were not sent are there with their defaults.
const FREE_VALUES: usize = 100_000;

/// The descriptors of a `.proto` file.
#[derive(Debug)]
pub(super) struct ProtobufSchema {
    file: FileDescriptor,
}

/// Files in memory, by the names that they are imported by.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => match descriptor(text) {
                Some(mut file) => {
                    file.name = Some(name.to_owned());
                    Ok(File::from_file_descriptor_proto(file))
                }
                None => File::from_source(name, text),
            },
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Some clients register the descriptor in base64 instead of the text.
fn descriptor(text: &str) -> Option<FileDescriptorProto> {
    FileDescriptorProto::decode(STANDARD.decode(text.trim()).ok()?.as_slice()).ok()
}

impl ProtobufSchema {
    /// # Errors
    /// What is wrong with the schema.
    pub(super) fn parse(text: &str, references: &[(String, String)]) -> Result<Self, String> {
        let mut texts: HashMap<_, _> = references.iter().cloned().collect();
        texts.insert(MAIN.to_owned(), text.to_owned());
        texts.values().try_for_each(|text| check_nesting(text))?;
        let mut resolver = ChainFileResolver::new();
        resolver.add(GoogleFileResolver::new());
        resolver.add(Texts(texts));
        Ok(Self { file: compile(Compiler::with_file_resolver(resolver), Path::new(MAIN))?.0 })
    }

    /// A file, with those that it imports from its folder; and all of them as bytes.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(super) fn load(path: &Path) -> Result<(Self, Vec<u8>), String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        check_nesting(&text)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut resolver = ChainFileResolver::new();
        resolver.add(GoogleFileResolver::new());
        resolver.add(IncludeFileResolver::new(folder.unwrap_or(Path::new(".")).to_owned()));
        let name = path.file_name().map(Path::new).ok_or("it is not a file")?;
        let (file, content) = compile(Compiler::with_file_resolver(resolver), name)?;
        Ok((Self { file }, content))
    }

    /// A message by its name, with or without the package; without a name, the only one.
    ///
    /// # Errors
    /// Which messages there are.
    pub(super) fn named(&self, name: Option<&str>) -> Result<MessageDescriptor, String> {
        let messages: Vec<_> = self.file.messages().collect();
        let known = || messages.iter().map(|it| it.full_name().to_owned()).collect::<Vec<_>>().join(", ");
        match (name, messages.as_slice()) {
            (Some(name), all) => {
                let pool = self.file.parent_pool();
                let found = pool
                    .get_message_by_name(name)
                    .or_else(|| all.iter().find(|message| message.name() == name).cloned());
                found.ok_or_else(|| format!("{name:?} is not in the file (there are: {})", known()))
            }
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(format!("which one is missing (set message to one of: {})", known())),
        }
    }

    /// A registry's frame names the message by a path of indices before the data.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn read_indexed(&self, bytes: &[u8]) -> Result<Value, String> {
        let mut rest = bytes;
        let count = zigzag(&mut rest)?;
        let mut message = None;
        // An empty path stands for [0], the first message.
        let indices = usize::try_from(count).ok().filter(|count| *count <= MAX_DEPTH);
        for at in 0..indices.ok_or("its path to a message is too long")?.max(1) {
            let index = if count == 0 { 0 } else { zigzag(&mut rest)? };
            let index = usize::try_from(index).map_err(|_| "its path to a message has a negative index")?;
            let next = match (&message, at) {
                (None, _) => self.file.messages().nth(index),
                (Some(outer), _) => {
                    let outer: &MessageDescriptor = outer;
                    outer.child_messages().filter(|inner| !inner.is_map_entry()).nth(index)
                }
            };
            message = Some(next.ok_or("its schema has no such message")?);
        }
        read(&message.ok_or("it names no message")?, rest)
    }
}

fn compile(mut compiler: Compiler, path: &Path) -> Result<(FileDescriptor, Vec<u8>), String> {
    compiler.include_imports(true).open_file(path).map_err(|error| error.to_string())?;
    let pool = compiler.descriptor_pool();
    let name = path.to_str().ok_or("its name is not UTF-8")?;
    let file = pool.get_file_by_name(name).ok_or("it was not compiled")?;
    Ok((file, compiler.encode_file_descriptor_set()))
}

/// The compiler recurses as deep as the text does.
fn check_nesting(text: &str) -> Result<(), String> {
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("a schema of {} bytes is too large", text.len()));
    }
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'<' => depth += 1,
            b'}' | b']' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
    }
    Ok(())
}

fn zigzag(bytes: &mut &[u8]) -> Result<i64, String> {
    let found = prost::encoding::decode_varint(bytes).map_err(|_| "it ends in its path to a message")?;
    Ok((found >> 1).cast_signed() ^ -(found & 1).cast_signed())
}

/// A message as an object.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn read(message: &MessageDescriptor, bytes: &[u8]) -> Result<Value, String> {
    // Its depth is limited by the library, to the same 100.
    let message = DynamicMessage::decode(message.clone(), bytes).map_err(|error| error.to_string())?;
    Values { left: FREE_VALUES + 2 * bytes.len() }.object(&message)
}

/// Values that may still be made: a hostile schema has many defaults for each byte.
struct Values {
    left: usize,
}

impl Values {
    fn object(&mut self, message: &DynamicMessage) -> Result<Value, String> {
        let descriptor = message.descriptor();
        if let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.")
            && let Some(value) = self.well_known(name, message)?
        {
            return Ok(value);
        }
        let mut members = Map::new();
        for field in descriptor.fields() {
            if !field.supports_presence() || message.has_field(&field) {
                let value = self.json(&message.get_field(&field), &field.kind())?;
                members.insert(field.name().to_owned(), value);
            }
        }
        Ok(Value::Object(members))
    }

    /// Those of Google's types that have a meaning of their own; others are objects.
    fn well_known(&mut self, name: &str, message: &DynamicMessage) -> Result<Option<Value>, String> {
        let whole =
            |name: &str| message.get_field_by_name(name).and_then(|field| field.as_i64()).unwrap_or(0);
        let nanos = || message.get_field_by_name("nanos").and_then(|field| field.as_i32()).unwrap_or(0);
        let inner = match name {
            "Timestamp" => {
                let nanos = u32::try_from(nanos()).ok();
                let moment = nanos.and_then(|nanos| DateTime::<Utc>::from_timestamp(whole("seconds"), nanos));
                return Ok(moment.map(|moment| moment.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()));
            }
            // In seconds.
            "Duration" => return Ok(Some(number(whole("seconds") as f64 + f64::from(nanos()) / 1e9))),
            "Value" => {
                return match message.fields().next() {
                    Some((field, value)) if field.name() != "null_value" => {
                        self.json(value, &field.kind()).map(Some)
                    }
                    _ => Ok(Some(Value::Null)),
                };
            }
            "Struct" => "fields",
            "ListValue" => "values",
            _ if name.ends_with("Value") => "value",
            _ => return Ok(None),
        };
        match message.descriptor().get_field_by_name(inner) {
            Some(field) => self.json(&message.get_field(&field), &field.kind()).map(Some),
            None => Ok(None),
        }
    }

    fn json(&mut self, value: &Field, kind: &Kind) -> Result<Value, String> {
        self.left = self.left.checked_sub(1).ok_or("it has far more values than bytes")?;
        Ok(match value {
            Field::Bool(value) => (*value).into(),
            Field::I32(value) => (*value).into(),
            Field::I64(value) => (*value).into(),
            Field::U32(value) => (*value).into(),
            Field::U64(value) => (*value).into(),
            Field::F32(value) => number(f64::from(*value)),
            Field::F64(value) => number(*value),
            Field::String(text) => text.as_str().into(),
            Field::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Field::EnumNumber(number) => {
                match kind.as_enum().and_then(|symbols| symbols.get_value(*number)) {
                    Some(symbol) => symbol.name().into(),
                    None => (*number).into(),
                }
            }
            Field::Message(message) => self.object(message)?,
            Field::List(values) => {
                Value::Array(values.iter().map(|value| self.json(value, kind)).collect::<Result<_, _>>()?)
            }
            Field::Map(entries) => {
                let kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let mut members = Map::new();
                for (key, value) in entries {
                    if let Some(kind) = &kind {
                        members.insert(name(key), self.json(value, kind)?);
                    }
                }
                Value::Object(members)
            }
        })
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// What is not a number was not measured.
fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
