//! Client encryption: the PEM files of the config as a rustls client configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::Error;
use crate::config::CassandraTlsConfig;

pub(super) struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads the files once; a missing or malformed one is named.
    pub fn new(config: &CassandraTlsConfig) -> Result<Self, Error> {
        let ca_file = config
            .ca_file
            .as_deref()
            .ok_or_else(|| Error::TlsConfig("cassandra.tls.enabled needs cassandra.tls.ca_file".into()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots.add(certificate).map_err(|error| unusable(ca_file, error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::TlsConfig(error.to_string()))?
            .with_root_certificates(roots);
        let client = match (&config.cert_file, &config.key_file) {
            (Some(cert_file), Some(key_file)) => {
                let key =
                    PrivateKeyDer::from_pem_file(key_file).map_err(|error| unusable(key_file, error))?;
                builder
                    .with_client_auth_cert(certificates(cert_file)?, key)
                    .map_err(|error| unusable(cert_file, error))?
            }
            _ => builder.with_no_client_auth(),
        };
        let server_name = config
            .server_name
            .clone()
            .map(|name| {
                ServerName::try_from(name.clone()).map_err(|_| {
                    Error::TlsConfig(format!("cassandra.tls.server_name {name:?} is no host name"))
                })
            })
            .transpose()?;
        Ok(Self { config: Arc::new(client), server_name })
    }

    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name that the node's certificate must carry.
    pub fn server_name(&self, node: SocketAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::from(node.ip()))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unusable(file, error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(file, error))?;
    if certificates.is_empty() {
        return Err(unusable(file, "it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn unusable(file: &Path, reason: impl std::fmt::Display) -> Error {
    Error::TlsConfig(format!("cannot use {}: {reason}", file.display()))
}
