//! Messages of the frp protocol and their two wire versions (spec: wire.md §2–§4).

pub mod handshake;
pub mod io;
pub mod types;

pub use types::*;

/// Wire protocol of one connection (wire.md §0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Type byte, 64-bit length, JSON.
    V1,
    /// Framed, negotiated, AEAD on the control connection.
    V2,
}
