//! The session without I/O: received bytes, calls on streams and the time go in; frames and wakers come out.
//!
//! Control frames overtake data; a stream's data and its FIN leave in the order of the calls. Data is charged to the
//! peer's window when it is queued, so all that is queued may be sent, and streams take turns frame by frame: none waits
//! for another's window or reader.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::batch::Batch;
use super::chunks::SMALL;
use super::frame::{FrameError, HEADER, Header, Kind, flags};
use super::stream::{GRANT, INITIAL_WINDOW, Opening, Sending, StreamError, StreamState, set_waker};
use super::{Config, Role};

pub(super) mod fuzz;
#[cfg(test)]
mod tests;

/// Our opens that the peer has not acknowledged, and streams of the peer that wait to be accepted.
pub(super) const BACKLOG: usize = 256;
/// Data that all streams together queue at full speed.
const QUEUE: usize = 1024 * 1024;
/// Data that one stream queues while the session is below [`QUEUE`]…
const STREAM_QUEUE: usize = 256 * 1024;
/// …and above it.
const STREAM_QUEUE_BUSY: usize = 32 * 1024;
/// Data that a stream sends in its turn, in one frame.
const TURN: usize = 32 * 1024;
/// Data of the peer that is thrown away before it is told that nobody reads it.
const DISCARD: usize = INITIAL_WINDOW as usize;
/// Control frames waiting to be sent at which reading pauses.
const CONTROL: usize = 1024;

/// Limit of the answer to a ping, and of a write.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_TIMEOUT: Duration = Duration::from_secs(75);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(300);
/// A call that comes this much after its deadline means that this machine stood still, not the peer.
const LATE: Duration = Duration::from_secs(5);
const KEEPALIVE_MIN: Duration = Duration::from_millis(10);
const KEEPALIVE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

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
    #[error("{1}")]
    Io(io::ErrorKind, Arc<str>),
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
        Self::Io(e.kind(), e.to_string().into())
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

/// Payload of the data frame that is being received.
struct Payload {
    stream: u32,
    left: usize,
    /// The frame carries a FIN, which takes effect behind the payload.
    fin: bool,
}

/// One session.
pub(super) struct Engine {
    max_streams: usize,
    keepalive: Duration,
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
    last_received: Instant,
    /// Since when the transport takes nothing.
    blocked: Option<Instant>,
    last_tick: Instant,
    driver: Option<Waker>,
    /// The driver waits for output.
    idle: bool,
    effects: Effects,
}

impl Engine {
    pub(super) fn new(role: Role, config: &Config, now: Instant) -> Self {
        let keepalive = config
            .keepalive_interval
            .clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
        Self {
            max_streams: config.max_streams,
            keepalive,
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
            next_ping: now + keepalive,
            ping: None,
            ping_counter: 0,
            last_received: now,
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
        if self.streams.len() >= self.max_streams {
            return Err(Fault::TooMany(self.max_streams));
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

    // ---- receiving ----

    /// Whether to read from the transport: not while a peer makes us answer and takes no answers.
    pub(super) fn wants_input(&self) -> bool {
        self.control.len() < CONTROL
    }

    /// Consumes all of `data` but an incomplete header.
    pub(super) fn receive(&mut self, data: &mut BytesMut, now: Instant) -> Result<(), Fault> {
        self.idle = false;
        self.last_received = now;
        loop {
            if let Some(payload) = self.payload.take() {
                if data.is_empty() {
                    self.payload = Some(payload);
                    return Ok(());
                }
                self.deliver(payload, data)?;
                continue;
            }
            let Some(&header) = data.first_chunk::<HEADER>() else {
                return Ok(());
            };
            let header = Header::decode(header)?;
            data.advance(HEADER);
            match header.kind {
                Kind::Data | Kind::WindowUpdate => self.stream_frame(header)?,
                Kind::Ping => self.ping_frame(header, now),
                Kind::GoAway if header.length == 0 => {
                    self.gone_away = true;
                    self.effects.no_opens = true;
                }
                Kind::GoAway => return Err(Fault::GoAway(header.length)),
            }
        }
    }

    /// The transport has ended.
    pub(super) fn receive_eof(&self, rest: &BytesMut) -> Fault {
        if rest.is_empty() && self.payload.is_none() {
            Fault::Eof
        } else {
            Fault::from(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "connection closed inside a frame",
            ))
        }
    }

    fn ping_frame(&mut self, header: Header, now: Instant) {
        if header.flags & flags::SYN != 0 {
            self.push_control(Kind::Ping, flags::ACK, 0, header.length);
        } else if self.ping.is_some_and(|(id, _)| id == header.length) {
            self.ping = None;
            self.next_ping = now + self.keepalive;
        }
    }

    fn stream_frame(&mut self, header: Header) -> Result<(), Fault> {
        let Header {
            kind,
            flags: bits,
            stream: id,
            length,
        } = header;
        if bits & flags::SYN != 0 {
            self.incoming(id)?;
        }
        let data = kind == Kind::Data && length > 0;
        if data {
            self.payload = Some(Payload {
                stream: id,
                left: length as usize,
                fin: bits & flags::FIN != 0,
            });
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|s| !s.reset) else {
            return Ok(());
        };
        if data && length > stream.receive_window {
            return Err(Fault::Window);
        }
        if bits & flags::ACK != 0 && stream.opening == Opening::Unacknowledged {
            stream.opening = Opening::Done;
            self.unacknowledged.remove(&id);
            self.effects.opens += 1;
        }
        if kind == Kind::WindowUpdate && length > 0 {
            stream.send_window = stream.send_window.saturating_add(length);
            self.effects.wakers.extend(stream.writer.take());
        }
        if bits & flags::RST != 0 {
            self.reset_by_peer(id);
        } else if bits & flags::FIN != 0 {
            if stream.fin_received {
                return Err(Fault::SecondFin(id));
            }
            if !data {
                self.finished_by_peer(id);
            }
        }
        Ok(())
    }

    fn incoming(&mut self, id: u32) -> Result<(), Fault> {
        let full = self.streams.len() >= self.max_streams;
        let backlog = self.backlog.as_mut().filter(|b| b.len() < BACKLOG);
        match (self.streams.entry(id), backlog) {
            (Entry::Occupied(_), _) => return Err(Fault::DuplicateStream(id)),
            (Entry::Vacant(entry), Some(backlog)) if !full => {
                entry.insert(StreamState::incoming());
                backlog.push_back(id);
                self.effects.wakers.extend(self.acceptor.take());
            }
            _ => self.push_control(Kind::WindowUpdate, flags::RST, id, 0),
        }
        // Upstream takes ids of either parity. One of our own numbering is then used up.
        if id % 2 == self.next_id % 2 && id >= self.next_id {
            self.next_id = id.saturating_add(2);
        }
        Ok(())
    }

    fn reset_by_peer(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.reset = true;
        self.queued -= stream.queue.len();
        stream.queue.clear();
        self.effects.wakers.extend(stream.reader.take());
        self.effects.wakers.extend(stream.writer.take());
        if stream.opening == Opening::Backlog {
            if let Some(backlog) = &mut self.backlog {
                backlog.retain(|&waiting| waiting != id);
            }
            self.remove(id);
            return;
        }
        if self.unacknowledged.remove(&id).is_some() {
            self.effects.opens += 1;
        }
        if stream.is_over() {
            self.remove(id);
        }
    }

    fn finished_by_peer(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.fin_received = true;
        self.effects.wakers.extend(stream.reader.take());
        if stream.is_over() {
            self.remove(id);
        }
    }

    /// Hands the front of `data` to the stream of `payload`, as far as it is its own.
    fn deliver(&mut self, mut payload: Payload, data: &mut BytesMut) -> Result<(), Fault> {
        let n = payload.left.min(data.len());
        payload.left -= n;
        let id = payload.stream;
        match self.streams.get_mut(&id) {
            Some(stream) if stream.orphaned.is_some() => {
                data.advance(n);
                stream.discarded += n;
                // A reset may cost the peer what it has not read of ours, so it comes only when there is much to save.
                if stream.discarded > DISCARD && stream.sending == Sending::Finished {
                    self.reset(id);
                }
            }
            Some(stream) if !stream.reset && !stream.fin_received => {
                stream.receive_window = stream
                    .receive_window
                    .checked_sub(n as u32)
                    .ok_or(Fault::Window)?;
                if n < SMALL {
                    stream.received.extend(&data[..n]);
                    data.advance(n);
                } else {
                    stream.received.push(data.split_to(n).freeze());
                }
                self.effects.wakers.extend(stream.reader.take());
            }
            _ => data.advance(n),
        }
        if payload.left > 0 {
            self.payload = Some(payload);
        } else if payload.fin {
            self.finished_by_peer(id);
        }
        Ok(())
    }

    // ---- sending ----

    /// Whether anything waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.round.is_empty()
    }

    /// Moves frames to `batch` until it is full: control first, then a frame of each stream in turn.
    pub(super) fn take_output(&mut self, batch: &mut Batch) {
        self.idle = false;
        while !batch.is_full() {
            if let Some(header) = self.control.pop_front() {
                batch.push_header(header);
            } else if let Some(id) = self.round.pop_front() {
                self.take_turn(id, batch);
            } else {
                break;
            }
        }
        if self.control.is_empty() {
            self.effects.opens += mem::take(&mut self.spent_opens);
        }
    }

    fn take_turn(&mut self, id: u32, batch: &mut Batch) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let header = Header {
            kind: Kind::Data,
            flags: 0,
            stream: id,
            length: 0,
        };
        let n = stream.queue.len().min(TURN);
        if n > 0 {
            batch.push_header(Header {
                length: n as u32,
                ..header
            });
            let mut left = n;
            while left > 0 {
                let piece = stream.queue.pop(left);
                left -= piece.len();
                batch.push_body(piece);
            }
            self.queued -= n;
            if stream.send_window > 0 && stream.queue.len() <= share(self.queued) / 2 {
                self.effects.wakers.extend(stream.writer.take());
            }
        }
        if !stream.queue.is_empty() {
            self.round.push_back(id);
            return;
        }
        stream.scheduled = false;
        if stream.sending == Sending::Finishing {
            stream.sending = Sending::Finished;
            if !stream.reset {
                batch.push_header(Header {
                    kind: Kind::WindowUpdate,
                    flags: flags::FIN,
                    ..header
                });
            }
            if stream.is_over() {
                self.remove(id);
            }
        }
    }

    /// The transport has taken something.
    pub(super) fn output_progress(&mut self) {
        self.blocked = None;
    }

    /// The transport takes nothing for now.
    pub(super) fn output_blocked(&mut self, now: Instant) {
        self.blocked.get_or_insert(now);
    }

    /// The driver has nothing to do; it is woken when the session ends and, unless the transport is blocked, by output.
    pub(super) fn park(&mut self, waker: &Waker) {
        set_waker(&mut self.driver, waker);
        self.idle = self.blocked.is_none();
    }

    // ---- time ----

    /// When to call [`Engine::tick`].
    pub(super) fn deadline(&self) -> Instant {
        let ping = match self.ping {
            // A busy peer may be slow to answer, but it is alive as long as it sends anything.
            Some((_, sent)) => sent.max(self.last_received) + REPLY_TIMEOUT,
            None => self.next_ping,
        };
        [
            self.blocked.map(|since| since + REPLY_TIMEOUT),
            self.unacknowledged
                .first_key_value()
                .map(|(_, &since)| since + OPEN_TIMEOUT),
            self.lingering
                .first()
                .map(|&(since, _)| since + CLOSE_TIMEOUT),
        ]
        .into_iter()
        .flatten()
        .fold(ping, Instant::min)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        self.idle = false;
        if now < self.last_tick || now > self.deadline() + LATE {
            self.restart_clock(now);
        }
        self.last_tick = now;
        if self
            .blocked
            .is_some_and(|since| since + REPLY_TIMEOUT <= now)
        {
            return Err(Fault::Write);
        }
        match self.ping {
            Some((_, sent)) if sent.max(self.last_received) + REPLY_TIMEOUT <= now => {
                return Err(Fault::Keepalive);
            }
            None if self.next_ping <= now => self.send_ping(now),
            _ => {}
        }
        if let Some((_, &since)) = self.unacknowledged.first_key_value()
            && since + OPEN_TIMEOUT <= now
        {
            return Err(Fault::Open);
        }
        while let Some(&(since, id)) = self.lingering.first()
            && since + CLOSE_TIMEOUT <= now
        {
            self.reset(id);
        }
        // Gives back what a burst of streams has taken.
        self.streams.shrink_to(2 * self.streams.len());
        Ok(())
    }

    fn send_ping(&mut self, now: Instant) {
        self.push_control(Kind::Ping, flags::SYN, 0, self.ping_counter);
        self.ping = Some((self.ping_counter, now));
        self.ping_counter = self.ping_counter.wrapping_add(1);
    }

    /// The time has jumped, so what has passed says nothing about the peer: it is asked again, and all limits start anew.
    fn restart_clock(&mut self, now: Instant) {
        self.last_received = now;
        self.send_ping(now);
        self.blocked = self.blocked.map(|_| now);
        for since in self.unacknowledged.values_mut() {
            *since = now;
        }
        for (_, id) in mem::take(&mut self.lingering) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.orphaned = Some(now);
                self.lingering.insert((now, id));
            }
        }
    }
}

/// What one stream may queue when `queued` bytes are queued in all. It is never 0: a stream whose queue is empty may
/// always go on, so none starves behind the others.
fn share(queued: usize) -> usize {
    if queued < QUEUE {
        STREAM_QUEUE
    } else {
        STREAM_QUEUE_BUSY
    }
}
