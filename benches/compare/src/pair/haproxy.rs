//! `HAProxy` before the members of a group. Users reach them without a tunnel, so that figures differ by more than the
//! balancing: what is to be compared is how far a slow member shows.

use super::{Ends, Plan, absolute};
use crate::case::{MEMBERS, Proxies, Strategy, Tunnel};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FILE: &str = "haproxy.cfg";

/// The program.
#[derive(Debug, Clone)]
pub(crate) struct Haproxy(PathBuf);

/// How a group of `tunnel` picks, if it is one.
pub(super) fn strategy(tunnel: Tunnel) -> Option<Strategy> {
    match tunnel.proxies {
        Proxies::Group(strategy) => Some(strategy),
        _ => None,
    }
}

impl Haproxy {
    pub(super) fn new(path: &Path) -> Self {
        Self(absolute(path))
    }

    pub(super) fn programs(&self) -> Vec<(&'static str, &Path)> {
        vec![("haproxy", &self.0)]
    }

    pub(super) fn plan(&self, tunnel: Tunnel, ends: Ends) -> Vec<Plan> {
        vec![Plan {
            role: "haproxy",
            program: self.0.clone(),
            arguments: vec!["-db".into(), "-f".into(), FILE.into()],
            files: vec![(FILE.to_owned(), config(tunnel, ends))],
            listens: Some(ends.user),
        }]
    }
}

fn config(tunnel: Tunnel, ends: Ends) -> String {
    let balance = match strategy(tunnel) {
        Some(Strategy::LeastRequest) => "leastconn",
        Some(Strategy::Ewma) => "random(2)",
        Some(Strategy::RoundRobin) | None => "roundrobin",
    };
    let mut text = format!(
        "defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend users
    bind 127.0.0.1:{}
    default_backend members
backend members
    balance {balance}
    http-reuse always
",
        ends.user
    );
    for member in 0..MEMBERS {
        let address = if member == 0 {
            ends.local.slow
        } else {
            ends.local.service
        };
        let _ = writeln!(text, "    server member{member} {address}");
    }
    text
}
