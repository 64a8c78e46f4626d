//! Validation of frps.

use super::{auth, log, port, web_server};
use crate::config::places::Failures;
use crate::config::raw::server::ServerConfig;
use crate::config::{UnsafeFeatures, unsupported};

const OPS: [&str; 6] = [
    "Login",
    "NewProxy",
    "CloseProxy",
    "Ping",
    "NewWorkConn",
    "NewUserConn",
];

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
    web_server(&c.web_server, &mut failures);
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
    if failures.is_empty() {
        unsupported::server(c, &mut failures);
    }
    failures.into_texts()
}
