//! One node: its connections, and whether it is worth sending requests to.
//!
//! Each node has a keeper, a task that opens what is missing, sends a heartbeat, and turns the node's health. The
//! driver's own pools do not serve here: measured on a real cluster, a node that came back stayed Down in their
//! metadata for good, and a frozen node cost every request its whole deadline (docs/design.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cassandra_protocol::frame::Envelope;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};
use uuid::Uuid;

use super::Error;
use super::connection::{Connection, Connector};
use crate::retry::{Delays, RetryPolicy};

/// How often a node that answers is asked whether it is there.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A node that does not answer a heartbeat for this long is suspected: requests go elsewhere if they can.
const HEARTBEAT_DEADLINE: Duration = Duration::from_millis(1500);
/// A node suspected for this long is taken for gone: its connections are closed and opened anew.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// When a node that is down is connected to again.
const RECONNECT: RetryPolicy = RetryPolicy::new(RECONNECT_DELAY, Duration::from_secs(2));
const RECONNECT_DELAY: Duration = Duration::from_millis(250);

/// Whether a node is worth sending requests to, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Up,
    /// It has connections and is silent.
    Suspect,
    /// It has no connection.
    Down,
}

/// Who a node is. A node that changes any of it is a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeInfo {
    pub address: SocketAddr,
    pub host_id: Uuid,
    pub datacenter: String,
    pub rack: String,
}

pub(super) struct Node {
    pub info: NodeInfo,
    slots: Box<[ArcSwapOption<Connection>]>,
    next_slot: AtomicUsize,
    in_flight: AtomicUsize,
    health: watch::Sender<Health>,
    /// Why the last attempt to connect failed; none since one succeeded.
    failure: std::sync::Mutex<Option<Error>>,
    keeper: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Node {
    /// A node with no connection yet; [`Node::start_keeper`] opens them.
    pub(super) fn new(info: NodeInfo, connections: usize) -> Arc<Self> {
        Arc::new(Self {
            info,
            slots: (0..connections.max(1)).map(|_| ArcSwapOption::empty()).collect(),
            next_slot: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            health: watch::channel(Health::Down).0,
            failure: std::sync::Mutex::new(None),
            keeper: std::sync::Mutex::new(None),
        })
    }

    /// Starts the keeper; it ends when the node is dropped or [`Node::forget`] is called.
    pub(super) fn start_keeper(self: &Arc<Self>, connector: Arc<Connector>) {
        let node = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let mut delays = RECONNECT.delays();
            let mut silent_since = None;
            while let Some(node) = node.upgrade() {
                let wait = node.check(&connector, &mut silent_since, &mut delays).await;
                drop(node);
                sleep(wait).await;
            }
        });
        *self.keeper.lock().expect("no panic while locked") = Some(task);
    }

    /// Ends the keeper and closes the connections: the node has left the cluster.
    pub(super) fn forget(&self) {
        if let Some(task) = self.keeper.lock().expect("no panic while locked").take() {
            task.abort();
        }
        self.close();
    }

    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Why the node turned us away at the last attempt to connect, if it is not one of the failures that pass.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.failure.lock().expect("no panic while locked").clone().filter(|error| !error.is_transient())
    }

    /// Changes of the node's health, for those that wait for its answer.
    pub(super) fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Requests that wait for this node's answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Sends a request on one of the node's connections.
    pub(super) async fn request(&self, envelope: &Envelope) -> Result<Envelope, Error> {
        let connection = self.connection().ok_or_else(|| Error::Connection {
            node: self.info.address,
            message: "it has no open connection".into(),
        })?;
        let _counted = InFlight::count(&self.in_flight);
        connection.request(self.info.address, envelope).await
    }

    /// An open connection, each in its turn.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        let first = self.next_slot.fetch_add(1, Ordering::Relaxed);
        (0..self.slots.len())
            .filter_map(|offset| self.slots[(first + offset) % self.slots.len()].load_full())
            .find(|connection| !connection.is_broken())
    }

    /// Opens what is missing and sends a heartbeat. Returns how long to wait until the next check.
    async fn check(
        &self,
        connector: &Connector,
        silent_since: &mut Option<Instant>,
        delays: &mut Delays,
    ) -> Duration {
        self.open_missing(connector).await;
        let Some(connection) = self.connection() else {
            self.set_health(Health::Down);
            return delays.next_delay();
        };
        *delays = RECONNECT.delays();
        match timeout(HEARTBEAT_DEADLINE, connection.heartbeat(self.info.address)).await {
            Ok(Ok(())) => {
                *silent_since = None;
                self.set_health(Health::Up);
                HEARTBEAT_INTERVAL
            }
            Ok(Err(error)) => {
                debug!(node = %self.info.address, %error, "heartbeat failed");
                RECONNECT_DELAY
            }
            Err(_) => {
                let since = *silent_since.get_or_insert_with(Instant::now);
                self.set_health(Health::Suspect);
                if since.elapsed() >= GIVE_UP_AFTER {
                    *silent_since = None;
                    self.close();
                    self.set_health(Health::Down);
                }
                Duration::ZERO
            }
        }
    }

    async fn open_missing(&self, connector: &Connector) {
        for slot in &self.slots {
            if slot.load().as_ref().is_some_and(|connection| !connection.is_broken()) {
                continue;
            }
            match connector.open(self.info.address).await {
                Ok(connection) => {
                    slot.store(Some(Arc::new(connection)));
                    *self.failure.lock().expect("no panic while locked") = None;
                }
                Err(error) => {
                    slot.store(None);
                    debug!(node = %self.info.address, %error, "cannot connect");
                    *self.failure.lock().expect("no panic while locked") = Some(error);
                    // The other slots would fail alike; what is open serves meanwhile.
                    return;
                }
            }
        }
    }

    fn close(&self) {
        for slot in &self.slots {
            slot.store(None);
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        let changed = self.health.send_if_modified(|current| std::mem::replace(current, health) != health);
        if changed {
            info!(node = %self.info.address, ?health, "node health changed");
        }
    }

    /// Takes over a connection that was opened before the node was known.
    pub(super) fn adopt(&self, connection: Connection) {
        self.slots[0].store(Some(Arc::new(connection)));
        self.set_health(Health::Up);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Counts a request for as long as it lives.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn count(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
