//! Peers that are only messages: a client and a server driven by a case.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use frp_proto::auth::{Secret, token_key};
use frp_proto::msg::handshake::{
    self, Accepted, ControlReader, ControlWriter, HelloInfo, Negotiated, Side,
};
use frp_proto::msg::io::{MsgError, read_message};
use frp_proto::msg::{
    Login, LoginResp, Message, NewProxy, NewProxyResp, NewWorkConn, Ping, Pong, StartWorkConn,
    Version,
};
use frp_proto::mux;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::TOKEN;
use crate::wait::{LIMIT, within};
use crate::{Failure, Outcome};

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
/// Any byte stream.
pub type BoxStream = Box<dyn Stream>;

/// How to reach a server on loopback without TLS.
pub struct Link {
    address: SocketAddr,
    version: Version,
    mux: Option<mux::Session>,
}

impl Link {
    /// A connection for each conn: `tcpMux = false`.
    pub fn plain(port: u16, version: Version) -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            version,
            mux: None,
        }
    }

    /// One connection with a mux over it.
    pub async fn mux(port: u16, version: Version) -> Outcome<Self> {
        let mut link = Self::plain(port, version);
        let stream = TcpStream::connect(link.address).await?;
        stream.set_nodelay(true)?;
        let (session, _, driver) = mux::session(stream, mux::Role::Client, mux::Config::default());
        tokio::spawn(driver);
        link.mux = Some(session);
        Ok(link)
    }

    /// Opens a conn.
    pub async fn open(&self) -> Outcome<BoxStream> {
        if let Some(session) = &self.mux {
            return Ok(Box::new(session.open().await?));
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    /// Sends a Login; the answer may be a refusal.
    pub async fn try_login(&self, login: Login) -> Outcome<(LoginResp, Option<Client<'_>>)> {
        let answer = within("LoginResp", LIMIT, async {
            let mut io = self.open().await?;
            let hello = HelloInfo {
                transport: "tcp".into(),
                tls: false,
                tcp_mux: self.mux.is_some(),
            };
            let (resp, negotiated) = handshake::login(&mut io, self.version, hello, login).await?;
            Ok::<_, Failure>((resp, negotiated, io))
        });
        let (resp, negotiated, io) = answer.await??;
        if !resp.error.is_empty() {
            return Ok((resp, None));
        }
        let control = Control::new(io, Side::Client, self.version, negotiated)?;
        let run_id = resp.run_id.clone();
        let client = Client {
            link: self,
            run_id,
            control,
        };
        Ok((resp, Some(client)))
    }

    /// Logs in; a refusal is a failure.
    pub async fn login(&self, login: Login) -> Outcome<Client<'_>> {
        let (resp, client) = self.try_login(login).await?;
        client.ok_or_else(|| Failure::new(format!("login refused: {}", resp.error)))
    }

    /// Opens a work conn and returns it without waiting for what it is for.
    pub async fn offer_work(&self, message: NewWorkConn) -> Outcome<BoxStream> {
        let mut io = self.open().await?;
        handshake::open(&mut io, self.version, &Message::NewWorkConn(message)).await?;
        Ok(io)
    }

    /// Waits until a work conn is used, or refused.
    pub async fn started(&self, io: &mut BoxStream) -> Outcome<StartWorkConn> {
        match within("StartWorkConn", LIMIT, read_message(io, self.version)).await?? {
            Some(Message::StartWorkConn(start)) => Ok(start),
            other => Err(Failure::new(format!("not StartWorkConn: {other:?}"))),
        }
    }
}

/// A Login as a client of v0.70.1 sends it, with the right key.
pub fn login_message() -> Login {
    let timestamp = now();
    Login {
        version: "0.70.1".into(),
        os: "linux".into(),
        arch: "amd64".into(),
        privilege_key: token_key(&Secret::new(TOKEN), timestamp),
        timestamp,
        ..Login::default()
    }
}

/// A request for a `tcp` proxy.
pub fn tcp_proxy(name: &str, remote_port: u16) -> NewProxy {
    NewProxy {
        proxy_name: name.into(),
        proxy_type: "tcp".into(),
        remote_port: remote_port.into(),
        ..NewProxy::default()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs().try_into().unwrap_or(i64::MAX))
}

/// A control connection after login.
pub struct Control {
    reader: ControlReader<ReadHalf<BoxStream>>,
    writer: ControlWriter<WriteHalf<BoxStream>>,
}

impl Control {
    /// Sets up the cipher under [`TOKEN`].
    pub fn new(
        io: BoxStream,
        side: Side,
        version: Version,
        negotiated: Option<Negotiated>,
    ) -> Outcome<Self> {
        let token = Secret::new(TOKEN);
        let (reader, writer) = handshake::control(io, side, version, negotiated, &token)?;
        Ok(Self { reader, writer })
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) -> Outcome {
        Ok(self.writer.write(&message).await?)
    }

    /// Next message; `None`: the connection ended, in whatever way.
    pub async fn next(&mut self) -> Outcome<Option<Message>> {
        match within("a message", LIMIT, self.reader.read()).await? {
            Err(MsgError::Io(_)) => Ok(None),
            other => Ok(other?),
        }
    }

    /// Next message that `pick` wants; others are skipped.
    #[track_caller]
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(Message) -> Option<T>,
    ) -> impl Future<Output = Outcome<T>> {
        let ended = Failure::new(format!("the connection ended instead of {what}"));
        let awaited = within(what, LIMIT, async move {
            while let Some(message) = self.next().await? {
                if let Some(found) = pick(message) {
                    return Ok(found);
                }
            }
            Err(ended)
        });
        async move { awaited.await? }
    }
}

/// A client that is logged in.
pub struct Client<'a> {
    link: &'a Link,
    /// The session's id.
    pub run_id: String,
    /// The control connection.
    pub control: Control,
}

impl Client<'_> {
    /// Registers a proxy; skips what comes before the answer.
    pub async fn register(&mut self, proxy: NewProxy) -> Outcome<NewProxyResp> {
        self.control
            .send(Message::NewProxy(Box::new(proxy)))
            .await?;
        let answer = self.control.wait_for("NewProxyResp", |m| match m {
            Message::NewProxyResp(resp) => Some(resp),
            _ => None,
        });
        answer.await
    }

    /// Pings; skips what comes before the answer.
    pub async fn ping(&mut self, ping: Ping) -> Outcome<Pong> {
        self.control.send(Message::Ping(ping)).await?;
        let answer = self.control.wait_for("Pong", |m| match m {
            Message::Pong(pong) => Some(pong),
            _ => None,
        });
        answer.await
    }

    /// Opens a work conn of this session.
    pub async fn offer_work(&self) -> Outcome<BoxStream> {
        let message = NewWorkConn {
            run_id: self.run_id.clone(),
            ..NewWorkConn::default()
        };
        self.link.offer_work(message).await
    }

    /// Waits for the end of the session.
    pub async fn ended(&mut self) -> Outcome {
        while self.control.next().await?.is_some() {}
        Ok(())
    }
}

/// A server that accepts conns and leaves the rest to the case.
pub struct Server {
    listener: TcpListener,
    uses_mux: bool,
    session: Option<(mux::Session, mux::Incoming)>,
}

impl Server {
    /// Listens on a free port.
    pub async fn start(uses_mux: bool) -> Outcome<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            uses_mux,
            session: None,
        })
    }

    /// Where it listens.
    pub fn port(&self) -> Outcome<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Next conn.
    pub async fn accept(&mut self) -> Outcome<BoxStream> {
        within("a connection", LIMIT, async {
            loop {
                if let Some((_, incoming)) = &mut self.session {
                    match incoming.accept().await {
                        Some(stream) => return Ok(Box::new(stream) as BoxStream),
                        None => self.session = None,
                    }
                }
                let (stream, _) = self.listener.accept().await?;
                stream.set_nodelay(true)?;
                if !self.uses_mux {
                    return Ok(Box::new(stream) as BoxStream);
                }
                let (session, incoming, driver) =
                    mux::session(stream, mux::Role::Server, mux::Config::default());
                tokio::spawn(driver);
                self.session = Some((session, incoming));
            }
        })
        .await?
    }

    /// Next conn and its first message.
    pub async fn accept_message(&mut self) -> Outcome<(Accepted, BoxStream)> {
        let mut io = self.accept().await?;
        let accepted = within("a first message", LIMIT, handshake::accept(&mut io)).await??;
        Ok((accepted, io))
    }

    /// Accepts a Login, checks its key and answers it.
    pub async fn accept_login(&mut self, run_id: &str) -> Outcome<(Login, Control, Version)> {
        let (accepted, mut io) = self.accept_message().await?;
        let Message::Login(login) = accepted.message else {
            return Err(Failure::new(format!("not Login: {:?}", accepted.message)));
        };
        let resp = LoginResp {
            version: "0.70.1".into(),
            run_id: run_id.into(),
            ..LoginResp::default()
        };
        let resp = Message::LoginResp(resp);
        frp_proto::msg::io::write_message(&mut io, accepted.version, &resp).await?;
        let control = Control::new(io, Side::Server, accepted.version, accepted.negotiated)?;
        Ok((*login, control, accepted.version))
    }
}

/// Writes `bytes` on a new TCP connection and returns all that comes until it ends; a reset is an end too.
pub async fn send_and_read_all(port: u16, bytes: &[u8], limit: Duration) -> Outcome<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // The server may close before it has all.
    let _ = stream.write_all(bytes).await;
    read_all(&mut stream, limit).await
}

/// Reads until the connection ends; a reset is an end too.
#[track_caller]
pub fn read_all(
    stream: &mut (impl AsyncRead + Unpin),
    limit: Duration,
) -> impl Future<Output = Outcome<Vec<u8>>> {
    within("the end of the connection", limit, async move {
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..n]);
        }
        all
    })
}
