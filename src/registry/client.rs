//! One GET after another, each over a connection of its own: a registry is asked once for each schema.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::Value;

use super::Error;
use crate::config::SchemaRegistryConfig;
use crate::encoding::percent_encoded;
use crate::http::client::Endpoint;
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
    endpoint: Endpoint,
    /// Before the path of a request, without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
    /// Of a whole request.
    timeout: Duration,
}

impl Client {
    pub(super) fn new(url: &str, config: &SchemaRegistryConfig) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::parse(url, MAX_BODY)
            .map_err(anyhow::Error::msg)
            .context("schema_registry.url cannot be used")?;
        let authorization = match (&config.username, &config.password) {
            (Some(user), Some(password)) => {
                let login = STANDARD.encode(format!("{user}:{}", password.expose()));
                let mut value = HeaderValue::from_str(&format!("Basic {login}"))?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        if let (true, Some(file)) = (Endpoint::is_tls(url), &config.ca_file) {
            endpoint = endpoint.with_tls(tls::client_config(&TLS, file, None)?, &TLS);
        }
        let path = endpoint.path.split('?').next().unwrap_or_default();
        Ok(Self {
            url: url.to_owned(),
            base: path.trim_end_matches('/').to_owned(),
            endpoint,
            authorization,
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
        let mut request =
            Request::get(target).header(ACCEPT, "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
        self.endpoint.send(request).await
    }
}

/// A part of a path.
fn escaped(part: &str) -> String {
    percent_encoded(part.as_bytes(), b"")
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
