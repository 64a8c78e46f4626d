//! `transport.protocol = "auto"`: the first of QUIC, TCP with TLS and wss that leads to frps, and what is remembered of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use conformance::config::Config;
use conformance::lab::TOKEN;
use conformance::{Case, Lab, Outcome, Pair, Setup, ports, service};
use frp_proto::tls::{ServerTls, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const WHY: &str = "upstream has no such protocol";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for wire in ["v1", "v2"] {
        for mux in [true, false] {
            let name = |what| {
                let mux = if mux { "" } else { "/mux_off" };
                format!("protocol_auto/{what}/{wire}{mux}")
            };
            let over = async move |setup: Setup<'_>, protocol| {
                let setup = setup.wire(wire).both("transport.tcpMux", mux);
                let mut pair = setup.start().await?;
                pair.echo().await?;
                connected_over(&mut pair, protocol, 1).await
            };
            cases.push(Case::pair(name("quic"), async move |lab: &Lab| {
                over(auto(lab).udp_port("quicBindPort"), "quic").await
            }));
            cases.push(Case::pair(name("quic_blocked"), async move |lab: &Lab| {
                over(auto(lab), "tcp").await
            }));
        }
    }
    cases.extend([
        Case::pair("protocol_auto/remembers", remembers),
        Case::pair("protocol_auto/falls_back_again", falls_back_again),
        Case::pair("protocol_auto/only_wss", only_wss),
        Case::pair("protocol_auto/wrong_token", wrong_token),
        Case::pair("protocol_auto/flag", flag),
    ]);
    cases.into_iter().map(|case| case.our_frpc(WHY)).collect()
}

fn auto(lab: &Lab) -> Setup<'_> {
    lab.setup().frpc("transport.protocol", "auto")
}

/// Without any file.
async fn flag(lab: &Lab) -> Outcome {
    let (_frps, port) = lab.setup().start_server().await?;
    let echo = service::start(service::Kind::Echo).await?;
    let remote = ports::free();
    let words = format!(
        "tcp --protocol auto -P {port} -t {TOKEN} -n web -l {} -r {remote}",
        echo.port()
    );
    let words = words.split(' ').map(str::to_owned);
    let mut frpc = lab.start_with(&lab.frpc, "frpc", words)?;
    frpc.logs("protocol auto: connected over [tcp]").await?;
    frpc.logs("[web] start proxy success").await?;
    service::echo((Ipv4Addr::LOCALHOST, remote).into(), 1_000).await
}

/// The log tells it, so many times.
async fn connected_over(pair: &mut Pair, protocol: &str, times: usize) -> Outcome {
    let line = format!("protocol auto: connected over [{protocol}]");
    pair.frpc.logs_times(&line, times).await
}

/// What worked comes first when the session has ended.
async fn remembers(lab: &Lab) -> Outcome {
    let mut pair = auto(lab).start().await?;
    let remembered = "connected over [tcp], remembered for reconnections";
    pair.frpc.logs(remembered).await?;
    pair.frps.kill()?;
    pair.start_frps_again(lab).await?;
    pair.works().await?;
    connected_over(&mut pair, "tcp", 2).await?;
    assert_eq!(pair.frpc.log().matches(remembered).count(), 1);
    Ok(())
}

/// frps comes back without QUIC, then with it.
async fn falls_back_again(lab: &Lab) -> Outcome {
    let mut pair = auto(lab).udp_port("quicBindPort").start().await?;
    connected_over(&mut pair, "quic", 1).await?;
    pair.frps.kill()?;
    let mut without = Config::default();
    without.keys.set("auth.token", TOKEN);
    without.keys.set("bindAddr", "127.0.0.1");
    without.keys.set("proxyBindAddr", "127.0.0.1");
    without.keys.set("bindPort", pair.server_port);
    pair.frps = lab.start_frps(&without)?;
    // A dead QUIC connection is noticed after half a minute.
    conformance::wait::until(
        "the other protocol is taken",
        4 * conformance::wait::LIMIT,
        async || {
            pair.frpc
                .log()
                .contains("connected over [tcp], remembered")
                .then_some(())
        },
    )
    .await?;
    pair.works().await
}

/// A web server that ends TLS and lets only a WebSocket through, on `serverPort` or on a port of its own.
async fn only_wss(lab: &Lab) -> Outcome {
    for own_port in [false, true] {
        let (_frps, port) = auto(lab).start_server().await?;
        let front = web_server((Ipv4Addr::LOCALHOST, port).into()).await?;
        let (setup, port) = if own_port {
            (
                auto(lab).frpc("transport.auto.wssPort", front),
                ports::free(),
            )
        } else {
            (auto(lab), front)
        };
        let remote = ports::free();
        let mut frpc = setup.start_client(port, remote).await?;
        frpc.logs("start proxy success").await?;
        frpc.logs("protocol auto: connected over [wss], remembered")
            .await?;
        service::echo((Ipv4Addr::LOCALHOST, remote).into(), 300_000).await?;
    }
    Ok(())
}

/// Who is refused by frps need not try another way.
async fn wrong_token(lab: &Lab) -> Outcome {
    let setup = auto(lab).frpc("auth.token", "wrong");
    let (_frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, 0).await?;
    frpc.logs("token in login doesn't match token from configuration")
        .await?;
    assert!(!frpc.log().contains("[wss]"), "another way was tried");
    Ok(())
}

async fn web_server(frps: SocketAddr) -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let tls = Arc::new(ServerTls::new(TlsFiles::default())?);
    tokio::spawn(async move {
        while let Ok((user, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut user = tls.accept(user).await?;
                let mut start = [0; 4];
                user.read_exact(&mut start).await?;
                if &start != b"GET " {
                    return user.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                }
                let mut server = TcpStream::connect(frps).await?;
                server.write_all(&start).await?;
                copy_bidirectional(&mut user, &mut server).await.map(drop)
            });
        }
    });
    Ok(port)
}
