//! The audited topics. Records name a partition by one number: that of its topic, then its own.

use std::collections::HashMap;

use crate::kafka::producer::Position;
use crate::kafka::reader::Span;

/// Bits of a partition's number within its topic.
const PARTITION_BITS: u32 = 20;
/// Topics that one audit can tell apart.
pub(super) const MOST_TOPICS: usize = 1 << (31 - PARTITION_BITS);

/// A topic of the audit, with its real partitions.
#[derive(Debug, Clone)]
pub(super) struct AuditedTopic {
    pub name: String,
    pub spans: Vec<Span>,
    /// By partition.
    pub committed: Vec<Option<i64>>,
}

/// Every audited topic.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditedTopics(pub Vec<AuditedTopic>);

impl AuditedTopics {
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|topic| topic.name == name)
    }

    /// All partitions, as records name them.
    pub(super) fn spans(&self) -> Vec<Span> {
        let of = |(index, topic): (usize, &AuditedTopic)| {
            let number = move |span: &Span| Span { partition: numbered(index, span.partition), ..*span };
            topic.spans.iter().map(number).collect::<Vec<_>>()
        };
        self.0.iter().enumerate().flat_map(of).collect()
    }

    /// The first offset that each partition still holds.
    pub(super) fn first_offsets(&self) -> HashMap<i32, i64> {
        self.spans().iter().map(|span| (span.partition, span.from)).collect()
    }

    /// "a, b".
    pub(super) fn names(&self) -> String {
        self.0.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Topic and partition of a record's position.
    pub(super) fn place(&self, position: Position) -> (Option<String>, i32) {
        let index = usize::try_from(position.partition >> PARTITION_BITS).unwrap_or(usize::MAX);
        let partition = position.partition & ((1 << PARTITION_BITS) - 1);
        (self.0.get(index).map(|topic| topic.name.clone()), partition)
    }
}

/// A partition of the topic at `index`.
pub(super) fn numbered(index: usize, partition: i32) -> i32 {
    i32::try_from(index << PARTITION_BITS).unwrap_or(i32::MAX) | partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_again_by_its_number() {
        let topic = |name: &str| AuditedTopic {
            name: name.to_owned(),
            spans: vec![Span { partition: 7, from: 3, to: 9 }],
            committed: vec![],
        };
        let topics = AuditedTopics(vec![topic("a"), topic("b")]);
        let numbers: Vec<i32> = topics.spans().iter().map(|span| span.partition).collect();
        assert_eq!(numbers[0], 7, "with one topic they are Kafka's own");
        let place = |partition| topics.place(Position { partition, offset: 0 });
        assert_eq!(place(numbers[0]), (Some("a".to_owned()), 7));
        assert_eq!(place(numbers[1]), (Some("b".to_owned()), 7));
        assert_eq!(topics.first_offsets().len(), 2);
    }
}
