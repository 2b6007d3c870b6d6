//! What a listener asks of its clients, by the settings `[http]`: TLS, and a login.

use std::net::SocketAddr;
use std::path::Path;

use super::login::Login;
use crate::config::HttpConfig;
use crate::error::UsageError;
use crate::tls::server::{Files, ServerTls, Settings};

const SETTINGS: Settings = Settings { certificate: "http.cert_file", key: "http.key_file" };

/// TLS and login of a listener. The default is neither.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub(super) tls: Option<ServerTls>,
    login: Option<Login>,
    is_insecure: bool,
}

impl Access {
    /// # Errors
    /// A file of the settings cannot be used.
    pub fn of(config: &HttpConfig) -> Result<Self, UsageError> {
        let refused = |error: String| UsageError::new(error);
        let tls = match (&config.cert_file, &config.key_file) {
            (Some(certificate), Some(key)) => {
                let files = Files { certificate: certificate.clone(), key: key.clone(), settings: SETTINGS };
                Some(ServerTls::read(files, b"http/1.1").map_err(|error| refused(error.to_string()))?)
            }
            _ => None,
        };
        let login = config.tokens_file.clone().map(Login::read).transpose();
        let login = login.map_err(|error| refused(format!("http.tokens_file: {error}")))?;
        Ok(Self { tls, login, is_insecure: config.insecure })
    }

    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// How a URL of the listener begins.
    pub fn scheme(&self) -> &'static str {
        if self.has_tls() { "https" } else { "http" }
    }

    /// Other machines may ask only over TLS and with a token, unless the operator has said otherwise.
    ///
    /// # Errors
    /// What is missing for `address`.
    pub fn check(&self, address: SocketAddr) -> Result<(), UsageError> {
        if address.ip().to_canonical().is_loopback() || self.is_insecure {
            return Ok(());
        }
        let missing = match (self.has_tls(), self.login.is_some()) {
            (true, true) => return Ok(()),
            (false, false) => "TLS and a login (set http.cert_file, http.key_file and http.tokens_file",
            (false, true) => "TLS (set http.cert_file and http.key_file",
            (true, false) => "a login (set http.tokens_file",
        };
        Err(UsageError::new(format!(
            "other machines can reach {address}, which needs {missing}, as docs/security.md shows; or bind 127.0.0.1 \
             and forward it by ssh; --insecure serves it all the same)"
        )))
    }

    /// Whether other machines can ask without TLS or without a login.
    pub fn is_exposed(&self, address: SocketAddr) -> bool {
        let is_protected = self.has_tls() && self.login.is_some();
        !is_protected && !address.ip().to_canonical().is_loopback()
    }
}

/// TLS of a client that asks a listener of this configuration on this machine; `None` if it does not use TLS.
///
/// # Errors
/// The certificate cannot be used.
pub fn own_client(config: &HttpConfig) -> Result<Option<std::sync::Arc<rustls::ClientConfig>>, UsageError> {
    let pinned = |file: &Path| crate::tls::server::pinned_client(SETTINGS.certificate, file);
    let client = config.cert_file.as_deref().map(pinned).transpose();
    client.map_err(|error| UsageError::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::login::{Role, token};

    #[test]
    fn an_address_of_other_machines_needs_tls_and_a_login_or_the_operators_word() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key, tokens] = ["cert", "key", "tokens"].map(|name| folder.path().join(name));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        token::add(&tokens, "ada", Role::Viewer).unwrap();
        let with = |tls: bool, login: bool, insecure: bool| {
            let config = HttpConfig {
                cert_file: tls.then(|| certificate.clone()),
                key_file: tls.then(|| key.clone()),
                tokens_file: login.then(|| tokens.clone()),
                insecure,
            };
            Access::of(&config).unwrap()
        };
        let check = |access: &Access, address: &str| {
            access.check(address.parse().unwrap()).map_err(|error| error.to_string())
        };
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check(&with(false, false, false), loopback), Ok(()), "{loopback}");
        }
        for public in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(check(&with(true, true, false), public), Ok(()), "{public}");
            assert_eq!(check(&with(false, false, true), public), Ok(()), "{public}");
            for (tls, login, missing) in [
                (false, false, "TLS and a login"),
                (true, false, "needs a login (set http.tokens_file"),
                (false, true, "needs TLS (set http.cert_file"),
            ] {
                let error = check(&with(tls, login, false), public).unwrap_err();
                assert!(error.contains(missing) && error.contains("--insecure"), "{error}");
            }
        }
    }
}
