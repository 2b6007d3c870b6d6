//! The newest messages of a topic, for a look at what it holds. Nothing is committed and no group joined.

use super::reader::{Span, Step, TopicReader};
use super::{Error, topics};
use crate::config::KafkaConfig;
use crate::mapping::infer::Sample;
use crate::shutdown::Shutdown;

/// Bytes of payloads that are kept at most.
const MOST_BYTES: usize = 64 << 20;

/// Up to `count` messages, as many of each partition as it has.
///
/// # Errors
/// If the topic does not exist, or no broker answers within `kafka.request_timeout`. A request to stop ends it early, with
/// what was read.
pub async fn newest(
    config: &KafkaConfig,
    topic: &str,
    count: u64,
    shutdown: &Shutdown,
) -> Result<Vec<Sample>, Error> {
    let spans = spans(&topics::watermarks(config, topic).await?, count);
    let (config, topic, shutdown) = (config.clone(), topic.to_owned(), shutdown.clone());
    topics::blocking(move || read(&config, &topic, &spans, &shutdown)).await
}

fn read(
    config: &KafkaConfig,
    topic: &str,
    spans: &[Span],
    shutdown: &Shutdown,
) -> Result<Vec<Sample>, Error> {
    let mut reader = TopicReader::open(config, topic, spans)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while !shutdown.is_requested() && bytes < MOST_BYTES {
        let message = match reader.step()? {
            Step::Message(message) => message,
            Step::Waiting => continue,
            Step::End => break,
        };
        let Some(payload) = message.payload_or_null() else { continue };
        bytes += payload.len();
        let headers = (0..message.header_count()).filter_map(|index| message.header(index));
        found.push(Sample {
            topic: topic.to_owned(),
            key: message.key().map(<[u8]>::to_vec),
            headers: headers
                .filter_map(|header| Some((header.name, String::from_utf8(header.value?).ok()?)))
                .collect(),
            timestamp: message.timestamp(),
            payload: payload.to_vec(),
        });
    }
    Ok(found)
}

/// The last offsets of each partition, `count` in all if there are as many.
fn spans(watermarks: &[(i64, i64)], count: u64) -> Vec<Span> {
    let mut left = count;
    let mut open: Vec<Span> =
        (0..).zip(watermarks).map(|(partition, &(_, to))| Span { partition, from: to, to }).collect();
    while left > 0 {
        let first =
            |span: &Span| watermarks.get(usize::try_from(span.partition).ok()?).map(|(first, _)| *first);
        let growing: Vec<usize> = (0..open.len())
            .filter(|index| first(&open[*index]).is_some_and(|first| open[*index].from > first))
            .collect();
        if growing.is_empty() {
            break;
        }
        let share = i64::try_from((left / growing.len() as u64).max(1)).unwrap_or(i64::MAX);
        for index in growing.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            let from =
                first(&open[index]).unwrap_or(open[index].from).max(open[index].from.saturating_sub(share));
            left = left.saturating_sub(u64::try_from(open[index].from - from).unwrap_or(0));
            open[index].from = from;
        }
    }
    open.retain(|span| !span.is_empty());
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_with_few_messages_leaves_its_share_to_others() {
        let taken = |watermarks: &[(i64, i64)], count| {
            spans(watermarks, count)
                .iter()
                .map(|span| (span.partition, span.from, span.to))
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(&[(0, 100), (95, 100), (7, 7)], 30), [(0, 75, 100), (1, 95, 100)]);
        assert_eq!(taken(&[(0, 2)], 30), [(0, 0, 2)]);
        assert_eq!(taken(&[(0, 9), (0, 9), (0, 9)], 2), [(0, 8, 9), (1, 8, 9)]);
        assert_eq!(taken(&[], 5), []);
    }
}
