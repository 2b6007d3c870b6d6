//! The one pooled session that every command shares.

use std::sync::Arc;

use super::{Rows, Values};
use crate::config::CassandraConfig;

/// A pooled session: routing, deadlines, retries on other nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Session {}

/// A prepared statement; get one from [`Session::prepare`], which prepares each text once.
#[derive(Debug)]
pub struct Statement {}

/// What went wrong with a request: the node, the consistency and the remedy are in the message.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("keyspace {keyspace} does not exist (run `iotctl schema apply`)")]
    NoKeyspace { keyspace: String },
    /// The statement names a table or column that is not there.
    #[error("{message} (run `iotctl schema check`)")]
    Schema { message: String },
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Cell(#[from] super::CellError),
}

/// A node as the session sees it.
#[derive(Debug, Clone)]
pub struct NodeView {
    pub address: std::net::SocketAddr,
    pub host_id: uuid::Uuid,
    pub datacenter: String,
    pub rack: String,
    /// Whether requests are sent there now.
    pub is_up: bool,
}

impl Session {
    pub async fn connect(_config: &CassandraConfig) -> Result<Self, Error> {
        unimplemented!()
    }

    /// The configured keyspace, quoted where CQL needs it. Statements name tables as `{keyspace}.table`.
    pub fn keyspace(&self) -> &str {
        unimplemented!()
    }

    /// The nodes of the cluster that are known now.
    pub fn nodes(&self) -> Vec<NodeView> {
        unimplemented!()
    }

    /// Runs an unprepared statement without values: DDL and small reads of system tables. All its rows, at
    /// LOCAL_ONE. DDL is not retried on another node.
    pub async fn query(&self, _cql: &str) -> Result<Rows, Error> {
        unimplemented!()
    }

    pub async fn prepare(&self, _cql: &str) -> Result<Arc<Statement>, Error> {
        unimplemented!()
    }

    /// Runs an idempotent statement, sent to a replica of its partition, and returns one page (up to 5,000 rows).
    pub async fn execute(&self, _statement: &Statement, _values: &Values) -> Result<Rows, Error> {
        unimplemented!()
    }

    /// The rows of an idempotent read, page by page.
    pub fn pages(&self, _statement: Arc<Statement>, _values: Values, _page_size: i32) -> Pages {
        unimplemented!()
    }

    /// Waits until every node that is up has the same schema version.
    pub async fn await_schema_agreement(&self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// Pages of a read; the next one is fetched when it is asked for.
#[derive(Debug)]
pub struct Pages {}

impl Pages {
    /// The next page, or `None` after the last. A page may be empty.
    pub async fn next(&mut self) -> Result<Option<Rows>, Error> {
        unimplemented!()
    }
}
