//! Who changed what over the API, or tried to.

use std::net::SocketAddr;

use frp_proto::telemetry::Sink;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde::Serialize;

use crate::access;

/// Paths that change something though they are asked for with `GET`.
const CHANGING: [&str; 1] = ["/api/reload"];

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    source: String,
    /// As the request says; only true with a status other than 401.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    status: u16,
}

/// Tells of a request if it may have changed something, or was not let in.
pub(crate) fn tell(audit: &Sink, peer: SocketAddr, request: &Parts, status: StatusCode) {
    if !audit.is_on() || !counts(&request.method, request.uri.path(), status) {
        return;
    }
    let authorization = request.headers.get(AUTHORIZATION);
    audit.write(&Line {
        event: "admin",
        source: peer.to_string(),
        user: authorization.and_then(|value| access::user(value.as_bytes())),
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query(),
        status: status.as_u16(),
    });
}

fn counts(method: &Method, path: &str, status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED
        || CHANGING.contains(&path)
        || ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_not_told_unless_it_was_refused() {
        let (ok, no) = (StatusCode::OK, StatusCode::UNAUTHORIZED);
        for (method, path, status, told) in [
            (Method::GET, "/api/status", ok, false),
            (Method::GET, "/api/status", no, true),
            (Method::GET, "/api/reload", ok, true),
            (Method::POST, "/api/stop", ok, true),
            (
                Method::DELETE,
                "/api/proxies",
                StatusCode::BAD_REQUEST,
                true,
            ),
        ] {
            assert_eq!(counts(&method, path, status), told, "{method} {path}");
        }
    }
}
