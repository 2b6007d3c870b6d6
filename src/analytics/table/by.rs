//! `--by`: what each line of the answer is about.

use std::str::FromStr;
use std::sync::Arc;

use crate::analytics::stats::{By, Dimension};
use crate::error::UsageError;
use crate::output::record::Heading;
use crate::reading::tags;
use crate::time::{Periods, Span, Zone};

/// One of the things that the values are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByArg {
    Sensor,
    Location,
    DeviceType,
    /// With its key.
    Tag(Arc<str>),
    /// With the name of its column.
    Every(&'static str, Span),
}

/// Those that are not a tag or a length of time.
pub const NAMES: [(&str, ByArg); 7] = [
    ("sensor", ByArg::Sensor),
    ("location", ByArg::Location),
    ("device-type", ByArg::DeviceType),
    ("hour", ByArg::Every("hour", Span::Clock(crate::time::HOUR))),
    ("day", ByArg::Every("day", Span::Days(1))),
    ("week", ByArg::Every("week", Span::Weeks(1))),
    ("month", ByArg::Every("month", Span::Months(1))),
];

impl ByArg {
    /// Under which name programs find it.
    pub fn heading(&self) -> Heading {
        match self {
            Self::Sensor => Heading::left("iot_sensor_id"),
            Self::Location => Heading::left("location"),
            Self::DeviceType => Heading::left("device_type"),
            Self::Tag(key) => Heading::left(format!("tag:{key}")),
            Self::Every(name, _) => Heading::left(*name),
        }
    }
}

/// `--by` as the question has it; `tags` gets the keys of tags in the order of their index.
pub fn dimensions(by: &[ByArg], zone: Zone, tags: &mut Vec<Arc<str>>) -> Result<By, UsageError> {
    let dimensions: Vec<_> = by
        .iter()
        .map(|by| match by {
            ByArg::Sensor => Dimension::Sensor,
            ByArg::Location => Dimension::Location,
            ByArg::DeviceType => Dimension::DeviceType,
            ByArg::Every(_, span) => Dimension::Time(Periods::every(*span, zone)),
            ByArg::Tag(key) => {
                tags.push(key.clone());
                Dimension::Tag(tags.len() - 1)
            }
        })
        .collect();
    let is_repeated = by.iter().enumerate().any(|(index, one)| by[..index].contains(one));
    By::of(&dimensions).filter(|_| !is_repeated).ok_or_else(|| {
        UsageError::new(format!(
            "--by takes up to {} different names, with one length of time among them (--by location,1h)",
            By::MOST
        ))
    })
}

impl FromStr for ByArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, known)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(known.clone());
        }
        if let Some(key) = text.strip_prefix("tag:").filter(|key| tags::check_key(key).is_ok()) {
            return Ok(Self::Tag(key.into()));
        }
        if let Ok(span) = text.parse() {
            return Ok(Self::Every("time", span));
        }
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        Err(format!("write {}, tag:KEY, or a length of time such as 15m, 6h or 3mo", names.join(", ")))
    }
}
