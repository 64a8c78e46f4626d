//! The one copy loop of all proxies.
//!
//! Both directions run in the caller's task. A direction that waits holds no buffer unless the other side does not take
//! what was read already. Bulk data between two plain TCP connections is moved by the kernel itself where it can.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;

#[cfg(target_os = "linux")]
use super::splice::{Lane, Stop};
use super::{Conn, SLICES};

/// After a failure each side gets this long to take what was written to it already.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Which connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// How a relay ended.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes a → b.
    pub a_to_b: u64,
    /// Bytes b → a.
    pub b_to_a: u64,
    /// First error, if any, and on which side.
    pub error: Option<(Side, io::Error)>,
}

/// Copies both ways until both directions ended or either failed. EOF of one direction is passed on as a half-close and
/// the other goes on. After a failure both connections are closed in order, so that what was written arrives. Not
/// cancel safe: dropping the future drops both connections.
pub async fn relay(mut a: Conn, mut b: Conn) -> Outcome {
    let (mut forth, mut back) = (Direction::default(), Direction::default());
    let ended = poll_fn(|cx| {
        let forth = forth.poll(cx, &mut a, &mut b).map_err(|e| match e {
            Failure::Read(e) => (Side::A, e),
            Failure::Write(e) => (Side::B, e),
        })?;
        let back = back.poll(cx, &mut b, &mut a).map_err(|e| match e {
            Failure::Read(e) => (Side::B, e),
            Failure::Write(e) => (Side::A, e),
        })?;
        if forth.is_ready() && back.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await;
    if ended.is_err() {
        Box::pin(close_both(&mut a, &mut b)).await;
    }
    Outcome {
        a_to_b: forth.bytes,
        b_to_a: back.bytes,
        error: ended.err(),
    }
}

/// Ends the write sides, ignoring the one that is broken.
async fn close_both(a: &mut Conn, b: &mut Conn) {
    let closed = poll_fn(|cx| {
        let a = Pin::new(&mut *a).poll_shutdown(cx);
        let b = Pin::new(&mut *b).poll_shutdown(cx);
        if a.is_ready() && b.is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    // Who takes no more within the limit is cut off by the drop that follows.
    let _ = tokio::time::timeout(LAST_WORDS, closed).await;
}

/// Which side of a direction failed.
pub(super) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

/// What a direction does next.
#[derive(Default)]
enum Step {
    #[default]
    /// Bytes to the end of `from`.
    Copy,
    /// End of `to`.
    ShutDown,
    Done,
}

/// State of one direction.
#[derive(Default)]
struct Direction {
    step: Step,
    /// Read and not written yet.
    chunks: VecDeque<Bytes>,
    /// `from` has ended.
    ended: bool,
    /// Written and perhaps not flushed.
    unflushed: bool,
    bytes: u64,
    /// The last read filled its buffer: more than a request is on its way.
    #[cfg(target_os = "linux")]
    bulk: bool,
    #[cfg(target_os = "linux")]
    lane: Lane,
}

impl Direction {
    /// Copies until a side has to be waited for, or this direction has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conn,
        to: &mut Conn,
    ) -> Poll<Result<(), Failure>> {
        if let Step::Copy = self.step {
            ready!(self.poll_copy(cx, from, to))?;
            self.step = Step::ShutDown;
        }
        if let Step::ShutDown = self.step {
            ready!(Pin::new(to).poll_shutdown(cx)).map_err(Failure::Write)?;
            self.step = Step::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Copies to the end of `from`.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conn,
        to: &mut Conn,
    ) -> Poll<Result<(), Failure>> {
        loop {
            while !self.chunks.is_empty() {
                let written = to.poll_write_chunks(cx, &mut self.chunks);
                self.bytes += ready!(written).map_err(Failure::Write)? as u64;
                self.unflushed = true;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            #[cfg(target_os = "linux")]
            if let (true, Conn::Tcp(from), Conn::Tcp(to)) = (self.bulk, &mut *from, &mut *to) {
                let stop = ready!(self.lane.poll(cx, from, to, &mut self.bytes))?;
                if let Stop::End = stop {
                    return Poll::Ready(Ok(()));
                }
            }
            if self.poll_gather(cx, from)?.is_ready() {
                continue;
            }
            self.chunks = VecDeque::new();
            if self.unflushed {
                ready!(Pin::new(to).poll_flush(cx)).map_err(Failure::Write)?;
                self.unflushed = false;
            }
            return Poll::Pending;
        }
    }

    /// Reads what is there: one chunk, or several where they cost no system call and one write can take them all.
    fn poll_gather(&mut self, cx: &mut Context<'_>, from: &mut Conn) -> Poll<Result<(), Failure>> {
        loop {
            let chunk = match from.poll_read_chunk(cx) {
                Poll::Ready(chunk) => chunk.map_err(Failure::Read)?,
                Poll::Pending if self.chunks.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(())),
            };
            #[cfg(target_os = "linux")]
            {
                self.bulk = chunk.len() == crate::chunk::SIZE;
            }
            self.ended = chunk.is_empty();
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.chunks.push_back(chunk);
            if !matches!(from, Conn::Mux(_)) || self.chunks.len() >= SLICES {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// User and service with a relay of plain TCP connections between them.
    async fn over_tcp() -> (TcpStream, TcpStream, JoinHandle<Outcome>) {
        let ((user, a), (b, service)) = (tcp_pair().await, tcp_pair().await);
        let relay = tokio::spawn(relay(Conn::Tcp(a), Conn::Tcp(b)));
        (user, service, relay)
    }

    fn over_layers(
        key: Option<[u8; 16]>,
        compression: bool,
    ) -> (DuplexStream, Conn, JoinHandle<Outcome>) {
        let (user, a) = duplex(1000);
        let (b, far) = duplex(1000);
        let b = Conn::Other(Box::new(b)).layered(key.as_ref(), compression);
        let far = Conn::Other(Box::new(far)).layered(key.as_ref(), compression);
        let relay = tokio::spawn(relay(Conn::Other(Box::new(a)), b));
        (user, far, relay)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    /// Sends `there` and then `back`, each to its end.
    async fn exchange<U: super::super::Io, S: super::super::Io>(
        user: U,
        service: S,
        there: usize,
        back: usize,
    ) {
        let (mut user_read, mut user_write) = tokio::io::split(user);
        let (mut service_read, mut service_write) = tokio::io::split(service);
        let send = async {
            user_write.write_all(&pattern(there)).await.unwrap();
            user_write.shutdown().await.unwrap();
        };
        let serve = async {
            let mut got = Vec::new();
            service_read.read_to_end(&mut got).await.unwrap();
            assert!(got == pattern(there));
            // The user's half is closed by now; the answer still has to arrive.
            service_write.write_all(&pattern(back)).await.unwrap();
            service_write.shutdown().await.unwrap();
        };
        let receive = async {
            let mut got = Vec::new();
            user_read.read_to_end(&mut got).await.unwrap();
            assert!(got == pattern(back));
        };
        tokio::join!(send, serve, receive);
    }

    #[tokio::test]
    async fn an_answer_after_a_half_close_arrives() {
        for (there, back) in [(0, 5), (3, 0), (1, 1), (5_000_000, 3_000_001)] {
            let (user, service, relay) = over_tcp().await;
            exchange(user, service, there, back).await;
            let outcome = relay.await.unwrap();
            assert_eq!(
                (outcome.a_to_b, outcome.b_to_a),
                (there as u64, back as u64)
            );
            assert!(outcome.error.is_none());
        }
    }

    #[tokio::test]
    async fn bulk_data_between_pauses_is_whole() {
        let (mut user, mut service, relay) = over_tcp().await;
        for len in [10, 1_000_000, 1, 300_000, 65_536, 131_072] {
            let data = pattern(len);
            let mut got = vec![0; len];
            for _ in 0..2 {
                let sent = user.write_all(&data);
                let (sent, received) = tokio::join!(sent, service.read_exact(&mut got));
                sent.unwrap();
                received.unwrap();
                assert!(got == data);
                std::mem::swap(&mut user, &mut service);
            }
        }
        drop((user, service));
        assert!(relay.await.unwrap().error.is_none());
    }

    #[tokio::test]
    async fn layers_on_both_ends_cancel_out() {
        for (key, compression) in [
            (None, false),
            (Some([3; 16]), false),
            (None, true),
            (Some([3; 16]), true),
        ] {
            let (user, far, relay) = over_layers(key, compression);
            exchange(user, far, 200_000, 70_000).await;
            assert!(relay.await.unwrap().error.is_none());
        }
    }

    #[tokio::test]
    async fn a_failure_of_one_side_closes_the_other_after_its_last_bytes() {
        let (mut user, mut service, relay) = over_tcp().await;
        user.write_all(b"last words").await.unwrap();
        service.write_all(b"unread").await.unwrap();
        user.readable().await.unwrap();
        let mut got = [0; 10];
        service.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"last words");
        // Closing with unread bytes resets the connection.
        drop(user);
        let (side, _) = relay.await.unwrap().error.expect("a reset is a failure");
        assert_eq!(side, Side::A);
        assert_eq!(service.read(&mut got).await.unwrap(), 0);
        user_is_gone(&mut service).await;
    }

    async fn user_is_gone(service: &mut TcpStream) {
        while service.write_all(b"anyone?").await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
