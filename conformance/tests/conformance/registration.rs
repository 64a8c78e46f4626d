//! Names and ports of proxies: claims, refusals, releases.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use conformance::raw::{Client, Link, login_message, tcp_proxy};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, Setup, ports, service};
use frp_proto::msg::{CloseProxy, Message, NewProxy, Version};
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::pair("registration/remote_port_0", async |lab| {
            let port = ports::free();
            let setup = lab.setup().frps("allowPorts", port..=port);
            let (_frps, server) = setup.start_server().await?;
            let mut frpc = setup.start_client(server, 0).await?;
            frpc.logs("[web] start proxy success").await?;
            service::echo(local(port), 1000).await
        })
        .since(37),
        Case::pair("registration/port_not_allowed", async |lab| {
            let (allowed, other) = (ports::free(), ports::free());
            let setup = lab.setup().frps("allowPorts", allowed..=allowed);
            refused(&setup, other, "port not allowed").await
        })
        .since(52),
        Case::pair("registration/port_of_another_program", async |lab| {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, ports::free()))?;
            refused(&lab.setup(), other.local_addr()?.port(), "port unavailable").await
        })
        .since(52),
        Case::pair("registration/undetailed", async |lab| {
            let setup = lab.setup().frps("detailedErrorsToClient", false);
            let allowed = ports::free();
            let setup = setup.frps("allowPorts", allowed..=allowed);
            refused(&setup, ports::free(), "new proxy [web] error").await
        }),
        Case::pair("registration/one_port_two_clients", async |lab| {
            let pair = lab.setup().start().await?;
            let second = lab.setup().named("second");
            let mut frpc = second
                .start_client(pair.server_port, pair.user.port())
                .await?;
            frpc.logs("[second] start error: port already used").await?;
            pair.echo().await
        })
        .since(52),
        Case::pair("registration/one_name_two_clients", async |lab| {
            let pair = lab.setup().start().await?;
            let mut frpc = lab.setup().start_client(pair.server_port, 0).await?;
            frpc.logs("[web] start error: proxy [web] already exists")
                .await?;
            pair.echo().await
        }),
        Case::pair("registration/free_after_the_client_is_gone", async |lab| {
            let mut pair = lab.setup().start().await?;
            pair.frpc.kill()?;
            closed(pair.user).await?;
            pair.start_frpc_again(lab).await?;
            pair.echo().await
        })
        .since(37),
        Case::pair("registration/the_loser_tries_again", async |lab| {
            let mut pair = lab.setup().start().await?;
            let mut second = lab
                .setup()
                .start_client(pair.server_port, pair.user.port())
                .await?;
            second.logs("start error: ").await?;
            pair.frpc.kill()?;
            let success = until("the retry", 2 * LIMIT, async || {
                second.log().contains("start proxy success").then_some(())
            });
            success.await?;
            pair.echo().await
        })
        .long("30 s until the next try"),
    ];
    for (wire, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        cases.extend([
            Case::frps(format!("registration/{wire}/messages"), async move |lab| {
                messages(lab, version).await
            }),
            Case::frps(
                format!("registration/{wire}/max_ports_per_client"),
                async move |lab| {
                    let setup = server(lab).frps("maxPortsPerClient", 1i64);
                    let (_frps, port) = setup.start_server().await?;
                    let link = Link::plain(port, version);
                    let mut client = link.login(login_message()).await?;
                    accepted(&mut client, tcp_proxy("a", 0)).await?;
                    let error = "exceed the max_ports_per_client";
                    rejected(&mut client, tcp_proxy("b", 0), error).await?;
                    close(&mut client, "a").await?;
                    accepted(&mut client, tcp_proxy("b", 0)).await?;
                    Ok(())
                },
            ),
        ]);
    }
    cases
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A server for raw clients.
fn server(lab: &Lab) -> Setup<'_> {
    lab.setup().frps("transport.tcpMux", false)
}

async fn refused(setup: &Setup<'_>, remote: u16, error: &str) -> Outcome {
    let (mut frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, remote).await?;
    frpc.logs(&format!("[web] start error: {error}")).await?;
    frps.logs("new proxy [web] type [tcp] error: ").await
}

async fn closed(address: SocketAddr) -> Outcome {
    until("the port is closed", LIMIT, async || {
        TcpStream::connect(address).await.err().map(|_| ())
    })
    .await
}

async fn accepted(client: &mut Client<'_>, proxy: NewProxy) -> Outcome<u16> {
    let resp = client.register(proxy).await?;
    assert_eq!(resp.error, "");
    let port = resp.remote_addr.strip_prefix(':').unwrap_or_default();
    Ok(port.parse()?)
}

async fn rejected(client: &mut Client<'_>, proxy: NewProxy, error: &str) -> Outcome {
    let resp = client.register(proxy).await?;
    assert_eq!(resp.error, error);
    assert_eq!(resp.remote_addr, "");
    Ok(())
}

async fn close(client: &mut Client<'_>, name: &str) -> Outcome {
    let message = CloseProxy {
        proxy_name: name.into(),
    };
    client.control.send(Message::CloseProxy(message)).await
}

/// Two sessions, message by message.
async fn messages(lab: &Lab, version: Version) -> Outcome {
    let (_frps, port) = server(lab).start_server().await?;
    let link = Link::plain(port, version);
    let mut first = link.login(login_message()).await?;
    let mut second = link.login(login_message()).await?;
    assert_ne!(first.run_id, second.run_id);
    assert_eq!(first.run_id.len(), 16);

    let picked = accepted(&mut first, tcp_proxy("a", 0)).await?;
    TcpStream::connect(local(picked)).await?;
    rejected(&mut second, tcp_proxy("a", 0), "proxy [a] already exists").await?;
    rejected(&mut second, tcp_proxy("b", picked), "port already used").await?;
    let unknown = NewProxy {
        proxy_type: "smoke".into(),
        ..tcp_proxy("b", 0)
    };
    rejected(&mut second, unknown, "unknown proxy type: smoke").await?;
    let too_large = NewProxy {
        remote_port: 70_000,
        ..tcp_proxy("b", 0)
    };
    rejected(&mut second, too_large, "port not allowed").await?;
    let negative = NewProxy {
        remote_port: -1,
        ..tcp_proxy("b", 0)
    };
    rejected(&mut second, negative, "port not allowed").await?;

    // A closed proxy gives back name and port; its name has the port reserved.
    close(&mut first, "a").await?;
    assert_eq!(accepted(&mut first, tcp_proxy("a", 0)).await?, picked);
    close(&mut first, "a").await?;
    closed(local(picked)).await?;
    assert_eq!(accepted(&mut second, tcp_proxy("b", picked)).await?, picked);

    // So does a session that ends.
    drop(second);
    closed(local(picked)).await?;
    let again = until("the port is free", Duration::from_secs(5), async || {
        let resp = first.register(tcp_proxy("b", picked)).await.ok()?;
        (resp.error.is_empty()).then_some(())
    });
    again.await
}
