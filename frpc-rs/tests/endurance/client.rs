//! frpc and a server that cuts it off, each time at another point.

use std::any::Any;
use std::net::SocketAddr;

use frp_proto::auth::Secret;
use frp_proto::config::raw::client::{ClientConfig, ProxyBase, ProxyConfig, ProxyKind};
use frp_proto::msg::handshake::{self, Accepted, Side};
use frp_proto::msg::{LoginResp, Message, NewProxyResp, StartWorkConn, io};
use frp_proto::mux;
use frpc_rs::Resources;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::held::Held;
use crate::{DAY, Driver, Stream, TOKEN, WARM_UP, alone, within};

/// What the service says.
const GREETING: &[u8] = b"hello";

/// How the server treats a connection of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Says nothing; the client gives up.
    Mute,
    /// Says nothing any more while a user is served; the client's heartbeats find that out.
    Silent,
    /// Cut before the first byte.
    AtOnce,
    /// Cut when the login is there.
    AtLogin,
    /// Answers that it does not want the client.
    Refused,
    /// Cut when the client knows that it is logged in.
    LoggedIn,
    /// Cut when the proxy is announced, without an answer.
    AtProxy,
    /// Cut while a work connection waits for a user.
    Idle,
    /// Cut while a user is served.
    WithUser,
}

/// What is over only with a time limit of the client's.
const SLOW: [Cut; 2] = [Cut::Mute, Cut::Silent];
/// What the client notices at once.
const FAST: [Cut; 7] = [
    Cut::AtOnce,
    Cut::AtLogin,
    Cut::Refused,
    Cut::LoggedIn,
    Cut::AtProxy,
    Cut::Idle,
    Cut::WithUser,
];
/// Of that many cycles one begins with the slow ones.
const SLOW_EACH: usize = 20;

/// One TCP connection of the client; dropping it cuts it.
enum Link {
    Plain(Option<TcpStream>),
    Mux(mux::Incoming, Driver),
}

struct Server {
    listener: TcpListener,
    uses_mux: bool,
}

impl Server {
    fn link(&self, stream: TcpStream) -> Link {
        if !self.uses_mux {
            return Link::Plain(Some(stream));
        }
        let config = mux::Config::default();
        let (_, incoming, driver) = mux::session(stream, mux::Role::Server, config);
        Link::Mux(incoming, Driver::spawn(driver))
    }

    /// The next connection over `link`, or beside it where there is no mux.
    async fn accept(&self, link: &mut Link) -> (Accepted, Box<dyn Stream>) {
        let mut stream: Box<dyn Stream> = match link {
            Link::Plain(first) => match first.take() {
                Some(stream) => Box::new(stream),
                None => Box::new(within(self.listener.accept()).await.unwrap().0),
            },
            Link::Mux(incoming, _) => Box::new(within(incoming.accept()).await.unwrap()),
        };
        let accepted = within(handshake::accept(&mut stream)).await.unwrap();
        (accepted, stream)
    }

    /// One stay of the client, up to the cut. What is returned is all there is left of it; dropping that is the cut.
    async fn stay(&self, stream: TcpStream, cut: Cut) -> Box<dyn Any> {
        if matches!(cut, Cut::AtOnce | Cut::Mute) {
            return Box::new(stream);
        }
        let mut link = self.link(stream);
        let (accepted, mut control) = self.accept(&mut link).await;
        if cut == Cut::AtLogin {
            return Box::new((link, control));
        }
        let refused = cut == Cut::Refused;
        let resp = LoginResp {
            run_id: "0123456789abcdef".into(),
            error: if refused { "not now" } else { "" }.into(),
            ..LoginResp::default()
        };
        let version = accepted.version;
        io::write_message(&mut control, version, &Message::LoginResp(resp))
            .await
            .unwrap();
        if refused || cut == Cut::LoggedIn {
            return Box::new((link, control));
        }
        let (token, negotiated) = (Secret::new(TOKEN), accepted.negotiated);
        let (mut reader, mut writer) =
            handshake::control(control, Side::Server, version, negotiated, &token).unwrap();
        let name = loop {
            if let Message::NewProxy(proxy) = within(reader.read()).await.unwrap().unwrap() {
                break proxy.proxy_name;
            }
        };
        if cut == Cut::AtProxy {
            return Box::new((link, reader, writer));
        }
        let resp = Message::NewProxyResp(NewProxyResp {
            proxy_name: name.clone(),
            remote_addr: ":6000".into(),
            ..NewProxyResp::default()
        });
        let messages = [resp, Message::ReqWorkConn];
        writer.write_all(&messages).await.unwrap();
        let (accepted, mut work) = self.accept(&mut link).await;
        if cut == Cut::Idle {
            return Box::new((link, reader, writer, work));
        }
        let start = Message::StartWorkConn(StartWorkConn {
            proxy_name: name,
            ..StartWorkConn::default()
        });
        io::write_message(&mut work, accepted.version, &start)
            .await
            .unwrap();
        let mut greeting = [0; GREETING.len()];
        within(work.read_exact(&mut greeting)).await.unwrap();
        assert_eq!(greeting, GREETING);
        if let (Cut::Silent, Link::Mux(_, driver)) = (cut, &link) {
            driver.freeze();
        }
        Box::new((link, reader, writer, work))
    }

    /// Stays, one for each of `cuts`; how many. The last must not be a slow one.
    async fn cycle(&self, clock: &Clock, cuts: impl Iterator<Item = Cut>) -> usize {
        let (mut stays, mut left) = (0, None);
        for cut in cuts {
            let stream = clock.until(self.listener.accept()).await.unwrap().0;
            // A client that has found out for itself that nobody answers is back before it is cut off.
            drop(left.take());
            let stay = self.stay(stream, cut).await;
            if SLOW.contains(&cut) {
                left = Some(stay);
            }
            stays += 1;
        }
        stays
    }
}

/// Greets and waits for the user's end.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut user, _)) = listener.accept().await {
            tokio::spawn(async move {
                user.write_all(GREETING).await?;
                user.read_to_end(&mut Vec::new()).await
            });
        }
    });
    address
}

fn config(server: SocketAddr, service: SocketAddr, uses_mux: bool) -> ClientConfig {
    let mut config = ClientConfig {
        server_addr: server.ip().to_string(),
        server_port: server.port().into(),
        login_fail_exit: Some(false),
        ..ClientConfig::default()
    };
    config.transport.tcp_mux = Some(uses_mux);
    // Both versions of the protocol have their day.
    config.transport.wire_protocol = if uses_mux { "v2" } else { "v1" }.into();
    // As the program has them without the mux; with it the mux finds out who is silent.
    let (interval, timeout) = if uses_mux { (-1, -1) } else { (30, 90) };
    config.transport.heartbeat_interval = interval;
    config.transport.heartbeat_timeout = timeout;
    config.transport.tls.enable = Some(false);
    config.proxies = vec![ProxyConfig {
        base: ProxyBase {
            name: "web".into(),
            type_: "tcp".into(),
            local_ip: service.ip().to_string(),
            local_port: service.port().into(),
            ..ProxyBase::default()
        },
        kind: ProxyKind::Tcp { remote_port: 0 },
    }];
    config
}

async fn a_day(uses_mux: bool) {
    let clock = Clock::hold();
    let server = Server {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        uses_mux,
    };
    let config = config(
        server.listener.local_addr().unwrap(),
        service().await,
        uses_mux,
    );
    let stop = CancellationToken::new();
    let client = tokio::spawn(frpc_rs::run(
        config,
        TOKEN.into(),
        Resources::default(),
        stop.clone(),
    ));
    let (mut stays, mut cycles, mut warm) = (0, 0_usize, None);
    while clock.elapsed() < DAY {
        let slow = if cycles.is_multiple_of(SLOW_EACH) {
            &SLOW[..]
        } else {
            &[]
        };
        let cuts = slow.iter().chain(&FAST).copied();
        stays += server.cycle(&clock, cuts).await;
        cycles += 1;
        if clock.elapsed() > WARM_UP && warm.is_none() {
            warm = Some((Held::settled().await, stays));
        }
    }
    let (warm, warm_stays) = warm.unwrap();
    let end = Held::settled().await;
    println!("mux {uses_mux}: {warm:?} after {warm_stays} connections, {end:?} after {stays}");
    assert!(stays > warm_stays + 5_000, "{stays} connections");
    end.assert_no_more_than(warm);
    stop.cancel();
    within(client).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
#[cfg_attr(not(target_os = "linux"), ignore = "counts with Linux's /proc")]
async fn a_client_that_is_cut_off_all_day_leaves_nothing_behind() {
    let _alone = alone().await;
    a_day(false).await;
}

#[tokio::test(start_paused = true)]
#[cfg_attr(not(target_os = "linux"), ignore = "counts with Linux's /proc")]
async fn a_client_that_is_cut_off_all_day_leaves_nothing_behind_with_the_mux() {
    let _alone = alone().await;
    a_day(true).await;
}
