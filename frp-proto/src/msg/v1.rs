//! Wire version 1 (wire.md §2.1): type byte, signed 64-bit length, JSON.

use super::json::Json;
use super::{Decoded, Message, WireError};

/// Type byte and length.
pub const HEADER: usize = 9;
/// Longest payload, both ways.
pub const MAX_PAYLOAD: usize = 10_240;

/// Appends one message.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[message.type_byte(), 0, 0, 0, 0, 0, 0, 0, 0]);
    message.write_json(out);
    let len = out.len() - start - HEADER;
    if len > MAX_PAYLOAD {
        return Err(WireError::TooLong);
    }
    out[start + 1..start + HEADER].copy_from_slice(&(len as u64).to_be_bytes());
    Ok(())
}

/// One message as it stands on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Message id, payload, bytes taken.
    Whole(u16, &'a [u8], usize),
    /// At least this many bytes in all are needed.
    Need(usize),
}

/// Finds the message at the front of `data`; an unknown type byte is refused before its length is known.
pub(super) fn decode_frame(data: &[u8]) -> Result<Frame<'_>, WireError> {
    let Some(&byte) = data.first() else {
        return Ok(Frame::Need(1));
    };
    let id = Message::id_of_byte(byte).ok_or(WireError::Type)?;
    let Some(length) = data.get(1..HEADER).and_then(|b| b.try_into().ok()) else {
        return Ok(Frame::Need(HEADER));
    };
    let length = i64::from_be_bytes(length);
    let length = usize::try_from(length).map_err(|_| WireError::Length)?;
    if length > MAX_PAYLOAD {
        return Err(WireError::TooLong);
    }
    Ok(match data.get(HEADER..HEADER + length) {
        Some(payload) => Frame::Whole(id, payload, HEADER + length),
        None => Frame::Need(HEADER + length),
    })
}

/// Decodes the message at the front of `data`.
pub fn decode(data: &[u8]) -> Result<Decoded, WireError> {
    let (id, payload, taken) = match decode_frame(data)? {
        Frame::Whole(id, payload, taken) => (id, payload, taken),
        Frame::Need(n) => return Ok(Decoded::Need(n)),
    };
    let json = Json::parse(payload)?;
    if json == Json::Null {
        return Ok(Decoded::Message(None, taken));
    }
    let message = Message::read_json(id, &json).ok_or(WireError::Type)??;
    Ok(Decoded::Message(Some(message), taken))
}
