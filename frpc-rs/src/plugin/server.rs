//! What the HTTP plugins share: serving a connection, bodies, plain answers, hop-by-hop headers.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use frp_proto::net::{Conn, Io};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::join;

/// Bytes of a request's header: far more than browsers send, and also what a connection buffers at most.
const MAX_HEADER: usize = 256 * 1024;
/// As [`MAX_HEADER`], for HTTP/2, where it counts for each of many streams.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// Header fields of a request; browsers send some dozens.
const MAX_FIELDS: usize = 256;
/// Requests at a time on an HTTP/2 connection, as upstream.
const MAX_STREAMS: u32 = 250;

/// For a request's header, and for the pause before it: longer than the 60 s after which frps itself ends a connection that it
/// keeps, so that its next request does not meet our end.
const HEADER_LIMIT: Duration = Duration::from_secs(75);
/// How often an HTTP/2 client shows that it is still there, and how long it may take.
const PING_INTERVAL: Duration = Duration::from_mins(1);
const PING_LIMIT: Duration = Duration::from_secs(20);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What takes the connection over after the answer to an upgrade, if anything does.
#[derive(Clone, Default)]
pub(super) struct Tunnel(Arc<Mutex<Option<(OnUpgrade, OnUpgrade)>>>);

impl Tunnel {
    /// Joins both ends as soon as their HTTP has ended.
    pub(super) fn open(&self, user: OnUpgrade, service: OnUpgrade) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((user, service));
    }

    async fn run(self) {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((user, service)) = ends else {
            return;
        };
        match tokio::try_join!(user, service) {
            Ok((user, service)) => {
                let [user, service] =
                    [user, service].map(|upgraded| Conn::Other(Box::new(TokioIo::new(upgraded))));
                join(user, service).await;
            }
            Err(e) => tracing::trace!("upgrade: {e}"),
        }
    }
}

/// Serves HTTP/1.1, and then what a request has upgraded to.
pub(super) async fn serve<F, R>(io: impl Io, tunnel: Tunnel, answer: F)
where
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answered = check(&request)
            .map_err(|refusal| *refusal)
            .map(|()| answer(request));
        async {
            Ok::<_, Infallible>(match answered {
                Ok(answer) => answer.await,
                Err(refusal) => refusal,
            })
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_FIELDS)
        .preserve_header_case(true)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
    if let Err(e) = served {
        tracing::trace!("http server: {e}");
    }
    tunnel.run().await;
}

/// Serves HTTP/2.
pub(super) async fn serve_http2<F, R>(io: impl Io, answer: F)
where
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(e) = served {
        tracing::trace!("http2 server: {e}");
    }
}

/// A request must name one host (RFC 9112 §3.2).
fn check(request: &Request<Incoming>) -> Result<(), Box<Response<Body>>> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let why = match hosts {
        0 if request.version() == Version::HTTP_11 => {
            "400 Bad Request: missing required Host header"
        }
        0 | 1 => return Ok(()),
        _ => "400 Bad Request: too many Host headers",
    };
    let mut response = Response::new(full(why));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PLAIN_TEXT);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Err(Box::new(response))
}

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn empty() -> Body {
    Empty::new()
        .map_err(|e: Infallible| match e {})
        .boxed_unsync()
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|e: Infallible| match e {})
        .boxed_unsync()
}

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An answer with a line of text.
pub(super) fn error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PLAIN_TEXT);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// What a body is sent on as: as it comes, or not at all where there is none.
pub(super) fn passed_on(body: Incoming) -> Body {
    use hyper::body::Body as _;
    if body.is_end_stream() {
        empty()
    } else {
        body.map_err(Into::into).boxed_unsync()
    }
}

/// Headers for the next hop only (RFC 9110 §7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes out what is for the next hop only.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The protocol a message asks, or agrees, to switch to.
pub(super) fn upgrade_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| wanted).cloned()
}

/// Whether a request may be sent twice when nobody knows whether it has arrived.
pub(super) fn is_repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_for_the_next_hop_are_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("x-stays", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "secret"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-stays"]);
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        assert_eq!(upgrade_protocol(&headers), None);
        headers.insert(
            "connection",
            HeaderValue::from_static("keep-alive, Upgrade"),
        );
        assert_eq!(upgrade_protocol(&headers).unwrap(), "websocket");
    }
}
