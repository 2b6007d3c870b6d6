//! What can go wrong between a command and Cassandra, classified in one place: which failures pass by themselves
//! (the request is tried on another node, `ingest` waits and goes on) and which need a person, told the remedy.

use std::net::SocketAddr;
use std::time::Duration;

use cassandra_protocol::frame::message_error::{ErrorBody, ErrorType};

use super::CellError;

/// Why a request failed. The message names the node, the consistency where it matters, and the remedy.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No contact point could be resolved or reached; each with its own reason.
    #[error(
        "no Cassandra node answers: {reasons} (start one with `iotctl up`, or set cassandra.contact_points)"
    )]
    Unreachable { reasons: String },
    #[error("node {node} refuses the login: {message} (set cassandra.username and cassandra.password_file)")]
    Authentication { node: SocketAddr, message: String },
    /// The message holds the remedy.
    #[error("no TLS connection to node {node}: {message}")]
    Tls { node: SocketAddr, message: String },
    /// A setting that cannot be used, with the remedy: a name, a PEM file.
    #[error("{0}")]
    Setting(String),
    /// The tables are those of an earlier version, with the remedy.
    #[error("{0}")]
    Schema(String),
    #[error("keyspace {keyspace} does not exist (run `iotctl schema apply`, or set cassandra.keyspace)")]
    NoKeyspace { keyspace: String },
    /// The statement names a table or column that is not there, or is refused for its own sake.
    #[error("node {node} refuses the statement: {message} (compare the tables with `iotctl schema check`)")]
    Invalid { node: SocketAddr, message: String },
    #[error(
        "node {node} denies permission: {message} (GRANT it to the role, or use another cassandra.username)"
    )]
    Unauthorized { node: SocketAddr, message: String },
    #[error(
        "node {node} sees {alive} of the {required} replicas that {consistency} needs (bring nodes back, see `iotctl status`, or lower the consistency)"
    )]
    Unavailable { node: SocketAddr, consistency: String, required: i32, alive: i32 },
    #[error(
        "replicas were too slow for node {node}: {received} of {required} answered at {consistency} (the cluster is overloaded or a node is down)"
    )]
    ReplicaTimeout { node: SocketAddr, consistency: String, received: i32, required: i32 },
    #[error("node {node} is overloaded or failed: {message} (try again later, see the server's log)")]
    Overloaded { node: SocketAddr, message: String },
    #[error("node {node} gave no answer: {message}")]
    Connection { node: SocketAddr, message: String },
    #[error(
        "no answer within {waited:?}, last: {last} (raise cassandra.request_timeout, or see `iotctl status`)"
    )]
    Deadline { waited: Duration, last: String },
    #[error(
        "no node of the cluster can be reached, {known} known (see `iotctl status`; a datacenter other than cassandra.local_datacenter is not asked)"
    )]
    NoNodeUp { known: usize },
    /// The statement is not known to the node that was asked; it is prepared again, callers never see this.
    #[error("node {node} does not know the prepared statement")]
    Unprepared { node: SocketAddr, id: Vec<u8> },
    #[error("nodes do not agree on the schema after {waited:?}: {versions} (see `nodetool describecluster`)")]
    SchemaDisagreement { waited: Duration, versions: String },
    #[error("node {node} answered with bytes that are not the protocol's: {message}")]
    Protocol { node: SocketAddr, message: String },
    #[error(transparent)]
    Cell(#[from] CellError),
}

impl Error {
    /// Whether the same request may succeed later or on another node, with nobody doing anything about the request.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Unavailable { .. }
                | Self::ReplicaTimeout { .. }
                | Self::Overloaded { .. }
                | Self::Connection { .. }
                | Self::Deadline { .. }
                | Self::NoNodeUp { .. }
        )
    }

    /// Whether the next attempt belongs on another node at once.
    pub(super) fn is_worth_another_node(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::ReplicaTimeout { .. }
                | Self::Overloaded { .. }
                | Self::Connection { .. }
        )
    }

    /// Translates what the driver or the server said.
    pub(super) fn from_driver(error: cassandra_protocol::error::Error, node: SocketAddr) -> Self {
        use cassandra_protocol::error::Error as Driver;
        match error {
            Driver::Server { body, .. } => Self::from_server(body, node),
            Driver::Io(error) if error.to_string().contains("Unsupported type of authenticator") => {
                Self::Authentication { node, message: text(&error) }
            }
            Driver::Io(error) => Self::Connection { node, message: text(&error) },
            Driver::InvalidProtocol(_) => {
                Self::Protocol { node, message: "it does not speak native protocol v4".into() }
            }
            Driver::General(message) if message.contains("No authenticator") => {
                Self::Authentication { node, message: "it asks for a password and none is configured".into() }
            }
            other => Self::Connection { node, message: other.to_string() },
        }
    }

    fn from_server(body: ErrorBody, node: SocketAddr) -> Self {
        let message = one_line(&body.message);
        match body.ty {
            // "Unable to perform authentication: Cannot achieve consistency level …": the node cannot look the password up.
            ErrorType::Authentication if message.starts_with("Unable to perform") => {
                Self::Overloaded { node, message }
            }
            ErrorType::Authentication => Self::Authentication { node, message },
            ErrorType::Unauthorized => Self::Unauthorized { node, message },
            ErrorType::Unavailable(error) => Self::Unavailable {
                node,
                consistency: error.cl.to_string(),
                required: error.required,
                alive: error.alive,
            },
            ErrorType::WriteTimeout(error) => Self::ReplicaTimeout {
                node,
                consistency: error.cl.to_string(),
                received: error.received,
                required: error.block_for,
            },
            ErrorType::ReadTimeout(error) => Self::ReplicaTimeout {
                node,
                consistency: error.cl.to_string(),
                received: error.received,
                required: error.block_for,
            },
            ErrorType::Unprepared(error) => {
                Self::Unprepared { node, id: error.id.into_bytes().unwrap_or_default() }
            }
            ErrorType::Invalid
                if message.to_lowercase().starts_with("keyspace ") && message.contains("not exist") =>
            {
                let keyspace =
                    message.split_whitespace().nth(1).unwrap_or_default().trim_matches('\'').to_owned();
                Self::NoKeyspace { keyspace }
            }
            ErrorType::Syntax | ErrorType::Invalid | ErrorType::Config | ErrorType::AlreadyExists(_) => {
                Self::Invalid { node, message }
            }
            ErrorType::Protocol => Self::Protocol { node, message },
            // Overloaded, IsBootstrapping, Server, Truncate, ReadFailure, WriteFailure, FunctionFailure.
            _ => Self::Overloaded { node, message },
        }
    }
}

/// The driver passes some errors on by their kind alone.
fn text(error: &std::io::Error) -> String {
    match error.to_string() {
        text if text.is_empty() => error.kind().to_string(),
        text => one_line(&text),
    }
}

/// Servers repeat what they were sent, line ends and all.
fn one_line(text: &str) -> String {
    text.split(|char: char| char.is_whitespace() || char.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9042);

    fn server(ty: ErrorType, message: &str) -> Error {
        Error::from_server(ErrorBody { message: message.to_owned(), ty }, NODE)
    }

    #[test]
    fn a_missing_keyspace_is_told_apart_from_other_invalid_statements() {
        let error = server(ErrorType::Invalid, "keyspace nowhere does not exist");
        assert!(matches!(&error, Error::NoKeyspace { keyspace } if keyspace == "nowhere"), "{error}");
        let error = server(ErrorType::Invalid, "table nothing does not exist");
        assert!(matches!(error, Error::Invalid { .. }));
    }

    #[test]
    fn what_a_server_says_is_one_line() {
        let error = server(ErrorType::Authentication, "Provided username a\n\u{1b}[31mb and/or password");
        assert!(error.to_string().contains("username a [31mb and/or"), "{error}");
    }

    #[test]
    fn only_failures_that_pass_by_themselves_are_transient() {
        assert!(server(ErrorType::Overloaded, "busy").is_transient());
        assert!(server(ErrorType::IsBootstrapping, "joining").is_transient());
        assert!(!server(ErrorType::Unauthorized, "no").is_transient());
        assert!(!server(ErrorType::Syntax, "line 1").is_transient());
        assert!(
            !server(ErrorType::Authentication, "Provided username a and/or password are incorrect")
                .is_transient()
        );
        let unable = "Unable to perform authentication: Cannot achieve consistency level LOCAL_ONE";
        assert!(server(ErrorType::Authentication, unable).is_transient());
    }
}
