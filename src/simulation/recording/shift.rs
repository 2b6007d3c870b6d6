//! `--time-shift`.

use std::time::Duration;

use crate::error::UsageError;

/// How to shift a recording's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeShift {
    #[default]
    None,
    /// The last reading becomes now. Needs a file: it is read twice.
    LastIsNow,
    /// Milliseconds, negative for the past.
    By(i64),
}

impl std::str::FromStr for TimeShift {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        if text == "now" {
            return Ok(TimeShift::LastIsNow);
        }
        let (sign, amount) = match text.strip_prefix('-') {
            Some(amount) => (-1, amount),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let amount: Option<Duration> = humantime::parse_duration(amount).ok();
        let millis = amount.and_then(|amount| i64::try_from(amount.as_millis()).ok());
        millis.map(|millis| TimeShift::By(sign * millis)).ok_or_else(|| {
            UsageError::new(format!("--time-shift {text:?}: write `now`, or a duration such as +7d or -1h"))
        })
    }
}
