//! Members that come and go while users ask.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use conformance::http::{Backend, User};
use conformance::managed;
use conformance::peers::Programs;
use conformance::raw::read_all;
use conformance::vhost::named_service;
use conformance::wait::{LIMIT, until, within};
use conformance::{Case, Lab, Outcome, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Server, WHY, backend, member};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("balancing/killed", killed).our_frps(WHY),
        Case::pair("balancing/scaled", scaled).our_frps(WHY),
        Case::pair("balancing/drained", drained).our_frps(WHY),
        Case::pair("balancing/shed", shed).our_frps(WHY),
    ]
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
