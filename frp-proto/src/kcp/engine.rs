//! The ARQ protocol (transports.md §7.6), with upstream's parameters: no delay, no congestion window, resend after two
//! acknowledgements that skip a segment.
//!
//! Unlike upstream's, the clock does not tick while there is nothing to do, and the first data after a pause leaves at once
//! instead of at the next tick.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Windows;
use super::segment::{ACK, ASK, HEADER, Header, PUSH, TELL, before};

/// Acknowledgements that are sent at once, where upstream's always wait for the next tick.
const ACK_BURST: usize = 8;
/// Bytes of a packet, without error correction.
pub(super) const MTU: usize = 1_350;
/// Bytes of data in a segment.
pub(super) const MSS: usize = MTU - HEADER;

/// Milliseconds, all of them.
const INTERVAL: u32 = 20;
const FIRST_RTO: u32 = 200;
const MIN_RTO: u32 = 30;
const MAX_RTO: u32 = 60_000;
/// First wait before asking for a closed window, and the longest.
const FIRST_PROBE: u32 = 7_000;
const MAX_PROBE: u32 = 120_000;

/// Skips after which a segment counts as lost.
const FAST_RESEND: u32 = 2;
/// What is assumed of a peer that has not said anything.
const FIRST_WINDOW: u16 = 32;
/// Acknowledgements that may wait for a flush; more would be repeated anyway.
const MAX_ACKS: usize = 4_096;

/// A segment on its way.
struct Sent {
    data: Bytes,
    sn: u32,
    ts: u32,
    rto: u32,
    resend_at: u32,
    /// Acknowledgements of later segments.
    skipped: u32,
    /// Not sent yet.
    new: bool,
    acked: bool,
}

/// The state of one session. Time is a wrapping count of milliseconds.
pub(super) struct Engine {
    conv: u32,
    windows: Windows,
    una: u32,
    next: u32,
    /// Segments that have no number yet.
    queue: VecDeque<BytesMut>,
    unacked: VecDeque<Sent>,
    peer_window: u16,
    rto: u32,
    srtt: u32,
    rttvar: u32,

    receive_next: u32,
    /// Segments from `receive_next` on that are here.
    early: VecDeque<Option<Bytes>>,
    ready: VecDeque<Bytes>,
    acks: Vec<(u32, u32)>,
    tell_window: bool,
    ask_window: bool,
    /// When to ask for a closed window, and the wait that led there.
    probe: Option<(u32, u32)>,

    /// When to flush.
    due: Option<u32>,
    /// The last flush.
    flushed: Option<u32>,
    /// When a segment last was acknowledged, or became the only one.
    progress: u32,
}

impl Engine {
    pub(super) fn new(conv: u32, windows: Windows) -> Self {
        Self {
            conv,
            windows,
            una: 0,
            next: 0,
            queue: VecDeque::new(),
            unacked: VecDeque::new(),
            peer_window: FIRST_WINDOW,
            rto: FIRST_RTO,
            srtt: 0,
            rttvar: 0,
            receive_next: 0,
            early: VecDeque::new(),
            ready: VecDeque::new(),
            acks: Vec::new(),
            tell_window: false,
            ask_window: false,
            probe: None,
            due: None,
            flushed: None,
            progress: 0,
        }
    }

    pub(super) fn conv(&self) -> u32 {
        self.conv
    }

    /// When [`flush`](Self::flush) has something to do.
    pub(super) fn due(&self) -> Option<u32> {
        self.due
    }

    fn flush_by(&mut self, at: u32) {
        if self.due.is_none_or(|due| before(at, due)) {
            self.due = Some(at);
        }
    }

    /// The next tick after the last flush, or now if that has passed.
    fn tick(&self, now: u32) -> u32 {
        match self.flushed.map(|last| last.wrapping_add(INTERVAL)) {
            Some(tick) if before(now, tick) && !before(now.wrapping_add(INTERVAL), tick) => tick,
            _ => now,
        }
    }

    /// Segments that may still be written.
    fn room(&self) -> usize {
        let window = self.windows.send.min(self.peer_window);
        usize::from(window).saturating_sub(self.queue.len() + self.unacked.len())
    }

    /// Whether everything written was acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unacked.is_empty()
    }

    /// Whether something sent has waited for its acknowledgement so long.
    pub(super) fn is_stuck(&self, now: u32, limit: u32) -> bool {
        !self.unacked.is_empty() && !before(now, self.progress.wrapping_add(limit))
    }

    /// Takes as much of `bytes` as there is room for; 0 means that there is none now.
    pub(super) fn write(&mut self, mut bytes: &[u8], now: u32) -> usize {
        let len = bytes.len();
        let mut room = self.room();
        if room == 0 {
            return 0;
        }
        if let Some(last) = self.queue.back_mut() {
            let (taken, rest) = bytes.split_at(bytes.len().min(MSS - last.len()));
            last.extend_from_slice(taken);
            bytes = rest;
        }
        while room > 0 && !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(MSS));
            self.queue.push_back(taken.into());
            bytes = rest;
            room -= 1;
        }
        let at = if room == 0 { now } else { self.tick(now) };
        self.flush_by(at);
        len - bytes.len()
    }

    /// Takes a packet in; `regular` says that it was received, not recovered.
    pub(super) fn input(&mut self, mut packet: Bytes, regular: bool, now: u32) {
        let (mut acked, mut moved) = (None, false);
        while let Some(header) = Header::parse(&packet) {
            let len = header.len as usize;
            if header.conv != self.conv || len > packet.len() - HEADER {
                return;
            }
            if !matches!(header.cmd, PUSH | ACK | ASK | TELL) {
                return;
            }
            let data = packet.slice(HEADER..HEADER + len);
            packet = packet.slice(HEADER + len..);
            if regular {
                self.peer_window = header.wnd;
                if header.wnd > 0 {
                    self.probe = None;
                }
            }
            moved |= self.acknowledged_before(header.una, now);
            match header.cmd {
                ACK if self.acknowledged(header.sn, header.ts, now) => acked = Some(header.ts),
                PUSH => self.push(header.sn, header.ts, data, now),
                ASK => {
                    self.tell_window = true;
                    self.flush_by(self.tick(now));
                }
                _ => {}
            }
        }
        if let (Some(ts), true) = (acked, regular) {
            self.sample(now.wrapping_sub(ts));
        }
        if moved || (self.may_send() && !self.queue.is_empty()) {
            self.flush_by(now);
        } else if self.peer_window == 0 && self.probe.is_none() {
            // The window must be asked for some time, even if nothing waits to be sent.
            self.flush_by(self.tick(now));
        }
    }

    /// Everything before `una` has arrived; whether that is news.
    fn acknowledged_before(&mut self, una: u32, now: u32) -> bool {
        let mut news = false;
        while let Some(first) = self.unacked.front() {
            if !before(first.sn, una) {
                break;
            }
            self.unacked.pop_front();
            news = true;
        }
        self.una = self.unacked.front().map_or(self.next, |first| first.sn);
        if news {
            self.progress = now;
        }
        news
    }

    /// One segment has arrived; whether it can have.
    fn acknowledged(&mut self, sn: u32, ts: u32, now: u32) -> bool {
        if before(sn, self.una) || !before(sn, self.next) {
            return false;
        }
        let mut lost = false;
        for segment in &mut self.unacked {
            if segment.sn == sn {
                segment.acked = true;
                // What it held is not sent again.
                segment.data = Bytes::new();
                break;
            }
            if before(sn, segment.sn) {
                break;
            }
            if !before(ts, segment.ts) {
                segment.skipped += 1;
                lost |= segment.skipped >= FAST_RESEND && !segment.acked;
            }
        }
        self.progress = now;
        if lost {
            self.flush_by(now);
        }
        true
    }

    fn push(&mut self, sn: u32, ts: u32, data: Bytes, now: u32) {
        let window = u32::from(self.windows.receive);
        let ahead = sn.wrapping_sub(self.receive_next);
        let old = before(sn, self.receive_next);
        if !old && ahead >= window {
            return;
        }
        if self.acks.len() < MAX_ACKS {
            self.acks.push((sn, ts));
        }
        // Something may be written soon that it can travel with; a sender in full flight is not to wait for that.
        let patience = if self.acks.len() < ACK_BURST {
            INTERVAL
        } else {
            0
        };
        self.flush_by(now.wrapping_add(patience));
        if old {
            return;
        }
        let ahead = ahead as usize;
        if self.early.len() <= ahead {
            self.early.resize(ahead + 1, None);
        }
        self.early[ahead].get_or_insert(data);
        self.deliver();
    }

    /// Moves what is in order to where it can be read.
    fn deliver(&mut self) {
        while self.ready.len() < usize::from(self.windows.receive)
            && let Some(slot) = self.early.front_mut()
            && let Some(data) = slot.take()
        {
            self.early.pop_front();
            self.receive_next = self.receive_next.wrapping_add(1);
            self.ready.push_back(data);
        }
    }

    fn sample(&mut self, rtt: u32) {
        // A time of the future is no answer to anything sent.
        if rtt > MAX_RTO {
            return;
        }
        if self.srtt == 0 {
            (self.srtt, self.rttvar) = (rtt, rtt / 2);
        } else {
            let deviation = rtt.abs_diff(self.srtt);
            // An answer that is surprisingly fast says little about the slow ones.
            let shift = if rtt + self.rttvar < self.srtt { 5 } else { 2 };
            approach(&mut self.srtt, rtt, 3);
            approach(&mut self.rttvar, deviation, shift);
        }
        let rto = self.srtt + INTERVAL.max(4 * self.rttvar);
        self.rto = rto.clamp(MIN_RTO, MAX_RTO);
    }

    /// The next bytes of the stream.
    pub(super) fn read(&mut self, now: u32) -> Option<Bytes> {
        let full = self.ready.len() >= usize::from(self.windows.receive);
        let data = self.ready.pop_front()?;
        self.deliver();
        if full {
            self.tell_window = true;
            self.flush_by(self.tick(now));
        }
        Some(data)
    }

    fn window(&self) -> u16 {
        self.windows.receive.saturating_sub(self.ready.len() as u16)
    }

    /// Gives packets to `send`: acknowledgements, what is new, and what is due again.
    pub(super) fn flush(&mut self, now: u32, mut send: impl FnMut(&[u8])) {
        self.due = None;
        self.flushed = Some(now);
        let mut packet = Packet {
            bytes: Vec::with_capacity(MTU),
            send: &mut send,
        };
        let mut header = Header {
            conv: self.conv,
            cmd: ACK,
            wnd: self.window(),
            ts: 0,
            sn: 0,
            una: self.receive_next,
            len: 0,
        };
        let acks = std::mem::take(&mut self.acks);
        for (i, (sn, ts)) in acks.iter().enumerate() {
            // What `una` says already is not said again.
            if !before(*sn, self.receive_next) || i + 1 == acks.len() {
                (header.sn, header.ts) = (*sn, *ts);
                packet.add(&header, &[]);
            }
        }
        (header.sn, header.ts) = (0, 0);
        self.probe_window(now);
        for (wanted, cmd) in [
            (std::mem::take(&mut self.ask_window), ASK),
            (std::mem::take(&mut self.tell_window), TELL),
        ] {
            if wanted {
                header.cmd = cmd;
                packet.add(&header, &[]);
            }
        }
        let new = self.number(now);
        header.cmd = PUSH;
        let rto = self.rto;
        let mut earliest = None;
        for segment in self.unacked.iter_mut().filter(|s| !s.acked) {
            let skipped = segment.skipped >= FAST_RESEND || (segment.skipped > 0 && !new);
            let due = if segment.new || skipped {
                segment.rto = rto;
                true
            } else if !before(now, segment.resend_at) {
                segment.rto = (segment.rto + rto / 2).min(MAX_RTO);
                true
            } else {
                false
            };
            if due {
                segment.new = false;
                segment.skipped = 0;
                segment.ts = now;
                segment.resend_at = now.wrapping_add(segment.rto);
                (header.ts, header.sn) = (now, segment.sn);
                header.len = segment.data.len() as u32;
                packet.add(&header, &segment.data);
            }
            if earliest.is_none_or(|at| before(segment.resend_at, at)) {
                earliest = Some(segment.resend_at);
            }
        }
        packet.end();
        if let Some(at) = earliest {
            self.flush_by(at);
        }
        if let Some((at, _)) = self.probe {
            self.flush_by(at);
        }
    }

    /// Asks for a window that stays closed.
    fn probe_window(&mut self, now: u32) {
        if self.peer_window > 0 {
            return;
        }
        match self.probe {
            None => self.probe = Some((now.wrapping_add(FIRST_PROBE), FIRST_PROBE)),
            Some((at, wait)) if !before(now, at) => {
                let wait = (wait + wait / 2).min(MAX_PROBE);
                self.probe = Some((now.wrapping_add(wait), wait));
                self.ask_window = true;
            }
            Some(_) => {}
        }
    }

    /// Whether the windows allow one more segment on its way.
    fn may_send(&self) -> bool {
        let window = u32::from(self.windows.send.min(self.peer_window));
        before(self.next, self.una.wrapping_add(window))
    }

    /// Numbers what the windows allow to send; whether there was anything.
    fn number(&mut self, now: u32) -> bool {
        let mut new = false;
        while self.may_send() {
            let Some(data) = self.queue.pop_front() else {
                break;
            };
            if self.unacked.is_empty() {
                self.progress = now;
            }
            self.unacked.push_back(Sent {
                data: data.freeze(),
                sn: self.next,
                ts: now,
                rto: self.rto,
                resend_at: now,
                skipped: 0,
                new: true,
                acked: false,
            });
            self.next = self.next.wrapping_add(1);
            new = true;
        }
        new
    }
}

/// Moves an average towards a sample by a part of their distance.
fn approach(average: &mut u32, sample: u32, shift: u32) {
    let step = average.abs_diff(sample) >> shift;
    if sample < *average {
        *average -= step;
    } else {
        *average += step;
    }
}

/// A packet that is being filled.
struct Packet<'a, F: FnMut(&[u8])> {
    bytes: Vec<u8>,
    send: &'a mut F,
}

impl<F: FnMut(&[u8])> Packet<'_, F> {
    fn add(&mut self, header: &Header, data: &[u8]) {
        if self.bytes.len() + HEADER + data.len() > MTU {
            self.end();
        }
        header.write(&mut self.bytes);
        self.bytes.extend_from_slice(data);
    }

    fn end(&mut self) {
        if !self.bytes.is_empty() {
            (self.send)(&self.bytes);
            self.bytes.clear();
        }
    }
}
