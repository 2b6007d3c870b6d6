//! Single HTTP requests, each over a connection of its own: a schema registry and the receivers of alerts are asked too
//! rarely for a pool. Redirects are not followed.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls;

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    /// The value of `Host`.
    authority: String,
    /// The path of the URL with its query.
    pub(crate) path: String,
    tls: Option<Tls>,
    /// Of an answer's body, in bytes.
    max_body: usize,
}

#[derive(Debug, Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    settings: &'static tls::Settings,
}

impl Endpoint {
    /// # Errors
    /// What is wrong with the URL: it follows the name of a setting.
    pub(crate) fn parse(url: &str, max_body: usize) -> Result<Self, String> {
        let parsed: Uri = url.parse().map_err(|_| format!("{url:?} is not a URL"))?;
        let is_tls = match parsed.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{url:?} does not begin with http:// or https://")),
        };
        let host = parsed.host().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let authority = parsed.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err("it holds a user name (remove it: URLs are shown in messages)".to_owned());
        }
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: parsed.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority,
            path: parsed.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls: None,
            max_body,
        })
    }

    /// Whether the URL begins with https://.
    pub(crate) fn is_tls(url: &str) -> bool {
        url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    pub(crate) fn with_tls(self, config: Arc<ClientConfig>, settings: &'static tls::Settings) -> Self {
        Self { tls: Some(Tls { config, settings }), ..self }
    }

    /// Sends a request whose URI is a path with its query. The caller limits the time.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String> {
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&self.authority).map_err(|error| error.to_string())?);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("iotctl/", env!("CARGO_PKG_VERSION"))));
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("cannot connect to {}:{}: {error}", self.host, self.port))?;
        match &self.tls {
            None => self.exchange(TokioIo::new(stream), request).await,
            Some(Tls { config, settings }) => {
                let name = ServerName::try_from(self.host.clone())
                    .map_err(|_| format!("{:?} is not a host name", self.host))?;
                let stream = TlsConnector::from(config.clone()).connect(name, stream).await;
                let stream = stream.map_err(|error| refused_handshake(&error, settings))?;
                self.exchange(TokioIo::new(stream), request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: TokioIo<S>,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.max_body).collect().await;
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

fn refused_handshake(error: &io::Error, settings: &tls::Settings) -> String {
    tls::explain(error, settings, false).unwrap_or_else(|| format!("the TLS handshake failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_what_is_none_is_refused() {
        let parse = |url: &str| Endpoint::parse(url, 1);
        let found = parse("https://[::1]:8443/a/b?c=d").unwrap();
        assert_eq!((found.host.as_str(), found.port, found.path.as_str()), ("::1", 8443, "/a/b?c=d"));
        let found = parse("http://host").unwrap();
        assert_eq!((found.authority.as_str(), found.port, found.path.as_str()), ("host", 80, "/"));
        for wrong in ["host:80", "ftp://host", "http://", "http://user:secret@host/", "a b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
