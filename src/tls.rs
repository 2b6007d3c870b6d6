//! TLS: rustls configurations from PEM files, and explanations of refused handshakes. Connections to
//! Cassandra use both. librdkafka has its own TLS with few details in its errors, so these are explained here too.
//! [`server`] is TLS for listeners; [`files`] says when a file has changed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

pub(crate) mod files;
pub mod server;

/// Names of the settings that messages refer to.
#[derive(Debug)]
pub struct Settings {
    pub ca: &'static str,
    pub certificate: &'static str,
    pub key: &'static str,
    /// The setting that turns TLS off, such as "cassandra.tls.enabled = false".
    pub off: &'static str,
    /// The remedy if a certificate is for another name.
    pub name: &'static str,
}

/// A PEM file of the configuration that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{setting}: cannot use {}: {reason}", path.display())]
pub struct FileError {
    pub setting: &'static str,
    pub path: PathBuf,
    /// With the remedy.
    pub reason: String,
}

/// A client configuration: the trusted authorities and, if servers ask for them, the client's certificate and key.
pub fn client_config(
    settings: &Settings,
    ca: &Path,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, FileError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(settings.ca, ca)? {
        roots.add(authority).map_err(|error| unusable(settings.ca, ca, error))?;
    }
    with_roots(settings, ca, roots, own)
}

/// As [`client_config`], with the authorities of the system.
pub fn client_config_of_system(
    settings: &Settings,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, FileError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let place = Path::new("the certificate authorities of this system");
    if roots.is_empty() {
        let reason = format!("there are none (install ca-certificates, or set {})", settings.ca);
        return Err(FileError { setting: settings.ca, path: place.to_owned(), reason });
    }
    with_roots(settings, place, roots, own)
}

fn with_roots(
    settings: &Settings,
    ca: &Path,
    roots: RootCertStore,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, FileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unusable(settings.ca, ca, error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(settings.ca, ca, error))?
        .with_webpki_verifier(verifier);
    let Some((certificate, key_file)) = own else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let key = private_key(settings.key, key_file)?;
    let config = builder.with_client_auth_cert(certificates(settings.certificate, certificate)?, key);
    let config = config.map_err(|error| unfitting(error, (settings.key, key_file), certificate))?;
    Ok(Arc::new(config))
}

fn private_key(setting: &'static str, file: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound => {
                "it holds no unencrypted private key in PEM (PKCS#8, PKCS#1 or SEC1)".into()
            }
            error => file_reason(error),
        };
        FileError { setting, path: file.to_owned(), reason }
    })
}

fn unfitting(error: rustls::Error, (setting, file): (&'static str, &Path), certificate: &Path) -> FileError {
    match error {
        rustls::Error::InconsistentKeys(_) => FileError {
            setting,
            path: file.to_owned(),
            reason: format!(
                "it is not the key of {} (use the key of that certificate)",
                certificate.display()
            ),
        },
        error => unusable(setting, file, error),
    }
}

fn certificates(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let refused = |reason| FileError { setting, path: file.to_owned(), reason };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|error| refused(file_reason(error)))?.collect();
    let found = found.map_err(|error| refused(file_reason(error)))?;
    match found.is_empty() {
        true => Err(refused("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".into())),
        false => Ok(found),
    }
}

fn file_reason(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "it does not exist (set the path of the PEM file)".into()
        }
        pem::Error::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "no permission to read it (make it readable for this user)".into()
        }
        pem::Error::Io(error) => error.to_string(),
        error => format!("it is not PEM: {error}"),
    }
}

fn unusable(setting: &'static str, path: &Path, error: impl std::fmt::Display) -> FileError {
    FileError { setting, path: path.to_owned(), reason: error.to_string() }
}

/// Why a connection over TLS failed, with the remedy; `None` if TLS was not the reason.
pub fn explain(error: &io::Error, settings: &Settings, has_own_certificate: bool) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => certificate(error, settings),
        rustls::Error::AlertReceived(alert) => self::alert(*alert, settings, has_own_certificate),
        rustls::Error::InvalidMessage(_) => {
            format!("the server does not use TLS on this port (check the port, or set {})", settings.off)
        }
        rustls::Error::PeerIncompatible(reason) => {
            format!("it offers no secure version of TLS: {reason:?} (enable TLS 1.2 or 1.3 on the server)")
        }
        other => other.to_string(),
    })
}

fn certificate(error: &CertificateError, settings: &Settings) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "its certificate is not signed by an authority in {} (put the PEM of the authority that signed it there)",
            settings.ca
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate expired on {} (renew it; or this machine's clock is wrong)",
            day(*not_after)
        ),
        CertificateError::Expired => {
            "its certificate has expired (renew it; or this machine's clock is wrong)".into()
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {} (this machine's clock may be wrong)",
            day(*not_before)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
            let presented = match presented.is_empty() {
                true => "no name at all".to_owned(),
                false => presented.join(", "),
            };
            format!(
                "its certificate is for {presented} and not for {} ({})",
                expected.to_str(),
                settings.name
            )
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for servers (issue it with extendedKeyUsage serverAuth)".into()
        }
        other => format!("its certificate is refused: {other} (renew it)"),
    }
}

/// `DnsName("a.example")` as `a.example`.
fn plain_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn alert(alert: AlertDescription, settings: &Settings, has_own_certificate: bool) -> String {
    use AlertDescription::*;
    match alert {
        // Before TLS 1.3 servers have no more specific alert.
        CertificateRequired | BadCertificate | HandshakeFailure | CertificateUnknown
            if !has_own_certificate =>
        {
            format!(
                "it asks for a certificate of this client (set {} and {})",
                settings.certificate, settings.key
            )
        }
        CertificateRequired
        | BadCertificate
        | UnsupportedCertificate
        | CertificateRevoked
        | CertificateExpired
        | CertificateUnknown
        | UnknownCA
        | AccessDenied => format!(
            "it refuses the certificate of this client: {alert:?} (check {}: who signed it, and until when it is valid)",
            settings.certificate
        ),
        other => format!("it ends the handshake: {other:?} (see the server's log)"),
    }
}

fn day(time: UnixTime) -> String {
    let moment =
        i64::try_from(time.as_secs()).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    moment
        .map_or_else(|| format!("second {}", time.as_secs()), |moment| moment.format("%Y-%m-%d").to_string())
}
