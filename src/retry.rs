//! One retry policy for every remote call that may be repeated: exponential delays with jitter, how long transient
//! errors are retried, and how long errors are that only an operator can fix. Here are only durations and decisions;
//! what an error means, and whether it is transient, is the caller's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// When to attempt an operation again and when to give it up.
///
/// Delays double from the first to the longest, each shortened by a random part of up to a half, so that clients that
/// failed together do not come back together.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    first: Duration,
    longest: Duration,
    transient_for: Option<Duration>,
    tolerance: Option<Tolerance>,
}

impl RetryPolicy {
    /// For writes to the servers, which may be unavailable for minutes.
    pub const WRITES: Self = Self::new(Duration::from_millis(100), Duration::from_secs(5));

    /// Retries transient errors without end, and other errors not at all.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, transient_for: None, tolerance: None }
    }

    /// Retries transient errors for `limit` only.
    #[must_use]
    pub fn at_most(self, limit: Duration) -> Self {
        Self { transient_for: Some(limit), ..self }
    }

    /// Retries other errors too, as long as they are tolerated.
    #[must_use]
    pub fn tolerating(self, tolerance: Tolerance) -> Self {
        Self { tolerance: Some(tolerance), ..self }
    }

    /// The delays alone, for a caller that decides by itself when to stop. Costs nothing until the first failure.
    pub const fn delays(&self) -> Delays {
        Delays { first: self.first, longest: self.longest, backoff: None }
    }

    /// The attempts at one operation that begins now.
    pub fn attempts(&self) -> Attempts<'_> {
        Attempts { policy: self, delays: self.delays(), began: Instant::now(), permanent_since: None }
    }

    /// An operation succeeded: see [`Tolerance`].
    pub fn note_success(&self) {
        if let Some(tolerance) = &self.tolerance {
            tolerance.note_success();
        }
    }
}

/// The failed attempts at one operation.
#[derive(Debug)]
pub struct Attempts<'a> {
    policy: &'a RetryPolicy,
    delays: Delays,
    began: Instant,
    /// When the present row of errors began that are not transient.
    permanent_since: Option<Instant>,
}

impl Attempts<'_> {
    /// Notes a failed attempt. Returns how long to wait before the next one, or `None` when it is time to give up.
    pub fn failed(&mut self, is_transient: bool) -> Option<Duration> {
        let now = Instant::now();
        let is_over = match is_transient {
            true => {
                self.permanent_since = None;
                self.policy.transient_for.is_some_and(|limit| now.duration_since(self.began) >= limit)
            }
            false => {
                let since = *self.permanent_since.get_or_insert(now);
                self.policy.tolerance.as_ref().is_none_or(|tolerance| tolerance.is_exhausted(since, now))
            }
        };
        (!is_over).then(|| self.delays.next_delay())
    }
}

/// The delays between the attempts at one operation, without end.
#[derive(Debug)]
pub struct Delays {
    first: Duration,
    longest: Duration,
    backoff: Option<ExponentialBackoff>,
}

impl Delays {
    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let Self { first, longest, backoff } = self;
        let backoff = backoff.get_or_insert_with(|| {
            // Its jitter adds up to as much again.
            ExponentialBuilder::new()
                .with_min_delay(*first / 2)
                .with_max_delay(*longest / 2)
                .without_max_times()
                .with_jitter()
                .build()
        });
        backoff.next().unwrap_or(*longest)
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

    #[test]
    fn a_policy_gives_up_by_the_kind_of_the_error() {
        let endless = RetryPolicy::WRITES;
        assert!(endless.attempts().failed(true).is_some());
        assert!(endless.attempts().failed(false).is_none());
        let bounded = RetryPolicy::WRITES.at_most(Duration::ZERO);
        assert!(bounded.attempts().failed(true).is_none());
        let tolerating = RetryPolicy::WRITES.tolerating(Tolerance::default());
        assert!(tolerating.attempts().failed(false).is_none());
        tolerating.note_success();
        assert!(tolerating.attempts().failed(false).is_some());
    }
}
