//! The routes, who may ask, and what every answer carries.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tokio::net::TcpListener;

use super::api::{self, App};
use super::events;
use super::forecast;
use super::problem::Problem;
use crate::config::Config;
use crate::shutdown::Shutdown;

/// How long answers under way may take after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Nothing but what this server sends, no inline script or style, no frame around it, no form, no text as markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// An embedded file.
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

static ASSETS: [Asset; 4] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", text: include_str!("assets/index.html") },
    Asset { path: "/app.js", kind: "text/javascript; charset=utf-8", text: include_str!("assets/app.js") },
    Asset { path: "/app.css", kind: "text/css; charset=utf-8", text: include_str!("assets/app.css") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") },
];

pub const OPENAPI: &str = include_str!("assets/openapi.json");

/// Every route of the API. A test holds the list and the description equal.
fn api_routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/api/fleet", get(api::fleet)),
        ("/api/sensors", get(api::sensors)),
        ("/api/sensors/{sensor}", get(api::sensor)),
        ("/api/series", get(api::series)),
        ("/api/extremes", get(api::extremes)),
        ("/api/silent", get(api::silent)),
        ("/api/anomalies", get(api::anomalies)),
        ("/api/forecast", get(forecast::forecast)),
        ("/api/status", get(api::status)),
        ("/api/events", get(events::events)),
        ("/api/openapi.json", get(openapi)),
    ]
}

/// A bound server that does not answer yet.
pub struct Server {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// Binds `address`, so that a failure is told before anything else begins.
pub async fn bind(address: SocketAddr) -> anyhow::Result<Server> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot serve the dashboard on {address} (choose another --addr)"))?;
    let address = listener.local_addr()?;
    Ok(Server { listener, address })
}

/// Serves until shutdown; a silent sensor is one whose newest reading is older than `silent_after`.
pub async fn serve(
    server: Server,
    config: Config,
    silent_after: Duration,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let app = App::new(config, silent_after, shutdown.clone());
    let fleet = tokio::spawn(events::watch_fleet(app.clone()));
    let health = tokio::spawn(events::watch_health(app.clone()));
    let routes = routes(app, server.address.ip());
    let signal = shutdown.clone();
    let serving = axum::serve(server.listener, routes)
        .with_graceful_shutdown(async move { signal.requested().await })
        .into_future();
    let late = async {
        shutdown.requested().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = serving => served.context("the dashboard ended"),
        () = late => Ok(()),
    };
    fleet.abort();
    health.abort();
    served
}

fn routes(app: App, bound: IpAddr) -> Router {
    let mut routes = Router::new();
    for (path, method) in api_routes() {
        routes = routes.route(path, method);
    }
    for asset in &ASSETS {
        routes = routes.route(asset.path, get(async |headers: HeaderMap| file(asset, &headers)));
    }
    routes
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "there is no such page (see /api/openapi.json)")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "nothing can be changed here (ask with GET)")
        })
        .layer(middleware::from_fn_with_state(bound, guard))
        .with_state(app)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// An asset, or that the browser's copy is still the same.
fn file(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let tag = tag(asset.text);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let headers = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response(),
    }
}

/// The same for the same text in every run of this binary.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Sends away whoever reached us by another name, and adds to each answer what browsers should know.
async fn guard(State(bound): State<IpAddr>, request: Request, next: Next) -> Response {
    let mut response = match is_meant(bound, &request) {
        true => next.run(request).await,
        // A web page whose name was made to point at this machine could read everything otherwise (DNS rebinding).
        false => Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this server answers to its loopback address and localhost alone (open the address that it printed)",
        )
        .into_response(),
    };
    static NAMES: OnceLock<Vec<(HeaderName, HeaderValue)>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let of = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        HEADERS.map(of).into()
    });
    let headers = response.headers_mut();
    headers.extend(names.iter().cloned());
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether the request names this machine; on other addresses than loopback, names are the network's business.
fn is_meant(bound: IpAddr, request: &Request) -> bool {
    if !bound.is_loopback() {
        return true;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        // HTTP/1.0, or two of them.
        _ => return false,
    };
    let Ok(authority) = named.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;

    use super::*;

    fn request(host: Option<&str>) -> Request {
        let builder = Request::builder().uri("/api/fleet");
        let builder = match host {
            Some(host) => builder.header(header::HOST, host),
            None => builder,
        };
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_answered() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.52.1"] {
            assert!(is_meant(loopback, &request(Some(host))), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1@evil.example"]
        {
            assert!(!is_meant(loopback, &request(Some(host))), "{host}");
        }
        assert!(!is_meant(loopback, &request(None)));
        assert!(is_meant(IpAddr::from([10, 0, 0, 1]), &request(Some("fleet.example"))));
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let openapi: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeSet<&str> =
            openapi["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routes: BTreeSet<&str> = api_routes().iter().map(|(path, _)| *path).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn the_page_holds_nothing_that_its_policy_forbids() {
        let [page, script, ..] = &ASSETS;
        for forbidden in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(!page.text.contains(forbidden), "{forbidden}");
        }
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!script.text.contains(markup), "{markup}");
        }
    }

    #[test]
    fn a_known_asset_is_not_sent_again() {
        let asset = &ASSETS[1];
        let mut headers = HeaderMap::new();
        assert_eq!(file(asset, &headers).status(), StatusCode::OK);
        headers.insert(header::IF_NONE_MATCH, tag(asset.text).parse().unwrap());
        assert_eq!(file(asset, &headers).status(), StatusCode::NOT_MODIFIED);
    }
}
