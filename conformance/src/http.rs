//! HTTP/1 to the byte: a user that sends what it likes, and a backend that says what it got.
//!
//! The [`Backend`] answers a request with its head in [`normal`] form and its body, unless its path is one of `CANNED`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::wait::{LIMIT, within};
use crate::{Failure, Outcome};

/// What the backend does besides answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Waits for the next request.
    Stays,
    /// The same, having thought for a while before the answer.
    Thinks,
    /// Closes the connection.
    Closes,
    /// Sends back what comes.
    Echoes,
    /// Nothing, for ever.
    Hangs,
}

/// How long [`Then::Thinks`] thinks.
const THINKING: Duration = Duration::from_millis(300);

/// Answers by path.
const CANNED: [(&str, Then, &str); 17] = [
    ("/garbage", Then::Closes, "this is not http\r\n\r\n"),
    ("/eof", Then::Closes, ""),
    ("/hang", Then::Hangs, ""),
    (
        "/slow",
        Then::Thinks,
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nslow",
    ),
    (
        "/cut",
        Then::Closes,
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
    ),
    (
        "/cut-chunk",
        Then::Closes,
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ),
    (
        "/trailers",
        Then::Stays,
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    ),
    (
        "/hints",
        Then::Stays,
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "/old",
        Then::Closes,
        "HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nuntil close",
    ),
    (
        "/none",
        Then::Stays,
        "HTTP/1.1 204 No Content\r\nX-Other: 1\r\n\r\n",
    ),
    (
        "/same",
        Then::Stays,
        "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
    ),
    (
        "/hops",
        Then::Stays,
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nContent-Type: a/b\r\nX-Resp: backend\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "/lengths",
        Then::Closes,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "/switch",
        Then::Echoes,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: zzz\r\n\r\nfrom the backend, ",
    ),
    (
        "/switch-else",
        Then::Closes,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
    ),
    (
        "/bye",
        Then::Closes,
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nbye",
    ),
    (
        "tunnel.test:443",
        Then::Echoes,
        "HTTP/1.1 200 Connection established\r\n\r\nfrom the backend, ",
    ),
];

/// A backend on a free port; it ends with the case.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Backend {
    /// Starts one that names itself in the field `x-backend` of what it echoes.
    pub async fn start(name: &'static str) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                // A connection that breaks is seen at the user's end.
                open.spawn(async move { serve(stream, name).await.ok() });
            }
        });
        Ok(Self {
            address,
            connections,
            _task: task,
        })
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, name: &str) -> Outcome {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let head = read_head(&mut stream, &mut read).await?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = read_body(&mut stream, &mut read, &head, false).await?;
        let canned = CANNED.iter().find(|(canned, ..)| *canned == path);
        if let Some((_, then, answer)) = canned {
            if *then == Then::Thinks {
                tokio::time::sleep(THINKING).await;
            }
            stream.write_all(answer.as_bytes()).await?;
            match then {
                Then::Stays | Then::Thinks => continue,
                Then::Closes => return Ok(()),
                Then::Echoes => {
                    stream.write_all(&read).await?;
                    let (mut r, mut w) = stream.split();
                    tokio::io::copy(&mut r, &mut w).await?;
                    return Ok(());
                }
                Then::Hangs => std::future::pending().await,
            }
        }
        let mut echo = normal(&head).into_bytes();
        echo.push(b'\n');
        echo.extend_from_slice(&body);
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-Backend: {name}\r\nContent-Length: {}\r\n\r\n",
            echo.len()
        )
        .into_bytes();
        if !head.starts_with("HEAD ") {
            answer.extend_from_slice(&echo);
        }
        stream.write_all(&answer).await?;
    }
}

/// A head as it can be compared: the first line, then the fields with names in lower case and in order of the alphabet.
/// What upstream adds by itself and what changes with every run is left out.
pub fn normal(head: &str) -> String {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut fields: Vec<String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| format!("{}: {}", name.to_lowercase(), value.trim()))
        .filter(|field| {
            field != "accept-encoding: gzip"
                && field != "user-agent: Go-http-client/1.1"
                && !field.starts_with("date: ")
        })
        .collect();
    fields.sort();
    fields.insert(0, first.to_owned());
    fields.join("\n") + "\n"
}

/// Reads on until a head is complete, and takes it off.
async fn read_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> Outcome<String> {
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            let head = String::from_utf8_lossy(read).into_owned();
            *read = rest;
            return Ok(head);
        }
        more(stream, read).await?;
    }
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Outcome {
    match stream.read_buf(read).await? {
        0 => {
            let read = String::from_utf8_lossy(read);
            Err(Failure::new(format!("the connection ended after {read:?}")))
        }
        _ => Ok(()),
    }
}

/// Reads the body that belongs to a head, without what frames it; trailers come as lines after it.
async fn read_body(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    head: &str,
    until_close: bool,
) -> Outcome<Vec<u8>> {
    let fields = normal(head);
    let field = |name: &str| {
        let mut lines = fields.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    if field("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let size = line(stream, read).await?;
            let size = usize::from_str_radix(size.trim(), 16)?;
            if size == 0 {
                break;
            }
            while read.len() < size + 2 {
                more(stream, read).await?;
            }
            body.extend(read.drain(..size));
            read.drain(..2);
        }
        loop {
            let trailer = line(stream, read).await?;
            if trailer == "\r\n" {
                return Ok(body);
            }
            body.extend_from_slice(trailer.to_lowercase().trim_end().as_bytes());
        }
    }
    if let Some(length) = field("content-length") {
        let length = length.parse()?;
        while read.len() < length {
            more(stream, read).await?;
        }
        return Ok(read.drain(..length).collect());
    }
    if until_close {
        while stream.read_buf(read).await? > 0 {}
        return Ok(std::mem::take(read));
    }
    Ok(Vec::new())
}

async fn line(stream: &mut TcpStream, read: &mut Vec<u8>) -> Outcome<String> {
    loop {
        if let Some(end) = read.windows(2).position(|w| w == b"\r\n") {
            let line: Vec<u8> = read.drain(..end + 2).collect();
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        more(stream, read).await?;
    }
}

/// A user's connection.
pub struct User {
    stream: TcpStream,
    read: Vec<u8>,
}

impl User {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Outcome {
        Ok(self.stream.write_all(bytes.as_ref()).await?)
    }

    /// Ends the user's side.
    pub async fn finish(&mut self) -> Outcome {
        Ok(self.stream.shutdown().await?)
    }

    /// The next answer: its head in [`normal`] form without what frames the body, an empty line, the body.
    pub async fn answer(&mut self) -> Outcome<String> {
        within("an answer", LIMIT, self.read_answer(false)).await?
    }

    /// The answer to a HEAD request, which has no body.
    pub async fn answer_to_head(&mut self) -> Outcome<String> {
        within("an answer", LIMIT, self.read_answer(true)).await?
    }

    async fn read_answer(&mut self, no_body: bool) -> Outcome<String> {
        let head = read_head(&mut self.stream, &mut self.read).await?;
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let bare = no_body || status.starts_with('1') || ["204", "304"].contains(&&*status);
        let body = if bare {
            Vec::new()
        } else {
            read_body(&mut self.stream, &mut self.read, &head, true).await?
        };
        let head: String = normal(&head)
            .lines()
            .filter(|line| bare || !line.starts_with("content-length: "))
            .filter(|line| !line.starts_with("transfer-encoding: "))
            .flat_map(|line| [line, "\n"])
            .collect();
        Ok(format!("{head}\n{}", String::from_utf8_lossy(&body)))
    }

    /// The next `n` bytes.
    pub async fn bytes(&mut self, n: usize) -> Outcome<String> {
        let read = async {
            while self.read.len() < n {
                more(&mut self.stream, &mut self.read).await?;
            }
            let bytes: Vec<u8> = self.read.drain(..n).collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        within("bytes", LIMIT, read).await?
    }

    /// The bytes up to and with `end`.
    pub async fn until(&mut self, end: &str) -> Outcome<String> {
        let read = async {
            loop {
                let text = String::from_utf8_lossy(&self.read);
                if let Some(at) = text.find(end) {
                    let bytes: Vec<u8> = self.read.drain(..at + end.len()).collect();
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                more(&mut self.stream, &mut self.read).await?;
            }
        };
        within(format!("{end:?}"), LIMIT, read).await?
    }

    /// All bytes up to the end, however it comes.
    pub async fn rest(mut self) -> Outcome<String> {
        let read = async {
            while let Ok(1..) = self.stream.read_buf(&mut self.read).await {}
            String::from_utf8_lossy(&self.read).into_owned()
        };
        within("the end of the connection", LIMIT, read).await
    }
}
