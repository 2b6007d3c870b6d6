//! Which requests are for this machine.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{Version, header};

/// What a refused client is told.
pub const REFUSED: &str = "this server only answers requests to its loopback address or localhost (use the address that it printed)";

/// Whether the request names this machine. Behind a loopback address only its names are accepted: otherwise a web page
/// could give its own name the address of this machine and read everything (DNS rebinding). On other addresses, names
/// are up to the network.
pub fn is_meant(bound: IpAddr, request: &Request) -> bool {
    if !bound.is_loopback() {
        return true;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        // The header came with HTTP/1.1, which every browser speaks.
        (None, None) => return request.version() == Version::HTTP_10,
        _ => return false,
    };
    let Ok(authority) = named.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(host: Option<&str>) -> Request {
        let builder = Request::builder().uri("/metrics");
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
        let mut old = request(None);
        *old.version_mut() = Version::HTTP_10;
        assert!(is_meant(loopback, &old));
        assert!(is_meant(IpAddr::from([10, 0, 0, 1]), &request(Some("fleet.example"))));
    }
}
