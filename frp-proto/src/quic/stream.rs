//! [`Stream`]: one stream as a byte stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A bidirectional stream. Reading and writing are cancel safe. Dropping it ends both directions.
///
/// Go's programs close both directions at once: they refuse what is still sent, and end what they send. Of that the end is
/// what counts, so writing into a direction that is refused succeeds until then, and what is on its way is not lost.
pub struct Stream {
    send: SendStream,
    receive: RecvStream,
    /// The peer has sent its last byte.
    ended: bool,
    /// One of the connection's accepted streams.
    counted: Option<Arc<AtomicUsize>>,
}

impl Stream {
    pub(super) fn new(
        send: SendStream,
        receive: RecvStream,
        counted: Option<Arc<AtomicUsize>>,
    ) -> Self {
        Self {
            send,
            receive,
            ended: false,
            counted,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(streams) = &self.counted {
            streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match ready!(this.receive.poll_read_buf(cx, buf)) {
            // What a Go peer answers to a refusal of ours.
            Err(ReadError::Reset(code)) if code.into_inner() == 0 => {}
            result => result?,
        }
        this.ended |= buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match ready!(Pin::new(&mut this.send).poll_write(cx, buf)) {
            Err(WriteError::Stopped(_)) if !this.ended => Poll::Ready(Ok(buf.len())),
            result => Poll::Ready(result.map_err(Into::into)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An error means that it is over already.
        let _ = self.get_mut().send.finish();
        Poll::Ready(Ok(()))
    }
}
