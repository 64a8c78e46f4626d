//! What arrives.

use std::collections::hash_map::Entry;
use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::super::chunks::SMALL;
use super::super::frame::{HEADER, Header, Kind, flags};
use super::super::stream::{INITIAL_WINDOW, Opening, Sending, StreamState};
use super::{BACKLOG, Engine, Fault};

/// Data of the peer that is thrown away before it is told that nobody reads it.
pub(super) const DISCARD: usize = INITIAL_WINDOW as usize;
/// Control frames waiting to be sent at which reading pauses.
pub(super) const CONTROL: usize = 1024;

/// Payload of the data frame that is being received.
pub(super) struct Payload {
    stream: u32,
    left: usize,
    /// The frame carries a FIN, which takes effect behind the payload.
    fin: bool,
}

impl Engine {
    /// Whether to read from the transport: not while a peer makes us answer and takes no answers.
    pub(in crate::mux) fn wants_input(&self) -> bool {
        self.control.len() < CONTROL
    }

    /// Consumes all of `data` but an incomplete header.
    pub(in crate::mux) fn receive(&mut self, data: &mut Bytes, now: Instant) -> Result<(), Fault> {
        self.idle = false;
        self.last_sign = now;
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
    pub(in crate::mux) fn receive_eof(&self, rest: &Bytes) -> Fault {
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
            self.next_ping = now + self.config.keepalive_interval;
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
        let full = self.streams.len() >= self.config.max_streams;
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
    fn deliver(&mut self, mut payload: Payload, data: &mut Bytes) -> Result<(), Fault> {
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
                    stream.received.push(data.split_to(n));
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
}
