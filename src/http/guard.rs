//! Who is let in: the middleware before all routes of a listener.
//!
//! | request | answer |
//! |---|---|
//! | for another name, on a loopback address | [`Refused::Host`] |
//! | changes something, and comes from a page of another site | [`Refused::Forged`] |
//! | to a path of [`Site::open`] | the route's, which sees [`Caller`] if somebody is logged in |
//! | with `Authorization: Bearer` or a session's cookie | the route's, with [`Caller`]; a stream ends when the token is removed |
//! | a browser's for a page, without either | it is sent to [`Site::sign_in`] |
//! | any other | [`Refused::Denied`] |
//!
//! Without a login all of the last four are the route's own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;

use super::host;
use super::login::{Denied, Identity, LIFETIME, Login, Secrets};

/// The header that repeats a session's secret in requests that change something.
pub const CSRF_HEADER: &str = "x-iotctl-csrf";

/// The other side of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub SocketAddr);

/// Somebody who is logged in: an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub identity: Identity,
    /// Of a browser.
    pub session: Option<Secrets>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Host,
    Forged,
    Denied(Denied),
}

impl Refused {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::Denied(Denied::Missing | Denied::Wrong) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::TooMany(_)) => StatusCode::TOO_MANY_REQUESTS,
            Self::Denied(Denied::Unusable) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// In words, with the remedy.
    pub fn text(&self) -> String {
        match self {
            Self::Host => host::REFUSED.to_owned(),
            Self::Forged => format!(
                "the request changes something, and it is not from a page of this server (repeat the session's csrf in {CSRF_HEADER}, \
                 or send a token as Authorization: Bearer)"
            ),
            Self::Denied(Denied::Missing) => {
                "this server needs a login (send a token as Authorization: Bearer; `iotctl token add` makes one)".to_owned()
            }
            Self::Denied(Denied::Wrong) => {
                "the token or the session is not valid (it was removed, or mistyped; sign in again)".to_owned()
            }
            Self::Denied(Denied::TooMany(wait)) => {
                format!("too many wrong tokens from this address (try again in {} s)", seconds(*wait))
            }
            Self::Denied(Denied::Unusable) => {
                "nobody can log in now (see the server's log: http.tokens_file cannot be used)".to_owned()
            }
        }
    }
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

/// How a listener speaks to clients that are not let in.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// The answer to a request that is refused.
    pub refusal: fn(&Refused) -> Response,
    /// Paths that everybody may ask.
    pub open: &'static [&'static str],
    /// Where a browser is sent to.
    pub sign_in: Option<&'static str>,
}

/// The login as the routes see it: an extension of the request, if there is a login.
#[derive(Debug, Clone)]
pub struct Gate {
    login: Login,
    cookie: String,
    is_tls: bool,
    peer: IpAddr,
}

impl Gate {
    /// Begins a session for whoever has this token. The value is that of `Set-Cookie`.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn sign_in(&self, token: &str) -> Result<(Caller, HeaderValue), Denied> {
        let identity = self.login.by_token(token, self.peer)?;
        let secrets = self.login.begin_session(&identity);
        let cookie = self.cookie(&secrets.id, LIFETIME.as_secs());
        Ok((Caller { identity, session: Some(secrets) }, cookie))
    }

    /// Ends a session. The value is that of `Set-Cookie`.
    pub fn sign_out(&self, session: &Secrets) -> HeaderValue {
        self.login.end_session(&session.id);
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.is_tls { "; Secure" } else { "" };
        let text =
            format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie);
        // Names and values are of base64's characters.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// What the middleware knows of its listener.
#[derive(Debug)]
pub(super) struct Guard {
    bound: SocketAddr,
    site: Site,
    login: Option<Login>,
    is_tls: bool,
    cookie: String,
}

impl Guard {
    pub(super) fn new(bound: SocketAddr, site: Site, login: Option<Login>, is_tls: bool) -> Self {
        // The port, because cookies belong to a host and not to one of its ports. By the prefix, a browser takes it over TLS
        // only, and from no other host.
        let prefix = if is_tls { "__Host-" } else { "" };
        Self { bound, site, login, is_tls, cookie: format!("{prefix}iotctl-{}", bound.port()) }
    }

    /// Who asks.
    fn identify(&self, login: &Login, request: &Request, peer: IpAddr) -> Result<Caller, Denied> {
        if let Some(token) = bearer(request.headers())? {
            return Ok(Caller { identity: login.by_token(token, peer)?, session: None });
        }
        let id = session_id(request.headers(), &self.cookie).ok_or(Denied::Missing)?;
        let (identity, csrf) = login.by_session(id)?;
        Ok(Caller { identity, session: Some(Secrets { id: id.to_owned(), csrf }) })
    }

    fn refuse(&self, refused: &Refused) -> Response {
        let mut response = (self.site.refusal)(refused);
        let headers = response.headers_mut();
        match refused {
            Refused::Denied(Denied::Missing) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"iotctl\""));
            }
            Refused::Denied(Denied::Wrong) => {
                let challenge = "Bearer realm=\"iotctl\", error=\"invalid_token\"";
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Refused::Denied(Denied::TooMany(wait)) => {
                headers.insert(RETRY_AFTER, seconds(*wait).into());
            }
            Refused::Denied(Denied::Unusable) | Refused::Host | Refused::Forged => {}
        }
        response
    }

    /// A browser that asks for a page is sent to where people sign in.
    fn redirect(&self, request: &Request, denied: &Denied) -> Option<Response> {
        let page = self.site.sign_in?;
        let accepts_html = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
        let is_browser = matches!(*request.method(), Method::GET | Method::HEAD)
            && matches!(denied, Denied::Missing | Denied::Wrong)
            && !request.headers().contains_key(AUTHORIZATION)
            && request.headers().get_all(axum::http::header::ACCEPT).iter().any(accepts_html);
        is_browser.then(|| (StatusCode::SEE_OTHER, [(LOCATION, page)]).into_response())
    }
}

pub(super) async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if !host::is_meant(guard.bound.ip(), &request) {
        return guard.refuse(&Refused::Host);
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && !is_of_this_site(request.headers()) {
        return guard.refuse(&Refused::Forged);
    }
    let Some(login) = &guard.login else { return next.run(request).await };
    let peer = request.extensions().get().map_or(guard.bound.ip(), |Peer(peer)| peer.ip());
    request.extensions_mut().insert(Gate {
        login: login.clone(),
        cookie: guard.cookie.clone(),
        is_tls: guard.is_tls,
        peer,
    });
    let is_open = guard.site.open.contains(&request.uri().path());
    let caller = match guard.identify(login, &request, peer) {
        Ok(caller) => caller,
        Err(_) if is_open => return next.run(request).await,
        Err(denied) => {
            return guard
                .redirect(&request, &denied)
                .unwrap_or_else(|| guard.refuse(&Refused::Denied(denied)));
        }
    };
    if changes
        && !is_open
        && let Some(session) = &caller.session
        && !has_secret(request.headers(), session)
    {
        return guard.refuse(&Refused::Forged);
    }
    request.extensions_mut().insert(caller.clone());
    let response = next.run(request).await;
    match response.body().size_hint().exact() {
        Some(_) => response,
        None => response.map(|body| until_revoked(body, login.clone(), caller)),
    }
}

/// A stream without a known end, cut off when whoever asked for it is no longer let in.
fn until_revoked(body: Body, login: Login, caller: Caller) -> Body {
    let session = caller.session.map(|session| session.id);
    let revoked = async move { login.revoked(caller.identity, session).await };
    Body::from_stream(body.into_data_stream().take_until(Box::pin(revoked)))
}

/// The token of `Authorization: Bearer`; `None` without the header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let value = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| Denied::Missing)?,
        // Which of them is meant is not ours to guess.
        (Some(_), Some(_)) => return Err(Denied::Missing),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Denied::Missing),
    }
}

/// The value of the session's cookie. Two cookies of the name are none.
fn session_id<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let value = values.next()?;
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

fn has_secret(headers: &HeaderMap, session: &Secrets) -> bool {
    session.is_confirmed_by(headers.get(CSRF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default())
}

/// Browsers say where a request comes from; other clients do not.
fn is_of_this_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    match text(ORIGIN.as_str()) {
        None => true,
        Some(origin) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text(HOST.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_one_header_of_that_scheme() {
        for (value, token) in
            [("Bearer abc", "abc"), ("bearer abc", "abc"), ("BEARER  abc ", "abc"), ("Bearer ", "")]
        {
            assert_eq!(bearer(&headers(&[("authorization", value)])), Ok(Some(token)), "{value}");
        }
        for value in ["Basic abc", "abc", "", "Bearerabc", "Bearer\tabc", "Bearer \u{e9}"] {
            assert_eq!(bearer(&headers(&[("authorization", value)])), Err(Denied::Missing), "{value}");
        }
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(bearer(&twice), Err(Denied::Missing));
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_session_is_the_one_cookie_of_this_port() {
        let found = |text: &str| session_id(&headers(&[("cookie", text)]), "iotctl-80").map(str::to_owned);
        assert_eq!(found("a=b; iotctl-80=id; iotctl-8080=other").as_deref(), Some("id"));
        for other in
            ["iotctl-8080=id", "iotctl-80", "iotctl-80=", "iotctl-80=a; iotctl-80=b", "x-iotctl-80=a"]
        {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_request_of_another_sites_page_is_known_by_what_the_browser_says() {
        for (pairs, is_good) in [
            (&[][..], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], true),
            (&[("host", "a:1"), ("origin", "http://a:2")], false),
            (&[("host", "a:1"), ("origin", "null")], false),
            (&[("origin", "http://a:1")], false),
        ] {
            assert_eq!(is_of_this_site(&headers(pairs)), is_good, "{pairs:?}");
        }
    }

    #[test]
    fn a_cookie_is_closed_to_scripts_and_other_sites_and_needs_tls_where_there_is_tls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = super::super::login::token::add(&path, "ada", super::super::login::Role::Viewer).unwrap();
        let login = Login::read(path).unwrap();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let gate =
            |is_tls: bool, cookie: &str| Gate { login: login.clone(), cookie: cookie.into(), is_tls, peer };
        let (caller, cookie) = gate(true, "__Host-iotctl-1").sign_in(&token).unwrap();
        let session = caller.session.unwrap();
        let cookie = cookie.to_str().unwrap().to_owned();
        assert!(cookie.starts_with(&format!("__Host-iotctl-1={}; ", session.id)), "{cookie}");
        for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let (_, plain) = gate(false, "iotctl-1").sign_in(&token).unwrap();
        assert!(!plain.to_str().unwrap().contains("Secure"));
        assert!(has_secret(&headers(&[(CSRF_HEADER, &session.csrf)]), &session));
        assert!(!has_secret(&headers(&[(CSRF_HEADER, "")]), &session));
        assert!(!has_secret(&HeaderMap::new(), &session));
        let ended = gate(true, "c").sign_out(&session);
        assert!(ended.to_str().unwrap().starts_with("c=; Path=/; Max-Age=0;"));
        assert_eq!(login.by_session(&session.id), Err(Denied::Wrong));
    }
}
