//! What leaves.

use std::mem;
use std::task::Waker;
use std::time::Instant;

use super::super::batch::Batch;
use super::super::frame::{Header, Kind, flags};
use super::super::stream::{Sending, set_waker};
use super::Engine;

/// Data that all streams together queue at full speed.
const QUEUE: usize = 1024 * 1024;
/// Data that one stream queues while the session is below [`QUEUE`]…
pub(super) const STREAM_QUEUE: usize = 256 * 1024;
/// …and above it.
pub(super) const STREAM_QUEUE_BUSY: usize = 32 * 1024;
/// Data that a stream sends in its turn, in one frame.
const TURN: usize = 64 * 1024;

impl Engine {
    /// Whether anything waits to be sent.
    pub(in crate::mux) fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.round.is_empty()
    }

    /// Moves frames to `batch` until it is full: control first, then a frame of each stream in turn.
    pub(in crate::mux) fn take_output(&mut self, batch: &mut Batch) {
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

    /// The transport takes output again, so somebody there takes it in: on a slow line the answer to a ping may be longer on
    /// its way than its limit.
    pub(in crate::mux) fn output_progress(&mut self, now: Instant) {
        if self.blocked.take().is_some() {
            self.last_sign = now;
        }
    }

    /// The transport takes nothing for now.
    pub(in crate::mux) fn output_blocked(&mut self, now: Instant) {
        self.blocked.get_or_insert(now);
    }

    /// The driver has nothing to do; it is woken when the session ends and, unless the transport is blocked, by output.
    pub(in crate::mux) fn park(&mut self, waker: &Waker) {
        set_waker(&mut self.driver, waker);
        self.idle = self.blocked.is_none();
    }
}

/// What one stream may queue when `queued` bytes are queued in all. It is never 0: a stream whose queue is empty may
/// always go on, so none starves behind the others.
pub(super) fn share(queued: usize) -> usize {
    if queued < QUEUE {
        STREAM_QUEUE
    } else {
        STREAM_QUEUE_BUSY
    }
}
