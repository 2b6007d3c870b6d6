//! Server-sent events: one message is written once and sent to every open page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{Interval, MissedTickBehavior};

use super::problem::Problem;
use crate::shutdown::Shutdown;
use crate::time::{display, now};

/// Pages that may be open at once.
const MAX_LISTENERS: usize = 64;
/// Events that a slow page may be behind. After that it is asked to load everything again.
const BACKLOG: usize = 32;
/// So that a page knows that it is still connected, and proxies keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a poller looks for listeners in case it missed an arrival.
const LISTENER_CHECK: Duration = Duration::from_secs(2);

/// The events of all open pages.
pub(super) struct Feed {
    sender: broadcast::Sender<Message>,
    listeners: Arc<Semaphore>,
    arrived: Notify,
}

#[derive(Debug, Clone)]
struct Message {
    name: &'static str,
    data: Arc<str>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            arrived: Notify::new(),
        }
    }
}

impl Feed {
    /// Sends the event `name` to every open page.
    pub(super) fn send<T: Serialize>(&self, name: &'static str, body: &T) {
        match serde_json::to_string(body) {
            // An error means that nobody listens.
            Ok(text) => drop(self.sender.send(Message { name, data: text.into() })),
            Err(error) => tracing::error!(%error, name, "cannot write an event"),
        }
    }

    /// A new page's stream of events. It ends on shutdown.
    pub(super) fn listen(&self, shutdown: &Shutdown) -> Result<Response, Problem> {
        let Ok(permit) = self.listeners.clone().try_acquire_owned() else {
            let text = format!("{MAX_LISTENERS} pages are open (close one, and this one connects by itself)");
            return Err(Problem::unavailable(text));
        };
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let listener =
            Listener { receiver: self.sender.subscribe(), shutdown: shutdown.clone(), beat, _permit: permit };
        self.arrived.notify_waiters();
        let events = stream::unfold(listener, |mut listener| async move {
            let event = listener.next().await?;
            Some((Ok::<_, Infallible>(event), listener))
        });
        Ok(Sse::new(events).into_response())
    }

    /// Waits until a page is open; `false` on shutdown.
    pub(super) async fn has_listener(&self, shutdown: &Shutdown) -> bool {
        loop {
            let arrived = self.arrived.notified();
            if shutdown.is_requested() {
                return false;
            }
            if self.sender.receiver_count() > 0 {
                return true;
            }
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep(LISTENER_CHECK) => {}
                () = shutdown.requested() => return false,
            }
        }
    }
}

struct Listener {
    receiver: broadcast::Receiver<Message>,
    shutdown: Shutdown,
    beat: Interval,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            () = self.shutdown.requested() => None,
            // The first beat is due at once: the page knows that it is connected.
            _ = self.beat.tick() => {
                Some(Event::default().event("beat").data(format!("{{\"at\":\"{}\"}}", display(now()))))
            }
            message = self.receiver.recv() => match message {
                Ok(Message { name, data }) => Some(Event::default().event(name).data(data)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some(Event::default().event("reset").data("{}")),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        }
    }
}
