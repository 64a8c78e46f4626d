//! What members say of themselves, and what checks find.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use conformance::config::Value;
use conformance::http::Backend;
use conformance::peers::Maker;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Server, WHY, assert_shares, backend, member};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("balancing/reported", reported).our_frps(WHY),
        Case::pair("balancing/agent", agent).our_frps(WHY),
        Case::pair("balancing/agent_unheard", agent_unheard)
            .our_frpc("upstream's client asks no agents"),
        Case::pair("balancing/checked", checked).our_frps(WHY),
    ]
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
