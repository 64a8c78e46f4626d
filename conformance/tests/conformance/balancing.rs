//! Balanced groups: members of both programs mixed, configured by our client's keys and by metadata of upstream's.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::config::{Config, Keys, Proxy, Value};
use conformance::http::{Backend, User};
use conformance::managed;
use conformance::peers::{Maker, Programs};
use conformance::process::Process;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Failure, Lab, Outcome, Setup, ports};

mod membership;
mod retries;
mod signals;
mod strategies;

const WHY: &str = "upstream balances by turns only";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = strategies::cases();
    cases.extend(signals::cases());
    cases.extend(retries::cases());
    cases.extend(membership::cases());
    cases.push(Case::pair("balancing/configured", configured).our_frps(WHY));
    cases
}

/// A server with a port for http, and one for administrators.
struct Server {
    _frps: Process,
    port: u16,
    vhost: SocketAddr,
    web: SocketAddr,
}

impl Server {
    async fn start(lab: &Lab, more: impl for<'a> Fn(Setup<'a>) -> Setup<'a>) -> Outcome<Self> {
        let (vhost, web) = (ports::free(), ports::free());
        let setup = lab.setup().frps("vhostHTTPPort", vhost);
        let setup = setup
            .frps("webServer.port", web)
            .frps("enablePrometheus", true);
        let (frps, port) = more(setup).start_server().await?;
        Ok(Self {
            _frps: frps,
            port,
            vhost: (Ipv4Addr::LOCALHOST, vhost).into(),
            web: (Ipv4Addr::LOCALHOST, web).into(),
        })
    }

    /// Starts a client of `programs` and waits until all its proxies run.
    async fn client(
        &self,
        lab: &Lab,
        programs: &Programs,
        proxies: Vec<Proxy>,
    ) -> Outcome<Process> {
        let count = proxies.len();
        let mut frpc = self.client_of(lab, programs, proxies)?;
        frpc.logs_times("start proxy success", count).await?;
        Ok(frpc)
    }

    fn client_of(&self, lab: &Lab, programs: &Programs, proxies: Vec<Proxy>) -> Outcome<Process> {
        let mut config = Config::default();
        config.keys.set("serverAddr", "127.0.0.1");
        config.keys.set("serverPort", self.port);
        config.keys.set("auth.token", conformance::lab::TOKEN);
        config.keys.set("log.level", "trace");
        config.keys.set("log.disablePrintColor", true);
        config.keys.set("loginFailExit", false);
        config.proxies = proxies;
        lab.start(programs, "frpc", &config)
    }

    async fn get(&self, host: &str, path: &str, more: &str) -> Outcome<String> {
        let mut user = User::connect(self.vhost).await?;
        user.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"))
            .await?;
        user.answer().await
    }

    async fn group(&self, kind: &str, group: &str) -> Outcome<String> {
        let path = format!("/api/v2/lb/groups/{kind}/{group}");
        let answer = managed::ask(self.web, "GET", &path, "").await?;
        Ok(answer.body)
    }

    async fn change(&self, method: &str, member: &str, body: &str) -> Outcome<String> {
        let path = format!("/api/v2/lb/groups/http/g/members/{member}");
        let answer = managed::ask(self.web, method, &path, body).await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        Ok(answer.body)
    }
}

/// A member of group `group`. `keys` become `loadBalancer` of our client, and metadata of upstream's.
fn member(
    programs: &Programs,
    kind: &'static str,
    name: &str,
    group: &str,
    local: SocketAddr,
    keys: &[(&str, &str)],
) -> Proxy {
    let mut all = Keys::default();
    all.set("type", kind);
    all.set("localIP", local.ip().to_string());
    all.set("localPort", local.port());
    let ours = programs.maker == Maker::Ours;
    let (mut table, mut metas) = (
        vec![format!("group = \"{group}\""), "groupKey = \"k\"".into()],
        vec!["colour = \"blue\"".to_owned()],
    );
    for (key, value) in keys {
        if ours {
            table.push(format!("{key} = \"{value}\""));
        } else {
            metas.push(format!("\"lb.{key}\" = \"{value}\""));
        }
    }
    all.set(
        "loadBalancer",
        Value::Toml(format!("{{ {} }}", table.join(", "))),
    );
    all.set(
        "metadatas",
        Value::Toml(format!("{{ {} }}", metas.join(", "))),
    );
    if matches!(kind, "http" | "https") {
        let domains = format!("[\"{group}.test\"]");
        all.set("customDomains", Value::Toml(domains));
    }
    Proxy {
        name: name.into(),
        keys: all,
    }
}

/// Which backend an answer is of.
fn backend(answer: &str) -> Outcome<String> {
    let lower = answer.to_ascii_lowercase();
    let line = lower
        .lines()
        .find_map(|line| line.strip_prefix("x-backend: "));
    line.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("no answer of a backend: {answer:?}")))
}

fn assert_shares(strategy: &str, picks: &[String], range: &std::ops::RangeInclusive<usize>) {
    let first = picks.iter().filter(|name| *name == "a").count();
    assert!(
        range.contains(&first),
        "{strategy}: {first} of {}",
        picks.len()
    );
    if strategy == "hash" {
        assert!([0, picks.len()].contains(&first), "{strategy}: {first}");
    }
}

/// What the server's file decides, and what is refused.
async fn configured(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| {
        setup.frps("loadBalancer.onConflict", "reject").frps(
            "loadBalancer.rules",
            Value::Toml(
                "[{ group = \"ruled-*\", strategy = \"first\", maxConnections = 5 }]".into(),
            ),
        )
    })
    .await?;
    let a = Backend::start("a").await?;
    let of = |name: &str, group: &str, keys: &[_]| {
        vec![member(&lab.frpc, "http", name, group, a.address, keys)]
    };
    let ewma = [("strategy", "ewma")];
    let _first = server.client(lab, &lab.frpc, of("a", "g", &ewma)).await?;
    let differs = of("b", "g", &[("strategy", "random")]);
    let mut second = server.client_of(lab, &lab.frpc, differs)?;
    second
        .logs("group [g] load balancer settings differ: lb.strategy: have \"ewma\", got \"random\"")
        .await?;
    let wrong = of("c", "h", &[("strategy", "best")]);
    let mut third = server.client_of(lab, &lab.frpc, wrong)?;
    let error = "loadBalancer: lb.strategy: \"best\": want round-robin, random";
    if lab.frpc.maker == Maker::Ours {
        // Ours finds out by itself.
        until("the end of frpc", LIMIT, async || third.ended()).await?;
        assert!(third.log().contains(error), "{}", third.log());
    } else {
        third.logs(error).await?;
    }
    let _fourth = server
        .client(lab, &lab.frpc, of("d", "ruled-1", &ewma))
        .await?;
    let shown = server.group("http", "ruled-1").await?;
    assert!(shown.contains("\"strategy\":\"first\""), "{shown}");
    Ok(())
}
