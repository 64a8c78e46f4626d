//! A user's connection as hyper reads it: bytes that were read already come first, and a request head that does not
//! arrive ends it. An idle connection may stay as long as it likes (server.md §7.1).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use frp_proto::net::Conn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::HEAD_LIMIT;

/// A connection and what has been read from it ahead of time.
pub(crate) struct Prefixed {
    head: Bytes,
    conn: Conn,
}

impl Prefixed {
    pub(crate) fn new(head: Bytes, conn: Conn) -> Self {
        Self { head, conn }
    }

    /// The plain connection when nothing is ahead of it. `read` was taken from it last.
    pub(crate) fn into_conn(self, read: Bytes) -> Conn {
        let head = match (self.head.is_empty(), read.is_empty()) {
            (true, true) => return self.conn,
            (true, false) => read,
            (false, true) => self.head,
            (false, false) => [read, self.head].concat().into(),
        };
        Conn::Other(Box::new(Self::new(head, self.conn)))
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.conn).poll_read(cx, buf);
        }
        let n = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..n]);
        self.head.advance(n);
        if self.head.is_empty() {
            self.head = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Writing does not concern what lies around the connection.
macro_rules! write_through {
    ($type:ty, $inner:ident) => {
        impl AsyncWrite for $type {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.$inner).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.$inner).poll_write_vectored(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.$inner.is_write_vectored()
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.$inner).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.$inner).poll_shutdown(cx)
            }
        }
    };
}

write_through!(Prefixed, conn);
write_through!(UserIo, io);

/// Whether a request is being served on an HTTP/1 connection.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<AtomicBool>);

/// A request that is being served, until the last byte of its answer has been taken.
pub(super) struct Turn(Gate);

impl Gate {
    pub(super) fn enter(&self) -> Turn {
        self.0.store(true, Ordering::Relaxed);
        Turn(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// An HTTP/1 connection of a user.
pub(super) struct UserIo {
    io: Prefixed,
    gate: Gate,
    /// Bytes of a head have come and no request has.
    begun: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl UserIo {
    pub(super) fn new(io: Prefixed, gate: Gate) -> Self {
        Self {
            io,
            gate,
            begun: false,
            deadline: None,
        }
    }

    pub(super) fn into_inner(self) -> Prefixed {
        self.io
    }
}

impl AsyncRead for UserIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.gate.is_busy() {
            self.begun = false;
            self.deadline = None;
        } else if read.is_ready() {
            self.begun = true;
        } else if self.begun {
            let deadline = self
                .deadline
                .get_or_insert_with(|| Box::pin(sleep(HEAD_LIMIT)));
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    fn user(head: &'static [u8]) -> (UserIo, Gate, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let gate = Gate::default();
        let io = Prefixed::new(Bytes::from_static(head), Conn::Other(Box::new(near)));
        (UserIo::new(io, gate.clone()), gate, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_must_come() {
        let (mut io, _, mut far) = user(b"GET");
        let began = Instant::now();
        far.write_all(b" /").await.unwrap();
        let mut all = Vec::new();
        let error = io.read_to_end(&mut all).await.unwrap_err();
        assert_eq!(all, b"GET /");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), HEAD_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_busy_connections_may_wait() {
        let day = Duration::from_hours(24);
        let (mut io, gate, mut far) = user(b"");
        assert!(timeout(day, io.read_u8()).await.is_err());

        far.write_all(b"x").await.unwrap();
        io.read_u8().await.unwrap();
        let turn = gate.enter();
        assert!(timeout(day, io.read_u8()).await.is_err());
        drop(turn);
        assert!(timeout(day, io.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn what_was_read_ahead_comes_first() {
        let (io, _, mut far) = user(b"later ");
        far.write_all(b"last").await.unwrap();
        far.shutdown().await.unwrap();
        let mut conn = io.into_inner().into_conn(Bytes::from_static(b"first "));
        let mut all = String::new();
        conn.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "first later last");
    }
}
