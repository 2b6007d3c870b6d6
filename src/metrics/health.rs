//! What `/healthz` and `/readyz` answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The state of a process's work; shared between the worker, which reports it, and the endpoint.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Why the work has not begun or does not advance.
    not_ready: Option<String>,
    /// Why the process should be restarted.
    not_alive: Option<String>,
    /// The last report, and how long it is valid; without one, the process is taken to be alive.
    valid: Option<(Instant, Duration)>,
}

impl Default for State {
    fn default() -> Self {
        Self { not_ready: Some("starting".into()), not_alive: None, valid: None }
    }
}

impl Health {
    /// The work is under way.
    pub fn set_ready(&self) {
        self.state().not_ready = None;
    }

    /// The work is not under way, and why.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.state().not_ready = Some(reason.into());
    }

    /// Reports both states; the next report must follow within `valid`, or the worker counts as hung.
    pub fn report(&self, not_ready: Option<String>, not_alive: Option<String>, valid: Duration) {
        *self.state() = State { not_ready, not_alive, valid: Some((Instant::now(), valid)) };
    }

    /// No further report will come, because the worker has ended in order.
    pub fn end(&self) {
        *self.state() = State { not_ready: Some("stopping".into()), not_alive: None, valid: None };
    }

    /// For `/readyz`.
    ///
    /// # Errors
    /// Why the work is not under way.
    pub fn readiness(&self) -> Result<(), String> {
        self.liveness()?;
        self.state().not_ready.clone().map_or(Ok(()), Err)
    }

    /// For `/healthz`.
    ///
    /// # Errors
    /// Why the process should be restarted.
    pub fn liveness(&self) -> Result<(), String> {
        let state = self.state();
        match (&state.not_alive, state.valid) {
            (Some(reason), _) => Err(reason.clone()),
            (None, Some((reported, valid))) if reported.elapsed() > valid => {
                Err(format!("no progress for {} s", reported.elapsed().as_secs()))
            }
            (None, _) => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stops_reporting_is_neither_ready_nor_alive() {
        let health = Health::default();
        assert!(health.liveness().is_ok() && health.readiness().is_err());
        health.report(None, None, Duration::from_millis(20));
        assert!(health.liveness().is_ok() && health.readiness().is_ok());
        std::thread::sleep(Duration::from_millis(40));
        assert!(health.liveness().unwrap_err().starts_with("no progress"));
        assert!(health.readiness().is_err());
        health.report(Some("waits".into()), None, Duration::from_secs(60));
        assert_eq!(health.readiness().unwrap_err(), "waits");
        assert!(health.liveness().is_ok());
        health.report(None, Some("stuck".into()), Duration::from_secs(60));
        assert_eq!(health.readiness().unwrap_err(), "stuck");
        health.end();
        assert!(health.liveness().is_ok() && health.readiness().is_err());
    }
}
