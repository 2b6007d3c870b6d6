//! The connection to the MQTT broker, made again whenever it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::Error;
use super::connection::{Event, Order, Target};
use crate::retry::{RetryPolicy, Tolerance};

/// A connection that lasted this long was a good one: the next attempt comes at once.
const GOOD: Duration = Duration::from_secs(10);

/// After so many connections in a row that did not last, the likeliest reason is named.
const MANY: u32 = 4;

/// Connects, serves and connects again, until it is told to disconnect or only an operator can help. Transient errors are
/// retried for `at_first` before the first connection, and without end after it.
pub(super) async fn keep(
    target: Target,
    mut is_new: bool,
    at_first: Duration,
    budget: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let tolerance = Tolerance::default();
    let first = RetryPolicy::WRITES.at_most(at_first);
    let later = RetryPolicy::WRITES.tolerating(tolerance.clone());
    let mut attempts = first.attempts();
    let mut has_connected = false;
    let mut short_lived = 0;
    for connection in 1.. {
        let began = Instant::now();
        let mut is_first = false;
        let error = match target.open(is_new).await {
            Ok(open) => {
                is_first = !has_connected;
                (is_new, has_connected) = (false, true);
                tolerance.note_success();
                if events.send(Event::Opened { connection }).await.is_err() {
                    return;
                }
                match open.serve(&target, connection, &budget, &events, &mut orders).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if has_connected && (is_first || began.elapsed() >= GOOD) {
            attempts = later.attempts();
        }
        // Two bridges with one id would take the session from each other without end, and a subscription that is refused
        // stays refused.
        let is_final = matches!(error, Error::TakenOver { .. } | Error::Subscription { .. });
        let delay = if is_final { None } else { attempts.failed(error.is_transient()) };
        let Some(delay) = delay else {
            let _ = events.send(Event::Failed(error)).await;
            return;
        };
        short_lived = if has_connected && began.elapsed() < GOOD { short_lived + 1 } else { 0 };
        let mut reason = error.to_string();
        // Not every broker says that another client took the session over; mosquitto 2.0.11 does not.
        if short_lived >= MANY && matches!(error, Error::Lost { .. }) {
            let id = &target.client_id;
            reason.push_str(&format!(
                " (is another client connected with the id {id:?}? two bridges need two ids: set mqtt.client_id)"
            ));
        }
        if events.send(Event::Lost { reason }).await.is_err() {
            return;
        }
        // What is to be acknowledged meanwhile belongs to the lost connection.
        let told = async {
            while let Some(order) = orders.recv().await {
                if matches!(order, Order::Disconnect) {
                    return;
                }
            }
        };
        tokio::select! {
            () = told => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}
