//! A first mapping for messages that nobody has described: a preset that reads them all, or a draft with comments that say
//! what was seen and what was guessed.

use serde_json::Value;

mod draft;
mod embedded;
mod formats;
mod keys;
mod names;
mod observed;
mod pairs;
mod reshape;
mod texts;
mod times;
mod unit_topics;
mod units;

use super::{Headers, Mapping, Record, presets};
use crate::output::text::{one_or_many, plural};
use crate::reading::{DecodeLimits, Rejection};

/// A message to learn from.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub payload: Vec<u8>,
}

impl Headers for Sample {
    fn text(&self, name: &str) -> Option<String> {
        self.headers.iter().rev().find(|(known, _)| known == name).map(|(_, text)| text.clone())
    }
}

impl Sample {
    pub fn record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            key: self.key.as_deref(),
            headers: self,
            timestamp: Some(self.timestamp),
            payload: &self.payload,
        }
    }
}

/// The text of a mapping file for messages like these.
///
/// # Errors
/// Why none can be drafted.
pub fn infer(samples: &[Sample], limits: &DecodeLimits, now: i64) -> Result<String, String> {
    if samples.is_empty() {
        return Err("there are no messages to infer a mapping from".to_owned());
    }
    let of_presets = presets::ALL.iter().filter_map(|preset| {
        let mapping = Mapping::parse(preset.name, preset.text).ok()?;
        let outcome = Outcome::of(&mapping, samples, limits, now);
        outcome.is_of_preset(samples.len()).then_some((outcome, preset))
    });
    if let Some((outcome, preset)) = of_presets.max_by_key(|(outcome, _)| outcome.mapped + outcome.unborn) {
        return Ok(format!(
            "# The preset {}: {}.\n# {}.\n\n{}",
            preset.name,
            preset.about,
            outcome.text(samples.len()),
            preset.text
        ));
    }
    let draft = draft::draft(samples)?;
    let outcome = match Mapping::parse("the draft", &draft) {
        Ok(mapping) => Outcome::of(&mapping, samples, limits, now).text(samples.len()),
        Err(error) => error.to_string().replace('\n', "\n# "),
    };
    Ok(format!(
        "# A draft, made from {}. {outcome}.\n# Check what is marked as guessed.\n\n{draft}",
        plural(samples.len(), "message")
    ))
}

/// What a mapping makes of the samples.
#[derive(Default)]
struct Outcome {
    mapped: usize,
    skipped: usize,
    refused: usize,
    /// Of those that are refused: not in the format or with a number that none can be, and of Sparkplug without a birth among the
    /// samples.
    unreadable: usize,
    unborn: usize,
    /// The first that is refused, and why.
    first_refused: Option<(usize, String)>,
    readings: usize,
    empty: usize,
    replaced: usize,
}

impl Outcome {
    fn of(mapping: &Mapping, samples: &[Sample], limits: &DecodeLimits, now: i64) -> Self {
        let mut outcome = Self::default();
        for (index, sample) in samples.iter().enumerate() {
            match mapping.read(&sample.record(), limits, now) {
                Ok(mapped) if mapped.is_skipped => outcome.skipped += 1,
                Ok(mapped) if mapped.faults.is_empty() => {
                    outcome.mapped += 1;
                    outcome.readings += mapped.readings.len();
                    outcome.empty += mapped.empty.len();
                    outcome.replaced += mapped.replaced;
                }
                Ok(mapped) => outcome.refuse(index, mapped.faults.first()),
                Err(rejection) => outcome.refuse(index, Some(&rejection)),
            }
        }
        outcome
    }

    fn refuse(&mut self, index: usize, rejection: Option<&Rejection>) {
        self.refused += 1;
        match rejection.map(Rejection::reason) {
            Some("no_birth") => self.unborn += 1,
            Some(
                "not_json"
                | "not_plain_json"
                | "not_in_format"
                | "timestamp_out_of_range"
                | "number_out_of_range",
            ) => self.unreadable += 1,
            _ => {}
        }
        if let (None, Some(rejection)) = (&self.first_refused, rejection) {
            let problem: String = rejection.to_string().chars().filter(|char| !char.is_control()).collect();
            self.first_refused = Some((index + 1, problem));
        }
    }

    /// Whether these are messages of the preset: it reads almost all of them, and the others are wrong in themselves.
    fn is_of_preset(&self, messages: usize) -> bool {
        self.refused == self.unreadable + self.unborn
            && self.unreadable * 5 <= messages
            && (self.readings > 0 || self.unborn > 0)
    }

    fn text(&self, messages: usize) -> String {
        let replaced = match self.replaced {
            0 => String::new(),
            count => format!(
                ".\n# {} replaced by others of the same name, sensor and time: sensor or recorded_timestamp must tell them apart",
                one_or_many(count, "value is", "values are")
            ),
        };
        let empty = match self.empty {
            0 => String::new(),
            count => format!(", {} no value", one_or_many(count, "reading has", "readings have")),
        };
        let refused = match &self.first_refused {
            Some((message, problem)) => {
                format!(".\n# Message {message} is the first that is refused: {problem}")
            }
            None => String::new(),
        };
        format!(
            "{} of {messages} messages become {}, {} skipped, {} refused{empty}{replaced}{refused}",
            self.mapped,
            plural(self.readings, "reading"),
            one_or_many(self.skipped, "is", "are"),
            self.refused
        )
    }
}

/// A string of TOML, which takes the escapes of JSON.
fn quoted(text: &str) -> String {
    // DEL is the one control character that JSON leaves as it is.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests;
