//! Users of members that do not do it: another one does.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::http::{Backend, User};
use conformance::managed;
use conformance::peers::Programs;
use conformance::vhost::{ask, client_hello, named_service};
use conformance::{Case, Lab, Outcome, ports};
use tokio::net::TcpListener;

use super::{Server, WHY, backend, member};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("balancing/hedged", hedged).our_frps(WHY),
        Case::pair("balancing/resent", resent).our_frps(WHY),
        Case::pair("balancing/unreached", unreached).our_frps(WHY),
    ]
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
