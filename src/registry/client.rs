//! One GET after another, each over a connection of its own: a registry is asked once for each schema.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::config::SchemaRegistryConfig;
use crate::tls;

/// Of an answer, in bytes.
const MAX_BODY: usize = 4 << 20;
/// Confluent's codes for "no such subject", "no such version" and "no such schema". Any other 404 may come from a wrong path.
const UNKNOWN: [i64; 3] = [40_401, 40_402, 40_403];

const TLS: tls::Settings = tls::Settings {
    ca: "schema_registry.ca_file",
    certificate: "schema_registry.ca_file",
    key: "schema_registry.ca_file",
    off: "schema_registry.url to http://",
    name: "write that name in schema_registry.url",
};

/// What the registry answered.
pub(super) enum Answer {
    Found(Value),
    /// The registry itself says that it has no such thing.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Client {
    url: String,
    /// Before the path of a request, without a slash at its end.
    base: String,
    host: String,
    port: u16,
    /// The value of `Host`.
    authority: String,
    authorization: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
    /// Of a whole request.
    timeout: Duration,
}

impl Client {
    pub(super) fn new(url: &str, config: &SchemaRegistryConfig) -> anyhow::Result<Self> {
        let parsed: Uri =
            url.parse().with_context(|| format!("schema_registry.url: {url:?} is not a URL"))?;
        let is_tls = parsed.scheme_str() == Some("https");
        let host = parsed.host().context("schema_registry.url has no host")?;
        let authorization = match (&config.username, &config.password) {
            (Some(user), Some(password)) => {
                let login = STANDARD.encode(format!("{user}:{}", password.expose()));
                let mut value = HeaderValue::from_str(&format!("Basic {login}"))?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        let tls = match (is_tls, &config.ca_file) {
            (true, Some(file)) => Some(tls::client_config(&TLS, file, None)?),
            _ => None,
        };
        Ok(Self {
            url: url.to_owned(),
            base: parsed.path().trim_end_matches('/').to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: parsed.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: parsed.authority().map(ToString::to_string).unwrap_or_default(),
            authorization,
            tls,
            timeout: config.timeout,
        })
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error { url: self.url.clone(), problem: problem.into() }
    }

    /// The answer to a GET of a path, of which each part is escaped.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Answer, Error> {
        let mut target = self.base.clone();
        for part in path {
            target.push('/');
            target.push_str(&escaped(part));
        }
        match tokio::time::timeout(self.timeout, self.request(&target)).await {
            Ok(answered) => {
                let (status, body) = answered.map_err(|problem| self.error(problem))?;
                self.understood(status, &body, &target)
            }
            Err(_) => Err(self.error(format!(
                "no answer within {} (schema_registry.timeout)",
                humantime::format_duration(self.timeout)
            ))),
        }
    }

    fn understood(&self, status: StatusCode, body: &[u8], target: &str) -> Result<Answer, Error> {
        let json: Option<Value> = serde_json::from_slice(body).ok();
        if status == StatusCode::OK {
            return match json {
                Some(json) => Ok(Answer::Found(json)),
                None => Err(self.error("its answer is not JSON (is schema_registry.url right?)")),
            };
        }
        let code = json.as_ref().and_then(|json| json["error_code"].as_i64());
        if status == StatusCode::NOT_FOUND && code.is_some_and(|code| UNKNOWN.contains(&code)) {
            return Ok(Answer::Unknown);
        }
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                " (set schema_registry.username and its password, and let the user read)"
            }
            StatusCode::NOT_FOUND => " (is the path of schema_registry.url right?)",
            status if status.is_redirection() => " (set schema_registry.url to where it redirects)",
            _ => "",
        };
        Err(self.error(format!("it answers {status} to {target}{remedy}")))
    }

    async fn request(&self, target: &str) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("cannot connect to {}:{}: {error}", self.host, self.port))?;
        match &self.tls {
            None => self.exchange(TokioIo::new(stream), target).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())
                    .map_err(|_| format!("{:?} is not a host name", self.host))?;
                let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
                let stream = stream.map_err(|error| refused_handshake(&error))?;
                self.exchange(TokioIo::new(stream), target).await
            }
        }
    }

    async fn exchange<S>(&self, stream: TokioIo<S>, target: &str) -> Result<(StatusCode, Bytes), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = Request::get(target)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("iotctl/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            Ok((status, body.map_err(|error| format!("its answer breaks off: {error}"))?.to_bytes()))
        };
        // The connection moves only while it is polled, and ends with the answer.
        tokio::pin!(connection, exchange);
        tokio::select! {
            answered = &mut exchange => answered,
            _ = &mut connection => exchange.await,
        }
    }
}

fn broken(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn refused_handshake(error: &io::Error) -> String {
    tls::explain(error, &TLS, false).unwrap_or_else(|| format!("the TLS handshake failed: {error}"))
}

/// A part of a path: whatever is no letter, digit or one of `-._~` is written as %XX.
fn escaped(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new("http://127.0.0.1:8081/base/", &SchemaRegistryConfig::default()).unwrap()
    }

    #[test]
    fn only_the_registrys_own_word_makes_a_schema_unknown() {
        let answer = |status: u16, body: &str| {
            client().understood(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "/x")
        };
        assert!(matches!(answer(404, r#"{"error_code":40403,"message":"m"}"#), Ok(Answer::Unknown)));
        assert!(matches!(answer(200, "{}"), Ok(Answer::Found(_))));
        for (status, body, word) in [
            (404, "<html>", "path of schema_registry.url"),
            (404, r#"{"error_code":404}"#, "path of schema_registry.url"),
            (401, "", "schema_registry.username"),
            (500, r#"{"error_code":40403}"#, "500"),
            (302, "", "redirects"),
            (200, "<html>", "not JSON"),
        ] {
            let error = answer(status, body).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn paths_are_escaped_below_the_base() {
        assert_eq!(client().base, "/base");
        assert_eq!(escaped("a-value/ü"), "a-value%2F%C3%BC");
    }
}
