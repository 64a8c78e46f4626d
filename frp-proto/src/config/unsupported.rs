//! What files may say but this version does not do. It is refused by name, since ignoring it would open what should be
//! closed or leave dead what should work; what only adds a view gives a warning. Lines leave this file as features arrive.

use std::fmt::Display;

use super::places::Failures;
use super::raw::client::{ClientConfig, ProxyConfig, ProxyKind};
use super::raw::server::ServerConfig;

fn not_yet(what: impl Display) -> String {
    format!("{what} is not supported by this version yet")
}

/// Failures of an otherwise valid server.
pub(super) fn server(c: &ServerConfig, failures: &mut Failures<'_>) {
    let mut refuse = |holds: bool, key: &str| {
        if holds {
            failures.push(key, not_yet(key));
        }
    };
    refuse(c.kcp_bind_port != 0, "kcpBindPort");
    refuse(c.quic_bind_port != 0, "quicBindPort");
}

/// What a valid server is told and starts without.
pub fn server_warnings(c: &ServerConfig) -> Vec<String> {
    [
        (
            c.web_server.port != 0,
            "webServer.port",
            "no dashboard or API is served",
        ),
        (
            c.enable_prometheus,
            "enablePrometheus",
            "no metrics are served",
        ),
        (
            c.vhost_http_port != 0,
            "vhostHTTPPort",
            "http proxies are refused",
        ),
        (
            c.vhost_https_port != 0,
            "vhostHTTPSPort",
            "https proxies are refused",
        ),
        (
            c.tcpmux_http_connect_port != 0,
            "tcpmuxHTTPConnectPort",
            "tcpmux proxies are refused",
        ),
    ]
    .into_iter()
    .filter(|(holds, ..)| *holds)
    .map(|(_, key, effect)| format!("{}: {effect}", not_yet(key)))
    .collect()
}

/// Failures of an otherwise valid client.
pub(super) fn client(c: &ClientConfig, failures: &mut Failures<'_>) {
    let transport = &c.transport;
    if transport.protocol != "tcp" {
        let what = format!("transport.protocol: {:?}", transport.protocol);
        failures.push("transport.protocol", not_yet(what));
    }
    if !transport.proxy_url.is_empty() {
        let what = "transport.proxyURL (or http_proxy of the environment)";
        failures.push("transport.proxyURL", not_yet(what));
    }
    if !c.virtual_net.address.is_empty() {
        failures.push("virtualNet.address", not_yet("virtualNet.address"));
    }
    if !c.dns_server.is_empty() {
        failures.push("dnsServer", not_yet("dnsServer"));
    }
    for p in &c.proxies {
        proxy(p, failures);
    }
    for v in &c.visitors {
        let (name, type_) = (&v.base.name, &v.base.type_);
        let what = format!("visitor [{name}]: type {type_:?}");
        failures.push(&format!("visitors[{name}].type"), not_yet(what));
    }
}

fn proxy(c: &ProxyConfig, failures: &mut Failures<'_>) {
    let name = &c.base.name;
    let mut refuse = |holds: bool, key: &str, what: &str| {
        if holds {
            let what = format!("proxy [{name}]: {what}");
            failures.push(&format!("proxies[{name}].{key}"), not_yet(what));
        }
    };
    let base = &c.base;
    let type_ = format!("type {:?}", base.type_);
    let refused = matches!(
        c.kind,
        ProxyKind::Udp { .. } | ProxyKind::Sudp(_) | ProxyKind::Xtcp(_)
    );
    refuse(refused, "type", &type_);
    if let Some(plugin) = &base.plugin {
        refuse(
            true,
            "plugin.type",
            &format!("plugin {:?}", plugin.type_name()),
        );
    }
    refuse(
        !base.health_check.type_.is_empty(),
        "healthCheck",
        "healthCheck",
    );
}

/// What a valid client is told and starts without.
pub(super) fn client_warnings(c: &ClientConfig) -> impl Iterator<Item = String> {
    [
        (
            c.web_server.port != 0,
            "webServer.port",
            "no admin API is served",
        ),
        (
            !c.store.path.is_empty(),
            "store.path",
            "stored proxies are not started",
        ),
    ]
    .into_iter()
    .filter(|(holds, ..)| *holds)
    .map(|(_, key, effect)| format!("{}: {effect}", not_yet(key)))
}
