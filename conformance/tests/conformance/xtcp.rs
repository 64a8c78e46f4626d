//! `xtcp` proxies and their visitors, on this machine: the NATs are what the STUN server says. As with `stcp`, the visitor is of
//! the client's maker or of the server's.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};

use conformance::config::{Config, Keys, Proxy};
use conformance::lab::TOKEN;
use conformance::peers::Programs;
use conformance::stun::{self, Kind};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, Pair, Setup, ports, service};

use super::stcp::{MAKERS, layers, setup, visitor};

const PROTOCOLS: [&str; 2] = ["quic", "kcp"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = tunnels();
    cases.extend([
        Case::pair("xtcp/keep_open", keep_open),
        Case::pair("xtcp/refusals", refusals),
        Case::pair("xtcp/fallback", fallback),
        Case::pair("xtcp/many_users", many_users),
        Case::frpc("xtcp/discover", discover),
        Case::frpc("xtcp/discover_errors", discover_errors),
    ]);
    cases
}

/// A pair with an `xtcp` proxy behind such a NAT.
async fn behind(lab: &Lab, nat: Kind) -> Outcome<Setup<'_>> {
    let stun = stun::start(nat).await?.to_string();
    Ok(setup(lab, "xtcp").frpc("natHoleStunServer", stun.as_str()))
}

fn of(protocol: &str, mut keys: Keys) -> Keys {
    keys.set("protocol", protocol);
    keys
}

/// Waits for a tunnel, then uses it.
async fn carries(user: SocketAddr) -> Outcome {
    until("there is a tunnel", 3 * LIMIT, async || {
        service::echo(user, 100).await.ok()
    })
    .await?;
    for len in [1, 1_000, 300_000] {
        service::echo(user, len).await?;
    }
    Ok(())
}

/// Both protocols, alone and with all layers, in both wire versions, through NATs that can be guessed.
fn tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in PROTOCOLS {
        for (name, wire, layered, nat) in [
            ("default", "v1", false, Kind::NoNat),
            ("layers", "v2", true, Kind::NoNat),
            ("ports_change", "v1", false, Kind::PortChanges(3)),
        ] {
            for (maker, programs) in MAKERS {
                let name = format!("xtcp/{protocol}/{name}{maker}");
                cases.push(Case::pair(name, async move |lab| {
                    let mut setup = behind(lab, nat).await?.wire(wire);
                    let mut keys = of(protocol, visitor());
                    if layered {
                        setup = setup
                            .proxy("transport.useEncryption", true)
                            .proxy("transport.useCompression", true);
                        keys = layers(keys);
                    }
                    let pair = setup.start().await?;
                    let (_frpc, user) = setup
                        .start_visitor(programs(lab), pair.server_port, keys)
                        .await?;
                    carries(user).await
                }));
            }
        }
    }
    cases
}

/// A tunnel that is there before anybody needs it.
async fn keep_open(lab: &Lab) -> Outcome {
    for protocol in PROTOCOLS {
        let setup = behind(lab, Kind::NoNat).await?;
        let pair = setup.start().await?;
        let mut keys = of(protocol, visitor());
        keys.set("keepTunnelOpen", true);
        let (mut frpc, user) = setup
            .start_visitor(&lab.frpc, pair.server_port, keys)
            .await?;
        frpc.logs("establishing nat hole connection successful")
            .await?;
        carries(user).await?;
        assert_eq!(frpc.log().matches("nathole prepare success").count(), 1);
    }
    Ok(())
}

/// Visitors who may not.
async fn refusals(lab: &Lab) -> Outcome {
    let owner = behind(lab, Kind::NoNat).await?.frpc("user", "owner");
    let pair = owner.start().await?;
    let guest = behind(lab, Kind::NoNat).await?.frpc("user", "guest");
    let refused = async |setup: &Setup<'_>, change: fn(&mut Keys), text: &str| {
        let mut keys = visitor();
        keys.set("serverUser", "owner");
        keys.set("keepTunnelOpen", true);
        change(&mut keys);
        let (mut frpc, _) = setup
            .start_visitor(&lab.frpc, pair.server_port, keys)
            .await?;
        frpc.logs(text).await
    };
    refused(
        &guest,
        |_| {},
        "nathole precheck error: xtcp visitor user [guest] not allowed for [owner.web]",
    )
    .await?;
    refused(
        &owner,
        |keys| keys.set("serverName", "nobody"),
        "nathole precheck error: xtcp server for [owner.nobody] doesn't exist",
    )
    .await?;
    refused(
        &owner,
        |keys| keys.set("secretKey", "guess"),
        "nathole exchange info error: natHoleRespMsg get error info: xtcp connection of [owner.web] auth failed",
    )
    .await
}

/// Users who cannot have a tunnel go another way.
async fn fallback(lab: &Lab) -> Outcome {
    let pair = setup(lab, "stcp").start().await?;
    let port = ports::free();
    let mut config = Config::default();
    config.keys.set("serverAddr", "127.0.0.1");
    config.keys.set("serverPort", pair.server_port);
    config.keys.set("auth.token", TOKEN);
    config.keys.set("log.level", "trace");
    let entry = |name: &str, kind: &'static str, server: &'static str, port: i64| {
        let mut keys = visitor();
        keys.set("type", kind);
        keys.set("serverName", server);
        keys.set("bindPort", port);
        Proxy {
            name: name.into(),
            keys,
        }
    };
    let mut direct = entry("direct", "xtcp", "nobody", port.into());
    direct.keys.set("fallbackTo", "relayed");
    direct.keys.set("fallbackTimeoutMs", 200_i64);
    config.visitors = vec![direct, entry("relayed", "stcp", "web", -1)];
    let mut frpc = lab.start_frpc(&config)?;
    frpc.logs_times("start visitor success", 2).await?;
    let user = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    service::echo(user, 100_000).await?;
    frpc.logs("try to transfer connection to visitor: relayed")
        .await
}

/// Many users of one tunnel, all at once.
async fn many_users(lab: &Lab) -> Outcome {
    for protocol in PROTOCOLS {
        let setup = behind(lab, Kind::NoNat).await?;
        let pair: Pair = setup.start().await?;
        let keys = of(protocol, visitor());
        let (_frpc, user) = setup
            .start_visitor(&lab.frpc, pair.server_port, keys)
            .await?;
        carries(user).await?;
        let users: Vec<_> = (0..30)
            .map(|_| tokio::spawn(service::echo(user, 20_000)))
            .collect();
        for user in users {
            user.await??;
        }
    }
    Ok(())
}

/// What `frpc nathole discover` says.
async fn run_discover(programs: &Programs, arguments: &[&str]) -> Outcome<(String, Option<i32>)> {
    let mut command = Command::new(programs.path("frpc"));
    command.args(["nathole", "discover"]).args(arguments);
    // The case goes on: it is the STUN server.
    let output = tokio::task::spawn_blocking(move || command.output());
    let Output { stdout, status, .. } = output.await??;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    Ok((text, status.code()))
}

async fn discover(lab: &Lab) -> Outcome {
    for (kind, nat_type, behavior, shift) in [
        (Kind::NoNat, "EasyNAT", "BehaviorNoChange", 0),
        (Kind::PortChanges(7), "HardNAT", "BehaviorPortChanged", 7),
    ] {
        let stun = stun::start(kind).await?.to_string();
        let port = ports::free();
        let local = format!("127.0.0.1:{port}");
        let arguments = ["--nat_hole_stun_server", &stun, "-l", &local];
        let found = run_discover(&lab.frpc, &arguments).await?;
        let expected = format!(
            "STUN server: {stun}\nYour NAT type is: {nat_type}\nBehavior is: {behavior}\n\
             External address is: [{local} 127.0.0.1:{}]\nLocal address is: {local}\n\
             Public Network: false\n",
            port + shift
        );
        assert_eq!(found, (expected, Some(0)));
    }
    Ok(())
}

async fn discover_errors(lab: &Lab) -> Outcome {
    let silent = stun::start(Kind::Silent).await?.to_string();
    let one = stun::start(Kind::OneAddress).await?.to_string();
    let got = "can not get enough addresses, need 2, got: [127.0.0.1:";
    for (server, local, error) in [
        (&*silent, "", "wait response from stun server timeout\n"),
        (&one, "", got),
        ("nope", "", "address nope: missing port in address\n"),
        ("127.0.0.1:x", "", "lookup udp/x: unknown port\n"),
        ("127.0.0.1:99999", "", "address 99999: invalid port\n"),
        ("[::1]:9", "", "address ::1: no suitable address found\n"),
        (&one, "nope", "address nope: missing port in address\n"),
        (
            &one,
            "192.0.2.77:0",
            "listen udp4 192.0.2.77:0: bind: cannot assign requested address\n",
        ),
    ] {
        let mut arguments = vec!["--nat-hole-stun-server", server];
        if !local.is_empty() {
            arguments.extend(["--nat-hole-local-addr", local]);
        }
        let (text, code) = run_discover(&lab.frpc, &arguments).await?;
        let expected = format!("discover error: {error}");
        assert!(text.starts_with(&expected), "{server} {local}: {text}");
        assert_eq!(code, Some(1));
    }
    Ok(())
}
