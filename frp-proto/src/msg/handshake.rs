//! The first messages of a connection, both roles and versions (wire.md §1.6, §3.3), and the control cipher.
use super::{Login, LoginResp, Message, Version, io::MsgError};
use crate::auth::Secret;
use tokio::io::{AsyncRead, AsyncWrite};

/// What an accepted connection said first.
pub struct Accepted {
    pub version: Version,
    pub message: Message,
    /// v2 only, and only if a ClientHello was exchanged.
    pub negotiated: Option<Negotiated>,
}

/// Outcome of a v2 hello exchange; keys are derived from it and the token.
pub struct Negotiated {/* private */}

/// Server: detects the version, answers a ClientHello, reads the first message. The caller sets the 10 s limit (not cancel safe; drop the conn).
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(_io: &mut S) -> Result<Accepted, MsgError> {
    todo!()
}

/// Client, control connection: sends (hello and) Login, waits for the answer. The caller sets the 10 s limit. A non-empty `LoginResp.error` is returned in the response, not as `Err`.
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    _io: &mut S,
    _version: Version,
    _hello: HelloInfo,
    _login: Login,
) -> Result<(LoginResp, Option<Negotiated>), MsgError> {
    todo!()
}

/// What ClientHello tells about the transport (wire.md §3.2).
#[derive(Debug, Clone)]
pub struct HelloInfo {
    pub transport: String,
    pub tls: bool,
    pub tcp_mux: bool,
}

/// Client: first message on a work or visitor connection: v2 magic if needed, then the message, in one write.
pub async fn open<S: AsyncWrite + Unpin>(
    _io: &mut S,
    _version: Version,
    _m: &Message,
) -> Result<(), MsgError> {
    todo!()
}

/// Which end of the control connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// Control connection after login: encrypted, split; reader is buffered.
pub struct ControlReader<R> {
    _r: R,
}
/// See [`ControlReader`].
pub struct ControlWriter<W> {
    _w: W,
}

/// Sets up the control cipher: v1 AES-CFB, v2 AEAD from `negotiated`. v2 without negotiation is an error with text `missing v2 crypto negotiation`.
pub fn control<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    _io: S,
    _side: Side,
    _version: Version,
    _negotiated: Option<Negotiated>,
    _token: &Secret,
) -> Result<
    (
        ControlReader<tokio::io::ReadHalf<S>>,
        ControlWriter<tokio::io::WriteHalf<S>>,
    ),
    MsgError,
> {
    todo!()
}

impl<R: AsyncRead + Unpin> ControlReader<R> {
    /// Next message; v1 `null` payloads are skipped. `Ok(None)` = clean EOF. Cancel safe.
    pub async fn read(&mut self) -> Result<Option<Message>, MsgError> {
        todo!()
    }
}
impl<W: AsyncWrite + Unpin> ControlWriter<W> {
    /// Writes one message and flushes.
    pub async fn write(&mut self, _m: &Message) -> Result<(), MsgError> {
        todo!()
    }
    /// Writes several messages with one write.
    pub async fn write_all(&mut self, _m: &[Message]) -> Result<(), MsgError> {
        todo!()
    }
}
