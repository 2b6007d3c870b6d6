//! Failed logins cost their address time, and connections that have not logged in are limited, so that guessing is slow and
//! keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::http::network::network;

/// The delay of the answer to the first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// An address without a failure for so long begins anew.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Addresses that are remembered.
const MOST_ADDRESSES: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// What is known of the addresses of clients.
#[derive(Debug)]
pub(super) struct Logins {
    failures: Mutex<HashMap<IpAddr, Failures>>,
    /// Connections that have not logged in yet.
    open: Mutex<HashMap<IpAddr, usize>>,
    most_open: usize,
}

impl Logins {
    /// `most_open`: connections of all addresses that have not logged in yet. One address may have half of them.
    pub(super) fn new(most_open: usize) -> Self {
        Self { failures: Mutex::default(), open: Mutex::default(), most_open: most_open.max(2) }
    }

    /// A place for a connection until it has logged in, if there is one left.
    pub(super) fn open(self: &Arc<Self>, address: IpAddr) -> Option<Opened> {
        let address = network(address);
        let mut open = self.open.lock().expect("no panic while locked");
        let (all, own) = (open.values().sum::<usize>(), open.get(&address).copied().unwrap_or_default());
        if all >= self.most_open || own >= self.most_open / 2 {
            return None;
        }
        *open.entry(address).or_default() += 1;
        Some(Opened { logins: self.clone(), address })
    }

    /// Counts a failed login, and says how long its answer has to wait.
    pub(super) fn failed(&self, address: IpAddr) -> Duration {
        self.failed_at(address, Instant::now())
    }

    fn failed_at(&self, address: IpAddr, now: Instant) -> Duration {
        let address = network(address);
        let mut failures = self.failures.lock().expect("no panic while locked");
        if failures.len() >= MOST_ADDRESSES && !failures.contains_key(&address) {
            failures.retain(|_, failures| now.duration_since(failures.last) < FORGET_AFTER);
            if failures.len() >= MOST_ADDRESSES {
                return LONGEST_DELAY;
            }
        }
        let known = failures.entry(address).or_insert(Failures { count: 0, last: now });
        if now.duration_since(known.last) >= FORGET_AFTER {
            known.count = 0;
        }
        *known = Failures { count: known.count.saturating_add(1), last: now };
        FIRST_DELAY.saturating_mul(1 << (known.count - 1).min(10)).min(LONGEST_DELAY)
    }

    pub(super) fn succeeded(&self, address: IpAddr) {
        self.failures.lock().expect("no panic while locked").remove(&network(address));
    }
}

/// The place of a connection that has not logged in yet.
#[derive(Debug)]
pub(super) struct Opened {
    logins: Arc<Logins>,
    address: IpAddr,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut open = self.logins.open.lock().expect("no panic while locked");
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_failure_of_an_address_waits_longer_until_one_succeeds() {
        let logins = Logins::new(10);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let now = Instant::now();
        let delays: Vec<_> = (0..6).map(|_| logins.failed_at(one, now).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 4000]);
        assert_eq!(logins.failed(other), FIRST_DELAY);
        logins.succeeded(one);
        assert_eq!(logins.failed(one), FIRST_DELAY);
        assert_eq!(logins.failed_at(one, now + FORGET_AFTER * 2), FIRST_DELAY);
        // Neighbours in a network of IPv6 are one.
        logins.failed(address("2001:db8::1"));
        assert_eq!(logins.failed(address("2001:db8::2")), FIRST_DELAY * 2);
        assert_eq!(logins.failed(address("2001:db8:0:1::2")), FIRST_DELAY);
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let logins = Arc::new(Logins::new(4));
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = logins.open(one).unwrap();
        let _second = logins.open(one).unwrap();
        assert!(logins.open(one).is_none());
        let _third = logins.open(other).unwrap();
        drop(first);
        let _fourth = logins.open(one).unwrap();
        let _fifth = logins.open(other).unwrap();
        assert!(logins.open(address("192.0.2.3")).is_none());
    }
}
