//! One session without I/O: the engine with error correction around it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Windows;
use super::engine::Engine;
use super::fec::{Decoder, Encoder, HEADER, MIN_DATAGRAM, TYPE_DATA, datagram_type};
use super::segment::{self, Header, PUSH};

/// From the beginning of a data packet to its KCP packet.
const DATA_HEADER: usize = HEADER + 2;

/// What a listener needs to know of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first segment of a KCP packet.
    Segment(Header),
    /// Parity, or too short to tell; only a session that exists may know what to do with it.
    Other,
}

/// Looks at a datagram; `None` if it is none.
pub(super) fn look(datagram: &[u8]) -> Option<Kind> {
    if datagram.len() < MIN_DATAGRAM {
        return None;
    }
    let header = match datagram_type(datagram) {
        Some(TYPE_DATA) => Header::parse(&datagram[DATA_HEADER..]),
        Some(_) => None,
        None => Header::parse(datagram),
    };
    Some(header.map_or(Kind::Other, Kind::Segment))
}

impl Kind {
    /// Conversation and number of the first segment.
    pub(super) fn conversation(&self) -> Option<(u32, u32)> {
        match self {
            Self::Segment(h) => Some((h.conv, h.sn)),
            Self::Other => None,
        }
    }

    /// The conversation that such a datagram may begin.
    pub(super) fn beginning(&self, window: u16) -> Option<u32> {
        match self {
            Self::Segment(h) if h.cmd == PUSH && h.sn < u32::from(window) => Some(h.conv),
            _ => None,
        }
    }
}

/// A session. Time is in milliseconds, from any beginning.
pub(super) struct Session {
    engine: Engine,
    encoder: Encoder,
    decoder: Decoder,
    /// The rest of a segment that was read in part.
    partial: Bytes,
    /// Datagrams to send; nothing is added before all of them are taken.
    output: VecDeque<Vec<u8>>,
}

impl Session {
    pub(super) fn new(conv: u32, windows: Windows) -> Self {
        Self {
            engine: Engine::new(conv, windows),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            partial: Bytes::new(),
            output: VecDeque::new(),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Takes a datagram in.
    pub(super) fn input(&mut self, datagram: &Bytes, now: u32) {
        if datagram.len() < MIN_DATAGRAM {
            return;
        }
        match datagram_type(datagram) {
            None => return self.engine.input(datagram.clone(), true, now),
            Some(TYPE_DATA) => self.engine.input(datagram.slice(DATA_HEADER..), true, now),
            Some(_) => {}
        }
        for packet in self.decoder.decode(datagram) {
            self.engine.input(packet, false, now);
        }
    }

    /// Moves received bytes into `out`; how many, 0 if there are none.
    pub(super) fn read(&mut self, out: &mut tokio::io::ReadBuf<'_>, now: u32) -> usize {
        let before = out.filled().len();
        while out.remaining() > 0 {
            if self.partial.is_empty() {
                match self.engine.read(now) {
                    Some(data) => self.partial = data,
                    None => break,
                }
            }
            let n = self.partial.len().min(out.remaining());
            out.put_slice(&self.partial.split_to(n));
        }
        out.filled().len() - before
    }

    pub(super) fn write(&mut self, bytes: &[u8], now: u32) -> usize {
        self.engine.write(bytes, now)
    }

    /// What to send now, if anything.
    pub(super) fn output(&mut self, now: u32) -> Option<Vec<u8>> {
        if self.output.is_empty()
            && self
                .engine
                .due()
                .is_some_and(|due| !segment::before(now, due))
        {
            let (encoder, output) = (&mut self.encoder, &mut self.output);
            self.engine.flush(now, |packet| {
                encoder.encode(packet, now, |d| output.push_back(d));
            });
        }
        let datagram = self.output.pop_front();
        if datagram.is_none() && self.output.capacity() > 0 {
            self.output = VecDeque::new();
        }
        datagram
    }
}

/// See [`super::fuzz`].
pub(super) fn fuzz(mut data: &[u8]) {
    let mut session = Session::new(1, Windows::SERVER);
    let mut out = [0; 4096];
    let mut now = 0;
    while let Some((len, rest)) = data.split_first() {
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(*len) * 8));
        look(datagram);
        session.input(&Bytes::copy_from_slice(datagram), now);
        session.write(&out[..usize::from(*len)], now);
        now = now.wrapping_add(u32::from(*len));
        while session.output(now).is_some() {}
        if len % 2 == 0 {
            session.read(&mut tokio::io::ReadBuf::new(&mut out), now);
        }
        data = rest;
    }
}
