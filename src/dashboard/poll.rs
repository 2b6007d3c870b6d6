//! The pollers behind the feed. Each reads for all open pages, and only while one is open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alerts::Look;
use super::app::App;
use super::fleet::Snapshot;
use super::problem::Problem;
use super::routes::alerts::{AlertsBody, MAX_LISTED};

/// Time between two polls of the fleet, and of Kafka and Cassandra.
const FLEET_INTERVAL: Duration = Duration::from_secs(2);
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a poll is at least this many times its length.
const IDLE_FACTOR: u32 = 4;

/// Polls the fleet until shutdown, and sends what has changed.
pub(super) async fn fleet(app: App) {
    let mut before = Arc::new(Snapshot::default());
    let mut sent = String::new();
    let mut failure: Option<Problem> = None;
    while app.feed().has_listener(app.shutdown()).await {
        let started = Instant::now();
        match app.fleet().await {
            Ok(snapshot) => {
                let body = snapshot.body(app.silent_after());
                // All but the moment.
                let summary = serde_json::to_value(&body).unwrap_or_default();
                let summary = format!("{}{}", summary["groups"], summary["metrics"]);
                if summary != sent || failure.take().is_some() {
                    app.feed().send("fleet", &body);
                    sent = summary;
                }
                let changes = snapshot.changes(&before);
                if !changes.readings.is_empty() {
                    app.feed().send("readings", &changes);
                }
                before = snapshot.clone();
            }
            Err(problem) => {
                if failure.as_ref() != Some(&problem) {
                    app.feed().send("trouble", &problem);
                }
                failure = Some(problem);
            }
        }
        pause(&app, FLEET_INTERVAL.max(started.elapsed() * IDLE_FACTOR)).await;
    }
}

/// Polls Kafka and Cassandra until shutdown, and sends the alerts when they have changed.
pub(super) async fn health(app: App) {
    let mut before = Arc::new(Look::default());
    while app.feed().has_listener(app.shutdown()).await {
        let started = Instant::now();
        app.feed().send("status", &*app.health().await);
        match app.alerts().await {
            Ok(look) if look == before => {}
            Ok(look) => {
                app.feed().send("alerts", &AlertsBody::new(&look, None, MAX_LISTED));
                before = look;
            }
            // The event `status` says why.
            Err(problem) => tracing::debug!(problem = problem.line(), "cannot read the alerts"),
        }
        pause(&app, HEALTH_INTERVAL.max(started.elapsed() * IDLE_FACTOR)).await;
    }
}

async fn pause(app: &App, length: Duration) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = app.shutdown().requested() => {}
    }
}
