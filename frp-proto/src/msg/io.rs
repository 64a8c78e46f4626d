//! Async reading and writing of whole messages.
use super::{Message, Version};
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a message could not be read or written. `is_eof()` tells a clean end before the first byte.
#[derive(Debug, thiserror::Error)]
pub enum MsgError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Protocol(String),
}

/// Reads exactly one message and not a byte more (payload may follow). `Ok(None)`: a v1 `null` payload, to be ignored.
pub async fn read_message<R: AsyncRead + Unpin>(
    _r: &mut R,
    _version: Version,
) -> Result<Option<Message>, MsgError> {
    todo!()
}

/// Encodes and writes one message with a single write, then flushes; an over-long message is an error before anything is written.
pub async fn write_message<W: AsyncWrite + Unpin>(
    _w: &mut W,
    _version: Version,
    _m: &Message,
) -> Result<(), MsgError> {
    todo!()
}
