//! Sockets: listening, dialling, options, and the relay that every proxy uses.
//!
//! [`Conn`] is what the relay joins. Bytes move through it as chunks ([`Conn::poll_read_chunk`], [`Conn::poll_write_chunk`]),
//! so that what a socket has read goes into a mux frame, and what a frame has brought goes to a socket, without a copy.

mod buffer;
pub mod dial;
pub mod listen;
pub mod relay;
#[cfg(target_os = "linux")]
mod splice;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::compress::SnappyStream;
use crate::crypto::CfbStream;
use crate::mux;
use buffer::Buffer;

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// One frp connection (control, work or visitor), or a user or local connection: whatever carries it.
pub enum Conn {
    /// Plain TCP, eligible for the relay's fast path.
    Tcp(TcpStream),
    /// A mux stream: chunks move without a copy.
    Mux(mux::Stream),
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
                Self::Other(Box::new(SnappyStream::new(CfbStream::new(self, key))))
            }
        }
    }

    /// The next received bytes, empty at the end. Takes a buffer only when bytes are there. Cancel safe.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Mux(stream) => stream.poll_read_chunk(cx),
            Self::Tcp(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                poll_read_buffer(stream, cx)
            }
            Self::Other(stream) => poll_read_buffer(stream, cx),
        }
    }

    /// Takes from the front of `data` what fits, at least one byte when ready.
    pub fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        if let Self::Mux(stream) = self {
            return stream.poll_write_chunk(cx, data);
        }
        match ready!(Pin::new(self).poll_write(cx, data))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => {
                data.advance(n);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Reads into a buffer of the pool, which goes back at once if nothing was there.
fn poll_read_buffer<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    let mut buffer = Buffer::take();
    let mut read = ReadBuf::new(buffer.as_mut());
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    let n = read.filled().len();
    Poll::Ready(Ok(buffer.into_bytes(n)))
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
