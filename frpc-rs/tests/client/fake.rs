//! The hand-made server.

use std::net::SocketAddr;

use frp_proto::auth::{Secret, token_key};
use frp_proto::msg::handshake::{self, ControlReader, ControlWriter, Side};
use frp_proto::msg::{Login, LoginResp, Message, NewProxy, NewProxyResp, NewWorkConn, Version, io};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::{TOKEN, within};

pub(crate) struct FakeFrps {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

/// frps's side of a session.
pub(crate) struct Control {
    pub(crate) login: Login,
    pub(crate) version: Version,
    reader: ControlReader<ReadHalf<TcpStream>>,
    writer: ControlWriter<WriteHalf<TcpStream>>,
}

impl FakeFrps {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// A connection about which nothing is known yet.
    pub(crate) async fn accept(&self) -> TcpStream {
        within(self.listener.accept()).await.unwrap().0
    }

    /// A client's Login, not answered yet.
    pub(crate) async fn login(&self) -> (TcpStream, handshake::Accepted, Login) {
        let mut conn = self.accept().await;
        let mut accepted = within(handshake::accept(&mut conn)).await.unwrap();
        let Message::Login(login) = std::mem::replace(&mut accepted.message, Message::ReqWorkConn)
        else {
            panic!("not a Login");
        };
        (conn, accepted, *login)
    }

    pub(crate) async fn refuse(&self, error: &str) {
        let (mut conn, accepted, _) = self.login().await;
        let resp = LoginResp {
            error: error.into(),
            ..LoginResp::default()
        };
        io::write_message(&mut conn, accepted.version, &Message::LoginResp(resp))
            .await
            .unwrap();
    }

    pub(crate) async fn admit(&self, run_id: &str) -> Control {
        let (mut conn, accepted, login) = self.login().await;
        let version = accepted.version;
        let resp = LoginResp {
            run_id: run_id.into(),
            ..LoginResp::default()
        };
        io::write_message(&mut conn, version, &Message::LoginResp(resp))
            .await
            .unwrap();
        let token = Secret::new(TOKEN);
        let (reader, writer) =
            handshake::control(conn, Side::Server, version, accepted.negotiated, &token).unwrap();
        Control {
            login,
            version,
            reader,
            writer,
        }
    }
}

impl Control {
    pub(crate) async fn read(&mut self) -> Option<Message> {
        within(self.reader.read()).await.unwrap()
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.writer.write(&message).await.unwrap();
    }

    /// The next announcement.
    pub(crate) async fn announced(&mut self) -> NewProxy {
        match self.read().await {
            Some(Message::NewProxy(proxy)) => *proxy,
            other => panic!("{other:?} instead of NewProxy"),
        }
    }

    /// Lets the next announced proxy start.
    pub(crate) async fn start_proxy(&mut self) -> NewProxy {
        let proxy = self.announced().await;
        let resp = NewProxyResp {
            proxy_name: proxy.proxy_name.clone(),
            remote_addr: ":6000".into(),
            ..NewProxyResp::default()
        };
        self.send(Message::NewProxyResp(resp)).await;
        proxy
    }

    /// Asks for a work connection and gets it.
    pub(crate) async fn work_conn(&mut self, frps: &FakeFrps) -> (TcpStream, NewWorkConn) {
        self.send(Message::ReqWorkConn).await;
        let mut conn = frps.accept().await;
        let accepted = within(handshake::accept(&mut conn)).await.unwrap();
        assert_eq!(accepted.version, self.version);
        match accepted.message {
            Message::NewWorkConn(hello) => (conn, hello),
            other => panic!("{other:?} instead of NewWorkConn"),
        }
    }
}

/// Whether the login is signed with the token.
pub(crate) fn is_signed(login: &Login) -> bool {
    login.timestamp > 0 && login.privilege_key == token_key(&Secret::new(TOKEN), login.timestamp)
}
