//! Browsers that have signed in: in memory only, so a restart ends them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;

use super::token::{Hash, random_text};

/// How long a session lasts.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once. One more ends the oldest.
const MAX_SESSIONS: usize = 1_000;

/// By the hash of their ids, so that the look-up takes the same time for every wrong id.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<[u8; 32], Session>);

#[derive(Debug)]
struct Session {
    /// Of the token that it began with.
    token: Hash,
    csrf: String,
    begun: Instant,
}

/// What the browser keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// In the cookie.
    pub id: String,
    /// In a header of each request that changes something: another site's page cannot know it.
    pub csrf: String,
}

impl Secrets {
    /// Whether a request repeats the secret.
    pub fn is_confirmed_by(&self, given: &[u8]) -> bool {
        given.ct_eq(self.csrf.as_bytes()).into()
    }
}

impl Sessions {
    pub(super) fn begin(&mut self, token: Hash, now: Instant) -> Secrets {
        self.0.retain(|_, session| session.is_valid(now));
        if self.0.len() >= MAX_SESSIONS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, session)| session.begun).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        // Without random numbers the process could not have made a TLS connection or a token either.
        let random = || random_text().expect("the system has random numbers");
        let secrets = Secrets { id: random(), csrf: random() };
        self.0.insert(key(&secrets.id), Session { token, csrf: secrets.csrf.clone(), begun: now });
        secrets
    }

    /// The token of a session, and its secret.
    pub(super) fn find(&self, id: &str, now: Instant) -> Option<(Hash, String)> {
        let session = self.0.get(&key(id)).filter(|session| session.is_valid(now))?;
        Some((session.token, session.csrf.clone()))
    }

    pub(super) fn end(&mut self, id: &str) {
        self.0.remove(&key(id));
    }
}

impl Session {
    fn is_valid(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) < LIFETIME
    }
}

fn key(id: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, id.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_time_by_sign_out_and_by_too_many_others() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let first = sessions.begin(Hash::of("a"), start);
        let second = sessions.begin(Hash::of("b"), start + Duration::from_secs(1));
        assert_ne!(first, second);
        let soon = start + Duration::from_secs(2);
        assert_eq!(sessions.find(&first.id, soon), Some((Hash::of("a"), first.csrf.clone())));
        assert_eq!(sessions.find(&first.csrf, soon), None);
        assert_eq!(sessions.find(&first.id, start + LIFETIME), None);
        sessions.end(&second.id);
        assert_eq!(sessions.find(&second.id, soon), None);
        for _ in 0..MAX_SESSIONS {
            sessions.begin(Hash::of("c"), soon);
        }
        assert_eq!((sessions.0.len(), sessions.find(&first.id, soon)), (MAX_SESSIONS, None));
    }
}
