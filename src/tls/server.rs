//! TLS for listeners: a certificate from PEM files, which is read again when they change; and the client that trusts that
//! certificate alone, for a process that asks itself.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::files::Stamp;
use super::{FileError, certificates, private_key, unfitting, unusable};

/// Where a listener's certificate is, its chain after it.
#[derive(Debug, Clone)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Names of the settings that messages refer to.
    pub settings: Settings,
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub certificate: &'static str,
    pub key: &'static str,
}

/// TLS of a listener. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
}

impl ServerTls {
    /// For a protocol by its ALPN name. Clients are asked for no certificate.
    ///
    /// # Errors
    /// The files are missing, not PEM, or do not belong together.
    pub fn read(files: Files, protocol: &[u8]) -> Result<Self, FileError> {
        let certificate = Certificate::read(files)?;
        let place = certificate.files.certificate.clone();
        let setting = certificate.files.settings.certificate;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(setting, &place, error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate as its files are now.
#[derive(Debug)]
struct Certificate {
    files: Files,
    current: ArcSwap<CertifiedKey>,
    /// Of the files that were read last, even in vain.
    seen: Mutex<Option<(Stamp, Stamp)>>,
}

impl Certificate {
    fn read(files: Files) -> Result<Self, FileError> {
        // Before the files: what is written meanwhile is seen at the next look.
        let seen = stamps(&files);
        let current = ArcSwap::from_pointee(certified_key(&files)?);
        Ok(Self { files, current, seen: Mutex::new(seen) })
    }

    /// Reads the files again if they have changed. Files that cannot be used change nothing.
    fn refresh(&self) {
        let now = stamps(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        match certified_key(&self.files) {
            Ok(key) => {
                self.current.store(Arc::new(key));
                tracing::info!(file = %self.files.certificate.display(), "a new certificate is in use");
            }
            Err(error) => tracing::warn!(%error, "the certificate has changed, and the old one stays in use"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.refresh();
        Some(self.current.load_full())
    }
}

fn stamps(files: &Files) -> Option<(Stamp, Stamp)> {
    Some((Stamp::of(&files.certificate).ok()?, Stamp::of(&files.key).ok()?))
}

fn certified_key(files: &Files) -> Result<CertifiedKey, FileError> {
    let Files { certificate, key: key_file, settings } = files;
    let chain = certificates(settings.certificate, certificate)?;
    let key = private_key(settings.key, key_file)?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| unfitting(error, (settings.key, key_file), certificate))
}

/// The name by which clients must check a certificate that they reach at some addresses: `None` if it has all of them, or
/// has no DNS name.
///
/// # Errors
/// The file is missing or not PEM, or holds something else.
pub fn name_for(
    setting: &'static str,
    file: &Path,
    addresses: &[IpAddr],
) -> Result<Option<String>, FileError> {
    let certificate = certificates(setting, file)?.swap_remove(0);
    let parsed = ParsedCertificate::try_from(&certificate).map_err(|error| unusable(setting, file, error))?;
    let names = |address: &IpAddr| verify_server_name(&parsed, &ServerName::from(*address)).is_ok();
    if addresses.iter().all(names) {
        return Ok(None);
    }
    let certificate =
        EndEntityCert::try_from(&certificate).map_err(|error| unusable(setting, file, error))?;
    // Any name that a wildcard stands for will do.
    Ok(certificate.valid_dns_names().next().map(|name| name.replacen('*', "iotctl", 1)))
}

/// A client that trusts the first certificate of a file and no other, whatever its name and dates: the process behind it
/// has the same file.
///
/// # Errors
/// The file is missing or not PEM.
pub fn pinned_client(setting: &'static str, file: &Path) -> Result<Arc<ClientConfig>, FileError> {
    let certificate = certificates(setting, file)?.swap_remove(0);
    let provider = provider();
    let pinned = Pinned { certificate, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(setting, file, error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts one certificate. That the server has its key is checked by the signature of the handshake.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate and its key as PEM.
    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn files(folder: &Path) -> Files {
        let settings = Settings { certificate: "http.cert_file", key: "http.key_file" };
        Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem"), settings }
    }

    #[test]
    fn a_new_certificate_is_used_when_its_key_is_there_too() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let write = |path: &Path, text: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        };
        let ((first, first_key), (second, second_key)) = (made(), made());
        write(&files.certificate, &first);
        assert!(Certificate::read(files.clone()).unwrap_err().to_string().contains("does not exist"));
        write(&files.key, &second_key);
        let error = Certificate::read(files.clone()).unwrap_err().to_string();
        assert!(error.contains("is not the key of"), "{error}");
        write(&files.key, &first_key);
        let certificate = Certificate::read(files.clone()).unwrap();
        let shown = || certificate.current.load().end_entity_cert().unwrap().to_vec();
        let before = shown();
        // Half of the change, then no file, then the rest of it.
        write(&files.certificate, &second);
        certificate.refresh();
        assert_eq!(shown(), before);
        std::fs::remove_file(&files.key).unwrap();
        certificate.refresh();
        assert_eq!(shown(), before);
        write(&files.key, &second_key);
        certificate.refresh();
        assert_ne!(shown(), before);
    }
}
