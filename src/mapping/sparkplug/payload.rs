//! The payload of Sparkplug B, as the specification defines it (Eclipse Tahu's `sparkplug_b.proto`), without the parts that
//! hold no readings: data sets, templates and properties are skipped by the decoder.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    /// Milliseconds since the epoch.
    #[prost(uint64, optional, tag = "1")]
    pub(super) timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
    #[prost(string, optional, tag = "4")]
    pub(super) uuid: Option<String>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) body: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) alias: Option<u64>,
    /// Milliseconds since the epoch.
    #[prost(uint64, optional, tag = "3")]
    pub(super) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub(super) datatype: Option<u32>,
    #[prost(bool, optional, tag = "5")]
    pub(super) is_historical: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) is_null: Option<bool>,
    #[prost(oneof = "Content", tags = "10, 11, 12, 13, 14, 15, 16")]
    pub(super) value: Option<Content>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Content {
    /// Signed types too, in two's complement.
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
}

/// Whether the bits of an integer of this data type are signed, and how many they are; `None` if it is no integer.
pub(super) fn integer(datatype: u32) -> Option<(bool, u32)> {
    Some(match datatype {
        1 => (true, 8),
        2 => (true, 16),
        3 => (true, 32),
        4 => (true, 64),
        5 => (false, 8),
        6 => (false, 16),
        7 => (false, 32),
        // 13 is a moment, in milliseconds.
        8 | 13 => (false, 64),
        _ => return None,
    })
}
