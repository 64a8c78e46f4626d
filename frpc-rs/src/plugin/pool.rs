//! HTTP/1.1 requests to services, over connections that are kept for the next request.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use frp_proto::net::Conn;
use frp_proto::tls::{ClientTls, TlsFiles};
use http::{Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tower_service::Service;

use super::server::{Body, empty, is_repeatable};
use super::target;

/// Idle connections to one service.
const MAX_IDLE: usize = 64;
/// How long a connection waits for the next request: shorter than services close theirs.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// For the TLS handshake with a service.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer's header.
const MAX_HEADER: usize = 256 * 1024;
/// Header fields of an answer.
const MAX_FIELDS: usize = 256;

/// Where requests go.
#[derive(Clone)]
pub(super) enum Route {
    /// To the host that each request names.
    Requested,
    /// To one address.
    Fixed(Arc<str>),
    /// To one address over TLS, without verification, as people have self-signed certificates there.
    FixedTls(Arc<str>, ClientTls),
}

impl Route {
    pub(super) fn to(address: &str) -> Self {
        Self::Fixed(address.into())
    }

    pub(super) fn to_https(address: &str) -> Self {
        Self::FixedTls(address.into(), ClientTls::new(TlsFiles::default()))
    }

    async fn connect(&self, uri: &Uri) -> io::Result<Conn> {
        Ok(match self {
            Self::Requested => {
                let host = uri.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Conn::Tcp(target::connect_to(host, uri.port_u16().unwrap_or(80)).await?)
            }
            Self::Fixed(address) => Conn::Tcp(target::connect(address).await?),
            Self::FixedTls(address, tls) => {
                let stream = target::connect(address).await?;
                let handshake = tls.connect(stream, target::host(address));
                let handshake = timeout(TLS_LIMIT, handshake).await;
                let stream = handshake.map_err(|_| {
                    io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")
                })??;
                Conn::Other(Box::new(stream))
            }
        })
    }
}

/// A pool of connections, and what is asked over them.
#[derive(Clone)]
pub(super) struct Pool(Client<Connector, Body>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    pub(super) fn new(route: Route) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_HEADER)
            .http1_max_headers(MAX_FIELDS)
            .http1_preserve_header_case(true)
            .http1_title_case_headers(true)
            .set_host(false)
            .build(Connector(route));
        Self(client)
    }

    /// Sends a request, which has an absolute URI, and waits for the head of the answer. A service may close a kept connection
    /// just as the request goes out: what may be repeated is tried once more then. Errors read as in Go.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, String> {
        let (parts, body) = request.into_parts();
        let again = (is_repeatable(&parts.method) && body.is_end_stream()).then(|| parts.clone());
        let answer = match (
            self.0.request(Request::from_parts(parts, body)).await,
            again,
        ) {
            (Err(e), Some(parts)) if !e.is_connect() => {
                self.0.request(Request::from_parts(parts, empty())).await
            }
            (answer, _) => answer,
        };
        answer.map_err(|e| cause(&e))
    }
}

/// The innermost error: what people know.
fn cause(mut e: &dyn std::error::Error) -> String {
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}

#[derive(Clone)]
struct Connector(Route);

impl Service<Uri> for Connector {
    type Response = TokioIo<ServiceConn>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let route = self.0.clone();
        Box::pin(async move {
            let conn = route.connect(&uri).await?;
            Ok(TokioIo::new(ServiceConn(conn)))
        })
    }
}

/// A connection to a service, as the pool wants it.
struct ServiceConn(Conn);

impl Connection for ServiceConn {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for ServiceConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServiceConn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
