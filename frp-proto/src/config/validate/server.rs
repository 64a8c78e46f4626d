//! Validation of frps.

use super::{auth, balancing, log, port, web_server};
use crate::config::places::Failures;
use crate::config::raw::server::ServerConfig;
use crate::config::{UnsafeFeatures, units};

const OPS: [&str; 6] = [
    "Login",
    "NewProxy",
    "CloseProxy",
    "Ping",
    "NewWorkConn",
    "NewUserConn",
];

/// Listeners that `proxyProtocol.ports` may name.
const PORTS: [&str; 5] = ["bind", "http", "https", "tcpmux", "proxy"];

/// All failures, in the specification's order; empty = valid. What is valid but not done by this version fails last.
pub fn validate_server(c: &ServerConfig, allowed: &UnsafeFeatures) -> Vec<String> {
    let mut failures = Failures::new(&c.places);
    auth(
        &c.auth.method,
        &c.auth.additional_scopes,
        &c.auth.token,
        c.auth.token_source.as_ref(),
        allowed,
        &mut failures,
    );
    log(&c.log, &mut failures);
    web_server(&c.web_server, allowed, &mut failures);
    for (key, value) in [
        ("bindPort", c.bind_port),
        ("kcpBindPort", c.kcp_bind_port),
        ("quicBindPort", c.quic_bind_port),
        ("vhostHTTPPort", c.vhost_http_port),
        ("vhostHTTPSPort", c.vhost_https_port),
        ("tcpmuxHTTPConnectPort", c.tcpmux_http_connect_port),
    ] {
        // Upstream's text spells one key in its own way.
        let shown = key.replace("tcpmux", "tcpMux");
        port(key, &shown, value, &mut failures);
    }
    for plugin in &c.http_plugins {
        if plugin.ops.iter().any(|op| !OPS.contains(&op.as_str())) {
            let ops = OPS.join(" ");
            failures.push(
                "httpPlugins",
                format_args!("invalid http plugin ops, optional values are [{ops}]"),
            );
        }
    }
    proxy_protocol(c, &mut failures);
    super::congestion(&c.transport.quic, &mut failures);
    balancing::server(c, &mut failures);
    failures.into_texts()
}

/// A key that upstream does not have.
fn proxy_protocol(c: &ServerConfig, failures: &mut Failures<'_>) {
    const CIDRS_KEY: &str = "proxyProtocol.trustedCIDRs";
    const PORTS_KEY: &str = "proxyProtocol.ports";
    let (cidrs, ports) = (&c.proxy_protocol.trusted_cidrs, &c.proxy_protocol.ports);
    for cidr in cidrs {
        if units::network(cidr).is_none() {
            failures.push(
                CIDRS_KEY,
                format_args!(
                    "{CIDRS_KEY}: {cidr:?} is neither a network like 10.0.0.0/8 nor an address"
                ),
            );
        }
    }
    if ports.iter().any(|p| !PORTS.contains(&p.as_str())) {
        let values = PORTS.join(" ");
        failures.push(
            PORTS_KEY,
            format_args!("invalid {PORTS_KEY}, optional values are [{values}]"),
        );
    }
    if cidrs.is_empty() != ports.is_empty() {
        failures.push(
            "proxyProtocol",
            format_args!("{CIDRS_KEY} and {PORTS_KEY} need each other"),
        );
    }
    let listed = |name: &str| ports.iter().any(|p| p == name);
    for (name, port) in [("http", c.vhost_http_port), ("https", c.vhost_https_port)] {
        let shared = port == c.bind_port && c.bind_addr == c.proxy_bind_addr;
        if shared && listed(name) != listed("bind") {
            failures.push(
                PORTS_KEY,
                format_args!("{PORTS_KEY}: \"bind\" and {name:?} are one port, list both or none"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::server_from_text;

    #[test]
    fn balancers_in_front() {
        const KNOWN: &str = "trustedCIDRs = [\"10.0.0.0/8\", \"fd00::1\"]";
        for (text, failure) in [
            ("", ""),
            ("[proxyProtocol]", ""),
            (
                "ports = [\"bind\", \"http\", \"https\", \"tcpmux\", \"proxy\"]",
                "",
            ),
            (
                "ports = [\"proxy\"]\ntrustedCIDRs = [\"10.0.0.0/8\", \"lb\"]",
                "proxyProtocol.trustedCIDRs: \"lb\" is neither a network like 10.0.0.0/8 nor an address\n  --> f.toml:5:16: `proxyProtocol.trustedCIDRs`",
            ),
            (
                "ports = [\"udp\"]",
                "invalid proxyProtocol.ports, optional values are [bind http https tcpmux proxy]\n  --> f.toml:4:9: `proxyProtocol.ports`",
            ),
            (
                "ports = []",
                "proxyProtocol.trustedCIDRs and proxyProtocol.ports need each other\n  --> f.toml:3:1: `proxyProtocol`",
            ),
            (
                "ports = [\"https\"]",
                "proxyProtocol.ports: \"bind\" and \"https\" are one port, list both or none\n  --> f.toml:4:9: `proxyProtocol.ports`",
            ),
            (
                "ports = [\"bind\"]",
                "proxyProtocol.ports: \"bind\" and \"https\" are one port, list both or none\n  --> f.toml:4:9: `proxyProtocol.ports`",
            ),
        ] {
            let table = if text.contains("ports") && !text.contains("trustedCIDRs") {
                format!("[proxyProtocol]\n{text}\n{KNOWN}")
            } else if text.contains("ports") {
                format!("[proxyProtocol]\n{text}")
            } else {
                text.to_owned()
            };
            let file = format!("vhostHTTPSPort = 7000\n\n{table}");
            let loaded = server_from_text(&file, Path::new("f.toml"), true, &BTreeMap::new());
            let failures = validate_server(&loaded.unwrap().config, &UnsafeFeatures::default());
            assert_eq!(failures.join("\n"), failure, "{text}");
        }
    }
}
