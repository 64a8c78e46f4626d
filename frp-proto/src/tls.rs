//! TLS (wire.md §1.2, transports.md §4): streams over rustls, and certificates that may change at any time.
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why TLS material could not be used; `Display` is the text of config-frps.md §9.1 row 2.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

/// Files of one side. Empty path = not configured; cert and key count only together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub trusted_ca_file: PathBuf,
}

/// Server side: current certificate and client CA, replaced when the files change.
#[derive(Clone)]
pub struct ServerTls(Arc<()>);
impl ServerTls {
    /// Loads the files, or makes the in-memory self-signed certificate.
    pub fn new(_files: TlsFiles) -> Result<Self, TlsError> {
        todo!()
    }
    /// Handshakes as server. The caller sets the time limit.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        _io: S,
    ) -> io::Result<TlsStream<S>> {
        todo!()
    }
    /// Looks at the files every `period` and swaps in what changed; a bad file is logged once and changes nothing. Runs until dropped.
    pub async fn watch(self, _period: std::time::Duration) {
        todo!()
    }
}

/// Client side. Files are read again for each connection (cached while unchanged).
#[derive(Clone)]
pub struct ClientTls(Arc<()>);
impl ClientTls {
    pub fn new(_files: TlsFiles) -> Self {
        todo!()
    }
    /// Handshakes as client. `server_name`: DNS name or IP literal. The caller sets the time limit.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        _io: S,
        _server_name: &str,
    ) -> io::Result<TlsStream<S>> {
        todo!()
    }
}

/// An established TLS stream.
pub struct TlsStream<S> {
    _s: S,
}
impl<S> TlsStream<S> {
    /// The underlying transport.
    pub fn get_ref(&self) -> &S {
        todo!()
    }
}
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        todo!()
    }
}
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
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
