//! A server plugin that records what it is asked and answers as a case wants.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use frp_proto::tls::{ServerTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::config::Value;
use crate::wait::{self, LIMIT};
use crate::{Failure, Outcome};

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes of a request's body.
const MAX_BODY: usize = 1024 * 1024;

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which of its connections it came on, from 1.
    pub connection: usize,
    /// The request line, `POST /path?op=…`.
    pub line: String,
    /// Header fields, as they came.
    pub fields: Vec<String>,
    /// JSON.
    pub body: String,
}

impl Request {
    /// The operation, from the URL.
    pub fn op(&self) -> &str {
        let (_, op) = self.line.split_once("op=").unwrap_or_default();
        op.split(['&', ' ']).next().unwrap_or_default()
    }

    /// The value of a header field.
    pub fn field(&self, name: &str) -> &str {
        let mut fields = self.fields.iter().filter_map(|f| f.split_once(": "));
        let found = fields.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// What it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with this body.
    Json(String),
    /// Another status, without a body.
    Status(u16),
    /// A redirect with this status to this location.
    Redirect(u16, String),
    /// Nothing, for ever.
    Silence,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
}

impl Answer {
    /// Leaves everything as it is.
    pub fn unchanged() -> Self {
        Self::Json("{\"unchange\":true}".into())
    }

    /// Goes on with `content`.
    pub fn content(content: &str) -> Self {
        Self::Json(format!("{{\"unchange\":false,\"content\":{content}}}"))
    }

    /// Refuses.
    pub fn reject(reason: &str) -> Self {
        Self::Json(format!(
            "{{\"reject\":true,\"reject_reason\":\"{reason}\"}}"
        ))
    }
}

type Decide = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A running plugin; it runs as long as the case.
#[derive(Clone)]
pub struct Plugin {
    address: SocketAddr,
    secure: bool,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Plugin {
    /// Serves HTTP.
    pub async fn start(
        decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Outcome<Self> {
        Self::serve(Arc::new(decide), None).await
    }

    /// Serves HTTPS; without files, under a certificate that nobody knows.
    pub async fn start_secure(
        files: TlsFiles,
        decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Outcome<Self> {
        let tls = ServerTls::new(files).map_err(|e| Failure::new(e.to_string()))?;
        Self::serve(Arc::new(decide), Some(tls)).await
    }

    async fn serve(decide: Decide, tls: Option<ServerTls>) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let plugin = Self {
            address: listener.local_addr()?,
            secure: tls.is_some(),
            seen: Arc::default(),
        };
        let seen = plugin.seen.clone();
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                let (decide, seen, tls) = (decide.clone(), seen.clone(), tls.clone());
                // What goes wrong here is seen by who asks.
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            let stream = tls.accept(stream).await?;
                            answer_all(stream, connection, &decide, &seen).await
                        }
                        None => answer_all(stream, connection, &decide, &seen).await,
                    }
                });
            }
        });
        Ok(plugin)
    }

    /// `httpPlugins` with one entry for each name, all of them this plugin, asked about `ops` under the path `/NAME`.
    pub fn config(&self, names: &[&str], ops: &[&str]) -> Value {
        self.config_with(names, ops, "")
    }

    /// As [`Plugin::config`], with more keys, such as `, tlsVerify = true`.
    pub fn config_with(&self, names: &[&str], ops: &[&str], more: &str) -> Value {
        let scheme = if self.secure { "https://" } else { "" };
        let mut entries = String::new();
        for name in names {
            let _ = write!(
                entries,
                "{{ name = \"{name}\", addr = \"{scheme}{}\", path = \"/{name}\", ops = {ops:?}{more} }}, ",
                self.address
            );
        }
        Value::Toml(format!("[{entries}]"))
    }

    /// All it has been asked.
    pub fn requests(&self) -> Vec<Request> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Waits until it has been asked about `op` `times` times; the last of them.
    #[track_caller]
    pub fn asked(&self, op: &str, times: usize) -> impl Future<Output = Outcome<Request>> {
        wait::until(
            format!("{times} requests about {op}"),
            LIMIT,
            async move || {
                let of_op = self.requests().into_iter().filter(|r| r.op() == op);
                of_op.skip(times.saturating_sub(1)).last()
            },
        )
    }
}

async fn answer_all(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    decide: &Decide,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut data = Vec::new();
    while let Some(request) = read_request(&mut io, &mut data, connection).await? {
        let answer = decide(&request);
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        let bytes = match answer {
            Answer::Json(body) => {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Answer::Status(status) => {
                format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")
            }
            Answer::Redirect(status, location) => {
                format!("HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
            }
            Answer::Silence => std::future::pending().await,
            Answer::Bytes(bytes) => {
                io.write_all(&bytes).await?;
                return io.shutdown().await;
            }
        };
        io.write_all(bytes.as_bytes()).await?;
        io.flush().await?;
    }
    Ok(())
}

async fn read_request(
    io: &mut (impl AsyncRead + Unpin),
    data: &mut Vec<u8>,
    connection: usize,
) -> std::io::Result<Option<Request>> {
    let head_len = loop {
        if let Some(at) = data.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if data.len() > MAX_HEAD || io.read_buf(data).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&data[..head_len]).into_owned();
    data.drain(..head_len + 4);
    let mut lines = head.split("\r\n").map(str::to_owned);
    let mut request = Request {
        connection,
        line: lines.next().unwrap_or_default(),
        fields: lines.collect(),
        body: String::new(),
    };
    let len = request.field("Content-Length").parse().unwrap_or(0);
    while data.len() < len && len <= MAX_BODY {
        if io.read_buf(data).await? == 0 {
            return Ok(None);
        }
    }
    let body: Vec<u8> = data.drain(..len.min(data.len())).collect();
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(request))
}
