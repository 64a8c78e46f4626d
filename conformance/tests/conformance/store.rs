//! The store: proxies and visitors that come and go over the admin API, and are there after a restart.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::managed::{Managed, tcp};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Failure, Lab, Outcome, ports, service};
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frpc("store/answers", answers),
        Case::pair("store/restart", restart),
        Case::pair("store/shadows", shadows),
        Case::frpc("store/damaged", damaged),
        Case::pair("store/other_maker", other_maker),
    ]
}

const PROXIES: &str = "/api/store/proxies";
const VISITORS: &str = "/api/store/visitors";

fn user(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn served(port: u16) -> Outcome {
    until("the proxy serves", LIMIT, async || {
        service::echo(user(port), 100).await.ok()
    })
    .await
}

async fn closed(port: u16) -> Outcome {
    until("the proxy's port is closed", LIMIT, async || {
        TcpStream::connect(user(port)).await.err().map(|_| ())
    })
    .await
}

/// Makes a change that must work.
async fn change(managed: &Managed, method: &str, path: &str, body: &str) -> Outcome {
    match managed.ask(method, path, body).await? {
        answer if answer.status == 200 => Ok(()),
        other => Err(Failure::new(format!("{method} {path}: {other:?}"))),
    }
}

fn definition(name: &str, remote: u16) -> String {
    format!(r#"{{"name":"{name}","type":"tcp","tcp":{{"localPort":ECHO,"remotePort":{remote}}}}}"#)
}

/// Method, path, body; status and body of the answer.
const ROWS: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", PROXIES, "", 200, r#"{"proxies":[]}"#),
    ("GET", VISITORS, "", 200, r#"{"visitors":[]}"#),
    (
        "POST",
        PROXIES,
        r#"{"name":"s1","type":"tcp","tcp":{"localPort":ECHO,"transport":{"useEncryption":true},"metadatas":{"a":"<b>"}}}"#,
        200,
        r#"{"name":"s1","type":"tcp","tcp":{"name":"s1","type":"tcp","transport":{"useEncryption":true,"bandwidthLimit":""},"metadatas":{"a":"\u003cb\u003e"},"loadBalancer":{"group":""},"healthCheck":{"type":"","intervalSeconds":0},"localPort":ECHO,"plugin":null}}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"s1","type":"tcp","tcp":{}}"#,
        409,
        r#"{"Code":409,"Msg":"conflict: already exists: proxy \"s1\""}"#,
    ),
    (
        "POST",
        PROXIES,
        "",
        400,
        r#"{"Code":400,"Msg":"parse JSON error: unexpected end of JSON input"}"#,
    ),
    (
        "POST",
        PROXIES,
        "{",
        400,
        r#"{"Code":400,"Msg":"parse JSON error: unexpected end of JSON input"}"#,
    ),
    (
        "POST",
        PROXIES,
        "null",
        400,
        r#"{"Code":400,"Msg":"proxy name is required"}"#,
    ),
    (
        "POST",
        PROXIES,
        "[]",
        400,
        r#"{"Code":400,"Msg":"parse JSON error: json: cannot unmarshal array into Go value of type model.ProxyDefinition"}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"zzz"}"#,
        400,
        r#"{"Code":400,"Msg":"invalid proxy type: zzz"}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"tcp"}"#,
        400,
        r#"{"Code":400,"Msg":"exactly one proxy type block is required"}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"udp","tcp":{}}"#,
        400,
        r#"{"Code":400,"Msg":"proxy type block \"tcp\" does not match type \"udp\""}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"tcp","tcp":{"localPort":70000}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid argument: validation error: localPort: localPort: port number 70000 must be in the range 0..65535"}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"tcp","tcp":{"plugin":{"type":"nope"}}}"#,
        400,
        r#"{"Code":400,"Msg":"parse JSON error: unknown plugin type: nope"}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"tcpmux","tcpmux":{"subdomain":"x"}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid argument: validation error: not support multiplexer: "}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"http","http":{}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid argument: validation error: subdomain and custom domains should not be both empty"}"#,
    ),
    (
        "POST",
        PROXIES,
        r#"{"name":"a","type":"tcp","tcp":{"healthCheck":{"type":"http"}}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid argument: validation error: health check path should not be empty"}"#,
    ),
    (
        "PUT",
        "/api/store/proxies/s1",
        r#"{"name":"s2","type":"tcp","tcp":{}}"#,
        400,
        r#"{"Code":400,"Msg":"proxy name in URL must match name in body"}"#,
    ),
    (
        "PUT",
        "/api/store/proxies/zz",
        r#"{"name":"zz","type":"tcp","tcp":{}}"#,
        404,
        r#"{"Code":404,"Msg":"not found: not found: proxy \"zz\""}"#,
    ),
    (
        "DELETE",
        "/api/store/proxies/zz",
        "",
        404,
        r#"{"Code":404,"Msg":"not found: not found: proxy \"zz\""}"#,
    ),
    (
        "GET",
        "/api/store/proxies/zz",
        "",
        404,
        r#"{"Code":404,"Msg":"not found: proxy \"zz\""}"#,
    ),
    (
        "PUT",
        "/api/store/proxies/s1",
        r#"{"name":"s1","type":"http","http":{"localPort":80,"subdomain":"x","enabled":false}}"#,
        200,
        r#"{"name":"s1","type":"http","http":{"name":"s1","type":"http","enabled":false,"transport":{"bandwidthLimit":""},"loadBalancer":{"group":""},"healthCheck":{"type":"","intervalSeconds":0},"localPort":80,"plugin":null,"subdomain":"x","requestHeaders":{},"responseHeaders":{}}}"#,
    ),
    (
        "GET",
        "/api/proxy/s1/config",
        "",
        200,
        r#"{"name":"s1","type":"http","http":{"name":"s1","type":"http","enabled":false,"transport":{"bandwidthLimit":""},"loadBalancer":{"group":""},"healthCheck":{"type":"","intervalSeconds":0},"localPort":80,"plugin":null,"subdomain":"x","requestHeaders":{},"responseHeaders":{}}}"#,
    ),
    (
        "POST",
        VISITORS,
        r#"{"name":"v","type":"tcp","stcp":{}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid visitor type: tcp"}"#,
    ),
    (
        "POST",
        VISITORS,
        r#"{"name":"v","type":"stcp","stcp":{}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid argument: validation error: server name is required"}"#,
    ),
    (
        "POST",
        VISITORS,
        r#"{"name":"v","type":"stcp","stcp":{"serverName":"s"}}"#,
        400,
        r#"{"Code":400,"Msg":"invalid argument: validation error: bind port is required"}"#,
    ),
    (
        "POST",
        VISITORS,
        r#"{"name":"v","type":"stcp","stcp":{"serverName":"s","secretKey":"k","bindPort":-1}}"#,
        200,
        r#"{"name":"v","type":"stcp","stcp":{"name":"v","type":"stcp","transport":{},"secretKey":"k","serverName":"s","bindPort":-1,"plugin":null}}"#,
    ),
    (
        "GET",
        "/api/visitor/v/config",
        "",
        200,
        r#"{"name":"v","type":"stcp","stcp":{"name":"v","type":"stcp","transport":{},"secretKey":"k","serverName":"s","bindAddr":"127.0.0.1","bindPort":-1,"plugin":null}}"#,
    ),
    ("DELETE", "/api/store/visitors/v", "", 200, ""),
    ("DELETE", "/api/store/proxies/s1", "", 200, ""),
    ("GET", VISITORS, "", 200, r#"{"visitors":[]}"#),
];

async fn answers(lab: &Lab) -> Outcome {
    let mut managed = Managed::start(lab, "").await?;
    for (method, path, body, status, expected) in ROWS {
        let answer = managed.ask(method, path, body).await?;
        let got = (answer.status, answer.body.trim_end());
        assert_eq!(got, (*status, *expected), "{method} {path} {body}");
    }
    for line in [
        "store: created proxy \"s1\"",
        "store: updated proxy \"s1\"",
        "store: deleted proxy \"s1\"",
        "store: created visitor \"v\"",
        "visitor added: [v]",
        "visitor removed: [v]",
    ] {
        managed.frpc.logs(line).await?;
    }
    Ok(())
}

/// What was stored serves at once, and after a restart; what was deleted does not.
async fn restart(lab: &Lab) -> Outcome {
    let (one, two) = (ports::free(), ports::free());
    let mut managed = Managed::start(lab, "").await?;
    change(&managed, "POST", PROXIES, &definition("one", one)).await?;
    change(&managed, "POST", PROXIES, &definition("two", two)).await?;
    served(one).await?;
    served(two).await?;
    managed.shows(&["\"source\":\"store\""]).await?;
    change(&managed, "DELETE", "/api/store/proxies/one", "").await?;
    closed(one).await?;
    managed.restart(lab).await?;
    served(two).await?;
    closed(one).await?;
    let moved = ports::free();
    change(
        &managed,
        "PUT",
        "/api/store/proxies/two",
        &definition("two", moved),
    )
    .await?;
    served(moved).await?;
    closed(two).await
}

/// A stored entry overrides the file's of the same name, unless it is disabled.
async fn shadows(lab: &Lab) -> Outcome {
    let (of_file, of_store) = (ports::free(), ports::free());
    let managed = Managed::start(lab, &tcp("web", "ECHO", of_file, "")).await?;
    served(of_file).await?;
    let disabled =
        definition("web", of_store).replace("{\"localPort", "{\"enabled\":false,\"localPort");
    change(&managed, "POST", PROXIES, &disabled).await?;
    service::echo(user(of_file), 100).await?;
    let path = "/api/store/proxies/web";
    change(&managed, "PUT", path, &definition("web", of_store)).await?;
    served(of_store).await?;
    closed(of_file).await?;
    change(&managed, "DELETE", path, "").await?;
    served(of_file).await
}

async fn damaged(lab: &Lab) -> Outcome {
    let managed = Managed::start(lab, "").await?;
    let mut managed = managed;
    for (content, reason) in [
        ("", "failed to parse JSON: unexpected end of JSON input"),
        (
            r#"{"proxies":[{"name":"a","type":"zz"}]}"#,
            "failed to decode proxy at index 0: unknown proxy type: zz",
        ),
        (
            r#"{"proxies":[{"type":"tcp"}]}"#,
            "proxy name cannot be empty",
        ),
    ] {
        managed.frpc.kill()?;
        lab.file("store.json", content)?;
        managed.frpc = lab.start_frpc_with(&managed.file)?;
        let status = managed.frpc.exit(LIMIT).await?;
        assert_eq!(status.code(), Some(1));
        let expected =
            format!("failed to create store source: failed to load existing data: {reason}");
        managed.frpc.logs(&expected).await?;
    }
    Ok(())
}

/// A store is read by the other maker's frpc as it was written.
async fn other_maker(lab: &Lab) -> Outcome {
    let remote = ports::free();
    let mut managed = Managed::start(lab, "").await?;
    change(&managed, "POST", PROXIES, &definition("web", remote)).await?;
    served(remote).await?;
    let listed = managed.ask("GET", PROXIES, "").await?;
    managed.frpc.kill()?;
    closed(remote).await?;
    let other = Lab::new(lab.frps.clone(), lab.frps.clone(), false)?;
    managed.frpc = other.start_frpc_with(&managed.file)?;
    served(remote).await?;
    assert_eq!(managed.ask("GET", PROXIES, "").await?, listed);
    Ok(())
}
