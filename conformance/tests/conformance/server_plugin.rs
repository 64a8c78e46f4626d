//! Server plugins: what they are asked, and that their answers count.

use conformance::config::Value;
use conformance::plugin::{Answer, Plugin, Request};
use conformance::raw::{Client, Link, login_message, tcp_proxy};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, Pair, Setup, ports, service};
use frp_proto::auth::{Secret, token_key};
use frp_proto::msg::{CloseProxy, Login, Message, NewWorkConn, Ping, Version};
use frp_proto::tls::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpStream;

const ALL: &[&str] = &[
    "Login",
    "NewProxy",
    "CloseProxy",
    "Ping",
    "NewWorkConn",
    "NewUserConn",
];
const WHY: &str = "not on my machine";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for wire in ["v1", "v2"] {
        cases.push(Case::pair(
            format!("server_plugin/{wire}/requests"),
            async move |lab| requests(lab, wire).await,
        ));
    }
    for (op, error) in REFUSALS {
        cases.extend([
            Case::pair(format!("server_plugin/reject/{op}"), async move |lab| {
                refused(lab, op, error, &Answer::reject(WHY), WHY)
                    .await
                    .map(drop)
            }),
            Case::pair(format!("server_plugin/failure/{op}"), async move |lab| {
                failure(
                    lab,
                    op,
                    error,
                    &Answer::Status(404),
                    "do http request error code: 404",
                )
                .await
            }),
        ]);
    }
    for (name, body) in [
        ("not_json", "<html></html>"),
        ("wrong_type", r#"{"unchange":"false"}"#),
        ("wrong_content", r#"{"unchange":true,"content":[]}"#),
    ] {
        cases.push(Case::pair(
            format!("server_plugin/failure/{name}"),
            async move |lab| {
                let answer = Answer::Json(body.into());
                failure(lab, "NewProxy", "[web] start error: ", &answer, "").await
            },
        ));
    }
    cases.extend([
        Case::pair("server_plugin/close_proxy_is_told_only", close_proxy),
        Case::frps("server_plugin/change/Login", change_login),
        Case::frps("server_plugin/change/NewProxy", change_proxy),
        Case::frps("server_plugin/change/Ping", change_ping),
        Case::frps("server_plugin/change/NewWorkConn", change_work_conn),
        Case::pair("server_plugin/chain", chain),
        Case::pair("server_plugin/chain_ends_at_the_first_refusal", chain_ends),
        Case::pair("server_plugin/keep_alive", keep_alive),
        Case::pair("server_plugin/redirect", redirect),
        Case::pair("server_plugin/https", https),
        Case::pair("server_plugin/https_verified", https_verified),
        Case::pair("server_plugin/https_stranger", https_stranger),
        Case::frps("server_plugin/slow", slow),
        Case::frps("server_plugin/no_content", no_content).ours_only("upstream ends the process"),
        Case::frps("server_plugin/no_reason", no_reason)
            .ours_only("upstream's client takes it for a success"),
        Case::frps("server_plugin/hostile", hostile).ours_only("upstream reads without a limit"),
    ]);
    cases
}

/// A pair whose frps asks `plugin` about `ops`.
fn with<'a>(lab: &'a Lab, plugin: &Plugin, ops: &[&str]) -> Setup<'a> {
    lab.setup().frps("httpPlugins", plugin.config(&["p"], ops))
}

/// A case's own client, with a server that asks `plugin` about `ops`.
async fn server(
    lab: &Lab,
    plugin: &Plugin,
    ops: &[&str],
) -> Outcome<(conformance::process::Process, Link)> {
    let setup = with(lab, plugin, ops).frps("transport.tcpMux", false);
    let (frps, port) = setup.start_server().await?;
    Ok((frps, Link::plain(port, Version::V1)))
}

/// Replaces the string or number after `"key":` by `_`.
fn blank(body: &str, key: &str) -> String {
    let key = format!("\"{key}\":");
    let mut out = String::new();
    let mut rest = body;
    while let Some(at) = rest.find(&key) {
        let (before, value) = rest.split_at(at + key.len());
        out.push_str(before);
        out.push('_');
        let end = match value.strip_prefix('"') {
            Some(text) => text.find('"').map(|end| end + 2),
            None => value.find([',', '}']),
        };
        rest = &value[end.unwrap_or(value.len())..];
    }
    out + rest
}

/// A body without what differs from run to run.
fn body(request: &Request) -> String {
    let volatile = [
        "hostname",
        "privilege_key",
        "timestamp",
        "run_id",
        "client_address",
        "remote_port",
        "remote_addr",
    ];
    let blanked = volatile.iter();
    blanked.fold(request.body.clone(), |body, key| blank(&body, key))
}

/// Every operation is asked about, with these bytes.
async fn requests(lab: &Lab, wire: &str) -> Outcome {
    let plugin = Plugin::start(|_| Answer::unchanged()).await?;
    let setup = with(lab, &plugin, ALL)
        .wire(wire)
        .both("auth.additionalScopes", &["HeartBeats", "NewWorkConns"][..])
        .frpc("transport.heartbeatInterval", 1i64)
        .frpc("transport.heartbeatTimeout", 90i64)
        .frpc("user", "u3")
        .frpc("clientID", "cid3")
        .frpc("metadatas.a", "1")
        .proxy("metadatas.b", "<2>")
        .proxy("transport.useCompression", true);
    let mut pair = setup.start().await?;
    pair.works().await?;
    let mut expected = vec![
        r#"{"version":"0.1.0","op":"Login","content":{"version":"0.70.1","hostname":_,"os":"linux","arch":"amd64","user":"u3","privilege_key":_,"timestamp":_,"client_id":"cid3","metas":{"a":"1"},"client_spec":{},"pool_count":1,"client_address":_}}"#,
        r#"{"version":"0.1.0","op":"NewProxy","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":_},"proxy_name":"u3.web","proxy_type":"tcp","use_compression":true,"metas":{"b":"\u003c2\u003e"},"remote_port":_}}"#,
        r#"{"version":"0.1.0","op":"Ping","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":_},"privilege_key":_,"timestamp":_}}"#,
        r#"{"version":"0.1.0","op":"NewWorkConn","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":_},"run_id":_,"privilege_key":_,"timestamp":_}}"#,
        r#"{"version":"0.1.0","op":"NewUserConn","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":_},"proxy_name":"u3.web","proxy_type":"tcp","remote_addr":_}}"#,
    ];
    let mut seen = Vec::new();
    for op in ["Login", "NewProxy", "Ping", "NewWorkConn", "NewUserConn"] {
        seen.push(plugin.asked(op, 1).await?);
    }
    pair.frpc.kill()?;
    seen.push(plugin.asked("CloseProxy", 1).await?);
    expected.push(
        r#"{"version":"0.1.0","op":"CloseProxy","content":{"user":{"user":"u3","metas":{"a":"1"},"run_id":_},"proxy_name":"u3.web"}}"#,
    );
    for (request, expected) in seen.iter().zip(expected) {
        // Platforms other than the one of the expectation say so themselves.
        let os_and_arch = ["os", "arch"];
        let os_and_arch = |body: &str| {
            os_and_arch
                .iter()
                .fold(body.to_owned(), |b, k| blank(&b, k))
        };
        assert_eq!(os_and_arch(&body(request)), os_and_arch(expected));
        head(request);
    }
    Ok(())
}

/// The head of a request.
fn head(request: &Request) {
    let op = request.op();
    let line = format!("POST /p?op={op}&version=0.1.0 HTTP/1.1");
    assert_eq!(request.line, line);
    let id = request.field("X-Frp-Reqid");
    assert!(
        id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id:?}"
    );
    let mut expected = vec![
        format!("Host: {}", request.field("Host")),
        "User-Agent: Go-http-client/1.1".to_owned(),
        format!("Content-Length: {}", request.body.len()),
        "Content-Type: application/json".to_owned(),
        format!("X-Frp-Reqid: {id}"),
    ];
    if request.fields.len() > expected.len() {
        // Only upstream offers to unpack the answer.
        expected.push("Accept-Encoding: gzip".to_owned());
    }
    assert_eq!(request.fields, expected);
}

/// Operations, and what frpc says before the reason; for users, frps.
const REFUSALS: [(&str, &str); 5] = [
    ("Login", "connect to server error: "),
    ("NewProxy", "[web] start error: "),
    ("Ping", "pong message contains error: "),
    ("NewWorkConn", "StartWorkConn contains error: "),
    ("NewUserConn", " was rejected, err:"),
];

/// The operation is refused, with this text.
async fn refused(
    lab: &Lab,
    op: &'static str,
    before: &str,
    answer: &Answer,
    text: &str,
) -> Outcome<conformance::process::Process> {
    let answer = answer.clone();
    let plugin = Plugin::start(move |r| {
        assert_eq!(r.op(), op);
        answer.clone()
    })
    .await?;
    let setup = with(lab, &plugin, &[op])
        .frps("userConnTimeout", 1i64)
        .frpc("transport.heartbeatInterval", 1i64)
        .frpc("transport.heartbeatTimeout", 90i64);
    let line = format!("{before}{text}");
    if matches!(op, "NewUserConn") {
        let mut pair = setup.start().await?;
        user_is_refused(&pair).await?;
        pair.frps.logs(&line).await?;
        return Ok(pair.frps);
    }
    let (frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, ports::free()).await?;
    frpc.logs(&line).await?;
    if op == "Login" {
        assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
    }
    Ok(frps)
}

async fn user_is_refused(pair: &Pair) -> Outcome {
    let mut user = TcpStream::connect(pair.user).await?;
    let refused = within("the end", LIMIT, service::exchange(&mut user, 1));
    assert!(refused.await?.is_err());
    Ok(())
}

/// The plugin's answer cannot be used, and the log says why.
async fn failure(lab: &Lab, op: &'static str, before: &str, answer: &Answer, why: &str) -> Outcome {
    let text = format!("send {op} request to plugin error");
    let mut frps = refused(lab, op, before, answer, &text).await?;
    let line = format!("send {op} request to plugin [p] error: {why}");
    frps.logs(&line).await?;
    let log = frps.log();
    let line = log.lines().find(|l| l.contains(&line)).unwrap_or_default();
    assert!(line.contains("] [reqid: "), "{line}");
    let level = if op == "NewUserConn" { "[I]" } else { "[W]" };
    assert!(line.contains(level), "{line}");
    Ok(())
}

/// Each closed proxy is told, and neither a refusal nor a failure matters.
async fn close_proxy(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|_| Answer::reject("never")).await?;
    let config = plugin.config(&["p", "q"], &["CloseProxy"]);
    let mut pair = lab.setup().frps("httpPlugins", config).start().await?;
    pair.frpc.kill()?;
    let last = plugin.asked("CloseProxy", 2).await?;
    assert!(last.line.starts_with("POST /q?"), "{}", last.line);
    pair.start_frpc_again(lab).await?;
    pair.works().await
}

/// The changed login is who the client is from then on.
async fn change_login(lab: &Lab) -> Outcome {
    let key = token_key(&Secret::new(conformance::lab::TOKEN), 7);
    let plugin = Plugin::start(move |request| match request.op() {
        "Login" => Answer::content(&format!(
            r#"{{"user":"other","privilege_key":"{key}","timestamp":7,"run_id":"given","metas":{{"k":"v"}},"pool_count":2}}"#
        )),
        _ => Answer::unchanged(),
    })
    .await?;
    let (_frps, link) = server(lab, &plugin, &["Login", "NewProxy"]).await?;
    let login = Login {
        privilege_key: "wrong".into(),
        user: "me".into(),
        ..login_message()
    };
    let mut client = link.login(login).await?;
    assert_eq!(client.run_id, "given");
    let mut requests = 0;
    for _ in 0..2 {
        client.control.send(Message::Ping(Ping::default())).await?;
        let pong = client.control.wait_for("Pong", |m| {
            requests += usize::from(m == Message::ReqWorkConn);
            matches!(m, Message::Pong(_)).then_some(())
        });
        pong.await?;
    }
    assert_eq!(requests, 2, "work connections asked for");
    client.register(tcp_proxy("web", 0)).await?;
    let request = plugin.asked("NewProxy", 1).await?;
    let user = r#""user":{"user":"other","metas":{"k":"v"},"run_id":"given"}"#;
    assert!(request.body.contains(user), "{}", request.body);
    Ok(())
}

/// The changed proxy is the one that runs, under its new name.
async fn change_proxy(lab: &Lab) -> Outcome {
    let port = ports::free();
    let plugin = Plugin::start(move |request| match request.op() {
        "NewProxy" => Answer::content(&format!(
            r#"{{"proxy_name":"renamed","proxy_type":"tcp","remote_port":{port}}}"#
        )),
        _ => Answer::unchanged(),
    })
    .await?;
    let (mut frps, link) = server(lab, &plugin, &["NewProxy", "CloseProxy", "NewUserConn"]).await?;
    let mut client = link.login(login_message()).await?;
    let resp = client.register(tcp_proxy("web", 1)).await?;
    assert_eq!(
        (resp.proxy_name.as_str(), resp.remote_addr),
        ("renamed", format!(":{port}"))
    );
    frps.logs("new proxy [renamed] type [tcp] success").await?;
    let _user = TcpStream::connect(("127.0.0.1", port)).await?;
    let asked = plugin.asked("NewUserConn", 1).await?;
    assert!(
        asked.body.contains(r#""proxy_name":"renamed""#),
        "{}",
        asked.body
    );
    for name in ["web", "renamed"] {
        let close = CloseProxy {
            proxy_name: name.into(),
        };
        client.control.send(Message::CloseProxy(close)).await?;
    }
    let told = plugin.asked("CloseProxy", 1).await?;
    assert!(
        told.body.ends_with(r#""proxy_name":"renamed"}}"#),
        "{}",
        told.body
    );
    Ok(())
}

/// What a changed message says of a key is what is checked.
async fn change_ping(lab: &Lab) -> Outcome {
    let key = token_key(&Secret::new(conformance::lab::TOKEN), 7);
    let content = format!(r#"{{"privilege_key":"{key}","timestamp":7}}"#);
    let plugin = Plugin::start(move |_| Answer::content(&content)).await?;
    let setup = with(lab, &plugin, &["Ping"])
        .frps("transport.tcpMux", false)
        .frps("auth.additionalScopes", &["HeartBeats"][..]);
    let (_frps, port) = setup.start_server().await?;
    let link = Link::plain(port, Version::V1);
    let mut client = link.login(login_message()).await?;
    assert_eq!(client.ping(Ping::default()).await?.error, "");
    Ok(())
}

/// As [`change_ping`]; the session is that of the original message.
async fn change_work_conn(lab: &Lab) -> Outcome {
    let key = token_key(&Secret::new(conformance::lab::TOKEN), 7);
    let content = format!(r#"{{"run_id":"nobody","privilege_key":"{key}","timestamp":7}}"#);
    let plugin = Plugin::start(move |_| Answer::content(&content)).await?;
    let setup = with(lab, &plugin, &["NewWorkConn"])
        .frps("transport.tcpMux", false)
        .frps("auth.additionalScopes", &["NewWorkConns"][..]);
    let (_frps, port) = setup.start_server().await?;
    let link = Link::plain(port, Version::V1);
    let mut client = link.login(login_message()).await?;
    let remote = ports::free();
    let resp = client.register(tcp_proxy("web", remote)).await?;
    assert_eq!(resp.error, "");
    let mut work = client.offer_work().await?;
    let _user = TcpStream::connect(("127.0.0.1", remote)).await?;
    let start = link.started(&mut work).await?;
    assert_eq!(
        (start.proxy_name.as_str(), start.error.as_str()),
        ("web", "")
    );
    Ok(())
}

/// Each plugin sees what the one before it has left, under the same request id.
async fn chain(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|request| {
        if request.line.starts_with("POST /a?") {
            let changed = request.body.replace(
                r#""proxy_name":"web""#,
                r#""proxy_name":"web","metas":{"from":"a"}"#,
            );
            let (_, content) = changed.split_once(r#""content":"#).unwrap_or_default();
            Answer::content(content.strip_suffix('}').unwrap_or_default())
        } else {
            Answer::unchanged()
        }
    })
    .await?;
    let config = plugin.config(&["a", "b"], &["NewProxy"]);
    let pair = lab.setup().frps("httpPlugins", config).start().await?;
    pair.works().await?;
    let requests = plugin.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].line.starts_with("POST /b?"));
    let changed = r#""proxy_name":"web","proxy_type":"tcp","metas":{"from":"a"}"#;
    assert!(requests[1].body.contains(changed), "{}", requests[1].body);
    let id = |n: usize| requests[n].field("X-Frp-Reqid").to_owned();
    assert_eq!(id(0), id(1));
    Ok(())
}

/// Who comes after it is not asked.
async fn chain_ends(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|_| Answer::reject(WHY)).await?;
    let config = plugin.config(&["a", "b"], &["NewProxy"]);
    let setup = lab.setup().frps("httpPlugins", config);
    let (mut frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, ports::free()).await?;
    frpc.logs(&format!("[web] start error: {WHY}")).await?;
    frps.logs(&format!("new proxy [web] type [tcp] error: {WHY}"))
        .await?;
    assert!(
        plugin
            .requests()
            .iter()
            .all(|r| r.line.starts_with("POST /a?"))
    );
    Ok(())
}

/// One question after the other goes over one connection.
async fn keep_alive(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|_| Answer::unchanged()).await?;
    let setup = with(lab, &plugin, &["Login", "NewProxy", "Ping"]);
    let setup = setup.frpc("transport.heartbeatInterval", 1i64);
    let _pair = setup.start().await?;
    plugin.asked("Ping", 2).await?;
    let connections: Vec<usize> = plugin.requests().iter().map(|r| r.connection).collect();
    assert!(connections.iter().all(|c| *c == 1), "{connections:?}");
    Ok(())
}

/// 307 repeats the question, 302 asks with GET.
async fn redirect(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|request| {
        if request.line.starts_with("POST /p?op=Login&") {
            Answer::Redirect(307, "/moved?op=Login".into())
        } else if request.line.starts_with("POST /p?op=NewProxy&") {
            Answer::Redirect(302, "moved?op=NewProxy".into())
        } else {
            Answer::unchanged()
        }
    })
    .await?;
    let pair = with(lab, &plugin, &["Login", "NewProxy"]).start().await?;
    pair.works().await?;
    let requests = plugin.requests();
    let lines: Vec<&str> = requests.iter().map(|r| r.line.as_str()).collect();
    let expected = [
        "POST /p?op=Login&version=0.1.0 HTTP/1.1",
        "POST /moved?op=Login HTTP/1.1",
        "POST /p?op=NewProxy&version=0.1.0 HTTP/1.1",
        "GET /moved?op=NewProxy HTTP/1.1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[3].body, "");
    Ok(())
}

/// Without `tlsVerify` any certificate will do.
async fn https(lab: &Lab) -> Outcome {
    let plugin = Plugin::start_secure(TlsFiles::default(), |_| Answer::unchanged()).await?;
    let pair = with(lab, &plugin, ALL).start().await?;
    pair.works().await?;
    let request = plugin.asked("NewUserConn", 1).await?;
    head(&request);
    Ok(())
}

fn secure(lab: &Lab, plugin: &Plugin) -> Value {
    let ca = lab.directory().join("ca.pem");
    // Where Go's programs and ours look for root certificates.
    lab.variable("SSL_CERT_FILE", &ca.to_string_lossy());
    plugin.config_with(&["p"], &["Login"], ", tlsVerify = true")
}

/// A certificate for 127.0.0.1, and its CA in `ca.pem`.
fn certificate(lab: &Lab) -> Outcome<TlsFiles> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    lab.file("ca.pem", &ca.pem())?;
    Ok(TlsFiles {
        cert_file: lab.file("plugin.pem", &certificate.pem())?.into(),
        key_file: lab.file("plugin.key", &key.serialize_pem())?.into(),
        ..TlsFiles::default()
    })
}

/// With `tlsVerify`, one that the system's roots vouch for.
async fn https_verified(lab: &Lab) -> Outcome {
    let plugin = Plugin::start_secure(certificate(lab)?, |_| Answer::unchanged()).await?;
    let config = secure(lab, &plugin);
    let pair = lab.setup().frps("httpPlugins", config).start().await?;
    pair.works().await
}

/// Another is refused.
async fn https_stranger(lab: &Lab) -> Outcome {
    certificate(lab)?;
    let plugin = Plugin::start_secure(TlsFiles::default(), |_| Answer::unchanged()).await?;
    let config = secure(lab, &plugin);
    let setup = lab.setup().frps("httpPlugins", config);
    let (mut frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, ports::free()).await?;
    frpc.logs("connect to server error: send Login request to plugin error")
        .await?;
    frps.logs("tls: failed to verify certificate").await?;
    assert!(plugin.requests().is_empty());
    Ok(())
}

/// Who is asked about waits, and nobody else.
async fn slow(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|request| {
        let slow = request.body.contains(r#""proxy_name":"slow""#);
        if slow || request.op() == "CloseProxy" {
            Answer::Silence
        } else {
            Answer::unchanged()
        }
    })
    .await?;
    let (_frps, link) = server(lab, &plugin, ALL).await?;
    let mut waits = link.login(login_message()).await?;
    let slow = Message::NewProxy(Box::new(tcp_proxy("slow", 0)));
    waits.control.send(slow).await?;
    plugin.asked("NewProxy", 1).await?;
    let mut other = link.login(login_message()).await?;
    let port = ports::free();
    for _ in 0..2 {
        let resp = other.register(tcp_proxy("quick", port)).await?;
        assert_eq!(resp.error, "");
        let close = CloseProxy {
            proxy_name: "quick".into(),
        };
        other.control.send(Message::CloseProxy(close)).await?;
        other.ping(Ping::default()).await?;
    }
    plugin.asked("CloseProxy", 2).await?;
    // Leaving does not wait for the plugin either.
    drop(waits);
    let again: Client<'_> = link.login(login_message()).await?;
    let work = NewWorkConn {
        run_id: again.run_id.clone(),
        ..NewWorkConn::default()
    };
    let _work = link.offer_work(work).await?;
    plugin.asked("NewWorkConn", 1).await?;
    Ok(())
}

/// Nothing to go on with is a failure of the plugin.
async fn no_content(lab: &Lab) -> Outcome {
    for answer in ["{}", "null", r#"{"unchange":false,"content":null}"#] {
        let answer = Answer::Json(answer.into());
        let plugin = Plugin::start(move |_| answer.clone()).await?;
        let (_frps, link) = server(lab, &plugin, &["NewProxy"]).await?;
        let mut client = link.login(login_message()).await?;
        let resp = client.register(tcp_proxy("web", 0)).await?;
        assert_eq!(resp.error, "send NewProxy request to plugin error");
    }
    Ok(())
}

/// A refusal is one even without a reason.
async fn no_reason(lab: &Lab) -> Outcome {
    let plugin = Plugin::start(|_| Answer::Json(r#"{"reject":true}"#.into())).await?;
    let (_frps, link) = server(lab, &plugin, &["Login"]).await?;
    let (resp, client) = link.try_login(login_message()).await?;
    assert!(client.is_none() && !resp.error.is_empty());
    Ok(())
}

/// What a plugin may send is bounded, and nothing of it ends the server.
async fn hostile(lab: &Lab) -> Outcome {
    let head = "HTTP/1.1 200 OK\r\n";
    let huge = format!(
        "{head}Content-Length: 4000000000\r\n\r\n{}",
        " ".repeat(3_000_000)
    );
    let deep = "[".repeat(500_000);
    for bytes in [
        Vec::new(),
        b"garbage\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 307 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 307 X\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 307 X\r\nLocation: /p\r\nContent-Length: 0\r\n\r\n".to_vec(),
        huge.into_bytes(),
        format!("{head}Content-Length: {}\r\n\r\n{deep}", deep.len()).into_bytes(),
        format!("{head}X: {}\r\n\r\n", "x".repeat(1_000_000)).into_bytes(),
    ] {
        let plugin = Plugin::start(move |_| Answer::Bytes(bytes.clone())).await?;
        let (_frps, link) = server(lab, &plugin, &["NewProxy"]).await?;
        let mut client = link.login(login_message()).await?;
        let resp = client.register(tcp_proxy("web", 0)).await?;
        assert_eq!(resp.error, "send NewProxy request to plugin error");
        client.ping(Ping::default()).await?;
    }
    Ok(())
}
