//! From recorded bytes to messages, by the codecs of `frp-proto`. Every message must encode to the bytes it came from.

use std::collections::BTreeMap;

use bytes::BytesMut;
use frp_proto::crypto::aead::{self, Algorithm};
use frp_proto::crypto::{CfbDecryptor, derive_key};
use frp_proto::msg::v2::{self, Frame};
use frp_proto::msg::{
    self, Decoded, Login, LoginResp, Message, NewWorkConn, StartWorkConn, Version,
};
use frp_proto::net;
use tokio::io::AsyncReadExt;

use super::{Recording, Sender};
use crate::raw::BoxStream;
use crate::{Failure, Outcome};

/// What the two programs said.
#[derive(Debug)]
pub struct Session {
    /// First message of the control conn.
    pub login: Login,
    /// Its answer.
    pub login_resp: LoginResp,
    /// frpc's messages after that.
    pub from_frpc: Vec<Message>,
    /// frps's messages after that.
    pub from_frps: Vec<Message>,
    /// Work conns in the order they were opened.
    pub work: Vec<Work>,
}

/// One work conn.
#[derive(Debug)]
pub struct Work {
    /// First message.
    pub opened: NewWorkConn,
    /// Its answer, if it was used.
    pub start: Option<StartWorkConn>,
    /// frpc's payload, as on the wire.
    pub from_frpc: Vec<u8>,
    /// frps's payload, as on the wire.
    pub from_frps: Vec<u8>,
}

/// The two directions of one conn.
#[derive(Debug, Default)]
struct Conn {
    from_frpc: Vec<u8>,
    from_frps: Vec<u8>,
}

impl Conn {
    fn direction(&mut self, from: Sender) -> &mut Vec<u8> {
        match from {
            Sender::Frpc => &mut self.from_frpc,
            Sender::Frps => &mut self.from_frps,
        }
    }
}

impl Recording {
    /// Decodes the whole session.
    pub fn decode(&self) -> Outcome<Session> {
        let conns = self.conns()?;
        let (control, work) = conns
            .split_first()
            .ok_or_else(|| Failure::new("no connection"))?;
        let (login, login_resp, from_frpc, from_frps) = self.control(control)?;
        let work = work.iter().map(|conn| self.work(conn));
        Ok(Session {
            login,
            login_resp,
            from_frpc,
            from_frps,
            work: work.collect::<Outcome<_>>()?,
        })
    }

    /// The payload of a direction of a work conn, without its layers.
    pub async fn plain(&self, payload: &[u8]) -> Outcome<Vec<u8>> {
        let io = tokio::io::join(std::io::Cursor::new(payload.to_vec()), tokio::io::sink());
        let mut plain = Vec::new();
        let mut io = layered(Box::new(io), self);
        io.read_to_end(&mut plain).await?;
        Ok(plain)
    }

    /// The conns: streams of the mux, or connections.
    fn conns(&self) -> Outcome<Vec<Conn>> {
        let mut conns = Vec::new();
        for chunks in &self.connections {
            let mut conn = Conn::default();
            for chunk in chunks {
                conn.direction(chunk.from).extend_from_slice(&chunk.hex);
            }
            if self.mux {
                let mut streams = BTreeMap::new();
                for from in [Sender::Frpc, Sender::Frps] {
                    split_streams(conn.direction(from), from, &mut streams)?;
                }
                conns.extend(streams.into_values());
            } else {
                conns.push(conn);
            }
        }
        Ok(conns)
    }

    fn control(&self, conn: &Conn) -> Outcome<(Login, LoginResp, Vec<Message>, Vec<Message>)> {
        let (mut up, mut down) = (&conn.from_frpc[..], &conn.from_frps[..]);
        let mut negotiated = None;
        if self.version() == Version::V2 {
            take_magic(&mut up)?;
            let client_hello = take_frame(&mut up, v2::CLIENT_HELLO)?;
            let server_hello = take_frame(&mut down, v2::SERVER_HELLO)?;
            let selected: serde_json::Value = serde_json::from_slice(server_hello)?;
            let name = selected["selected"]["crypto"]["algorithm"].as_str();
            let algorithm = name.and_then(Algorithm::by_name);
            let algorithm = algorithm.ok_or_else(|| Failure::new("unknown algorithm"))?;
            negotiated = Some((algorithm, aead::transcript(client_hello, server_hello)));
        }
        let (Message::Login(login), Message::LoginResp(resp)) = (
            take_message(self.version(), &mut up)?,
            take_message(self.version(), &mut down)?,
        ) else {
            return Err(Failure::new("the first conn does not begin with a login"));
        };
        let decrypt = |bytes: &[u8], direction| match negotiated {
            None => {
                let mut decryptor = CfbDecryptor::new(&derive_key(self.token.as_bytes()));
                Ok(decryptor.decrypt_stream(&mut bytes.to_vec()).to_vec())
            }
            Some((algorithm, transcript)) => {
                let key = algorithm.key(self.token.as_bytes(), &transcript, direction);
                let (mut raw, mut plain) = (BytesMut::from(bytes), BytesMut::new());
                aead::Decryptor::new(algorithm, &key).decrypt(&mut raw, &mut plain)?;
                if !raw.is_empty() {
                    return Err(Failure::new("half a record"));
                }
                Outcome::Ok(plain.to_vec())
            }
        };
        Ok((
            *login,
            resp,
            take_messages(self.version(), &decrypt(up, "client-to-server")?)?,
            take_messages(self.version(), &decrypt(down, "server-to-client")?)?,
        ))
    }

    fn work(&self, conn: &Conn) -> Outcome<Work> {
        let (mut up, mut down) = (&conn.from_frpc[..], &conn.from_frps[..]);
        if self.version() == Version::V2 {
            take_magic(&mut up)?;
        }
        let Message::NewWorkConn(opened) = take_message(self.version(), &mut up)? else {
            return Err(Failure::new("a conn that is neither control nor work"));
        };
        let start = if down.is_empty() {
            None
        } else {
            match take_message(self.version(), &mut down)? {
                Message::StartWorkConn(start) => Some(start),
                other => return Err(Failure::new(format!("not StartWorkConn: {other:?}"))),
            }
        };
        Ok(Work {
            opened,
            start,
            from_frpc: up.to_vec(),
            from_frps: down.to_vec(),
        })
    }
}

/// The layers of a recording's proxy on a work conn (wire.md §6).
pub fn layered(io: BoxStream, recording: &Recording) -> BoxStream {
    let key = derive_key(recording.token.as_bytes());
    let key = recording.encryption.then_some(&key);
    Box::new(net::Conn::Other(Box::new(io)).layered(key, recording.compression))
}

/// Sorts the data frames of one direction by stream; other frames carry no bytes of conns (wire.md §5.2).
fn split_streams(mut bytes: &[u8], from: Sender, streams: &mut BTreeMap<u32, Conn>) -> Outcome {
    const DATA: u8 = 0;
    while !bytes.is_empty() {
        let header: [u8; 12] = *bytes
            .first_chunk()
            .ok_or_else(|| Failure::new("half a header"))?;
        let [version, kind, _, _, s0, s1, s2, s3, l0, l1, l2, l3] = header;
        if version != 0 || kind > 3 {
            return Err(Failure::new(format!("no frame header: {header:02x?}")));
        }
        bytes = &bytes[header.len()..];
        if kind == DATA {
            let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let data = bytes
                .get(..len)
                .ok_or_else(|| Failure::new("half a frame"))?;
            let stream = streams.entry(u32::from_be_bytes([s0, s1, s2, s3]));
            stream.or_default().direction(from).extend_from_slice(data);
            bytes = &bytes[len..];
        }
    }
    Ok(())
}

fn take_magic(bytes: &mut &[u8]) -> Outcome {
    let rest = bytes.strip_prefix(&v2::MAGIC);
    *bytes = rest.ok_or_else(|| Failure::new("no magic"))?;
    Ok(())
}

fn take_frame<'a>(bytes: &mut &'a [u8], wanted: u16) -> Outcome<&'a [u8]> {
    match v2::decode_frame(bytes)? {
        Frame::Whole(kind, payload, taken) if kind == wanted => {
            *bytes = &bytes[taken..];
            Ok(payload)
        }
        other => Err(Failure::new(format!("not frame {wanted}: {other:?}"))),
    }
}

/// Decodes one message and checks that it encodes to the same bytes.
fn take_message(version: Version, bytes: &mut &[u8]) -> Outcome<Message> {
    let Decoded::Message(Some(message), taken) = msg::decode(version, bytes)? else {
        return Err(Failure::new("half a message"));
    };
    let (front, rest) = bytes.split_at(taken);
    let mut encoded = Vec::new();
    msg::encode(version, &message, &mut encoded)?;
    if encoded != front {
        let (ours, theirs) = (
            String::from_utf8_lossy(&encoded),
            String::from_utf8_lossy(front),
        );
        return Err(Failure::new(format!("{ours:?} was {theirs:?} on the wire")));
    }
    *bytes = rest;
    Ok(message)
}

fn take_messages(version: Version, mut bytes: &[u8]) -> Outcome<Vec<Message>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        messages.push(take_message(version, &mut bytes)?);
    }
    Ok(messages)
}
