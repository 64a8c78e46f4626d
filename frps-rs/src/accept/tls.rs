//! The TLS stage (transports.md §4.1): first byte 0x17 is dropped, 0x16 belongs to the hello, anything else is plain.

use std::io;

use frp_proto::net::replay::Replay;
use frp_proto::net::{Conn, Io};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::Shared;

/// Announces TLS on a port that is shared with others.
const CUSTOM: u8 = 0x17;
/// What a TLS client says first.
const HANDSHAKE: u8 = 0x16;

/// The stage for a TCP connection whose first byte was only looked at.
pub(super) async fn stage(shared: &Shared, mut stream: TcpStream, first: u8) -> io::Result<Conn> {
    match first {
        CUSTOM => {
            stream.read_exact(&mut [0]).await?;
            accept(shared, stream).await
        }
        HANDSHAKE => accept(shared, stream).await,
        _ => plain(shared, Conn::Tcp(stream)),
    }
}

/// The stage for any other stream.
pub(super) async fn detect(shared: &Shared, stream: impl Io) -> io::Result<Conn> {
    let stream = Replay::peek(stream, 1).await?;
    match stream.prefix()[0] {
        CUSTOM => accept(shared, stream.into_inner()).await,
        HANDSHAKE => accept(shared, stream).await,
        _ => plain(shared, Conn::Other(Box::new(stream))),
    }
}

fn plain(shared: &Shared, conn: Conn) -> io::Result<Conn> {
    admit_plain(shared).map(|()| conn)
}

/// Whether a connection without TLS is taken at all.
pub(super) fn admit_plain(shared: &Shared) -> io::Result<()> {
    if shared.now().settings.tls_force {
        shared.metrics.refused_plain();
        tracing::warn!(
            "checkAndEnableTLSServerConnWithTimeout error: non-TLS connection received on a TlsOnly server"
        );
        return Err(io::Error::other("plain connection refused"));
    }
    Ok(())
}

async fn accept(shared: &Shared, stream: impl Io) -> io::Result<Conn> {
    // Most strangers come no further than to here: what a handshake needs is taken when there is one.
    let mut handshake = shared.metrics.handshake();
    let accepted = Box::pin(shared.tls.accept(stream)).await;
    handshake.done(&accepted);
    Ok(Conn::Other(Box::new(accepted?)))
}
