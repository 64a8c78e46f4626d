//! Sockets, TLS and limits (admin-api.md §1.1).

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::net::{Io, listen};
use frp_proto::telemetry::Sink;
use frp_proto::tls::ServerTls;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failures::Failures;
use crate::response::Body;
use crate::router::Asker;
use crate::write_limit::WriteLimit;
use crate::{Access, Router, WebServer, audit};

/// For the head of a request, and for how long a connection may be without any.
const HEAD_LIMIT: Duration = Duration::from_mins(1);
/// How long a peer may take nothing of a response.
const WRITE_LIMIT: Duration = Duration::from_mins(1);
/// For the TLS handshake.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// How long a stop waits for responses that are under way.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How often TLS files are looked at for changes.
const TLS_WATCH_PERIOD: Duration = Duration::from_secs(5);
/// Connections at a time; more wait in the backlog. Each may hold a request's head or, once its asker is known, a body.
const MAX_CONNECTIONS: usize = 256;
/// Bytes of a request's head, and of a connection's read buffer.
const MAX_HEAD: usize = 64 * 1024;
/// Idle seconds before TCP keepalive probes.
const KEEPALIVE_SECS: i64 = 15;
/// What a TLS port tells who speaks plain HTTP to it, as Go does.
const PLAIN_TO_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A server whose port is bound and that answers once [`Server::serve`] runs.
pub struct Server {
    listener: TcpListener,
    tls: Option<ServerTls>,
    access: Access,
    audit: Sink,
}

/// What every connection needs.
struct Shared {
    router: Router,
    access: Access,
    audit: Sink,
    failures: Failures,
    tls: Option<ServerTls>,
    stop: CancellationToken,
}

impl Server {
    /// Loads TLS material and binds the port. The texts of errors are Go's.
    pub async fn bind(settings: &WebServer) -> io::Result<Self> {
        let tls = settings.tls.clone().map(ServerTls::new).transpose();
        let tls = tls.map_err(io::Error::other)?;
        Ok(Self {
            listener: listen::bind(&settings.addr, settings.port).await?,
            tls,
            access: settings.access.clone(),
            audit: Sink::default(),
        })
    }

    /// Tells `audit` of all requests that may change something, and of those that are not let in.
    #[must_use]
    pub fn audited(self, audit: Sink) -> Self {
        Self { audit, ..self }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled, then finishes what is under way. An error says why the listener broke.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> io::Result<()> {
        let Self {
            listener,
            tls,
            access,
            audit,
        } = self;
        let watch = tls.clone();
        let watch = async move {
            match watch {
                Some(tls) => tls.watch(TLS_WATCH_PERIOD).await,
                None => std::future::pending().await,
            }
        };
        let connections = TaskTracker::new();
        let shared = Arc::new(Shared {
            router,
            access,
            audit,
            failures: Failures::default(),
            tls,
            stop: stop.child_token(),
        });
        let result = tokio::select! {
            result = accept(&shared, &listener, &connections) => result,
            () = watch => Ok(()),
            () = stop.cancelled() => Ok(()),
        };
        drop(listener);
        shared.stop.cancel();
        connections.close();
        // A connection that outlives the grace is dropped with the runtime.
        let _ = timeout(STOP_GRACE, connections.wait()).await;
        result
    }
}

/// Accepts until the listener fails for good.
async fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    connections: &TaskTracker,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return Ok(());
        };
        let (stream, peer) = listen::accept(listener).await?;
        let shared = shared.clone();
        connections.spawn(async move {
            if let Err(e) = connection(&shared, stream, peer).await {
                tracing::debug!("admin connection [{peer}]: {e}");
            }
            drop(slot);
        });
    }
}

/// Serves one connection to its end.
async fn connection(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    listen::set_options(&stream, KEEPALIVE_SECS)?;
    let Some(tls) = &shared.tls else {
        return requests(shared, stream, peer).await;
    };
    let handshake = async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first[0].is_ascii_uppercase() {
            Box::pin(refuse_plain(stream)).await?;
            return Ok(None);
        }
        Box::pin(tls.accept(stream)).await.map(Some)
    };
    let handshake = async { timeout(TLS_LIMIT, handshake).await? };
    match shared.stop.run_until_cancelled(handshake).await {
        Some(Ok(Some(stream))) => requests(shared, stream, peer).await,
        Some(Ok(None)) | None => Ok(()),
        Some(Err(e)) => Err(e),
    }
}

/// Answers a plain request. What was sent is read first: unread bytes would reset the connection under the answer.
async fn refuse_plain(mut stream: TcpStream) -> io::Result<()> {
    let mut sent = [0; 4096];
    let _ = stream.read(&mut sent).await?;
    stream.write_all(PLAIN_TO_TLS).await?;
    stream.shutdown().await
}

async fn requests<S: Io>(shared: &Arc<Shared>, stream: S, peer: SocketAddr) -> io::Result<()> {
    let asker = Asker {
        access: &shared.access,
        failures: &shared.failures,
        peer: peer.ip(),
    };
    let service = service_fn(|request: hyper::Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let answer = shared
            .router
            .answer(asker, &head.method, &head.uri, &head.headers, body)
            .await;
        audit::tell(&shared.audit, peer, &head, answer.status());
        Ok::<hyper::Response<Body>, std::convert::Infallible>(answer.into())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(WriteLimit::new(stream, WRITE_LIMIT)), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    served.map_err(io::Error::other)
}
