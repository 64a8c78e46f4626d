//! The protocol without I/O: received bytes, calls of streams and the time go in; frames, chunks and wakers come out.
//!
//! Invariants: what a peer can make us hold is bounded: received data by the windows, control frames by
//! [`MAX_CONTROL`], streams by the configuration. A frame in a queue is sent whole. A stream's data and its FIN leave in
//! the order of the calls; control frames overtake data.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameError, HEADER, Header, Kind, flags};
use super::{Config, Role};

/// Window that both sides start with.
const INITIAL_WINDOW: u32 = 256 * 1024;
/// Receive window of a stream.
pub(super) const WINDOW: u32 = 6 * 1024 * 1024;
/// Streams we have opened and the peer has not acknowledged, and streams of the peer that wait to be accepted.
pub(super) const BACKLOG: usize = 256;
/// Bytes of stream data queued for the transport.
const MAX_QUEUED: usize = 1024 * 1024;
/// Share of one stream in the queue.
const MAX_QUEUED_STREAM: usize = 256 * 1024;
/// Payload of one frame of ours.
const MAX_FRAME: usize = 64 * 1024;
/// Control frames queued for a peer that does not read them; more is hostile.
const MAX_CONTROL: usize = 16 * 1024;
/// A received piece is kept in its read buffer if it is at least this share of it, else copied: a small piece must not
/// keep a large buffer alive.
const KEEP_SHARE: usize = 8;

pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_TIMEOUT: Duration = Duration::from_secs(75);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("receive window exceeded")]
    Window,
    #[error("stream id in use")]
    DuplicateStream,
    #[error("frame not allowed in the stream's state")]
    State,
    #[error("peer sent go away with code {0}")]
    GoAway(u32),
    #[error("too many control frames queued")]
    Flood,
    #[error("keepalive timeout")]
    Keepalive,
    #[error("connection write timeout")]
    Write,
    #[error("stream open timeout")]
    Open,
    #[error("session shutdown")]
    Closed,
}

impl Fault {
    /// Whether the peer is told by a `GoAway` that it broke the protocol.
    fn is_protocol(self) -> bool {
        matches!(self, Self::Frame(_) | Self::Window | Self::DuplicateStream | Self::State)
    }
}

/// One frame on its way out.
pub(super) struct Frame {
    pub(super) header: [u8; HEADER],
    pub(super) body: Bytes,
}

/// One stream.
#[derive(Default)]
struct StreamState {
    received: VecDeque<Bytes>,
    received_bytes: usize,
    /// What the peer may still send.
    receive_window: u32,
    /// What we may still send.
    send_window: u32,
    /// Data in the output queue.
    queued: usize,
    /// The opener has seen the ACK, or the stream is the peer's.
    acked: bool,
    fin_sent: bool,
    fin_received: bool,
    reset: bool,
    /// Its handle is gone; what arrives is thrown away.
    orphan: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl StreamState {
    fn new(acked: bool, send_window: u32) -> Self {
        Self { receive_window: WINDOW, send_window, acked, ..Self::default() }
    }
}

/// Result of a call that may have to wait.
pub(super) enum Ready<T> {
    Now(T),
    Wait,
}

/// What a stream call can fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamError {
    Reset,
    Closed,
    Shutdown,
}

pub(super) struct Engine {
    role: Role,
    max_streams: usize,
    keepalive: Duration,
    streams: HashMap<u32, StreamState>,
    next_id: u32,
    /// Our unacknowledged opens, oldest first.
    unacked: VecDeque<(Instant, u32)>,
    unacked_count: usize,
    /// Orphans that wait for the peer's FIN, oldest first.
    lingering: VecDeque<(Instant, u32)>,
    backlog: VecDeque<u32>,
    acceptor: Option<Waker>,
    openers: VecDeque<Waker>,
    control: VecDeque<[u8; HEADER]>,
    data: VecDeque<Frame>,
    data_bytes: usize,
    /// Streams that wait for room in the queue.
    blocked: VecDeque<u32>,
    /// Data frame being received: its stream and the bytes to come.
    payload: Option<(u32, usize)>,
    peer_gone_away: bool,
    ended: Option<Fault>,
    ping_sent: Option<(Instant, u32)>,
    next_ping: Instant,
    ping_id: u32,
}

impl Engine {
    pub(super) fn new(role: Role, config: &Config, now: Instant) -> Self {
        Self {
            role,
            max_streams: config.max_streams,
            keepalive: config.keepalive_interval.max(Duration::from_millis(10)),
            streams: HashMap::new(),
            next_id: match role {
                Role::Client => 1,
                Role::Server => 2,
            },
            unacked: VecDeque::new(),
            unacked_count: 0,
            lingering: VecDeque::new(),
            backlog: VecDeque::new(),
            acceptor: None,
            openers: VecDeque::new(),
            control: VecDeque::new(),
            data: VecDeque::new(),
            data_bytes: 0,
            blocked: VecDeque::new(),
            payload: None,
            peer_gone_away: false,
            ended: None,
            ping_sent: None,
            next_ping: now + config.keepalive_interval,
            ping_id: 0,
        }
    }

    pub(super) fn ended(&self) -> Option<Fault> {
        self.ended
    }

    /// Ends the session: streams fail, nothing new is accepted; what is queued may still be sent.
    pub(super) fn end(&mut self, fault: Fault, wake: &mut Vec<Waker>) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(fault);
        if fault.is_protocol() {
            self.push_control(Kind::GoAway, 0, 0, 1);
        }
        wake.extend(self.acceptor.take());
        wake.extend(self.openers.drain(..));
        for stream in self.streams.values_mut() {
            wake.extend(stream.reader.take());
            wake.extend(stream.writer.take());
        }
    }

    fn push_control(&mut self, kind: Kind, flags: u16, stream: u32, length: u32) {
        self.control.push_back(Header { kind, flags, stream, length }.encode());
    }

    // ---- streams ----

    /// Opens a stream, or says to wait for an acknowledgement.
    pub(super) fn open(&mut self, waker: &Waker, now: Instant) -> Result<Ready<u32>, Fault> {
        if let Some(fault) = self.ended {
            return Err(fault);
        }
        if self.peer_gone_away || self.next_id >= u32::MAX - 1 || self.streams.len() >= self.max_streams {
            return Err(Fault::Closed);
        }
        if self.unacked_count >= BACKLOG {
            self.openers.push_back(waker.clone());
            return Ok(Ready::Wait);
        }
        let id = self.next_id;
        self.next_id += 2;
        self.streams.insert(id, StreamState::new(false, INITIAL_WINDOW));
        self.unacked.push_back((now, id));
        self.unacked_count += 1;
        self.push_control(Kind::WindowUpdate, flags::SYN, id, WINDOW - INITIAL_WINDOW);
        Ok(Ready::Now(id))
    }

    /// Next stream of the peer; `None` when the session has ended.
    pub(super) fn accept(&mut self, waker: &Waker) -> Ready<Option<u32>> {
        if let Some(id) = self.backlog.pop_front() {
            return Ready::Now(Some(id));
        }
        if self.ended.is_some() {
            return Ready::Now(None);
        }
        self.acceptor = Some(waker.clone());
        Ready::Wait
    }

    /// Next received chunk, empty at the end; `wanted` limits its length.
    pub(super) fn read(&mut self, id: u32, wanted: usize, waker: &Waker) -> Result<Ready<Bytes>, StreamError> {
        let ended = self.ended.is_some();
        let Some(stream) = self.streams.get_mut(&id) else { return Err(StreamError::Closed) };
        if stream.reset {
            return Err(StreamError::Reset);
        }
        let Some(front) = stream.received.front_mut() else {
            if stream.fin_received {
                return Ok(Ready::Now(Bytes::new()));
            }
            if ended {
                return Err(StreamError::Closed);
            }
            set(&mut stream.reader, waker);
            return Ok(Ready::Wait);
        };
        let chunk = front.split_to(wanted.min(front.len()));
        if front.is_empty() {
            stream.received.pop_front();
        }
        stream.received_bytes -= chunk.len();
        self.update_window(id);
        Ok(Ready::Now(chunk))
    }

    /// Grants the peer more when half of the window is free.
    fn update_window(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.fin_received || stream.reset {
            return;
        }
        let delta = (WINDOW as usize).saturating_sub(stream.received_bytes + stream.receive_window as usize);
        if let Ok(delta) = u32::try_from(delta)
            && delta >= WINDOW / 2
        {
            stream.receive_window += delta;
            self.push_control(Kind::WindowUpdate, 0, id, delta);
        }
    }

    /// Bytes that a stream may queue now; at least one when `Now`.
    pub(super) fn writable(&mut self, id: u32, waker: &Waker) -> Result<Ready<usize>, StreamError> {
        if self.ended.is_some() {
            return Err(StreamError::Closed);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Err(StreamError::Closed) };
        if stream.reset {
            return Err(StreamError::Reset);
        }
        if stream.fin_sent {
            return Err(StreamError::Shutdown);
        }
        let full = self.data_bytes >= MAX_QUEUED || stream.queued >= MAX_QUEUED_STREAM;
        if full || stream.send_window == 0 {
            if full && stream.writer.is_none() {
                self.blocked.push_back(id);
            }
            set(&mut stream.writer, waker);
            return Ok(Ready::Wait);
        }
        Ok(Ready::Now(MAX_FRAME.min(stream.send_window as usize)))
    }

    /// Queues data that [`Engine::writable`] has allowed.
    pub(super) fn write(&mut self, id: u32, body: Bytes) {
        let (Some(stream), Ok(length)) = (self.streams.get_mut(&id), u32::try_from(body.len())) else { return };
        stream.send_window -= length;
        stream.queued += body.len();
        self.data_bytes += body.len();
        let header = Header { kind: Kind::Data, flags: 0, stream: id, length }.encode();
        self.data.push_back(Frame { header, body });
    }

    /// Queues the FIN, once, behind the stream's data.
    pub(super) fn shutdown(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.fin_sent || stream.reset {
            return;
        }
        stream.fin_sent = true;
        let header = Header { kind: Kind::WindowUpdate, flags: flags::FIN, stream: id, length: 0 }.encode();
        self.data.push_back(Frame { header, body: Bytes::new() });
    }

    /// The stream's handle is gone: reset it, or linger for the peer's FIN if we have finished.
    pub(super) fn drop_stream(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.reader = None;
        stream.writer = None;
        if stream.reset || self.ended.is_some() || (stream.fin_sent && stream.fin_received) {
            self.remove(id);
            return;
        }
        if stream.fin_sent {
            stream.orphan = true;
            stream.received = VecDeque::new();
            stream.received_bytes = 0;
            self.lingering.push_back((now, id));
            self.update_window(id);
            return;
        }
        self.reset(id);
    }

    /// Sends RST behind what is queued of the stream, and forgets it.
    fn reset(&mut self, id: u32) {
        let header = Header { kind: Kind::WindowUpdate, flags: flags::RST, stream: id, length: 0 }.encode();
        self.data.push_back(Frame { header, body: Bytes::new() });
        self.remove(id);
    }

    fn remove(&mut self, id: u32) {
        if self.streams.remove(&id).is_some_and(|s| !s.acked) {
            self.unacked_count = self.unacked_count.saturating_sub(1);
        }
    }

    // ---- receiving ----

    /// Consumes what has arrived, all of it but an incomplete header. Wakers to call are appended to `wake`.
    pub(super) fn receive(&mut self, data: &mut BytesMut, now: Instant, wake: &mut Vec<Waker>) -> Result<(), Fault> {
        loop {
            if let Some((id, left)) = self.payload {
                let n = left.min(data.len());
                if n == 0 && left > 0 {
                    return Ok(());
                }
                self.deliver(id, data, n, wake)?;
                self.payload = (left > n).then_some((id, left - n));
                continue;
            }
            let Some(&header) = data.first_chunk::<HEADER>() else { return Ok(()) };
            let header = Header::decode(header)?;
            data.advance(HEADER);
            self.frame(header, now, wake)?;
            if self.control.len() > MAX_CONTROL {
                return Err(Fault::Flood);
            }
        }
    }

    fn frame(&mut self, header: Header, now: Instant, wake: &mut Vec<Waker>) -> Result<(), Fault> {
        match header.kind {
            Kind::Ping if header.flags & flags::SYN != 0 => {
                self.push_control(Kind::Ping, flags::ACK, 0, header.length);
                Ok(())
            }
            Kind::Ping => {
                if self.ping_sent.is_some_and(|(_, id)| id == header.length) {
                    self.ping_sent = None;
                    self.next_ping = now + self.keepalive;
                }
                Ok(())
            }
            Kind::GoAway if header.length == 0 => {
                self.peer_gone_away = true;
                wake.extend(self.openers.drain(..));
                Ok(())
            }
            Kind::GoAway => Err(Fault::GoAway(header.length)),
            Kind::Data | Kind::WindowUpdate => self.stream_frame(header, wake),
        }
    }

    fn stream_frame(&mut self, header: Header, wake: &mut Vec<Waker>) -> Result<(), Fault> {
        let Header { kind, flags: bits, stream: id, length } = header;
        if bits & flags::SYN != 0 {
            self.incoming(id, wake)?;
        }
        if kind == Kind::Data && length > 0 {
            self.payload = Some((id, length as usize));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if kind == Kind::WindowUpdate && length > 0 {
            stream.send_window = stream.send_window.checked_add(length).ok_or(Fault::Window)?;
            wake.extend(stream.writer.take());
        } else if kind == Kind::Data {
            stream.receive_window = stream.receive_window.checked_sub(length).ok_or(Fault::Window)?;
        }
        if bits & flags::ACK != 0 && !stream.acked {
            stream.acked = true;
            self.unacked_count = self.unacked_count.saturating_sub(1);
            wake.extend(self.openers.pop_front());
        }
        if bits & flags::RST != 0 {
            stream.reset = true;
            wake.extend(stream.reader.take());
            wake.extend(stream.writer.take());
            if stream.orphan {
                self.remove(id);
            }
            return Ok(());
        }
        if bits & flags::FIN != 0 {
            if stream.fin_received {
                return Err(Fault::State);
            }
            if self.payload.is_none() {
                self.finish(id, wake);
            } else {
                // The FIN rides on data: it takes effect when the payload is in.
                stream.fin_received = true;
            }
        }
        Ok(())
    }

    fn finish(&mut self, id: u32, wake: &mut Vec<Waker>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.fin_received = true;
        wake.extend(stream.reader.take());
        if stream.orphan {
            self.remove(id);
        }
    }

    /// A stream of the peer: acknowledged at once, so that it may wait for its use as long as it likes.
    fn incoming(&mut self, id: u32, wake: &mut Vec<Waker>) -> Result<(), Fault> {
        let own_parity = u32::from(self.role == Role::Client);
        let full = self.ended.is_some() || self.backlog.len() >= BACKLOG || self.streams.len() >= self.max_streams;
        match self.streams.entry(id) {
            Entry::Occupied(_) => Err(Fault::DuplicateStream),
            // An id of our own numbering that we have not used yet would collide with our next open.
            Entry::Vacant(_) if id == 0 || id % 2 == own_parity => Err(Fault::State),
            Entry::Vacant(_) if full => {
                self.push_control(Kind::WindowUpdate, flags::RST, id, 0);
                Ok(())
            }
            Entry::Vacant(entry) => {
                entry.insert(StreamState::new(true, INITIAL_WINDOW));
                self.backlog.push_back(id);
                self.push_control(Kind::WindowUpdate, flags::ACK, id, WINDOW - INITIAL_WINDOW);
                wake.extend(self.acceptor.take());
                Ok(())
            }
        }
    }

    /// Hands `n` payload bytes from the front of `data` to their stream.
    fn deliver(&mut self, id: u32, data: &mut BytesMut, n: usize, wake: &mut Vec<Waker>) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&id).filter(|s| !s.reset) else {
            data.advance(n);
            return Ok(());
        };
        if stream.orphan {
            data.advance(n);
            self.update_window(id);
            return Ok(());
        }
        let chunk = if n * KEEP_SHARE >= data.capacity() {
            data.split_to(n).freeze()
        } else {
            let copy = Bytes::copy_from_slice(&data[..n]);
            data.advance(n);
            copy
        };
        stream.received_bytes += n;
        stream.received.push_back(chunk);
        wake.extend(stream.reader.take());
        Ok(())
    }

    // ---- sending ----

    /// Whether anything waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.data.is_empty()
    }

    /// Moves frames to `out`, control first, until it holds about `bytes` or `frames`.
    pub(super) fn take_output(&mut self, out: &mut VecDeque<Frame>, bytes: usize, frames: usize, wake: &mut Vec<Waker>) {
        let mut taken = 0;
        while out.len() < frames && taken < bytes {
            if let Some(header) = self.control.pop_front() {
                out.push_back(Frame { header, body: Bytes::new() });
                continue;
            }
            let Some(frame) = self.data.pop_front() else { break };
            let n = frame.body.len();
            if n > 0 {
                taken += n;
                self.data_bytes -= n;
                let id = u32::from_be_bytes([frame.header[4], frame.header[5], frame.header[6], frame.header[7]]);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.queued -= n;
                }
            }
            out.push_back(frame);
        }
        if self.data_bytes <= MAX_QUEUED / 2 {
            self.unblock(wake);
        }
    }

    /// Wakes the streams that have room again.
    fn unblock(&mut self, wake: &mut Vec<Waker>) {
        for _ in 0..self.blocked.len() {
            let Some(id) = self.blocked.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if stream.queued > MAX_QUEUED_STREAM / 2 {
                self.blocked.push_back(id);
            } else {
                wake.extend(stream.writer.take());
            }
        }
    }

    // ---- time ----

    /// Does what is due; gives the next moment to be called.
    pub(super) fn tick(&mut self, now: Instant) -> Result<Instant, Fault> {
        let mut next;
        match self.ping_sent {
            Some((at, _)) if at + PING_TIMEOUT <= now => return Err(Fault::Keepalive),
            Some((at, _)) => next = at + PING_TIMEOUT,
            None if self.next_ping <= now => {
                self.push_control(Kind::Ping, flags::SYN, 0, self.ping_id);
                self.ping_sent = Some((now, self.ping_id));
                self.ping_id = self.ping_id.wrapping_add(1);
                next = now + PING_TIMEOUT;
            }
            None => next = self.next_ping,
        }
        while let Some(&(at, id)) = self.unacked.front() {
            if self.streams.get(&id).is_none_or(|s| s.acked) {
                self.unacked.pop_front();
            } else if at + OPEN_TIMEOUT <= now {
                return Err(Fault::Open);
            } else {
                next = next.min(at + OPEN_TIMEOUT);
                break;
            }
        }
        while let Some(&(at, id)) = self.lingering.front() {
            if !self.streams.contains_key(&id) {
                self.lingering.pop_front();
            } else if at + CLOSE_TIMEOUT <= now {
                self.lingering.pop_front();
                self.reset(id);
            } else {
                next = next.min(at + CLOSE_TIMEOUT);
                break;
            }
        }
        Ok(next)
    }

    #[cfg(test)]
    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }
}

/// Remembers a waker, without a clone if it would wake the same task.
fn set(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(old) if old.will_wake(waker) => {}
        _ => *slot = Some(waker.clone()),
    }
}
