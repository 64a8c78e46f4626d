//! Groups: who may join, who has the turn, and what is left of a group.

use std::collections::BTreeMap;

use conformance::process::Process;
use conformance::raw::{Client, Link, login_message, tcp_proxy};
use conformance::service::Kind;
use conformance::vhost::{ask, client_hello, named_service};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, Setup, ports};
use frp_proto::msg::{CloseProxy, Message, NewProxy, Version};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::pair("groups/tcp", async |lab| {
            let port = ports::free();
            let (_frps, server) = lab.setup().start_server().await?;
            let setup = lab.setup().proxy("type", "tcp");
            turns(&setup, server, port, port, b"").await
        }),
        Case::pair("groups/https", async |lab| {
            let port = ports::free();
            let (_frps, server) = lab
                .setup()
                .frps("vhostHTTPSPort", port)
                .start_server()
                .await?;
            let setup = lab.setup().proxy("type", "https");
            let setup = setup.proxy("customDomains", &["a.test"][..]);
            turns(&setup, server, 0, port, &client_hello("a.test", 0x0303)).await
        }),
        Case::pair("groups/tcpmux", async |lab| {
            let port = ports::free();
            let frps = lab.setup().frps("tcpmuxHTTPConnectPort", port);
            let (_frps, server) = frps.frps("tcpmuxPassthrough", true).start_server().await?;
            let setup = lab.setup().proxy("type", "tcpmux");
            let setup = setup
                .proxy("multiplexer", "httpconnect")
                .proxy("customDomains", &["a.test"][..]);
            let request = b"CONNECT a.test:1 HTTP/1.1\r\n\r\n";
            turns(&setup, server, 0, port, request).await
        }),
    ];
    for (wire, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        cases.extend([
            Case::frps(format!("groups/{wire}/tcp_terms"), async move |lab| {
                tcp_terms(lab, version).await
            }),
            Case::frps(format!("groups/{wire}/rejoin_at_once"), async move |lab| {
                rejoin_at_once(lab, version).await
            }),
            Case::frps(format!("groups/{wire}/vhost_terms"), async move |lab| {
                vhost_terms(lab, version).await
            }),
        ]);
    }
    cases
}

/// Two clients share one port, one of them ends and comes again.
async fn turns(
    setup: &Setup<'_>,
    server: u16,
    remote: u16,
    user_port: u16,
    request: &[u8],
) -> Outcome {
    let member = async |name: &'static str| -> Outcome<Process> {
        let setup = setup
            .clone()
            .named(name)
            .service(Kind::At(named_service(name).await?))
            .proxy("loadBalancer.group", "g")
            .proxy("loadBalancer.groupKey", "k");
        let mut frpc = setup.start_client(server, remote).await?;
        frpc.logs("start proxy success").await?;
        Ok(frpc)
    };
    let mut first = member("a").await?;
    let _second = member("b").await?;
    let pick = async || ask(user_port, request, 1).await;
    let mut picks = BTreeMap::<_, u32>::new();
    for _ in 0..6 {
        *picks.entry(pick().await?).or_default() += 1;
    }
    assert_eq!(
        picks.into_iter().collect::<Vec<_>>(),
        [(b"a".to_vec(), 3), (b"b".to_vec(), 3)]
    );
    first.kill()?;
    until("the other one serves all", LIMIT, async || {
        for _ in 0..2 {
            if pick().await.ok()? != b"b" {
                return None;
            }
        }
        Some(())
    })
    .await?;
    let _first = member("a").await?;
    let picks = [pick().await?, pick().await?].concat();
    assert!(matches!(&picks[..], b"ab" | b"ba"), "{picks:?}");
    Ok(())
}

fn grouped(proxy: NewProxy, group: &str, key: &str) -> NewProxy {
    NewProxy {
        group: group.into(),
        group_key: key.into(),
        ..proxy
    }
}

async fn error(client: &mut Client<'_>, proxy: NewProxy) -> Outcome<String> {
    Ok(client.register(proxy).await?.error)
}

async fn close(client: &mut Client<'_>, name: &str) -> Outcome {
    let message = CloseProxy {
        proxy_name: name.into(),
    };
    client.control.send(Message::CloseProxy(message)).await
}

async fn tcp_terms(lab: &Lab, version: Version) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, version);
    let (mut first, mut second) = (
        link.login(login_message()).await?,
        link.login(login_message()).await?,
    );
    let port = ports::free();
    let of = |name: &str, port, group: &str, key: &str| grouped(tcp_proxy(name, port), group, key);
    assert_eq!(error(&mut first, of("a", port, "g", "k")).await?, "");
    for (port, key, expected) in [
        (0, "k", "group should have same remote port"),
        (0, "x", "group should have same remote port"),
        (port, "x", "group auth failed"),
        (port, "", "group auth failed"),
    ] {
        assert_eq!(error(&mut second, of("b", port, "g", key)).await?, expected);
    }
    // Others see a port that is taken.
    for other in [of("b", port, "h", "k"), tcp_proxy("b", port)] {
        assert_eq!(error(&mut second, other).await?, "port already used");
    }
    let joined = second.register(of("b", port, "g", "k")).await?;
    assert_eq!(joined.remote_addr, format!(":{port}"));

    // Nothing is left of a group whose last member has gone.
    close(&mut first, "a").await?;
    close(&mut second, "b").await?;
    assert_eq!(
        second.ping(frp_proto::msg::Ping::default()).await?.error,
        ""
    );
    assert_eq!(first.ping(frp_proto::msg::Ping::default()).await?.error, "");
    assert_eq!(error(&mut first, of("a", port, "g", "x")).await?, "");
    close(&mut first, "a").await?;
    assert_eq!(error(&mut first, tcp_proxy("a", port)).await?, "");

    // All that leave the choice to the server get what the first one got.
    let picked = first.register(of("c", 0, "any", "")).await?;
    assert_eq!(picked.error, "");
    let same = second.register(of("d", 0, "any", "")).await?;
    assert_eq!(
        (same.error.as_str(), same.remote_addr),
        ("", picked.remote_addr)
    );
    Ok(())
}

/// Leaving and joining by messages that follow each other, alone and with another member.
async fn rejoin_at_once(lab: &Lab, version: Version) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, version);
    let mut client = link.login(login_message()).await?;
    let port = ports::free();
    let proxy = |name| grouped(tcp_proxy(name, port), "g", "k");
    assert_eq!(error(&mut client, proxy("a")).await?, "");
    for _ in 0..20 {
        close(&mut client, "a").await?;
        assert_eq!(error(&mut client, proxy("a")).await?, "");
    }
    assert_eq!(error(&mut client, proxy("b")).await?, "");
    for name in ["a", "b"].into_iter().cycle().take(20) {
        close(&mut client, name).await?;
        assert_eq!(error(&mut client, proxy(name)).await?, "");
    }
    Ok(())
}

async fn vhost_terms(lab: &Lab, version: Version) -> Outcome {
    let setup = lab
        .setup()
        .frps("transport.tcpMux", false)
        .frps("vhostHTTPSPort", ports::free())
        .frps("tcpmuxHTTPConnectPort", ports::free());
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, version);
    let mut client = link.login(login_message()).await?;
    for kind in ["https", "tcpmux"] {
        let of = |name: &str, domains: &[&str]| NewProxy {
            proxy_name: name.into(),
            proxy_type: kind.into(),
            multiplexer: "httpconnect".into(),
            custom_domains: domains.iter().map(|&d| d.into()).collect(),
            group: "g".into(),
            group_key: "k".into(),
            ..NewProxy::default()
        };
        assert_eq!(error(&mut client, of("a", &["a.test"])).await?, "");
        let mismatch = "group params invalid";
        for domains in [&["A.test"][..], &["b.test"], &["a.test", "b.test"]] {
            assert_eq!(error(&mut client, of("b", domains)).await?, mismatch);
        }
        let other_key = NewProxy {
            group_key: "x".into(),
            ..of("b", &["a.test"])
        };
        let error_of_key = error(&mut client, other_key).await?;
        assert_eq!(error_of_key, "group auth failed");
        for group in ["", "h"] {
            let other = grouped(of("b", &["a.test"]), group, "k");
            let conflict = error(&mut client, other).await?;
            assert_eq!(conflict, "router config conflict");
        }
        if kind == "tcpmux" {
            for (route, user, password) in [("r", "", ""), ("", "u", ""), ("", "", "p")] {
                let other = NewProxy {
                    route_by_http_user: route.into(),
                    http_user: user.into(),
                    http_pwd: password.into(),
                    ..of("b", &["a.test"])
                };
                assert_eq!(error(&mut client, other).await?, mismatch);
            }
        }
        assert_eq!(error(&mut client, of("b", &["a.test"])).await?, "");
        for name in ["a", "b"] {
            close(&mut client, name).await?;
        }
        // A group of two domains fails with the second, and the first is free again.
        let two = of("a", &["a.test", "b.test"]);
        assert_eq!(error(&mut client, two).await?, mismatch);
        let alone = grouped(of("a", &["a.test", "b.test"]), "", "");
        assert_eq!(error(&mut client, alone).await?, "");
        close(&mut client, "a").await?;
    }
    Ok(())
}
