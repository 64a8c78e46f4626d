//! Each program does what the document of its API says, whatever it is asked.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::config::Value::Toml;
use conformance::managed::{Managed, tcp};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Failure, Lab, Outcome, ports};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OURS: &str = "upstream serves no such document";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frps("openapi/frps", frps).ours_only(OURS),
        Case::frpc("openapi/frpc", frpc).ours_only(OURS),
        Case::frps("openapi/frps/roles", frps_roles).ours_only(OURS),
        Case::frpc("openapi/frpc/roles", frpc_roles).ours_only(OURS),
    ]
}

/// Bytes of an answer that is too long.
const TOO_LONG: usize = 4 * 1024 * 1024;

/// Values of parameters, as they stand in a URL, that nobody expects. None changes which path it is.
const NASTY: [&str; 14] = [
    "x",
    "-1",
    "0",
    "1e9",
    "18446744073709551616",
    "%20",
    "%00",
    "%0d%0aa:b",
    "%22%27%3C%3E",
    "%F0%9F%A6%80",
    "%FF%FE",
    "tcp%3F",
    "null",
    "%25zz",
];
/// Those that do, which may end anywhere but in the program.
const STRAYING: [&str; 5] = ["", "%2F", "..", "%2e%2e%2fx", "%zz"];

fn nasty_bodies() -> Vec<String> {
    let deep = "[".repeat(10_000);
    let long = json!({ "name": "n".repeat(5_000), "type": "tcp", "tcp": {} }).to_string();
    let mut bodies = vec![deep, long];
    let short = [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{\"name\":1}",
        "{\"name\":\"x\"}",
        "{\"name\":\"x\",\"type\":\"nope\"}",
        "{\"name\":\"x\",\"type\":\"tcp\",\"tcp\":[]}",
        "{\"weight\":-1}",
        "{\"weight\":1e400}",
        "{\"state\":7}",
        "\u{0}",
    ];
    bodies.extend(short.map(str::to_owned));
    bodies
}

struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

/// Asks, with a bearer token if there is one; of a stream of events, only its beginning is read.
async fn ask(
    address: SocketAddr,
    token: Option<&str>,
    method: &str,
    target: &str,
    body: &str,
) -> Outcome<Answer> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {target} HTTP/1.0\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n{body}",
        authorization.unwrap_or_default(),
        body.len()
    );
    let answer = within(format!("the answer to {method} {target}"), LIMIT, async {
        let mut stream = TcpStream::connect(address).await?;
        // The server may answer before it has all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while answer.len() < TOO_LONG {
            let n = stream.read(&mut piece).await?;
            answer.extend_from_slice(&piece[..n]);
            if n == 0 || is_stream(&answer) {
                break;
            }
        }
        Outcome::Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    let answer = answer.await??;
    let broken = || Failure::new(format!("{method} {target}: no answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let field = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-type")
            .then(|| value.to_owned())
    };
    Ok(Answer {
        status: head.split(' ').nth(1).ok_or_else(broken)?.parse()?,
        content_type: head.lines().find_map(field).unwrap_or_default(),
        body: body.to_owned(),
    })
}

/// Whether the head of a stream of events has come.
fn is_stream(answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let head = end.map(|end| String::from_utf8_lossy(&answer[..end]).into_owned());
    head.is_some_and(|head| head.contains("text/event-stream"))
}

/// A value of a parameter that makes sense.
fn sensible(name: &str) -> &'static str {
    match name {
        "type" | "kind" => "tcp",
        "name" => "web",
        "page" | "pageSize" => "1",
        "status" => "online",
        "strictConfig" => "true",
        _ => "x",
    }
}

/// One operation of a document.
struct Operation<'a> {
    address: SocketAddr,
    document: &'a Value,
    /// Who asks.
    token: Option<&'a str>,
    method: String,
    path: &'a str,
    about: &'a Value,
}

impl Operation<'_> {
    /// Path and query, with `value` for the parameter `changed`.
    fn target(&self, changed: Option<(&str, &str)>) -> String {
        let mut path = self.path.to_owned();
        let mut query = String::new();
        for (name, place) in self.parameters() {
            let value = match changed {
                Some((other, value)) if other == name => value,
                _ => sensible(name),
            };
            if place == "path" {
                path = path.replace(&format!("{{{name}}}"), value);
            } else {
                let mark = if query.is_empty() { '?' } else { '&' };
                query = format!("{query}{mark}{name}={value}");
            }
        }
        path + &query
    }

    fn parameters(&self) -> Vec<(&str, &str)> {
        let list = self.about["parameters"].as_array();
        list.into_iter()
            .flatten()
            .filter_map(|p| Some((p["name"].as_str()?, p["in"].as_str()?)))
            .collect()
    }

    /// Whether a role that may only look is enough; `None`: everybody may ask.
    fn is_for_lookers(&self) -> Option<bool> {
        self.about["x-role"]
            .as_str()
            .map(|role| role == "read-only")
    }

    /// Asks, and compares the answer with the document; gives the status.
    async fn check(&self, target: &str, body: &str) -> Outcome<u16> {
        let answer = ask(self.address, self.token, &self.method, target, body).await?;
        let status = answer.status;
        let what = format!("{} {target} {:.80}", self.method, body);
        let told = format!("{what}: {} {:.200}", answer.status, answer.body);
        assert!(answer.status < 500, "{told}");
        let responses = &self.about["responses"];
        let exact = &responses[answer.status.to_string()];
        let documented = if exact.is_null() {
            &responses["default"]
        } else {
            exact
        };
        assert!(documented.is_object(), "not documented: {told}");
        let Some(content) = documented["content"].as_object() else {
            return Ok(status);
        };
        let media = answer.content_type.split(';').next().unwrap_or_default();
        let Some(described) = content.get(media) else {
            return Err(Failure::new(format!("{media:?}: {told}")));
        };
        let Some(schema) = described["schema"]["$ref"].as_str() else {
            return Ok(status);
        };
        let body: Value = serde_json::from_str(&answer.body)?;
        let schema = self.document.pointer(&schema[1..]);
        let required = schema.and_then(|s| s["required"].as_array());
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            assert!(body.get(key).is_some(), "no {key}: {told}");
        }
        let code = body.get("code").or(body.get("Code"));
        assert_eq!(code, Some(&json!(answer.status)), "{told}");
        Ok(status)
    }

    async fn check_all(&self) -> Outcome {
        let sensible = self.target(None);
        if self.about["requestBody"].is_object() {
            for body in nasty_bodies() {
                self.check(&sensible, &body).await?;
            }
        }
        for (name, place) in self.parameters() {
            for value in NASTY {
                self.check(&self.target(Some((name, value))), "").await?;
            }
            for value in STRAYING.into_iter().filter(|_| place == "path") {
                let target = self.target(Some((name, value)));
                let answer = ask(self.address, self.token, &self.method, &target, "").await?;
                assert!(answer.status < 500, "{target}: {}", answer.status);
            }
        }
        self.check(&sensible, "").await.map(drop)
    }
}

/// The document at `address`.
async fn document(address: SocketAddr, token: Option<&str>) -> Outcome<Value> {
    let document = ask(address, token, "GET", "/api/openapi.json", "").await?;
    Ok(serde_json::from_str(&document.body)?)
}

/// Every operation of a document.
fn operations<'a>(
    address: SocketAddr,
    document: &'a Value,
    token: Option<&'a str>,
) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, about) in methods.as_object().into_iter().flatten() {
            operations.push(Operation {
                address,
                document,
                token,
                method: method.to_uppercase(),
                path,
                about,
            });
        }
    }
    assert!(operations.len() > 20, "{}", operations.len());
    operations
}

/// Calls every operation of the document at `address`; that of `last` after all others and once, since it ends the program.
async fn walk(address: SocketAddr, last: &str) -> Outcome {
    let document = document(address, None).await?;
    let mut operations = operations(address, &document, None);
    operations.sort_by_key(|operation| operation.path == last);
    for operation in operations {
        if operation.path == last {
            operation.check(&operation.target(None), "").await?;
        } else {
            operation.check_all().await?;
        }
    }
    Ok(())
}

async fn frps(lab: &Lab) -> Outcome {
    let web = ports::free();
    let setup = lab
        .setup()
        .frps("webServer.port", web)
        .frps("webServer.pprofEnable", true)
        .frps("enablePrometheus", true)
        .proxy("loadBalancer.group", "x");
    let mut pair = setup.start().await?;
    walk((Ipv4Addr::LOCALHOST, web).into(), "").await?;
    assert!(pair.frps.ended().is_none());
    Ok(())
}

async fn frpc(lab: &Lab) -> Outcome {
    let web = tcp("web", "ECHO", ports::free(), "");
    let switches = "enablePrometheus = true\nwebServer.pprofEnable = true\n";
    let mut managed = Managed::start(lab, &format!("{switches}{web}")).await?;
    walk(managed.admin, "/api/stop").await?;
    let status = managed.frpc.exit(LIMIT).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

/// Who may only look, and who may do everything.
const TOKENS: &str =
    "[{ role = \"read-only\", token = \"looks\" }, { role = \"admin\", token = \"does\" }]";
/// Wrong credentials that are heard from one address in a minute.
const GUESSES: usize = 20;

/// Calls every operation as somebody who may only look, as nobody, and with guessed tokens until that is enough.
async fn walk_as_others(address: SocketAddr) -> Outcome {
    let document = document(address, Some("looks")).await?;
    for operation in operations(address, &document, Some("looks")) {
        let target = operation.target(None);
        let status = operation.check(&target, "").await?;
        let refused = matches!(status, 401 | 403 | 429);
        let expected = operation.is_for_lookers() == Some(false);
        assert_eq!(refused, expected, "{} {target}: {status}", operation.method);
    }
    let mut guesses = 0;
    for token in [None, Some("guess")] {
        for operation in operations(address, &document, token) {
            let target = operation.target(None);
            let status = operation.check(&target, "").await?;
            let told = format!("{} {target}: {status}", operation.method);
            if operation.is_for_lookers().is_none() {
                assert!(!matches!(status, 401 | 403 | 429), "{told}");
                continue;
            }
            // Who shows nothing guesses nothing.
            guesses += usize::from(token.is_some());
            let expected = if guesses > GUESSES { 429 } else { 401 };
            assert_eq!(status, expected, "{told}");
        }
    }
    assert!(guesses > GUESSES, "{guesses}");
    // Not even who has the right one is heard now.
    for operation in operations(address, &document, Some("does")) {
        if operation.is_for_lookers().is_some() {
            assert_eq!(operation.check(&operation.target(None), "").await?, 429);
        }
    }
    Ok(())
}

async fn frps_roles(lab: &Lab) -> Outcome {
    let web = ports::free();
    let setup = lab
        .setup()
        .frps("webServer.port", web)
        .frps("webServer.tokens", Toml(TOKENS.into()))
        .frps("webServer.pprofEnable", true)
        .frps("enablePrometheus", true);
    let mut pair = setup.start().await?;
    walk_as_others((Ipv4Addr::LOCALHOST, web).into()).await?;
    pair.echo().await?;
    assert!(pair.frps.ended().is_none());
    Ok(())
}

async fn frpc_roles(lab: &Lab) -> Outcome {
    let web = tcp("web", "ECHO", ports::free(), "");
    let switches = "enablePrometheus = true\nwebServer.pprofEnable = true\n";
    let tokens = format!("webServer.tokens = {TOKENS}\n");
    let mut managed = Managed::start(lab, &format!("{switches}{tokens}{web}")).await?;
    walk_as_others(managed.admin).await?;
    assert!(managed.frpc.ended().is_none());
    Ok(())
}
