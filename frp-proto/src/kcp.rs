//! KCP (transports.md §7): an ordered byte stream over UDP, with retransmission and forward error correction.
//!
//! | part | holds |
//! |--|--|
//! | `segment` | headers on the wire |
//! | `engine` | the ARQ protocol as a state machine without I/O: packets, bytes and the time go in, packets come out |
//! | `galois`, `fec` | Reed-Solomon parity: ten packets, three more |
//! | `session` | engine and error correction of one session |
//! | `stream` | [`Stream`], and the task that owns a session's timers and output |
//! | `socket` | [`Listener`], [`connect`] |
//!
//! There is no handshake and no end: a session begins with the first datagram, and a peer learns from the layer above that
//! it is over.
//!
//! # What a peer can make us hold
//!
//! * A stranger: one of [`MAX_SESSIONS`] sessions, 128 of which may wait to be accepted. What is not the beginning of a session
//!   makes none.
//! * A session: a receive window (1,024 segments, each at worst in a datagram of its own of 1,500 bytes), a send window of as many
//!   segments, and 39 datagrams for error correction.
//! * Time: a peer from which nothing comes for a minute while it owes acknowledgements is dead.

mod engine;
mod fec;
mod galois;
mod segment;
mod session;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use socket::{Listener, MAX_SESSIONS, connect, join};
pub use stream::Stream;

/// Windows of one side, in segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Sent and not acknowledged.
    pub send: u16,
    /// Received and not read.
    pub receive: u16,
}

impl Windows {
    /// Of a server, and of both ends of a punched path.
    pub const SERVER: Self = Self {
        send: 1_024,
        receive: 1_024,
    };
    /// Of a client.
    pub const CLIENT: Self = Self {
        send: 128,
        receive: 512,
    };
}

/// Feeds a session with datagrams, each after its length in one byte (times eight), while what it sends is thrown away. For
/// fuzzing.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    session::fuzz(data);
}

/// Feeds the error correction with packets, in the manner of [`fuzz`]. For fuzzing.
#[doc(hidden)]
pub fn fuzz_fec(data: &[u8]) {
    fec::fuzz(data);
}
