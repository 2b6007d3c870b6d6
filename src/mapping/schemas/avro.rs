//! Avro: a schema, parsed by the Apache crate and compiled to a flat plan, and data read by it into JSON.
//!
//! The crate's own reader allocates what a block count asks for and recurses as deep as the data say; this one reads each
//! value once, straight into JSON, and bounds both. The writer's schema alone is needed: paths find what is there.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, Namespace};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde_json::{Map, Number, Value};

use super::MAX_DEPTH;

/// Names of fields and symbols are copied for each value.
const MAX_NAME: usize = 256;
/// Values that any payload may have, however short: null takes no bytes.
const FREE_VALUES: usize = 4_096;

/// A schema by which data can be read.
#[derive(Debug)]
pub(super) struct AvroSchema {
    nodes: Vec<Node>,
    root: usize,
}

/// A type; others are named by their index.
#[derive(Debug)]
enum Node {
    Null,
    Boolean,
    /// `int` and `long` are written in the same way.
    Whole,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// In 16 bytes.
    Uuid,
    /// Of `fixed` with that many bytes, or of `bytes`.
    Decimal {
        size: Option<usize>,
        scale: usize,
    },
    Date,
    TimeOfDay {
        per_second: i64,
    },
    /// `is_local`: without an offset from UTC.
    Timestamp {
        per_second: i64,
        is_local: bool,
    },
    Duration,
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
    Enum(Vec<String>),
}

impl AvroSchema {
    /// # Errors
    /// What is wrong with the schema.
    pub(super) fn parse(text: &str, references: &[(String, String)]) -> Result<Self, String> {
        let others = references.iter().map(|(_, text)| text.as_str());
        let (schema, others) =
            Schema::parse_str_with_list(text, others).map_err(|error| error.to_string())?;
        let mut plan = Plan { nodes: Vec::new(), named: HashMap::new(), others: HashMap::new() };
        for other in &others {
            if let Some(name) = other.name() {
                plan.others.insert(name.fullname(None), other);
            }
        }
        let root = plan.add(&schema, &None)?;
        Ok(Self { nodes: plan.nodes, root })
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Value, String> {
        let mut data = Data { nodes: &self.nodes, bytes, values: FREE_VALUES + 2 * bytes.len() };
        let value = data.value(self.root, 0)?;
        match data.bytes.len() {
            0 => Ok(value),
            left => Err(format!("{left} bytes are left over after the schema's last field")),
        }
    }
}

/// A schema while it is compiled.
struct Plan<'s> {
    nodes: Vec<Node>,
    named: HashMap<String, usize>,
    /// Schemas that this one refers to, by their full names.
    others: HashMap<String, &'s Schema>,
}

impl<'s> Plan<'s> {
    fn add(&mut self, schema: &'s Schema, namespace: &Namespace) -> Result<usize, String> {
        let node = match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int | Schema::Long => Node::Whole,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String | Schema::Uuid => Node::Text,
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::TimeOfDay { per_second: 1_000 },
            Schema::TimeMicros => Node::TimeOfDay { per_second: 1_000_000 },
            Schema::TimestampMillis => Node::Timestamp { per_second: 1_000, is_local: false },
            Schema::TimestampMicros => Node::Timestamp { per_second: 1_000_000, is_local: false },
            Schema::TimestampNanos => Node::Timestamp { per_second: 1_000_000_000, is_local: false },
            Schema::LocalTimestampMillis => Node::Timestamp { per_second: 1_000, is_local: true },
            Schema::LocalTimestampMicros => Node::Timestamp { per_second: 1_000_000, is_local: true },
            Schema::LocalTimestampNanos => Node::Timestamp { per_second: 1_000_000_000, is_local: true },
            Schema::Duration => Node::Duration,
            Schema::BigDecimal => return Err("big-decimal is not supported".to_owned()),
            Schema::Array(array) => Node::Array(self.add(&array.items, namespace)?),
            Schema::Map(map) => Node::Map(self.add(&map.types, namespace)?),
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.add(branch, namespace));
                Node::Union(branches.collect::<Result<_, _>>()?)
            }
            Schema::Ref { name } => return self.named(name, namespace),
            Schema::Enum(symbols) => {
                symbols.symbols.iter().try_for_each(|symbol| check_name(symbol))?;
                return Ok(self.name(&symbols.name, namespace, Node::Enum(symbols.symbols.clone())));
            }
            Schema::Fixed(fixed) => {
                let is_uuid = fixed.attributes.get("logicalType").is_some_and(|it| it == "uuid");
                let node = if is_uuid && fixed.size == 16 { Node::Uuid } else { Node::Fixed(fixed.size) };
                return Ok(self.name(&fixed.name, namespace, node));
            }
            Schema::Decimal(decimal) => {
                let node = |size| Node::Decimal { size, scale: decimal.scale };
                match &*decimal.inner {
                    Schema::Fixed(fixed) => {
                        return Ok(self.name(&fixed.name, namespace, node(Some(fixed.size))));
                    }
                    _ => node(None),
                }
            }
            Schema::Record(record) => {
                // Its fields may be of its own type.
                let index = self.name(&record.name, namespace, Node::Null);
                let inside = record.name.fully_qualified_name(namespace).namespace;
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    check_name(&field.name)?;
                    fields.push((field.name.clone(), self.add(&field.schema, &inside)?));
                }
                self.nodes[index] = Node::Record(fields);
                return Ok(index);
            }
        };
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn name(&mut self, name: &Name, namespace: &Namespace, node: Node) -> usize {
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        self.named.insert(name.fully_qualified_name(namespace).fullname(None), index);
        index
    }

    fn named(&mut self, name: &Name, namespace: &Namespace) -> Result<usize, String> {
        let name = name.fully_qualified_name(namespace).fullname(None);
        match (self.named.get(&name), self.others.get(&name)) {
            (Some(index), _) => Ok(*index),
            (None, Some(other)) => self.add(other, &None),
            (None, None) => Err(format!("the type {name} is not defined")),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    match name.len() <= MAX_NAME {
        true => Ok(()),
        false => Err(format!("a name has {} bytes, more than {MAX_NAME}", name.len())),
    }
}

/// What is left of a payload.
struct Data<'d> {
    nodes: &'d [Node],
    bytes: &'d [u8],
    /// How many values may follow.
    values: usize,
}

const TRUNCATED: &str = "it ends in the middle of a value";

impl Data<'_> {
    fn value(&mut self, node: usize, depth: usize) -> Result<Value, String> {
        self.spend(1)?;
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
        let nodes = self.nodes;
        Ok(match &nodes[node] {
            Node::Null => Value::Null,
            Node::Boolean => match self.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err("a boolean is neither 0 nor 1".to_owned()),
            },
            Node::Whole => self.whole()?.into(),
            // What is not a number was not measured.
            Node::Float => number(f32::from_le_bytes(self.array()?).into()),
            Node::Double => number(f64::from_le_bytes(self.array()?)),
            Node::Bytes => STANDARD.encode(self.lengthy()?).into(),
            Node::Text => self.text()?.into(),
            Node::Fixed(size) => STANDARD.encode(self.take(*size)?).into(),
            Node::Uuid => uuid::Uuid::from_bytes(self.array()?).to_string().into(),
            Node::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.lengthy()?,
                };
                decimal(bytes, *scale)?
            }
            Node::Date => date(self.whole()?),
            Node::TimeOfDay { per_second } => time_of_day(self.whole()?, *per_second),
            Node::Timestamp { per_second, is_local } => timestamp(self.whole()?, *per_second, *is_local),
            Node::Duration => {
                let mut members = Map::new();
                for name in ["months", "days", "milliseconds"] {
                    members.insert(name.to_owned(), u32::from_le_bytes(self.array()?).into());
                }
                Value::Object(members)
            }
            Node::Array(items) => {
                let mut elements = Vec::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        elements.push(self.value(*items, depth + 1)?);
                    }
                }
                Value::Array(elements)
            }
            Node::Map(values) => {
                let mut members = Map::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        let name = self.text()?.to_owned();
                        let value = self.value(*values, depth + 1)?;
                        members.insert(name, value);
                    }
                }
                Value::Object(members)
            }
            Node::Union(branches) => {
                let branch = usize::try_from(self.whole()?).ok().and_then(|branch| branches.get(branch));
                let branch = branch.ok_or("a union has no such branch")?;
                self.value(*branch, depth + 1)?
            }
            Node::Record(fields) => {
                let mut members = Map::new();
                for (name, node) in fields {
                    self.spend(name.len() / 32)?;
                    let value = self.value(*node, depth + 1)?;
                    members.insert(name.clone(), value);
                }
                Value::Object(members)
            }
            Node::Enum(symbols) => {
                let symbol = usize::try_from(self.whole()?).ok().and_then(|symbol| symbols.get(symbol));
                symbol.ok_or("an enum has no such symbol")?.as_str().into()
            }
        })
    }

    /// Counts what takes memory: a schema of types without bytes makes any number of values out of nothing.
    fn spend(&mut self, values: usize) -> Result<(), String> {
        self.values = self.values.checked_sub(values).ok_or("it has too many values for its length")?;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(TRUNCATED)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| TRUNCATED.to_owned())
    }

    /// Zigzag, in groups of 7 bits.
    fn whole(&mut self) -> Result<i64, String> {
        let mut found = 0_u64;
        for (at, byte) in self.bytes.iter().take(10).enumerate() {
            found |= u64::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return Ok((found >> 1).cast_signed() ^ -(found & 1).cast_signed());
            }
        }
        Err(if self.bytes.len() < 10 { TRUNCATED } else { "a number has more than 10 bytes" }.to_owned())
    }

    fn lengthy(&mut self) -> Result<&[u8], String> {
        match usize::try_from(self.whole()?) {
            Ok(length) => self.take(length),
            Err(_) => Err("a length is negative".to_owned()),
        }
    }

    fn text(&mut self) -> Result<&str, String> {
        std::str::from_utf8(self.lengthy()?).map_err(|_| "a string is not UTF-8".to_owned())
    }

    /// The number of items of the next block of an array or map; `None` at the end.
    fn block(&mut self) -> Result<Option<u64>, String> {
        let count = self.whole()?;
        if count < 0 {
            // Its size in bytes, for readers that skip it.
            self.whole()?;
        }
        Ok(Some(count.unsigned_abs()).filter(|count| *count > 0))
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Big-endian, in two's complement.
fn decimal(bytes: &[u8], scale: usize) -> Result<Value, String> {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    if bytes.len() > 16 {
        return Err("a decimal has more than 38 digits".to_owned());
    }
    let mut wide = [if is_negative { 0xFF } else { 0 }; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    let unscaled = i128::from_be_bytes(wide);
    match i64::try_from(unscaled) {
        Ok(whole) if scale == 0 => Ok(whole.into()),
        _ => Ok(format!("{unscaled}e-{scale}").parse().map_or(Value::Null, number)),
    }
}

/// Days since 1970. What no calendar has stays a number.
fn date(days: i64) -> Value {
    let found = i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days);
    found.map_or_else(|| days.into(), |date| date.format("%Y-%m-%d").to_string().into())
}

fn time_of_day(count: i64, per_second: i64) -> Value {
    let found = DateTime::<Utc>::from_timestamp(0, 0).and_then(|midnight| {
        let nanos = count.checked_mul(1_000_000_000 / per_second)?;
        midnight.checked_add_signed(chrono::Duration::nanoseconds(nanos))
    });
    match found {
        Some(time) if (0..86_400 * per_second).contains(&count) => {
            time.format("%H:%M:%S%.f").to_string().into()
        }
        _ => count.into(),
    }
}

/// RFC 3339, so that nobody has to say the unit again.
fn timestamp(count: i64, per_second: i64, is_local: bool) -> Value {
    let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let moment = u32::try_from(nanos).ok().and_then(|nanos| {
        DateTime::<Utc>::from_timestamp(count.div_euclid(per_second), nanos)
            .filter(|moment| (0..=9_999).contains(&chrono::Datelike::year(moment)))
    });
    match moment {
        Some(moment) if is_local => moment.format("%Y-%m-%dT%H:%M:%S%.f").to_string().into(),
        Some(moment) => moment.to_rfc3339_opts(SecondsFormat::AutoSi, true).into(),
        None => count.into(),
    }
}
