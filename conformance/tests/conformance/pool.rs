//! Work connections: how many, for how long, and what happens without.

use std::time::Duration;

use conformance::raw::{self, Link, Server, login_message, tcp_proxy};
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome};
use frp_proto::msg::io::write_message;
use frp_proto::msg::{Login, Message, NewProxyResp, Ping, StartWorkConn, Version};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (wire, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        for (asked, granted) in [(0, 0), (1, 1), (5, 5), (9, 5)] {
            cases.push(Case::frps(
                format!("pool/{wire}/{asked}"),
                async move |lab| count(lab, version, asked, granted).await,
            ));
        }
        cases.extend([
            Case::frps(format!("pool/{wire}/full"), async move |lab| {
                full(lab, version).await
            }),
            Case::frps(format!("pool/{wire}/user_conn_timeout"), async move |lab| {
                user_conn_timeout(lab, version).await
            }),
            Case::frpc(format!("pool/{wire}/client"), async move |lab| {
                client(lab, wire).await
            }),
        ]);
    }
    for (name, pause, why) in [
        ("pool/idle_80s", 80, "80 s"),
        ("pool/idle_10min", 610, "10 minutes"),
    ] {
        cases.push(
            Case::pair(name, async move |lab| {
                idle(lab, Duration::from_secs(pause)).await
            })
            .long(why),
        );
    }
    cases
}

/// A client that asks for a pool of `asked` is asked for `granted` work connections.
async fn count(lab: &Lab, version: Version, asked: i64, granted: usize) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (_frps, port) = setup.start_server().await?;
    let link = Link::plain(port, version);
    let login = Login {
        pool_count: asked,
        ..login_message()
    };
    let mut client = link.login(login).await?;
    let mut requests = 0;
    // The server writes in order: what it asks for at the start is there before the answer to the second ping.
    for _ in 0..2 {
        client.control.send(Message::Ping(Ping::default())).await?;
        let pong = client.control.wait_for("Pong", |m| {
            requests += usize::from(m == Message::ReqWorkConn);
            matches!(m, Message::Pong(_)).then_some(())
        });
        pong.await?;
    }
    assert_eq!(requests, granted);
    Ok(())
}

/// The pool has room for ten more than were asked for.
async fn full(lab: &Lab, version: Version) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (_frps, port) = setup.start_server().await?;
    let link = Link::plain(port, version);
    let mut client = link.login(login_message()).await?;
    // The session takes work connections once it runs, which is after the answer to the login.
    client.ping(Ping::default()).await?;
    let mut waiting = Vec::new();
    for _ in 0..11 {
        waiting.push(client.offer_work().await?);
    }
    // Which of them comes last is not known.
    let refused = waiting.iter_mut().map(|io| Box::pin(link.started(io)));
    let start = first(refused.collect()).await?;
    assert_eq!(start.error, "work connection pool is full, discarding");
    Ok(())
}

/// The result of whichever future is ready first.
async fn first<T>(mut futures: Vec<impl Future<Output = T> + Unpin>) -> T {
    std::future::poll_fn(|cx| {
        for future in &mut futures {
            if let ready @ std::task::Poll::Ready(_) = std::pin::Pin::new(future).poll(cx) {
                return ready;
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// A user for whom the client brings no work connection is let go without a byte.
async fn user_conn_timeout(lab: &Lab, version: Version) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (mut frps, port) = setup.frps("userConnTimeout", 2i64).start_server().await?;
    let link = Link::plain(port, version);
    let mut client = link.login(login_message()).await?;
    let resp = client.register(tcp_proxy("a", 0)).await?;
    let mut user = TcpStream::connect(format!("127.0.0.1{}", resp.remote_addr)).await?;
    let begin = Instant::now();
    assert_eq!(raw::read_all(&mut user, LIMIT).await?, b"");
    let elapsed = begin.elapsed().as_secs_f64();
    assert!((1.9..6.0).contains(&elapsed), "closed after {elapsed} s");
    frps.logs("timeout trying to get work connection").await
}

/// frpc brings as many work connections as it is asked for and serves those it is told to.
async fn client(lab: &Lab, wire: &str) -> Outcome {
    let mut server = Server::start(true).await?;
    let setup = lab.setup().wire(wire).frpc("transport.tls.enable", false);
    let setup = setup.frpc("transport.poolCount", 3i64);
    let mut frpc = setup.start_client(server.port()?, 6000).await?;
    let (login, mut control, version) = server.accept_login("0123456789abcdef").await?;
    assert_eq!(login.pool_count, 3);
    let proxy = control.wait_for("NewProxy", |m| match m {
        Message::NewProxy(proxy) => Some(proxy),
        _ => None,
    });
    assert_eq!(*proxy.await?, tcp_proxy("web", 6000));
    let resp = NewProxyResp {
        proxy_name: "web".into(),
        remote_addr: ":6000".into(),
        ..NewProxyResp::default()
    };
    control.send(Message::NewProxyResp(resp)).await?;
    frpc.logs("[web] start proxy success").await?;

    let mut conns = Vec::new();
    for _ in 0..5 {
        control.send(Message::ReqWorkConn).await?;
        let (accepted, io) = server.accept_message().await?;
        let Message::NewWorkConn(work) = accepted.message else {
            panic!("not NewWorkConn: {:?}", accepted.message);
        };
        assert_eq!(work.run_id, "0123456789abcdef");
        assert_eq!((work.privilege_key.as_str(), work.timestamp), ("", 0));
        conns.push(io);
    }
    let start = |name: &str, error: &str| {
        Message::StartWorkConn(StartWorkConn {
            proxy_name: name.into(),
            error: error.into(),
            ..StartWorkConn::default()
        })
    };
    let [unknown, refused, served, ..] = &mut conns[..] else {
        unreachable!("there are five");
    };
    write_message(unknown, version, &start("unknown", "")).await?;
    assert_eq!(raw::read_all(unknown, LIMIT).await?, b"");
    write_message(refused, version, &start("", "no reason")).await?;
    assert_eq!(raw::read_all(refused, LIMIT).await?, b"");
    frpc.logs("StartWorkConn contains error: no reason").await?;
    // Payload may come together with the message.
    let mut bytes = Vec::new();
    frp_proto::msg::encode(version, &start("web", ""), &mut bytes)?;
    bytes.extend_from_slice(b"ping");
    let mut echoed = [0; 4];
    tokio::io::AsyncWriteExt::write_all(served, &bytes).await?;
    tokio::io::AsyncReadExt::read_exact(served, &mut echoed).await?;
    assert_eq!(&echoed, b"ping");
    Ok(())
}

/// A pooled work connection that nobody needed for long still serves.
async fn idle(lab: &Lab, pause: Duration) -> Outcome {
    let mut pair = lab.setup().start().await?;
    pair.echo().await?;
    tokio::time::sleep(pause).await;
    pair.echo().await?;
    let logins = pair.frpc.log().matches("login to server success").count();
    assert_eq!(logins, 1, "the session did not last");
    assert!(pair.frps.ended().is_none());
    Ok(())
}
