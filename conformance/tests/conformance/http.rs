//! `http` proxies: what users, and what backends, get to see.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::config::{Config, Keys, Proxy, Value};
use conformance::http::User;
use conformance::peers::Maker;
use conformance::process::Process;
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, Setup, ports, wait};

mod bodies;
mod exchanges;
mod groups;
mod hostile;
mod http2;
mod pooling;
mod streams;
mod traffic;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = exchanges::cases();
    cases.extend(bodies::cases());
    cases.extend(streams::cases());
    cases.extend(http2::cases());
    cases.extend(pooling::cases());
    cases.extend(groups::cases());
    cases.extend(hostile::cases());
    cases.extend(traffic::cases());
    cases
}

/// A running pair with `http` proxies.
pub(crate) struct Site {
    frps: Process,
    frpc: Process,
    server: u16,
    /// Where users connect to.
    pub(crate) vhost: SocketAddr,
}

/// An `http` proxy to a backend.
pub(crate) fn proxy(name: &str, backend: SocketAddr, keys: &[(&'static str, Value)]) -> Proxy {
    let mut all = Keys::default();
    all.set("type", "http");
    all.set("localIP", backend.ip().to_string());
    all.set("localPort", backend.port());
    for (key, value) in keys {
        all.set(key, value.clone());
    }
    Proxy {
        name: name.to_owned(),
        keys: all,
    }
}

pub(crate) fn domains(domains: &'static [&'static str]) -> (&'static str, Value) {
    ("customDomains", domains.into())
}

fn text(key: &'static str, value: &str) -> (&'static str, Value) {
    (key, value.into())
}

impl Site {
    /// Starts a pair and waits until all proxies run. `frps` changes the server's file.
    pub(crate) async fn start(
        lab: &Lab,
        proxies: Vec<Proxy>,
        frps: impl for<'a> Fn(Setup<'a>) -> Setup<'a>,
    ) -> Outcome<Self> {
        let port = ports::free();
        let setup = frps(lab.setup().frps("vhostHTTPPort", port));
        let (frps, server) = setup.start_server().await?;
        let frpc = Self::client(lab, server, proxies).await?;
        Ok(Self {
            frps,
            frpc,
            server,
            vhost: (Ipv4Addr::LOCALHOST, port).into(),
        })
    }

    /// Starts a client and waits until all its proxies run.
    async fn client(lab: &Lab, server: u16, proxies: Vec<Proxy>) -> Outcome<Process> {
        let count = proxies.len();
        let mut config = Config::default();
        config.keys.set("serverAddr", "127.0.0.1");
        config.keys.set("serverPort", server);
        config.keys.set("auth.token", conformance::lab::TOKEN);
        config.keys.set("log.level", "trace");
        config.keys.set("log.disablePrintColor", true);
        config.proxies = proxies;
        let mut frpc = lab.start_frpc(&config)?;
        frpc.logs_times("start proxy success", count).await?;
        Ok(frpc)
    }

    pub(crate) async fn user(&self) -> Outcome<User> {
        User::connect(self.vhost).await
    }

    /// Sends a request on a connection of its own and gives the answer.
    pub(crate) async fn ask(&self, request: &str) -> Outcome<String> {
        let mut user = self.user().await?;
        user.send(request).await?;
        user.answer().await
    }

    /// Asks until the answer begins with `expected`.
    async fn ask_until(&self, request: &str, expected: &str) -> Outcome<String> {
        let what = format!("an answer that begins with {expected:?}");
        wait::until(what, LIMIT, async || {
            let answer = self.ask(request).await.ok()?;
            answer.starts_with(expected).then_some(answer)
        })
        .await
    }
}

/// Whether frps is of this workspace.
fn is_ours(lab: &Lab) -> bool {
    lab.frps.maker == Maker::Ours
}

/// A request without anything special.
pub(crate) fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}
