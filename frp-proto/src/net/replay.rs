//! [`Replay`]: a stream whose first bytes were read already, to find out what it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::Conn;

/// Gives its prefix first, then what `io` gives.
pub struct Replay<S> {
    io: S,
    /// The part of the prefix that is still to be given.
    prefix: Bytes,
}

impl<S: AsyncRead + Unpin> Replay<S> {
    /// Reads the first `n` bytes, which [`prefix`](Self::prefix) shows then; an end before them is an error.
    pub async fn peek(io: S, n: usize) -> io::Result<Self> {
        let peeked = Self::peek_at_most(io, n).await?;
        if peeked.prefix.len() < n {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(peeked)
    }

    /// As [`peek`](Self::peek), but fewer bytes are there if the stream ends before them.
    pub async fn peek_at_most(mut io: S, n: usize) -> io::Result<Self> {
        let mut prefix = BytesMut::with_capacity(n);
        while prefix.len() < n {
            let mut missing = (&mut io).take((n - prefix.len()) as u64);
            if missing.read_buf(&mut prefix).await? == 0 {
                break;
            }
        }
        Ok(Self::new(prefix.freeze(), io))
    }
}

impl<S> Replay<S> {
    /// A stream of which `prefix` was read last.
    pub fn new(prefix: Bytes, io: S) -> Self {
        Self { io, prefix }
    }

    /// With `read`, which was taken from it last, before all else.
    #[must_use]
    pub fn unread(self, read: Bytes) -> Self {
        let prefix = match (self.prefix.is_empty(), read.is_empty()) {
            (true, _) => read,
            (_, true) => self.prefix,
            _ => [read, self.prefix].concat().into(),
        };
        Self::new(prefix, self.io)
    }

    /// What will be given again.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The stream without the prefix.
    pub fn into_inner(self) -> S {
        self.io
    }

    /// The prefix and the stream.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.prefix, self.io)
    }
}

impl Replay<Conn> {
    /// A connection for the relay: without a wrapper where nothing is to be given again.
    pub fn into_conn(self) -> Conn {
        if self.prefix.is_empty() {
            self.io
        } else {
            Conn::Other(Box::new(self))
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        if self.prefix.is_empty() {
            // Its memory is not needed as long as the connection lasts.
            self.prefix = Bytes::new();
        }
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
        for n in [0, 1, 10] {
            let mut stream = Replay::peek(&b"hello, world"[..], n).await.unwrap();
            assert_eq!(stream.prefix(), &b"hello, world"[..n]);
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!((byte, rest.as_str()), ([b'h'], "ello, world"));
        }
    }

    #[tokio::test]
    async fn what_was_taken_comes_before_the_rest() {
        for (read, rest) in [("", "second "), ("first ", ""), ("first ", "second ")] {
            let replay = Replay::new(Bytes::from(rest), &b"third"[..]);
            let mut all = String::new();
            let mut again = replay.unread(Bytes::from(read));
            again.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, format!("{read}{rest}third"));
        }
    }

    #[tokio::test]
    async fn a_short_stream_is_not_waited_for() {
        assert!(Replay::peek(&b"short"[..], 10).await.is_err());
        let peeked = Replay::peek_at_most(&b"short"[..], 10).await.unwrap();
        assert_eq!(peeked.prefix(), b"short");
        assert_eq!(peeked.into_parts(), (Bytes::from("short"), &b""[..]));
    }
}
