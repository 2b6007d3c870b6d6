//! Clients of librdkafka that get another password or token while they live. The library keeps what a client was made with; two of
//! its calls change that, and rdkafka does not wrap them.
//!
//! A client is noted from its making until just before its end, under one lock. So whoever holds the lock may call it.
#![expect(unsafe_code, reason = "two calls of librdkafka that rdkafka does not wrap")]

use std::ffi::{CStr, CString, c_char};
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::bindings;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, FutureProducer, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::{RDKafka, RDKafkaRespErr};

use super::aws::Token;

/// A client whose login can be changed. What it derefs to is the client.
pub(super) struct Live<T> {
    // Fields are dropped in this order: no call reaches a client that has ended.
    noted: Noted,
    inner: T,
}

impl<T> Deref for Live<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: Librdkafka> Live<T> {
    pub(super) fn create<C: ClientContext>(client: &ClientConfig, context: C) -> KafkaResult<Self>
    where
        T: FromClientConfigAndContext<C>,
    {
        let inner: T = client.create_with_context(context)?;
        let user = client.get("sasl.username").map(str::to_owned);
        let noted = Noted::new(user, Handle(inner.handle()));
        Ok(Self { noted, inner })
    }

    /// Logs in by this token (OAUTHBEARER), now and with each new connection.
    pub(super) fn set_token(&self, token: &Token) -> Result<(), String> {
        set_token(token, |client| client.id == self.noted.0)
    }

    /// From its next connection on, it logs in by this password.
    pub(super) fn set_password(&self, user: &str, password: &str) -> Result<(), String> {
        set_password(user, password, |client| client.id == self.noted.0)
    }
}

/// Gives all clients of a user another password, for their next connections.
pub(super) fn set_password_of_all(user: &str, password: &str) -> Result<(), String> {
    set_password(user, password, |client| client.user.as_deref() == Some(user))
}

/// Gives all clients that log in by tokens of our own another token.
pub(super) fn set_token_of_all(token: &Token) -> Result<(), String> {
    set_token(token, |client| client.has_token)
}

fn set_token(token: &Token, of: impl Fn(&Client) -> bool) -> Result<(), String> {
    let (token, expires) = (text(&token.text)?, token.expires);
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let expires = i64::try_from(expires).unwrap_or(i64::MAX);
    clients().iter_mut().filter(|client| of(client)).try_for_each(|client| {
        client.has_token = true;
        // SAFETY: it is noted, and the lock is held.
        unsafe { client.handle.set_token(&token, expires) }
    })
}

fn set_password(user: &str, password: &str, of: impl Fn(&Client) -> bool) -> Result<(), String> {
    let (user, password) = (text(user)?, text(password)?);
    clients().iter().filter(|client| of(client)).try_for_each(|client| {
        // SAFETY: it is noted, and the lock is held.
        unsafe { client.handle.set_password(&user, &password) }
    })
}

fn text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "it contains a zero byte".to_owned())
}

/// A client that has not ended.
struct Client {
    id: u64,
    /// Whom it logs in as, if by a password.
    user: Option<String>,
    /// Whether it logs in by tokens that it is given here.
    has_token: bool,
    handle: Handle,
}

static CLIENTS: Mutex<Vec<Client>> = Mutex::new(Vec::new());

fn clients() -> MutexGuard<'static, Vec<Client>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client is in [`CLIENTS`] until this is dropped.
struct Noted(u64);

impl Noted {
    fn new(user: Option<String>, handle: Handle) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        clients().push(Client { id, user, has_token: false, handle });
        Self(id)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        clients().retain(|client| client.id != self.0);
    }
}

/// librdkafka's own client.
struct Handle(*mut RDKafka);

// SAFETY: librdkafka's calls may come from any thread.
unsafe impl Send for Handle {}

impl Handle {
    /// # Safety
    /// The client has not ended.
    unsafe fn set_password(&self, user: &CStr, password: &CStr) -> Result<(), String> {
        // SAFETY: as above; both texts are copied.
        unsafe {
            let error = bindings::rd_kafka_sasl_set_credentials(self.0, user.as_ptr(), password.as_ptr());
            if error.is_null() {
                return Ok(());
            }
            let reason =
                CStr::from_ptr(bindings::rd_kafka_error_string(error)).to_string_lossy().into_owned();
            bindings::rd_kafka_error_destroy(error);
            Err(reason)
        }
    }
}

impl Handle {
    /// `expires` in milliseconds since the epoch.
    ///
    /// # Safety
    /// The client has not ended.
    unsafe fn set_token(&self, token: &CStr, expires: i64) -> Result<(), String> {
        let mut reason: [c_char; 512] = [0; 512];
        // SAFETY: as above; the texts are copied, there are no extensions, and the reason is within its buffer and ends with a zero.
        unsafe {
            let code = bindings::rd_kafka_oauthbearer_set_token(
                self.0,
                token.as_ptr(),
                expires,
                PRINCIPAL.as_ptr(),
                ptr::null_mut(),
                0,
                reason.as_mut_ptr(),
                reason.len(),
            );
            match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
                _ => Err(CStr::from_ptr(reason.as_ptr()).to_string_lossy().into_owned()),
            }
        }
    }
}

/// The library wants a name for its log; who one is, the token says.
const PRINCIPAL: &CStr = c"iotctl";

/// What rdkafka wraps a client of librdkafka in.
pub(super) trait Librdkafka {
    fn handle(&self) -> *mut RDKafka;
}

impl<C: ConsumerContext> Librdkafka for BaseConsumer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> Librdkafka for BaseProducer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Librdkafka for ThreadedProducer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ClientContext + 'static> Librdkafka for FutureProducer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Librdkafka for AdminClient<C> {
    fn handle(&self) -> *mut RDKafka {
        self.inner().native_ptr()
    }
}
