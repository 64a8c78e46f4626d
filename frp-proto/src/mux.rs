//! The yamux protocol (wire.md §5): sans-IO engine and tokio driver.
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Which end of the session we are; decides the parity of stream ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// Knobs; `Default` is wire.md §5.3.
#[derive(Debug, Clone)]
pub struct Config {
    pub keepalive_interval: Duration,
    pub max_streams: usize,
}
impl Default for Config {
    fn default() -> Self {
        todo!()
    }
}

/// Why a session ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("session shutdown")]
pub struct SessionError;

/// Handle of a session: opens streams, closes all. Cheap to clone; dropping it does not end the session.
#[derive(Clone)]
pub struct Session;
/// Streams the peer opened.
pub struct Incoming;
/// One stream. Dropping it without `poll_shutdown` resets it (unless already finished both ways).
pub struct Stream;

/// Makes a session over `io`. The returned future is the driver: the caller spawns it; it ends when the session ended.
pub fn session<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    _io: T,
    _role: Role,
    _config: Config,
) -> (
    Session,
    Incoming,
    impl Future<Output = Result<(), SessionError>> + Send + 'static,
) {
    (Session, Incoming, async { todo!() })
}

impl Session {
    /// Opens a stream; waits while 256 opens are unacknowledged.
    pub async fn open(&self) -> Result<Stream, SessionError> {
        todo!()
    }
    /// Ends the session: queued frames (FINs, last data) are still written for up to 1 s, then the transport is closed.
    pub fn close(&self) {
        todo!()
    }
    /// Resolves when the session has ended. Cancel safe.
    pub async fn closed(&self) {
        todo!()
    }
}
impl Incoming {
    /// Next stream of the peer; `None` when the session ended. Cancel safe.
    pub async fn accept(&mut self) -> Option<Stream> {
        todo!()
    }
}
impl Stream {
    /// Stream id, for logs.
    pub fn id(&self) -> u32 {
        todo!()
    }
    /// Zero-copy read: the next chunk, empty at EOF.
    pub fn poll_read_chunk(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        todo!()
    }
    /// Zero-copy write: takes from the front of `data` what the window allows (at least 1 byte when ready).
    pub fn poll_write_chunk(
        &mut self,
        _cx: &mut Context<'_>,
        _data: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}
impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}
impl AsyncWrite for Stream {
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
