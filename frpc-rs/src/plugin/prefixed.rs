//! A connection whose first bytes have been looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use frp_proto::net::Conn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Gives the bytes that were read ahead once more, then those of the connection.
pub(super) struct Prefixed {
    prefix: Bytes,
    conn: Conn,
}

impl Prefixed {
    pub(super) fn new(prefix: Bytes, conn: Conn) -> Self {
        Self { prefix, conn }
    }

    /// Reads until `len` bytes are there; fewer come only from a user that has ended.
    pub(super) async fn peek(mut conn: Conn, len: usize) -> io::Result<Self> {
        let mut prefix = BytesMut::with_capacity(len);
        while prefix.len() < len {
            if (&mut conn)
                .take((len - prefix.len()) as u64)
                .read_buf(&mut prefix)
                .await?
                == 0
            {
                break;
            }
        }
        Ok(Self::new(prefix.freeze(), conn))
    }

    /// The bytes that were read ahead and not taken yet.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(super) fn into_parts(self) -> (Bytes, Conn) {
        (self.prefix, self.conn)
    }

    /// A connection for the relay: without a wrapper where nothing was read ahead.
    pub(super) fn into_conn(self) -> Conn {
        if self.prefix.is_empty() {
            self.conn
        } else {
            Conn::Other(Box::new(self))
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.conn).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_was_read_ahead_comes_first() {
        let (mut near, far) = duplex(64);
        near.write_all(b"CONNECT and more").await.unwrap();
        near.shutdown().await.unwrap();
        let mut peeked = Prefixed::peek(Conn::Other(Box::new(far)), 7).await.unwrap();
        assert_eq!(peeked.prefix(), b"CONNECT");
        let mut all = Vec::new();
        peeked.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"CONNECT and more");
    }

    #[tokio::test]
    async fn a_short_user_is_not_waited_for() {
        let (mut near, far) = duplex(64);
        near.write_all(b"GET").await.unwrap();
        near.shutdown().await.unwrap();
        let peeked = Prefixed::peek(Conn::Other(Box::new(far)), 7).await.unwrap();
        assert_eq!(peeked.prefix(), b"GET");
    }
}
