//! The nodes of the cluster as one pool: which of them a request is sent to, and which is tried next when one refuses
//! it, loses its connection or stops responding.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use cassandra_protocol::frame::Envelope;
use tokio::time::{sleep, timeout};
use tracing::debug;
use uuid::Uuid;

use super::connection::Connector;
use super::node::{Health, Node};
use super::statement::{self, Statement};
use super::topology::Topology;
use super::{Error, Rows};
use crate::config::CassandraConfig;
use crate::retry::RetryPolicy;

/// When a request that failed on every node is tried on them again, until its deadline.
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(50), Duration::from_secs(1));
/// How often a statement is prepared again for one request: each schema change makes a node forget it, and they come
/// in series.
const MAX_REPREPARES: u32 = 5;

/// What every clone of a session shares.
pub(super) struct Pool {
    pub config: CassandraConfig,
    pub connector: Arc<Connector>,
    pub topology: ArcSwap<Topology>,
    /// Which cluster this is, whatever its addresses become.
    pub cluster_name: String,
    schema: Mutex<Schema>,
    statements: Mutex<HashMap<String, Arc<Statement>>>,
    /// Spreads requests over equally good nodes.
    next_node: AtomicUsize,
}

/// What is known of the tables, for as long as the schema's version stays.
#[derive(Default)]
struct Schema {
    version: Option<Uuid>,
    columns: HashMap<String, Arc<BTreeMap<String, String>>>,
}

/// Whether a request may be sent again when it is not known whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Always,
    Never,
}

impl Pool {
    pub(super) fn new(
        config: CassandraConfig,
        connector: Arc<Connector>,
        topology: Topology,
        cluster_name: String,
    ) -> Self {
        Self {
            config,
            connector,
            topology: ArcSwap::from_pointee(topology),
            cluster_name,
            schema: Mutex::default(),
            statements: Mutex::default(),
            next_node: AtomicUsize::new(0),
        }
    }

    /// Forgets what was read of the tables under another version of the schema.
    pub(super) fn note_schema_version(&self, version: Option<Uuid>) {
        let mut schema = self.schema.lock().expect("no panic while locked");
        if schema.version != version {
            *schema = Schema { version, columns: HashMap::new() };
        }
    }

    pub(super) fn schema_version(&self) -> Option<Uuid> {
        self.schema.lock().expect("no panic while locked").version
    }

    pub(super) fn columns(&self, table: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.schema.lock().expect("no panic while locked").columns.get(table).cloned()
    }

    /// Keeps a table's columns, unless the schema has changed since `version`, before they were read.
    pub(super) fn keep_columns(
        &self,
        table: &str,
        columns: Arc<BTreeMap<String, String>>,
        version: Option<Uuid>,
    ) {
        let mut schema = self.schema.lock().expect("no panic while locked");
        if schema.version == version && version.is_some() {
            schema.columns.insert(table.to_owned(), columns);
        }
    }

    /// The statement that was prepared from this text, if there is one.
    pub(super) fn prepared(&self, cql: &str) -> Option<Arc<Statement>> {
        self.statements.lock().expect("no panic while locked").get(cql).cloned()
    }

    pub(super) fn keep_prepared(&self, statement: Arc<Statement>) {
        let mut statements = self.statements.lock().expect("no panic while locked");
        statements.insert(statement.cql.clone(), statement);
    }

    /// The nodes to try, best first.
    pub(super) fn plan(&self, token: Option<i64>) -> Vec<Arc<Node>> {
        self.topology.load().plan(token, self.next_node.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends an idempotent request within the configured deadline. Returns the node that answered.
    pub(super) async fn run(
        &self,
        token: Option<i64>,
        envelope: &Envelope,
    ) -> Result<(SocketAddr, Envelope), Error> {
        self.within(self.config.request_timeout, token, envelope, Repeat::Always).await
    }

    /// As [`Pool::run`], within a deadline of the caller's.
    pub(super) async fn within(
        &self,
        deadline: Duration,
        token: Option<i64>,
        envelope: &Envelope,
        repeat: Repeat,
    ) -> Result<(SocketAddr, Envelope), Error> {
        let mut last = None;
        match timeout(deadline, self.try_nodes(token, envelope, repeat, &mut last)).await {
            Ok(result) => result,
            Err(_) => Err(match last {
                Some(error @ Error::NoNodeUp { .. }) => error,
                Some(error) => Error::Deadline { waited: deadline, last: error.to_string() },
                None => Error::Deadline { waited: deadline, last: "no answer yet".into() },
            }),
        }
    }

    /// Tries the nodes in turn, again and again, until one answers or the error rules out another attempt.
    async fn try_nodes(
        &self,
        token: Option<i64>,
        envelope: &Envelope,
        repeat: Repeat,
        last: &mut Option<Error>,
    ) -> Result<(SocketAddr, Envelope), Error> {
        let mut delays = RETRY.delays();
        loop {
            let plan = self.plan(token);
            if plan.is_empty() {
                let topology = self.topology.load();
                // Waiting does not help against a changed password or an expired certificate.
                if let Some(refusal) = topology.nodes.iter().find_map(|node| node.refusal()) {
                    return Err(refusal);
                }
                *last = Some(Error::NoNodeUp { known: topology.nodes.len() });
            }
            for (index, node) in plan.iter().enumerate() {
                match self.attempt(node, &plan[index + 1..], envelope, repeat).await {
                    Ok(answer) => return Ok((node.info.address, answer)),
                    Err(error) if repeat == Repeat::Always && error.is_worth_another_node() => {
                        debug!(%error, "trying another node");
                        *last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(Error::Unavailable { .. }) = last {
                // Every coordinator counts the same dead replicas; the caller decides how long to retry.
                return Err(last.take().expect("just matched"));
            }
            sleep(delays.next_delay()).await;
        }
    }

    /// One node's answer. A node that does not know the statement gets it again, more than once where it forgets at once.
    async fn attempt(
        &self,
        node: &Arc<Node>,
        others: &[Arc<Node>],
        envelope: &Envelope,
        repeat: Repeat,
    ) -> Result<Envelope, Error> {
        let mut answer = self.ask(node, others, envelope, repeat).await;
        for _ in 0..MAX_REPREPARES {
            let Err(Error::Unprepared { id, .. }) = &answer else { break };
            let statement = {
                let statements = self.statements.lock().expect("no panic while locked");
                statements.values().find(|statement| statement.id == *id).cloned()
            };
            let Some(statement) = statement else { break };
            self.ask(node, others, &statement::prepare(&statement.cql), repeat).await?;
            answer = self.ask(node, others, envelope, repeat).await;
        }
        answer
    }

    async fn ask(
        &self,
        node: &Arc<Node>,
        others: &[Arc<Node>],
        envelope: &Envelope,
        repeat: Repeat,
    ) -> Result<Envelope, Error> {
        if repeat == Repeat::Never {
            return node.request(envelope).await;
        }
        tokio::select! {
            answer = node.request(envelope) => answer,
            () = unresponsive_while_another_is_up(node, others) => Err(Error::Connection {
                node: node.info.address,
                message: "it stopped responding".into(),
            }),
        }
    }
}

/// Resolves when `node` is not healthy and one of `others` is.
async fn unresponsive_while_another_is_up(node: &Node, others: &[Arc<Node>]) {
    let mut health = node.watch_health();
    loop {
        if *health.borrow_and_update() != Health::Up
            && others.iter().any(|other| other.health() == Health::Up)
        {
            return;
        }
        // There is one watch; the health of the others is looked at again every 250 ms.
        let _ = timeout(Duration::from_millis(250), health.changed()).await;
    }
}

pub(super) fn parse(node: SocketAddr, answer: Envelope) -> Result<Rows, Error> {
    Rows::parse(answer.body)
        .ok_or_else(|| Error::Protocol { node, message: "a result that is truncated or malformed".into() })
}
