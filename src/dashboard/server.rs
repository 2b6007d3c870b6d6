//! The listener, who may ask, and the headers of every answer.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};

use super::app::App;
use super::problem::Problem;
use super::{compress, poll, routes};
use crate::config::Config;
use crate::http::{self, Access, Refused, Site};
use crate::metrics::renewal;
use crate::shutdown::Shutdown;

/// Nothing but what this server sends, no inline script or style, no frame around it, no form, no text as markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";

/// What people need to sign in, and what says whether the process works.
const SITE: Site = Site {
    refusal,
    open: &["/login", "/login.js", "/app.css", "/icon.svg", "/api/session", "/livez", "/readyz"],
    sign_in: Some("/login"),
};

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

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! asset {
    ($path:expr, $kind:expr, $file:literal) => {
        Asset { path: $path, kind: $kind, text: include_str!(concat!("assets/", $file)) }
    };
}

const PAGE: &str = "/";

static ASSETS: [Asset; 24] = [
    asset!(PAGE, "text/html; charset=utf-8", "index.html"),
    asset!("/login", "text/html; charset=utf-8", "login.html"),
    asset!("/login.js", SCRIPT, "login.js"),
    asset!("/account.js", SCRIPT, "account.js"),
    asset!("/address.js", SCRIPT, "address.js"),
    asset!("/api.js", SCRIPT, "api.js"),
    asset!("/app.js", SCRIPT, "app.js"),
    asset!("/chart.js", SCRIPT, "chart.js"),
    asset!("/export.js", SCRIPT, "export.js"),
    asset!("/fleet.js", SCRIPT, "fleet.js"),
    asset!("/lists.js", SCRIPT, "lists.js"),
    asset!("/marks.js", SCRIPT, "marks.js"),
    asset!("/page.js", SCRIPT, "page.js"),
    asset!("/pipeline.js", SCRIPT, "pipeline.js"),
    asset!("/scale.js", SCRIPT, "scale.js"),
    asset!("/sensor.js", SCRIPT, "sensor.js"),
    asset!("/shape.js", SCRIPT, "shape.js"),
    asset!("/state.js", SCRIPT, "state.js"),
    asset!("/touch.js", SCRIPT, "touch.js"),
    // As its authors ship it.
    asset!("/uplot.js", SCRIPT, "uplot/uPlot.iife.min.js"),
    asset!("/uplot.css", STYLE, "uplot/uPlot.min.css"),
    asset!("/uplot-licence.txt", "text/plain; charset=utf-8", "uplot/LICENSE"),
    asset!("/app.css", STYLE, "app.css"),
    asset!("/icon.svg", "image/svg+xml", "icon.svg"),
];

/// Binds `address`, so that a failure is reported before anything else starts.
pub async fn bind(address: SocketAddr, access: Access) -> anyhow::Result<http::Server> {
    let failure = || format!("cannot serve the dashboard on {address} (choose another --addr)");
    http::Server::bind(address, access, failure).await
}

/// Serves until shutdown; a silent sensor is one whose newest reading is older than `silent_after`.
pub async fn serve(server: http::Server, config: Config, silent_after: Duration, shutdown: Shutdown) {
    let metrics = Registry::new();
    if let Err(error) = server.register(&metrics).and_then(|()| renewal::register(&metrics)) {
        tracing::error!(%error, "the dashboard's own metrics are not served");
    }
    let app = App::new(config, silent_after, metrics, shutdown.clone());
    let fleet = tokio::spawn(poll::fleet(app.clone()));
    let health = tokio::spawn(poll::health(app.clone()));
    server.serve(router(app), SITE, shutdown).await;
    fleet.abort();
    health.abort();
}

fn router(app: App) -> Router {
    let mut router = Router::new();
    for (path, method) in routes::all() {
        router = router.route(path, method);
    }
    for asset in &ASSETS {
        let answer = async |State(app): State<App>, headers: HeaderMap| {
            if asset.path == PAGE {
                app.read_ahead();
            }
            file(asset, &headers)
        };
        router = router.route(asset.path, get(answer));
    }
    router
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such page (see /api/openapi.json)"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path has other methods (see /api/openapi.json)")
        })
        .layer(middleware::from_fn(compress::answers))
        .layer(middleware::from_fn(add_headers))
        .with_state(app)
}

/// The page works without its servers; it is ready when Cassandra answers.
async fn ready(State(app): State<App>) -> Response {
    match app.session().await {
        Ok(_) => "ready\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

/// Of the listener alone: `monitor` exports the servers.
async fn metrics(State(app): State<App>) -> Response {
    match TextEncoder::new().encode_to_string(&app.metrics().gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => Problem::internal(error.to_string()).into_response(),
    }
}

/// An asset, or 304 if the browser's copy is still the same.
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

/// An ETag: equal for equal texts in every run of this binary.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn refusal(refused: &Refused) -> Response {
    with_headers(Problem::new(refused.status(), refused.text()).into_response())
}

async fn add_headers(request: Request, next: Next) -> Response {
    with_headers(next.run(request).await)
}

/// Adds the security headers.
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
    fn the_description_lists_exactly_the_routes() {
        let openapi: serde_json::Value = serde_json::from_str(routes::OPENAPI).unwrap();
        let described: BTreeSet<&str> =
            openapi["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routes: BTreeSet<&str> = routes::all().iter().map(|(path, _)| *path).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn the_page_holds_nothing_that_its_content_security_policy_forbids() {
        let scripts: Vec<_> = ASSETS.iter().filter(|asset| asset.kind == SCRIPT).collect();
        assert!(scripts.len() > 10);
        for forbidden in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(ASSETS[..2].iter().all(|page| !page.text.contains(forbidden)), "{forbidden}");
        }
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(scripts.iter().all(|script| !script.text.contains(markup)), "{markup}");
        }
    }

    #[test]
    fn an_asset_that_the_browser_has_is_not_sent_again() {
        let asset = &ASSETS[2];
        let mut headers = HeaderMap::new();
        assert_eq!(file(asset, &headers).status(), StatusCode::OK);
        headers.insert(header::IF_NONE_MATCH, tag(asset.text).parse().unwrap());
        assert_eq!(file(asset, &headers).status(), StatusCode::NOT_MODIFIED);
    }
}
