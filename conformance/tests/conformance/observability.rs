//! What upstream does not tell: metrics of durations and errors, records of what is over, history over restarts, sources.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use conformance::managed::{Managed, ask, tcp};
use conformance::process::Signal;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports, service};
use serde_json::Value;

pub(super) fn cases() -> Vec<Case> {
    const OURS: &str = "upstream has nothing like it";
    vec![
        Case::pair("observability/frps", frps).ours_only(OURS),
        Case::pair("observability/history", history)
            .ours_only(OURS)
            .signals(),
        Case::pair("observability/sources", sources).ours_only(OURS),
    ]
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The records of a file, once there is one that `wanted` accepts.
async fn record(path: &str, wanted: impl Fn(&Value) -> bool) -> Outcome<Value> {
    until(format!("a record in {path}"), LIMIT, async || {
        let text = fs::read_to_string(path).ok()?;
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        records.into_iter().find(|record| wanted(record))
    })
    .await
}

/// One user of one proxy, as metrics, access log and audit log have it; the main log is JSON.
async fn frps(lab: &Lab) -> Outcome {
    let web = ports::free();
    let path = |name: &str| lab.directory().join(name).to_string_lossy().into_owned();
    let (access, audit) = (path("access.log"), path("audit.log"));
    let pair = lab
        .setup()
        .frps("webServer.port", web)
        .frps("enablePrometheus", true)
        .frps("log.format", "json")
        .frps("log.access", access.clone())
        .frps("log.audit", audit.clone())
        .start()
        .await?;
    pair.echo().await?;
    let over = record(&access, |r| r["kind"] == "connection").await?;
    assert_eq!(
        (&over["type"], &over["outcome"]),
        (&"tcp".into(), &"ok".into())
    );
    assert!(over["bytes_in"].as_u64() > Some(0), "{over}");
    assert_eq!(over["bytes_in"], over["bytes_out"]);
    let source = over["source"].as_str().unwrap_or_default();
    assert!(source.starts_with("127.0.0.1:"), "{over}");
    let login = record(&audit, |r| r["event"] == "login").await?;
    assert_eq!(login["outcome"], "accepted");
    ask(local(web), "DELETE", "/api/proxies?status=offline", "").await?;
    let change = record(&audit, |r| r["event"] == "admin").await?;
    assert_eq!(
        (&change["method"], &change["status"]),
        (&"DELETE".into(), &200.into())
    );

    let text = ask(local(web), "GET", "/metrics", "").await?.body;
    for line in [
        "# TYPE frps_connection_duration_seconds histogram",
        "# TYPE frps_work_connection_wait_seconds histogram",
        "frps_logins_total{outcome=\"new\"} 1",
        "frps_logins_total{outcome=\"refused\"} 0",
        "frps_tls_handshakes_total{outcome=\"ok\"} 1",
        "# TYPE frp_server_client_counts gauge",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    let sample = |start: &str, end: &str| {
        let line = text
            .lines()
            .find(|l| l.starts_with(start) && l.contains(end));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert!(sample("frps_connection_duration_seconds_bucket", "le=\"+Inf\"") >= Some(1.0));
    assert!(sample("frps_client_pool_", "") >= Some(0.0));
    for line in pair.frps.log().lines() {
        let record: Value = serde_json::from_str(line)?;
        assert!(record["message"].is_string() && record["level"].is_string());
    }
    // A wrong token is told, too.
    let mut stranger = lab
        .setup()
        .frpc("auth.token", "wrong")
        .start_client(pair.server_port, 0)
        .await?;
    stranger.exit(LIMIT).await?;
    let refused = record(&audit, |r| r["outcome"] == "refused").await?;
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|e| e.contains("token")),
        "{refused}"
    );
    Ok(())
}

/// What proxies have carried is known after a restart.
async fn history(lab: &Lab) -> Outcome {
    let web = ports::free();
    let path = lab.directory().join("history.json");
    let mut pair = lab
        .setup()
        .frps("webServer.port", web)
        .frps("trafficHistory.path", path.to_string_lossy().into_owned())
        .start()
        .await?;
    pair.echo().await?;
    let today = async || {
        let body = ask(local(web), "GET", "/api/serverinfo", "")
            .await
            .ok()?
            .body;
        let info: Value = serde_json::from_str(&body).ok()?;
        info["totalTrafficIn"].as_u64().filter(|n| *n > 0)
    };
    let before = until("traffic has been counted", LIMIT, today).await?;
    pair.frps.signal(Signal::Terminate)?;
    pair.frps.exit(LIMIT).await?;
    pair.start_frps_again(lab).await?;
    let after = until("the history is there", LIMIT, today).await?;
    assert!(after >= before, "{before} {after}");
    Ok(())
}

/// Proxies come and go with a file; one that cannot be used changes nothing, and the client's own proxy of a name counts.
async fn sources(lab: &Lab) -> Outcome {
    let (own, shared) = (ports::free(), ports::free());
    let file = lab.file("shared.toml", "")?;
    let source = format!("sources = [{{ type = \"file\", path = \"{file}\", interval = 1 }}]\n");
    let mut managed =
        Managed::start(lab, &format!("{source}{}", tcp("own", "ECHO", own, ""))).await?;
    managed.shows(&["\"own\"", "\"running\""]).await?;
    let echo = managed.echo.port();
    let both = tcp("shared", echo, shared, "") + &tcp("own", 1, ports::free(), "");
    fs::write(&file, both)?;
    managed.shows(&["\"shared\"", "\"own\""]).await?;
    for port in [own, shared] {
        until("the proxy serves", LIMIT, async || {
            service::echo(local(port), 100).await.ok()
        })
        .await?;
    }
    fs::write(&file, "garbage[")?;
    managed.frpc.logs("changes nothing").await?;
    service::echo(local(shared), 100).await?;
    fs::write(&file, "")?;
    until("the proxy is gone", LIMIT, async || {
        tokio::net::TcpStream::connect(local(shared)).await.err()
    })
    .await?;
    service::echo(local(own), 100).await?;
    Ok(())
}
