//! The routes, who may ask, and what every answer carries.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::api::{self, App};
use super::events;
use super::forecast;
use super::problem::Problem;
use crate::config::Config;
use crate::http::{self, host};
use crate::shutdown::Shutdown;

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

/// Binds `address`, so that a failure is told before anything else begins.
pub async fn bind(address: SocketAddr) -> anyhow::Result<http::Server> {
    let failure = || format!("cannot serve the dashboard on {address} (choose another --addr)");
    http::Server::bind(address, failure).await
}

/// Serves until shutdown; a silent sensor is one whose newest reading is older than `silent_after`.
pub async fn serve(server: http::Server, config: Config, silent_after: Duration, shutdown: Shutdown) {
    let app = App::new(config, silent_after, shutdown.clone());
    let fleet = tokio::spawn(events::watch_fleet(app.clone()));
    let health = tokio::spawn(events::watch_health(app.clone()));
    server.serve(routes(app), refusal, shutdown).await;
    fleet.abort();
    health.abort();
}

fn routes(app: App) -> Router {
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
        .layer(middleware::from_fn(add_headers))
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

/// A web page whose name was made to point at this machine could read everything otherwise (DNS rebinding).
fn refusal() -> Response {
    with_headers(Problem::new(StatusCode::MISDIRECTED_REQUEST, host::REFUSED).into_response())
}

async fn add_headers(request: Request, next: Next) -> Response {
    with_headers(next.run(request).await)
}

/// Adds what browsers should know about every response.
fn with_headers(mut response: Response) -> Response {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
