//! The outcome of each message: acknowledged or failed, its latency, and the ledger of the acknowledged.
//!
//! Runs on the producer's thread, once per message, while the sender runs on another: counters are atomic, the rest is
//! behind a lock that only the producer's thread takes while messages flow.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::stream::Note;
use crate::audit::ledger::Ledger;
use crate::kafka::producer::Delivery;

/// Live counters of a run, for a progress line.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    pub failed: AtomicU64,
}

/// The ledger could not be written, so the run stops.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the ledger {path:?} (free disk space, or name another file)")]
pub struct LedgerError {
    path: PathBuf,
    source: io::Error,
}

impl LedgerError {
    pub fn new(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { path: path.into(), source }
    }
}

/// Delivery latencies: from queueing the message until its acknowledgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// What the callback fills and the report reads.
#[derive(Debug)]
pub struct Deliveries {
    begin: Instant,
    /// Set if the sender must stop: the ledger cannot be written, or Kafka denies the messages.
    broken: AtomicBool,
    detail: Mutex<Detail>,
    /// Notes of messages in flight; only with a ledger. Without one, a message's tag is its sending time.
    pending: Option<Mutex<Pending>>,
}

#[derive(Debug)]
struct Detail {
    latency: Histogram<u64>,
    first_error: Option<String>,
    ledger: Option<Ledger>,
    ledger_error: Option<LedgerError>,
}

impl Deliveries {
    pub fn new(ledger: Option<Ledger>) -> Self {
        let pending = ledger.is_some().then(Mutex::default);
        // Microseconds up to an hour, three digits: about 200 KiB.
        let latency = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds");
        let detail = Mutex::new(Detail { latency, first_error: None, ledger, ledger_error: None });
        Self { begin: Instant::now(), broken: AtomicBool::new(false), detail, pending }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The tag for a message about to be offered.
    pub fn tag(&self, note: &Note) -> usize {
        let sent = self.micros();
        match &self.pending {
            None => sent as usize,
            Some(pending) => lock(pending).put(sent, note.clone()),
        }
    }

    /// Takes back the tag of a message that was not accepted.
    pub fn forget(&self, tag: usize) {
        if let Some(pending) = &self.pending {
            lock(pending).take(tag);
        }
    }

    /// Notes one delivery.
    pub fn note(&self, delivery: Delivery, tally: &Tally) {
        let now = self.micros();
        let (sent, note) = match &self.pending {
            None => (delivery.tag as u64, None),
            Some(pending) => {
                let (sent, note) = lock(pending).take(delivery.tag);
                (sent, Some(note))
            }
        };
        let mut detail = lock(&self.detail);
        match delivery.outcome {
            Ok(position) => {
                tally.acknowledged.fetch_add(1, Relaxed);
                detail.latency.saturating_record(now.saturating_sub(sent).max(1));
                if let (Some(note), Detail { ledger: Some(ledger), ledger_error: error @ None, .. }) =
                    (note, &mut *detail)
                    && let Err(source) = ledger.record(&note.acknowledged(), position)
                {
                    *error = Some(LedgerError::new(ledger.path(), source));
                    self.broken.store(true, Relaxed);
                }
            }
            Err(error) => {
                tally.failed.fetch_add(1, Relaxed);
                let denied = crate::kafka::denied_delivery(&error);
                if denied.is_some() {
                    // The next message will be denied as well.
                    self.broken.store(true, Relaxed);
                }
                detail
                    .first_error
                    .get_or_insert_with(|| denied.map_or_else(|| error.to_string(), |it| it.to_string()));
            }
        }
    }

    /// Whether the run has to stop.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Makes the ledger durable. Call it after the last delivery.
    pub fn finish(&self) -> Result<(), LedgerError> {
        let mut detail = lock(&self.detail);
        if let Some(error) = detail.ledger_error.take() {
            // Buffered lines would fail the same way, and again on drop.
            return Err(error);
        }
        match &mut detail.ledger {
            None => Ok(()),
            Some(ledger) => ledger.finish().map_err(|source| LedgerError::new(ledger.path(), source)),
        }
    }

    pub fn first_error(&self) -> Option<String> {
        lock(&self.detail).first_error.clone()
    }

    pub fn latency(&self) -> Latency {
        let detail = lock(&self.detail);
        let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        Latency {
            p50_ms: ms(detail.latency.value_at_quantile(0.5)),
            p99_ms: ms(detail.latency.value_at_quantile(0.99)),
            max_ms: ms(detail.latency.max()),
        }
    }
}

/// Notes by tag. Bounded by the producer's queue: each is removed by its delivery.
#[derive(Debug, Default)]
struct Pending {
    notes: Vec<(u64, Note)>,
    free: Vec<usize>,
}

impl Pending {
    fn put(&mut self, sent: u64, note: Note) -> usize {
        match self.free.pop() {
            Some(tag) => {
                self.notes[tag] = (sent, note);
                tag
            }
            None => {
                self.notes.push((sent, note));
                self.notes.len() - 1
            }
        }
    }

    fn take(&mut self, tag: usize) -> (u64, Note) {
        self.free.push(tag);
        std::mem::take(&mut self.notes[tag])
    }
}

/// A panic elsewhere must not hide what was delivered.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;
    use crate::kafka::producer::Position;

    fn acknowledged(tag: usize, offset: i64) -> Delivery {
        Delivery { tag, outcome: Ok(Position { partition: 0, offset }) }
    }

    #[test]
    fn the_ledger_holds_the_acknowledged_and_not_the_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let deliveries = Deliveries::new(Some(Ledger::open(&path).unwrap()));
        let tally = Tally::default();
        let note = |at| Note { recorded_at: at, ..Note::default() };
        let tags: Vec<_> = (0..3).map(|at| deliveries.tag(&note(at * 1000))).collect();
        deliveries.note(acknowledged(tags[2], 7), &tally);
        let failure = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        deliveries.note(Delivery { tag: tags[0], outcome: Err(failure) }, &tally);
        deliveries.note(acknowledged(tags[1], 8), &tally);
        deliveries.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("00:00:02.000Z") && lines[0].contains("\"offset\":7"), "{}", lines[0]);
        assert!(lines[1].contains("00:00:01.000Z"));
        assert_eq!((tally.acknowledged.load(Relaxed), tally.failed.load(Relaxed)), (2, 1));
        assert!(deliveries.first_error().unwrap().contains("timed out"));
        assert!(!deliveries.is_broken());
    }

    #[test]
    fn a_denied_message_ends_the_run_with_the_remedy() {
        let deliveries = Deliveries::new(None);
        let denial = KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed);
        deliveries.note(Delivery { tag: 0, outcome: Err(denial) }, &Tally::default());
        assert!(deliveries.is_broken());
        assert!(deliveries.first_error().unwrap().contains("add the ACLs"));
    }

    #[test]
    fn a_full_disk_stops_the_run_and_is_reported() {
        let deliveries = Deliveries::new(Some(Ledger::open("/dev/full".as_ref()).unwrap()));
        let tally = Tally::default();
        for offset in 0..2000 {
            let tag = deliveries.tag(&Note::default());
            deliveries.note(acknowledged(tag, offset), &tally);
        }
        assert!(deliveries.is_broken());
        let error = anyhow::Error::new(deliveries.finish().unwrap_err());
        let text = format!("{error:#}");
        assert!(text.contains("/dev/full") && text.contains("No space left"), "{text}");
    }
}
