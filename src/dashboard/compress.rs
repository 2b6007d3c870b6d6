//! Answers as gzip for clients that accept it: lists of sensors become a tenth of their size.

use std::io::Write as _;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

/// In bytes. A shorter answer fits into one packet as it is.
const LEAST: u64 = 1_200;
/// In bytes. A longer answer would hold the runtime's thread for long.
const MOST: u64 = 8 * 1024 * 1024;

/// Half-way: 1.4 MB of readings take about 15 ms.
const LEVEL: u32 = 5;

/// Compresses the answer if its length is known: events, which have no end, are sent as they come.
pub(super) async fn answers(request: Request, next: Next) -> Response {
    let is_accepted = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    let is_text = kind(response.headers()).is_some_and(|kind| {
        kind.starts_with("text/") || kind.starts_with("application/json") || kind.starts_with("image/svg")
    });
    let size = response.body().size_hint().exact();
    if !is_text || !size.is_some_and(|size| (LEAST..MOST).contains(&size)) {
        return response;
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !is_accepted {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The length is exact, so the limit is never met.
    let Ok(plain) = to_bytes(body, MOST as usize).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let Some(packed) = gzip(&plain) else { return Response::from_parts(parts, Body::from(plain)) };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    // Other bytes than those that the tag stands for.
    if let Some(tag) = parts.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok())
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        parts.headers.insert(header::ETAG, weak);
    }
    Response::from_parts(parts, Body::from(packed))
}

fn kind(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// `gzip;q=0` is a refusal.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|part| part.split(';').map(str::trim).collect::<Vec<_>>())
        .any(|parts| {
            parts[0].eq_ignore_ascii_case("gzip")
                && !parts[1..].iter().any(|it| matches!(*it, "q=0" | "q=0.0"))
        })
}

fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::new(LEVEL));
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_where_it_is_accepted() {
        let asks = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, text.parse().unwrap());
            accepts_gzip(&headers)
        };
        assert!(asks("gzip, deflate, br") && asks("br;q=1, GZIP;q=0.5"));
        assert!(!asks("br") && !asks("gzip;q=0") && !asks("identity"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
