//! frps and frpc: one TCP proxy (and one of UDP where a case needs it), or HTTP proxies, token authentication, upstream's
//! defaults but for what the case names.

use super::{Ends, Plan, absolute};
use crate::case::{MEMBERS, Proxies, Strategy, Tunnel};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The shared secret; any will do, authentication is on so that its cost is part of every login and work connection.
const TOKEN: &str = "compare-token";

/// The two programs.
#[derive(Debug, Clone)]
pub(crate) struct Frp {
    frps: PathBuf,
    frpc: PathBuf,
}

impl Frp {
    /// `frps` and `frpc` in `directory`.
    pub(super) fn in_directory(directory: &Path) -> Self {
        let program = |name: &str| {
            absolute(&directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
        };
        Self {
            frps: program("frps"),
            frpc: program("frpc"),
        }
    }

    /// Reads `DIR` or `frps:PATH,frpc:PATH` (in either order).
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !text.starts_with("frps:") && !text.starts_with("frpc:") {
            return Some(Self::in_directory(Path::new(text)));
        }
        let part = |role: &str| text.split(',').find_map(|part| part.strip_prefix(role));
        Some(Self {
            frps: absolute(Path::new(part("frps:")?)),
            frpc: absolute(Path::new(part("frpc:")?)),
        })
    }

    pub(super) fn programs(&self) -> Vec<(&'static str, &Path)> {
        vec![("frps", &self.frps), ("frpc", &self.frpc)]
    }

    pub(super) fn plan(&self, tunnel: Tunnel, ends: Ends) -> Vec<Plan> {
        let plan = |role: &'static str, program: &Path, content: String, listens| {
            let file = format!("{role}.toml");
            Plan {
                role,
                program: program.to_owned(),
                arguments: vec!["-c".into(), file.clone().into()],
                files: vec![(file, content)],
                listens,
            }
        };
        vec![
            plan(
                "frps",
                &self.frps,
                frps_toml(tunnel, ends),
                Some(ends.server),
            ),
            plan("frpc", &self.frpc, frpc_toml(tunnel, ends), None),
        ]
    }
}

fn frps_toml(tunnel: Tunnel, ends: Ends) -> String {
    let mut text = format!(
        r#"bindAddr = "127.0.0.1"
bindPort = {}
proxyBindAddr = "127.0.0.1"
auth.token = "{TOKEN}"
log.to = "frps.log"
log.level = "warn"
"#,
        ends.server
    );
    if tunnel.proxies.is_http() {
        let _ = writeln!(text, "vhostHTTPPort = {}", ends.user);
    }
    text
}

/// Domains of a proxy that nobody asks for, and locations of each domain.
const DOMAINS: u32 = 10;
const LOCATIONS: u32 = 10;

/// Proxies with `routes` routes in all.
fn other_routes(text: &mut String, routes: u32, ends: Ends) {
    let proxies = routes.div_ceil(DOMAINS * LOCATIONS);
    for proxy in 0..proxies {
        let domains: Vec<String> = (0..DOMAINS)
            .map(|d| format!("www.d{d}.p{proxy}.test"))
            .collect();
        let locations: Vec<String> = (0..LOCATIONS).map(|l| format!("/location/{l}")).collect();
        let _ = write!(
            text,
            r#"
[[proxies]]
name = "other{proxy}"
type = "http"
localIP = "{}"
localPort = {}
customDomains = {domains:?}
locations = {locations:?}
"#,
            ends.local.service.ip(),
            ends.local.service.port()
        );
    }
}

/// The members of a group. What only ours knows is said in metadata, which upstream ignores.
fn members(text: &mut String, strategy: Strategy, tunnel: Tunnel, ends: Ends) {
    let strategy = match strategy {
        Strategy::RoundRobin => "round-robin",
        Strategy::LeastRequest => "least-request",
        Strategy::Ewma => "ewma",
    };
    for member in 0..MEMBERS {
        let address = if member == 0 {
            ends.local.slow
        } else {
            ends.local.service
        };
        let place = format!(
            r#"customDomains = ["127.0.0.1"]
loadBalancer.group = "compare"
metadatas."lb.strategy" = "{strategy}""#
        );
        let name = format!("member{member}");
        text.push_str(&proxy(&name, "http", address, &place, tunnel));
    }
}

fn frpc_toml(tunnel: Tunnel, ends: Ends) -> String {
    let mut text = format!(
        r#"serverAddr = "127.0.0.1"
serverPort = {}
loginFailExit = false
auth.token = "{TOKEN}"
log.to = "frpc.log"
log.level = "warn"
"#,
        ends.server
    );
    // TLS is upstream's default: only its absence is written.
    if !tunnel.tls {
        text.push_str("transport.tls.enable = false\n");
    }
    let service = ends.local.service;
    if let Proxies::Http(routes) = tunnel.proxies {
        other_routes(&mut text, routes.saturating_sub(1), ends);
        let domain = r#"customDomains = ["127.0.0.1"]"#;
        text.push_str(&proxy("compare-http", "http", service, domain, tunnel));
        return text;
    }
    if let Proxies::Group(strategy) = tunnel.proxies {
        members(&mut text, strategy, tunnel, ends);
        return text;
    }
    let port = format!("remotePort = {}", ends.user);
    text.push_str(&proxy("compare-tcp", "tcp", service, &port, tunnel));
    if tunnel.proxies == Proxies::TcpAndUdp {
        text.push_str(&proxy("compare-udp", "udp", service, &port, tunnel));
    }
    text
}

fn proxy(name: &str, kind: &str, to: SocketAddr, place: &str, tunnel: Tunnel) -> String {
    let mut text = format!(
        r#"
[[proxies]]
name = "{name}"
type = "{kind}"
localIP = "{}"
localPort = {}
{place}
"#,
        to.ip(),
        to.port(),
    );
    if tunnel.encryption {
        text.push_str("transport.useEncryption = true\n");
    }
    if tunnel.compression {
        text.push_str("transport.useCompression = true\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Addresses;

    #[test]
    fn only_what_the_case_names_is_written() {
        let ends = Ends {
            server: 1,
            user: 2,
            local: Addresses {
                service: "127.0.0.1:3".parse().unwrap(),
                slow: "127.0.0.1:4".parse().unwrap(),
            },
        };
        let tunnel = |tls, encryption, compression| Tunnel {
            tls,
            encryption,
            compression,
            proxies: Proxies::Tcp,
        };
        let default = frpc_toml(tunnel(true, false, false), ends);
        assert!(!default.contains("transport."), "{default}");
        let all = frpc_toml(tunnel(false, true, true), ends);
        for key in [
            "tls.enable = false",
            "useEncryption = true",
            "useCompression = true",
        ] {
            assert!(all.contains(key), "{all}");
        }
        let routes = |routes| Tunnel {
            proxies: Proxies::Http(routes),
            ..tunnel(true, false, false)
        };
        assert!(frps_toml(routes(1), ends).contains("vhostHTTPPort = 2"));
        let proxies = |n| {
            frpc_toml(routes(n), ends)
                .matches("type = \"http\"")
                .count()
        };
        assert_eq!([1, 2, 101, 1000].map(proxies), [1, 2, 2, 11]);
        assert!(!all.contains("udp"), "{all}");
        let group = Tunnel {
            proxies: Proxies::Group(Strategy::Ewma),
            ..tunnel(true, false, false)
        };
        let group = frpc_toml(group, ends);
        for (part, times) in [("\"ewma\"", 4), ("localPort = 4", 1), ("localPort = 3", 3)] {
            assert_eq!(group.matches(part).count(), times, "{group}");
        }
        let datagrams = Tunnel {
            proxies: Proxies::TcpAndUdp,
            ..tunnel(true, false, false)
        };
        assert!(frpc_toml(datagrams, ends).contains("type = \"udp\""));
    }
}
