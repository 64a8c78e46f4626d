//! `udp` proxies: datagrams of many users through one work connection.

use conformance::datagram::{self, User};
use conformance::service::{Kind, Pattern};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, Setup};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

type Change = for<'a> fn(Setup<'a>) -> Setup<'a>;

/// Name, settings.
const SETTINGS: [(&str, Change); 7] = [
    ("default", |s| s),
    ("tls_off", |s| s.frpc("transport.tls.enable", false)),
    ("mux_off", |s| s.both("transport.tcpMux", false)),
    ("encryption", |s| s.proxy("transport.useEncryption", true)),
    ("compression", |s| s.proxy("transport.useCompression", true)),
    ("encryption_compression", layers),
    ("encryption_compression/mux_off", |s| {
        layers(s).both("transport.tcpMux", false)
    }),
];

fn layers(setup: Setup<'_>) -> Setup<'_> {
    setup
        .proxy("transport.useEncryption", true)
        .proxy("transport.useCompression", true)
}

/// A pair with a `udp` proxy to an echo service.
fn setup(lab: &Lab) -> Setup<'_> {
    lab.setup().proxy("type", "udp").service(Kind::Datagrams)
}

/// Bytes that tell datagrams apart.
pub(super) fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Pattern::new(len as u64).fill(&mut content);
    content
}

/// Datagrams of every length come back, those that are too long without their end.
pub(super) async fn sizes(user: &User) -> Outcome {
    for len in [1, 0, 100, 1_472, 1_500] {
        user.echo(&content(len)).await?;
    }
    let long = content(1_501);
    user.expect(&long, &long[..1_500]).await
}

/// Several at once, and each gets his own answers.
pub(super) async fn many(address: std::net::SocketAddr) -> Outcome {
    let mut users = JoinSet::new();
    for n in 0..20_u16 {
        users.spawn(async move {
            let user = User::new(address).await?;
            for turn in 0..5_u8 {
                let question = [&n.to_be_bytes()[..], &[turn; 300]].concat();
                user.echo(&question).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = users.join_next().await {
        done??;
    }
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = settings();
    cases.extend(packets());
    cases.extend(ports());
    cases.extend(lives());
    cases.extend(proxy_protocol());
    cases
}

/// Every setting in both wire versions.
fn settings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, change) in SETTINGS {
        for wire in ["v1", "v2"] {
            let case = Case::pair(format!("udp/{wire}/{name}"), async move |lab| {
                let pair = change(setup(lab)).wire(wire).start().await?;
                sizes(&User::new(pair.user).await?).await?;
                many(pair.user).await
            });
            cases.push(if wire == "v1" { case.since(37) } else { case });
        }
    }
    cases
}

/// Other sizes, and a protocol that lives on datagrams.
fn packets() -> Vec<Case> {
    vec![
        Case::pair("udp/packet_size", async |lab| {
            let pair = setup(lab).both("udpPacketSize", 200i64).start().await?;
            let user = User::new(pair.user).await?;
            let long = content(201);
            user.expect(&long, &long[..200]).await?;
            user.echo(&long[..200]).await
        })
        .since(52),
        Case::pair("udp/large_packets", async |lab| {
            let large = setup(lab).both("udpPacketSize", 8_000i64);
            let pair = large.start().await?;
            let user = User::new(pair.user).await?;
            user.echo(&content(7_600)).await
        }),
        Case::pair("udp/large_packets/v2", async |lab| {
            let large = setup(lab).both("udpPacketSize", 65_535i64);
            let pair = large.wire("v2").start().await?;
            let user = User::new(pair.user).await?;
            user.echo(&content(45_000)).await
        }),
        Case::pair("udp/name_service", async |lab| {
            let service = datagram::serve(resolve).await?;
            let setup = setup(lab).service(Kind::At(service.port()));
            let pair = setup.start().await?;
            let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
            let answer = User::new(pair.user).await?.ask(question).await?;
            assert_eq!(answer, resolve(question));
            assert!(answer.ends_with(&[192, 0, 2, 7]));
            Ok(())
        })
        .since(37),
    ]
}

/// Who gets which port.
fn ports() -> Vec<Case> {
    vec![
        Case::pair("udp/port_not_allowed", async |lab| {
            let (allowed, other) = (conformance::ports::free(), conformance::ports::free());
            let setup = setup(lab).frps("allowPorts", allowed..=allowed);
            let (_frps, server) = setup.start_server().await?;
            let mut frpc = setup.start_client(server, other).await?;
            let text = format!("start error: acquire port {other} error: port not allowed");
            frpc.logs(&text).await
        }),
        Case::pair("udp/port_of_another_client", async |lab| {
            let pair = setup(lab).start().await?;
            let second = setup(lab).named("second");
            let port = pair.user.port();
            let mut frpc = second.start_client(pair.server_port, port).await?;
            let text = format!("start error: acquire port {port} error: port already used");
            frpc.logs(&text).await?;
            User::new(pair.user).await?.echo(b"still there").await
        }),
        Case::pair("udp/port_of_a_tcp_proxy", async |lab| {
            let pair = setup(lab).start().await?;
            let second = lab.setup().named("second");
            let port = pair.user.port();
            let mut frpc = second.start_client(pair.server_port, port).await?;
            frpc.logs("[second] start proxy success").await?;
            pair.echo().await?;
            User::new(pair.user).await?.echo(b"both").await
        }),
    ]
}

/// One of three ends and comes back.
fn lives() -> Vec<Case> {
    vec![
        Case::pair("udp/service_comes_late", async |lab| {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            let address = socket.local_addr()?;
            let setup = setup(lab).service(Kind::At(address.port()));
            drop(socket);
            let pair = setup.start().await?;
            let user = User::new(pair.user).await?;
            for _ in 0..3 {
                user.expect_nothing(b"nobody there").await?;
            }
            let socket = UdpSocket::bind(address).await?;
            tokio::spawn(datagram::answer_all(socket, <[u8]>::to_vec));
            user.echo(b"somebody there").await
        }),
        Case::pair("udp/restart_frps", async |lab| {
            let mut pair = setup(lab).start().await?;
            let user = User::new(pair.user).await?;
            user.echo(b"before").await?;
            pair.frps.kill()?;
            pair.start_frps_again(lab).await?;
            until("the proxy is there again", 2 * LIMIT, async || {
                user.echo(b"after").await.ok()
            })
            .await
        })
        .since(61),
        Case::pair("udp/restart_frpc", async |lab| {
            let mut pair = setup(lab).start().await?;
            let user = User::new(pair.user).await?;
            user.echo(b"before").await?;
            pair.frpc.kill()?;
            pair.start_frpc_again(lab).await?;
            user.echo(b"after").await
        })
        .since(37),
    ]
}

/// The service learns who the user is.
fn proxy_protocol() -> Vec<Case> {
    let mut cases = Vec::new();
    for (version, first) in [("v1", b"PROXY UNKNOWN\r\n" as &[u8]), ("v2", b"")] {
        let name = format!("udp/proxy_protocol/{version}");
        cases.push(Case::pair(name, async move |lab| {
            let service = datagram::start_echo().await?;
            let setup = setup(lab).service(Kind::At(service.port()));
            let setup = setup.proxy("transport.proxyProtocolVersion", version);
            let pair = setup.start().await?;
            let user = User::new(pair.user).await?;
            let header = if version == "v1" {
                first.to_vec()
            } else {
                let ports = [user.address()?.port(), service.port()];
                let [source, destination] = ports.map(u16::to_be_bytes);
                let addresses = [127, 0, 0, 1, 127, 0, 0, 1];
                let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c";
                [&start[..], &addresses, &source, &destination].concat()
            };
            let answer = user.ask(b"first").await?;
            assert_eq!(answer, [&header[..], b"first"].concat());
            user.echo(b"second").await
        }));
    }
    cases
}

/// Answers a DNS question of one name with one address.
fn resolve(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    // Response, recursion available; one answer.
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[7] = 1;
    // The name of the question, type A, class IN, 60 s, 192.0.2.7.
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    answer
}
