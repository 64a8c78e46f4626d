//! frps against hand-made clients: every message on the wire is the test's own.

#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

#[path = "server/nathole.rs"]
mod nathole;

use std::net::SocketAddr;
use std::time::Duration;

use frp_proto::auth::{Secret, token_key};
use frp_proto::config::raw::common::PortsRange;
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::msg::handshake::{self, ControlReader, ControlWriter, HelloInfo, Side};
use frp_proto::msg::{
    CloseProxy, Login, LoginResp, Message, NewProxy, NewProxyResp, NewVisitorConn, NewWorkConn,
    Ping, StartWorkConn, Version, io,
};
use frps_rs::{Server, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "secret";
/// Far more than anything here takes; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(20);

/// A server of this process. Dropping it stops it.
struct Frps {
    addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Frps {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn frps(edit: impl FnOnce(&mut ServerConfig)) -> Frps {
    let mut config = ServerConfig {
        bind_addr: "127.0.0.1".into(),
        proxy_bind_addr: "127.0.0.1".into(),
        user_conn_timeout: 10,
        ..ServerConfig::default()
    };
    config.transport.tcp_mux = Some(false);
    config.transport.max_pool_count = 5;
    edit(&mut config);
    let stop = CancellationToken::new();
    let settings = Settings::new(&config).unwrap();
    let server = Server::bind(settings, Secret::new(TOKEN), stop.clone())
        .await
        .unwrap();
    let addr = server.local_addr().unwrap();
    let task = tokio::spawn(server.serve());
    Frps { addr, stop, task }
}

/// A logged-in client.
struct Client {
    addr: SocketAddr,
    run_id: String,
    reader: ControlReader<ReadHalf<TcpStream>>,
    writer: ControlWriter<WriteHalf<TcpStream>>,
}

fn login(run_id: &str) -> Login {
    Login {
        version: "0.70.1".into(),
        privilege_key: token_key(&Secret::new(TOKEN), 1),
        timestamp: 1,
        run_id: run_id.into(),
        ..Login::default()
    }
}

async fn try_login(frps: &Frps, version: Version, login: Login) -> Result<Client, LoginResp> {
    let mut conn = TcpStream::connect(frps.addr).await.unwrap();
    let hello = HelloInfo {
        transport: "tcp".into(),
        tls: false,
        tcp_mux: false,
    };
    let answer = handshake::login(&mut conn, version, hello, login);
    let (resp, negotiated) = timeout(LIMIT, answer).await.unwrap().unwrap();
    if !resp.error.is_empty() {
        return Err(resp);
    }
    let token = Secret::new(TOKEN);
    let (reader, writer) =
        handshake::control(conn, Side::Client, version, negotiated, &token).unwrap();
    Ok(Client {
        addr: frps.addr,
        run_id: resp.run_id,
        reader,
        writer,
    })
}

async fn client(frps: &Frps) -> Client {
    try_login(frps, Version::V1, login("")).await.ok().unwrap()
}

impl Client {
    async fn read(&mut self) -> Option<Message> {
        timeout(LIMIT, self.reader.read()).await.unwrap().unwrap()
    }

    /// Next message that is no request for a work connection.
    async fn answer(&mut self) -> Option<Message> {
        loop {
            match self.read().await {
                Some(Message::ReqWorkConn) => {}
                other => return other,
            }
        }
    }

    /// Registers a tcp proxy; its public port, or the error.
    async fn proxy(&mut self, name: &str, remote_port: i64) -> Result<u16, String> {
        let proxy = NewProxy {
            proxy_name: name.into(),
            proxy_type: "tcp".into(),
            remote_port,
            ..NewProxy::default()
        };
        self.register(proxy).await
    }

    async fn register(&mut self, proxy: NewProxy) -> Result<u16, String> {
        let name = proxy.proxy_name.clone();
        let message = Message::NewProxy(Box::new(proxy));
        self.writer.write(&message).await.unwrap();
        let Some(Message::NewProxyResp(NewProxyResp {
            proxy_name,
            remote_addr,
            error,
            ..
        })) = self.answer().await
        else {
            panic!("no answer to NewProxy")
        };
        assert_eq!(proxy_name, name);
        if error.is_empty() {
            Ok(remote_addr.strip_prefix(':').unwrap().parse().unwrap())
        } else {
            Err(error)
        }
    }

    async fn close(&mut self, name: &str) {
        let close = CloseProxy {
            proxy_name: name.into(),
        };
        self.writer
            .write(&Message::CloseProxy(close))
            .await
            .unwrap();
        // Messages are handled in their order: an answer to a ping comes after the close.
        self.ping(Ping::default()).await;
    }

    async fn ping(&mut self, ping: Ping) -> String {
        self.writer.write(&Message::Ping(ping)).await.unwrap();
        match self.answer().await {
            Some(Message::Pong(pong)) => pong.error,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a work connection.
    async fn work(&self) -> TcpStream {
        let message = NewWorkConn {
            run_id: self.run_id.clone(),
            ..NewWorkConn::default()
        };
        work(self.addr, message).await
    }

    /// Waits until a work connection is asked for, and opens it.
    async fn requested_work(&mut self) -> TcpStream {
        while self.read().await != Some(Message::ReqWorkConn) {}
        self.work().await
    }
}

async fn work(addr: SocketAddr, message: NewWorkConn) -> TcpStream {
    let mut conn = TcpStream::connect(addr).await.unwrap();
    handshake::open(&mut conn, Version::V1, &Message::NewWorkConn(message))
        .await
        .unwrap();
    conn
}

async fn start(conn: &mut TcpStream) -> StartWorkConn {
    let message = timeout(LIMIT, io::read_message(conn, Version::V1)).await;
    match message.unwrap().unwrap() {
        Some(Message::StartWorkConn(m)) => m,
        other => panic!("{other:?}"),
    }
}

async fn user(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

/// Whether the connection ends without another byte.
async fn ends(conn: &mut TcpStream) -> bool {
    let mut byte = [0];
    // A reset is an end as well.
    timeout(LIMIT, conn.read(&mut byte))
        .await
        .unwrap()
        .unwrap_or(0)
        == 0
}

#[tokio::test]
async fn a_user_reaches_the_client_and_back_in_both_versions() {
    for version in [Version::V1, Version::V2] {
        let frps = frps(|_| {}).await;
        let mut client = try_login(&frps, version, login("")).await.ok().unwrap();
        let port = client.proxy("web", 0).await.unwrap();
        let mut user = user(port).await;
        let mut work = client.requested_work().await;
        let started = start(&mut work).await;
        let from = user.local_addr().unwrap();
        let expected = StartWorkConn {
            proxy_name: "web".into(),
            src_addr: "127.0.0.1".into(),
            dst_addr: "127.0.0.1".into(),
            src_port: from.port(),
            dst_port: port,
            error: String::new(),
            dial_verdict: false,
        };
        assert_eq!(started, expected);
        user.write_all(b"question").await.unwrap();
        user.shutdown().await.unwrap();
        let mut got = Vec::new();
        work.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"question");
        // The user has ended its half; the answer arrives all the same.
        work.write_all(b"answer").await.unwrap();
        drop(work);
        got.clear();
        user.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_with_the_text_that_the_setting_allows() {
    for (detailed, text) in [
        (
            true,
            "token in login doesn't match token from configuration",
        ),
        (false, "register control error"),
    ] {
        let frps = frps(|c| c.detailed_errors_to_client = Some(detailed)).await;
        let wrong = Login {
            privilege_key: "x".into(),
            ..login("")
        };
        for version in [Version::V1, Version::V2] {
            let refused = try_login(&frps, version, wrong.clone())
                .await
                .err()
                .unwrap();
            assert_eq!(
                (refused.error.as_str(), refused.run_id.as_str()),
                (text, "")
            );
            assert_eq!(refused.version, "0.70.1");
        }
        client(&frps).await;
    }
}

#[tokio::test]
async fn absurd_pool_counts_are_harmless() {
    let frps = frps(|_| {}).await;
    for (pool_count, expected) in [(-11, 0), (i64::MIN, 0), (3, 3), (i64::MAX, 5)] {
        let login = Login {
            pool_count,
            ..login("")
        };
        let mut client = try_login(&frps, Version::V1, login).await.ok().unwrap();
        client
            .writer
            .write(&Message::Ping(Ping::default()))
            .await
            .unwrap();
        let mut requests = 0;
        while client.read().await == Some(Message::ReqWorkConn) {
            requests += 1;
        }
        assert_eq!(requests, expected, "pool_count {pool_count}");
    }
}

#[tokio::test]
async fn names_and_ports_have_one_holder() {
    let frps = frps(|_| {}).await;
    let (mut one, mut two) = (client(&frps).await, client(&frps).await);
    let port = one.proxy("web", 0).await.unwrap();
    let taken = two.proxy("web", 0).await;
    assert_eq!(taken.unwrap_err(), "proxy [web] already exists");
    let taken = two.proxy("other", port.into()).await;
    assert_eq!(taken.unwrap_err(), "port already used");
    one.close("web").await;
    assert_eq!(two.proxy("web", port.into()).await, Ok(port));
    // The end of the session gives back what it held.
    drop(two);
    loop {
        match one.proxy("web", port.into()).await {
            Ok(got) => break assert_eq!(got, port),
            Err(e) => assert!(e.contains("already"), "{e}"),
        }
    }
}

#[tokio::test]
async fn ports_are_bounded_by_the_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = i64::from(taken.local_addr().unwrap().port());
    let frps = frps(|c| {
        c.max_ports_per_client = 1;
        c.allow_ports = vec![PortsRange {
            start: 0,
            end: 0,
            single: busy,
        }];
    })
    .await;
    let mut client = client(&frps).await;
    for (port, error) in [
        (busy, "port unavailable"),
        (0, "no available port"),
        (if busy == 1024 { 1025 } else { 1024 }, "port not allowed"),
        (-1, "port not allowed"),
        (65_536, "port not allowed"),
        (i64::MAX, "port not allowed"),
    ] {
        assert_eq!(client.proxy("p", port).await.unwrap_err(), error, "{port}");
    }
    drop(taken);
    assert_eq!(i64::from(client.proxy("p", busy).await.unwrap()), busy);
    let error = client.proxy("q", 0).await.unwrap_err();
    assert_eq!(error, "exceed the max_ports_per_client");
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let frps = frps(|_| {}).await;
    let mut client = client(&frps).await;
    for (kind, error) in [
        (
            "http",
            "type [http] not supported when vhost http port is not set",
        ),
        (
            "https",
            "type [https] not supported when vhost https port is not set",
        ),
        ("xyz", "unknown proxy type: xyz"),
    ] {
        let proxy = NewProxy {
            proxy_name: "p".into(),
            proxy_type: kind.into(),
            ..NewProxy::default()
        };
        assert_eq!(client.register(proxy).await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn a_relogin_replaces_a_silent_session_at_once() {
    let frps = frps(|c| c.transport.heartbeat_timeout = 2).await;
    let mut old = try_login(&frps, Version::V1, login("same"))
        .await
        .ok()
        .unwrap();
    let port = old.proxy("web", 0).await.unwrap();
    let mut new = try_login(&frps, Version::V1, login("same"))
        .await
        .ok()
        .unwrap();
    assert_eq!(new.run_id, "same");
    assert_eq!(new.proxy("web", port.into()).await, Ok(port));
    assert_eq!(old.answer().await, None);
    // Past the old session's heartbeat time-out, the successor is well as long as it pings.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(new.ping(Ping::default()).await, "");
    }
    // And it ends when it is silent itself.
    assert_eq!(new.answer().await, None);
}

#[tokio::test]
async fn scopes_ask_for_keys() {
    let frps =
        frps(|c| c.auth.additional_scopes = vec!["HeartBeats".into(), "NewWorkConns".into()]).await;
    let mut client = client(&frps).await;
    assert_eq!(
        client.ping(Ping::default()).await,
        "token in heartbeat doesn't match token from configuration"
    );
    let key = token_key(&Secret::new(TOKEN), 7);
    let ping = Ping {
        privilege_key: key.clone(),
        timestamp: 7,
    };
    assert_eq!(client.ping(ping).await, "");
    let mut refused = client.work().await;
    assert_eq!(
        start(&mut refused).await.error,
        "token in NewWorkConn doesn't match token from configuration"
    );
    assert!(ends(&mut refused).await);
    let port = client.proxy("web", 0).await.unwrap();
    let _user = user(port).await;
    let message = NewWorkConn {
        run_id: client.run_id.clone(),
        privilege_key: key,
        timestamp: 7,
    };
    assert_eq!(start(&mut work(frps.addr, message).await).await.error, "");
}

#[tokio::test]
async fn work_connections_that_nobody_wants_are_told_why() {
    let frps = frps(|_| {}).await;
    let message = NewWorkConn {
        run_id: "nobody".into(),
        ..NewWorkConn::default()
    };
    let mut lost = work(frps.addr, message).await;
    assert_eq!(
        start(&mut lost).await.error,
        "no client control found for run id [nobody]"
    );
    assert!(ends(&mut lost).await);
    // Without a pool ten may wait.
    let client = client(&frps).await;
    let mut held = Vec::new();
    for _ in 0..11 {
        held.push(client.work().await);
    }
    let refused = timeout(LIMIT, async {
        loop {
            for conn in &mut held {
                let mut byte = [0];
                if timeout(Duration::from_millis(5), conn.peek(&mut byte))
                    .await
                    .is_ok()
                {
                    return start(conn).await.error;
                }
            }
        }
    });
    assert_eq!(
        refused.await.unwrap(),
        "work connection pool is full, discarding"
    );
}

#[tokio::test]
async fn a_user_waits_for_a_work_connection_no_longer_than_set() {
    let frps = frps(|c| c.user_conn_timeout = 1).await;
    let mut client = client(&frps).await;
    let port = client.proxy("web", 0).await.unwrap();
    assert!(ends(&mut user(port).await).await);
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_not_given_to_a_user() {
    let frps = frps(|_| {}).await;
    let login = Login {
        pool_count: 1,
        ..login("")
    };
    let mut client = try_login(&frps, Version::V1, login).await.ok().unwrap();
    let port = client.proxy("web", 0).await.unwrap();
    let mut dead = client.work().await;
    dead.shutdown().await.unwrap();
    assert_eq!(client.ping(Ping::default()).await, "");
    let mut user = user(port).await;
    let mut work = client.requested_work().await;
    assert_eq!(start(&mut work).await.proxy_name, "web");
    work.write_all(b"x").await.unwrap();
    assert_eq!(user.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn visitors_are_told_that_there_is_nothing_to_visit() {
    let frps = frps(|_| {}).await;
    let mut conn = TcpStream::connect(frps.addr).await.unwrap();
    let visit = NewVisitorConn {
        proxy_name: "secret".into(),
        ..NewVisitorConn::default()
    };
    handshake::open(&mut conn, Version::V1, &Message::NewVisitorConn(visit))
        .await
        .unwrap();
    let Some(Message::NewVisitorConnResp(resp)) =
        io::read_message(&mut conn, Version::V1).await.unwrap()
    else {
        panic!("no answer")
    };
    assert_eq!(resp.error, "custom listener for [secret] doesn't exist");
}

#[tokio::test]
async fn strangers_are_closed_and_disturb_nobody() {
    let frps = frps(|_| {}).await;
    let mut client = client(&frps).await;
    let too_long = [b"o".as_slice(), &10_241_u64.to_be_bytes()].concat();
    let negative = [b"o".as_slice(), &(-1_i64).to_be_bytes()].concat();
    let no_json = [b"o".as_slice(), &3_u64.to_be_bytes(), b"{]}"].concat();
    let ping_first = [b"h".as_slice(), &2_u64.to_be_bytes(), b"{}"].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        b"FRP\0\x02\r\n\0\x01\0\x01\0\0\0\0".to_vec(),
        b"\x16\x03\x01\0\x05hello world".to_vec(),
        too_long,
        negative,
        no_json,
        ping_first,
    ] {
        let mut stranger = TcpStream::connect(frps.addr).await.unwrap();
        stranger.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(LIMIT, stranger.read_to_end(&mut answer))
            .await
            .unwrap();
        // A TLS alert is all that a stranger may hear.
        assert!(
            read.is_err() || answer.is_empty() || answer[0] == 0x15,
            "{answer:?}"
        );
    }
    drop(TcpStream::connect(frps.addr).await.unwrap());
    assert_eq!(client.ping(Ping::default()).await, "");
}

#[tokio::test]
async fn stopping_closes_everything_and_returns() {
    let mut frps = frps(|_| {}).await;
    let mut client = client(&frps).await;
    let port = client.proxy("web", 0).await.unwrap();
    let mut user = user(port).await;
    let mut work = client.requested_work().await;
    start(&mut work).await;
    frps.stop.cancel();
    timeout(LIMIT, &mut frps.task).await.unwrap().unwrap();
    assert_eq!(client.answer().await, None);
    assert!(ends(&mut user).await);
    assert!(ends(&mut work).await);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}
