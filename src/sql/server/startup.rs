//! The start of a connection: TLS where it is needed, the login, and then a session with what the user may see.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::BytesMut;
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::{
    ClientInfo, METADATA_USER, PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt};
use tracing::{info, warn};

use super::Shared;
use super::errors::{code, fatal};
use super::scram::{Exchange, Failure, MECHANISM};
use super::seat::Seat;
use super::users::User;
use super::{catalog, functions};
use crate::sql::Access;
use crate::sql::bounds::Watch;

/// The version that drivers see, by which they know what the catalog has.
pub(super) const VERSION: &str = "16.6";
/// A longer name of a user is not logged.
const MOST_NAME_CHARS: usize = 64;

/// How far a login has come.
#[derive(Debug, Default)]
enum Login {
    #[default]
    Begun,
    /// The answer to its first message was sent.
    Proving(Box<Exchange>, Option<User>),
    Over,
}

pub(super) struct Startup {
    pub(super) shared: Arc<Shared>,
    pub(super) context: Arc<SessionContext>,
    pub(super) watch: Watch,
    pub(super) seat: Arc<Seat>,
    login: Mutex<Login>,
    pid: Mutex<Option<i32>>,
}

impl Startup {
    pub(super) fn new(
        shared: Arc<Shared>,
        context: Arc<SessionContext>,
        watch: Watch,
        seat: Arc<Seat>,
    ) -> Self {
        Self { shared, context, watch, seat, login: Mutex::default(), pid: Mutex::default() }
    }

    /// The next message of a login; `Some` once it is complete.
    async fn prove<C>(&self, client: &mut C, message: PasswordMessageFamily) -> PgWireResult<Option<User>>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some(users) = &self.shared.users else { return Err(out_of_order()) };
        let name = user_name(client);
        let before = std::mem::replace(&mut *self.login.lock().expect("no panic while locked"), Login::Over);
        match before {
            Login::Begun => {
                let body = raw(message)?;
                let Some((mechanism, first)) = initial_response(&body) else { return Err(out_of_order()) };
                if mechanism != MECHANISM.as_bytes() {
                    return Err(fatal(code::PROTOCOL, "only SCRAM-SHA-256 is offered"));
                }
                let (verifier, user) = users.find(&name);
                let begun = Exchange::begin(verifier, first);
                let (exchange, answer) = match begun {
                    Ok(begun) => begun,
                    Err(failure) => return Err(self.refused(client, &name, failure).await),
                };
                *self.login.lock().expect("no panic while locked") = Login::Proving(Box::new(exchange), user);
                send(client, Authentication::SASLContinue(answer.into())).await?;
                Ok(None)
            }
            Login::Proving(exchange, user) => {
                let last = raw(message)?;
                match (exchange.finish(&last), user) {
                    (Ok(answer), Some(user)) => {
                        send(client, Authentication::SASLFinal(answer.into())).await?;
                        self.shared.logins.succeeded(client.socket_addr().ip());
                        Ok(Some(user))
                    }
                    (Ok(_), None) => Err(self.refused(client, &name, Failure::Refused).await),
                    (Err(failure), _) => Err(self.refused(client, &name, failure).await),
                }
            }
            Login::Over => Err(out_of_order()),
        }
    }

    /// The answer to a failed login, which is the same whether there is such a user or not.
    async fn refused(&self, client: &impl ClientInfo, name: &str, failure: Failure) -> PgWireError {
        let address = client.socket_addr();
        let shown: String = name.chars().take(MOST_NAME_CHARS).collect();
        warn!(peer = %address, user = ?shown, "refused a login");
        self.shared.metrics.refused_logins.inc();
        tokio::time::sleep(self.shared.logins.failed(address.ip())).await;
        match failure {
            Failure::Refused => {
                fatal(code::WRONG_PASSWORD, format!("password authentication failed for user \"{shown}\""))
            }
            Failure::Malformed(reason) => fatal(code::PROTOCOL, format!("malformed SCRAM message: {reason}")),
        }
    }

    /// Gives the client its place and its tables.
    async fn admit<C>(&self, client: &mut C, user: Option<User>) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = user_name(client);
        let places = self.shared.places(&name, user.as_ref()).map_err(|reason| {
            self.shared.metrics.refused_clients.inc();
            fatal(code::TOO_MANY_CLIENTS, reason)
        })?;
        self.seat.admit(places);
        let access = user.map_or(Access::All, |user| user.access);
        let filled = self.shared.engine.fill(&self.context, access).await;
        filled.map_err(|error| fatal(code::NOT_NOW, format!("{error:#}")))?;
        let installed = catalog::install(&self.context, &name).await;
        installed.map_err(|error| fatal(code::INTERNAL, error.to_string()))?;
        functions::register(&self.context, &name);
        let (pid, key) = RandomPidSecretKeyGenerator::default().generate(client);
        client.set_pid_and_secret_key(pid, key.clone());
        *self.pid.lock().expect("no panic while locked") = Some(pid);
        self.shared.clients.insert(pid, key, self.watch.clone());
        self.seat.take(&name);
        info!(peer = %client.socket_addr(), user = ?name, tls = client.is_secure(), "client connected");
        let mut parameters = DefaultServerParameterProvider::default();
        VERSION.clone_into(&mut parameters.server_version);
        parameters.is_superuser = false;
        parameters.default_transaction_read_only = true;
        finish_authentication(client, &parameters).await
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                if self.shared.tls.is_some()
                    && !client.is_secure()
                    && !client.socket_addr().ip().to_canonical().is_loopback()
                {
                    return Err(fatal(
                        code::NOT_AUTHORISED,
                        "this server needs TLS (connect with sslmode=require)",
                    ));
                }
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                if self.shared.users.is_none() {
                    return self.admit(client, None).await;
                }
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                send(client, Authentication::SASL(vec![MECHANISM.to_owned()])).await
            }
            PgWireFrontendMessage::PasswordMessageFamily(message) => {
                match self.prove(client, message).await? {
                    Some(user) => self.admit(client, Some(user)).await,
                    None => Ok(()),
                }
            }
            _ => Err(out_of_order()),
        }
    }
}

impl Drop for Startup {
    fn drop(&mut self) {
        if let Some(pid) = *self.pid.lock().expect("no panic while locked") {
            self.shared.clients.remove(pid);
        }
    }
}

fn user_name(client: &impl ClientInfo) -> String {
    client.metadata().get(METADATA_USER).cloned().unwrap_or_default()
}

/// The bytes of a message of the login. pgwire's own reader of them panics where they are too short.
fn raw(message: PasswordMessageFamily) -> PgWireResult<BytesMut> {
    match message {
        PasswordMessageFamily::Raw(body) => Ok(body),
        _ => Err(out_of_order()),
    }
}

/// The mechanism that a client has chosen, ended by a zero byte, and its first message after its length (-1: there is none).
fn initial_response(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (length, data) = body.get(end + 1..)?.split_first_chunk::<4>()?;
    let length = i32::from_be_bytes(*length);
    let is_whole =
        usize::try_from(length).map_or(length == -1 && data.is_empty(), |length| length == data.len());
    is_whole.then_some((&body[..end], data))
}

fn out_of_order() -> PgWireError {
    fatal(code::PROTOCOL, "log in first")
}

async fn send<C>(client: &mut C, message: Authentication) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    client.send(PgWireBackendMessage::Authentication(message)).await.map_err(PgWireError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_a_login_is_read_or_refused() {
        let whole = b"SCRAM-SHA-256\0\0\0\0\x03abc";
        assert_eq!(initial_response(whole), Some((&b"SCRAM-SHA-256"[..], &b"abc"[..])));
        assert_eq!(initial_response(b"X\0\xff\xff\xff\xff"), Some((&b"X"[..], &b""[..])));
        for wrong in [
            &b""[..],
            b"X",
            b"X\0",
            b"X\0\0\0",
            b"X\0\0\0\0\x09abc",
            b"X\0\xff\xff\xff\xfeab",
            b"X\0\0\0\0\x01ab",
        ] {
            assert_eq!(initial_response(wrong), None, "{wrong:?}");
        }
    }
}
