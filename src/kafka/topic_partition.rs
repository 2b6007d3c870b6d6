//! A partition of a topic, as a key that costs a message no more than a number does.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// The name of a topic. Names are interned, so they are copied and compared like numbers; they live as long as the process,
/// and a process reads a few topics.
#[derive(Clone, Copy)]
pub struct TopicName(&'static str);

impl TopicName {
    pub fn of(name: &str) -> Self {
        static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if let Some(name) = known.get(name) {
            return Self(name);
        }
        let name: &'static str = name.to_owned().leak();
        known.insert(name);
        Self(name)
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl PartialEq for TopicName {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ptr() == other.0.as_ptr()
    }
}

impl Eq for TopicName {}

impl Ord for TopicName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(other.0)
    }
}

impl PartialOrd for TopicName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, formatter)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: TopicName::of(topic), partition }
    }
}

impl Hash for TopicPartition {
    /// One number: it is hashed for each message.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let address = self.topic.0.as_ptr() as u64;
        state.write_u64(address ^ (u64::from(self.partition.cast_unsigned()) << 40));
    }
}

/// "topic/partition".
impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn partitions_of_two_topics_are_two_keys() {
        let mut seen = HashMap::new();
        for (topic, partition) in [("a", 0), ("b", 0), ("a", 1), ("a", 0)] {
            *seen.entry(TopicPartition::new(&String::from(topic), partition)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[&TopicPartition::new("a", 0)], 2);
        assert_eq!(TopicPartition::new("b", 3).to_string(), "b/3");
    }
}
