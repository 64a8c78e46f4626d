//! Many proxies in one client: loading, registering, reloading and listing them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::http::{Backend, User};
use conformance::managed::{Managed, ask};
use conformance::peers::Maker;
use conformance::process::Memory;
use conformance::wait::until;
use conformance::{Case, Failure, Lab, Outcome, ports, service};

/// Proxies, and those when minutes do not matter.
const PROXIES: usize = 1_000;
const MANY_PROXIES: usize = 10_000;
/// How long a step may take; of a build without optimization, on a busy machine.
const STEP: Duration = Duration::from_mins(1);
/// Memory of a program of ours, in KiB: what it needs anyway, and for each proxy.
const BASE_KIB: u64 = 64 * 1024;
const PROXY_KIB: u64 = 16;
/// The largest page of API v2.
const PAGE: usize = 200;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("scale/proxies", proxies).heavy(),
        Case::pair("scale/at_rest", at_rest),
    ]
}

/// `count` proxies of hosts; the last one may have metadata.
fn file(count: usize, backend: SocketAddr, mark: &str) -> String {
    let mut text = String::new();
    for n in 0..count {
        let more = if n + 1 == count { mark } else { "" };
        let _ = write!(
            text,
            "[[proxies]]\nname = \"p{n}\"\ntype = \"http\"\nlocalPort = {}\ncustomDomains = [\"p{n}.test\"]\n{more}\n",
            backend.port()
        );
    }
    text
}

async fn proxies(lab: &Lab) -> Outcome {
    let count = if lab.long { MANY_PROXIES } else { PROXIES };
    let backend = Backend::start("backend").await?;
    let [web, vhost] = [ports::free(), ports::free()];
    let api = SocketAddr::from((Ipv4Addr::LOCALHOST, web));
    let setup = lab
        .setup()
        .frps("webServer.port", web)
        .frps("vhostHTTPPort", vhost)
        .frps("log.level", "info");
    let text = file(count, backend.address, "");
    let mut report = format!("{}-{}, {count} proxies:", lab.frps.maker, lab.frpc.maker);
    let mut step = |what: &str, since: Instant| {
        let took = since.elapsed();
        let _ = write!(report, " {what} {:.2} s,", took.as_secs_f64());
        if took < STEP {
            Ok(())
        } else {
            Err(Failure::new(format!("{what} took {took:?}")))
        }
    };

    let start = Instant::now();
    let managed = Managed::start_with(lab, &setup, &text).await?;
    step("loaded", start)?;
    running(&managed, count).await?;
    step("registered", start)?;

    let change = Instant::now();
    managed.write(&file(count, backend.address, "metadatas.a = \"1\""))?;
    managed.reload().await?;
    step("reloaded", change)?;
    let name = format!("p{}.test", count - 1);
    let user = SocketAddr::from((Ipv4Addr::LOCALHOST, vhost));
    until("the changed proxy serves", STEP, async || {
        let mut user = User::connect(user).await.ok()?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        user.send(request).await.ok()?;
        let answer = user.answer().await.ok()?;
        answer.contains("x-backend: backend").then_some(())
    })
    .await?;
    running(&managed, count).await?;
    step("serving", change)?;
    let log = managed.frpc.log();
    assert_eq!(log.matches("start proxy success").count(), count + 1);

    let list = Instant::now();
    let status = managed.command(&lab.frpc, &["status"])?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.matches(" running ").count(), count);
    step("frpc status", list)?;
    let list = Instant::now();
    let all = ask(api, "GET", "/api/proxy/http", "").await?;
    assert_eq!(all.body.matches("\"status\":\"online\"").count(), count);
    step("API v1", list)?;
    let list = Instant::now();
    let mut seen = 0;
    for page in 1..=count / PAGE {
        let path = format!("/api/v2/proxies?page={page}&pageSize={PAGE}");
        let page = ask(api, "GET", &path, "").await?;
        assert!(page.body.contains(&format!("\"total\":{count}")));
        seen += page.body.matches("\"phase\":\"online\"").count();
    }
    assert_eq!(seen, count);
    step("API v2", list)?;

    for (program, maker, process) in [
        ("frps", lab.frps.maker, &managed.frps),
        ("frpc", lab.frpc.maker, &managed.frpc),
    ] {
        let Some(Memory { own_kib: kib, .. }) = process.memory() else {
            continue;
        };
        let _ = write!(report, " {program} {} MiB", kib / 1024);
        let most = BASE_KIB + PROXY_KIB * count as u64;
        assert!(maker != Maker::Ours || kib < most, "{program}: {kib} KiB");
    }
    if lab.long {
        eprintln!("{report}");
    }
    Ok(())
}

/// A program of ours gives back the mapping of most of its code while it rests, and goes on with it.
async fn at_rest(lab: &Lab) -> Outcome {
    let pair = lab.setup().start().await?;
    for _ in 0..2 {
        service::echo(pair.user, 100_000).await?;
        for (maker, process) in [(lab.frps.maker, &pair.frps), (lab.frpc.maker, &pair.frpc)] {
            if maker != Maker::Ours || !cfg!(target_os = "linux") {
                continue;
            }
            until("most of the code is given back", STEP, async || {
                let memory = process.memory()?;
                (memory.resident_kib * 3 < memory.peak_kib * 2).then_some(())
            })
            .await?;
        }
    }
    Ok(())
}

/// Waits until all proxies run.
async fn running(managed: &Managed, count: usize) -> Outcome {
    until(format!("{count} proxies run"), STEP, async || {
        let status = managed.ask("GET", "/api/status", "").await.ok()?;
        let running = status.body.matches("\"status\":\"running\"").count();
        (running == count).then_some(())
    })
    .await
}
