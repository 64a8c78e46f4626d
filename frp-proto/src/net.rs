//! Sockets: listening, dialling, options, and the relay that every proxy uses.
pub mod dial;
pub mod listen;
pub mod relay;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// One frp connection (control, work or visitor), or a user or local connection: whatever carries it.
pub enum Conn {
    /// Plain TCP, eligible for the relay's fast path.
    Tcp(TcpStream),
    /// A mux stream: chunks move without a copy.
    Mux(crate::mux::Stream),
    /// Anything else: TLS, replayed bytes, encryption and compression layers.
    Other(Box<dyn Io>),
}
impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}
impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        todo!()
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
}
impl Conn {
    /// Puts the proxy's layers on (wire.md §6): encryption next to the connection, compression above it. Off = absent.
    #[must_use]
    pub fn layered(self, _encryption_key: Option<&[u8; 16]>, _compression: bool) -> Conn {
        todo!()
    }
}

/// Bytes already read from `inner`, given back before the rest.
pub struct Replay<S> {
    _s: S,
}
impl<S> Replay<S> {
    pub fn new(_prefix: bytes::Bytes, _inner: S) -> Self {
        todo!()
    }
}
impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}
impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        todo!()
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
}
