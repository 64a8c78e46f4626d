//! `stcp` proxies and their visitors.
//!
//! The visitor runs in an frpc of its own: of the client's maker, or of the server's, which mixes all three roles.

use std::net::{Ipv4Addr, TcpListener};

use conformance::config::Keys;
use conformance::peers::Programs;
use conformance::service::{self, Kind};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, Setup, ports};
use tokio::net::TcpStream;

/// What both sides know.
const SECRET: &str = "open sesame";

type Change = for<'a> fn(Setup<'a>) -> Setup<'a>;

/// Name, settings of frps and of both frpc, whether the proxy and the visitor encrypt and compress.
const SETTINGS: [(&str, Change, bool, bool); 6] = [
    ("default", |s| s, false, false),
    ("proxy_layers", |s| s, true, false),
    ("visitor_layers", |s| s, false, true),
    ("all_layers", |s| s, true, true),
    ("mux_off", mux_off, false, false),
    ("all_layers/mux_off", mux_off, true, true),
];

fn mux_off(setup: Setup<'_>) -> Setup<'_> {
    setup.both("transport.tcpMux", false)
}

/// A pair with a proxy of this type that visitors may reach.
pub(super) fn setup<'a>(lab: &'a Lab, kind: &'static str) -> Setup<'a> {
    lab.setup().proxy("type", kind).proxy("secretKey", SECRET)
}

/// As it must be to get in.
pub(super) fn visitor() -> Keys {
    let mut keys = Keys::default();
    keys.set("secretKey", SECRET);
    keys
}

/// Switches encryption and compression on.
pub(super) fn layers(mut visitor: Keys) -> Keys {
    visitor.set("transport.useEncryption", true);
    visitor.set("transport.useCompression", true);
    visitor
}

type Which = fn(&Lab) -> &Programs;

/// Who makes the visitor: name for the case, and which of the lab's programs.
pub(super) const MAKERS: [(&str, Which); 2] =
    [("", |lab| &lab.frpc), ("/visitor_of_frps", |lab| &lab.frps)];

/// The wire versions of proxy and visitor.
pub(super) const WIRES: [(&str, &str, &str); 4] = [
    ("v1", "v1", "v1"),
    ("v2", "v2", "v2"),
    ("v1-v2", "v1", "v2"),
    ("v2-v1", "v2", "v1"),
];

async fn carries(user: std::net::SocketAddr) -> Outcome {
    for len in [1, 1_000, 300_000] {
        service::echo(user, len).await?;
    }
    Ok(())
}

/// Waits until a tunnel works.
async fn works(user: std::net::SocketAddr) -> Outcome {
    until("the tunnel works", 2 * LIMIT, async || {
        service::echo(user, 100).await.ok()
    })
    .await
}

/// A user whose connection ends without a byte.
async fn turned_away(user: std::net::SocketAddr) -> Outcome {
    assert!(service::echo(user, 1).await.is_err());
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = settings();
    cases.extend(refusals());
    cases.extend(admissions());
    cases.extend(lives());
    cases
}

/// Every setting in every mix of makers and wire versions.
fn settings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, change, proxy_layers, visitor_layers) in SETTINGS {
        for (maker, programs) in MAKERS {
            // What a single side has switched on needs no third maker.
            if !maker.is_empty() && !matches!(name, "default" | "all_layers") {
                continue;
            }
            for (wires, of_proxy, of_visitor) in WIRES {
                let name = format!("stcp/{wires}/{name}{maker}");
                let case = Case::pair(name, async move |lab| {
                    let mut setup = change(setup(lab, "stcp"));
                    if proxy_layers {
                        setup = setup
                            .proxy("transport.useEncryption", true)
                            .proxy("transport.useCompression", true);
                    }
                    let pair = setup.clone().wire(of_proxy).start().await?;
                    let keys = if visitor_layers {
                        layers(visitor())
                    } else {
                        visitor()
                    };
                    let visitors = setup.wire(of_visitor);
                    let (_frpc, user) = visitors
                        .start_visitor(programs(lab), pair.server_port, keys)
                        .await?;
                    carries(user).await
                });
                let v1_only = of_proxy == "v1" && of_visitor == "v1";
                cases.push(if v1_only { case.since(37) } else { case });
            }
        }
    }
    cases
}

/// Visitors who may.
fn admissions() -> Vec<Case> {
    vec![
        Case::pair("stcp/no_secret", async |lab| {
            let setup = lab.setup().proxy("type", "stcp");
            let pair = setup.start().await?;
            let (_frpc, user) = setup
                .start_visitor(&lab.frpc, pair.server_port, Keys::default())
                .await?;
            carries(user).await
        }),
        Case::pair("stcp/another_user", async |lab| {
            let owner = setup(lab, "stcp").frpc("user", "owner");
            let owner = owner.proxy("allowUsers", &["guest", "friend"][..]);
            let pair = owner.start().await?;
            let mut keys = visitor();
            keys.set("serverUser", "owner");
            let guest = setup(lab, "stcp").frpc("user", "guest");
            let (_frpc, user) = guest
                .start_visitor(&lab.frpc, pair.server_port, keys)
                .await?;
            carries(user).await
        })
        .since(52),
        Case::pair("stcp/anyone", async |lab| {
            let owner = setup(lab, "stcp").frpc("user", "owner");
            let owner = owner.proxy("allowUsers", &["*"][..]);
            let pair = owner.start().await?;
            let mut keys = visitor();
            keys.set("serverUser", "owner");
            let (_frpc, user) = setup(lab, "stcp")
                .start_visitor(&lab.frpc, pair.server_port, keys)
                .await?;
            carries(user).await
        })
        .since(52),
    ]
}

/// Listeners, and what happens when one of the programs goes.
fn lives() -> Vec<Case> {
    vec![
        Case::pair("stcp/no_listener", async |lab| {
            let pair = setup(lab, "stcp").start().await?;
            let mut frpc =
                setup(lab, "stcp").start_visitor_on(&lab.frpc, pair.server_port, -1, visitor())?;
            frpc.logs("start visitor success").await
        }),
        Case::pair("stcp/port_taken", async |lab| {
            let pair = setup(lab, "stcp").start().await?;
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, ports::free()))?;
            let port = other.local_addr()?.port();
            let mut frpc = setup(lab, "stcp").start_visitor_on(
                &lab.frpc,
                pair.server_port,
                port.into(),
                visitor(),
            )?;
            let text =
                format!("start error: listen tcp 127.0.0.1:{port}: bind: address already in use");
            frpc.logs(&text).await?;
            drop(other);
            frpc.logs("try to start visitor [visitor]").await?;
            frpc.logs("start visitor success").await?;
            carries((Ipv4Addr::LOCALHOST, port).into()).await
        }),
        Case::pair("stcp/proxy_protocol", async |lab| {
            let setup = setup(lab, "stcp").proxy("transport.proxyProtocolVersion", "v1");
            let pair = setup.service(Kind::Echo).start().await?;
            let (_frpc, user) = self::setup(lab, "stcp")
                .start_visitor(&lab.frpc, pair.server_port, visitor())
                .await?;
            let header = first_line(user).await?;
            let end = format!(" {}\r\n", pair.server_port);
            assert!(
                header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
                "{header}"
            );
            assert!(header.ends_with(&end), "{header}");
            Ok(())
        }),
        Case::pair("stcp/restart_frps", async |lab| {
            let mut pair = setup(lab, "stcp").start().await?;
            let (_frpc, user) = setup(lab, "stcp")
                .start_visitor(&lab.frpc, pair.server_port, visitor())
                .await?;
            carries(user).await?;
            pair.frps.kill()?;
            until("the visitor's port is closed", LIMIT, async || {
                TcpStream::connect(user).await.is_err().then_some(())
            })
            .await?;
            pair.start_frps_again(lab).await?;
            works(user).await
        })
        .since(61),
        Case::pair("stcp/restart_frpc", async |lab| {
            let mut pair = setup(lab, "stcp").start().await?;
            let (_frpc, user) = setup(lab, "stcp")
                .start_visitor(&lab.frpc, pair.server_port, visitor())
                .await?;
            carries(user).await?;
            pair.frpc.kill()?;
            pair.start_frpc_again(lab).await?;
            works(user).await
        })
        .since(37),
    ]
}

/// What an echo service behind a PROXY header says first.
async fn first_line(user: std::net::SocketAddr) -> Outcome<String> {
    use tokio::io::AsyncReadExt;
    let read = async {
        let mut stream = TcpStream::connect(user).await?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await?);
        }
        Outcome::Ok(String::from_utf8_lossy(&line).into_owned())
    };
    conformance::wait::within("a line", LIMIT, read).await?
}

/// Visitors who may not, and what they are told.
fn refusals() -> Vec<Case> {
    type Refusal = (&'static str, Change, fn(&mut Keys), &'static str);
    const REFUSALS: [Refusal; 4] = [
        (
            "wrong_secret",
            |s| s,
            |v| v.set("secretKey", "open barley"),
            "visitor connection of [web] auth failed",
        ),
        (
            "unknown_proxy",
            |s| s,
            |v| v.set("serverName", "nothing"),
            "custom listener for [nothing] doesn't exist",
        ),
        (
            "user_not_allowed",
            |s| s.frpc("user", "guest"),
            |v| v.set("serverUser", "owner"),
            "visitor connection of [owner.web] user [guest] not allowed",
        ),
        (
            "nobody_not_allowed",
            |s| s,
            |v| v.set("serverUser", "owner"),
            "visitor connection of [owner.web] user [] not allowed",
        ),
    ];
    let mut cases = Vec::new();
    for (name, change, spoil, error) in REFUSALS {
        cases.push(Case::pair(format!("stcp/{name}"), async move |lab| {
            let mut owner = setup(lab, "stcp");
            if error.contains("owner") {
                owner = owner.frpc("user", "owner");
            }
            let pair = owner.start().await?;
            let mut keys = visitor();
            spoil(&mut keys);
            let (mut frpc, user) = change(setup(lab, "stcp"))
                .start_visitor(&lab.frpc, pair.server_port, keys)
                .await?;
            turned_away(user).await?;
            let text =
                format!("dialRawVisitorConn error: start new visitor connection error: {error}");
            frpc.logs(&text).await
        }));
    }
    cases.push(Case::pair("stcp/undetailed", async |lab| {
        let setup = setup(lab, "stcp").frps("detailedErrorsToClient", false);
        let pair = setup.start().await?;
        let mut keys = visitor();
        keys.set("secretKey", "open barley");
        let (mut frpc, user) = setup
            .start_visitor(&lab.frpc, pair.server_port, keys)
            .await?;
        turned_away(user).await?;
        let text = "start new visitor connection error: register visitor conn error";
        frpc.logs(text).await
    }));
    cases
}
