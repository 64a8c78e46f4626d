//! Answers that frps gives itself (server.md §7.1, §7.3, §7.9).

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use balancer::NoMember;
use bytes::Bytes;
use frp_proto::text::VERSION;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    RETRY_AFTER, SERVER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::body::Body;
use crate::Shared;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const REALM: HeaderValue = HeaderValue::from_static("Basic realm=\"Restricted\"");

/// Bytes a `custom404Page` may have: it is held in memory for every answer under way.
const MAX_PAGE: u64 = 1024 * 1024;

/// The built-in page, to the byte.
pub(in crate::vhost) const NOT_FOUND: &str = include_str!("not_found.html");

/// Why a request is refused before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    Request,
    NoHost,
    Host,
    TransferEncoding,
}

fn page(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::full(""));
    *response.status_mut() = status;
    // HTTP/2 would leave it out.
    let none = HeaderValue::from_static("0");
    response.headers_mut().insert(CONTENT_LENGTH, none);
    response
}

/// The answer to a request that is not understood; it ends the connection.
pub(super) fn malformed(why: Malformed) -> Response<Body> {
    let (status, text) = match why {
        Malformed::Request => (StatusCode::BAD_REQUEST, "400 Bad Request"),
        Malformed::NoHost => (
            StatusCode::BAD_REQUEST,
            "400 Bad Request: missing required Host header",
        ),
        Malformed::Host => (
            StatusCode::BAD_REQUEST,
            "400 Bad Request: malformed Host header",
        ),
        Malformed::TransferEncoding => {
            (StatusCode::NOT_IMPLEMENTED, "Unsupported transfer encoding")
        }
    };
    let mut response = page(status, PLAIN, text);
    closing(&mut response);
    if let Some(reason) = text.strip_prefix("400 ") {
        let reason = ReasonPhrase::from_static(reason.as_bytes());
        response.extensions_mut().insert(reason);
    }
    response
}

/// The answer to an `Expect` other than `100-continue`.
pub(super) fn expectation_failed() -> Response<Body> {
    let mut response = empty(StatusCode::EXPECTATION_FAILED);
    closing(&mut response);
    response
}

fn closing(response: &mut Response<Body>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// The answer when a group has members, and none for this request.
pub(super) fn unavailable(why: NoMember) -> Response<Body> {
    let mut response = page(
        StatusCode::SERVICE_UNAVAILABLE,
        PLAIN,
        format!("Service Unavailable: {why}\n"),
    );
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a credential that does not open the route.
pub(super) fn unauthorized(proxied: bool) -> Response<Body> {
    let (status, text, header): (_, _, HeaderName) = if proxied {
        (
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            "Proxy Authentication Required\n",
            PROXY_AUTHENTICATE,
        )
    } else {
        (StatusCode::UNAUTHORIZED, "Unauthorized\n", WWW_AUTHENTICATE)
    };
    let mut response = page(status, PLAIN, text);
    let headers = response.headers_mut();
    headers.insert(header, REALM);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The 404 page.
pub(super) async fn not_found(shared: &Shared) -> Response<Body> {
    match custom(shared).await {
        Some(body) => page(StatusCode::NOT_FOUND, sniffed(&body), body),
        None => page(StatusCode::NOT_FOUND, HTML, NOT_FOUND),
    }
}

/// The 404 page for CONNECT; it ends the connection.
pub(super) async fn not_found_connect(shared: &Shared) -> Response<Body> {
    let html = HeaderValue::from_static("text/html");
    let body = custom(shared).await;
    let body = body.unwrap_or(Bytes::from_static(NOT_FOUND.as_bytes()));
    let mut response = page(StatusCode::NOT_FOUND, html, body);
    if let Ok(server) = HeaderValue::from_str(&format!("frp/{VERSION}")) {
        response.headers_mut().insert(SERVER, server);
    }
    closing(&mut response);
    response
}

/// The content of `custom404Page`, if there is one that can be read.
pub(in crate::vhost) async fn custom(shared: &Shared) -> Option<Bytes> {
    let path = shared.now().settings.custom_404_page.clone()?;
    let read = tokio::task::spawn_blocking(|| read(path));
    match read.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
        Ok(page) => Some(page.into()),
        Err(e) => {
            tracing::warn!("read custom 404 page error: {e}");
            None
        }
    }
}

fn read(path: PathBuf) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    File::open(path)?
        .take(MAX_PAGE + 1)
        .read_to_end(&mut page)?;
    if page.len() as u64 > MAX_PAGE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(page)
}

/// The type of a page by its first bytes, as far as pages go (WHATWG MIME Sniffing §7.1).
fn sniffed(page: &[u8]) -> HeaderValue {
    const TAGS: [&[u8]; 17] = [
        b"<!doctype html",
        b"<html",
        b"<head",
        b"<script",
        b"<iframe",
        b"<h1",
        b"<div",
        b"<font",
        b"<table",
        b"<a",
        b"<style",
        b"<title",
        b"<b",
        b"<body",
        b"<br",
        b"<p",
        b"<!--",
    ];
    let page = &page[..page.len().min(512)];
    let start = page.trim_ascii_start();
    let begins_with = |tag: &&[u8]| {
        let (Some(head), next) = (start.get(..tag.len()), start.get(tag.len())) else {
            return false;
        };
        head.eq_ignore_ascii_case(tag) && (*tag == b"<!--" || matches!(next, Some(b' ' | b'>')))
    };
    if TAGS.iter().any(begins_with) {
        HTML
    } else if start.starts_with(b"<?xml") {
        HeaderValue::from_static("text/xml; charset=utf-8")
    } else if page
        .iter()
        .any(|b| matches!(b, 0..=8 | 11 | 14..=26 | 28..=31))
    {
        HeaderValue::from_static("application/octet-stream")
    } else {
        PLAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_upstreams() {
        assert_eq!(NOT_FOUND.len(), 489);
        assert!(NOT_FOUND.ends_with("</html>\n"));
    }

    #[test]
    fn the_type_of_a_page_is_that_of_its_first_bytes() {
        assert_eq!(sniffed(NOT_FOUND.as_bytes()), HTML);
        assert_eq!(sniffed(b" \n<HTML>"), HTML);
        assert_eq!(sniffed(b"<!--x"), HTML);
        assert_eq!(sniffed(b"<htmlx"), PLAIN);
        assert_eq!(sniffed(b"gone"), PLAIN);
        assert_eq!(sniffed(b""), PLAIN);
        assert_eq!(sniffed(b"<?xml?>"), "text/xml; charset=utf-8");
        assert_eq!(sniffed(b"a\0"), "application/octet-stream");
    }
}
