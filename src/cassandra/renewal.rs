//! Passwords and certificates that change in their files while a session runs. What has changed is tried on a connection of its own
//! first. Only what a node accepts is taken into use: a file that is wrong, or that is written before the servers know of it, does no
//! harm. Connections that are open stay.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};

use super::Error;
use super::connection::Login;
use crate::config::{CassandraConfig, password_file};
use crate::metrics::renewal::Server;
use crate::tls::files::Watched;

/// After files that cannot be used, if they do not change again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The login of a session, which follows its files.
pub(super) struct Renewal {
    config: CassandraConfig,
    current: ArcSwap<Login>,
    state: Mutex<State>,
}

struct State {
    watched: Watched,
    /// The last reason why new files cannot be used, to report each once.
    reported: Option<String>,
}

impl Renewal {
    pub(super) fn new(config: &CassandraConfig) -> Result<Self, Error> {
        let tls = config.tls.enabled.then_some(&config.tls);
        let tls = tls.into_iter().flat_map(|tls| [&tls.ca_file, &tls.cert_file, &tls.key_file]);
        let files = [&config.password_file].into_iter().chain(tls);
        // Before the files are read: what is written meanwhile is seen at the next look.
        let watched = Watched::new(files.flatten().cloned());
        Ok(Self {
            current: ArcSwap::from_pointee(Login::new(config)?),
            config: config.clone(),
            state: Mutex::new(State { watched, reported: None }),
        })
    }

    pub(super) fn current(&self) -> Arc<Login> {
        self.current.load_full()
    }

    /// What the files hold, if they have changed and it is time to try them.
    pub(super) fn begin(&self) -> Option<Attempt<'_>> {
        // One attempt at a time; the others go on with what is in use.
        let mut state = self.state.try_lock().ok()?;
        state.watched.is_due().then(|| Attempt { renewal: self, state })
    }

    fn read(&self) -> Result<Login, Error> {
        let mut config = self.config.clone();
        if let Some(file) = &config.password_file {
            let password = password_file::read(file).map_err(|reason| {
                Error::Setting(format!("cassandra.password_file {}: {reason}", file.display()))
            })?;
            config.password = Some(password);
        }
        Login::new(&config)
    }
}

/// An attempt to log in by what the files hold now.
pub(super) struct Attempt<'a> {
    renewal: &'a Renewal,
    state: MutexGuard<'a, State>,
}

impl Attempt<'_> {
    pub(super) fn login(&self) -> Result<Login, Error> {
        self.renewal.read()
    }

    pub(super) fn conclude(mut self, tried: Result<Login, Error>) {
        match tried {
            Ok(login) => {
                self.renewal.current.store(Arc::new(login));
                self.state.watched.done();
                self.state.reported = None;
                Server::Cassandra.note_accepted();
                tracing::info!("the login of Cassandra has changed in its files: the new one is in use");
            }
            Err(error) => {
                self.state.watched.postpone(TRY_AGAIN);
                self.state.report(&error);
            }
        }
    }
}

impl State {
    fn report(&mut self, error: &Error) {
        // A node that does not answer says nothing of the files.
        if error.is_transient() {
            tracing::debug!(%error, "the login of Cassandra has changed in its files, and cannot be tried yet");
            return;
        }
        Server::Cassandra.note_refused();
        let reason = error.to_string();
        if self.reported.as_ref() != Some(&reason) {
            tracing::warn!(
                "the login of Cassandra has changed in its files and is refused, the old one stays in use: {reason}"
            );
        }
        self.reported = Some(reason);
    }
}
