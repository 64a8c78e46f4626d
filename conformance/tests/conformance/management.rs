//! Management that upstream does not have: docs/api.md.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use conformance::managed::{Answer, Managed, ask, tcp};
use conformance::process::Signal;
use conformance::service::{self, exchange};
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Failure, Lab, Outcome, Pair, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OURS: &str = "upstream has no such API";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frpc("management/entries", entries).ours_only(OURS),
        Case::pair("management/proxies", proxies).ours_only(OURS),
        Case::pair("management/clients", clients).ours_only(OURS),
        Case::pair("management/events", events).ours_only(OURS),
        Case::pair("management/reload", reload)
            .ours_only("upstream's frps reads its file once")
            .signals(),
        Case::frps("management/tokens", tokens).ours_only(OURS),
        Case::frps("management/document", document).ours_only(OURS),
    ]
}

/// A pair whose frps has the admin API at the returned address.
async fn start(lab: &Lab) -> Outcome<(Pair, SocketAddr)> {
    let port = ports::free();
    let pair = lab.setup().frps("webServer.port", port).start().await?;
    Ok((pair, (Ipv4Addr::LOCALHOST, port).into()))
}

async fn post(admin: SocketAddr, path: &str) -> Outcome<Answer> {
    ask(admin, "POST", path, "").await
}

/// Waits until nobody listens where users connect to.
async fn refused(user: SocketAddr) -> Outcome {
    until("users are refused", LIMIT, async move || {
        TcpStream::connect(user).await.is_err().then_some(())
    })
    .await
}

/// The key of the only client.
async fn client_key(admin: SocketAddr) -> Outcome<String> {
    let clients = ask(admin, "GET", "/api/v2/clients?status=online", "").await?;
    let (_, rest) = clients.body.split_once("\"key\":\"").unwrap_or_default();
    let (key, _) = rest.split_once('"').unwrap_or_default();
    Ok(key.to_owned())
}

/// Proxies of frpc are added, changed and deleted while it runs, and are there after a restart.
async fn entries(lab: &Lab) -> Outcome {
    let [remote, other] = [ports::free(), ports::free()];
    let mut managed = Managed::start(lab, &tcp("file", "ECHO", remote, "")).await?;
    managed.shows(&["\"file\"", "\"running\""]).await?;
    let definition = format!(
        "{{\"name\":\"added\",\"type\":\"tcp\",\"tcp\":{{\"localPort\":1,\"remotePort\":{other}}}}}"
    );
    let in_file = definition.replace("added", "file");
    let bad = definition.replace("\"localPort\":1", "\"localPort\":70000");
    let port = "{\"tcp\":{\"localPort\":ECHO}}";
    for (method, path, body, status) in [
        ("GET", "/api/proxy/added", "", 404),
        ("PATCH", "/api/proxy/added", port, 404),
        ("DELETE", "/api/proxy/added", "", 404),
        ("PUT", "/api/proxy/added", definition.as_str(), 404),
        ("POST", "/api/proxy", &bad, 400),
        ("POST", "/api/proxy", "nonsense", 400),
        ("POST", "/api/proxy", &in_file, 409),
        ("POST", "/api/proxy", &definition, 200),
        ("POST", "/api/proxy", &definition, 409),
        ("DELETE", "/api/proxy/file", "", 409),
        (
            "PATCH",
            "/api/proxy/added",
            "{\"tcp\":{\"localPort\":70000}}",
            400,
        ),
        ("PATCH", "/api/proxy/added", port, 200),
        ("GET", "/api/proxy/added", "", 200),
        ("PATCH", "/api/visitor/added", "{}", 404),
    ] {
        let answer = managed.ask(method, path, body).await?;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
    let user = SocketAddr::from((Ipv4Addr::LOCALHOST, other));
    let works = async || service::echo(user, 100).await.ok();
    until("the added proxy works", LIMIT, works).await?;
    managed.restart(lab).await?;
    until("the added proxy works again", LIMIT, works).await?;
    let gone = managed.ask("DELETE", "/api/proxy/added", "").await?;
    assert_eq!(gone.status, 200);
    refused(user).await
}

/// A proxy is closed, and refused until it is enabled; connections that are there stay.
async fn proxies(lab: &Lab) -> Outcome {
    let (mut pair, admin) = start(lab).await?;
    let mut user = TcpStream::connect(pair.user).await?;
    exchange(&mut user, 100).await?;
    let disabled = post(admin, "/api/v2/proxies/web/disable").await?;
    assert!(disabled.body.contains("\"closed\":true"), "{disabled:?}");
    refused(pair.user).await?;
    exchange(&mut user, 100).await?;
    let names = ask(admin, "GET", "/api/v2/system/disabled-proxies", "").await?;
    assert!(names.body.contains("[\"web\"]"), "{names:?}");
    let closed = post(admin, "/api/v2/proxies/web/close").await?;
    assert_eq!(closed.status, 404);
    let key = client_key(admin).await?;
    post(admin, &format!("/api/v2/clients/{key}/kick")).await?;
    let why = "proxy [web] is disabled by the administrator of the server";
    pair.frpc.logs(why).await?;
    assert_eq!(post(admin, "/api/v2/proxies/web/enable").await?.status, 200);
    assert_eq!(post(admin, "/api/v2/proxies/web/enable").await?.status, 404);
    let key = client_key(admin).await?;
    post(admin, &format!("/api/v2/clients/{key}/kick")).await?;
    pair.works().await?;
    assert_eq!(post(admin, "/api/v2/proxies/web/close").await?.status, 200);
    refused(pair.user).await
}

/// A client is drained, then disconnected; it comes back as new.
async fn clients(lab: &Lab) -> Outcome {
    let (pair, admin) = start(lab).await?;
    let mut user = TcpStream::connect(pair.user).await?;
    exchange(&mut user, 100).await?;
    let key = client_key(admin).await?;
    let drained = post(admin, &format!("/api/v2/clients/{key}/drain")).await?;
    assert!(drained.body.contains("\"closed\":[\"web\"]"), "{drained:?}");
    refused(pair.user).await?;
    exchange(&mut user, 100).await?;
    let kicked = post(admin, &format!("/api/v2/clients/{key}/kick")).await?;
    assert_eq!(kicked.status, 200);
    pair.works().await?;
    let nobody = post(admin, "/api/v2/clients/nobody/kick").await?;
    assert_eq!(nobody.status, 404);
    Ok(())
}

/// What happens is told to who listens.
async fn events(lab: &Lab) -> Outcome {
    let (pair, admin) = start(lab).await?;
    let mut stream = TcpStream::connect(admin).await?;
    let request = "GET /api/v2/events HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, ": frps").await?;
    assert!(seen.contains("Content-Type: text/event-stream"), "{seen}");
    let key = client_key(admin).await?;
    post(admin, &format!("/api/v2/clients/{key}/kick")).await?;
    for event in ["proxy_down", "logout", "login", "proxy_up"] {
        read_until(&mut stream, &mut seen, &format!("event: {event}\n")).await?;
    }
    pair.works().await
}

/// Reads until `wanted` is in `seen`.
pub(super) async fn read_until(stream: &mut TcpStream, seen: &mut String, wanted: &str) -> Outcome {
    within(format!("{wanted:?}"), LIMIT, async {
        let mut piece = [0; 4096];
        while !seen.contains(wanted) {
            let n = stream.read(&mut piece).await?;
            if n == 0 {
                return Err(Failure::new(format!("the stream has ended: {seen}")));
            }
            seen.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
        Ok(())
    })
    .await?
}

/// The file of frps.
pub(super) fn server_file(lab: &Lab) -> Outcome<PathBuf> {
    let entries = std::fs::read_dir(lab.directory())?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_its = |path: &PathBuf| path.to_string_lossy().ends_with("-frps.toml");
    let file = paths.find(is_its);
    file.ok_or_else(|| Failure::new("no file of frps"))
}

/// What can change takes effect, what cannot is named, and a bad file changes nothing.
async fn reload(lab: &Lab) -> Outcome {
    let (mut pair, admin) = start(lab).await?;
    let file = server_file(lab)?;
    let text = std::fs::read_to_string(&file)?;
    let mut user = TcpStream::connect(pair.user).await?;
    std::fs::write(&file, format!("nonsense = 1\n{text}"))?;
    let bad = post(admin, "/api/v2/system/reload").await?;
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains("nonsense"), "{bad:?}");
    let changed = text.replace("conformance\"", "another\"");
    std::fs::write(&file, format!("enablePrometheus = true\n{changed}"))?;
    let good = post(admin, "/api/v2/system/reload").await?;
    assert_eq!(
        good.body,
        "{\"code\":200,\"msg\":\"success\",\"data\":{\"needsRestart\":[\"enablePrometheus\"]}}\n"
    );
    // Who is logged in stays; who logs in needs the new token.
    exchange(&mut user, 100).await?;
    pair.echo().await?;
    let key = client_key(admin).await?;
    post(admin, &format!("/api/v2/clients/{key}/kick")).await?;
    let why = "token in login doesn't match token from configuration";
    pair.frpc.logs(why).await?;
    std::fs::write(&file, text)?;
    pair.frps.signal(Signal::Hangup)?;
    pair.frps.logs_times("success reload conf", 2).await?;
    pair.works().await
}

/// Bearer tokens with roles.
async fn tokens(lab: &Lab) -> Outcome {
    let secret = lab.file("token", "from a file\n")?;
    let [bind, port] = [ports::free(), ports::free()];
    let file = lab.file(
        "tokens.toml",
        &format!(
            "bindAddr = \"127.0.0.1\"\nbindPort = {bind}\nwebServer.port = {port}\n\
             [[webServer.tokens]]\ntoken = \"looks\"\nrole = \"read-only\"\n\
             [[webServer.tokens]]\nrole = \"admin\"\ntokenSource.type = \"file\"\ntokenSource.file.path = '{secret}'\n"
        ),
    )?;
    let arguments = ["-c".to_owned(), file];
    let mut frps = lab.start_with(&lab.frps, "frps", arguments)?;
    frps.logs("frps started successfully").await?;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for (method, token, status) in [
        ("GET", "looks", "200"),
        ("POST", "looks", "403"),
        ("POST", "from a file", "200"),
        ("GET", "guessed", "401"),
    ] {
        let path = match method {
            "POST" => "/api/v2/system/prune?type=offline_proxies",
            _ => "/api/serverinfo",
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{token}: {answer}");
    }
    Ok(())
}

/// Every program describes its API.
async fn document(lab: &Lab) -> Outcome {
    let (_pair, admin) = start(lab).await?;
    let managed = Managed::start(lab, "").await?;
    for (address, path) in [
        (admin, "/api/v2/clients/{key}/kick"),
        (managed.admin, "/api/proxy/{name}"),
    ] {
        let document = ask(address, "GET", "/api/openapi.json", "").await?;
        assert!(
            document.body.contains("\"openapi\":\"3.1.0\""),
            "{document:?}"
        );
        assert!(
            document.body.contains(&format!("\"{path}\":{{")),
            "{document:?}"
        );
    }
    Ok(())
}
