//! Sockets: listening, dialling, options, and the relay that every proxy uses.
//!
//! [`Conn`] is what the relay joins. Bytes move through it as chunks (`poll_read_chunk`, `poll_write_chunks`),
//! so that what a socket has read goes into a mux frame, and what a frame has brought goes to a socket, without a copy.

pub mod dial;
pub mod limit;
pub mod listen;
pub mod proxy_protocol;
pub mod relay;
pub mod replay;
pub mod resolve;
#[cfg(target_os = "linux")]
mod splice;
pub mod via_proxy;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::chunk::{ChunkBuffer, SIZE};
use crate::compress::SnappyStream;
use crate::crypto::CfbStream;
use crate::mux;
use limit::{Limited, Limiter};

/// Chunks given to one vectored write.
const SLICES: usize = 16;
/// A layer that gives this much at once has more.
const BULK: usize = 4 * 1024;

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// One frp connection (control, work or visitor), or a user or local connection: whatever carries it.
pub enum Conn {
    /// Plain TCP, eligible for the relay's fast path.
    Tcp(TcpStream),
    /// A mux stream: chunks move without a copy.
    Mux(mux::Stream),
    /// Any of these under a bandwidth limit.
    Limited(Box<Limited>),
    /// Anything else: TLS, encryption and compression layers.
    Other(Box<dyn Io>),
}

impl Conn {
    /// Puts the proxy's layers on (wire.md §6): encryption next to the connection, compression above it. Off = absent.
    #[must_use]
    pub fn layered(self, encryption_key: Option<&[u8; 16]>, compression: bool) -> Self {
        match (encryption_key, compression) {
            (None, false) => self,
            (Some(key), false) => Self::Other(Box::new(CfbStream::new(self, key))),
            (None, true) => Self::Other(Box::new(SnappyStream::new(self))),
            (Some(key), true) => {
                let encrypted = Self::Other(Box::new(CfbStream::new(self, key)));
                Self::Other(Box::new(SnappyStream::new(encrypted)))
            }
        }
    }

    /// Puts a bandwidth limit on. Off = absent.
    #[must_use]
    pub fn limited(self, limiter: Option<&Limiter>) -> Self {
        match limiter {
            None => self,
            Some(limiter) => Self::Limited(Box::new(Limited::new(self, limiter.clone()))),
        }
    }

    /// The next received bytes, empty at the end. Takes a buffer only when bytes are there. Cancel safe.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Mux(stream) => stream.poll_read_chunk(cx),
            Self::Limited(stream) => stream.poll_read_chunk(cx, usize::MAX),
            Self::Tcp(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                poll_read_buffer(stream, cx, SIZE)
            }
            Self::Other(stream) => poll_read_buffer(stream, cx, BULK),
        }
    }

    /// Writes the front of `chunks` and takes off what was written; how much that is, at least one byte when ready.
    fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        if let (Self::Tcp(stream), 2..) = (&mut *self, chunks.len()) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, chunk) in slices.iter_mut().zip(&*chunks) {
                *slice = IoSlice::new(chunk);
            }
            let n = chunks.len().min(SLICES);
            let written = ready!(Pin::new(stream).poll_write_vectored(cx, &slices[..n]))?;
            return Poll::Ready(taken_off(chunks, written));
        }
        let Some(front) = chunks.front_mut() else {
            return Poll::Ready(Ok(0));
        };
        let written = ready!(self.poll_write_chunk(cx, front))?;
        if front.is_empty() {
            chunks.pop_front();
        }
        Poll::Ready(Ok(written))
    }

    /// Writes the front of `chunk` and takes it off; how much that is, at least one byte when ready.
    fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Mux(stream) => {
                let before = chunk.len();
                ready!(stream.poll_write_chunk(cx, chunk))?;
                return Poll::Ready(Ok(before - chunk.len()));
            }
            Self::Limited(stream) => return stream.poll_write_chunk(cx, chunk),
            stream => ready!(Pin::new(stream).poll_write(cx, chunk))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        chunk.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Writes all of `chunk`, which then is empty and holds nothing.
    pub(crate) fn poll_write_whole(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        while !chunk.is_empty() {
            ready!(self.poll_write_chunk(cx, chunk))?;
        }
        *chunk = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

/// Takes `n` written bytes off the front of `chunks`.
fn taken_off(chunks: &mut VecDeque<Bytes>, n: usize) -> io::Result<usize> {
    let mut left = n;
    while let Some(front) = chunks.front_mut() {
        let taken = left.min(front.len());
        front.advance(taken);
        left -= taken;
        if !front.is_empty() {
            break;
        }
        chunks.pop_front();
    }
    if n == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(n)
    }
}

/// Reads into a buffer of the pool, which goes back at once if nothing was there. A read that brought `bulk` is followed by
/// others while there is room.
fn poll_read_buffer<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bulk: usize,
) -> Poll<io::Result<Bytes>> {
    let mut buffer = ChunkBuffer::take();
    let mut read = ReadBuf::new(buffer.as_mut());
    ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
    let mut last = read.filled().len();
    while last >= bulk && read.remaining() > 0 {
        let before = read.filled().len();
        // An end or an error comes up again with the next read.
        let Poll::Ready(Ok(())) = Pin::new(&mut *stream).poll_read(cx, &mut read) else {
            break;
        };
        last = read.filled().len() - before;
    }
    let n = read.filled().len();
    Poll::Ready(Ok(buffer.into_chunk(n)))
}

/// Calls a method on whichever stream a [`Conn`] is.
macro_rules! on_stream {
    ($conn:ident, $stream:ident => $call:expr) => {
        match $conn.get_mut() {
            Conn::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Conn::Mux(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Conn::Limited(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Conn::Other(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, s => s.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, s => s.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(s) => s.is_write_vectored(),
            Self::Mux(s) => s.is_write_vectored(),
            Self::Limited(s) => s.is_write_vectored(),
            Self::Other(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, s => s.poll_shutdown(cx))
    }
}
