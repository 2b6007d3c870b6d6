//! Finding births of Sparkplug in the topics: those that were written since the last search, then further and further back,
//! until the one that is needed is known or nothing is left. Births of a node are in one partition, so the last one that is
//! found going back is the one that counts.

use std::collections::HashMap;
use std::sync::Arc;

use super::reader::{Span, Step, TopicReader};
use super::{Error, Subscription, topics};
use crate::config::KafkaConfig;
use crate::mapping::Mapping;
use crate::mapping::sparkplug::{Births, NeededBirth};

/// Messages of each partition that are read first, going back. Then twice as many, and so on.
const FIRST_CHUNK: i64 = 10_000;
const MAX_CHUNK: i64 = 1_000_000;

/// A search that goes on where it ended.
#[derive(Debug)]
pub struct BirthSearch {
    config: KafkaConfig,
    subscription: Subscription,
    births: Arc<Births>,
    /// Of the births that `searched` is about.
    generation: u64,
    /// What has been read of each topic, by partition.
    searched: HashMap<String, Vec<Span>>,
    chunk: i64,
}

impl BirthSearch {
    /// In the topics of a mapping.
    pub fn new(config: &KafkaConfig, mapping: &Mapping) -> Self {
        let births = mapping.births().clone();
        Self {
            config: config.clone(),
            subscription: Subscription::new(config, Some(mapping)),
            generation: births.generation(),
            births,
            searched: HashMap::new(),
            chunk: FIRST_CHUNK,
        }
    }

    /// Afterwards the birth is known, or there is none. Blocking; needs a runtime, and returns early when `is_stopped`.
    ///
    /// # Errors
    /// A broker does not answer; or messages were deleted before they were read. The next call goes on.
    pub fn find(&mut self, needed: &NeededBirth, is_stopped: &dyn Fn() -> bool) -> Result<(), Error> {
        let generation = self.births.generation();
        if self.generation != generation {
            self.generation = generation;
            self.searched.clear();
            self.chunk = FIRST_CHUNK;
        }
        let runtime = tokio::runtime::Handle::current();
        let names = runtime.block_on(self.subscription.topics(&self.config))?;
        for name in &names {
            let watermarks = runtime.block_on(topics::watermarks(&self.config, name))?;
            self.read_new(name, &watermarks, is_stopped)?;
        }
        while !self.births.has(needed) && !is_stopped() {
            let mut is_all_read = true;
            for name in &names {
                is_all_read &= self.read_back(name, is_stopped)?;
            }
            if is_all_read && !is_stopped() {
                self.births.set_complete(self.generation);
            }
            self.chunk = (self.chunk * 2).min(MAX_CHUNK);
        }
        Ok(())
    }

    /// What was written since.
    fn read_new(
        &mut self,
        topic: &str,
        watermarks: &[(i64, i64)],
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        // A topic that was deleted and created again begins anew.
        let searched = self.searched.get(topic).cloned().unwrap_or_default();
        let before = |partition: i32, high: i64| {
            searched.iter().find(|span| span.partition == partition && span.to <= high)
        };
        let (mut new, mut all) = (Vec::new(), Vec::new());
        for (partition, &(low, high)) in (0..).zip(watermarks) {
            let (from, to) = before(partition, high).map_or((high, high), |span| (span.from, span.to));
            new.push(Span { partition, from: to.max(low), to: high });
            all.push(Span { partition, from: from.max(low), to: high });
        }
        self.read(topic, &new, is_stopped)?;
        if !is_stopped() {
            self.searched.insert(topic.to_owned(), all);
        }
        Ok(())
    }

    /// The messages before those that were read. Returns whether there were none.
    fn read_back(&mut self, topic: &str, is_stopped: &dyn Fn() -> bool) -> Result<bool, Error> {
        let runtime = tokio::runtime::Handle::current();
        let watermarks = runtime.block_on(topics::watermarks(&self.config, topic))?;
        let searched = self.searched.get(topic).cloned().unwrap_or_default();
        let low = |partition: i32| {
            let place = usize::try_from(partition).unwrap_or(usize::MAX);
            watermarks.get(place).map_or(i64::MAX, |(low, _)| *low)
        };
        let back = |span: &Span| Span {
            partition: span.partition,
            from: (span.from - self.chunk).max(low(span.partition)).min(span.from),
            to: span.from,
        };
        let spans: Vec<Span> = searched.iter().map(back).collect();
        if spans.iter().all(Span::is_empty) {
            return Ok(true);
        }
        self.read(topic, &spans, is_stopped)?;
        if !is_stopped() {
            let searched = searched.iter().zip(&spans).map(|(span, back)| Span { from: back.from, ..*span });
            self.searched.insert(topic.to_owned(), searched.collect());
        }
        Ok(false)
    }

    fn read(&self, topic: &str, spans: &[Span], is_stopped: &dyn Fn() -> bool) -> Result<(), Error> {
        if spans.iter().all(Span::is_empty) {
            return Ok(());
        }
        let mut reader = TopicReader::open(&self.config, topic, spans)?;
        while !is_stopped() {
            match reader.step()? {
                Step::Message(message) => {
                    if let Some(payload) = message.payload_or_null() {
                        self.births.learn(&message.record(payload), self.generation);
                    }
                }
                Step::Waiting => {}
                Step::End => break,
            }
        }
        Ok(())
    }
}
