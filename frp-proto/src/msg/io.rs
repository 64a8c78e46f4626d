//! Async reading and writing of whole messages.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Decoded, Message, Version, WireError};

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MsgError {
    /// The connection failed or ended.
    #[error("{}", crate::text::system_error(.0))]
    Io(#[from] std::io::Error),
    /// Bytes that are no message, or a message that may not be sent.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peers do not agree.
    #[error("{0}")]
    Protocol(String),
}

/// Reads exactly one message and not a byte more, as payload may follow. `None`: a v1 `null` payload, to be ignored.
pub async fn read_message<R: AsyncRead + Unpin>(
    r: &mut R,
    version: Version,
) -> Result<Option<Message>, MsgError> {
    let mut data = Vec::new();
    read_message_into(r, version, &mut data).await
}

/// As [`read_message`], with bytes of the message that were read already.
pub(super) async fn read_message_into<R: AsyncRead + Unpin>(
    r: &mut R,
    version: Version,
    data: &mut Vec<u8>,
) -> Result<Option<Message>, MsgError> {
    loop {
        let need = match super::decode(version, data)? {
            Decoded::Message(message, _) => return Ok(message),
            // The first byte alone tells whether a v1 header is worth waiting for; it is read with the header.
            Decoded::Need(1) => super::v1::HEADER,
            Decoded::Need(n) => n,
        };
        read_some(r, data, need).await?;
    }
}

/// Reads once, up to `need` bytes in all.
pub(super) async fn read_some<R: AsyncRead + Unpin>(
    r: &mut R,
    data: &mut Vec<u8>,
    need: usize,
) -> Result<(), MsgError> {
    let have = data.len();
    data.resize(need, 0);
    let read = r.read(&mut data[have..]).await;
    data.truncate(have + read.as_ref().map_or(0, |n| *n));
    match read? {
        0 => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "EOF").into()),
        _ => Ok(()),
    }
}

/// Encodes one message and writes it with a single write; an over-long one is an error before anything is written.
pub async fn write_message<W: AsyncWrite + Unpin>(
    w: &mut W,
    version: Version,
    m: &Message,
) -> Result<(), MsgError> {
    let mut data = Vec::new();
    super::encode(version, m, &mut data)?;
    w.write_all(&data).await?;
    Ok(w.flush().await?)
}
