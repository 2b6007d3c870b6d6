//! What all requests share: the session, the permits to read raw rows, and the last looks at the fleet and the servers.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::alerts::{Alerts, Look};
use super::feed::Feed;
use super::fleet::Snapshot;
use super::health::{self, Health};
use super::problem::Problem;
use super::request::{DEADLINE, within_deadline};
use crate::alerting::Acknowledgement;
use crate::alerting::topic::AlertProducer;
use crate::cassandra::Session;
use crate::config::Config;
use crate::kafka::{Error, Subscription};
use crate::shutdown::Shutdown;
use crate::store::sensors::SensorNames;

/// Requests that read raw rows at once. Others wait for [`PERMIT_WAIT`] and are then refused.
const MAX_SCANS: usize = 4;
const PERMIT_WAIT: Duration = Duration::from_secs(5);
/// A look at the fleet that is younger answers again.
const FLEET_FRESH: Duration = Duration::from_secs(1);
/// Names that are younger are not looked up again: so long does a rename take.
const NAMES_FRESH: Duration = Duration::from_secs(30);
/// Pause after a failed attempt to reach Cassandra.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// The state behind every route. Cheap to clone.
#[derive(Clone)]
pub(super) struct App(Arc<Inner>);

struct Inner {
    config: Config,
    silent_after: Duration,
    /// Of the listener.
    metrics: Registry,
    shutdown: Shutdown,
    connection: Mutex<Connection>,
    scans: Arc<Semaphore>,
    fleet: LastLook<Result<Arc<Snapshot>, Problem>>,
    /// Since when they are remembered.
    names: Mutex<(Instant, Arc<SensorNames>)>,
    health: LastLook<Arc<Health>>,
    alerts: Alerts,
    /// For acknowledgements, made by the first of them.
    producer: std::sync::Mutex<Option<AlertProducer>>,
    feed: Feed,
    /// For statements, made by the first of them.
    #[cfg(feature = "sql")]
    engine: tokio::sync::OnceCell<crate::sql::Engine>,
}

/// The last look and its moment.
type LastLook<T> = Mutex<Option<(Instant, T)>>;

#[derive(Default)]
struct Connection {
    session: Option<Session>,
    failure: Option<(Instant, Problem)>,
}

impl App {
    pub(super) fn new(config: Config, silent_after: Duration, metrics: Registry, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            config,
            silent_after,
            metrics,
            shutdown,
            connection: Mutex::default(),
            scans: Arc::new(Semaphore::new(MAX_SCANS)),
            fleet: Mutex::default(),
            names: Mutex::new((Instant::now(), Arc::default())),
            health: Mutex::default(),
            alerts: Alerts::default(),
            producer: std::sync::Mutex::default(),
            feed: Feed::default(),
            #[cfg(feature = "sql")]
            engine: tokio::sync::OnceCell::new(),
        }))
    }

    /// A sensor is silent when its newest reading is older than this.
    pub(super) fn silent_after(&self) -> Duration {
        self.0.silent_after
    }

    pub(super) fn metrics(&self) -> &Registry {
        &self.0.metrics
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// The session, opened by the first request: the page is there before Cassandra is. An open session reconnects by
    /// itself.
    pub(super) async fn session(&self) -> Result<Session, Problem> {
        let mut connection = self.0.connection.lock().await;
        if let Some(session) = &connection.session {
            return Ok(session.clone());
        }
        if let Some((at, problem)) = &connection.failure
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(problem.clone());
        }
        let problem = match timeout(DEADLINE / 2, Session::connect(&self.0.config.cassandra)).await {
            Ok(Ok(session)) => return Ok(connection.session.insert(session).clone()),
            Ok(Err(error)) => Problem::from(error),
            Err(_) => {
                Problem::unavailable("Cassandra does not answer (see `iotctl status` and the nodes' logs)")
            }
        };
        connection.failure = Some((Instant::now(), problem.clone()));
        Err(problem)
    }

    /// The fleet as it was less than a second ago. Requests that arrive meanwhile wait for the same read.
    pub(super) async fn fleet(&self) -> Result<Arc<Snapshot>, Problem> {
        let mut last = self.0.fleet.lock().await;
        if let Some((at, snapshot)) = &*last
            && at.elapsed() < FLEET_FRESH
        {
            return snapshot.clone();
        }
        let read = async {
            let session = self.session().await?;
            let mut snapshot = Snapshot::read(&session, self.0.silent_after).await?;
            snapshot.names = self.names(&session, &snapshot).await?;
            Ok(snapshot)
        };
        let snapshot = within_deadline(read).await.map(Arc::new);
        *last = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// Begins to read the fleet for a page that is being loaded and will ask for it, unless it is being read already.
    pub(super) fn read_ahead(&self) {
        if self.0.fleet.try_lock().is_ok() {
            let app = self.clone();
            tokio::spawn(async move { drop(app.fleet().await) });
        }
    }

    /// The names of a snapshot's sensors: looked up when they are new, and again after [`NAMES_FRESH`].
    async fn names(&self, session: &Session, snapshot: &Snapshot) -> Result<Arc<SensorNames>, Problem> {
        let mut kept = self.0.names.lock().await;
        if kept.0.elapsed() >= NAMES_FRESH {
            *kept = (Instant::now(), Arc::default());
        }
        if !kept.1.knows(snapshot.readings().map(|reading| reading.sensor)) {
            let sensors: Vec<_> =
                snapshot.readings().map(|reading| (reading.group.clone(), reading.sensor)).collect();
            let sensors = sensors.iter().map(|(group, sensor)| (group, *sensor));
            Arc::make_mut(&mut kept.1).learn(session, sensors).await?;
        }
        Ok(kept.1.clone())
    }

    /// Kafka and Cassandra as they were a few seconds ago.
    pub(super) async fn health(&self) -> Arc<Health> {
        let mut last = self.0.health.lock().await;
        if let Some((at, health)) = &*last
            && at.elapsed() < health::FRESH
        {
            return health.clone();
        }
        let subscription = Subscription::configured_or_built_in(&self.0.config);
        let health = Arc::new(Health::look(&self.0.config.kafka, subscription, self.session()).await);
        *last = Some((Instant::now(), health.clone()));
        health
    }

    /// Runs statements of SQL, as long as a request may take.
    #[cfg(feature = "sql")]
    pub(super) async fn engine(&self) -> Result<&crate::sql::Engine, Problem> {
        use super::rows::MAX_SQL_ROWS;
        use crate::sql::{Bounds, Engine, Limits};

        let make = async || {
            let bounds = Bounds { time: DEADLINE, rows: MAX_SQL_ROWS };
            let limits = Limits { bounds, ..Limits::default() };
            Engine::new(self.session().await?, self.0.config.clone(), limits)
                .map_err(|error| Problem::internal(error.strip_backtrace()))
        };
        self.0.engine.get_or_try_init(make).await
    }

    /// The alerts as they were a few seconds ago.
    pub(super) async fn alerts(&self) -> Result<Arc<Look>, Problem> {
        let app = self.clone();
        // In a task of its own: a client that disconnects must not break off a read half-way.
        let read = tokio::spawn(async move { app.0.alerts.look(&app.0.config.kafka, &app.0.shutdown).await });
        within_deadline(async {
            match read.await {
                Ok(look) => look.map_err(|error| Problem::unavailable(error.to_string())),
                Err(error) => Err(Problem::internal(error.to_string())),
            }
        })
        .await
    }

    /// Writes who has seen an alert's episode to the topic of alerts.
    pub(super) async fn acknowledge(&self, acknowledgement: &Acknowledgement) -> Result<(), Problem> {
        let known = || -> Result<AlertProducer, Error> {
            let mut producer = self.0.producer.lock().unwrap_or_else(PoisonError::into_inner);
            match &*producer {
                Some(producer) => Ok(producer.clone()),
                None => Ok(producer.insert(AlertProducer::new(&self.0.config.kafka)?).clone()),
            }
        };
        within_deadline(async {
            let unavailable = |error: Error| Problem::unavailable(error.to_string());
            known().map_err(unavailable)?.acknowledge(acknowledgement).await.map_err(unavailable)?;
            self.0.alerts.acknowledge(acknowledgement).await;
            Ok(())
        })
        .await
    }

    /// A permit to read raw rows.
    pub(super) async fn permit(&self) -> Result<Arc<OwnedSemaphorePermit>, Problem> {
        match timeout(PERMIT_WAIT, self.0.scans.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Arc::new(permit)),
            _ => Err(Problem::unavailable(format!(
                "{MAX_SCANS} other requests are being answered (repeat this one in a few seconds)"
            ))),
        }
    }
}
