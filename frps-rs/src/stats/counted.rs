//! Connections whose traffic counts when they end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use frp_proto::net::Conn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, ProxyStats};

/// One connection of a proxy: open until the value is dropped, and then its bytes count.
pub(crate) struct Tally {
    connection: Connection,
    traffic_in: u64,
    traffic_out: u64,
}

impl Tally {
    /// A connection that has just opened.
    pub(crate) fn new(stats: &Arc<ProxyStats>) -> Self {
        Self {
            connection: stats.connection(),
            traffic_in: 0,
            traffic_out: 0,
        }
    }

    /// Bytes that have passed, to the service and from it.
    pub(crate) fn add(&mut self, traffic_in: u64, traffic_out: u64) {
        self.traffic_in += traffic_in;
        self.traffic_out += traffic_out;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let stats = &self.connection.0;
        stats.traffic_in(self.traffic_in);
        stats.traffic_out(self.traffic_out);
    }
}

/// A connection to a service that tallies what passes it.
pub(crate) struct Counted {
    conn: Conn,
    tally: Tally,
}

impl Counted {
    pub(crate) fn new(conn: Conn, stats: &Arc<ProxyStats>) -> Self {
        Self {
            conn,
            tally: Tally::new(stats),
        }
    }

    /// The plain connection, and the tally for whoever carries its bytes from now on.
    pub(crate) fn into_parts(self) -> (Conn, Tally) {
        (self.conn, self.tally)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.conn).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.tally.add(0, read as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.conn).poll_write(cx, buf))?;
        self.tally.add(written as u64, 0);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.conn).poll_write_vectored(cx, bufs))?;
        self.tally.add(written as u64, 0);
        Poll::Ready(Ok(written))
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::stats::{KINDS, Stats};

    #[tokio::test]
    async fn bytes_count_when_the_connection_ends() {
        let stats = Stats::new(true).proxy(&"p".into(), KINDS[2]);
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Counted::new(Conn::Other(Box::new(near)), &stats);
        near.write_all(b"hello").await.unwrap();
        far.write_all(b"hi").await.unwrap();
        near.read_exact(&mut [0; 2]).await.unwrap();
        assert_eq!(stats.traffic(), (0, 0));
        let (_conn, mut tally) = near.into_parts();
        tally.add(10, 20);
        drop(tally);
        assert_eq!(stats.traffic(), (15, 22));
    }
}
