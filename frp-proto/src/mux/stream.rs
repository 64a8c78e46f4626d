//! The state of one stream: windows, queues, and which halves are over.

use std::task::Waker;
use std::time::Instant;

use super::chunks::Chunks;

/// Window that both sides start with.
pub(super) const INITIAL_WINDOW: u32 = 256 * 1024;
/// Receive window of an established stream.
pub(super) const WINDOW: u32 = 6 * 1024 * 1024;
/// What an open or its acknowledgement grants.
pub(super) const GRANT: u32 = WINDOW - INITIAL_WINDOW;

/// How far the opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Ours; the peer has not acknowledged it.
    Unacknowledged,
    /// The peer's; the application has not accepted it.
    Backlog,
    /// Acknowledged.
    Done,
}

/// Our sending half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// The FIN waits behind the queue.
    Finishing,
    /// The FIN is sent.
    Finished,
}

/// What a call on a stream can fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamError {
    /// The peer reset it.
    Reset,
    /// Written after our own shutdown.
    Finished,
    /// The session has ended.
    Session,
}

/// One stream.
pub(super) struct StreamState {
    pub(super) opening: Opening,
    pub(super) sending: Sending,
    pub(super) fin_received: bool,
    pub(super) reset: bool,
    /// Since when its handle is gone.
    pub(super) orphaned: Option<Instant>,
    /// Bytes thrown away since then.
    pub(super) discarded: usize,
    /// What the peer may still send.
    pub(super) receive_window: u32,
    /// What we may still queue.
    pub(super) send_window: u32,
    pub(super) received: Chunks,
    pub(super) queue: Chunks,
    /// It has its place in the round of streams that have output.
    pub(super) scheduled: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl StreamState {
    /// Ours, with the grant that the SYN carries.
    pub(super) fn opened() -> Self {
        Self::new(Opening::Unacknowledged, WINDOW)
    }

    /// The peer's.
    pub(super) fn incoming() -> Self {
        Self::new(Opening::Backlog, INITIAL_WINDOW)
    }

    fn new(opening: Opening, receive_window: u32) -> Self {
        Self {
            opening,
            sending: Sending::Open,
            fin_received: false,
            reset: false,
            orphaned: None,
            discarded: 0,
            receive_window,
            send_window: INITIAL_WINDOW,
            received: Chunks::default(),
            queue: Chunks::default(),
            scheduled: false,
            reader: None,
            writer: None,
        }
    }

    /// What to grant the peer now: all that is free, once that is half of the window.
    pub(super) fn take_grant(&mut self) -> Option<u32> {
        if self.fin_received || self.reset {
            return None;
        }
        let held = self.receive_window + self.received.len() as u32;
        let grant = WINDOW.saturating_sub(held);
        if grant < WINDOW / 2 {
            return None;
        }
        self.receive_window += grant;
        Some(grant)
    }

    /// Nothing more happens on it, and nobody looks at it.
    pub(super) fn is_over(&self) -> bool {
        let finished = self.sending == Sending::Finished && self.fin_received;
        self.orphaned.is_some() && (self.reset || finished)
    }
}

/// Remembers a waker, without a clone if it would wake the same task.
pub(super) fn set_waker(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(old) => old.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_is_small() {
        assert!(
            size_of::<StreamState>() <= 224,
            "{}",
            size_of::<StreamState>()
        );
    }
}
