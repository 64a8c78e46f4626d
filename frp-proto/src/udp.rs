//! Datagrams that travel as messages over a byte stream (wire.md §7): what `udp` and `sudp` proxies and their visitors share.
//!
//! ```text
//! users' socket ── collect ──> Outbox ── send ──> work or visitor connection ──> Inbox ──> …
//! ```
//!
//! Datagrams are handled in batches: all that wait in a socket become one piece of an [`Outbox`], and all that is queued
//! there leaves with one write. Queues are bounded, and a full one drops: that is what datagrams are for.

mod inbox;
mod outbox;
mod socket;
mod users;

pub use inbox::{Inbox, Incoming};
pub use outbox::{Batch, Outbox};
pub use socket::Socket;
pub use users::{collect, deliver};

/// Bytes of a datagram when the configuration does not say (`udpPacketSize`).
const DEFAULT_PACKET_SIZE: usize = 1_500;

/// `udpPacketSize`: no datagram is longer than 65,535 bytes, and without a positive number the default holds.
pub fn packet_size(configured: i64) -> usize {
    match usize::try_from(configured) {
        Ok(0) | Err(_) => DEFAULT_PACKET_SIZE,
        Ok(n) => n.min(socket::MAX_DATAGRAM),
    }
}
