//! From a message's bytes to a [`Reading`], or the reason why it can never be stored.

use std::time::Duration;

use super::Reading;

/// What decoding refuses beyond malformed messages.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    pub max_message_bytes: usize,
    pub max_future_skew: Duration,
}

/// Why a message can never be stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("not JSON: {0}")]
    NotJson(String),
}

/// A decoded message.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded<'a> {
    pub reading: Reading<'a>,
    /// Unknown fields that are no numbers; they are not stored.
    pub ignored_fields: u32,
}

/// Decodes one message. `now` is in milliseconds since the epoch.
pub fn decode<'a>(_message: &'a [u8], _limits: &DecodeLimits, _now: i64) -> Result<Decoded<'a>, Rejection> {
    unimplemented!()
}
