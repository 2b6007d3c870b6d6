//! Why a message can never be stored: the cause by its name, and what to do about it. Built only where a message is
//! refused, so nothing here is on the fast path.

use std::borrow::Cow;

use super::decode::{EARLIEST, MAX_OTHER_METRICS};
use crate::time;

/// Names of fields that a message lists.
const MAX_LISTED: usize = 3;

/// Why a message can never be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// JSON may be inside, but not in a form that is read here; the text names the form and the remedy.
    #[error("not plain JSON: {0}")]
    Encoded(&'static str),
    #[error("{bytes} bytes are more than the {limit} that ingest.max_message_bytes allows")]
    TooLarge { bytes: usize, limit: usize },
    #[error("required field {0} is missing")]
    MissingField(&'static str),
    #[error("field {field} must be {expected}")]
    IllTyped { field: &'static str, expected: &'static str },
    #[error("field {field}: {value} does not fit a {bits}-bit float")]
    NumberOutOfRange { field: String, value: String, bits: u8 },
    #[error("recorded_timestamp {at} ms is {problem}{hint}")]
    TimestampOutOfRange {
        /// Milliseconds since the epoch.
        at: i64,
        problem: &'static str,
        /// What the number looks like instead, in brackets; empty where it looks like nothing known.
        hint: String,
    },
    #[error("field {field}: a name must have 1 to 256 bytes and no control characters")]
    BadName { field: String },
    #[error("more than {MAX_OTHER_METRICS} other metrics, or as many states")]
    TooManyMetrics,
    #[error(
        "no field holds a value that can be stored: {fields} (send numbers, booleans or text at the top level or in \
         other_metrics)"
    )]
    NothingUnderstood { fields: String },
    /// Of a mapping: the payload is not in the format that its source states.
    #[error("not {format}: {problem}")]
    NotInFormat { format: &'static str, problem: String },
    #[error("the schema registry has no schema {id} (register it there, or send with its serializer)")]
    UnknownSchema { id: u32 },
    #[error("schema {id} of the registry: {problem}")]
    UnusableSchema { id: u32, problem: String },
    /// Of Sparkplug B.
    #[error(
        "{node}: {problem} (have the edge node send its births again, then `iotctl dead-letters replay --reason no_birth --yes`)"
    )]
    NoBirth { node: String, problem: &'static str },
    #[error(
        "no source of the mapping is for the topic {topic:?} and this key (add a [[source]], with drop = true to skip it)"
    )]
    NoSource { topic: String },
    /// `key` is that of the mapping file.
    #[error("mapping: {key}: {problem}")]
    Unmapped { key: String, problem: String },
    /// Of a row of a file; `key` is that of the mapping file.
    #[error(
        "mapping: {key}: rows of files have no time of their own (give recorded_timestamp the path of a column; \
         `timestamp` is a message's)"
    )]
    NoTime { key: &'static str },
    /// Of a message with many readings; the others are stored.
    #[error("element {index} of {count}: {cause}")]
    Element { index: usize, count: usize, cause: Box<Rejection> },
}

impl Rejection {
    /// Every label of [`Rejection::reason`], in the order of [`Rejection::examples`].
    pub const REASONS: [&str; 17] = [
        "not_json",
        "not_plain_json",
        "too_large",
        "missing_field",
        "ill_typed_field",
        "number_out_of_range",
        "timestamp_out_of_range",
        "bad_name",
        "too_many_metrics",
        "nothing_understood",
        "not_in_format",
        "unknown_schema",
        "unusable_schema",
        "no_birth",
        "no_source",
        "unmapped",
        "no_time",
    ];

    /// One of each, for the reference.
    pub fn examples() -> Vec<Self> {
        vec![
            Self::NotJson("expected value at line 1 column 1".to_owned()),
            Self::Encoded(SCHEMA_REGISTRY),
            Self::TooLarge { bytes: 1_048_577, limit: 1_048_576 },
            Self::MissingField("iot_sensor_id"),
            Self::IllTyped { field: "iot_sensor_id", expected: "a UUID" },
            too_large_for_a_column("temperature", 1e39),
            out_of_range(1_749_981_600, 1_750_000_000_000),
            Self::BadName { field: "location".to_owned() },
            Self::TooManyMetrics,
            nothing_understood(&["readings".into()]),
            Self::NotInFormat { format: "line-protocol", problem: "line 2: no fields".to_owned() },
            Self::UnknownSchema { id: 42 },
            Self::UnusableSchema { id: 7, problem: "it is for avro (set format = \"avro\")".to_owned() },
            Self::NoBirth {
                node: "plant/edge/pump".to_owned(),
                problem: "no birth certificate from before this message is known",
            },
            Self::NoSource { topic: "plant".to_owned() },
            Self::Unmapped { key: "sensor".to_owned(), problem: "value.id is missing".to_owned() },
            Self::NoTime { key: "recorded_timestamp" },
        ]
    }

    /// For bytes that are no JSON: what they are, where their beginning tells.
    pub fn not_json(message: &[u8], error: &serde_json::Error) -> Self {
        not_json(message, error)
    }

    /// A short label for counting: one of a fixed few.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::Encoded(_) => "not_plain_json",
            Self::TooLarge { .. } => "too_large",
            Self::MissingField(_) => "missing_field",
            Self::IllTyped { .. } => "ill_typed_field",
            Self::NumberOutOfRange { .. } => "number_out_of_range",
            Self::TimestampOutOfRange { .. } => "timestamp_out_of_range",
            Self::BadName { .. } => "bad_name",
            Self::TooManyMetrics => "too_many_metrics",
            Self::NothingUnderstood { .. } => "nothing_understood",
            Self::NotInFormat { .. } => "not_in_format",
            Self::UnknownSchema { .. } => "unknown_schema",
            Self::UnusableSchema { .. } => "unusable_schema",
            Self::NoBirth { .. } => "no_birth",
            Self::NoSource { .. } => "no_source",
            Self::Unmapped { .. } => "unmapped",
            Self::NoTime { .. } => "no_time",
            Self::Element { cause, .. } => cause.reason(),
        }
    }
}

/// A field's name, fit for a message: it may be anything, of any length.
pub fn shown(field: &str) -> String {
    field.chars().take(64).flat_map(char::escape_debug).collect()
}

/// For bytes that are no JSON object: what they are, where their beginning tells.
pub(super) fn not_json(message: &[u8], error: &serde_json::Error) -> Rejection {
    match encoding(message) {
        Some(encoding) => Rejection::Encoded(encoding),
        None => Rejection::NotJson(error.to_string()),
    }
}

const SCHEMA_REGISTRY: &str = "its first byte is 0: framed by a schema registry (ingest it with a mapping, format = \"avro\", \"protobuf\" or \"json-schema\")";

fn encoding(message: &[u8]) -> Option<&'static str> {
    Some(match message {
        [0xEF, 0xBB, 0xBF, ..] => "it begins with a byte-order mark (send UTF-8 without one)",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [b'{', 0, ..] | [0, b'{', ..] => "it is UTF-16 (send UTF-8)",
        [0, ..] => SCHEMA_REGISTRY,
        [0x1F, 0x8B, ..] => {
            "it is compressed with gzip (send it as it is, and set the producer's compression.type)"
        }
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            "it is compressed with zstd (send it as it is, and set the producer's compression.type)"
        }
        _ => return None,
    })
}

pub(super) fn is_out_of_range(error: &impl std::fmt::Display) -> bool {
    error.to_string().starts_with("number out of range")
}

pub(super) fn too_large_for_a_column(path: &str, value: f64) -> Rejection {
    Rejection::NumberOutOfRange { field: shown(path), value: value.to_string(), bits: 32 }
}

/// Of a number that the parser could not hold, infinity stands for it.
pub(super) fn too_large_for_a_number(path: &str, value: f64) -> Rejection {
    let value = if value.is_finite() { value.to_string() } else { "its number".into() };
    Rejection::NumberOutOfRange { field: shown(path), value, bits: 64 }
}

pub(super) fn nothing_understood(left_out: &[Cow<'_, str>]) -> Rejection {
    let mut fields: Vec<_> = left_out.iter().take(MAX_LISTED).map(|field| shown(field)).collect();
    if left_out.len() > MAX_LISTED {
        fields.push(format!("and {} more", left_out.len() - MAX_LISTED));
    }
    Rejection::NothingUnderstood { fields: fields.join(", ") }
}

/// For a timestamp before [`EARLIEST`] or after `latest`, both in milliseconds since the epoch.
pub(super) fn out_of_range(at: i64, latest: i64) -> Rejection {
    let problem = if at < EARLIEST { "before the year 2000" } else { "too far in the future" };
    let range = EARLIEST..=latest;
    let units = [
        (at.checked_mul(1000), "seconds"),
        (Some(at.saturating_add(500) / 1000), "microseconds"),
        (Some(at.saturating_add(500_000) / 1_000_000), "nanoseconds"),
    ];
    let unit = units.iter().find_map(|(millis, unit)| Some((millis.filter(|at| range.contains(at))?, unit)));
    let hint = match unit {
        Some((millis, unit)) => {
            format!(" (as {unit} it would be {}: send milliseconds)", time::display(millis))
        }
        None => match time::spelled_date(&at.to_string()) {
            Some(date) => {
                format!(" (it looks like the date {date}: send RFC 3339, or milliseconds since 1970)")
            }
            None => String::new(),
        },
    };
    Rejection::TimestampOutOfRange { at, problem, hint }
}
