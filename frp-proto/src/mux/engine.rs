//! The session without I/O: received bytes, calls on streams and the time go in; frames and wakers come out.
//!
//! Control frames overtake data; a stream's data and its FIN leave in the order of the calls. Data is charged to the
//! peer's window when it is queued, so all that is queued may be sent, and streams take turns frame by frame: none waits
//! for another's window or reader.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frame::{FrameError, Header, Kind, flags};
use super::stream::{GRANT, Opening, Sending, StreamError, StreamState, set_waker};
use super::{Config, Role};

mod clock;
pub(super) mod fuzz;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use receive::Payload;
use send::share;

/// Our opens that the peer has not acknowledged, and streams of the peer that wait to be accepted.
pub(super) const BACKLOG: usize = 256;

/// Bounds of [`Config::keepalive_interval`].
const KEEPALIVE_MIN: Duration = Duration::from_millis(10);
const KEEPALIVE_MAX: Duration = Duration::from_hours(365 * 24);

/// Why a session ends, or refuses an open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("receive window exceeded")]
    Window,
    #[error("duplicate stream {0}")]
    DuplicateStream(u32),
    #[error("second FIN on stream {0}")]
    SecondFin(u32),
    #[error("peer ended the session with code {0}")]
    GoAway(u32),
    #[error("keepalive timeout")]
    Keepalive,
    #[error("connection write timeout")]
    Write,
    #[error("stream open timeout")]
    Open,
    #[error("session shutdown")]
    Closed,
    #[error("connection closed by the peer")]
    Eof,
    #[error("{0}")]
    Io(Arc<str>),
    #[error("remote end is not accepting connections")]
    RemoteGoAway,
    #[error("streams exhausted")]
    Exhausted,
    #[error("more than {0} streams")]
    TooMany(usize),
}

impl Fault {
    /// Whether the peer broke the protocol, which it is told.
    fn is_protocol(&self) -> bool {
        matches!(
            self,
            Self::Frame(_) | Self::Window | Self::DuplicateStream(_) | Self::SecondFin(_)
        )
    }
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Self {
        Self::Io(e.to_string().into())
    }
}

/// What the caller does once it has let go of the engine.
#[derive(Default)]
pub(super) struct Effects {
    /// To wake.
    pub(super) wakers: Vec<Waker>,
    /// Opens that have become possible.
    pub(super) opens: usize,
    /// No open is possible any more.
    pub(super) no_opens: bool,
}

/// One session.
pub(super) struct Engine {
    config: Config,
    streams: HashMap<u32, StreamState>,
    next_id: u32,
    /// Our unacknowledged opens. Ids grow with time, so the first is the oldest.
    unacknowledged: BTreeMap<u32, Instant>,
    /// Opens to give back when the control frames that they caused are sent.
    spent_opens: usize,
    /// The peer's streams to accept; `None` when nobody accepts.
    backlog: Option<VecDeque<u32>>,
    acceptor: Option<Waker>,
    /// Handles are gone, and the peer has not finished.
    lingering: BTreeSet<(Instant, u32)>,
    control: VecDeque<Header>,
    /// Streams that have data or a FIN to send, in the order of their turns.
    round: VecDeque<u32>,
    /// Data in all queues.
    queued: usize,
    payload: Option<Payload>,
    gone_away: bool,
    ended: Option<Fault>,
    next_ping: Instant,
    /// Ping that waits for its answer, and when it was queued.
    ping: Option<(u32, Instant)>,
    ping_counter: u32,
    /// When the peer was last heard, or took what had been held up.
    last_sign: Instant,
    /// Since when the transport takes nothing.
    blocked: Option<Instant>,
    last_tick: Instant,
    driver: Option<Waker>,
    /// The driver waits for output.
    idle: bool,
    effects: Effects,
}

impl Engine {
    pub(super) fn new(role: Role, mut config: Config, now: Instant) -> Self {
        config.keepalive_interval = config
            .keepalive_interval
            .clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
        Self {
            streams: HashMap::new(),
            next_id: match role {
                Role::Client => 1,
                Role::Server => 2,
            },
            unacknowledged: BTreeMap::new(),
            spent_opens: 0,
            backlog: Some(VecDeque::new()),
            acceptor: None,
            lingering: BTreeSet::new(),
            control: VecDeque::new(),
            round: VecDeque::new(),
            queued: 0,
            payload: None,
            gone_away: false,
            ended: None,
            next_ping: now + config.keepalive_interval,
            config,
            ping: None,
            ping_counter: 0,
            last_sign: now,
            blocked: None,
            last_tick: now,
            driver: None,
            idle: false,
            effects: Effects::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn take_effects(&mut self) -> Effects {
        mem::take(&mut self.effects)
    }

    /// Why the session has ended, if it has.
    pub(super) fn ended(&self) -> Option<&Fault> {
        self.ended.as_ref()
    }

    /// Ends the session: streams fail once their received data is read. After [`Fault::Closed`] what is queued may still be
    /// sent; after another fault nothing but a last word to a peer that broke the protocol.
    pub(super) fn end(&mut self, fault: Fault) {
        if self.ended.is_some() {
            return;
        }
        if fault != Fault::Closed {
            self.control.clear();
            self.round.clear();
            self.queued = 0;
            for stream in self.streams.values_mut() {
                stream.queue.clear();
            }
        }
        if fault.is_protocol() {
            self.push_control(Kind::GoAway, 0, 0, 1);
        }
        self.ended = Some(fault);
        self.effects.no_opens = true;
        let wakers = &mut self.effects.wakers;
        wakers.extend(self.driver.take());
        wakers.extend(self.acceptor.take());
        for stream in self.streams.values_mut() {
            wakers.extend(stream.reader.take());
            wakers.extend(stream.writer.take());
        }
    }

    // ---- calls of the application ----

    /// Opens a stream. The caller sees to it that no more than [`BACKLOG`] opens are out.
    pub(super) fn open(&mut self, now: Instant) -> Result<u32, Fault> {
        if let Some(fault) = &self.ended {
            return Err(fault.clone());
        }
        if self.gone_away {
            return Err(Fault::RemoteGoAway);
        }
        if self.streams.len() >= self.config.max_streams {
            return Err(Fault::TooMany(self.config.max_streams));
        }
        let id = self.next_id;
        self.next_id = id
            .checked_add(2)
            .filter(|_| id < u32::MAX - 1)
            .ok_or(Fault::Exhausted)?;
        self.streams.insert(id, StreamState::opened());
        self.unacknowledged.insert(id, now);
        self.push_control(Kind::WindowUpdate, flags::SYN, id, GRANT);
        Ok(id)
    }

    /// Next stream of the peer, acknowledged at once; `None` when the session has ended.
    ///
    /// The acknowledgement must not wait for data: a Go peer ends the session if a stream has none for 75 s.
    pub(super) fn accept(&mut self, waker: &Waker) -> Poll<Option<u32>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        let Some(id) = self.backlog.as_mut().and_then(VecDeque::pop_front) else {
            set_waker(&mut self.acceptor, waker);
            return Poll::Pending;
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.opening = Opening::Done;
            stream.receive_window += GRANT;
            self.push_control(Kind::WindowUpdate, flags::ACK, id, GRANT);
        }
        Poll::Ready(Some(id))
    }

    /// Nobody accepts any more: what waits, and what comes, is reset.
    pub(super) fn stop_accepting(&mut self) {
        for id in self.backlog.take().into_iter().flatten() {
            self.reset(id);
        }
    }

    /// Up to `max` received bytes; empty at the end.
    pub(super) fn read(
        &mut self,
        id: u32,
        max: usize,
        waker: &Waker,
    ) -> Poll<Result<Bytes, StreamError>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(StreamError::Session));
        };
        let piece = stream.received.pop(max);
        if !piece.is_empty() {
            if let Some(grant) = stream.take_grant() {
                self.push_control(Kind::WindowUpdate, 0, id, grant);
            }
            return Poll::Ready(Ok(piece));
        }
        if stream.fin_received {
            return Poll::Ready(Ok(Bytes::new()));
        }
        if stream.reset {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if self.ended.is_some() {
            return Poll::Ready(Err(StreamError::Session));
        }
        set_waker(&mut stream.reader, waker);
        Poll::Pending
    }

    /// Queues a part of `data`, at least one byte if it is not empty, and takes it off the front.
    pub(super) fn write_chunk(
        &mut self,
        id: u32,
        data: &mut Bytes,
        waker: &Waker,
    ) -> Poll<Result<(), StreamError>> {
        let (stream, room) = match self.writable(id, waker) {
            Poll::Ready(Ok(writable)) => writable,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            Poll::Pending => return Poll::Pending,
        };
        let n = room.min(data.len());
        stream.queue.push(data.split_to(n));
        self.queued_data(id, n);
        Poll::Ready(Ok(()))
    }

    /// Queues a copy of the front of `data` and says how much.
    pub(super) fn write(
        &mut self,
        id: u32,
        data: &[u8],
        waker: &Waker,
    ) -> Poll<Result<usize, StreamError>> {
        let (stream, room) = match self.writable(id, waker) {
            Poll::Ready(Ok(writable)) => writable,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            Poll::Pending => return Poll::Pending,
        };
        let n = room.min(data.len());
        stream.queue.extend(&data[..n]);
        self.queued_data(id, n);
        Poll::Ready(Ok(n))
    }

    /// The stream and how much it may queue, which is not 0.
    fn writable(
        &mut self,
        id: u32,
        waker: &Waker,
    ) -> Poll<Result<(&mut StreamState, usize), StreamError>> {
        if self.ended.is_some() {
            return Poll::Ready(Err(StreamError::Session));
        }
        let share = share(self.queued);
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(StreamError::Session));
        };
        if stream.reset {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if stream.sending != Sending::Open {
            return Poll::Ready(Err(StreamError::Finished));
        }
        let room = share.saturating_sub(stream.queue.len());
        let room = room.min(stream.send_window as usize);
        if room == 0 {
            set_waker(&mut stream.writer, waker);
            return Poll::Pending;
        }
        Poll::Ready(Ok((stream, room)))
    }

    fn queued_data(&mut self, id: u32, n: usize) {
        if n == 0 {
            return;
        }
        self.queued += n;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_window -= n as u32;
        }
        self.schedule(id);
    }

    /// Queues the FIN, once, behind the data.
    pub(super) fn shutdown(&mut self, id: u32) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(StreamError::Session);
        };
        if stream.sending != Sending::Open {
            return Ok(());
        }
        if self.ended.is_some() {
            return Err(StreamError::Session);
        }
        if stream.reset {
            return Err(StreamError::Reset);
        }
        stream.sending = Sending::Finishing;
        // A writer in another half of the handle learns that it is too late.
        self.effects.wakers.extend(stream.writer.take());
        self.schedule(id);
        Ok(())
    }

    /// The handle is gone. A stream that we have finished lingers until the peer finishes too; any other is reset.
    pub(super) fn drop_stream(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.reader = None;
        stream.writer = None;
        stream.orphaned = Some(now);
        if stream.is_over() || (self.ended.is_some() && stream.sending == Sending::Open) {
            self.remove(id);
        } else if stream.sending == Sending::Open {
            self.reset(id);
        } else {
            stream.discarded = stream.received.len();
            stream.received.clear();
            self.lingering.insert((now, id));
        }
    }

    fn schedule(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !mem::replace(&mut stream.scheduled, true)
        {
            self.round.push_back(id);
            self.output_added();
        }
    }

    fn push_control(&mut self, kind: Kind, flags: u16, stream: u32, length: u32) {
        self.control.push_back(Header {
            kind,
            flags,
            stream,
            length,
        });
        self.output_added();
    }

    fn output_added(&mut self) {
        if mem::take(&mut self.idle) {
            self.effects.wakers.extend(self.driver.take());
        }
    }

    /// Forgets a stream with what it has queued, and tells the peer.
    fn reset(&mut self, id: u32) {
        self.push_control(Kind::WindowUpdate, flags::RST, id, 0);
        self.remove(id);
    }

    fn remove(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.queued -= stream.queue.len();
        if stream.opening == Opening::Unacknowledged && self.unacknowledged.remove(&id).is_some() {
            self.spent_opens += 1;
        }
        if let Some(since) = stream.orphaned {
            self.lingering.remove(&(since, id));
        }
    }
}
