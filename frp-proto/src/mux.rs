//! The yamux protocol (wire.md §5): many streams over one connection.
//!
//! | part | holds |
//! |--|--|
//! | `frame` | headers |
//! | `chunks` | a queue of bytes that small pieces cannot bloat |
//! | `stream` | the state of one stream |
//! | `engine` | the session as a state machine without I/O: bytes, calls and the time go in; frames and wakers come out |
//! | `batch` | frames on their way to one vectored write |
//! | `driver` | the task that owns the transport |
//! | `handle` | [`Session`], [`Incoming`], [`Stream`] |
//!
//! # What a peer can make us hold
//!
//! * Received data: 6 MiB a stream (256 KiB before it is accepted), if the application does not read. Large pieces stay in
//!   the buffer they were read into, at worst sixteen times their size. Towards an authenticated peer the sum is bounded by
//!   [`Config::max_streams`] only, as it is upstream: the window is part of the protocol.
//! * Queued data: 256 KiB a stream, and 32 KiB a stream once 1 MiB is queued in all.
//! * Control frames: reading pauses while 1,024 of them wait to be sent.
//! * Streams: [`Config::max_streams`], at most 256 of them not yet accepted; what exceeds either is reset.
//! * Time: a peer that takes nothing for 10 s while there is output, or gives no sign of life for 10 s after
//!   a ping, ends the session.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

mod batch;
mod chunks;
mod driver;
mod engine;
mod frame;
mod handle;
mod stream;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use handle::{Incoming, Session, Stream};

use driver::Driver;
use engine::Fault;
use handle::Shared;

/// Which end of the session we are; decides the parity of stream ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams 1, 3, 5…
    Client,
    /// Opens streams 2, 4, 6…
    Server,
}

/// Knobs; `Default` is wire.md §5.3.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pause between two pings of ours, counted from the reply (default 30 s; 10 ms to one year). A dead peer is noticed
    /// after at most this and 10 s; a shorter interval costs traffic on idle sessions.
    pub keepalive_interval: Duration,
    /// Streams alive at once, of both sides (default 100,000, like the streams of a QUIC connection). An idle stream costs
    /// less than 512 bytes here. More are reset, or fail to open.
    pub max_streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(30),
            max_streams: 100_000,
        }
    }
}

/// Why a session ended, or refuses a new stream; the text is the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct SessionError(#[from] Fault);

/// Makes a session over `io`. The returned future is the driver: the caller spawns it on a tokio runtime; it ends when
/// the session has ended: `Ok` after [`Session::close`] or when the peer closed the connection between two frames. Dropping
/// it ends the session at once.
pub fn session<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: T,
    role: Role,
    config: Config,
) -> (
    Session,
    Incoming,
    impl Future<Output = Result<(), SessionError>> + Send + 'static,
) {
    let shared = Arc::new(Shared::new(role, config, driver::now()));
    (
        Session::new(shared.clone()),
        Incoming::new(shared.clone()),
        Driver::new(io, shared),
    )
}

/// Feeds one engine with `data`, cut into pieces by its own bytes, while streams are accepted, read, written, finished and
/// dropped; panics if a bound of the module's documentation does not hold. For fuzzing.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    engine::fuzz::run(data);
}
