//! [`Replay`]: a stream whose first bytes were read already, to find out what it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Most bytes that decide anything.
pub const MAX_PREFIX: usize = 10;

/// Gives its prefix first, then what `io` gives.
pub struct Replay<S> {
    io: S,
    prefix: [u8; MAX_PREFIX],
    /// The part of the prefix that is still to be given.
    start: u8,
    end: u8,
}

impl<S: AsyncRead + Unpin> Replay<S> {
    /// Reads the first `n` bytes, at most [`MAX_PREFIX`], which [`prefix`](Self::prefix) shows then.
    pub async fn peek(mut io: S, n: usize) -> io::Result<Self> {
        let mut prefix = [0; MAX_PREFIX];
        let n = n.min(MAX_PREFIX);
        io.read_exact(&mut prefix[..n]).await?;
        Ok(Self {
            io,
            prefix,
            start: 0,
            end: n as u8,
        })
    }
}

impl<S> Replay<S> {
    /// What will be given again.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix[usize::from(self.start)..usize::from(self.end)]
    }

    /// The stream without the prefix.
    pub fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start == self.end {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.prefix().len().min(buf.remaining());
        buf.put_slice(&self.prefix()[..n]);
        self.start += n as u8;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_seen_comes_again() {
        for n in [0, 1, MAX_PREFIX] {
            let mut stream = Replay::peek(&b"hello, world"[..], n).await.unwrap();
            assert_eq!(stream.prefix(), &b"hello, world"[..n]);
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!((byte, rest.as_str()), ([b'h'], "ello, world"));
        }
        assert!(Replay::peek(&b"short"[..], MAX_PREFIX).await.is_err());
    }
}
