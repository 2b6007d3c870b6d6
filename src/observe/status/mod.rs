//! The state of all servers at once: the configured Cassandra and Kafka, the schema, the disk, due operations, and the
//! processes of `iotctl up` on this machine.
//!
//! An unreachable server is reported in its own section and does not hide the others: each section says what could not
//! be read and why, with the remedy. Sections are read at the same time, and each has a deadline.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::timeout;

use crate::cassandra::Session;
use crate::config::{Config, LocalConfig};
use crate::kafka::Subscription;
use crate::servers::local::layout::Layout;
use crate::servers::local::{self, Kind, ServerStatus, State, disk};
use crate::servers::membership::Runtime;
use crate::servers::membership::cleanup;
use crate::servers::membership::journal::Journal;

pub mod cassandra;
pub mod kafka;
pub mod schema;

pub use cassandra::Cassandra;
pub use kafka::Kafka;
pub use schema::Schema;

/// How long one server may take for all questions. A dead node is detected within eight seconds.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// How long Kafka may take for one question.
pub const KAFKA_DEADLINE: Duration = Duration::from_secs(5);
/// A lag of this age needs attention; the alert `LagOld` has the same limit.
pub const OLD_LAG_SECONDS: f64 = 600.0;

/// What was read, or why it could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Section<T> {
    Known(T),
    Unknown { unknown: String },
}

impl<T> Section<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Unknown { .. } => None,
        }
    }

    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown { unknown } => Some(unknown),
        }
    }

    pub fn unknown_because(reason: impl std::fmt::Display) -> Self {
        Self::Unknown { unknown: reason.to_string() }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    pub at: DateTime<Utc>,
    /// Whether nothing needs attention.
    pub is_healthy: bool,
    /// What needs attention, each with its remedy.
    pub attention: Vec<String>,
    /// What could not be read and is not a fault by itself, such as a missing permission.
    pub remarks: Vec<String>,
    pub cassandra: Section<Cassandra>,
    pub kafka: Section<Kafka>,
    pub schema: Section<Schema>,
    /// Unfinished operations and due cleanups, each with its command.
    pub due: Vec<String>,
    /// The disk with the local servers' data; `None` if none were started here.
    pub disk: Option<LocalDisk>,
    /// The processes of `iotctl up`.
    pub local: Vec<ServerStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalDisk {
    pub folder: PathBuf,
    #[serde(flatten)]
    pub disk: disk::Disk,
    /// `local.least_free_disk`.
    pub least_free_bytes: u64,
}

impl LocalDisk {
    /// Compaction has hardly any space left; Cassandra stops when there is none.
    pub fn is_short(&self) -> bool {
        self.disk.free_bytes < self.least_free_bytes
    }

    pub fn is_soon_short(&self) -> bool {
        self.disk.free_bytes / 2 < self.least_free_bytes
    }
}

/// The servers to ask. The session is kept, so that looking again needs no new connection.
pub struct Servers {
    pub config: Config,
    /// Whether the user chose the replication; a default gives way to that of the keyspace.
    pub replication_is_set: bool,
    session: Option<Session>,
}

impl Servers {
    pub fn new(config: Config, replication_is_set: bool) -> Self {
        Self { config, replication_is_set, session: None }
    }

    /// The session, opened on first use.
    pub async fn session(&mut self) -> Result<Session, String> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        match timeout(DEADLINE, Session::connect(&self.config.cassandra)).await {
            Ok(Ok(session)) => Ok(self.session.insert(session).clone()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("Cassandra does not answer within {DEADLINE:?} (see the nodes' logs)")),
        }
    }

    /// Looks at everything.
    pub async fn look(&mut self) -> Status {
        let config = self.config.clone();
        let subscription = Subscription::configured_or_built_in(&config);
        let local = async {
            let servers = local::status(&config.local).await;
            (servers, journals(&config), disk_of(&config.local))
        };
        let (kafka, local, (cassandra, schema)) =
            tokio::join!(kafka::look(&config.kafka, subscription, KAFKA_DEADLINE), local, self.cassandra());
        let (servers, journals, disk) = local;
        let mut remarks = Vec::new();
        let mut processes = servers.unwrap_or_else(|error| {
            remarks.push(format!("the state of the local servers cannot be read: {error:#}"));
            Vec::new()
        });
        let due = journals.map_or_else(
            |error| {
                remarks.push(format!("the journal of node operations cannot be read: {error:#}"));
                Vec::new()
            },
            |journals| due(&journals),
        );
        answer_for(&mut processes, &cassandra, &kafka);
        remarks.extend(cassandra.known().and_then(|cassandra| cassandra.remark.clone()));
        remarks.extend(kafka.known().map(|kafka| kafka.remarks.clone()).unwrap_or_default());
        let mut status = Status {
            at: Utc::now(),
            is_healthy: true,
            attention: Vec::new(),
            remarks,
            cassandra,
            kafka,
            schema,
            due,
            disk,
            local: processes,
        };
        status.attention = attention(&status);
        status.is_healthy = status.attention.is_empty();
        status
    }

    /// Uses one session for both; without one, the schema is not read.
    async fn cassandra(&mut self) -> (Section<Cassandra>, Section<Schema>) {
        let session = match self.session().await {
            Ok(session) => session,
            Err(unknown) => {
                let schema = Section::unknown_because("Cassandra does not answer");
                return (Section::Unknown { unknown }, schema);
            }
        };
        let nodes = timeout(DEADLINE, cassandra::look(&session));
        let schema = timeout(DEADLINE, schema::look(&session, &self.config, self.replication_is_set));
        let (nodes, schema) = tokio::join!(nodes, schema);
        let timed_out = || format!("no answer within {DEADLINE:?} (see the nodes' logs)");
        (
            nodes.unwrap_or_else(|_| Section::unknown_because(timed_out())),
            schema.unwrap_or_else(|_| Section::unknown_because(timed_out())),
        )
    }
}

fn journals(config: &Config) -> anyhow::Result<Vec<Journal>> {
    Journal::all(&Runtime::journals(config)?)
}

/// What the journals show as due.
fn due(journals: &[Journal]) -> Vec<String> {
    let unfinished = journals.iter().map(|journal| &journal.record).filter(|it| it.finished_at.is_none());
    let mut due: Vec<_> = unfinished
        .map(|record| {
            let (operation, node, command) = (record.operation, &record.node, record.command());
            format!("{operation} of {node} is unfinished (finish it with `{command}`)")
        })
        .collect();
    let cleanup = cleanup::due(journals);
    if !cleanup.is_empty() {
        due.push(format!("cleanup of {} (`iotctl node cleanup`)", cleanup.join(", ")));
    }
    due
}

fn disk_of(config: &LocalConfig) -> Option<LocalDisk> {
    let layout = Layout::of(config).ok().filter(Layout::is_ours)?;
    let folder = layout.root().to_owned();
    Some(LocalDisk {
        disk: disk::of(&folder).ok()?,
        folder,
        least_free_bytes: config.least_free_disk.as_u64(),
    })
}

/// A server that requires TLS or a password does not answer the probe of `up`; if it answers the configured client, it
/// is running.
fn answer_for(processes: &mut [ServerStatus], cassandra: &Section<Cassandra>, kafka: &Section<Kafka>) {
    for process in processes.iter_mut().filter(|process| process.state == State::Silent) {
        let answers = match process.kind {
            Kind::Cassandra => cassandra.known().is_some_and(|cassandra| {
                let ip = process.address.ip();
                cassandra.nodes.iter().any(|node| node.answers && node.address.ip() == ip)
            }),
            Kind::Kafka => kafka.known().is_some_and(|kafka| {
                // It may have several listeners at one address.
                let ip = process.address.ip().to_string();
                kafka
                    .brokers
                    .iter()
                    .any(|broker| broker.answers && broker.address.starts_with(&format!("{ip}:")))
            }),
            _ => false,
        };
        if answers {
            process.state = State::Running;
        }
    }
}

/// What needs attention, in the order of the screen.
fn attention(status: &Status) -> Vec<String> {
    let mut attention = Vec::new();
    match &status.cassandra {
        Section::Unknown { unknown } => attention.push(unknown.clone()),
        Section::Known(cassandra) => attention.extend(cassandra.attention()),
    }
    match (&status.schema, &status.cassandra) {
        (Section::Known(schema), _) => attention.extend(schema.attention()),
        // Already reported for the nodes.
        (Section::Unknown { .. }, Section::Unknown { .. }) => {}
        (Section::Unknown { unknown }, _) => attention.push(format!("the schema is unknown: {unknown}")),
    }
    match &status.kafka {
        Section::Unknown { unknown } => attention.push(unknown.clone()),
        Section::Known(kafka) => attention.extend(kafka.attention(OLD_LAG_SECONDS)),
    }
    if let Some(disk) = status.disk.as_ref().filter(|disk| disk.is_short()) {
        let [free, least] =
            [disk.disk.free_bytes, disk.least_free_bytes].map(|bytes| ByteSize::b(bytes).display().iec());
        let folder = disk.folder.display();
        attention.push(format!(
            "{free} free on the disk of {folder}, less than local.least_free_disk, {least} (free disk space, or lower schema.ttl)"
        ));
    }
    attention.extend(status.due.iter().map(|due| format!("due: {due}")));
    let ended = status.local.iter().filter(|it| matches!(it.state, State::Crashed | State::Silent));
    attention.extend(ended.map(|server| {
        let what = match server.state {
            State::Crashed => "crashed (start it again with `iotctl up`",
            _ => "runs and does not answer (it may still be starting",
        };
        format!("{} {what}; its log: {})", server.server, server.log.display())
    }));
    attention
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A status without faults.
    pub fn healthy() -> Status {
        Status {
            at: DateTime::UNIX_EPOCH,
            is_healthy: true,
            attention: Vec::new(),
            remarks: Vec::new(),
            cassandra: Section::Known(cassandra::tests::cassandra(1)),
            kafka: Section::Known(kafka::tests::kafka()),
            schema: Section::Known(Schema { keyspace: "readings".into(), objects: Vec::new() }),
            due: Vec::new(),
            disk: None,
            local: Vec::new(),
        }
    }

    fn silent(kind: Kind, address: &str) -> ServerStatus {
        ServerStatus {
            server: kind.to_string(),
            kind,
            address: address.parse().unwrap(),
            state: State::Silent,
            pid: Some(1),
            resident_bytes: None,
            uptime_seconds: None,
            log: "server.log".into(),
        }
    }

    #[test]
    fn nothing_needs_attention_if_everything_is_healthy() {
        assert_eq!(attention(&healthy()), Vec::<String>::new());
    }

    #[test]
    fn an_unreachable_cassandra_is_reported_once_and_not_again_for_its_schema() {
        let unreachable = Status {
            cassandra: Section::unknown_because("no Cassandra node answers (start one)"),
            schema: Section::unknown_because("Cassandra does not answer"),
            ..healthy()
        };
        assert_eq!(attention(&unreachable), ["no Cassandra node answers (start one)"]);
    }

    #[test]
    fn a_server_that_requires_tls_is_running_if_it_answers_the_configured_client() {
        let status = healthy();
        let mut processes = [
            silent(Kind::Cassandra, "127.0.0.1:9042"),
            silent(Kind::Kafka, "127.0.0.1:9093"),
            silent(Kind::Cassandra, "127.0.0.9:9042"),
        ];
        answer_for(&mut processes, &status.cassandra, &status.kafka);
        let states: Vec<_> = processes.iter().map(|process| process.state).collect();
        assert_eq!(states, [State::Running, State::Running, State::Silent]);
    }

    #[test]
    fn a_crashed_process_and_a_full_disk_need_attention_and_a_stopped_one_does_not() {
        let mut status = healthy();
        let server = |state| ServerStatus { state, ..silent(Kind::Kafka, "127.0.0.1:9092") };
        status.local = vec![server(State::Stopped), server(State::Crashed)];
        let disk = disk::Disk { free_bytes: 5 << 30, total_bytes: 100 << 30 };
        status.disk = Some(LocalDisk { folder: "/data".into(), disk, least_free_bytes: 10 << 30 });
        let attention = attention(&status);
        assert_eq!(attention.len(), 2, "{attention:?}");
        assert!(attention[0].starts_with("5.0 GiB free on the disk of /data, less"), "{attention:?}");
        assert!(attention[1].contains("crashed (start it again with `iotctl up`"), "{attention:?}");
    }
}
