//! Wire version 2 (wire.md §3): frames, hello objects, negotiation.

use bytes::Bytes;

use super::json::{Json, Record, records};
use super::{Decoded, JsonError, Message, WireError};

/// What a client sends first on every connection.
pub const MAGIC: [u8; 7] = *b"FRP\0\x02\r\n";
/// Type, flags, length.
pub const HEADER: usize = 8;
/// Longest payload, both ways.
pub const MAX_PAYLOAD: usize = 65_536;
/// Frame type of the client's hello.
pub const CLIENT_HELLO: u16 = 1;
/// Frame type of the server's hello.
pub const SERVER_HELLO: u16 = 2;
/// Frame type of messages.
pub const MESSAGE: u16 = 16;

/// One frame: its type, where its payload is, and its whole length.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Type, payload, bytes taken.
    Whole(u16, &'a [u8], usize),
    /// At least this many bytes in all are needed.
    Need(usize),
}

/// Decodes the frame at the front of `data`.
pub fn decode_frame(data: &[u8]) -> Result<Frame<'_>, WireError> {
    let Some(&[t0, t1, f0, f1, l0, l1, l2, l3]) = data.first_chunk::<HEADER>() else {
        return Ok(Frame::Need(HEADER));
    };
    let flags = u16::from_be_bytes([f0, f1]);
    if flags != 0 {
        return Err(WireError::Flags(flags));
    }
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length > MAX_PAYLOAD {
        return Err(WireError::FrameTooLong(length));
    }
    Ok(match data.get(HEADER..HEADER + length) {
        Some(payload) => Frame::Whole(u16::from_be_bytes([t0, t1]), payload, HEADER + length),
        None => Frame::Need(HEADER + length),
    })
}

/// A frame header for `length` bytes of payload.
pub(super) fn header(kind: u16, length: usize) -> Result<[u8; HEADER], WireError> {
    let too_long = WireError::FrameTooLong(length);
    let length = u32::try_from(length)
        .ok()
        .filter(|n| *n as usize <= MAX_PAYLOAD)
        .ok_or(too_long)?;
    let ([t0, t1], [l0, l1, l2, l3]) = (kind.to_be_bytes(), length.to_be_bytes());
    Ok([t0, t1, 0, 0, l0, l1, l2, l3])
}

/// Appends one frame.
pub fn encode_frame(kind: u16, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    out.extend_from_slice(&header(kind, payload.len())?);
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends one message frame.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    out.resize(start + HEADER, 0);
    out.extend_from_slice(&message.id().to_be_bytes());
    message.write_json(out);
    let header = header(MESSAGE, out.len() - start - HEADER)?;
    out[start..start + HEADER].copy_from_slice(&header);
    Ok(())
}

/// Decodes the message frame at the front of `data`.
pub fn decode(data: &[u8]) -> Result<Decoded, WireError> {
    match decode_frame(data)? {
        Frame::Need(n) => Ok(Decoded::Need(n)),
        Frame::Whole(kind, payload, taken) => Ok(Decoded::Message(
            Some(decode_message(kind, payload)?),
            taken,
        )),
    }
}

/// Decodes the payload of a frame that should be a message.
pub fn decode_message(kind: u16, payload: &[u8]) -> Result<Message, WireError> {
    let (id, json) = split_message(kind, payload)?;
    Ok(Message::read_json(id, &Json::parse(json)?).ok_or(WireError::UnknownId(id))??)
}

/// Id and JSON of a frame that should be a message; the id is judged before the JSON.
pub(super) fn split_message(kind: u16, payload: &[u8]) -> Result<(u16, &[u8]), WireError> {
    if kind != MESSAGE {
        return Err(WireError::FrameType(kind));
    }
    let (id, json) = payload.split_first_chunk().ok_or(WireError::TooShort)?;
    let id = u16::from_be_bytes(*id);
    if !Message::is_id(id) {
        return Err(WireError::UnknownId(id));
    }
    Ok((id, json))
}

/// The client's hello (wire.md §3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClientHello {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) capabilities: Capabilities,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bootstrap {
    pub(crate) transport: String,
    pub(crate) tls: bool,
    pub(crate) tcp_mux: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Capabilities {
    pub(crate) message: MessageCapabilities,
    pub(crate) crypto: CryptoCapabilities,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MessageCapabilities {
    pub(crate) codecs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CryptoCapabilities {
    pub(crate) algorithms: Vec<String>,
    pub(crate) client_random: Bytes,
}

/// The server's hello (wire.md §3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerHello {
    pub(crate) selected: Selected,
    pub(crate) error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selected {
    pub(crate) message: SelectedMessage,
    pub(crate) crypto: SelectedCrypto,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SelectedMessage {
    pub(crate) codec: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SelectedCrypto {
    pub(crate) algorithm: String,
    pub(crate) server_random: Bytes,
}

records! {
    ClientHello { bootstrap: "bootstrap" record, capabilities: "capabilities" record }
    Bootstrap { transport: "transport", tls: "tls", tcp_mux: "tcpMux" }
    Capabilities { message: "message" record, crypto: "crypto" record }
    MessageCapabilities { codecs: "codecs" }
    CryptoCapabilities { algorithms: "algorithms", client_random: "clientRandom" }
    ServerHello { selected: "selected" record, error: "error" }
    Selected { message: "message" record, crypto: "crypto" record }
    SelectedMessage { codec: "codec" }
    SelectedCrypto { algorithm: "algorithm", server_random: "serverRandom" }
}

pub(crate) fn encode_hello<T: Record>(hello: &T) -> Vec<u8> {
    let mut json = Vec::new();
    hello.write(&mut json);
    json
}

pub(crate) fn decode_hello<T: Record>(payload: &[u8]) -> Result<T, JsonError> {
    let mut hello = T::default();
    hello.read(&Json::parse(payload)?)?;
    Ok(hello)
}
