//! The bandwidth limit of a proxy (server.md §4.1, client.md §10): one token bucket for all its connections and both
//! directions.
//!
//! Whoever wants to move bytes takes their tokens at once, in debt if need be, and waits until the debt is paid: turns
//! come in the order of asking.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Conn;

/// The time in which an empty bucket fills: it holds a second's worth.
const FILL: Duration = Duration::from_secs(1);
/// Bytes that move in one turn while the rate is low, so that turns of other connections come soon.
const PIECE: u64 = 16 * 1024;
/// With a high rate a turn moves this share of a second's bytes.
const PIECE_SHARE: u64 = 64;

/// When the bucket will be full; that tells how full it is at any time.
#[derive(Debug)]
struct Bucket {
    /// Bytes a second, and the size.
    rate: u64,
    full_at: Instant,
}

impl Bucket {
    /// Full at the start.
    fn new(rate: u64, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    /// Takes `n` tokens; when they may be used.
    fn take(&mut self, n: usize, now: Instant) -> Instant {
        let nanos = n as u128 * FILL.as_nanos() / u128::from(self.rate);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.full_at = self.full_at.max(now) + time;
        // A debt is what is left to wait until the bucket would be less than empty.
        self.full_at.checked_sub(FILL).map_or(now, |at| at.max(now))
    }
}

/// A limit, shared by its clones.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bucket: Mutex<Bucket>,
    piece: usize,
}

impl Limiter {
    /// At most `rate` bytes a second (0 counts as 1), and as many at once after a pause.
    pub fn new(rate: u64) -> Self {
        let rate = rate.max(1);
        let piece = (rate / PIECE_SHARE).max(PIECE).min(rate);
        Self(Arc::new(Shared {
            bucket: Mutex::new(Bucket::new(rate, Instant::now())),
            piece: usize::try_from(piece).unwrap_or(usize::MAX),
        }))
    }

    /// Takes `n` tokens; until when to wait, if at all.
    fn take(&self, n: usize) -> Option<Instant> {
        let now = Instant::now();
        // No change of a bucket can be left half done.
        let mut bucket = self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        Some(bucket.take(n, now)).filter(|at| *at > now)
    }
}

/// One direction's place in the order.
#[derive(Default)]
struct Turn {
    /// Bytes that may move now.
    allowed: usize,
    /// What is `allowed` when the sleep ends.
    asked: usize,
    /// Kept for the next wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    /// Waits until some of `want` bytes may move, at least one if there are any; how many.
    fn poll(&mut self, cx: &mut Context<'_>, limiter: &Limiter, want: usize) -> Poll<usize> {
        if self.allowed == 0 && want > 0 {
            if self.asked == 0 {
                let n = want.min(limiter.0.piece);
                if let Some(at) = limiter.take(n) {
                    match &mut self.sleep {
                        Some(sleep) => sleep.as_mut().reset(at),
                        none => *none = Some(Box::pin(tokio::time::sleep_until(at))),
                    }
                    self.asked = n;
                } else {
                    self.allowed = n;
                }
            }
            if let (1.., Some(sleep)) = (self.asked, &mut self.sleep) {
                ready!(sleep.as_mut().poll(cx));
                self.allowed = std::mem::take(&mut self.asked);
            }
        }
        Poll::Ready(want.min(self.allowed))
    }
}

/// A connection under a limit. Bytes read wait here for their turn, bytes to write wait with the caller; ends of
/// directions pass.
pub struct Limited {
    conn: Conn,
    limiter: Limiter,
    /// Read and not given out yet.
    held: Bytes,
    reading: Turn,
    writing: Turn,
}

impl Limited {
    pub(super) fn new(conn: Conn, limiter: Limiter) -> Self {
        Self {
            conn,
            limiter,
            held: Bytes::new(),
            reading: Turn::default(),
            writing: Turn::default(),
        }
    }

    /// The next bytes whose turn it is, at most `max`; empty at the end. Cancel safe.
    pub(super) fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        if self.held.is_empty() {
            self.held = ready!(self.conn.poll_read_chunk(cx))?;
        }
        let n = ready!(self.reading.poll(cx, &self.limiter, self.held.len())).min(max);
        self.reading.allowed -= n;
        Poll::Ready(Ok(self.held.split_to(n)))
    }

    /// Writes the front of `chunk` as far as its turn has come and takes it off; how much.
    pub(super) fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_turn_to_write(cx, chunk.len()))?;
        let mut piece = chunk.slice(..n);
        let written = ready!(self.conn.poll_write_chunk(cx, &mut piece))?;
        self.writing.allowed -= written;
        chunk.advance(written);
        Poll::Ready(Ok(written))
    }

    /// What was written before goes out while this waits.
    fn poll_turn_to_write(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        let turn = self.writing.poll(cx, &self.limiter, want);
        if turn.is_pending()
            && let Poll::Ready(Err(e)) = Pin::new(&mut self.conn).poll_flush(cx)
        {
            return Poll::Ready(Err(e));
        }
        turn.map(Ok)
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let chunk = ready!(self.poll_read_chunk(cx, buf.remaining()))?;
        buf.put_slice(&chunk);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_turn_to_write(cx, buf.len()))?;
        let written = ready!(Pin::new(&mut self.conn).poll_write(cx, &buf[..n]))?;
        self.writing.allowed -= written;
        Poll::Ready(Ok(written))
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
    use super::*;
    use crate::net::relay::relay;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const RATE: u64 = 100 * 1024;
    /// The clock of a paused runtime moves in milliseconds, and so does every wait.
    const TICK: Duration = Duration::from_millis(2);

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.take(1000, start), start);
        assert_eq!(bucket.take(500, start), start + millis(500));
        assert_eq!(bucket.take(1000, start), start + millis(1500));
        let later = start + millis(2000);
        assert_eq!(bucket.take(500, later), later);
        assert_eq!(bucket.take(1, later), later + millis(1));
        let much_later = start + millis(1_000_000);
        assert_eq!(bucket.take(1000, much_later), much_later);
        assert_eq!(bucket.take(1, much_later), much_later + millis(1));
    }

    #[test]
    fn extreme_rates_are_harmless() {
        let start = Instant::now();
        assert_eq!(Bucket::new(u64::MAX, start).take(usize::MAX, start), start);
        let mut bucket = Bucket::new(1, start);
        for n in 0..5 {
            assert_eq!(bucket.take(1, start), start + FILL * n);
        }
    }

    /// An end of a pipe, and the other with a limit.
    fn pipe(limiter: &Limiter) -> (DuplexStream, Conn) {
        let (far, near) = duplex(1024 * 1024);
        let near = Conn::Other(Box::new(near)).limited(Some(limiter));
        (far, near)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    async fn takes(expected: Duration, work: impl Future<Output = ()>) {
        let start = Instant::now();
        work.await;
        let took = start.elapsed();
        assert!(
            took + TICK >= expected && took <= expected + 20 * TICK,
            "{took:?} instead of {expected:?}"
        );
    }

    async fn relayed(limiter: &Limiter, sent: &[u8], from_limited: bool) {
        let (mut limited_end, limited) = pipe(limiter);
        let (mut open_end, open) = duplex(1024 * 1024);
        tokio::spawn(relay(Conn::Other(Box::new(open)), limited));
        let (from, to) = if from_limited {
            (&mut limited_end, &mut open_end)
        } else {
            (&mut open_end, &mut limited_end)
        };
        let send = async {
            from.write_all(sent).await.unwrap();
            from.shutdown().await.unwrap();
        };
        let receive = async {
            let mut got = Vec::new();
            to.read_to_end(&mut got).await.unwrap();
            assert!(got == sent);
            // The end has passed one way only.
            to.write_all(b"x").await.unwrap();
            to.shutdown().await.unwrap();
        };
        tokio::join!(send, receive);
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_keeps_the_rate_in_both_directions_and_passes_half_closes() {
        let sent = pattern(300_000);
        for from_limited in [false, true] {
            let limiter = Limiter::new(RATE);
            takes(millis(1930), relayed(&limiter, &sent, from_limited)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_below_any_buffer_works() {
        let limiter = Limiter::new(10);
        takes(millis(3100), relayed(&limiter, &pattern(40), true)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_the_rate_evenly() {
        let limiter = Limiter::new(RATE);
        let sent = pattern(200_000);
        takes(millis(2906), async {
            tokio::join!(
                relayed(&limiter, &sent, true),
                relayed(&limiter, &sent, false)
            );
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn small_writes_and_reads_count_as_well() {
        let limiter = Limiter::new(1000);
        let (mut far, mut near) = pipe(&limiter);
        takes(millis(1000), async {
            for n in 0..100_u8 {
                near.write_all(&[n; 10]).await.unwrap();
                let mut got = [0; 10];
                far.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [n; 10]);
                far.write_all(&got).await.unwrap();
                for _ in 0..10 {
                    assert_eq!(near.read_u8().await.unwrap(), n);
                }
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn layers_above_and_below_a_limit_work() {
        let limiter = Limiter::new(RATE);
        let key = [3; 16];
        let (far, near) = duplex(1024 * 1024);
        let mut far = Conn::Other(Box::new(far)).layered(Some(&key), true);
        let near = Conn::Other(Box::new(near)).limited(Some(&limiter));
        let mut near = near.layered(Some(&key), true).limited(Some(&limiter));
        near.write_all(b"there").await.unwrap();
        near.flush().await.unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"there");
        far.write_all(b"back").await.unwrap();
        far.shutdown().await.unwrap();
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"back");
    }
}
