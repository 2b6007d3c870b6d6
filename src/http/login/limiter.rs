//! How often an address may give a wrong token: a few times at once, then once per [`REFILL`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::http::network::network;

/// Wrong tokens before an address has to wait.
const BURST: u32 = 10;
/// The time after which one more is allowed.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;

/// Wrong tokens by address.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    failures: HashMap<IpAddr, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    /// Each failure moves it ahead by [`REFILL`]; from then on nothing is held against the address.
    clear_at: Instant,
}

impl Limiter {
    /// # Errors
    /// The time to wait.
    pub(super) fn may_try(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(failures) = self.failures.get(&network(address)) else { return Ok(()) };
        let free_at = failures.clear_at.checked_sub(REFILL * (BURST - 1)).unwrap_or(now);
        match free_at.checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// Notes a wrong token; whether the address has to wait now.
    pub(super) fn failed(&mut self, address: IpAddr, now: Instant) -> bool {
        let key = network(address);
        if self.failures.len() >= MAX_ADDRESSES && !self.failures.contains_key(&key) {
            self.failures.retain(|_, failures| failures.clear_at > now);
            // All of them are recent: the one that is forgotten first is the nearest to be.
            if self.failures.len() >= MAX_ADDRESSES
                && let Some(first) =
                    self.failures.iter().min_by_key(|(_, failures)| failures.clear_at).map(|(key, _)| *key)
            {
                self.failures.remove(&first);
            }
        }
        let failures = self.failures.entry(key).or_insert(Failures { clear_at: now });
        failures.clear_at = failures.clear_at.max(now) + REFILL;
        self.may_try(address, now).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn after_ten_wrong_tokens_an_address_waits_and_others_do_not() {
        let mut limiter = Limiter::default();
        let (guesser, other, start) = (address("10.0.0.1"), address("10.0.0.2"), Instant::now());
        for number in 1..=10 {
            assert_eq!(limiter.may_try(guesser, start), Ok(()), "{number}");
            assert_eq!(limiter.failed(guesser, start), number == 10);
        }
        let wait = limiter.may_try(guesser, start).unwrap_err();
        assert_eq!(wait, REFILL);
        assert_eq!(limiter.may_try(other, start), Ok(()));
        // One more, and another wait; after a minute ten again.
        assert_eq!(limiter.may_try(guesser, start + wait), Ok(()));
        assert!(limiter.failed(guesser, start + wait));
        let later = start + REFILL * 11;
        for _ in 0..9 {
            assert!(!limiter.failed(guesser, later));
        }
        assert!(limiter.failed(guesser, later));
    }

    #[test]
    fn the_addresses_of_one_network_count_together_and_few_are_remembered() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        for number in 0..10 {
            limiter.failed(address(&format!("2001:db8::{number}")), start);
        }
        assert!(limiter.may_try(address("2001:db8::ffff"), start).is_err());
        assert!(limiter.may_try(address("2001:db8:0:1::1"), start).is_ok());
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
        for number in 0..2 * MAX_ADDRESSES as u32 {
            limiter.failed(IpAddr::V4(number.into()), start);
        }
        assert!(limiter.failures.len() <= MAX_ADDRESSES);
        assert!(limiter.may_try(address("2001:db8::1"), start).is_err());
    }
}
