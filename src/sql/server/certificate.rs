//! The server's certificate, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::files::Stamp;
use crate::tls::{self, FileError};

/// What clients that begin with TLS must offer, as PostgreSQL 17 has it.
const ALPN: &[u8] = b"postgresql";

/// Files with the certificate (its chain after it) and its key, in PEM.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Certificate {
    pub(super) fn open(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        let stamp = Stamp::of(&[certificate, key]);
        let loaded = Mutex::new((stamp, load(certificate, key)?));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), loaded })
    }

    /// For a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().expect("no panic while locked");
        let stamp = Stamp::of(&[&self.certificate, &self.key]);
        if stamp != loaded.0 {
            loaded.0 = stamp;
            match load(&self.certificate, &self.key) {
                Ok(config) => {
                    info!("read the certificate {} again", self.certificate.display());
                    loaded.1 = config;
                }
                // Such as between the two writes of a renewal.
                Err(error) => warn!("the certificate stays as it was: {error}"),
            }
        }
        TlsAcceptor::from(loaded.1.clone())
    }
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, FileError> {
    let mut config = tls::server_config(("--tls-certificate", certificate), ("--tls-key", key))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}
