//! Balanced groups: members of both programs mixed, configured by our client's keys and by metadata of upstream's.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use conformance::config::{Config, Keys, Proxy, Value};
use conformance::http::{Backend, User};
use conformance::managed;
use conformance::peers::{Maker, Programs};
use conformance::process::Process;
use conformance::raw::read_all;
use conformance::vhost::{ask, client_hello, named_service};
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Failure, Lab, Outcome, Setup, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const WHY: &str = "upstream balances by turns only";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("balancing/http", strategies_http).our_frps(WHY),
        Case::pair("balancing/tcp", strategies_tcp).our_frps(WHY),
        Case::pair("balancing/sticky", sticky).our_frps(WHY),
        Case::pair("balancing/hedged", hedged).our_frps(WHY),
        Case::pair("balancing/reported", reported).our_frps(WHY),
        Case::pair("balancing/resent", resent).our_frps(WHY),
        Case::pair("balancing/unreached", unreached).our_frps(WHY),
        Case::pair("balancing/shed", shed).our_frps(WHY),
        Case::pair("balancing/agent", agent).our_frps(WHY),
        Case::pair("balancing/agent_unheard", agent_unheard)
            .our_frpc("upstream's client asks no agents"),
        Case::pair("balancing/killed", killed).our_frps(WHY),
        Case::pair("balancing/scaled", scaled).our_frps(WHY),
        Case::pair("balancing/drained", drained).our_frps(WHY),
        Case::pair("balancing/checked", checked).our_frps(WHY),
        Case::pair("balancing/configured", configured).our_frps(WHY),
    ]
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

/// Name, further keys, users that the first member is to get.
type StrategyRow = (
    &'static str,
    &'static [(&'static str, &'static str)],
    std::ops::RangeInclusive<usize>,
);

/// Each strategy with two members of weights 3 and 1, and how many of 40 users the first is to get.
const STRATEGIES: [StrategyRow; 6] = [
    ("round-robin", &[], 30..=30),
    ("random", &[], 18..=39),
    ("least-request", &[], 18..=39),
    // Latencies of services next door differ by chance only.
    ("ewma", &[], 1..=40),
    ("first", &[("maxConnections", "9")], 40..=40),
    ("hash", &[("hash.key", "source-ip")], 0..=40),
];

fn keys<'a>(
    strategy: &'a str,
    more: &[(&'a str, &'a str)],
    weight: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let mut keys = vec![("strategy", strategy), ("weight", weight)];
    keys.extend(more);
    keys
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

async fn strategies_http(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let (a, b) = (Backend::start("a").await?, Backend::start("b").await?);
    let of = |programs: &Programs, name: &str, address, weight| {
        STRATEGIES
            .iter()
            .map(|(strategy, more, _)| {
                let keys = keys(strategy, more, weight);
                member(
                    programs,
                    "http",
                    &format!("{name}-{strategy}"),
                    strategy,
                    address,
                    &keys,
                )
            })
            .collect()
    };
    let first = of(&lab.frps, "a", a.address, "3");
    let _first = server.client(lab, &lab.frps, first).await?;
    let second = of(&lab.frpc, "b", b.address, "1");
    let _second = server.client(lab, &lab.frpc, second).await?;
    for (strategy, _, range) in &STRATEGIES {
        let mut picks = Vec::new();
        for _ in 0..40 {
            let answer = server.get(&format!("{strategy}.test"), "/", "").await?;
            picks.push(backend(&answer)?);
        }
        assert_shares(strategy, &picks, range);
    }
    let metrics = managed::ask(server.web, "GET", "/metrics", "").await?.body;
    for line in [
        "frp_server_lb_members{kind=\"http\",group=\"ewma\",state=\"up\"} 2",
        "frp_server_lb_results_total{kind=\"http\",group=\"first\",result=\"ok\"} 40",
        "frp_server_lb_picks_total{kind=\"http\",group=\"hash\",reason=\"hash\"} 40",
        "frp_server_lb_member_weight{kind=\"http\",group=\"random\",member=\"a-random\"} 3",
        "frp_server_lb_first_byte_seconds_count{kind=\"http\",group=\"ewma\"} 40",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    Ok(())
}

async fn strategies_tcp(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let local = async |name| -> Outcome<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, named_service(name).await?).into())
    };
    let (a, b) = (local("a").await?, local("b").await?);
    let remotes: Vec<u16> = STRATEGIES.iter().map(|_| ports::free()).collect();
    let of = |programs: &Programs, name: &str, address, weight| {
        let groups = STRATEGIES.iter().zip(&remotes);
        groups
            .map(|((strategy, more, _), remote)| {
                let keys = keys(strategy, more, weight);
                let name = format!("{name}-{strategy}");
                let mut proxy = member(programs, "tcp", &name, strategy, address, &keys);
                proxy.keys.set("remotePort", *remote);
                proxy
            })
            .collect()
    };
    let first = of(&lab.frps, "a", a, "3");
    let _first = server.client(lab, &lab.frps, first).await?;
    let second = of(&lab.frpc, "b", b, "1");
    let _second = server.client(lab, &lab.frpc, second).await?;
    for ((strategy, _, range), remote) in STRATEGIES.iter().zip(&remotes) {
        let mut picks = Vec::new();
        for _ in 0..40 {
            let name = ask(*remote, b"", 1).await?;
            picks.push(String::from_utf8_lossy(&name).into_owned());
            // The end of one reaches the server before the next begins, or it is a tie that is drawn.
        }
        assert_shares(strategy, &picks, range);
    }
    Ok(())
}

async fn sticky(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let (a, b) = (Backend::start("a").await?, Backend::start("b").await?);
    let keys = [("sticky.mode", "cookie"), ("strategy", "round-robin")];
    let first = member(&lab.frps, "http", "a", "g", a.address, &keys);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let second = member(&lab.frpc, "http", "b", "g", b.address, &keys);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    let set = |answer: &str| {
        let lower = answer.to_ascii_lowercase();
        let at = lower.find("set-cookie: ")?;
        let cookie = answer[at + "set-cookie: ".len()..].lines().next()?;
        Some(cookie.to_owned())
    };
    let answer = server.get("g.test", "/", "").await?;
    let of = backend(&answer)?;
    let cookie = set(&answer).expect("a cookie");
    assert!(cookie.starts_with("frplb_"), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap_or_default();
    for _ in 0..6 {
        let more = format!("Cookie: x=1; {pair}; y=2\r\n");
        let answer = server.get("g.test", "/", &more).await?;
        assert_eq!(backend(&answer)?, of);
        assert_eq!(set(&answer), None);
        assert!(!answer.contains("frplb_"), "{answer}");
        assert!(answer.contains("x=1; y=2"), "{answer}");
    }
    // One that somebody else made says nothing, and is replaced.
    let other = if pair.ends_with('x') { 'y' } else { 'x' };
    let more = format!("Cookie: {}{other}\r\n", &pair[..pair.len() - 1]);
    let answer = server.get("g.test", "/", &more).await?;
    assert!(set(&answer).is_some());
    Ok(())
}

/// A member that never answers costs its users a little time only.
async fn hedged(lab: &Lab) -> Outcome {
    const KNOWN: usize = 120;
    let server = Server::start(lab, |setup| setup).await?;
    let a = Backend::start("a").await?;
    let keys = [("strategy", "round-robin"), ("hedge.enabled", "true")];
    let first = member(&lab.frps, "http", "a", "g", a.address, &keys);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let mut user = User::connect(server.vhost).await?;
    for _ in 0..KNOWN {
        user.send("GET / HTTP/1.1\r\nHost: g.test\r\n\r\n").await?;
        user.answer().await?;
    }
    // Its backlog takes connections, and nobody else does.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let second = member(&lab.frpc, "http", "b", "g", silent.local_addr()?, &keys);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    // A copy is somebody's turn, too, so that the silent one has all of them.
    for _ in 0..6 {
        let answer = server.get("g.test", "/", "").await?;
        assert_eq!(backend(&answer)?, "a");
    }
    let metrics = managed::ask(server.web, "GET", "/metrics", "").await?.body;
    for line in [
        "frp_server_lb_hedges_total{kind=\"http\",group=\"g\",won=\"true\"} 6",
        "frp_server_lb_picks_total{kind=\"http\",group=\"g\",reason=\"hedge\"} 6",
        "frp_server_lb_results_total{kind=\"http\",group=\"g\",result=\"ok\"} 126",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    Ok(())
}

/// A backend that says how busy it is.
async fn busy(name: &'static str, load: &'static str) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nEndpoint-Load-Metrics: {load}\r\nContent-Length: 0\r\n\r\n"
    );
    tokio::spawn(async move {
        while let Ok((mut user, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while user.read_buf(&mut head).await? > 0 {
                    if head.ends_with(b"\r\n\r\n") {
                        user.write_all(answer.as_bytes()).await?;
                        head.clear();
                    }
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    Ok(address)
}

/// Members that report their load get what they can take, and users do not see the reports.
async fn reported(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let idle = busy("a", "TEXT cpu_utilization=0.2, rps_fractional=100").await?;
    let loaded = busy(
        "b",
        r#"JSON {"cpu_utilization": 0.6, "rps_fractional": 100}"#,
    )
    .await?;
    let keys = [("strategy", "round-robin"), ("loadReport", "true")];
    let first = member(&lab.frps, "http", "a", "g", idle, &keys);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let second = member(&lab.frpc, "http", "b", "g", loaded, &keys);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    // They count once they have come for ten seconds.
    until("weights by load", LIMIT, async || {
        let answer = server.get("g.test", "/", "").await.ok()?;
        assert!(!answer.to_ascii_lowercase().contains("load-metrics"));
        let group = server.group("http", "g").await.ok()?;
        let group: serde_json::Value = serde_json::from_str(&group).ok()?;
        let weight = |at: usize| group["data"]["members"][at]["effectiveWeight"].as_f64();
        let (a, b) = (weight(0)?, weight(1)?);
        ((a - 1.5).abs() < 0.01 && (b - 0.5).abs() < 0.01).then_some(())
    })
    .await?;
    let mut picks = Vec::new();
    for _ in 0..40 {
        picks.push(backend(&server.get("g.test", "/", "").await?)?);
    }
    assert_shares("load reports", &picks, &(29..=31));
    Ok(())
}

/// A hello that nobody answered asks for nothing yet, so that another member gets it.
async fn resent(lab: &Lab) -> Outcome {
    let port = ports::free();
    let server = Server::start(lab, |setup| setup.frps("vhostHTTPSPort", port)).await?;
    let here: SocketAddr = (Ipv4Addr::LOCALHOST, named_service("b").await?).into();
    let nobody: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free()).into();
    let keys = [("strategy", "round-robin"), ("outlier.enabled", "false")];
    let first = member(&lab.frps, "https", "a", "g", nobody, &keys);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let second = member(&lab.frpc, "https", "b", "g", here, &keys);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    let hello = client_hello("g.test", 0x0303);
    let expected = [b"b", &hello[..]].concat();
    for _ in 0..6 {
        assert_eq!(ask(port, &hello, expected.len()).await?, expected);
    }
    Ok(())
}

/// Our client says that it cannot reach its service, and then another member serves whatever was sent.
async fn unreached(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let nobody: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free()).into();
    let here: SocketAddr = (Ipv4Addr::LOCALHOST, named_service("b").await?).into();
    let web = Backend::start("b").await?;
    let (stock, configured) = (ports::free(), ports::free());
    // One group without a word about balancing, and one with some.
    let own = [("strategy", "round-robin"), ("outlier.enabled", "false")];
    let of = |programs: &Programs, name: &str, tcp, http| {
        let mut first = member(programs, "tcp", &format!("{name}1"), "s", tcp, &[]);
        first.keys.set("remotePort", stock);
        let mut second = member(programs, "tcp", &format!("{name}2"), "c", tcp, &own);
        second.keys.set("remotePort", configured);
        let third = member(programs, "http", &format!("{name}3"), "g", http, &own);
        let fourth = member(programs, "http", &format!("{name}4"), "h", http, &[]);
        vec![first, second, third, fourth]
    };
    let ours = of(&lab.frps, "a", nobody, nobody);
    let _ours = server.client(lab, &lab.frps, ours).await?;
    let other = of(&lab.frpc, "b", here, web.address);
    let _other = server.client(lab, &lab.frpc, other).await?;
    for port in [stock, configured] {
        for _ in 0..6 {
            assert_eq!(ask(port, b"now!", 5).await?, b"bnow!");
        }
    }
    for host in ["g.test", "h.test"] {
        // Small, and more than is kept.
        for len in [10, 200_000] {
            for _ in 0..4 {
                let mut user = User::connect(server.vhost).await?;
                let head =
                    format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n");
                user.send(head + &"x".repeat(len)).await?;
                let answer = user.answer().await?;
                assert_eq!(backend(&answer)?, "b");
                assert!(answer.ends_with(&"x".repeat(10)), "{host}: {len}");
            }
        }
    }
    Ok(())
}

/// Connections that last move to a member that has joined, the oldest first.
async fn shed(lab: &Lab) -> Outcome {
    const USERS: usize = 400;
    let server = Server::start(lab, |setup| setup).await?;
    let remote = ports::free();
    let here: SocketAddr = (Ipv4Addr::LOCALHOST, named_service("a").await?).into();
    let of = |programs: &Programs, name: &str| {
        let mut proxy = member(programs, "tcp", name, "g", here, &[]);
        proxy.keys.set("remotePort", remote);
        vec![proxy]
    };
    let _first = server.client(lab, &lab.frps, of(&lab.frps, "a")).await?;
    let mut users = Vec::new();
    for _ in 0..USERS {
        let mut user = TcpStream::connect((Ipv4Addr::LOCALHOST, remote)).await?;
        within("a name", LIMIT, user.read_exact(&mut [0])).await??;
        users.push(user);
    }
    let _second = server.client(lab, &lab.frpc, of(&lab.frpc, "b")).await?;
    let order = async |percent: f64| {
        let path = "/api/v2/lb/groups/tcp/g/shed";
        let body = format!("{{\"percentPerSecond\": {percent}}}");
        managed::ask(server.web, "POST", path, &body).await
    };
    assert_eq!(order(0.6).await?.status, 400);
    let answer = order(0.5).await?;
    assert!(answer.body.contains("\"shedding\":0.5"), "{}", answer.body);
    for user in &mut users[..3] {
        assert_eq!(read_all(user, LIMIT).await?, b"");
    }
    let answer = order(0.0).await?;
    assert!(!answer.body.contains("shedding"), "{}", answer.body);
    // Whoever has not been moved has noticed nothing.
    for user in &mut users[USERS / 2..] {
        user.write_all(b"x").await?;
        within("an echo", LIMIT, user.read_exact(&mut [0])).await??;
    }
    Ok(())
}

/// A service's agent, and what it says to whoever comes.
struct Agent {
    port: u16,
    line: Arc<Mutex<&'static str>>,
    asked: Arc<AtomicUsize>,
}

impl Agent {
    async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let agent = Self {
            port: listener.local_addr()?.port(),
            line: Arc::new(Mutex::new("up")),
            asked: Arc::default(),
        };
        let (line, asked) = (agent.line.clone(), agent.asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let line = *line.lock().expect("nobody panics");
                let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(agent)
    }

    fn says(&self, line: &'static str) {
        *self.line.lock().expect("nobody panics") = line;
    }
}

/// What the agent of our client's service says decides about its users.
async fn agent(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let (a, b) = (Backend::start("a").await?, Backend::start("b").await?);
    let agent = Agent::start().await?;
    let port = agent.port.to_string();
    let mut keys = vec![("weight", "4")];
    let second = member(&lab.frpc, "http", "b", "g", b.address, &keys);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    keys.extend([("agent.port", &*port), ("agent.interval", "100ms")]);
    let first = member(&lab.frps, "http", "a", "g", a.address, &keys);
    let mut frpc = server.client(lab, &lab.frps, vec![first]).await?;
    let becomes = async |line, state: &str, weight: f64| {
        agent.says(line);
        until(line, LIMIT, async || {
            let group = server.group("http", "g").await.ok()?;
            let group: serde_json::Value = serde_json::from_str(&group).ok()?;
            let members = group["data"]["members"].as_array()?;
            let first = members.iter().find(|member| member["id"] == "a")?;
            let weighs = first["effectiveWeight"].as_f64() == Some(weight);
            (first["state"] == state && weighs).then_some(())
        })
        .await
    };
    becomes("50%", "up", 2.0).await?;
    for (line, state) in [("down", "down"), ("up drain", "draining")] {
        becomes(line, state, 2.0).await?;
        for _ in 0..6 {
            assert_eq!(backend(&server.get("g.test", "/", "").await?)?, "b");
        }
    }
    becomes("ready weight:0", "up", 0.0).await?;
    becomes("100%", "up", 4.0).await?;
    // It holds for whoever comes back.
    agent.says("75%");
    frpc.kill()?;
    drop(frpc);
    let first = member(&lab.frps, "http", "a", "g", a.address, &keys);
    let _frpc = server.client(lab, &lab.frps, vec![first]).await?;
    becomes("75%", "up", 3.0).await
}

/// A server that does not ask for it hears nothing of an agent.
async fn agent_unheard(lab: &Lab) -> Outcome {
    let agent = Agent::start().await?;
    let setup = lab.setup();
    let table = format!(
        "{{ group = \"g\", agent.port = {}, agent.interval = \"100ms\" }}",
        agent.port
    );
    let pair = setup
        .proxy("loadBalancer", Value::Toml(table))
        .start()
        .await?;
    pair.echo().await?;
    let asks = lab.frps.maker == Maker::Ours;
    agent.says("10%");
    if asks {
        let asked = agent.asked.load(Ordering::Relaxed) + 2;
        until("questions", LIMIT, async || {
            (agent.asked.load(Ordering::Relaxed) >= asked).then_some(())
        })
        .await?;
    } else {
        assert_eq!(agent.asked.load(Ordering::Relaxed), 0);
    }
    pair.echo().await
}

/// Users who ask without a pause until they are told to stop; how many there were, and what went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: tokio::task::JoinSet<Outcome<BTreeMap<String, usize>>>,
}

impl Load {
    fn start(vhost: SocketAddr) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (stop, done) = (stop.clone(), done.clone());
            tasks.spawn(async move {
                let mut picks = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    let mut user = User::connect(vhost).await?;
                    for _ in 0..10 {
                        user.send("GET / HTTP/1.1\r\nHost: g.test\r\n\r\n").await?;
                        let answer = user.answer().await?;
                        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                        *picks.entry(backend(&answer)?).or_default() += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(picks)
            });
        }
        Self { stop, done, tasks }
    }

    /// Waits until so many more have been answered.
    async fn more(&mut self, n: usize) -> Outcome {
        let goal = self.done.load(Ordering::Relaxed) + n;
        until("more answers", LIMIT, async || {
            // A user who failed has ended.
            let failed = self.tasks.len() < 4;
            (failed || self.done.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await
    }

    async fn end(mut self) -> Outcome<BTreeMap<String, usize>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        while let Some(picks) = self.tasks.join_next().await {
            for (name, n) in picks?? {
                *all.entry(name).or_default() += n;
            }
        }
        Ok(all)
    }
}

async fn killed(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let (a, b) = (Backend::start("a").await?, Backend::start("b").await?);
    let keys = [("strategy", "least-request")];
    let first = member(&lab.frps, "http", "a", "g", a.address, &keys);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let second = || vec![member(&lab.frpc, "http", "b", "g", b.address, &keys)];
    let mut load = Load::start(server.vhost);
    for _ in 0..3 {
        let mut other = server.client(lab, &lab.frpc, second()).await?;
        load.more(200).await?;
        other.kill()?;
        load.more(100).await?;
    }
    let picks = load.end().await?;
    assert_eq!(picks.len(), 2, "{picks:?}");
    Ok(())
}

/// Replicas of one client: 1, 3, 1.
async fn scaled(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let mut backends = Vec::new();
    for name in ["a", "b", "c"] {
        backends.push(Backend::start(name).await?);
    }
    let replica = async |i: usize| {
        let programs = if i == 0 { &lab.frps } else { &lab.frpc };
        let keys = [("replicas", "true"), ("strategy", "least-request")];
        let proxy = member(programs, "http", "web", "g", backends[i].address, &keys);
        server.client(lab, programs, vec![proxy]).await
    };
    let mut first = replica(0).await?;
    let mut load = Load::start(server.vhost);
    load.more(50).await?;
    let mut second = replica(1).await?;
    let _third = replica(2).await?;
    load.more(300).await?;
    // The name stays closed to who is no replica.
    let stranger = member(&lab.frps, "http", "web", "g", backends[0].address, &[]);
    let mut stranger = server.client_of(lab, &lab.frps, vec![stranger])?;
    stranger.logs("proxy [web] already exists").await?;
    stranger.kill()?;
    second.kill()?;
    load.more(100).await?;
    first.kill()?;
    load.more(100).await?;
    let picks = load.end().await?;
    assert_eq!(picks.len(), 3, "{picks:?}");
    Ok(())
}

async fn drained(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let (a, b) = (Backend::start("a").await?, Backend::start("b").await?);
    let first = member(&lab.frps, "http", "a", "g", a.address, &[]);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let second = member(&lab.frpc, "http", "b", "g", b.address, &[]);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    let picks = async || -> Outcome<String> {
        let mut picks = String::new();
        for _ in 0..4 {
            picks += &backend(&server.get("g.test", "/", "").await?)?;
        }
        Ok(picks)
    };
    assert_eq!(picks().await?, "baba");
    let shown = server
        .change("POST", "a/drain", "{\"timeout\": 60}")
        .await?;
    assert!(shown.contains("\"state\":\"draining\""), "{shown}");
    assert_eq!(picks().await?, "bbbb");
    server
        .change("PATCH", "b", "{\"state\": \"disabled\"}")
        .await?;
    let answer = server.get("g.test", "/", "").await?;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("retry-after: 1\n"), "{answer}");
    assert!(
        answer.ends_with("Service Unavailable: all members are drained\n"),
        "{answer}"
    );
    server
        .change("PATCH", "a", "{\"state\": null, \"weight\": 3}")
        .await?;
    server.change("PATCH", "b", "{\"state\": null}").await?;
    let shown = server.group("http", "g").await?;
    assert!(shown.contains("\"override\":{\"weight\":3"), "{shown}");
    let picks = [picks().await?, picks().await?].concat();
    assert_eq!(picks.matches('a').count(), 6, "{picks}");
    let missing = managed::ask(server.web, "GET", "/api/v2/lb/groups/http/x", "").await?;
    assert_eq!(missing.status, 404);
    Ok(())
}

async fn checked(lab: &Lab) -> Outcome {
    let server = Server::start(lab, |setup| setup).await?;
    let alive = Backend::start("a").await?;
    let dead: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free()).into();
    let keys = [
        ("check.type", "tcp"),
        ("check.interval", "1s"),
        ("check.timeout", "900ms"),
        ("check.fall", "1"),
    ];
    let first = member(&lab.frps, "http", "a", "g", alive.address, &keys);
    let _first = server.client(lab, &lab.frps, vec![first]).await?;
    let second = member(&lab.frpc, "http", "b", "g", dead, &keys);
    let _second = server.client(lab, &lab.frpc, vec![second]).await?;
    until("the dead one is down", LIMIT, async || {
        let shown = server.group("http", "g").await.ok()?;
        shown
            .contains("\"state\":\"down\",\"cause\":\"check\"")
            .then_some(())
    })
    .await?;
    for _ in 0..6 {
        assert_eq!(backend(&server.get("g.test", "/", "").await?)?, "a");
    }
    Ok(())
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
