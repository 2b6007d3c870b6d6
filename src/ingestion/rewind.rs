//! Messages that were ingested before, and that the rules judge again because what they remember is older: between a snapshot and
//! the committed offset. Their rows are stored and their alerts are sent; neither is done again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::runtime::Handle;

use super::lookups::LookupWait;
use super::order::{Next, Order};
use super::snapshots::{Again, Offsets};
use crate::alerting::Detector;
use crate::config::KafkaConfig;
use crate::kafka::consumer::GroupOffsets;
use crate::kafka::message::Message;
use crate::kafka::reader::{Span, Step, TopicReader};
use crate::kafka::{TopicPartition, topics};
use crate::mapping::Mapping;
use crate::reading::decode::{self, DecodeLimits};
use crate::shutdown::Shutdown;
use crate::time;

/// How long all partitions of an assignment may take together. The pipeline waits for it, and has to be back before it counts as
/// hanging.
pub(super) const DEADLINE: Duration = Duration::from_secs(45);

pub(super) struct Rewind {
    kafka: KafkaConfig,
    runtime: Handle,
    shutdown: Shutdown,
}

/// What turns messages into readings.
pub(super) struct Reader<'a> {
    pub limits: &'a DecodeLimits,
    pub mapping: Option<&'a Mapping>,
    pub lookups: Option<&'a LookupWait>,
}

impl Rewind {
    pub(super) fn new(kafka: &KafkaConfig, runtime: &Handle, shutdown: &Shutdown) -> Self {
        Self { kafka: kafka.clone(), runtime: runtime.clone(), shutdown: shutdown.clone() }
    }

    /// Where partitions begin and end, and what the consumer group has committed.
    pub(super) fn offsets(
        &self,
        partitions: &[TopicPartition],
        group: &GroupOffsets<'_>,
    ) -> Result<Vec<(TopicPartition, Offsets)>, crate::kafka::Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let committed: HashMap<TopicPartition, i64> =
            group.committed(partitions)?.into_iter().map(|found| (found.of, found.offset)).collect();
        let mut watermarks: HashMap<&str, Vec<(i64, i64)>> = HashMap::new();
        let mut offsets = Vec::with_capacity(partitions.len());
        for of in partitions {
            let topic = of.topic.as_str();
            if !watermarks.contains_key(topic) {
                watermarks.insert(topic, self.runtime.block_on(topics::watermarks(&self.kafka, topic))?);
            }
            let index = usize::try_from(of.partition).unwrap_or(usize::MAX);
            if let Some((first, end)) = watermarks.get(topic).and_then(|of| of.get(index)) {
                let committed = committed.get(of).copied();
                offsets.push((*of, Offsets { committed, first: *first, end: *end }));
            }
        }
        Ok(offsets)
    }

    /// Judges the messages of partitions of one topic again, in the order of their timestamps and without alerts. Gives up at
    /// `until`.
    pub(super) fn judge(
        &self,
        again: &[Again],
        reader: &Reader<'_>,
        detector: &mut Detector,
        until: Instant,
    ) -> anyhow::Result<()> {
        let Some(first) = again.first() else { return Ok(()) };
        let span = |again: &Again| Span { partition: again.of.partition, from: again.from, to: again.to };
        let spans: Vec<Span> = again.iter().map(span).collect();
        let mut messages = TopicReader::open(&self.kafka, first.of.topic.as_str(), &spans)?;
        let mut order = Order::default();
        order.assign(&again.iter().map(|again| again.of).collect::<Vec<_>>());
        let mut is_over = false;
        while !is_over && !self.shutdown.is_requested() {
            ensure!(Instant::now() < until, "there was no time for all of them");
            match messages.step()? {
                Step::Message(message) => {
                    let (of, at) = (message.topic_partition(), message.timestamp());
                    match order.passes(of, at) {
                        true => reader.judge(&message, detector)?,
                        false => order.hold(of, at, message.bytes(), message.to_owned()),
                    }
                    if again.iter().any(|again| again.of == of && message.offset() + 1 >= again.to) {
                        order.hold_end(of, None);
                    }
                }
                Step::Waiting => order.note_quiet(Instant::now()),
                Step::End => is_over = true,
            }
            while let Some(next) = order.next(is_over) {
                if let Next::Message(message) = next {
                    reader.judge(&message, detector)?;
                }
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// What was a dead letter is one now.
    fn judge(&self, message: &Message<'_>, detector: &mut Detector) -> anyhow::Result<()> {
        let Some(payload) = message.payload_or_null() else { return Ok(()) };
        let (of, now) = (message.topic_partition(), time::now());
        let Some(mapping) = self.mapping else {
            if let Ok(decoded) = decode::decode(payload, self.limits, now)
                && !decoded.reading.is_empty()
            {
                detector.observe(of, &decoded.reading, |_| ());
            }
            return Ok(());
        };
        let record = message.record(payload);
        if let Some(lookups) = self.lookups {
            lookups.prepare(mapping, &record)?;
        }
        for decoded in mapping.read(&record, self.limits, now).iter().flat_map(|mapped| &mapped.readings) {
            detector.observe(of, &decoded.reading, |_| ());
        }
        Ok(())
    }
}
