//! [`Stream`], and the task that sends what a session has to send.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Windows;
use super::session::Session;

/// How long what was written before a stream was dropped may take to arrive.
const LINGER: Duration = Duration::from_secs(5);
/// Silence after which a peer that owes acknowledgements is dead.
const DEAD: Duration = Duration::from_mins(1);

/// A session, shared by its stream, its driver and whoever receives datagrams.
pub(super) struct Shared {
    start: Instant,
    state: Mutex<State>,
    /// Wakes the driver.
    work: Notify,
}

struct State {
    session: Session,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Why it is over.
    ended: Option<io::ErrorKind>,
    /// Since when its stream is gone.
    dropped: Option<Instant>,
}

/// What a driver does next.
enum Step {
    Send(Vec<u8>),
    Wait(Option<Instant>),
    End,
}

impl Shared {
    pub(super) fn new(conv: u32, windows: Windows) -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::new(State {
                session: Session::new(conv, windows),
                reader: None,
                writer: None,
                ended: None,
                dropped: None,
            }),
            work: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the beginning.
    fn now(&self) -> u32 {
        self.start.elapsed().as_millis() as u32
    }

    pub(super) fn conv(&self) -> u32 {
        self.lock().session.engine().conv()
    }

    /// Takes a datagram in.
    pub(super) fn input(&self, datagram: &Bytes) {
        let mut state = self.lock();
        state.session.input(datagram, self.now());
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        self.work.notify_one();
    }

    /// Ends the session at once.
    pub(super) fn end(&self, why: io::ErrorKind) {
        let mut state = self.lock();
        state.ended.get_or_insert(why);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        self.work.notify_one();
    }

    fn next_step(&self) -> Step {
        let mut state = self.lock();
        // Read under the lock: the engine's clock must not go back.
        let now = self.now();
        if state.ended.is_some() {
            return Step::End;
        }
        if state
            .session
            .engine()
            .is_stuck(now, DEAD.as_millis() as u32)
        {
            drop(state);
            self.end(io::ErrorKind::TimedOut);
            return Step::End;
        }
        if let Some(datagram) = state.session.output(now) {
            return Step::Send(datagram);
        }
        let engine = state.session.engine();
        let due = engine.due().map(|due| {
            let ahead = due.wrapping_sub(now).cast_signed().max(0).unsigned_abs();
            Instant::now() + Duration::from_millis(ahead.into())
        });
        match state.dropped {
            Some(since) if engine.is_idle() || since.elapsed() >= LINGER => Step::End,
            Some(since) => Step::Wait(Some(due.map_or(since + LINGER, |d| d.min(since + LINGER)))),
            None => Step::Wait(due),
        }
    }

    /// Sends what there is to send until the session is over: its stream is gone and all it has written has arrived, or it
    /// was ended.
    pub(super) async fn drive(&self, socket: &UdpSocket, peer: SocketAddr) {
        loop {
            match self.next_step() {
                Step::Send(datagram) => loop {
                    match socket.try_send_to(&datagram, peer) {
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                            if socket.writable().await.is_err() {
                                break;
                            }
                        }
                        // A datagram that is not sent is one that is lost.
                        _ => break,
                    }
                },
                Step::Wait(None) => self.work.notified().await,
                Step::Wait(Some(at)) => tokio::select! {
                    () = self.work.notified() => {}
                    () = sleep_until(at) => {}
                },
                Step::End => return self.end(io::ErrorKind::ConnectionReset),
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }
}

/// The byte stream of a session.
///
/// Reading and writing are cancel safe. There is no end of one direction, so shutting down does nothing. Dropping it ends the
/// session, once what was written has arrived or after five seconds; the peer is not told.
pub struct Stream {
    shared: Arc<Shared>,
    peer: SocketAddr,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, peer: SocketAddr) -> Self {
        Self { shared, peer }
    }

    /// Where the datagrams come from.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.lock().dropped = Some(Instant::now());
        self.shared.work.notify_one();
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if buf.remaining() == 0 || state.session.read(buf, self.shared.now()) > 0 {
            if state.session.engine().due().is_some() {
                self.shared.work.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = state.ended {
            return Poll::Ready(Err(why.into()));
        }
        remember(&mut state.reader, cx);
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if let Some(why) = state.ended {
            return Poll::Ready(Err(why.into()));
        }
        let now = self.shared.now();
        let mut taken = 0;
        for buf in bufs {
            let n = state.session.write(buf, now);
            taken += n;
            if n < buf.len() {
                break;
            }
        }
        if taken == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            remember(&mut state.writer, cx);
            return Poll::Pending;
        }
        self.shared.work.notify_one();
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver lingers when the stream is dropped.
        Poll::Ready(Ok(()))
    }
}
