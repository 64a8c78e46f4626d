//! What applications hold: sessions and streams.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::driver::now;
use super::engine::{BACKLOG, Engine, Fault};
use super::stream::StreamError;
use super::{Config, Role, SessionError};

/// What the driver and all handles of a session share.
pub(super) struct Shared {
    engine: Mutex<Engine>,
    /// Opens that are still free.
    opens: Semaphore,
    finished: CancellationToken,
}

impl Shared {
    pub(super) fn new(role: Role, config: Config, now: Instant) -> Self {
        Self {
            engine: Mutex::new(Engine::new(role, config, now)),
            opens: Semaphore::new(BACKLOG),
            finished: CancellationToken::new(),
        }
    }

    /// Uses the engine, and wakes whom that concerns after letting go of it.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Engine) -> R) -> R {
        let (result, effects) = {
            let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            (f(&mut engine), engine.take_effects())
        };
        if effects.opens > 0 {
            self.opens.add_permits(effects.opens);
        }
        if effects.no_opens {
            self.opens.close();
        }
        for waker in effects.wakers {
            waker.wake();
        }
        result
    }

    /// Ends the session, if it has not, and says how it did.
    pub(super) fn finish(&self) -> Result<(), SessionError> {
        let fault = self.with(|e| {
            e.end(Fault::Closed);
            e.ended().cloned()
        });
        self.finished.cancel();
        match fault {
            None | Some(Fault::Closed | Fault::Eof) => Ok(()),
            Some(fault) => Err(fault.into()),
        }
    }

    fn fault(&self) -> Fault {
        self.with(|e| e.ended().cloned()).unwrap_or(Fault::Closed)
    }

    fn error(&self, error: StreamError) -> io::Error {
        match error {
            StreamError::Reset => io::Error::new(io::ErrorKind::ConnectionReset, "stream reset"),
            StreamError::Finished => io::Error::new(io::ErrorKind::BrokenPipe, "stream closed"),
            StreamError::Session => io::Error::new(
                io::ErrorKind::ConnectionReset,
                SessionError::from(self.fault()),
            ),
        }
    }
}

/// Handle of a session: opens streams, closes all. Cheap to clone; dropping it does not end the session.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens a stream; waits, in turn, while 256 opens are unacknowledged. Fails when the session has ended, the peer takes
    /// no more streams, [`Config::max_streams`] is reached, or the ids are used up. Cancel safe.
    pub async fn open(&self) -> Result<Stream, SessionError> {
        let permit = self.shared.opens.acquire().await;
        let id = self.shared.with(|e| e.open(now()))?;
        if let Ok(permit) = permit {
            permit.forget();
        }
        Ok(Stream {
            id,
            shared: self.shared.clone(),
        })
    }

    /// Ends the session: streams fail, queued frames (FINs, last data) are still written for up to 1 s, then the transport
    /// is shut down.
    pub fn close(&self) {
        self.shared.with(|e| e.end(Fault::Closed));
    }

    /// Resolves when the session has ended and its driver is done. Cancel safe.
    pub async fn closed(&self) {
        self.shared.finished.cancelled().await;
    }
}

/// Streams the peer opened. Without it they are reset.
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Next stream of the peer; `None` when the session ended. Cancel safe.
    ///
    /// A stream may wait here for 75 s at most: then a Go peer gives up the session. Up to 256 wait; more are reset.
    pub async fn accept(&mut self) -> Option<Stream> {
        std::future::poll_fn(|cx| self.shared.with(|e| e.accept(cx.waker())))
            .await
            .map(|id| Stream {
                id,
                shared: self.shared.clone(),
            })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.with(Engine::stop_accepting);
    }
}

/// One stream.
///
/// A write is done when it is queued; the driver sends it without a flush. Shutdown sends the end behind what is queued,
/// and reading goes on. Dropping the stream after a shutdown still sends all; the peer then has 5 minutes to finish, and
/// is reset if it goes on to send much. Dropping it without a shutdown resets it and discards what is queued.
pub struct Stream {
    id: u32,
    shared: Arc<Shared>,
}

impl Stream {
    /// Stream id, for logs.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Zero-copy read: the next chunk, empty at EOF.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.poll_take(cx, usize::MAX)
    }

    /// Zero-copy write: takes from the front of `data` what the window and the queue allow (at least 1 byte when ready,
    /// unless `data` is empty).
    pub fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.shared
            .with(|e| e.write_chunk(self.id, data, cx.waker()))
            .map_err(|e| self.shared.error(e))
    }

    fn poll_take(&self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        self.shared
            .with(|e| e.read(self.id, max, cx.waker()))
            .map_err(|e| self.shared.error(e))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        while buf.remaining() > 0 {
            match self.poll_take(cx, buf.remaining()) {
                Poll::Ready(Ok(chunk)) if !chunk.is_empty() => buf.put_slice(&chunk),
                // Whatever it is, the next read finds it again.
                _ if buf.filled().len() > start => break,
                end => return end.map_ok(drop),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared
            .with(|e| e.write(self.id, data, cx.waker()))
            .map_err(|e| self.shared.error(e))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.shared
                .with(|e| e.shutdown(self.id))
                .map_err(|e| self.shared.error(e)),
        )
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.with(|e| e.drop_stream(self.id, now()));
    }
}
