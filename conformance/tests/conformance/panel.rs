//! A hosting panel: customers with tokens and limits, kept by a server plugin and watched through frps's APIs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conformance::config::Value as Setting;
use conformance::lab::PROXY;
use conformance::managed::ask;
use conformance::plugin::{Answer, Plugin, Request};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Failure, Lab, Outcome, Setup, ports, service};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const CUSTOMER: &str = "alice";
/// The customer's token, in the metadata of the login.
const CREDENTIAL: &str = "paid until spring";
/// What the customer may use after having been thrown out once. Upstream does not count what it limits.
const LIMIT_TEXT: &str = "4MB";
/// Bytes that the customer's user sends and gets back.
const BYTES: usize = 100_000;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("panel/customer", customer),
        Case::pair("panel/stranger", stranger),
    ]
}

/// What the panel knows.
#[derive(Clone, Default)]
struct Panel {
    /// Whether the customer has been thrown out.
    banned: Arc<AtomicBool>,
    /// Whether the customer is limited.
    limited: Arc<AtomicBool>,
}

impl Panel {
    fn decide(&self, request: &Request) -> Answer {
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let mut content = body["content"].clone();
        if self.banned.load(Ordering::Relaxed) && request.op() != "CloseProxy" {
            return Answer::reject("the account is closed");
        }
        match request.op() {
            "Login" if content["metas"]["token"] != CREDENTIAL => {
                Answer::reject("unknown customer")
            }
            "NewProxy" if content["user"]["user"] != CUSTOMER => {
                Answer::reject("no proxies for you")
            }
            "NewProxy" if self.limited.load(Ordering::Relaxed) => {
                content["bandwidth_limit"] = json!(LIMIT_TEXT);
                content["bandwidth_limit_mode"] = json!("server");
                Answer::content(&content.to_string())
            }
            _ => Answer::unchanged(),
        }
    }
}

const OPS: [&str; 6] = [
    "Login",
    "NewProxy",
    "CloseProxy",
    "Ping",
    "NewWorkConn",
    "NewUserConn",
];

fn setup<'a>(lab: &'a Lab, plugin: &Plugin, web: u16, credential: &str) -> Setup<'a> {
    let metadatas = format!("{{ token = \"{credential}\" }}");
    lab.setup()
        .frps("webServer.port", web)
        .frps("httpPlugins", plugin.config(&["panel"], &OPS))
        .frpc("user", CUSTOMER)
        .frpc("metadatas", Setting::Toml(metadatas))
        .frpc("loginFailExit", false)
        .frpc("transport.heartbeatInterval", 1_i64)
}

/// The panel's view of frps.
struct Api(SocketAddr);

impl Api {
    async fn ask(&self, method: &str, path: &str) -> Outcome<Value> {
        let answer = ask(self.0, method, path, "").await?;
        match answer.status {
            200 => Ok(serde_json::from_str(&answer.body)?),
            _ => Err(Failure::new(format!("{method} {path}: {answer:?}"))),
        }
    }

    async fn get(&self, path: &str) -> Outcome<Value> {
        self.ask("GET", path).await
    }

    /// Waits until the answer has `value` at this JSON pointer.
    async fn shows(&self, path: &str, pointer: &str, value: Value) -> Outcome {
        let what = format!("{value} at {pointer} of {path}");
        until(what, LIMIT, async || {
            let answer = self.get(path).await.ok()?;
            (answer.pointer(pointer) == Some(&value)).then_some(())
        })
        .await
    }
}

/// A customer is let in, limited, counted and at last thrown out.
async fn customer(lab: &Lab) -> Outcome {
    let panel = Panel::default();
    let deciding = panel.clone();
    let plugin = Plugin::start(move |request| deciding.decide(request)).await?;
    let web = ports::free();
    let api = Api((Ipv4Addr::LOCALHOST, web).into());
    let mut pair = setup(lab, &plugin, web, CREDENTIAL).start().await?;
    let name = format!("{CUSTOMER}.{PROXY}");

    // In.
    api.shows("/api/serverinfo", "/clientCounts", json!(1))
        .await?;
    api.shows(
        &format!("/api/clients?user={CUSTOMER}&status=online"),
        "/0/online",
        json!(true),
    )
    .await?;
    api.shows(
        &format!("/api/v2/clients?user={CUSTOMER}"),
        "/data/total",
        json!(1),
    )
    .await?;
    let users = "/api/v2/users";
    api.shows(users, "/data/items/0/proxyCount", json!(1))
        .await?;

    // Counted.
    service::echo(pair.user, BYTES).await?;
    let asked = plugin.asked("NewUserConn", 1).await?;
    assert!(
        asked.body.contains(&format!("\"proxy_name\":\"{name}\"")),
        "{asked:?}"
    );
    api.shows(
        &format!("/api/traffic/{name}"),
        "/trafficIn/0",
        json!(BYTES),
    )
    .await?;
    api.shows(
        &format!("/api/traffic/{name}"),
        "/trafficOut/0",
        json!(BYTES),
    )
    .await?;
    let history = format!("/api/v2/proxies/{name}/traffic");
    api.shows(&history, "/data/history/6/trafficIn", json!(BYTES))
        .await?;
    api.shows("/api/serverinfo", "/totalTrafficIn", json!(BYTES))
        .await?;

    // Out: the next heartbeat is refused, and so is every login after it.
    plugin.asked("Ping", 1).await?;
    panel.banned.store(true, Ordering::Relaxed);
    let closed = plugin.asked("CloseProxy", 1).await?;
    assert!(
        closed.body.contains(&format!("\"proxy_name\":\"{name}\"")),
        "{closed:?}"
    );
    pair.frpc.logs("the account is closed").await?;
    api.shows("/api/serverinfo", "/clientCounts", json!(0))
        .await?;
    api.shows(&format!("/api/proxies/{name}"), "/status", json!("offline"))
        .await?;
    until("users are refused", LIMIT, async || {
        TcpStream::connect(pair.user).await.is_err().then_some(())
    })
    .await?;
    api.ask("DELETE", "/api/proxies?status=offline").await?;
    let gone = ask(api.0, "GET", &format!("/api/proxies/{name}"), "").await?;
    assert_eq!(gone.status, 404);

    // In again, once the account is open, and limited.
    panel.limited.store(true, Ordering::Relaxed);
    panel.banned.store(false, Ordering::Relaxed);
    pair.works().await?;
    api.shows(
        &format!("/api/v2/proxies?user={CUSTOMER}&status=online"),
        "/data/total",
        json!(1),
    )
    .await?;
    let proxy = api.get(&format!("/api/proxy/tcp/{name}")).await?;
    let transport = &proxy["conf"]["transport"];
    assert_eq!(transport["bandwidthLimit"], LIMIT_TEXT, "{proxy}");
    assert_eq!(transport["bandwidthLimitMode"], "server", "{proxy}");
    let item = api.get(&format!("/api/v2/proxies/{name}")).await?;
    assert_eq!(
        item["data"]["spec"]["tcp"]["transport"],
        json!({
            "useEncryption": false,
            "useCompression": false,
            "bandwidthLimit": LIMIT_TEXT,
            "bandwidthLimitMode": "server",
        })
    );
    Ok(())
}

/// Who is no customer gets nothing.
async fn stranger(lab: &Lab) -> Outcome {
    let panel = Panel::default();
    let plugin = Plugin::start(move |request| panel.decide(request)).await?;
    let web = ports::free();
    let setup = setup(lab, &plugin, web, "guessed");
    let (_frps, port) = setup.start_server().await?;
    let mut frpc = setup.start_client(port, ports::free()).await?;
    frpc.logs("unknown customer").await?;
    let api = Api((Ipv4Addr::LOCALHOST, web).into());
    api.shows("/api/serverinfo", "/clientCounts", json!(0))
        .await?;
    api.shows("/api/v2/proxies", "/data/total", json!(0))
        .await?;
    assert!(plugin.requests().iter().all(|r| r.op() == "Login"));
    Ok(())
}
