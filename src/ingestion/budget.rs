//! What may be in flight: bytes that are decoded and not stored yet, and writes under way. It bounds the memory of the
//! pipeline and of the direct import (invariant 4).

use std::time::{Duration, Instant};

use crate::config::IngestConfig;

/// Bytes and writes in flight, and their limits.
#[derive(Debug)]
pub(super) struct Budget {
    max_bytes: usize,
    max_writes: usize,
    bytes: usize,
    writes: usize,
    /// When a write last ended, or began with no other under way.
    progressed: Instant,
}

impl Budget {
    pub(super) fn new(config: &IngestConfig) -> Self {
        Self {
            max_bytes: usize::try_from(config.max_in_flight_bytes.as_u64()).unwrap_or(usize::MAX),
            max_writes: config.max_in_flight_batches,
            bytes: 0,
            writes: 0,
            progressed: Instant::now(),
        }
    }

    /// Bytes were added to an open batch.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Bytes that were added are given up.
    pub(super) fn remove_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A write begins whose bytes were added before, or do not count.
    pub(super) fn begin_write(&mut self) {
        if self.writes == 0 {
            self.progressed = Instant::now();
        }
        self.writes += 1;
    }

    /// A write is done. `bytes` are those that it was counted with.
    pub(super) fn end_write(&mut self, bytes: usize) {
        self.progressed = Instant::now();
        self.writes = self.writes.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether taking in more would exceed a limit.
    pub(super) fn is_full(&self) -> bool {
        self.writes >= self.max_writes || self.bytes >= self.max_bytes
    }

    /// How long writes have been under way without one of them ending; `None` if none is under way.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        (self.writes > 0).then(|| self.progressed.elapsed())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes under way.
    pub(super) fn writes(&self) -> usize {
        self.writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_by_bytes_or_by_writes_until_they_end() {
        let config = IngestConfig {
            max_in_flight_batches: 2,
            max_in_flight_bytes: bytesize::ByteSize(100),
            ..IngestConfig::default()
        };
        let mut budget = Budget::new(&config);
        budget.add_bytes(100);
        assert!(budget.is_full());
        budget.begin_write();
        budget.end_write(100);
        assert!(!budget.is_full());
        budget.begin_write();
        budget.begin_write();
        assert!(budget.is_full());
        budget.end_write(0);
        assert!(!budget.is_full());
        assert_eq!((budget.bytes(), budget.writes()), (0, 1));
    }

    #[test]
    fn it_is_stalled_since_the_last_write_ended_or_the_first_began() {
        let mut budget = Budget::new(&IngestConfig::default());
        assert_eq!(budget.stalled_for(), None);
        budget.progressed -= Duration::from_secs(100);
        budget.begin_write();
        budget.begin_write();
        assert!(budget.stalled_for().is_some_and(|stalled| stalled < Duration::from_secs(50)));
        budget.progressed -= Duration::from_secs(100);
        assert!(budget.stalled_for().is_some_and(|stalled| stalled > Duration::from_secs(50)));
        budget.end_write(0);
        assert!(budget.stalled_for().is_some_and(|stalled| stalled < Duration::from_secs(50)));
        budget.end_write(0);
        assert_eq!(budget.stalled_for(), None);
    }
}
