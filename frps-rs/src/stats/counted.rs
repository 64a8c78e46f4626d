//! Connections whose traffic counts when they end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use frp_proto::msg::Verdict;
use frp_proto::net::Conn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::{Connection, ProxyStats};
use crate::metrics;

/// One connection of a proxy: open until the value is dropped, and then its bytes and its duration count.
pub(crate) struct Tally {
    connection: Connection,
    proxy: Arc<metrics::Proxy>,
    client: Arc<metrics::Client>,
    start: Instant,
    traffic_in: u64,
    traffic_out: u64,
}

impl Tally {
    /// A connection that has just opened.
    pub(crate) fn new(
        stats: &Arc<ProxyStats>,
        proxy: &Arc<metrics::Proxy>,
        client: &Arc<metrics::Client>,
    ) -> Self {
        Self {
            connection: stats.connection(),
            proxy: proxy.clone(),
            client: client.clone(),
            start: Instant::now(),
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
        self.client.traffic(self.traffic_in, self.traffic_out);
        self.proxy.ended(self.start.elapsed());
    }
}

/// A connection to a service that tallies what passes it.
pub(crate) struct Counted {
    conn: Conn,
    tally: Tally,
    /// Who is told the verdict that comes before all else, if one does.
    verdict: Option<oneshot::Sender<Verdict>>,
}

impl Counted {
    /// `verdict` is told what the client says of its dial, if it was asked. Once it was refused there is nothing to read.
    pub(crate) fn new(conn: Conn, tally: Tally, verdict: Option<oneshot::Sender<Verdict>>) -> Self {
        Self {
            conn,
            tally,
            verdict,
        }
    }

    /// The plain connection, and the tally for whoever carries its bytes from now on.
    pub(crate) fn into_parts(self) -> (Conn, Tally) {
        (self.conn, self.tally)
    }

    /// Takes the verdict; whether the service is there.
    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.conn).poll_read(cx, &mut buf))?;
        let verdict = buf.filled().first().and_then(|byte| Verdict::of(*byte));
        if let (Some(verdict), Some(tell)) = (verdict, self.verdict.take()) {
            // Who does not ask any more has an answer.
            let _ = tell.send(verdict);
        }
        Poll::Ready(Ok(verdict == Some(Verdict::Reached)))
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.verdict.is_some() && !ready!(self.poll_verdict(cx))? {
            return Poll::Ready(Ok(()));
        }
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
    use frp_proto::msg::Login;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::stats::{KINDS, Stats};

    #[tokio::test]
    async fn bytes_count_when_the_connection_ends() {
        let stats = Stats::new(true).proxy(&"p".into(), KINDS[2]);
        let (near, mut far) = tokio::io::duplex(64);
        let metrics = metrics::Metrics::default();
        let proxy = metrics.proxy("p", KINDS[2]);
        let client = metrics.client(&Login::default(), "r");
        let tally = Tally::new(&stats, &proxy, &client);
        let mut near = Counted::new(Conn::Other(Box::new(near)), tally, None);
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
