//! What the library reports from within a poll: rebalances, results of commits, statistics and errors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use super::GroupOffsets;
use crate::kafka::TopicPartition;
use crate::kafka::client::{Complaint, trace};

/// A change of the assignment, reported from within [`super::Consumer::poll`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Assigned(Vec<TopicPartition>),
    /// Still ours until the callback returns.
    Revoked(Vec<TopicPartition>),
}

/// Results of commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitResults {
    pub confirmed: u64,
    pub failed: u64,
}

/// What is called with each change, and with the offsets of the consumer group meanwhile.
pub(super) type OnChange = Box<dyn Fn(Change, &GroupOffsets<'_>) + Send + Sync>;

pub(super) struct Context {
    is_single: bool,
    /// For requests about offsets.
    timeout: Duration,
    on_change: OnChange,
    ends: Mutex<HashMap<TopicPartition, i64>>,
    reached: Mutex<Vec<(TopicPartition, i64)>>,
    commits: Mutex<CommitResults>,
    is_member: AtomicBool,
    complaint: Complaint,
}

impl Context {
    pub(super) fn new(is_single: bool, timeout: Duration, on_change: OnChange) -> Self {
        Self {
            is_single,
            timeout,
            on_change,
            ends: Mutex::default(),
            reached: Mutex::default(),
            commits: Mutex::default(),
            is_member: AtomicBool::new(false),
            complaint: Complaint::default(),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn is_member(&self) -> bool {
        self.is_member.load(Ordering::Relaxed)
    }

    pub(super) fn note_member(&self) {
        self.is_member.store(true, Ordering::Relaxed);
    }

    /// The offset after the last message of each partition.
    pub(super) fn ends(&self) -> HashMap<TopicPartition, i64> {
        lock(&self.ends).clone()
    }

    /// The partitions of which everything before an offset has been delivered, since the last call.
    pub(super) fn take_reached(&self) -> Vec<(TopicPartition, i64)> {
        std::mem::take(&mut lock(&self.reached))
    }

    pub(super) fn take_commit_results(&self) -> CommitResults {
        std::mem::take(&mut lock(&self.commits))
    }

    pub(super) fn complaint(&self) -> &Complaint {
        &self.complaint
    }

    pub(super) fn offsets<'a>(&'a self, consumer: &'a BaseConsumer<Self>) -> GroupOffsets<'a> {
        GroupOffsets::new(consumer, self.timeout)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        self.complaint.note(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(group) = &statistics.cgrp {
            // During a later rebalance it is still a member.
            let is_member = group.state == "up" && (group.join_state == "steady" || self.is_member());
            self.is_member.store(is_member, Ordering::Relaxed);
        }
        let mut ends = lock(&self.ends);
        let mut reached = Vec::new();
        for (topic, partition) in statistics
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values().map(move |partition| (&topic.topic, partition)))
        {
            let of = TopicPartition::new(topic, partition.partition);
            if partition.hi_offset >= 0 {
                ends.insert(of, partition.hi_offset);
            }
            // The queue is that of all partitions, and messages enter it before their end is noted. It was empty, so the
            // poll before this one returned the last of them.
            if !self.is_single && partition.eof_offset >= 0 && partition.fetchq_cnt == 0 {
                reached.push((of, partition.eof_offset));
            }
        }
        *lock(&self.reached) = reached;
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let partitions = |list: &TopicPartitionList| {
            let elements = list.elements();
            elements.iter().map(|found| TopicPartition::new(found.topic(), found.partition())).collect()
        };
        // What was said of an earlier assignment.
        lock(&self.reached).clear();
        let change = match rebalance {
            Rebalance::Assign(list) => Change::Assigned(partitions(list)),
            Rebalance::Revoke(list) => Change::Revoked(partitions(list)),
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the rebalance failed");
                return;
            }
        };
        (self.on_change)(change, &self.offsets(consumer));
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let mut commits = lock(&self.commits);
        match result {
            Ok(()) => commits.confirmed += 1,
            // Offsets that were not accepted are offered again; nothing is lost.
            Err(error) => {
                commits.failed += 1;
                tracing::warn!(%error, "an offset commit failed");
            }
        }
    }
}
