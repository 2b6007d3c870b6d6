//! Producers that are made anew, between two messages, after certificates have changed in their files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::producer::{FutureProducer, Producer as _, ProducerContext, ThreadedProducer};

use super::live::Live;
use super::{Error, renewal};

/// A producer that follows its files.
pub(super) struct Renewed<T> {
    current: RwLock<Arc<Live<T>>>,
    make: Box<dyn Fn() -> Result<Live<T>, Error> + Send + Sync>,
    /// The files that the present client was made of: compared for each message, without a lock.
    generation: AtomicU64,
    /// When it was noticed that they have changed since.
    changed: Mutex<Option<Instant>>,
}

/// A client that accepts messages and delivers them later.
pub(super) trait InFlight {
    fn in_flight(&self) -> i32;
}

impl<C: ProducerContext + 'static> InFlight for ThreadedProducer<C> {
    fn in_flight(&self) -> i32 {
        self.in_flight_count()
    }
}

impl<C: ClientContext + 'static> InFlight for FutureProducer<C> {
    fn in_flight(&self) -> i32 {
        self.in_flight_count()
    }
}

impl<T: InFlight> Renewed<T> {
    pub(super) fn new(
        make: impl Fn() -> Result<Live<T>, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // Before the files are read: what changes meanwhile is seen at the next message.
        let generation = renewal::number().into();
        let current = RwLock::new(Arc::new(make()?));
        Ok(Self { current, make: Box::new(make), generation, changed: Mutex::default() })
    }

    /// Calls the present client, which is not replaced meanwhile.
    pub(super) fn with<R>(&self, call: impl FnOnce(&T) -> R) -> R {
        call(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The present client. What it accepts is delivered for as long as this is kept.
    pub(super) fn current(&self) -> Arc<Live<T>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the client after a change of certificates: as soon as nothing is in flight, so that messages stay in their order, or
    /// else after `patience`. Returns how long this has been waited for, if it is.
    pub(super) fn renew(&self, patience: Option<Duration>) -> Option<Duration> {
        let generation = renewal::number();
        if self.generation.load(Ordering::Relaxed) == generation {
            return None;
        }
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have done it meanwhile.
        if self.generation.load(Ordering::Relaxed) == generation {
            return None;
        }
        let waited = changed.get_or_insert_with(Instant::now).elapsed();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.in_flight() > 0 && patience.is_none_or(|patience| waited < patience) {
            return Some(waited);
        }
        match (self.make)() {
            Ok(client) => *current = Arc::new(client),
            // The files may be gone again.
            Err(error) => {
                tracing::warn!(%error, "a client of Kafka cannot be made anew, the old one stays in use");
            }
        }
        self.generation.store(generation, Ordering::Relaxed);
        *changed = None;
        None
    }
}
