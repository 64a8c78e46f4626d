//! Who gets how many users, by strategy, and who stays with whom.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::http::Backend;
use conformance::managed;
use conformance::peers::Programs;
use conformance::vhost::{ask, named_service};
use conformance::{Case, Lab, Outcome, ports};

use super::{Server, WHY, assert_shares, backend, member};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("balancing/http", strategies_http).our_frps(WHY),
        Case::pair("balancing/tcp", strategies_tcp).our_frps(WHY),
        Case::pair("balancing/sticky", sticky).our_frps(WHY),
    ]
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
