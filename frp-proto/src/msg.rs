//! Messages of the frp protocol and their two wire versions (wire.md §2–§4).

pub mod handshake;
pub mod io;
pub(crate) mod json;
pub mod packet;
pub mod types;
pub mod v1;
pub mod v2;
mod verdict;

pub use json::JsonError;
pub use types::*;
pub use verdict::Verdict;

/// Wire protocol of one connection (wire.md §0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Type byte, 64-bit length, JSON.
    V1,
    /// Framed, negotiated, AEAD on the control connection.
    V2,
}

impl Version {
    /// As in `transport.wireProtocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Bytes that are no message, or a message that may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum WireError {
    #[error("message type error")]
    Type,
    #[error("message length exceed the limit")]
    TooLong,
    #[error("message length error")]
    Length,
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("unsupported frame flags: {0}")]
    Flags(u16),
    #[error("frame payload length {0} exceeds limit {limit}", limit = v2::MAX_PAYLOAD)]
    FrameTooLong(usize),
    #[error("unexpected frame type {0}, want {want}", want = v2::MESSAGE)]
    FrameType(u16),
    #[error("message frame payload too short")]
    TooShort,
    #[error("unknown v2 message type {0}")]
    UnknownId(u16),
}

/// Appends one message in the given version, whole or not at all.
pub fn encode(version: Version, message: &Message, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    let result = match version {
        Version::V1 => v1::encode(message, out),
        Version::V2 => v2::encode(message, out),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// What the front of a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One message, and how many bytes it took. `None`: a v1 payload of `null`, which says nothing.
    Message(Option<Message>, usize),
    /// At least this many bytes in all are needed to know more.
    Need(usize),
}

/// Decodes the message at the front of `data`.
pub fn decode(version: Version, data: &[u8]) -> Result<Decoded, WireError> {
    match version {
        Version::V1 => v1::decode(data),
        Version::V2 => v2::decode(data),
    }
}

#[cfg(test)]
mod tests;
