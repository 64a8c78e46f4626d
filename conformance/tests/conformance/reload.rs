//! A file that is read again: what changes, and what must not be touched.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::managed::{Managed, ask, tcp};
use conformance::peers::Maker;
use conformance::process::{Memory, Signal};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports, service};
use tokio::net::TcpStream;

/// Reloads in a row, and those when minutes do not matter.
const RELOADS: usize = 100;
const MANY_RELOADS: usize = 1_000;
/// Those after which memory should have found its level.
const WARM_UP: usize = 20;
/// How much it may grow after them: less than what a thousand files read would leave behind.
const GROWTH_KIB: u64 = 4 * 1024;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("reload/under_traffic", under_traffic),
        Case::pair("reload/server_under_traffic", server_under_traffic)
            .ours_only("upstream's frps reads its file once"),
        Case::pair("reload/bad_files", bad_files),
        Case::pair("reload/changed_proxy", changed_proxy),
        Case::frpc("reload/command", command),
        Case::frpc("reload/hangup", hangup)
            .signals()
            .ours_only("upstream dies of SIGHUP"),
    ]
}

fn user(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn served(port: u16) -> Outcome {
    until("the proxy serves", LIMIT, async || {
        service::echo(user(port), 100).await.ok()
    })
    .await
}

/// How often to reload.
fn rounds(lab: &Lab) -> usize {
    if lab.long { MANY_RELOADS } else { RELOADS }
}

/// Whether a program of ours has kept its memory since `warm`.
fn is_flat(maker: Maker, warm: Option<Memory>, now: Option<Memory>) -> bool {
    match (warm, now) {
        (Some(warm), Some(now)) if maker == Maker::Ours => now.own_kib < warm.own_kib + GROWTH_KIB,
        _ => true,
    }
}

/// The connection of a proxy that stays lives through many reloads that add, change and remove others.
async fn under_traffic(lab: &Lab) -> Outcome {
    let (stays, comes) = (ports::free(), ports::free());
    let kept = tcp("stays", "ECHO", stays, "");
    let mut managed = Managed::start(lab, &kept).await?;
    served(stays).await?;
    let mut connection = TcpStream::connect(user(stays)).await?;
    let mut warm = (None, None);
    let rounds = rounds(lab);
    for round in 0..rounds {
        if round == WARM_UP {
            warm = (managed.frps.memory(), managed.frpc.memory());
        }
        let proxies = match round % 4 {
            0 => format!("{kept}{}", tcp("comes", "ECHO", comes, "")),
            1 => format!(
                "{kept}{}",
                tcp("comes", "ECHO", comes, "metadatas.a = \"1\"")
            ),
            2 => format!("{}{kept}", tcp("other", "ECHO", 0, "")),
            _ => kept.clone(),
        };
        managed.write(&proxies)?;
        managed.reload().await?;
        service::exchange(&mut connection, 1_000).await?;
        service::echo(user(stays), 10).await?;
    }
    let log = managed.frpc.log();
    assert_eq!(log.matches("success reload conf").count(), rounds);
    let now = (managed.frps.memory(), managed.frpc.memory());
    assert!(
        is_flat(lab.frps.maker, warm.0, now.0),
        "frps: {warm:?} {now:?}"
    );
    assert!(
        is_flat(lab.frpc.maker, warm.1, now.1),
        "frpc: {warm:?} {now:?}"
    );
    assert_eq!(log.matches("[stays] start proxy success").count(), 1);
    for line in [
        "proxy added: [comes]",
        "proxy removed: [comes]",
        "proxy added: [other]",
    ] {
        assert!(log.contains(line), "{line}");
    }
    managed.write(&format!("{kept}{}", tcp("comes", "ECHO", comes, "")))?;
    managed.reload().await?;
    served(comes).await?;
    service::exchange(&mut connection, 100_000).await?;
    assert!(managed.frpc.ended().is_none() && managed.frps.ended().is_none());
    Ok(())
}

/// The same for frps, whose file changes, too: no connection breaks, and no new one is refused.
async fn server_under_traffic(lab: &Lab) -> Outcome {
    let web = ports::free();
    let setup = lab.setup().frps("webServer.port", web);
    let mut pair = setup.start().await?;
    let file = super::management::server_file(lab)?;
    let text = std::fs::read_to_string(&file)?;
    let changed = format!("maxPortsPerClient = 7\nuserConnTimeout = 9\n{text}");
    let mut connection = TcpStream::connect(pair.user).await?;
    let mut warm = None;
    for round in 0..rounds(lab) {
        if round == WARM_UP {
            warm = pair.frps.memory();
        }
        std::fs::write(&file, if round % 2 == 0 { &changed } else { &text })?;
        let answer = ask(user(web), "POST", "/api/v2/system/reload", "").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        service::exchange(&mut connection, 1_000).await?;
        service::echo(pair.user, 10).await?;
    }
    let now = pair.frps.memory();
    assert!(is_flat(lab.frps.maker, warm, now), "{warm:?} {now:?}");
    service::exchange(&mut connection, 100_000).await?;
    assert_eq!(pair.frpc.log().matches("start proxy success").count(), 1);
    assert!(pair.frpc.ended().is_none() && pair.frps.ended().is_none());
    Ok(())
}

/// A file that cannot be used changes nothing, and the answer says why.
async fn bad_files(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let good = tcp("web", "ECHO", remote, "");
    let managed = Managed::start(lab, &good).await?;
    served(remote).await?;
    let mut connection = TcpStream::connect(user(remote)).await?;
    let duplicate = format!("{good}{good}");
    let wrong_port = good.replace("ECHO", "644000");
    let wrong_level = format!("log.level = \"shout\"\n{good}");
    for (proxies, path, reason) in [
        ("garbage[", "/api/reload", "toml: line "),
        (&duplicate, "/api/reload", "proxy name [web] is duplicated"),
        (
            &wrong_port,
            "/api/reload",
            "proxy web: localPort: localPort: port number 644000 must be in the range 0..65535",
        ),
        (
            "foo = 1\n",
            "/api/reload?strictConfig=true",
            "json: unknown field \\\"foo\\\"",
        ),
        (&wrong_level, "/api/reload", "toml: "),
    ] {
        managed.write(proxies)?;
        let answer = managed.ask("GET", path, "").await?;
        let text = format!("{{\"Code\":400,\"Msg\":\"invalid argument: {reason}");
        assert_eq!(answer.status, 400, "{proxies}");
        assert!(answer.body.starts_with(&text), "{}", answer.body);
        assert!(!answer.body.contains("-->"), "{}", answer.body);
        service::exchange(&mut connection, 100).await?;
        service::echo(user(remote), 100).await?;
    }
    std::fs::remove_file(&managed.file)?;
    let answer = managed.ask("GET", "/api/reload", "").await?;
    assert_eq!(
        answer.body,
        format!(
            "{{\"Code\":400,\"Msg\":\"invalid argument: open {}: no such file or directory\"}}\n",
            managed.file
        )
    );
    service::exchange(&mut connection, 100).await?;
    managed.write("")?;
    managed.reload().await?;
    assert_eq!(managed.ask("GET", "/api/status", "").await?.body, "{}\n");
    Ok(())
}

/// A changed proxy serves new users by its new configuration; those that it has stay where they are.
async fn changed_proxy(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let managed = Managed::start(lab, &tcp("web", "ECHO", remote, "")).await?;
    served(remote).await?;
    let mut connection = TcpStream::connect(user(remote)).await?;
    service::exchange(&mut connection, 100).await?;
    let late = service::start(service::Kind::Download).await?;
    managed.write(&tcp("web", late.port(), remote, ""))?;
    managed.reload().await?;
    until("new users get the new service", LIMIT, async || {
        service::download(user(remote), 1_000, LIMIT).await.ok()
    })
    .await?;
    service::exchange(&mut connection, 100_000).await
}

async fn command(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let managed = Managed::start(lab, "").await?;
    let run = |arguments: &[&str]| -> Outcome<(Option<i32>, String)> {
        let output = managed.command(&lab.frpc, arguments)?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ))
    };
    managed.write(&tcp("web", "ECHO", remote, ""))?;
    assert_eq!(run(&["reload"])?, (Some(0), "reload success\n".into()));
    served(remote).await?;
    managed.write("unknown = 1")?;
    let (code, text) = run(&["reload"])?;
    assert_eq!(
        (code, text.lines().next()),
        (Some(1), Some("json: unknown field \"unknown\""))
    );
    assert_eq!(
        run(&["reload", "--strict_config=false"])?,
        (Some(0), "reload success\n".into())
    );
    Ok(())
}

async fn hangup(lab: &Lab) -> Outcome {
    assert_eq!(lab.frpc.maker, Maker::Ours);
    let remote = ports::free();
    let mut managed = Managed::start(lab, "").await?;
    managed.write("garbage[")?;
    managed.frpc.signal(Signal::Hangup)?;
    managed
        .frpc
        .logs("reload frpc proxy config error: invalid argument: toml: ")
        .await?;
    managed.write(&tcp("web", "ECHO", remote, ""))?;
    managed.frpc.signal(Signal::Hangup)?;
    managed.frpc.logs("success reload conf").await?;
    served(remote).await
}
