//! Client encryption as the config has it.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Error;
use crate::config::CassandraTlsConfig;
use crate::tls::{self, Settings};

const SETTINGS: Settings = Settings {
    ca: "cassandra.tls.ca_file",
    certificate: "cassandra.tls.cert_file",
    key: "cassandra.tls.key_file",
    off: "cassandra.tls.enabled = false",
    name: "set cassandra.tls.server_name to a name that it has",
};

pub(super) struct Tls {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
    has_own_certificate: bool,
}

impl Tls {
    /// Reads the files once; a missing or malformed one is named.
    pub(super) fn new(config: &CassandraTlsConfig) -> Result<Self, Error> {
        let ca = config
            .ca_file
            .as_deref()
            .ok_or_else(|| Error::Setting("cassandra.tls.enabled needs cassandra.tls.ca_file".into()))?;
        let own = config.cert_file.as_deref().zip(config.key_file.as_deref());
        let client = tls::client_config(&SETTINGS, ca, own);
        let client = client.map_err(|error| Error::Setting(error.to_string()))?;
        let server_name = config
            .server_name
            .clone()
            .map(|name| {
                ServerName::try_from(name.clone()).map_err(|_| {
                    Error::Setting(format!(
                        "cassandra.tls.server_name: {name:?} is no host name (write it like node1.example)"
                    ))
                })
            })
            .transpose()?;
        Ok(Self { connector: client.into(), server_name, has_own_certificate: own.is_some() })
    }

    /// Encrypts a connection to `node`, whose certificate must carry the configured name, or else its address.
    pub(super) async fn connect(
        &self,
        node: SocketAddr,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let name = self.server_name.clone().unwrap_or_else(|| ServerName::from(node.ip()));
        self.connector.connect(name, stream).await.map_err(|error| self.refusal(node, &error).unwrap_or_else(|| {
            Error::Connection {
                node,
                message: match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                        "it closed the connection during the TLS handshake (does it speak TLS? see cassandra.tls)".into()
                    }
                    _ => error.to_string(),
                },
            }
        }))
    }

    pub(super) fn has_own_certificate(&self) -> bool {
        self.has_own_certificate
    }

    /// What TLS has against the connection, if it is TLS.
    pub(super) fn refusal(&self, node: SocketAddr, error: &io::Error) -> Option<Error> {
        let message = tls::explain(error, &SETTINGS, self.has_own_certificate)?;
        Some(Error::Tls { node, message })
    }
}
