//! Passwords and certificates that change in their files while clients run.
//!
//! A thread looks at the files every two seconds. What has changed is tried on a client of its own first; only what the brokers accept
//! is taken into use, so a file that is wrong, or that is written before the brokers know of it, does no harm. The clients of the
//! process then get the new password for their next connections ([`super::live`]). The library has no such call for certificates and
//! for the secret of OAUTHBEARER: producers are made anew ([`super::renewed`]), and [`generation`] tells those who have consumers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::producer::BaseProducer;
use tokio::sync::watch;

use super::aws::{self, Token};
use super::client::{Reporting, client_config, is_by_password};
use super::live::{Librdkafka, Live, set_password_of_all, set_token_of_all};
use super::{Error, topics};
use crate::config::{KafkaConfig, Secret, password_file};
use crate::metrics::renewal::Server;
use crate::tls::files::Watched;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After files that cannot be used, if they do not change again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The files that a login is made of, which name it: password, authorities, certificate, key.
type Files = [Option<PathBuf>; 4];

/// A login by files.
struct Login {
    config: KafkaConfig,
    password: Option<Secret>,
    watched: Watched,
    /// The last reason why new files cannot be used, to report each once.
    reported: Option<String>,
}

/// The logins that clients of this process have. Nearly always one.
static LOGINS: Mutex<BTreeMap<Files, Login>> = Mutex::new(BTreeMap::new());

/// Counts changes that a client takes up only if it is made anew.
static GENERATION: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::channel(0).0);

fn logins() -> MutexGuard<'static, BTreeMap<Files, Login>> {
    LOGINS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn files(config: &KafkaConfig) -> Files {
    [
        config.sasl_password_file.clone(),
        config.ssl_ca_location.clone(),
        config.ssl_certificate_location.clone(),
        config.ssl_key_location.clone(),
    ]
}

/// Changes whenever certificates, or the secret of OAUTHBEARER, have changed in their files and the brokers accept them.
pub fn generation() -> watch::Receiver<u64> {
    GENERATION.subscribe()
}

/// The number of such changes.
pub(super) fn number() -> u64 {
    let number = *GENERATION.borrow();
    #[cfg(test)]
    let number = number + NOTED.get();
    number
}

/// Whether a client can be made of the files as they are now. They may be gone again.
pub fn check(config: &KafkaConfig) -> Result<(), Error> {
    let client = client_config(config);
    create_brief::<_, BaseProducer<Reporting>>(config, &client, Reporting::default()).map(drop)
}

/// The password that new clients log in by: the one that was accepted last, or else what the file says now.
pub(super) fn password(config: &KafkaConfig) -> Option<Secret> {
    if config.sasl_password_file.is_some()
        && let Some(login) = logins().get(&files(config))
    {
        return login.password.clone();
    }
    configured_password(config)
}

/// What the file says now, if there is one that can be read, or else the setting.
fn configured_password(config: &KafkaConfig) -> Option<Secret> {
    let written = config.sasl_password_file.as_deref().and_then(|file| password_file::read(file).ok());
    written.or_else(|| config.sasl_password.clone())
}

/// A client that may live long: it gets the password that the file has later.
pub(super) fn create<C: ClientContext, T>(
    config: &KafkaConfig,
    client: &ClientConfig,
    context: C,
) -> Result<Live<T>, Error>
where
    T: Librdkafka + FromClientConfigAndContext<C>,
{
    watch_files(config);
    if aws::is_iam(config) {
        IAM.get_or_init(|| config.clone());
        start();
    }
    let made: Live<T> = create_brief(config, client, context)?;
    // It may have changed since the client's configuration was made.
    if is_by_password(config)
        && config.sasl_password_file.is_some()
        && let (Some(user), Some(password)) = (&config.sasl_username, password(config))
        && client.get("sasl.password") != Some(password.expose())
    {
        made.set_password(user, password.expose()).map_err(|reason| failed(&reason))?;
    }
    Ok(made)
}

/// A client for a few requests, which ends before its login changes.
pub(super) fn create_brief<C: ClientContext, T>(
    config: &KafkaConfig,
    client: &ClientConfig,
    context: C,
) -> Result<Live<T>, Error>
where
    T: Librdkafka + FromClientConfigAndContext<C>,
{
    let servers = || config.bootstrap_servers.join(",");
    let token = match aws::is_iam(config) {
        true => Some(
            aws::token(config)
                .map_err(|error| Error::NoToken { servers: servers(), reason: error.to_string() })?,
        ),
        false => None,
    };
    let made: Live<T> = Live::create(client, context).map_err(Error::building(config))?;
    if let Some(token) = token {
        made.set_token(&token).map_err(|reason| Error::NoToken { servers: servers(), reason })?;
    }
    Ok(made)
}

fn failed(reason: &str) -> Error {
    Error::Rejected { action: "change the password of a client".into(), reason: reason.to_owned() }
}

/// From now on the files of this login are looked at.
fn watch_files(config: &KafkaConfig) {
    let files = files(config);
    if files.iter().all(Option::is_none) {
        return;
    }
    let mut logins = logins();
    if logins.contains_key(&files) {
        return;
    }
    // Before the files are read: what is written meanwhile is seen at the next look.
    let watched = Watched::new(files.iter().flatten().cloned());
    let password = configured_password(config);
    logins.insert(files, Login { config: config.clone(), password, watched, reported: None });
    drop(logins);
    start();
}

/// The login by IAM, if a client that may live long has it.
static IAM: OnceLock<KafkaConfig> = OnceLock::new();

/// Starts the thread that looks, once.
fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let watching = std::thread::Builder::new().name("kafka-login".into()).spawn(keep_looking);
        if let Err(error) = watching {
            tracing::warn!(%error, "changes of passwords and certificates are not noticed");
        }
    });
}

/// The token that the clients have. It is valid for minutes when it is time for another.
#[derive(Default)]
struct Given {
    token: Option<Token>,
    /// The last reason why there is no new one, to report each once.
    reported: Option<String>,
    not_before: Option<Instant>,
}

impl Given {
    fn renew(&mut self) {
        let Some(config) = IAM.get().filter(|_| self.not_before.is_none_or(|at| at <= Instant::now())) else {
            return;
        };
        let made = aws::renew(config).map_err(|error| error.to_string());
        let tried = made.and_then(|token| {
            if self.token.as_ref() != Some(&token) {
                set_token_of_all(&token)?;
            }
            Ok(token)
        });
        match tried {
            Ok(token) => {
                if self.reported.take().is_some() || self.token.as_ref().is_some_and(|given| *given != token)
                {
                    Server::Kafka.note_accepted();
                }
                *self = Self { token: Some(token), ..Self::default() };
            }
            Err(reason) => self.report(reason),
        }
    }

    fn report(&mut self, reason: String) {
        self.not_before = Some(Instant::now() + TRY_AGAIN);
        Server::Kafka.note_refused();
        if self.reported.as_ref() != Some(&reason) {
            tracing::warn!(
                "there is no new token for Amazon MSK, the old one is used as long as it is valid: {reason}"
            );
        }
        self.reported = Some(reason);
    }
}

fn keep_looking() {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::warn!(%error, "changes of passwords and certificates are not noticed");
            return;
        }
    };
    let mut given = Given::default();
    loop {
        std::thread::sleep(LOOK_EVERY);
        given.renew();
        let due: Vec<_> = logins()
            .iter_mut()
            .filter_map(|(files, login)| {
                login.watched.is_due().then(|| (files.clone(), login.config.clone()))
            })
            .collect();
        for (files, config) in due {
            let tried = runtime.block_on(attempt(&config));
            if let Some(login) = logins().get_mut(&files) {
                login.conclude(tried);
            }
        }
    }
}

/// Why new files are not used.
enum Unusable {
    /// What is wrong with them.
    Refused(String),
    /// Nobody could say.
    Unknown(Error),
}

/// Logs in by what the files hold now. Returns the password.
async fn attempt(config: &KafkaConfig) -> Result<Option<Secret>, Unusable> {
    let password = match &config.sasl_password_file {
        Some(file) => {
            let read = password_file::read(file);
            let refused =
                |reason| Unusable::Refused(format!("kafka.sasl_password_file {}: {reason}", file.display()));
            Some(read.map_err(refused)?)
        }
        None => config.sasl_password.clone(),
    };
    let candidate =
        KafkaConfig { sasl_password: password.clone(), sasl_password_file: None, ..config.clone() };
    match topics::brokers(&candidate).await {
        Ok(_) => Ok(password),
        Err(error @ (Error::Unreachable { .. } | Error::Silent { .. })) => Err(Unusable::Unknown(error)),
        Err(error) => Err(Unusable::Refused(error.to_string())),
    }
}

impl Login {
    fn conclude(&mut self, tried: Result<Option<Secret>, Unusable>) {
        match tried {
            Ok(password) => self.accept(password),
            Err(Unusable::Unknown(error)) => {
                self.watched.postpone(TRY_AGAIN);
                tracing::debug!(%error, "the login of Kafka has changed in its files, and cannot be tried yet");
            }
            Err(Unusable::Refused(reason)) => {
                self.watched.postpone(TRY_AGAIN);
                Server::Kafka.note_refused();
                if self.reported.as_ref() != Some(&reason) {
                    tracing::warn!(
                        "the login of Kafka has changed in its files and is refused, the old one stays in use: {reason}"
                    );
                }
                self.reported = Some(reason);
            }
        }
    }

    fn accept(&mut self, password: Option<Secret>) {
        self.reported = None;
        let is_other_password = password != self.password;
        self.password = password;
        let others = self.watched.others_changed(self.config.sasl_password_file.as_deref());
        self.watched.done();
        let in_place = is_by_password(&self.config);
        if is_other_password
            && in_place
            && let (Some(user), Some(password)) = (&self.config.sasl_username, &self.password)
            && let Err(reason) = set_password_of_all(user, password.expose())
        {
            tracing::warn!(reason, "the new password of Kafka cannot be given to the clients that run");
        }
        Server::Kafka.note_accepted();
        tracing::info!("the login of Kafka has changed in its files: the new one is in use");
        if others || (is_other_password && !in_place) {
            GENERATION.send_modify(|generation| *generation += 1);
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Changes that one test has noted: others that run beside it must not see them.
    static NOTED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// As if certificates had changed and were accepted, for the producers of this thread.
#[cfg(test)]
pub(crate) fn note_change() {
    NOTED.set(NOTED.get() + 1);
}
