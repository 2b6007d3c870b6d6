//! What changes, pushed to every open page by server-sent events. One poller reads for all of them, and only while
//! somebody listens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{Interval, MissedTickBehavior};

use super::api::App;
use super::fleet::Snapshot;
use super::problem::Problem;
use crate::shutdown::Shutdown;
use crate::time::display;

/// Pages that may be open at once.
pub const MOST_LISTENERS: usize = 64;
/// Events that a slow page may be behind; then it is told to load everything again.
const BACKLOG: usize = 32;
/// How often the fleet is looked at, and Kafka and Cassandra; less often where a look takes long.
const FLEET_INTERVAL: Duration = Duration::from_secs(2);
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// A look may take this share of the time.
const IDLE_FACTOR: u32 = 4;
/// So that a page knows that it is still connected, and proxies keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Where the pollers tell what they have seen.
pub struct Feed {
    sender: broadcast::Sender<Message>,
    listeners: Arc<Semaphore>,
    arrived: Notify,
}

/// An event, written once for all listeners.
#[derive(Debug, Clone)]
struct Message {
    name: &'static str,
    data: Arc<str>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            listeners: Arc::new(Semaphore::new(MOST_LISTENERS)),
            arrived: Notify::new(),
        }
    }
}

impl Feed {
    fn tell<T: serde::Serialize>(&self, name: &'static str, body: &T) {
        match serde_json::to_string(body) {
            // Nobody listens: nothing to do.
            Ok(text) => drop(self.sender.send(Message { name, data: text.into() })),
            Err(error) => tracing::error!(%error, name, "an event cannot be written"),
        }
    }
}

/// `GET /api/events`.
pub async fn events(State(app): State<App>) -> Result<Response, Problem> {
    let feed = app.feed();
    let Ok(permit) = feed.listeners.clone().try_acquire_owned() else {
        let text = format!("{MOST_LISTENERS} pages are open (close one, and this one connects by itself)");
        return Err(Problem::unavailable(text));
    };
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener {
        receiver: feed.sender.subscribe(),
        shutdown: app.shutdown().clone(),
        beat,
        _permit: permit,
    };
    feed.arrived.notify_waiters();
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok(Sse::new(events).into_response())
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
            // The first is due at once: the page knows that it is connected.
            _ = self.beat.tick() => {
                let at = display(chrono::Utc::now().timestamp_millis());
                Some(Event::default().event("beat").data(format!("{{\"at\":\"{at}\"}}")))
            }
            message = self.receiver.recv() => match message {
                Ok(Message { name, data }) => Some(Event::default().event(name).data(data)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some(Event::default().event("reset").data("{}")),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        }
    }
}

/// Looks at the fleet until shutdown, and tells what has changed.
pub async fn watch_fleet(app: App) {
    let mut before = Arc::new(Snapshot::default());
    let mut told = String::new();
    let mut trouble: Option<Problem> = None;
    while somebody_listens(&app).await {
        let started = Instant::now();
        match app.fleet().await {
            Ok(now) => {
                let body = now.body(app.silent_after());
                // All but the moment.
                let summary = serde_json::to_value(&body).unwrap_or_default();
                let summary = format!("{}{}", summary["groups"], summary["metrics"]);
                if summary != told || trouble.take().is_some() {
                    app.feed().tell("fleet", &body);
                    told = summary;
                }
                let changes = now.changes(&before);
                if !changes.readings.is_empty() {
                    app.feed().tell("readings", &changes);
                }
                before = now.clone();
            }
            Err(problem) => {
                if trouble.as_ref() != Some(&problem) {
                    app.feed().tell("trouble", &problem);
                }
                trouble = Some(problem);
            }
        }
        pause(&app, FLEET_INTERVAL.max(started.elapsed() * IDLE_FACTOR)).await;
    }
}

/// Looks at Kafka and Cassandra until shutdown.
pub async fn watch_health(app: App) {
    while somebody_listens(&app).await {
        let started = Instant::now();
        app.feed().tell("status", &*app.health().await);
        pause(&app, HEALTH_INTERVAL.max(started.elapsed() * IDLE_FACTOR)).await;
    }
}

/// Waits until there is a listener; `false` on shutdown.
async fn somebody_listens(app: &App) -> bool {
    loop {
        let arrived = app.feed().arrived.notified();
        if app.shutdown().is_requested() {
            return false;
        }
        if app.feed().sender.receiver_count() > 0 {
            return true;
        }
        tokio::select! {
            () = arrived => {}
            // Should an arrival have been missed.
            () = tokio::time::sleep(FLEET_INTERVAL) => {}
            () = app.shutdown().requested() => return false,
        }
    }
}

async fn pause(app: &App, length: Duration) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = app.shutdown().requested() => {}
    }
}
