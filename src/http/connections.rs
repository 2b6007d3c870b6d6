//! How many connections a listener has, and which one makes room for a new one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long an evicted connection may take to close.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A quarter of the file descriptors that the process may open: the rest is for its own work.
pub(super) fn share_of_descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft / 4).unwrap_or(usize::MAX).max(1)
}

/// The connections of a listener.
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    /// Oldest first, so with rising ids.
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    next_id: AtomicU64,
}

/// A connection that has not sent a request yet.
struct Waiting {
    evicted: CancellationToken,
    id: u64,
}

/// A connection's place; dropping it frees the place.
pub(super) struct Place {
    id: u64,
    evicted: CancellationToken,
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit)), waiting: Arc::default(), next_id: AtomicU64::new(0) }
    }

    /// A place for one more connection; `None` if all are taken by connections that have sent a request.
    pub(super) async fn admit(&self) -> Option<Place> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let Some(oldest) = lock(&self.waiting).pop_front() else {
                    tracing::debug!("all HTTP connections are in use: a new one is closed");
                    return None;
                };
                oldest.evicted.cancel();
                let freed = tokio::time::timeout(EVICTION_TIMEOUT, self.permits.clone().acquire_owned());
                freed.await.ok()?.ok()?
            }
        };
        let evicted = CancellationToken::new();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).push_back(Waiting { evicted: evicted.clone(), id });
        Some(Place { id, evicted, waiting: self.waiting.clone(), _permit: permit })
    }
}

impl Place {
    /// The connection has sent a request, so it no longer makes room for another.
    pub(super) fn has_request(&self) {
        self.leave();
    }

    /// Resolves once the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    fn leave(&self) {
        let mut waiting = lock(&self.waiting);
        if let Ok(index) = waiting.binary_search_by_key(&self.id, |waiting| waiting.id) {
            waiting.remove(index);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn lock(waiting: &Mutex<VecDeque<Waiting>>) -> MutexGuard<'_, VecDeque<Waiting>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
