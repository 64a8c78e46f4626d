//! rathole: another reverse tunnel, one program for both ends, with its defaults but for what the case names.
//!
//! It has no mux: each user has a connection of its own between the two ends, from a pool. Where the case has TLS it uses
//! its `noise` transport, which needs no certificates; both encrypt, by different ciphers. It has nothing like HTTP routes,
//! groups, or layers of a single proxy.

use super::{Ends, Plan, absolute};
use crate::case::{Proxies, Tunnel};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The shared secret, which authenticates every service.
const TOKEN: &str = "compare-token";
/// The server's X25519 key pair: the private half is nobody's secret but the bytes `compare-` four times.
const PRIVATE_KEY: &str = "Y29tcGFyZS1jb21wYXJlLWNvbXBhcmUtY29tcGFyZS0=";
const PUBLIC_KEY: &str = "7z3Vo2+Lc2gSbkUeAvIkarfykVjygyZY0e+wS22x3w4=";

/// The program.
#[derive(Debug, Clone)]
pub(crate) struct Rathole(PathBuf);

/// What lies between the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Nothing but the TCP connections.
    Tcp,
    /// Noise over them, by the default pattern: the server has a key, the client knows it.
    Noise,
}

/// The transport that is like `tunnel`, if one is.
pub(super) fn transport(tunnel: Tunnel) -> Option<Transport> {
    match tunnel {
        Tunnel {
            tls,
            encryption: false,
            compression: false,
            proxies: Proxies::Tcp | Proxies::TcpAndUdp,
        } => Some(if tls {
            Transport::Noise
        } else {
            Transport::Tcp
        }),
        _ => None,
    }
}

impl Rathole {
    pub(super) fn new(path: &Path) -> Self {
        Self(absolute(path))
    }

    pub(super) fn programs(&self) -> Vec<(&'static str, &Path)> {
        vec![("rathole", &self.0)]
    }

    pub(super) fn plan(&self, tunnel: Tunnel, ends: Ends) -> Vec<Plan> {
        let plan = |role: &'static str, flag: &str, content: String, listens| {
            let file = format!("{role}.toml");
            Plan {
                role,
                program: self.0.clone(),
                arguments: vec![flag.into(), file.clone().into()],
                files: vec![(file, content)],
                listens,
            }
        };
        let (server, client) = (server_toml(tunnel, ends), client_toml(tunnel, ends));
        vec![
            plan("rathole-server", "--server", server, Some(ends.server)),
            plan("rathole-client", "--client", client, None),
        ]
    }
}

fn server_toml(tunnel: Tunnel, ends: Ends) -> String {
    let mut text = format!(
        r#"[server]
bind_addr = "127.0.0.1:{}"
default_token = "{TOKEN}"
"#,
        ends.server
    );
    if transport(tunnel) == Some(Transport::Noise) {
        noise(&mut text, "server", "local_private_key", PRIVATE_KEY);
    }
    let users = SocketAddr::from(([127, 0, 0, 1], ends.user));
    services(&mut text, "server", "bind_addr", users, tunnel);
    text
}

fn client_toml(tunnel: Tunnel, ends: Ends) -> String {
    let mut text = format!(
        r#"[client]
remote_addr = "127.0.0.1:{}"
default_token = "{TOKEN}"
"#,
        ends.server
    );
    if transport(tunnel) == Some(Transport::Noise) {
        noise(&mut text, "client", "remote_public_key", PUBLIC_KEY);
    }
    let service = ends.local.service;
    services(&mut text, "client", "local_addr", service, tunnel);
    text
}

fn noise(text: &mut String, end: &str, key: &str, value: &str) {
    let _ = write!(
        text,
        r#"
[{end}.transport]
type = "noise"
[{end}.transport.noise]
{key} = "{value}"
"#
    );
}

/// The services, under the same names at both ends.
fn services(text: &mut String, end: &str, key: &str, address: SocketAddr, tunnel: Tunnel) {
    let types: &[&str] = match tunnel.proxies {
        Proxies::TcpAndUdp => &["tcp", "udp"],
        _ => &["tcp"],
    };
    for kind in types {
        let _ = write!(
            text,
            r#"
[{end}.services.compare-{kind}]
type = "{kind}"
{key} = "{address}"
"#
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CASES;
    use crate::load::Addresses;

    fn tunnel(name: &str) -> Tunnel {
        CASES.iter().find(|case| case.name == name).unwrap().tunnel
    }

    #[test]
    fn plain_tunnels_are_tcp_and_those_with_tls_noise() {
        for (name, expected) in [
            ("plain-stream1", Some(Transport::Tcp)),
            ("stream16-up", Some(Transport::Noise)),
            ("udp-45k", Some(Transport::Noise)),
            ("enc-stream1", None),
            ("comp-stream1", None),
            ("http", None),
            ("group-ewma", None),
        ] {
            assert_eq!(transport(tunnel(name)), expected, "{name}");
        }
    }

    #[test]
    fn both_ends_have_the_same_services_and_what_the_transport_needs() {
        let ends = Ends {
            server: 1,
            user: 2,
            local: Addresses {
                service: "127.0.0.1:3".parse().unwrap(),
                slow: "127.0.0.1:4".parse().unwrap(),
            },
        };
        let both = |name| {
            (
                server_toml(tunnel(name), ends),
                client_toml(tunnel(name), ends),
            )
        };
        let (server, client) = both("plain-stream1");
        assert!(!format!("{server}{client}").contains("transport"));
        assert!(server.contains("[server.services.compare-tcp]"), "{server}");
        assert!(server.contains("bind_addr = \"127.0.0.1:2\""), "{server}");
        assert!(client.contains("[client.services.compare-tcp]"), "{client}");
        assert!(client.contains("local_addr = \"127.0.0.1:3\""), "{client}");
        assert!(!format!("{server}{client}").contains("udp"));

        let (server, client) = both("udp-45k");
        assert!(server.contains("local_private_key"), "{server}");
        assert!(client.contains("remote_public_key"), "{client}");
        for text in [server, client] {
            assert!(text.contains("type = \"noise\""), "{text}");
            assert!(text.contains("compare-tcp]"), "{text}");
            assert!(text.contains("compare-udp]\ntype = \"udp\""), "{text}");
        }
    }
}
