//! The task that owns the transport.
//!
//! It reads into buffers that are parsed in place and held only while bytes are on their way, and gathers all that is to be sent into few
//! large writes. It holds the engine only between system calls, and wakes others after letting go of it.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, sleep_until};

use super::SessionError;
use super::batch::{Batch, SLICES};
use super::engine::Fault;
use super::handle::Shared;
use crate::chunk::ChunkBuffer;

/// Less room than this in the read buffer is not worth a read.
const INPUT_MIN: usize = 16 * 1024;
/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS: usize = 32;
/// Limit for the last words of a session.
const LINGER: Duration = Duration::from_secs(1);

/// The time, as the engine takes it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Where the driver is.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    /// Sends what is left.
    Draining,
    /// Tells the transport that nothing follows.
    ShuttingDown,
}

/// The driver of one session.
pub(super) struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    /// Received part of a header.
    rest: Bytes,
    batch: Batch,
    /// Bytes were written and not flushed.
    unflushed: bool,
    /// The transport took nothing when last asked.
    blocked: bool,
    timer: Option<Pin<Box<Sleep>>>,
    phase: Phase,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(super) fn new(io: T, shared: Arc<Shared>) -> Self {
        Self {
            batch: Batch::new(io.is_write_vectored()),
            io,
            shared,
            rest: Bytes::new(),
            unflushed: false,
            blocked: false,
            timer: None,
            phase: Phase::Running,
        }
    }

    /// Serves the session; `Ok` means that it goes on when the task is woken.
    fn run(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        for _ in 0..ROUNDS {
            let (ended, wants_input) = self.shared.with(|e| (e.ended().cloned(), e.wants_input()));
            if let Some(fault) = ended {
                return Err(fault);
            }
            let more_input = wants_input && self.read(cx)?;
            self.write(cx)?;
            self.tick(cx)?;
            if more_input {
                continue;
            }
            let waits = self.blocked || (wants_input && self.batch.is_empty());
            let parked = waits
                && self.shared.with(|e| {
                    let parked = e.ended().is_none() && (self.blocked || !e.has_output());
                    if parked {
                        e.park(cx.waker());
                    }
                    parked
                });
            if parked {
                self.batch.release();
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Reads what is there, up to the size of the buffer; says whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut buffer = ChunkBuffer::take();
        let mut read = ReadBuf::new(buffer.as_mut());
        read.put_slice(&self.rest);
        // TLS gives a record at a time; a buffer full of them makes larger pieces.
        let last = loop {
            let before = read.filled().len();
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().len() == before => {
                    break Poll::Ready(Ok(false));
                }
                Poll::Ready(Ok(())) if read.remaining() < INPUT_MIN => break Poll::Ready(Ok(true)),
                Poll::Ready(Ok(())) => {}
                last => break last.map_ok(|()| true),
            }
        };
        let filled = read.filled().len();
        if filled > self.rest.len() {
            let mut data = buffer.into_shared(filled);
            self.shared.with(|e| e.receive(&mut data, now()))?;
            // A part of a header is not worth a buffer.
            self.rest = Bytes::copy_from_slice(&data);
        }
        match last? {
            Poll::Ready(true) => Ok(true),
            Poll::Ready(false) => Err(self.shared.with(|e| e.receive_eof(&self.rest))),
            Poll::Pending => Ok(false),
        }
    }

    /// Writes until there is nothing left, the transport is blocked, or it is somebody else's turn.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        for _ in 0..ROUNDS {
            if self.batch.is_low() {
                self.shared.with(|e| e.take_output(&mut self.batch));
            }
            let written = if !self.batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let n = self.batch.slices(&mut slices);
                let io = Pin::new(&mut self.io);
                match &slices[..n] {
                    [slice] => io.poll_write(cx, slice)?,
                    slices => io.poll_write_vectored(cx, slices)?,
                }
            } else if self.unflushed {
                Pin::new(&mut self.io).poll_flush(cx)?.map(|()| 0)
            } else {
                return Ok(());
            };
            match written {
                Poll::Pending => {
                    if !mem::replace(&mut self.blocked, true) {
                        self.shared.with(|e| e.output_blocked(now()));
                    }
                    return Ok(());
                }
                Poll::Ready(0) if !self.batch.is_empty() => {
                    return Err(io::Error::from(io::ErrorKind::WriteZero).into());
                }
                Poll::Ready(n) => {
                    self.unflushed = n > 0;
                    self.batch.advance(n);
                    if mem::take(&mut self.blocked) {
                        self.shared.with(|e| e.output_progress(now()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the engine do what is due. The timer is set anew only when it has fired or is too late.
    fn tick(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let mut deadline = self.shared.with(|e| e.deadline()).into();
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            deadline = self
                .shared
                .with(|e| e.tick(now()).map(|()| e.deadline()))?
                .into();
            timer.as_mut().reset(deadline);
        }
        Ok(())
    }

    /// Ends the session; what is left to say is given a moment, unless the transport has failed.
    fn end(&mut self, fault: Fault) -> Poll<()> {
        let hopeless = matches!(
            fault,
            Fault::Io(..) | Fault::Eof | Fault::Keepalive | Fault::Write | Fault::Open
        );
        self.shared.with(|e| e.end(fault));
        if hopeless {
            return Poll::Ready(());
        }
        self.timer = Some(Box::pin(sleep(LINGER)));
        self.phase = Phase::Draining;
        Poll::Pending
    }

    /// Says what is left to say, as long as the time allows.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(timer) = &mut self.timer
                && timer.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(());
            }
            if let Phase::ShuttingDown = self.phase {
                // The peer may be gone, which is as good.
                let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                self.discard_input(cx);
                return Poll::Ready(());
            }
            if self.write(cx).is_err() {
                return Poll::Ready(());
            }
            if self.blocked {
                return Poll::Pending;
            }
            if self.batch.is_empty() && !self.unflushed && !self.shared.with(|e| e.has_output()) {
                self.phase = Phase::ShuttingDown;
            }
        }
    }

    /// TCP answers input that nobody has read with a reset, which may overtake what was just sent.
    fn discard_input(&mut self, cx: &mut Context<'_>) {
        let mut buffer = ChunkBuffer::take();
        for _ in 0..ROUNDS {
            let mut read = ReadBuf::new(buffer.as_mut());
            let more = Pin::new(&mut self.io).poll_read(cx, &mut read);
            if !matches!(more, Poll::Ready(Ok(()))) || read.filled().is_empty() {
                return;
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Result<(), SessionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Phase::Running = this.phase {
            match this.run(cx) {
                Ok(()) => return Poll::Pending,
                Err(fault) => {
                    if this.end(fault).is_pending() {
                        ready!(this.drain(cx));
                    }
                }
            }
        } else {
            ready!(this.drain(cx));
        }
        Poll::Ready(this.shared.finish())
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        // The result went to whoever awaited the driver, if it got that far.
        let _ = self.shared.finish();
    }
}
