//! The place of one client: taken when it has logged in, and free again when it leaves.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::OwnedSemaphorePermit;

use super::logins::Opened;

/// Whether a connection has logged in, and as whom.
#[derive(Debug)]
pub(super) struct Seat {
    user: OnceLock<String>,
    /// Held while it has not logged in.
    opened: Mutex<Option<Opened>>,
    /// Held since: of all clients, and of its user.
    places: Mutex<Vec<OwnedSemaphorePermit>>,
}

impl Seat {
    pub(super) fn new(opened: Opened) -> Arc<Self> {
        Arc::new(Self { user: OnceLock::new(), opened: Mutex::new(Some(opened)), places: Mutex::default() })
    }

    pub(super) fn is_taken(&self) -> bool {
        self.user.get().is_some()
    }

    /// Who it is, is known; its tables are still to be made, which is the server's time and not the client's.
    pub(super) fn admit(&self, places: Vec<OwnedSemaphorePermit>) {
        *self.places.lock().expect("no panic while locked") = places;
        self.opened.lock().expect("no panic while locked").take();
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.opened.lock().expect("no panic while locked").is_none()
    }

    pub(super) fn take(&self, user: &str) {
        let _ = self.user.set(user.to_owned());
    }
}
