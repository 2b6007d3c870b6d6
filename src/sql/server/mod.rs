//! The tables for PostgreSQL's clients: its protocol and catalog by datafusion-postgres. Each client has a session of its
//! own, with what its user may see. Nothing can be changed.
//!
//! - [`startup`]: TLS, login, session. [`scram`], [`users`], [`logins`]: what it needs.
//! - [`service`]: statements on their way to datafusion-postgres; [`rewrite`]: what is written in other words before;
//!   [`parameters`] of them.
//! - [`statements`]: what is refused, and what is answered without a plan; [`copy`], [`prepared`] of these.
//! - [`catalog`]: the tables and functions by which clients look around. [`booleans`]: texts as truth values. [`members`]: IN among
//!   the columns.
//! - [`errors`]: SQLSTATE. [`metrics`]: what is counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::{ErrorHandler, PgWireServerHandlers};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::tokio::process_socket;
use datafusion_postgres::{DfSessionService, QueryHook};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use super::bounds::Watch;
use super::context::Engine;
use crate::shutdown::Shutdown;
use crate::tls::server::{Files, ServerTls, Settings};

mod booleans;
mod catalog;
mod copy;
mod cursors;
mod errors;
mod functions;
mod logins;
mod members;
mod metrics;
mod parameters;
mod prepared;
mod rewrite;
mod scram;
mod seat;
mod service;
mod startup;
mod statements;
mod users;

use cursors::Cursors;
use errors::Errors;
use logins::{Logins, Opened};
pub use metrics::ServeMetrics;
use prepared::PreparedStatements;
pub use scram::Verifier;
use seat::Seat;
use service::Service;
use startup::Startup;
use statements::Statements;
pub use users::entry as user_entry;
use users::{User, Users};

const SETTINGS: Settings = Settings { certificate: "--tls-certificate", key: "--tls-key" };
/// What clients that begin with TLS must offer, as PostgreSQL 17 has it.
const ALPN: &[u8] = b"postgresql";
/// A client that has not taken its answer so long after the statement's deadline is disconnected.
const GRACE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A client that has not logged in for so long is disconnected.
const LOGIN_WITHIN: Duration = Duration::from_secs(15);
/// Connections that have not logged in yet, beside those that the clients need.
const MORE_LOGINS: usize = 64;

/// Where and for whom to serve.
#[derive(Debug, Clone)]
pub struct Options {
    pub address: SocketAddr,
    pub max_clients: u16,
    /// The users file; without one, everybody on this machine may connect.
    pub users: Option<PathBuf>,
    /// Files of the certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// The server, bound to its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What all clients share.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    users: Option<Users>,
    tls: Option<ServerTls>,
    logins: Arc<Logins>,
    max_clients: u16,
    places: Arc<Semaphore>,
    /// Places of users with a limit of their own.
    own_places: Mutex<HashMap<String, (u16, Arc<Semaphore>)>>,
    clients: Clients,
    metrics: ServeMetrics,
}

impl Shared {
    /// The places of a client that has logged in, or why there is none.
    fn places(&self, name: &str, user: Option<&User>) -> Result<Vec<OwnedSemaphorePermit>, String> {
        let all = self.places.clone().try_acquire_owned().map_err(|_| {
            format!("too many clients: {} are connected (wait, or raise --max-clients)", self.max_clients)
        })?;
        let mut taken = vec![all];
        if let Some(limit) = user.and_then(|user| user.max_clients) {
            let mut own = self.own_places.lock().expect("no panic while locked");
            let kept =
                own.entry(name.to_owned()).or_insert_with(|| (limit, Arc::new(Semaphore::new(limit.into()))));
            if kept.0 != limit {
                *kept = (limit, Arc::new(Semaphore::new(limit.into())));
            }
            let place = kept.1.clone().try_acquire_owned().map_err(|_| {
                format!(
                    "too many clients of this user: {limit} are connected (wait, or raise its max_clients)"
                )
            })?;
            taken.push(place);
        }
        Ok(taken)
    }
}

impl Server {
    /// # Errors
    /// The address is taken, or a file of the options cannot be used.
    pub async fn bind(options: Options, engine: Engine, metrics: ServeMetrics) -> anyhow::Result<Self> {
        let Options { address, max_clients, users, tls } = options;
        let users = users.map(|path| Users::open(&path)).transpose().map_err(anyhow::Error::msg)?;
        let files = tls.map(|(certificate, key)| Files { certificate, key, settings: SETTINGS });
        let tls = files.map(|files| ServerTls::read(files, ALPN)).transpose()?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error} (choose another port)"))?;
        let shared = Shared {
            engine,
            users,
            tls,
            logins: Arc::new(Logins::new(usize::from(max_clients) + MORE_LOGINS)),
            max_clients,
            places: Arc::new(Semaphore::new(max_clients.into())),
            own_places: Mutex::default(),
            clients: Clients::default(),
            metrics,
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until shutdown is requested.
    pub async fn serve(self, shutdown: &Shutdown) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = look.tick() => {
                    self.shared.measure();
                    continue;
                }
                () = shutdown.requested() => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as too many open files: others may close theirs.
                    warn!("cannot accept a client: {error}");
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
            };
            self.shared.metrics.connections.inc();
            let Some(opened) = self.shared.logins.open(peer.ip()) else {
                warn!(%peer, "refused a connection: too many have not logged in");
                self.shared.metrics.refused_clients.inc();
                continue;
            };
            let (shared, shutdown) = (self.shared.clone(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    result = client(socket, shared, opened) => match result {
                        Ok(()) => debug!(%peer, "client left"),
                        Err(error) => warn!(%peer, "client disconnected: {error:#}"),
                    },
                    () = shutdown.requested() => {}
                }
            });
        }
    }
}

impl Shared {
    fn measure(&self) {
        let clients = usize::from(self.max_clients).saturating_sub(self.places.available_permits());
        self.metrics.clients.set(i64::try_from(clients).unwrap_or(i64::MAX));
        self.metrics.memory.set(i64::try_from(self.engine.memory()).unwrap_or(i64::MAX));
    }
}

async fn client(socket: TcpStream, shared: Arc<Shared>, opened: Opened) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let (context, watch) = shared.engine.empty_context();
    let context = Arc::new(context);
    let metrics = shared.metrics.clone();
    watch.on_end(move |ended| metrics.ended(ended));
    let seat = Seat::new(opened);
    let statements =
        Statements { seat: seat.clone(), watch: watch.clone(), prepared: PreparedStatements::default() };
    let hooks: Vec<Arc<dyn QueryHook>> = vec![
        Arc::new(statements),
        Arc::new(Cursors::default()),
        Arc::new(SetShowHook),
        Arc::new(TransactionStatementHook),
    ];
    let handlers = Handlers {
        service: Arc::new(Service::new(
            DfSessionService::new_with_hooks(context.clone(), hooks),
            watch.clone(),
        )),
        startup: Arc::new(Startup::new(shared.clone(), context, watch.clone(), seat.clone())),
        errors: Arc::new(Errors { seat: seat.clone(), metrics: shared.metrics.clone() }),
        cancel: Arc::new(Cancel(shared.clone())),
    };
    let acceptor = shared.tls.as_ref().map(|tls| tls.acceptor().clone());
    let login = async {
        tokio::time::sleep(LOGIN_WITHIN).await;
        if seat.is_admitted() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = process_socket(socket, acceptor, Arc::new(handlers)) => Ok(result?),
        () = overdue(watch) => anyhow::bail!("it did not take its answer in time"),
        () = login => anyhow::bail!("it did not log in within {LOGIN_WITHIN:?}"),
    }
}

/// Resolves once a statement is still there long after its deadline: whoever takes rows gets its error before.
async fn overdue(watch: Watch) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if watch.deadline().is_some_and(|deadline| deadline.elapsed() > GRACE) {
            return;
        }
    }
}

struct Handlers {
    service: Arc<Service>,
    startup: Arc<Startup>,
    errors: Arc<Errors>,
    cancel: Arc<Cancel>,
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.service.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.service.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        self.errors.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancel.clone()
    }
}

/// The clients that are logged in, by the number and the key with which another connection may cancel their statement.
#[derive(Debug, Default)]
struct Clients(Mutex<HashMap<i32, (SecretKey, Watch)>>);

impl Clients {
    fn insert(&self, pid: i32, key: SecretKey, watch: Watch) {
        self.0.lock().expect("no panic while locked").insert(pid, (key, watch));
    }

    fn remove(&self, pid: i32) {
        self.0.lock().expect("no panic while locked").remove(&pid);
    }
}

struct Cancel(Arc<Shared>);

#[async_trait]
impl CancelHandler for Cancel {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let known = self.0.clients.0.lock().expect("no panic while locked");
        if let Some((key, watch)) = known.get(&request.pid)
            && key.eq_value(&request.secret_key)
        {
            watch.cancel();
        }
    }
}
