//! Bodies on their way through: a request's tells when it has been passed on, a response's gives its connection back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

use super::io::{Gate, Turn};
use super::pool::Lease;

/// The body of a request to a backend.
pub(super) struct Upload {
    body: Option<Incoming>,
    /// Told when all of the body has come.
    gate: Option<Gate>,
    /// Dropped with the upload, which is when it has been written, or never will be.
    _done: Option<oneshot::Sender<()>>,
}

/// Tells when the [`Upload`] is over.
pub(super) struct Uploaded(Option<oneshot::Receiver<()>>);

impl Upload {
    /// `gate` is told when the user has sent all of it.
    pub(super) fn new(body: Incoming, gate: &Gate) -> (Self, Uploaded) {
        if body.is_end_stream() {
            return (Self::empty(), Uploaded::over());
        }
        let (done, over) = oneshot::channel();
        let upload = Self {
            body: Some(body),
            gate: Some(gate.clone()),
            _done: Some(done),
        };
        (upload, Uploaded(Some(over)))
    }

    pub(super) fn empty() -> Self {
        Self {
            body: None,
            gate: None,
            _done: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.is_none()
    }
}

impl Uploaded {
    /// There is nothing to wait for.
    pub(super) fn over() -> Self {
        Self(None)
    }

    /// Waits for the end. Cancel safe.
    pub(super) async fn wait(&mut self) {
        if let Some(over) = &mut self.0 {
            // It ends by being dropped.
            let _ = over.await;
            self.0 = None;
        }
    }

    pub(super) fn is_over(&mut self) -> bool {
        match &mut self.0 {
            None => true,
            Some(over) => over.try_recv() == Err(oneshot::error::TryRecvError::Closed),
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if !matches!(&frame, Some(Ok(_)) if !body.is_end_stream()) {
            self.gate.iter().for_each(Gate::received);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, HttpBody::size_hint)
    }
}

/// The body of a response to a user.
pub(super) struct Body {
    source: Source,
    turn: Option<Turn>,
}

enum Source {
    Own(Bytes),
    Backend {
        body: Incoming,
        lease: Option<Lease>,
        uploaded: Uploaded,
    },
}

impl Body {
    /// Bytes that are there already.
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Own(bytes.into()),
            turn: None,
        }
    }

    /// What a backend sends. Its connection is free when the body is at its end, and closed when the body is dropped before.
    pub(super) fn of_backend(body: Incoming, lease: Lease, uploaded: Uploaded) -> Self {
        let mut lease = Some(lease);
        let mut uploaded = uploaded;
        if body.is_end_stream() {
            give_back(&mut lease, &mut uploaded);
        }
        Self {
            source: Source::Backend {
                body,
                lease,
                uploaded,
            },
            turn: None,
        }
    }

    /// Holds `turn` as long as the body is not done with.
    pub(super) fn in_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
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

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.source {
            Source::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Backend {
                body,
                lease,
                uploaded,
            } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match &frame {
                    Some(Err(e)) => {
                        tracing::warn!("httputil: ReverseProxy read error during body copy: {e}");
                        *lease = None;
                    }
                    Some(Ok(_)) if !body.is_end_stream() => {}
                    Some(Ok(_)) | None => give_back(lease, uploaded),
                }
                Poll::Ready(frame)
            }
        }
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
