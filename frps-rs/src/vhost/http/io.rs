//! A user's connection as hyper reads it: bytes that were read already come first, and a request head that does not
//! arrive ends it. An idle connection may stay as long as it likes (server.md §7.1).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use frp_proto::net::Conn;
use frp_proto::net::replay::Replay;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::HEAD_LIMIT;

/// How long a user who has ended his side may wait for the rest of an answer: he may as well be gone.
const HALF_CLOSED_LIMIT: Duration = Duration::from_mins(5);

/// No request is being served.
const IDLE: u8 = 0;
/// The body of one is still to come.
const RECEIVING: u8 = 1;
/// One has come completely.
const ANSWERING: u8 = 2;

/// How far the request is that is being served on an HTTP/1 connection, if any.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    /// The user has ended his side while the body was not known to be complete.
    ended: AtomicBool,
    /// He has, and nothing of the body is left: the rest of it will never come.
    cut: AtomicBool,
    wakers: Mutex<Wakers>,
}

#[derive(Default)]
struct Wakers {
    /// Who has read the user's end, and is told when it may be reported.
    reader: Option<Waker>,
    /// Who waits for more of the body.
    upload: Option<Waker>,
}

/// A request that is being served, until the last byte of its answer has been taken.
pub(super) struct Turn(Gate);

impl Gate {
    /// A request has begun; `whole`: it has no body that is still to come.
    pub(super) fn enter(&self, whole: bool) -> Turn {
        let phase = if whole { ANSWERING } else { RECEIVING };
        self.0.ended.store(false, Ordering::Relaxed);
        self.0.cut.store(false, Ordering::Relaxed);
        self.0.phase.store(phase, Ordering::Relaxed);
        Turn(self.clone())
    }

    /// The request's body has come.
    pub(super) fn received(&self) {
        let (from, to) = (RECEIVING, ANSWERING);
        // Anything else: the answer was there before the end of the body.
        let _ = (self.0.phase).compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the user has ended his side. To be asked before the body is.
    pub(super) fn ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    /// There was nothing of the body to take, when the user had `ended` his side already or not.
    pub(super) fn starve(&self, cx: &mut Context<'_>, ended: bool) {
        let mut wakers = self.wakers();
        if ended {
            self.0.cut.store(true, Ordering::Relaxed);
            wakers.reader.take().into_iter().for_each(Waker::wake);
        } else if self.ended() {
            // The last bytes may have come between the question and now.
            cx.waker().wake_by_ref();
        } else {
            wakers.upload = Some(cx.waker().clone());
        }
    }

    /// What the reader does with the user's end in the middle of a request: hyper learns of it when the body proves to be
    /// cut. It may just as well be complete, and not have been taken yet.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wakers = self.wakers();
        if self.0.cut.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        wakers.reader = Some(cx.waker().clone());
        if !self.0.ended.swap(true, Ordering::AcqRel) {
            wakers.upload.take().into_iter().for_each(Waker::wake);
        }
        Poll::Pending
    }

    fn phase(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }

    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        let wakers = self.0.wakers.lock();
        wakers.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.phase.store(IDLE, Ordering::Relaxed);
        let reader = self.0.wakers().reader.take();
        reader.into_iter().for_each(Waker::wake);
    }
}

/// An HTTP/1 connection of a user.
pub(super) struct UserIo {
    io: Replay<Conn>,
    gate: Gate,
    /// Bytes of a head have come and no request has.
    begun: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl UserIo {
    pub(super) fn new(io: Replay<Conn>, gate: Gate) -> Self {
        Self {
            io,
            gate,
            begun: false,
            deadline: None,
        }
    }

    /// Waits for the end of `limit`, which begins with the first call.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        deadline.as_mut().poll(cx)
    }

    pub(super) fn into_inner(self) -> Replay<Conn> {
        self.io
    }
}

impl AsyncRead for UserIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let got_none = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        match self.gate.phase() {
            // Who ends his side after a request still waits for the answer; hyper would take the end for his leaving.
            RECEIVING | ANSWERING if got_none && buf.remaining() > 0 => {
                self.begun = false;
                if self.gate.poll_cut(cx).is_pending() {
                    ready!(self.poll_deadline(cx, HALF_CLOSED_LIMIT));
                }
            }
            IDLE if read.is_ready() => self.begun = true,
            IDLE if self.begun => {
                ready!(self.poll_deadline(cx, HEAD_LIMIT));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            IDLE => {}
            _ => {
                self.begun = false;
                self.deadline = None;
            }
        }
        read
    }
}

impl AsyncWrite for UserIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use bytes::Bytes;

    use super::*;

    fn user(head: &'static [u8]) -> (UserIo, Gate, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let gate = Gate::default();
        let io = Replay::new(Bytes::from_static(head), Conn::Other(Box::new(near)));
        (UserIo::new(io, gate.clone()), gate, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_must_come() {
        let (mut io, _, mut far) = user(b"GET");
        let began = Instant::now();
        far.write_all(b" /").await.unwrap();
        let mut all = Vec::new();
        let error = io.read_to_end(&mut all).await.unwrap_err();
        assert_eq!(all, b"GET /");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), HEAD_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_busy_connections_may_wait() {
        let day = Duration::from_hours(24);
        let (mut io, gate, mut far) = user(b"");
        assert!(timeout(day, io.read_u8()).await.is_err());

        far.write_all(b"x").await.unwrap();
        io.read_u8().await.unwrap();
        let turn = gate.enter(true);
        assert!(timeout(day, io.read_u8()).await.is_err());
        drop(turn);
        assert!(timeout(day, io.read_u8()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_user_is_told_when_his_answer_is_over() {
        let (mut io, gate, far) = user(b"x");
        io.read_u8().await.unwrap();
        drop(far);
        let (mut one, began) = ([0], Instant::now());
        // Not while it would cut the answer off.
        let turn = gate.enter(true);
        assert!(timeout(HEAD_LIMIT, io.read(&mut one)).await.is_err());
        // At once when it is over.
        let over = async {
            sleep(HEAD_LIMIT).await;
            drop(turn);
        };
        let (read, ()) = tokio::join!(io.read(&mut one), over);
        assert_eq!(read.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), 2 * HEAD_LIMIT.as_secs());
        // In the middle of a body as soon as nothing of it is left.
        let turn = gate.enter(false);
        let upload = poll_fn(|cx| {
            let ended = gate.ended();
            gate.starve(cx, ended);
            if ended {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let (read, ()) = tokio::join!(io.read(&mut one), upload);
        assert_eq!(read.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), 2 * HEAD_LIMIT.as_secs());
        drop(turn);
    }

    /// The last of a body may be taken after the user's end has been seen.
    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_complete_when_the_user_ends() {
        let (mut io, gate, far) = user(b"x");
        io.read_u8().await.unwrap();
        drop(far);
        let (mut one, began) = ([0], Instant::now());
        let _turn = gate.enter(false);
        assert!(timeout(HEAD_LIMIT, io.read(&mut one)).await.is_err());
        assert!(gate.ended());
        gate.received();
        assert_eq!(io.read(&mut one).await.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), HALF_CLOSED_LIMIT.as_secs());
    }

    #[tokio::test]
    async fn what_was_read_ahead_comes_first() {
        let (io, _, mut far) = user(b"later ");
        far.write_all(b"last").await.unwrap();
        far.shutdown().await.unwrap();
        let mut conn = io
            .into_inner()
            .unread(Bytes::from_static(b"first "))
            .into_conn();
        let mut all = String::new();
        conn.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "first later last");
    }
}
