//! frpc's admin API: every answer is the same whoever gives it.

use conformance::managed::{Managed, tcp};
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, ports};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frpc("frpc_admin/answers", answers),
        Case::pair("frpc_admin/status_command", status_command),
        Case::frpc("frpc_admin/stop", stop),
        Case::frpc("frpc_admin/config", config),
    ]
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// A proxy of every phase that can be had at once: running, refused, not healthy yet.
fn proxies(remote: u16, taken: u16) -> String {
    tcp("ssh", "ECHO", remote, "metadatas.a = \"<b>\"")
        + &tcp("bad", "ECHO", taken, "")
        + &tcp("ill", 1, 0, "healthCheck.type = \"tcp\"")
}

async fn answers(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let mut managed = Managed::start(lab, &proxies(remote, ports::free())).await?;
    managed.frpc.logs("start proxy success").await?;
    for (method, path, status, content_type, body) in [
        ("GET", "/healthz", 200, "", ""),
        ("DELETE", "/healthz", 200, "", ""),
        ("GET", "/api/nope", 404, TEXT, "404 page not found\n"),
        ("GET", "/api/status/", 404, TEXT, "404 page not found\n"),
        ("POST", "/api/status", 405, "", ""),
        ("GET", "/api/stop", 405, "", ""),
        (
            "GET",
            "/api/proxy/ssh/config",
            200,
            JSON,
            "{\"name\":\"ssh\",\"type\":\"tcp\",\"tcp\":{\"name\":\"ssh\",\"type\":\"tcp\",\"transport\":{\"bandwidthLimit\":\"\",\"bandwidthLimitMode\":\"client\"},\"metadatas\":{\"a\":\"\\u003cb\\u003e\"},\"loadBalancer\":{\"group\":\"\"},\"healthCheck\":{\"type\":\"\",\"intervalSeconds\":0},\"localIP\":\"127.0.0.1\",\"localPort\":ECHO,\"plugin\":null,\"remotePort\":REMOTE}}\n",
        ),
        (
            "GET",
            "/api/proxy/nope/config",
            404,
            JSON,
            "{\"Code\":404,\"Msg\":\"proxy \\\"nope\\\" not found\"}\n",
        ),
        (
            "GET",
            "/api/visitor/nope/config",
            404,
            JSON,
            "{\"Code\":404,\"Msg\":\"visitor \\\"nope\\\" not found\"}\n",
        ),
        (
            "PUT",
            "/api/config",
            400,
            JSON,
            "{\"Code\":400,\"Msg\":\"body can't be empty\"}\n",
        ),
    ] {
        let answer = managed.ask(method, path, "").await?;
        let got = (
            answer.status,
            answer.content_type.as_str(),
            answer.body.as_str(),
        );
        let body = body.replace("REMOTE", &remote.to_string());
        assert_eq!(
            got,
            (status, content_type, body.as_str()),
            "{method} {path}"
        );
    }
    for line in [
        "http request: [/api/proxy/ssh/config]",
        "http response [/api/proxy/ssh/config]: code [200]",
        "http response [/api/proxy/nope/config]: error: proxy \"nope\" not found",
    ] {
        managed.frpc.logs(line).await?;
    }
    Ok(())
}

/// Both programs print the same table of any client.
async fn status_command(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let managed = Managed::start(lab, &proxies(remote, port)).await?;
    let status = managed
        .shows(&["\"running\"", "\"start error\"", "\"new\""])
        .await?;
    let tcp = format!(
        "{{\"name\":\"ssh\",\"type\":\"tcp\",\"status\":\"running\",\"err\":\"\",\"local_addr\":\"127.0.0.1:ECHO\",\"plugin\":\"\",\"remote_addr\":\"127.0.0.1:{remote}\"}}"
    );
    let bad = "{\"name\":\"bad\",\"type\":\"tcp\",\"status\":\"start error\",\"err\":\"port unavailable\",\"local_addr\":\"127.0.0.1:ECHO\",\"plugin\":\"\",\"remote_addr\":\"\"}";
    assert!(
        status.starts_with(&format!("{{\"tcp\":[{bad},")),
        "{status}"
    );
    assert!(status.ends_with(&format!("{tcp}]}}\n")), "{status}");
    // The server's maker has a frpc, too.
    let [one, other] =
        [&lab.frps, &lab.frpc].map(|programs| managed.command(programs, &["status"]));
    let (one, other) = (one?, other?);
    assert_eq!(
        String::from_utf8_lossy(&one.stdout),
        String::from_utf8_lossy(&other.stdout)
    );
    assert_eq!((one.status.code(), other.status.code()), (Some(0), Some(0)));
    assert!(
        one.stdout
            .starts_with(b"Proxy Status...\n\nTCP\nName  Status       LocalAddr")
    );
    Ok(())
}

async fn stop(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let mut managed = Managed::start(lab, &tcp("ssh", "ECHO", remote, "")).await?;
    managed.frpc.logs("start proxy success").await?;
    let output = managed.command(&lab.frpc, &["stop"])?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "stop success\n");
    assert_eq!(managed.frpc.exit(LIMIT).await?.code(), Some(0));
    // The server was told.
    managed.frps.logs("[ssh]").await?;
    let output = managed.command(&lab.frpc, &["stop"])?;
    let admin = managed.admin;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "Post \"http://{admin}/api/stop\": dial tcp {admin}: connect: connection refused\n"
        )
    );
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}

/// The file is read and written as it is; what it says counts with the next reload.
async fn config(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let mut managed = Managed::start(lab, &tcp("ssh", "ECHO", remote, "")).await?;
    managed.frpc.logs("start proxy success").await?;
    let answer = managed.ask("GET", "/api/config", "").await?;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, TEXT));
    let text = answer.body;
    assert!(text.contains("name = \"ssh\""), "{text}");
    let garbage = managed.ask("PUT", "/api/config", "garbage[").await?;
    assert_eq!((garbage.status, garbage.body.as_str()), (200, ""));
    let refused = managed.ask("GET", "/api/reload", "").await?;
    assert_eq!(refused.status, 400);
    managed.shows(&["\"ssh\"", "\"running\""]).await?;
    let renamed = text.replace("\"ssh\"", "\"renamed\"");
    let written = managed.ask("PUT", "/api/config", &renamed).await?;
    assert_eq!(written.status, 200);
    managed.reload().await?;
    managed.shows(&["\"renamed\"", "\"running\""]).await?;
    Ok(())
}
