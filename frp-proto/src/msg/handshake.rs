//! The first messages of a connection in both roles and versions (wire.md §1.6, §3.3), and the control connection after them.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::io::{MsgError, read_message_into, read_some, write_message};
use super::v2::{self, ClientHello, Frame, ServerHello};
use super::{Decoded, Login, LoginResp, Message, Version};
use crate::auth::Secret;
use crate::crypto::aead::{self, Algorithm};
use crate::crypto::{CfbDecryptor, CfbEncryptor, derive_key};

/// Bytes read at once from a control connection.
const READ_SIZE: usize = 8 * 1024;

/// What an accepted connection said first.
pub struct Accepted {
    /// Version the peer speaks on this connection.
    pub version: Version,
    /// Its first message.
    pub message: Message,
    /// v2 only, and only if hellos were exchanged.
    pub negotiated: Option<Negotiated>,
}

/// Outcome of a v2 hello exchange; keys are derived from it and the token.
pub struct Negotiated {
    algorithm: Algorithm,
    transcript: [u8; 32],
}

/// What the client's hello tells about the transport (wire.md §3.2).
#[derive(Debug, Clone)]
pub struct HelloInfo {
    /// `transport.protocol`.
    pub transport: String,
    /// Whether TLS is used.
    pub tls: bool,
    /// Whether the mux is used.
    pub tcp_mux: bool,
}

fn protocol<T>(text: impl Into<String>) -> Result<T, MsgError> {
    Err(MsgError::Protocol(text.into()))
}

/// Reads one whole v2 frame.
async fn read_frame<R: AsyncRead + Unpin>(r: &mut R) -> Result<(u16, Vec<u8>), MsgError> {
    let mut data = Vec::new();
    loop {
        match v2::decode_frame(&data)? {
            Frame::Whole(kind, payload, _) => return Ok((kind, payload.to_vec())),
            Frame::Need(n) => read_some(r, &mut data, n).await?,
        }
    }
}

/// Server: detects the version, answers a client hello, reads the first message. Not cancel safe; the caller sets the
/// time limit and drops the connection.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) -> Result<Accepted, MsgError> {
    let mut data = Vec::new();
    while data.len() < v2::MAGIC.len() {
        // What cannot become either version is refused at its first byte.
        if !v2::MAGIC.starts_with(&data) {
            super::v1::decode(&data)?;
        }
        read_some(io, &mut data, v2::MAGIC.len()).await?;
    }
    if data != v2::MAGIC {
        let message = read_message_into(io, Version::V1, &mut data).await?;
        let Some(message) = message else {
            return protocol("empty first message");
        };
        return Ok(Accepted {
            version: Version::V1,
            message,
            negotiated: None,
        });
    }
    let (mut kind, mut payload) = read_frame(io).await?;
    let mut negotiated = None;
    if kind == v2::CLIENT_HELLO {
        negotiated = Some(answer_hello(io, &payload).await?);
        (kind, payload) = read_frame(io).await?;
    }
    Ok(Accepted {
        version: Version::V2,
        message: v2::decode_message(kind, &payload)?,
        negotiated,
    })
}

/// Checks a client hello in the spec's order and answers it.
async fn answer_hello<S: AsyncWrite + Unpin>(
    io: &mut S,
    payload: &[u8],
) -> Result<Negotiated, MsgError> {
    let hello: ClientHello = v2::decode_hello(payload).map_err(super::WireError::from)?;
    let crypto = &hello.capabilities.crypto;
    let mut reply = ServerHello::default();
    reply.selected.message.codec = "json".into();
    let algorithm = if !hello
        .capabilities
        .message
        .codecs
        .iter()
        .any(|c| c == "json")
    {
        Err("unsupported message codec".to_owned())
    } else if crypto.client_random.len() != 32 {
        Err(format!(
            "invalid crypto client random length {}, want 32",
            crypto.client_random.len()
        ))
    } else {
        crypto
            .algorithms
            .iter()
            .find_map(|a| Algorithm::by_name(a))
            .ok_or_else(|| "no supported crypto algorithm".to_owned())
    };
    let mut frame = Vec::new();
    match algorithm {
        Ok(algorithm) => {
            reply.selected.crypto.algorithm = algorithm.name().into();
            reply.selected.crypto.server_random = random32()?.to_vec().into();
            let json = v2::encode_hello(&reply);
            v2::encode_frame(v2::SERVER_HELLO, &json, &mut frame)?;
            io.write_all(&frame).await?;
            io.flush().await?;
            Ok(Negotiated {
                algorithm,
                transcript: aead::transcript(payload, &json),
            })
        }
        Err(error) => {
            reply.error.clone_from(&error);
            v2::encode_frame(v2::SERVER_HELLO, &v2::encode_hello(&reply), &mut frame)?;
            io.write_all(&frame).await?;
            io.flush().await?;
            io.shutdown().await?;
            protocol(error)
        }
    }
}

fn random32() -> Result<[u8; 32], MsgError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| MsgError::Protocol(format!("no random bytes: {e}")))?;
    Ok(bytes)
}

/// Client, control connection: sends (hello and) Login and waits for the answer. A refusal is `Ok` with `error` set.
/// Not cancel safe; the caller sets the time limit.
pub async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    version: Version,
    hello: HelloInfo,
    login: Login,
) -> Result<(LoginResp, Option<Negotiated>), MsgError> {
    let login = Message::Login(Box::new(login));
    let negotiated = if version == Version::V2 {
        Some(negotiate(io, hello, &login).await?)
    } else {
        write_message(io, version, &login).await?;
        None
    };
    match super::io::read_message(io, version).await? {
        Some(Message::LoginResp(resp)) => Ok((resp, negotiated)),
        other => protocol(format!(
            "unexpected message type {}, want LoginResp",
            other.map_or("null", |m| m.name())
        )),
    }
}

/// Sends hello and Login together, and reads the server's hello.
async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    info: HelloInfo,
    login: &Message,
) -> Result<Negotiated, MsgError> {
    let mut hello = ClientHello::default();
    hello.bootstrap.transport = info.transport;
    hello.bootstrap.tls = info.tls;
    hello.bootstrap.tcp_mux = info.tcp_mux;
    hello.capabilities.message.codecs = vec!["json".into()];
    hello.capabilities.crypto.algorithms = Algorithm::preferred()
        .iter()
        .map(|a| a.name().into())
        .collect();
    hello.capabilities.crypto.client_random = random32()?.to_vec().into();
    let json = v2::encode_hello(&hello);
    let mut out = v2::MAGIC.to_vec();
    v2::encode_frame(v2::CLIENT_HELLO, &json, &mut out)?;
    super::encode(Version::V2, login, &mut out)?;
    io.write_all(&out).await?;
    io.flush().await?;

    let (kind, payload) = read_frame(io).await?;
    if kind != v2::SERVER_HELLO {
        return protocol(format!(
            "unexpected frame type {kind}, want {}",
            v2::SERVER_HELLO
        ));
    }
    let reply: ServerHello = v2::decode_hello(&payload).map_err(super::WireError::from)?;
    if !reply.error.is_empty() {
        return protocol(reply.error);
    }
    let (codec, crypto) = (&reply.selected.message.codec, &reply.selected.crypto);
    if codec != "json" {
        return protocol(format!("unsupported selected message codec: {codec}"));
    }
    let Some(algorithm) = Algorithm::by_name(&crypto.algorithm) else {
        return protocol(format!(
            "unknown selected crypto algorithm: {}",
            crypto.algorithm
        ));
    };
    if crypto.server_random.len() != 32 {
        return protocol(format!(
            "invalid crypto server random length {}, want 32",
            crypto.server_random.len()
        ));
    }
    Ok(Negotiated {
        algorithm,
        transcript: aead::transcript(&json, &payload),
    })
}

/// Client: the first message of a work or visitor connection, with the v2 magic if needed, in one write.
pub async fn open<S: AsyncWrite + Unpin>(
    io: &mut S,
    version: Version,
    m: &Message,
) -> Result<(), MsgError> {
    let mut out = Vec::new();
    if version == Version::V2 {
        out.extend_from_slice(&v2::MAGIC);
    }
    super::encode(version, m, &mut out)?;
    io.write_all(&out).await?;
    Ok(io.flush().await?)
}

/// Which end of the control connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// frpc.
    Client,
    /// frps.
    Server,
}

enum Decryptor {
    Cfb(Box<CfbDecryptor>),
    Aead(Box<aead::Decryptor>),
}

enum Encryptor {
    Cfb(Box<CfbEncryptor>),
    Aead(Box<aead::Encryptor>),
}

/// Reading half of a control connection after login.
pub struct ControlReader<R> {
    io: R,
    version: Version,
    cipher: Decryptor,
    raw: BytesMut,
    plain: BytesMut,
}

/// Writing half of a control connection after login.
pub struct ControlWriter<W> {
    io: W,
    version: Version,
    cipher: Encryptor,
}

/// Both halves of a control connection.
pub type Control<S> = (ControlReader<ReadHalf<S>>, ControlWriter<WriteHalf<S>>);

/// Sets up the control cipher: v1 AES-CFB (wire.md §4.5), v2 AEAD (§3.4). v2 without negotiation is an error.
pub fn control<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    side: Side,
    version: Version,
    negotiated: Option<Negotiated>,
    token: &Secret,
) -> Result<Control<S>, MsgError> {
    let (decryptor, encryptor) = match (version, negotiated) {
        (Version::V1, _) => {
            let key = derive_key(token.expose());
            (
                Decryptor::Cfb(Box::new(CfbDecryptor::new(&key))),
                Encryptor::Cfb(Box::new(CfbEncryptor::new(&key)?)),
            )
        }
        (Version::V2, None) => return protocol("missing v2 crypto negotiation"),
        (Version::V2, Some(n)) => {
            let key = |direction| n.algorithm.key(token.expose(), &n.transcript, direction);
            let (to_server, to_client) = (key("client-to-server"), key("server-to-client"));
            let (read, write) = match side {
                Side::Client => (to_client, to_server),
                Side::Server => (to_server, to_client),
            };
            (
                Decryptor::Aead(Box::new(aead::Decryptor::new(n.algorithm, &read))),
                Encryptor::Aead(Box::new(aead::Encryptor::new(n.algorithm, &write)?)),
            )
        }
    };
    let (r, w) = tokio::io::split(io);
    Ok((
        ControlReader {
            io: r,
            version,
            cipher: decryptor,
            raw: BytesMut::new(),
            plain: BytesMut::new(),
        },
        ControlWriter {
            io: w,
            version,
            cipher: encryptor,
        },
    ))
}

impl<R: AsyncRead + Unpin> ControlReader<R> {
    /// Next message; v1 `null` payloads are skipped. `None` = the connection ended between messages. Cancel safe.
    pub async fn read(&mut self) -> Result<Option<Message>, MsgError> {
        loop {
            if let Decoded::Message(message, taken) = super::decode(self.version, &self.plain)? {
                self.plain.advance(taken);
                if self.plain.is_empty() {
                    // An idle session keeps no buffer.
                    self.plain = BytesMut::new();
                }
                if message.is_some() {
                    return Ok(message);
                }
                continue;
            }
            self.raw.reserve(READ_SIZE);
            if self.io.read_buf(&mut self.raw).await? == 0 {
                if self.plain.is_empty() && self.raw.is_empty() {
                    return Ok(None);
                }
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            match &mut self.cipher {
                Decryptor::Cfb(c) => {
                    let data = c.decrypt_stream(&mut self.raw);
                    self.plain.extend_from_slice(data);
                    self.raw.clear();
                }
                Decryptor::Aead(c) => c.decrypt(&mut self.raw, &mut self.plain)?,
            }
            if self.raw.is_empty() {
                self.raw = BytesMut::new();
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> ControlWriter<W> {
    /// Writes one message and flushes.
    pub async fn write(&mut self, m: &Message) -> Result<(), MsgError> {
        self.write_all(std::slice::from_ref(m)).await
    }

    /// Writes several messages with one write. One that is too long is left out with a warning, as it cannot be sent and
    /// the others can.
    pub async fn write_all(&mut self, messages: &[Message]) -> Result<(), MsgError> {
        let mut out = Vec::new();
        for m in messages {
            if let Err(e) = super::encode(self.version, m, &mut out) {
                tracing::warn!("{} not sent: {e}", m.name());
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        let data = match &mut self.cipher {
            Encryptor::Cfb(c) => c.encrypt_stream(out),
            Encryptor::Aead(c) => c.encrypt(&out)?,
        };
        self.io.write_all(&data).await?;
        Ok(self.io.flush().await?)
    }

    /// Ends the writing direction, after which the peer has all that was written.
    pub async fn shutdown(&mut self) -> std::io::Result<()> {
        self.io.shutdown().await
    }
}
