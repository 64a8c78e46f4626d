//! The HTTP exchange before the first frame.

use std::future::poll_fn;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use httparse::{EMPTY_HEADER, Header, Request, Response, Status};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::stream::{Role, WsStream};
use crate::buffer::Buffer;

/// Where a tunnel is asked for.
pub const PATH: &str = "/~!frp";
/// What every request of a client begins with.
pub const PREFIX: &[u8; 10] = b"GET /~!frp";

/// Longest head of a request or response.
const MAX_HEAD: usize = 16 * 1024;
/// Most header fields of one; proxies on the way add some.
const MAX_FIELDS: usize = 64;

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 19\r\n\r\n404 page not found\n";

/// Answers a client's request as server; requests for other paths are answered too, until the right one comes. The
/// caller sets the time limit.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) -> io::Result<WsStream<S>> {
    let mut incoming = Buffer::new();
    loop {
        let (answer, len) = read_head(&mut io, &mut incoming, |head| {
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            let mut request = Request::new(&mut fields);
            match request.parse(head) {
                Ok(Status::Complete(len)) => Some((judge(&request), len)),
                Ok(Status::Partial) => None,
                Err(_) => Some((Answer::refuse("400 Bad Request", "", "400 Bad Request"), 0)),
            }
        })
        .await?;
        incoming.consume(len);
        match answer {
            Answer::Switch(text) => {
                write(&mut io, &text).await?;
                return Ok(WsStream::new(io, Role::Server, incoming));
            }
            Answer::NotFound => write(&mut io, NOT_FOUND).await?,
            Answer::Refuse(text, why) => {
                write(&mut io, &text).await?;
                io.shutdown().await?;
                return Err(io::Error::other(why));
            }
        }
    }
}

/// What a request deserves.
enum Answer {
    Switch(String),
    NotFound,
    /// The response, and what to tell the caller.
    Refuse(String, &'static str),
}

impl Answer {
    fn refuse(status: &str, field: &str, body: &'static str) -> Self {
        let why = if body.is_empty() {
            "websocket: handshake refused"
        } else {
            body
        };
        Self::Refuse(format!("HTTP/1.1 {status}\r\n{field}\r\n{body}"), why)
    }
}

/// The checks, in upstream's order.
fn judge(request: &Request<'_, '_>) -> Answer {
    const BAD: &str = "400 Bad Request";
    let path = request.path.unwrap_or_default();
    if path.split('?').next() != Some(PATH) {
        return Answer::NotFound;
    }
    if request.method != Some("GET") {
        return Answer::refuse("405 Method Not Allowed", "", "bad method");
    }
    let field = |name| field(request.headers, name).unwrap_or_default();
    let upgrade = field("Upgrade").eq_ignore_ascii_case("websocket");
    let connection = field("Connection").to_ascii_lowercase();
    if !upgrade || !connection.contains("upgrade") {
        return Answer::refuse(BAD, "", "not websocket protocol");
    }
    let key = field("Sec-WebSocket-Key");
    if key.is_empty() {
        return Answer::refuse(BAD, "", "mismatch challenge/response");
    }
    if field("Sec-WebSocket-Version") != "13" {
        let wanted = "Sec-WebSocket-Version: 13\r\n";
        return Answer::refuse(BAD, wanted, "missing or bad WebSocket Version");
    }
    if !is_origin(field("Origin")) {
        return Answer::refuse("403 Forbidden", "", "");
    }
    let protocol = field("Sec-WebSocket-Protocol");
    if protocol.contains(',') {
        return Answer::refuse(BAD, "", "");
    }
    let accept = accept_value(key);
    let protocol = if protocol.is_empty() {
        String::new()
    } else {
        format!("Sec-WebSocket-Protocol: {protocol}\r\n")
    };
    Answer::Switch(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    ))
}

/// An absolute URL or path. Whose it is does not matter: no browser has credentials here.
fn is_origin(origin: &str) -> bool {
    let scheme = origin.split_once(':').map(|(scheme, _)| scheme);
    let absolute = scheme.is_some_and(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    (absolute || origin.starts_with('/')) && !origin.contains(' ')
}

/// Asks for a tunnel as client. `host` goes into the fields Host and Origin. The caller sets the time limit.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    host: &str,
) -> io::Result<WsStream<S>> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let key = BASE64.encode(nonce);
    write(&mut io, &request(host, &key)).await?;
    let mut incoming = Buffer::new();
    let (checked, len) = read_head(&mut io, &mut incoming, |head| {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut response = Response::new(&mut fields);
        match response.parse(head) {
            Ok(Status::Complete(len)) => Some((check(&response, &key), len)),
            Ok(Status::Partial) => None,
            Err(_) => Some((Err("malformed HTTP response"), 0)),
        }
    })
    .await?;
    checked.map_err(io::Error::other)?;
    incoming.consume(len);
    Ok(WsStream::new(io, Role::Client, incoming))
}

/// A client's request, to the byte.
pub(super) fn request(host: &str, key: &str) -> String {
    // A zone means nothing to the other side.
    let host = match host.split_once('%') {
        Some((address, rest)) => rest
            .split_once(']')
            .map_or_else(|| address.into(), |(_, port)| format!("{address}]{port}")),
        None => host.to_owned(),
    };
    let origin = host.to_lowercase();
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nOrigin: http://{origin}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Whether the server agrees; the texts are upstream's.
fn check(response: &Response<'_, '_>, key: &str) -> Result<(), &'static str> {
    let field = |name| field(response.headers, name);
    let is = |name, value: &str| field(name).is_some_and(|f| f.eq_ignore_ascii_case(value));
    if response.code != Some(101) {
        return Err("bad status");
    }
    if !is("Upgrade", "websocket") || !is("Connection", "upgrade") {
        return Err("missing or bad upgrade");
    }
    if field("Sec-WebSocket-Accept") != Some(&accept_value(key)) {
        return Err("mismatch challenge/response");
    }
    if field("Sec-WebSocket-Extensions").is_some() {
        return Err("unsupported extensions");
    }
    if field("Sec-WebSocket-Protocol").is_some() {
        return Err("bad protocol");
    }
    Ok(())
}

/// The first field of this name, if it is text.
fn field<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|f| f.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(found.value).ok().map(str::trim)
}

/// What proves that a key was read by somebody who knows the protocol.
pub(super) fn accept_value(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

/// Reads until `parse` finds the end of a head; what follows it stays in `incoming`.
async fn read_head<S: AsyncRead + Unpin, T>(
    io: &mut S,
    incoming: &mut Buffer,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    loop {
        if let Some(head) = parse(incoming.filled()) {
            return Ok(head);
        }
        if incoming.filled().len() >= MAX_HEAD {
            return Err(io::Error::other("websocket: head too long"));
        }
        if poll_fn(|cx| incoming.poll_fill(io, cx, 1)).await? == 0 {
            let end = if incoming.is_empty() {
                "EOF"
            } else {
                "unexpected EOF"
            };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, end));
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(io: &mut S, text: &str) -> io::Result<()> {
    io.write_all(text.as_bytes()).await?;
    io.flush().await
}
