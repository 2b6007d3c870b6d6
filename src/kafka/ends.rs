//! Where a reader can get to. The offsets of a partition also count transaction markers, messages of aborted transactions
//! and compacted messages, none of which a reader ever sees: a partition can be read to its end although the last message
//! is far before it.

use std::collections::HashMap;

use super::Error;
use super::reader::{Span, Step, TopicReader};
use super::topics;
use crate::config::KafkaConfig;

/// How many times as far back each look for a last message begins.
const FURTHER: i64 = 16;

/// The first message of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstMessage {
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// Reads the first message of each span, by partition; without an entry if the span holds none. Blocking.
pub fn first_messages(
    config: &KafkaConfig,
    topic: &str,
    spans: &[Span],
) -> Result<HashMap<i32, FirstMessage>, Error> {
    let mut reader = TopicReader::open(config, topic, spans)?;
    let mut found = HashMap::new();
    loop {
        let partition = match reader.step()? {
            Step::Message(message) => {
                let first = FirstMessage { offset: message.offset(), timestamp: message.timestamp() };
                found.entry(message.partition()).or_insert(first);
                message.partition()
            }
            Step::Waiting => continue,
            Step::End => return Ok(found),
        };
        reader.close(partition)?;
    }
}

/// The offset after the last message that a reader can see, by partition number; the first offset kept if there is none.
pub async fn reachable_ends(config: &KafkaConfig, topic: &str) -> Result<Vec<i64>, Error> {
    let watermarks = topics::watermarks(config, topic).await?;
    let (config, topic) = (config.clone(), topic.to_owned());
    topics::blocking(move || reachable(&config, &topic, &watermarks)).await
}

fn reachable(config: &KafkaConfig, topic: &str, watermarks: &[(i64, i64)]) -> Result<Vec<i64>, Error> {
    let mut ends: Vec<i64> = watermarks.iter().map(|(first, _)| *first).collect();
    let spans = (0..).zip(watermarks).map(|(partition, &(from, to))| Span { partition, from, to });
    let mut unknown: Vec<Span> = spans.filter(|span| !span.is_empty()).collect();
    let mut distance = 1;
    while !unknown.is_empty() {
        let tails: Vec<Span> =
            unknown.iter().map(|span| Span { from: span.from.max(span.to - distance), ..*span }).collect();
        let last = last_offsets(config, topic, &tails)?;
        for (partition, offset) in &last {
            if let Some(end) = usize::try_from(*partition).ok().and_then(|index| ends.get_mut(index)) {
                *end = offset + 1;
            }
        }
        unknown.retain(|span| !last.contains_key(&span.partition) && span.from < span.to - distance);
        distance = distance.saturating_mul(FURTHER);
    }
    Ok(ends)
}

fn last_offsets(config: &KafkaConfig, topic: &str, spans: &[Span]) -> Result<HashMap<i32, i64>, Error> {
    let mut reader = TopicReader::open(config, topic, spans)?;
    let mut last = HashMap::new();
    loop {
        match reader.step()? {
            Step::Message(message) => {
                last.insert(message.partition(), message.offset());
            }
            Step::Waiting => {}
            Step::End => return Ok(last),
        }
    }
}
