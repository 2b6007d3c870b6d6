//! Where samples of messages come from: a file, stdin, or the topic.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value};

use crate::config::{Loaded, Sources};
use crate::error::UsageError;
use crate::kafka::newest;
use crate::mapping::infer::Sample;
use crate::shutdown::Shutdown;
use crate::time;

/// Which messages are looked at.
#[derive(Debug, Args)]
pub struct SamplesArgs {
    /// Messages, one a line; - for stdin [default: the newest of the topic, which --topic names]
    #[arg(long, visible_alias = "file", value_name = "FILE")]
    samples: Option<PathBuf>,
    /// How many messages of the topic to read
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000), conflicts_with = "samples")]
    count: u64,
}

impl SamplesArgs {
    /// Each with what an error calls it: "line 3", "message 3".
    pub(super) async fn read(
        &self,
        sources: &Sources,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Vec<(String, Sample)>> {
        if let Some(path) = &self.samples {
            let text = read(path)?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            return Ok(lines.map(|(index, line)| (format!("line {}", index + 1), sample(line))).collect());
        }
        let config = Loaded::load(sources).map_err(|error| UsageError::new(error.to_string()))?.config;
        let found = newest::newest(&config.kafka, &config.kafka.topic, self.count, shutdown).await?;
        if found.is_empty() {
            bail!(
                "topic {:?} has no messages (name another with --topic, or a file with --samples)",
                config.kafka.topic
            );
        }
        Ok(found
            .into_iter()
            .enumerate()
            .map(|(index, sample)| (format!("message {}", index + 1), sample))
            .collect())
    }
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether an object is a message and not a payload, which may have members of these names too: it has no others, and its
/// value is not a number beside a time alone.
fn is_message(object: &Map<String, Value>) -> bool {
    const MEMBERS: [&str; 8] =
        ["topic", "key", "headers", "timestamp", "value", "value_base64", "partition", "offset"];
    let has = |names: &[&str]| names.iter().any(|name| object.contains_key(*name));
    let is_reading = object.len() > 1
        && !has(&["topic", "key", "headers", "value_base64"])
        && matches!(object.get("value"), Some(Value::Number(_) | Value::Bool(_) | Value::Null));
    has(&["value", "value_base64"])
        && !is_reading
        && object.keys().all(|name| MEMBERS.contains(&name.as_str()))
}

fn sample(line: &str) -> Sample {
    let message = match serde_json::from_str::<Map<String, Value>>(line) {
        Ok(message) if is_message(&message) => message,
        // A payload that stands alone.
        _ => Map::from_iter([("value".to_owned(), Value::String(line.to_owned()))]),
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let headers = message.get("headers").and_then(Value::as_object).into_iter().flatten();
    Sample {
        topic: message.get("topic").map(text).unwrap_or_default(),
        key: message.get("key").filter(|key| !key.is_null()).map(|key| text(key).into_bytes()),
        headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
        timestamp: message.get("timestamp").and_then(Value::as_i64).unwrap_or_else(time::now),
        payload: match message.get("value_base64").and_then(Value::as_str) {
            // What is no base64 is a payload that no format takes.
            Some(encoded) => STANDARD.decode(encoded).unwrap_or_default(),
            None => message.get("value").map(text).unwrap_or_default().into_bytes(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_with_members_of_a_message_is_a_payload() {
        for (line, payload) in [
            (r#"{"topic":"t","value":{"a":1}}"#, r#"{"a":1}"#),
            (r#"{"key":"solar/power","value":"512.3"}"#, "512.3"),
            (r#"{"value":21.5}"#, "21.5"),
            (r#"{"timestamp":1,"key":null,"value_base64":"e30="}"#, "{}"),
            (r#"{"name":"t","value":21.5}"#, r#"{"name":"t","value":21.5}"#),
            (r#"{"timestamp":1795600000,"value":21.5}"#, r#"{"timestamp":1795600000,"value":21.5}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("21.5", "21.5"),
        ] {
            assert_eq!(String::from_utf8(sample(line).payload).unwrap(), payload, "{line}");
        }
    }
}
