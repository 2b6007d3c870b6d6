//! One retry policy for every remote call that may be repeated: exponential delays with jitter, and how long errors
//! are tolerated that only an operator can fix. Here are only durations and decisions; what an error means, and
//! whether it is transient, is the caller's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// How long to wait between attempts: delays double from the first to the longest, each shortened by a random part of
/// up to a half, so that clients that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    first: Duration,
    longest: Duration,
}

impl RetryPolicy {
    /// For writes to the servers, which may be unavailable for minutes.
    pub const WRITES: Self = Self::new(Duration::from_millis(100), Duration::from_secs(5));

    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The delays of one operation. Costs nothing until the first failure.
    pub const fn delays(self) -> Delays {
        Delays { policy: self, backoff: None }
    }
}

/// The delays between the attempts at one operation, without end.
#[derive(Debug)]
pub struct Delays {
    policy: RetryPolicy,
    backoff: Option<ExponentialBackoff>,
}

impl Delays {
    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let RetryPolicy { first, longest } = self.policy;
        let backoff = self.backoff.get_or_insert_with(|| {
            // Its jitter adds up to as much again.
            ExponentialBuilder::new()
                .with_min_delay(first / 2)
                .with_max_delay(longest / 2)
                .without_max_times()
                .with_jitter()
                .build()
        });
        backoff.next().unwrap_or(longest)
    }

    /// Waits before the next attempt.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// Begins again with the first delay.
    pub fn reset(&mut self) {
        self.backoff = None;
    }
}

/// How long errors are retried that an operator has to fix (a dropped table, a revoked permission, a changed
/// password): not at all before the first success, because whoever started the program is there to read the error;
/// later for a while, because the fix may be under way. Clones share the first success.
#[derive(Debug, Clone, Default)]
pub struct Tolerance {
    has_succeeded: Arc<AtomicBool>,
}

impl Tolerance {
    /// How long such errors are retried after the first success.
    pub const LIMIT: Duration = Duration::from_secs(60);

    pub fn note_success(&self) {
        self.has_succeeded.store(true, Ordering::Relaxed);
    }

    /// Whether an operation that has failed since `failing_since` should be given up.
    pub fn is_exhausted(&self, failing_since: Instant, now: Instant) -> bool {
        !self.has_succeeded.load(Ordering::Relaxed) || now.duration_since(failing_since) > Self::LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_shortened_by_at_most_a_half() {
        let mut delays = RetryPolicy::new(Duration::from_millis(100), Duration::from_millis(350)).delays();
        for longest in [100, 200, 350, 350, 350] {
            let delay = delays.next_delay();
            let longest = Duration::from_millis(longest);
            // The library computes in 32 bits.
            assert!(
                delay >= longest.mul_f64(0.499) && delay <= longest.mul_f64(1.001),
                "{delay:?} of {longest:?}"
            );
        }
        delays.reset();
        assert!(delays.next_delay() <= Duration::from_millis(101));
    }

    #[test]
    fn delays_differ_from_client_to_client() {
        let first = || RetryPolicy::WRITES.delays().next_delay();
        let delays: std::collections::HashSet<_> = (0..20).map(|_| first()).collect();
        assert!(delays.len() > 10, "{delays:?}");
    }

    #[test]
    fn an_error_for_the_operator_is_tolerated_for_a_while_once_something_succeeded() {
        let now = Instant::now();
        let tolerance = Tolerance::default();
        assert!(tolerance.is_exhausted(now, now));
        tolerance.clone().note_success();
        assert!(!tolerance.is_exhausted(now, now + Tolerance::LIMIT));
        assert!(tolerance.is_exhausted(now, now + Tolerance::LIMIT + Duration::from_millis(1)));
    }
}
