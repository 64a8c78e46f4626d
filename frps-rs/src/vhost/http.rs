//! The reverse proxy of `vhostHTTPPort` (server.md §7): HTTP/1 and, with prior knowledge, HTTP/2 from users; HTTP/1.1 over
//! kept-alive work connections to backends. Bodies stream in both directions and are never held.
//!
//! | module | holds |
//! |--|--|
//! | `io` | a user's connection, with the time limit for heads |
//! | `target`, `credential` | what a request asks for, and who asks |
//! | `sticky` | what picks of a member go by, and cookies that keep users with theirs |
//! | `routes`, `policy` | routes, groups, and what a route does to messages |
//! | `forward` | one request from its head to the head of its answer |
//! | `headers`, `query` | what is changed on the way |
//! | `pool`, `body` | connections to backends, and what gives them back |
//! | `upgrade` | exchanges that turn into byte streams |
//! | `pages` | answers of frps itself |

mod body;
pub(super) mod credential;
mod forward;
mod headers;
mod io;
mod load;
pub(super) mod pages;
mod policy;
pub(crate) mod pool;
mod query;
pub(crate) mod routes;
mod sticky;
pub(super) mod target;
mod upgrade;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use frp_proto::net::Conn;
use frp_proto::net::replay::Replay;
use http::{HeaderValue, Request};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use self::forward::User;
use self::io::{Gate, UserIo};
use crate::Shared;

/// How long the head of a request may take, from accept or from its first byte.
const HEAD_LIMIT: Duration = Duration::from_mins(1);
/// Bytes of a request's head, as upstream has it.
const MAX_HEAD: usize = 1024 * 1024 + 4096;
/// Bytes of a request's head in HTTP/2, which counts 32 for each field on top; keeps heads far from a header map's capacity.
const MAX_HEAD_HTTP2: u32 = 256 * 1024;
/// Requests at a time on an HTTP/2 connection, as upstream has it.
const MAX_STREAMS: u32 = 250;
/// Bytes that an HTTP/2 user may send ahead, by stream and by connection: each is held in memory if the backend is slow.
const WINDOW: u32 = 1024 * 1024;
/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one user from the first byte to the last, or until the server stops.
pub(crate) async fn serve_connection(shared: Arc<Shared>, mut conn: Conn, peer: SocketAddr) {
    let stop = shared.stop.clone();
    let served = async {
        let head = match tokio::time::timeout(HEAD_LIMIT, begin(&mut conn)).await {
            Ok(Ok(head)) if !head.is_empty() => head,
            Ok(Ok(_)) | Err(_) => return,
            Ok(Err(e)) => {
                tracing::debug!("user connection: {e}");
                return;
            }
        };
        let address = peer.ip().to_canonical().to_string();
        let user = Arc::new(User {
            address: HeaderValue::try_from(address).expect("an address is printable"),
            shared,
            peer,
            gate: Gate::default(),
        });
        let is_http2 = head.starts_with(PREFACE);
        let io = Replay::new(head, conn);
        let ended = if is_http2 {
            serve_http2(user, io).await
        } else {
            serve_http1(user, io).await
        };
        if let Err(e) = ended {
            tracing::debug!("user connection: {e}");
        }
    };
    stop.run_until_cancelled(served).await;
}

/// The first bytes, enough to know the protocol by; empty when there are none.
async fn begin(conn: &mut Conn) -> std::io::Result<Bytes> {
    let mut head = poll_fn(|cx| conn.poll_read_chunk(cx)).await?;
    while head.len() < PREFACE.len() && !head.is_empty() && PREFACE.starts_with(&head) {
        let more = poll_fn(|cx| conn.poll_read_chunk(cx)).await?;
        if more.is_empty() {
            break;
        }
        let mut longer = BytesMut::from(head);
        longer.extend_from_slice(&more);
        head = longer.freeze();
    }
    Ok(head)
}

async fn serve_http1(user: Arc<User>, io: Replay<Conn>) -> hyper::Result<()> {
    let io = TokioIo::new(UserIo::new(io, user.gate.clone()));
    let service = service_fn(move |request: Request<Incoming>| {
        let turn = user.gate.enter(request.body().is_end_stream());
        let user = user.clone();
        async move {
            let answer = forward::answer(&user, request).await;
            Ok::<_, Infallible>(answer.map(|body| body.in_turn(turn)))
        }
    });
    http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades()
        .await
}

async fn serve_http2(user: Arc<User>, io: Replay<Conn>) -> hyper::Result<()> {
    let tasks = Tasks(user.shared.tasks.clone());
    let service = service_fn(move |request| {
        let user = user.clone();
        async move { Ok::<_, Infallible>(forward::answer(&user, request).await) }
    });
    http2::Builder::new(tasks)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_HTTP2)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_connection(TokioIo::new(io), service)
        .await
}

/// Runs the streams of HTTP/2 connections where the server waits for them when it stops.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
