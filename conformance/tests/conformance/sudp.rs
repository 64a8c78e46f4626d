//! `sudp` proxies and their visitors, in one wire version and between the two.

use conformance::datagram::User;
use conformance::service::Kind;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, Pair, Setup};

use super::stcp::{MAKERS, WIRES, layers, setup as secret, visitor};
use super::udp::{content, many, sizes};

/// Longest wait for a tunnel that has to find out by itself that its other half is gone.
const RECOVERY: std::time::Duration = std::time::Duration::from_secs(90);

fn setup(lab: &Lab) -> Setup<'_> {
    secret(lab, "sudp").service(Kind::Datagrams)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, mux, layered) in [
        ("default", true, false),
        ("layers", true, true),
        ("mux_off", false, false),
        ("layers/mux_off", false, true),
    ] {
        for (maker, programs) in MAKERS {
            if !maker.is_empty() && !mux {
                continue;
            }
            for (wires, of_proxy, of_visitor) in WIRES {
                let name = format!("sudp/{wires}/{name}{maker}");
                let case = Case::pair(name, async move |lab| {
                    let mut setup = setup(lab).both("transport.tcpMux", mux);
                    let mut keys = visitor();
                    if layered {
                        setup = setup
                            .proxy("transport.useEncryption", true)
                            .proxy("transport.useCompression", true);
                        keys = layers(keys);
                    }
                    let pair = setup.clone().wire(of_proxy).start().await?;
                    let visitors = setup.wire(of_visitor);
                    let (_frpc, user) = visitors
                        .start_visitor(programs(lab), pair.server_port, keys)
                        .await?;
                    sizes(&User::new(user).await?).await?;
                    many(user).await
                });
                let v1_only = of_proxy == "v1" && of_visitor == "v1";
                cases.push(if v1_only { case.since(37) } else { case });
            }
        }
    }
    cases.extend([
        Case::pair("sudp/wrong_secret", async |lab| {
            let pair = setup(lab).start().await?;
            let mut keys = visitor();
            keys.set("secretKey", "open barley");
            let (mut frpc, user) = setup(lab)
                .start_visitor(&lab.frpc, pair.server_port, keys)
                .await?;
            User::new(user).await?.expect_nothing(b"let me in").await?;
            frpc.logs(
                "newVisitorConn to frps error: start new visitor connection error: \
                 visitor connection of [web] auth failed, try to reconnect",
            )
            .await
        }),
        Case::pair("sudp/negative_port", async |lab| {
            let pair = setup(lab).start().await?;
            let mut frpc =
                setup(lab).start_visitor_on(&lab.frpc, pair.server_port, -1, visitor())?;
            frpc.logs("start error: sudp ResolveUDPAddr error: address -1: invalid port")
                .await
        }),
        Case::pair("sudp/proxy_protocol", async |lab| {
            let setup = setup(lab).proxy("transport.proxyProtocolVersion", "v2");
            let pair = setup.start().await?;
            let (_frpc, user) = self::setup(lab)
                .start_visitor(&lab.frpc, pair.server_port, visitor())
                .await?;
            let user = User::new(user).await?;
            let answer = user.ask(b"first").await?;
            let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c\x7f\0\0\x01\x7f\0\0\x01";
            assert!(answer.starts_with(start) && answer.ends_with(b"first"));
            let port = user.address()?.port().to_be_bytes();
            assert_eq!(answer[start.len()..start.len() + 2], port);
            user.echo(b"second").await
        }),
        Case::pair("sudp/two_visitors", async |lab| {
            let pair = setup(lab).start().await?;
            for programs in [&lab.frpc, &lab.frps] {
                let (frpc, user) = setup(lab)
                    .start_visitor(programs, pair.server_port, visitor())
                    .await?;
                User::new(user).await?.echo(&content(700)).await?;
                drop(frpc);
            }
            Ok(())
        }),
        Case::pair("sudp/restart_frps", async |lab| {
            let (mut pair, _frpc, user) = with_visitor(lab).await?;
            pair.frps.kill()?;
            pair.start_frps_again(lab).await?;
            recovers(&user).await
        })
        .since(61),
        Case::pair("sudp/restart_frpc", async |lab| {
            let (mut pair, _frpc, user) = with_visitor(lab).await?;
            pair.frpc.kill()?;
            pair.start_frpc_again(lab).await?;
            recovers(&user).await
        }),
    ]);
    cases
}

async fn with_visitor(lab: &Lab) -> Outcome<(Pair, conformance::process::Process, User)> {
    let pair = setup(lab).start().await?;
    let (frpc, user) = setup(lab)
        .start_visitor(&lab.frpc, pair.server_port, visitor())
        .await?;
    let user = User::new(user).await?;
    user.echo(b"before").await?;
    Ok((pair, frpc, user))
}

async fn recovers(user: &User) -> Outcome {
    until("the tunnel works again", RECOVERY.max(LIMIT), async || {
        user.echo(b"after").await.ok()
    })
    .await
}
