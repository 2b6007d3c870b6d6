//! The login of listeners: who may ask, and what.
//!
//! - [`token`]: random tokens, their hashes, and the file of these.
//! - [`limiter`]: how often an address may give a wrong token.
//! - [`sessions`]: browsers that have signed in.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounterVec, Opts};
use serde::{Deserialize, Serialize};

mod limiter;
mod sessions;
pub mod token;

use limiter::Limiter;
use sessions::Sessions;
pub use sessions::{LIFETIME, Secrets};
use token::{Hash, Tokens, TokensError};

use crate::tls::files::Stamp;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May look.
    Viewer,
    /// May acknowledge alerts too.
    Operator,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub role: Role,
    hash: Hash,
}

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// There is no token, session or anything that could be one.
    Missing,
    /// The token is none of the file, or the session is over.
    Wrong,
    /// The address has given too many wrong tokens; the time until it may try again.
    TooMany(Duration),
    /// The file of tokens cannot be used now.
    Unusable,
}

/// The login of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Login(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    tokens: Mutex<Known>,
    limiter: Mutex<Limiter>,
    sessions: Mutex<Sessions>,
    attempts: IntCounterVec,
}

/// The file as it was read last.
#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    tokens: Option<Arc<Tokens>>,
}

impl Login {
    /// # Errors
    /// The file cannot be used.
    pub fn read(path: PathBuf) -> Result<Self, TokensError> {
        let stamp = Stamp::of(&path).ok();
        let tokens = Some(Arc::new(Tokens::read(&path)?));
        let attempts = attempts();
        for result in ["accepted", "refused", "limited"] {
            attempts.with_label_values(&[result]);
        }
        Ok(Self(Arc::new(Inner {
            path,
            tokens: Mutex::new(Known { stamp, tokens }),
            limiter: Mutex::default(),
            sessions: Mutex::default(),
            attempts,
        })))
    }

    /// The counter of tokens that were given.
    pub fn attempts(&self) -> IntCounterVec {
        self.0.attempts.clone()
    }

    /// Who a token from this address is.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn by_token(&self, given: &str, from: IpAddr) -> Result<Identity, Denied> {
        let now = Instant::now();
        let attempts = |result| self.0.attempts.with_label_values(&[result]).inc();
        if let Err(wait) = lock(&self.0.limiter).may_try(from, now) {
            attempts("limited");
            return Err(Denied::TooMany(wait));
        }
        let found = self.tokens()?.find(given);
        match found {
            Some(identity) => {
                attempts("accepted");
                Ok(identity)
            }
            None => {
                attempts("refused");
                if lock(&self.0.limiter).failed(from, now) {
                    tracing::warn!(address = %from, "too many wrong tokens: no token of this address is looked at for a while");
                }
                Err(Denied::Wrong)
            }
        }
    }

    /// Begins a session of a browser.
    pub fn begin_session(&self, identity: &Identity) -> Secrets {
        lock(&self.0.sessions).begin(identity.hash, Instant::now())
    }

    /// Who a session is, and the secret that its requests repeat.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn by_session(&self, id: &str) -> Result<(Identity, String), Denied> {
        let found = lock(&self.0.sessions).find(id, Instant::now());
        let (hash, csrf) = found.ok_or(Denied::Wrong)?;
        // The token may be gone, or have another role now.
        let identity = self.tokens()?.known(&hash).ok_or(Denied::Wrong)?;
        Ok((identity, csrf))
    }

    pub fn end_session(&self, id: &str) {
        lock(&self.0.sessions).end(id);
    }

    /// Whether a token of somebody who was let in is still in the file.
    fn is_current(&self, identity: &Identity) -> bool {
        self.tokens().is_ok_and(|tokens| tokens.known(&identity.hash).is_some())
    }

    /// Resolves once somebody who was let in is no longer: the token is gone, or the session `id` is over.
    pub(super) async fn revoked(&self, identity: Identity, session: Option<String>) {
        const LOOK: Duration = Duration::from_secs(1);
        loop {
            tokio::time::sleep(LOOK).await;
            let is_signed_in = session.as_ref().is_none_or(|id| self.by_session(id).is_ok());
            if !is_signed_in || !self.is_current(&identity) {
                return;
            }
        }
    }

    /// The tokens as the file is now. A file that became unusable lets nobody in.
    fn tokens(&self) -> Result<Arc<Tokens>, Denied> {
        let mut known = lock(&self.0.tokens);
        let stamp = Stamp::of(&self.0.path).ok();
        // A file that is missing is looked for each time.
        if known.stamp != stamp || stamp.is_none() {
            let was_usable = known.tokens.is_some();
            let read = Tokens::read(&self.0.path);
            if let Err(error) = &read
                && (was_usable || known.stamp != stamp)
            {
                tracing::error!(%error, "nobody can log in");
            }
            *known = Known { stamp, tokens: read.ok().map(Arc::new) };
        }
        known.tokens.clone().ok_or(Denied::Unusable)
    }
}

/// The counter without a value, as the reference lists it too.
pub fn attempts() -> IntCounterVec {
    let options = Opts::new(
        "iotctl_http_login_attempts_total",
        "Tokens that clients gave: accepted, refused, or not looked at after too many wrong ones",
    );
    // The name and the label are constants that Prometheus accepts.
    IntCounterVec::new(options, &["result"]).expect("a valid metric")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
