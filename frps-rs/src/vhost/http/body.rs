//! Bodies on their way through: a request's tells when it has been passed on, a response's gives its connection back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use balancer::Outcome;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::io::{Gate, Turn};
use super::pool::{Lease, Pool};
use crate::balance::Usage;
use crate::metrics::Failure;
use crate::records::Exchange;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// How long a connection that broke may take to give a body back.
const GIVE_BACK_LIMIT: Duration = Duration::from_millis(100);
/// A response that takes longer is a stream.
const LONG: Duration = Duration::from_secs(30);
/// As `LONG`, of gRPC.
const LONG_GRPC: Duration = Duration::from_secs(10);

/// The body of a request to a backend.
pub(super) struct Upload {
    /// What goes first: a previous try has sent it already.
    again: VecDeque<Bytes>,
    body: Option<Incoming>,
    /// What has been sent, as long as it may be sent again.
    kept: Option<Kept>,
    /// Told when all of the body has come.
    gate: Option<Gate>,
    /// Told when the upload is dropped, which is when it has been written, or never will be.
    done: Option<oneshot::Sender<Option<Remains>>>,
    /// How many bytes of the body have passed.
    passed: Option<Arc<AtomicU64>>,
}

/// Bytes for another try, and how many more there may be.
struct Kept {
    frames: Vec<Bytes>,
    left: usize,
}

/// All that is needed to send a body again.
struct Remains {
    kept: Kept,
    body: Option<Incoming>,
    /// Told when all of the body has come.
    gate: Option<Gate>,
}

/// Tells when the [`Upload`] is over, and how much of it there was.
pub(super) struct Uploaded {
    over: Option<oneshot::Receiver<Option<Remains>>>,
    remains: Option<Remains>,
    passed: Option<Arc<AtomicU64>>,
}

impl Upload {
    /// The body can be sent again as long as no more than `keep` bytes have been sent. `gate` is told when the user has sent
    /// all of it.
    pub(super) fn new(body: Incoming, keep: usize, gate: &Gate) -> (Self, Uploaded) {
        if body.is_end_stream() {
            return (Self::empty(), Uploaded::over());
        }
        let kept = (keep > 0).then(|| Kept {
            frames: Vec::new(),
            left: keep,
        });
        let (gate, passed) = (Some(gate.clone()), Some(Arc::default()));
        Self::begin(VecDeque::new(), Some(body), kept, gate, passed)
    }

    fn begin(
        again: VecDeque<Bytes>,
        body: Option<Incoming>,
        kept: Option<Kept>,
        gate: Option<Gate>,
        passed: Option<Arc<AtomicU64>>,
    ) -> (Self, Uploaded) {
        let (done, over) = oneshot::channel();
        let upload = Self {
            again,
            body,
            kept,
            gate,
            done: Some(done),
            passed: passed.clone(),
        };
        let uploaded = Uploaded {
            over: Some(over),
            remains: None,
            passed,
        };
        (upload, uploaded)
    }

    pub(super) fn empty() -> Self {
        Self {
            again: VecDeque::new(),
            body: None,
            kept: None,
            gate: None,
            done: None,
            passed: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.body.is_none()
    }

    /// Keeps what is about to be sent. Trailers cannot be kept.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        match frame.data_ref() {
            Some(data) if data.len() <= kept.left => {
                kept.left -= data.len();
                kept.frames.push(data.clone());
            }
            _ => self.kept = None,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            let remains = self.kept.take().filter(|_| self.again.is_empty());
            let body = self.body.take();
            // Nobody may be interested any more.
            let gate = self.gate.take();
            let _ = done.send(remains.map(|kept| Remains { kept, body, gate }));
        }
    }
}

impl Uploaded {
    /// There is nothing to wait for.
    pub(super) fn over() -> Self {
        Self {
            over: None,
            remains: None,
            passed: None,
        }
    }

    /// Bytes that have passed so far.
    pub(super) fn bytes(&self) -> u64 {
        let passed = self.passed.as_ref();
        passed.map_or(0, |n| n.load(Ordering::Relaxed))
    }

    /// Waits for the end. Cancel safe.
    pub(super) async fn wait(&mut self) {
        if let Some(over) = &mut self.over {
            self.remains = over.await.ok().flatten();
            self.over = None;
        }
    }

    pub(super) fn is_over(&mut self) -> bool {
        let Some(over) = &mut self.over else {
            return true;
        };
        match over.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => false,
            Ok(_) | Err(oneshot::error::TryRecvError::Closed) => true,
        }
    }

    /// The body once more, after a try that has `sent` one or not; `None` if it is not there any more.
    pub(super) async fn again(&mut self, sent: bool) -> Option<Upload> {
        if !sent {
            return Some(Upload::empty());
        }
        timeout(GIVE_BACK_LIMIT, self.wait()).await.ok()?;
        let Remains { kept, body, gate } = self.remains.take()?;
        let again = kept.frames.iter().cloned().collect();
        let (upload, uploaded) = Upload::begin(again, body, Some(kept), gate, self.passed.take());
        *self = uploaded;
        Some(upload)
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(data) = self.again.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Self { body, gate, .. } = &mut *self;
        let Some(body) = body else {
            return Poll::Ready(None);
        };
        let ended = gate.as_ref().is_some_and(Gate::ended);
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            if let Some(gate) = gate {
                gate.starve(cx, ended);
            }
            return Poll::Pending;
        };
        if let Some(gate) = gate
            && !matches!(&frame, Some(Ok(_)) if !body.is_end_stream())
        {
            gate.received();
        }
        if let Some(Ok(frame)) = &frame {
            if let Some(passed) = &self.passed {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                passed.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            self.keep(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        let mut hint = self.body.as_ref().map_or(none, HttpBody::size_hint);
        let again: u64 = self.again.iter().map(|data| data.len() as u64).sum();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + again);
        }
        hint.set_lower(hint.lower() + again);
        hint
    }
}

/// The body of a response to a user.
pub(super) struct Body {
    source: Source,
    turn: Option<Turn>,
    exchange: Option<Box<Exchange>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of a backend, and a box would be an allocation for each"
)]
enum Source {
    Own(Bytes),
    Backend {
        body: Incoming,
        lease: Option<Lease>,
        uploaded: Uploaded,
        usage: Option<Serving>,
    },
}

/// The use of a member by a response.
pub(super) struct Serving {
    usage: Usage<Pool>,
    began: Instant,
    is_grpc: bool,
    is_stream: bool,
}

impl Serving {
    /// A response that has just begun with this head; says to the balancer what that tells.
    pub(super) fn new(mut usage: Usage<Pool>, status: StatusCode, headers: &HeaderMap) -> Self {
        let seconds = |name: &HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            value.parse().ok().map(Duration::from_secs)
        };
        let kind = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let is_grpc = kind.starts_with(b"application/grpc");
        if !is_grpc {
            usage.first_byte(Outcome::of_status(status.as_u16(), seconds(&RETRY_AFTER)));
        } else if let Some(outcome) = grpc_outcome(headers) {
            usage.first_byte(outcome);
        } else {
            usage.answered();
        }
        let is_stream = kind.starts_with(b"text/event-stream");
        Self {
            usage: if is_stream {
                usage.into_stream()
            } else {
                usage
            },
            began: Instant::now(),
            is_grpc,
            is_stream,
        }
    }

    /// Bytes pass.
    fn go_on(self) -> Self {
        let limit = if self.is_grpc { LONG_GRPC } else { LONG };
        if self.is_stream || self.began.elapsed() < limit {
            return self;
        }
        Self {
            usage: self.usage.into_stream(),
            is_stream: true,
            ..self
        }
    }
}

/// What trailers, or a head in their place, say of a gRPC call.
fn grpc_outcome(headers: &HeaderMap) -> Option<Outcome> {
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.parse::<u32>().ok();
    let pushback = number(&GRPC_PUSHBACK).map(|ms| Duration::from_millis(ms.into()));
    Some(Outcome::of_grpc(number(&GRPC_STATUS)?, pushback))
}

impl Body {
    /// Bytes that are there already.
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Own(bytes.into()),
            turn: None,
            exchange: None,
        }
    }

    /// What a backend sends. Its connection is free when the body is at its end, and closed when the body is dropped before.
    pub(super) fn of_backend(
        body: Incoming,
        lease: Lease,
        mut uploaded: Uploaded,
        usage: Serving,
    ) -> Self {
        let (mut lease, mut usage) = (Some(lease), Some(usage));
        uploaded.remains = None;
        if body.is_end_stream() {
            give_back(&mut lease, &mut uploaded);
            end(&mut usage, Outcome::Ok);
        }
        Self {
            source: Source::Backend {
                body,
                lease,
                uploaded,
                usage,
            },
            turn: None,
            exchange: None,
        }
    }

    /// Holds `turn` as long as the body is not done with.
    pub(super) fn in_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }
}

impl Body {
    /// Ends this exchange when it is dropped.
    pub(super) fn of_exchange(mut self, exchange: Exchange) -> Self {
        self.exchange = Some(Box::new(exchange));
        self
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match frame {
            Some(Ok(frame)) => exchange.add(0, frame.data_ref().map_or(0, Bytes::len) as u64),
            Some(Err(_)) => exchange.failed(Failure::Backend),
            None => {}
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let over = self.is_end_stream();
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        if let Source::Backend { uploaded, .. } = &self.source {
            exchange.add(uploaded.bytes(), 0);
        }
        if over {
            exchange.complete();
        }
    }
}

/// At the end of a response. A backend that answers before it has read the request has left its connection in the middle of
/// one, so that it is closed.
fn give_back(lease: &mut Option<Lease>, uploaded: &mut Uploaded) {
    if let Some(lease) = lease.take()
        && uploaded.is_over()
    {
        lease.give_back();
    }
}

fn end(usage: &mut Option<Serving>, outcome: Outcome) {
    if let Some(serving) = usage.take() {
        serving.usage.finish(outcome);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match &mut self.source {
            Source::Own(bytes) if bytes.is_empty() => None,
            Source::Own(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Backend {
                body,
                lease,
                uploaded,
                usage,
            } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match &frame {
                    Some(Err(e)) => {
                        tracing::warn!("httputil: ReverseProxy read error during body copy: {e}");
                        *lease = None;
                        end(usage, Outcome::Local);
                    }
                    Some(Ok(frame)) if frame.is_trailers() || body.is_end_stream() => {
                        let outcome = frame.trailers_ref().and_then(grpc_outcome);
                        give_back(lease, uploaded);
                        end(usage, outcome.unwrap_or(Outcome::Ok));
                    }
                    Some(Ok(_)) => *usage = usage.take().map(Serving::go_on),
                    None => {
                        give_back(lease, uploaded);
                        end(usage, Outcome::Ok);
                    }
                }
                frame
            }
        };
        self.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_empty(),
            Source::Backend { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Backend { body, .. } => body.size_hint(),
        }
    }
}
