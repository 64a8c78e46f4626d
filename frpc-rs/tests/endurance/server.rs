//! frps and clients that vanish, each time at another point.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use frp_proto::auth::{Secret, token_key};
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::msg::handshake::{self, ControlReader, ControlWriter, HelloInfo, Side};
use frp_proto::msg::{CloseProxy, Login, LoginResp, Message, NewProxy, NewWorkConn, Version, io};
use frp_proto::mux;
use frps_rs::{Server, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::held::Held;
use crate::{DAY, Driver, Stream, TOKEN, WARM_UP, alone, within};

/// Between a client's end and the next one: a bit more than a client of frp's takes, on the average, that does not get through.
const PAUSE: Duration = Duration::from_secs(10);
/// Clients that frps knows at the end of the day. What it keeps of those without an id of their own goes by itself, and so
/// would leave more or less memory in use at a given moment.
const CLIENTS: usize = 5;
/// More than any time limit of the server: for a first message, a work connection, a heartbeat, the mux.
const ALL_LIMITS: Duration = Duration::from_secs(100);

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Connects and says nothing.
    Mute,
    /// Has a proxy, a user who is served and a spare work connection, and says nothing any more.
    Silent,
    /// Has a proxy and a user, and brings no work connection.
    NoWork,
    /// Gone before the first byte.
    AtOnce,
    /// Gone in the middle of the first message.
    HalfALogin,
    /// Gone after the login, whose answer it does not wait for.
    AtLogin,
    /// Not let in.
    Refused,
    /// Gone when it has a proxy.
    AtProxy,
    /// Gone when a work connection waits for a user.
    Idle,
    /// Gone while a user waits for a work connection.
    UserWaits,
    /// Gone while a user is served.
    WithUser,
    /// Its user goes, then its proxy, then it itself.
    InOrder,
    /// Comes back with its run id, and takes its own place.
    Twice,
}

/// Those that wait for time limits.
const SLOW: [Fate; 3] = [Fate::Mute, Fate::Silent, Fate::NoWork];
/// The others.
const FAST: [Fate; 10] = [
    Fate::AtOnce,
    Fate::HalfALogin,
    Fate::AtLogin,
    Fate::Refused,
    Fate::AtProxy,
    Fate::Idle,
    Fate::UserWaits,
    Fate::WithUser,
    Fate::InOrder,
    Fate::Twice,
];
/// Of that many cycles one begins with the slow ones.
const SLOW_EACH: usize = 50;

struct Frps {
    addr: SocketAddr,
    web: SocketAddr,
    uses_mux: bool,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Frps {
    async fn start(uses_mux: bool) -> Self {
        let mut config = ServerConfig {
            bind_addr: "127.0.0.1".into(),
            proxy_bind_addr: "127.0.0.1".into(),
            user_conn_timeout: 10,
            enable_prometheus: true,
            ..ServerConfig::default()
        };
        config.web_server.addr = "127.0.0.1".into();
        config.web_server.port = 1;
        config.transport.tcp_mux = Some(uses_mux);
        config.transport.max_pool_count = 5;
        // As the program has it without the mux; with it the mux finds out who is silent.
        config.transport.heartbeat_timeout = if uses_mux { -1 } else { 90 };
        let mut settings = Settings::new(&config).unwrap();
        // No file can leave the choice to the system.
        settings.web.as_mut().unwrap().server.port = 0;
        let stop = CancellationToken::new();
        let server = Server::bind(settings, Secret::new(TOKEN), stop.clone());
        let server = server.await.unwrap();
        Self {
            addr: server.local_addr().unwrap(),
            web: server.web_addr().unwrap(),
            uses_mux,
            stop,
            task: tokio::spawn(server.serve()),
        }
    }

    async fn get(&self, path: &str) -> String {
        let mut web = TcpStream::connect(self.web).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: frps\r\nConnection: close\r\n\r\n");
        web.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(web.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        body.to_owned()
    }

    /// What it knows.
    async fn known(&self) -> Known {
        let info: Info = serde_json::from_str(&self.get("/api/serverinfo").await).unwrap();
        let proxies: Proxies = serde_json::from_str(&self.get("/api/proxy/tcp").await).unwrap();
        let clients: Vec<ClientItem> =
            serde_json::from_str(&self.get("/api/clients").await).unwrap();
        let metrics = self.get("/metrics").await;
        Known {
            sessions: info.client_counts,
            users: info.cur_conns,
            proxies: info.proxy_type_count.values().sum(),
            clients: clients.iter().filter(|client| client.online).count(),
            listed_proxies: proxies.proxies.len(),
            listed_clients: clients.len(),
            series: metrics.lines().filter(|l| !l.starts_with('#')).count(),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    client_counts: i64,
    cur_conns: i64,
    proxy_type_count: BTreeMap<String, i64>,
}

#[derive(serde::Deserialize)]
struct Proxies {
    proxies: Vec<serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct ClientItem {
    online: bool,
}

/// What frps says of itself, over its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    sessions: i64,
    users: i64,
    proxies: i64,
    clients: usize,
    /// Those that are offline included.
    listed_proxies: usize,
    /// Those that are offline included.
    listed_clients: usize,
    /// What a scrape has.
    series: usize,
}

impl Known {
    /// Whether nobody is there.
    fn is_nobody(&self) -> bool {
        (self.sessions, self.users, self.proxies, self.clients) == (0, 0, 0, 0)
    }
}

/// Where a client's connections come from. Dropping it cuts what they share.
enum Link {
    Plain(SocketAddr, bool),
    Mux(mux::Session, Driver),
}

impl Link {
    /// `abruptly`: the end of a connection is a reset.
    async fn dial(frps: &Frps, abruptly: bool) -> Self {
        if !frps.uses_mux {
            return Self::Plain(frps.addr, abruptly);
        }
        let stream = dial(frps.addr, abruptly).await;
        let config = mux::Config::default();
        let (session, _, driver) = mux::session(stream, mux::Role::Client, config);
        Self::Mux(session, Driver::spawn(driver))
    }

    async fn connect(&self) -> Box<dyn Stream> {
        match self {
            Self::Plain(addr, abruptly) => Box::new(dial(*addr, *abruptly).await),
            Self::Mux(session, _) => Box::new(within(session.open()).await.unwrap()),
        }
    }
}

async fn dial(addr: SocketAddr, abruptly: bool) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    // Acknowledgements would be waited for in real time.
    stream.set_nodelay(true).unwrap();
    if abruptly {
        stream.set_zero_linger().unwrap();
    }
    stream
}

/// The login of one of a few clients, which are told apart by their ids: those of runs are new with every login.
fn login(number: usize, run_id: &str, token: &str) -> Login {
    Login {
        client_id: format!("client-{}", number % CLIENTS),
        version: "0.70.1".into(),
        privilege_key: token_key(&Secret::new(token), 1),
        timestamp: 1,
        run_id: run_id.into(),
        pool_count: 1,
        ..Login::default()
    }
}

/// A client that is logged in.
struct Client {
    link: Link,
    version: Version,
    run_id: String,
    reader: ControlReader<ReadHalf<Box<dyn Stream>>>,
    writer: ControlWriter<WriteHalf<Box<dyn Stream>>>,
}

impl Client {
    async fn log_in(link: Link, version: Version, login: Login) -> Result<Self, LoginResp> {
        let mut control = link.connect().await;
        let hello = HelloInfo {
            transport: "tcp".into(),
            tls: false,
            tcp_mux: matches!(link, Link::Mux(..)),
        };
        let answer = handshake::login(&mut control, version, hello, login);
        let (resp, negotiated) = within(answer).await.unwrap();
        if !resp.error.is_empty() {
            return Err(resp);
        }
        let token = Secret::new(TOKEN);
        let (reader, writer) =
            handshake::control(control, Side::Client, version, negotiated, &token).unwrap();
        Ok(Self {
            link,
            version,
            run_id: resp.run_id,
            reader,
            writer,
        })
    }

    /// The next message that is no request for a work connection.
    async fn answer(&mut self) -> Option<Message> {
        loop {
            match within(self.reader.read()).await.ok()? {
                Some(Message::ReqWorkConn) => {}
                other => return other,
            }
        }
    }

    /// Registers the proxy that every client has; its port.
    async fn proxy(&mut self) -> u16 {
        let proxy = NewProxy {
            proxy_name: "web".into(),
            proxy_type: "tcp".into(),
            ..NewProxy::default()
        };
        let proxy = Message::NewProxy(Box::new(proxy));
        self.writer.write(&proxy).await.unwrap();
        match self.answer().await {
            Some(Message::NewProxyResp(resp)) if resp.error.is_empty() => {
                resp.remote_addr.strip_prefix(':').unwrap().parse().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// A work connection that frps knows as this client's.
    async fn work(&self) -> Box<dyn Stream> {
        let mut work = self.link.connect().await;
        let hello = Message::NewWorkConn(NewWorkConn {
            run_id: self.run_id.clone(),
            ..NewWorkConn::default()
        });
        handshake::open(&mut work, self.version, &hello)
            .await
            .unwrap();
        work
    }

    /// A user of the proxy, and the work connection it is joined with.
    async fn user(&self, port: u16) -> (TcpStream, Box<dyn Stream>) {
        let mut work = self.work().await;
        let mut user = user(port).await;
        match within(io::read_message(&mut work, self.version)).await {
            Ok(Some(Message::StartWorkConn(start))) => assert_eq!(start.error, ""),
            other => panic!("{other:?}"),
        }
        user.write_all(b"question").await.unwrap();
        within(work.read_exact(&mut [0; 8])).await.unwrap();
        work.write_all(b"answer").await.unwrap();
        work.flush().await.unwrap();
        within(user.read_exact(&mut [0; 6])).await.unwrap();
        (user, work)
    }
}

async fn user(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

/// A client up to its end. What is returned is all there is left of it; dropping that is the end.
async fn life(frps: &Frps, fate: Fate, number: usize) -> Box<dyn Any> {
    // Everything happens over both versions, and ends in both ways.
    let version = [Version::V1, Version::V2][number % 2];
    let abruptly = (number / 2).is_multiple_of(2);
    let link = Link::dial(frps, abruptly).await;
    match fate {
        Fate::Mute | Fate::AtOnce => {
            let stream = link.connect().await;
            return Box::new((link, stream));
        }
        Fate::HalfALogin => {
            let mut stream = link.connect().await;
            // A Login in version 1, of a length that does not come.
            stream.write_all(b"o\0\0\0\0\0\0\x01\0{").await.unwrap();
            stream.flush().await.unwrap();
            return Box::new((link, stream));
        }
        Fate::AtLogin => {
            let mut stream = link.connect().await;
            let login = Message::Login(Box::new(login(number, "", TOKEN)));
            handshake::open(&mut stream, Version::V1, &login)
                .await
                .unwrap();
            return Box::new((link, stream));
        }
        Fate::Refused => {
            let refused = Client::log_in(link, version, login(number, "", "another")).await;
            assert!(refused.is_err());
            return Box::new(());
        }
        _ => {}
    }
    let mut client = Client::log_in(link, version, login(number, "", TOKEN))
        .await
        .unwrap_or_else(|resp| panic!("{}", resp.error));
    let port = client.proxy().await;
    match fate {
        Fate::Idle => {
            let work = client.work().await;
            Box::new((client, work))
        }
        Fate::UserWaits | Fate::NoWork => {
            let user = user(port).await;
            Box::new((client, user))
        }
        Fate::WithUser => Box::new((client.user(port).await, client)),
        Fate::Silent => {
            let (joined, spare) = (client.user(port).await, client.work().await);
            if let Link::Mux(_, driver) = &client.link {
                driver.freeze();
            }
            Box::new((client, joined, spare))
        }
        Fate::InOrder => {
            let (mut user, mut work) = client.user(port).await;
            user.shutdown().await.unwrap();
            within(work.read_to_end(&mut Vec::new())).await.unwrap();
            work.shutdown().await.unwrap();
            within(user.read_to_end(&mut Vec::new())).await.unwrap();
            let close = CloseProxy {
                proxy_name: "web".into(),
            };
            let close = Message::CloseProxy(close);
            client.writer.write(&close).await.unwrap();
            client.writer.shutdown().await.unwrap();
            assert_eq!(client.answer().await, None);
            Box::new(())
        }
        Fate::Twice => {
            let link = Link::dial(frps, abruptly).await;
            let again = login(number, &client.run_id, TOKEN);
            let successor = Client::log_in(link, version, again).await;
            let mut successor = successor.unwrap_or_else(|resp| panic!("{}", resp.error));
            assert_eq!(client.answer().await, None);
            successor.proxy().await;
            Box::new((client, successor))
        }
        _ => Box::new(client),
    }
}

async fn a_day(uses_mux: bool) {
    let clock = Clock::hold();
    let frps = Frps::start(uses_mux).await;
    let nobody = Held::settled().await;
    let (mut lives, mut cycles, mut warm) = (0, 0_usize, None);
    while clock.elapsed() < DAY {
        let slow = if cycles.is_multiple_of(SLOW_EACH) {
            &SLOW[..]
        } else {
            &[]
        };
        for fate in slow.iter().chain(&FAST).copied() {
            let left = life(&frps, fate, cycles).await;
            if SLOW.contains(&fate) {
                let before = Held::settled().await;
                clock.pass(ALL_LIMITS).await;
                let after = Held::settled().await;
                let noticed = after.descriptors < before.descriptors;
                assert!(noticed, "{fate:?}: {before:?} before, {after:?} now");
            }
            drop(left);
            clock.until(nobody.comes_back()).await;
            clock.pass(PAUSE).await;
            lives += 1;
        }
        cycles += 1;
        if clock.elapsed() > WARM_UP && warm.is_none() {
            warm = Some((frps.known().await, Held::settled().await, lives));
        }
    }
    let (warm_known, warm, warm_lives) = warm.unwrap();
    let (known, end) = (frps.known().await, Held::settled().await);
    println!(
        "mux {uses_mux}: {warm:?}, {warm_known:?} after {warm_lives} clients, {end:?}, {known:?} after {lives}"
    );
    assert!(lives > warm_lives + 5_000, "{lives} clients");
    assert!(known.is_nobody(), "{known:?}");
    assert_eq!(known, warm_known);
    end.assert_no_more_than(warm);
    frps.stop.cancel();
    within(frps.task).await.unwrap();
}

#[tokio::test(start_paused = true)]
#[cfg_attr(not(target_os = "linux"), ignore = "counts with Linux's /proc")]
async fn a_server_whose_clients_vanish_all_day_keeps_nothing_of_them() {
    let _alone = alone().await;
    a_day(false).await;
}

#[tokio::test(start_paused = true)]
#[cfg_attr(not(target_os = "linux"), ignore = "counts with Linux's /proc")]
async fn a_server_whose_clients_vanish_all_day_keeps_nothing_of_them_with_the_mux() {
    let _alone = alone().await;
    a_day(true).await;
}
