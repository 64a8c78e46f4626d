//! What files may say but this version does not do. It is refused by name, since ignoring it would open what should be
//! closed or leave dead what should work; what only adds a view gives a warning. Lines leave this file as features arrive.

use super::raw::client::{ClientConfig, ProxyConfig, ProxyKind};
use super::raw::server::ServerConfig;
use super::units;

/// The texts of those conditions that hold.
fn named<const N: usize>(conditions: [(bool, String); N]) -> impl Iterator<Item = String> {
    conditions
        .into_iter()
        .filter_map(|(holds, text)| holds.then_some(text))
}

fn not_yet(what: impl std::fmt::Display) -> String {
    format!("{what} is not supported by this version yet")
}

/// Failures of an otherwise valid server.
pub(super) fn server(c: &ServerConfig) -> Vec<String> {
    named([
        (c.auth.method == "oidc", not_yet("auth.method: \"oidc\"")),
        (c.kcp_bind_port != 0, not_yet("kcpBindPort")),
        (c.quic_bind_port != 0, not_yet("quicBindPort")),
        (
            c.ssh_tunnel_gateway.bind_port != 0,
            not_yet("sshTunnelGateway.bindPort"),
        ),
        (!c.http_plugins.is_empty(), not_yet("httpPlugins")),
    ])
    .collect()
}

/// What a valid server is told and starts without.
pub fn server_warnings(c: &ServerConfig) -> Vec<String> {
    let without = |key: &str, effect: &str| format!("{}: {effect}", not_yet(key));
    named([
        (
            c.web_server.port != 0,
            without("webServer.port", "no dashboard or API is served"),
        ),
        (
            c.enable_prometheus,
            without("enablePrometheus", "no metrics are served"),
        ),
        (
            c.vhost_http_port != 0,
            without("vhostHTTPPort", "http proxies are refused"),
        ),
        (
            c.vhost_https_port != 0,
            without("vhostHTTPSPort", "https proxies are refused"),
        ),
        (
            c.tcpmux_http_connect_port != 0,
            without("tcpmuxHTTPConnectPort", "tcpmux proxies are refused"),
        ),
    ])
    .collect()
}

/// Failures of an otherwise valid client.
pub(super) fn client(c: &ClientConfig) -> Vec<String> {
    let transport = &c.transport;
    named([
        (c.auth.method == "oidc", not_yet("auth.method: \"oidc\"")),
        (
            transport.protocol != "tcp",
            not_yet(format_args!("transport.protocol: {:?}", transport.protocol)),
        ),
        (
            !transport.proxy_url.is_empty(),
            not_yet("transport.proxyURL (or http_proxy of the environment)"),
        ),
        (
            !c.virtual_net.address.is_empty(),
            not_yet("virtualNet.address"),
        ),
        (!c.dns_server.is_empty(), not_yet("dnsServer")),
    ])
    .chain(c.proxies.iter().flat_map(proxy))
    .chain(c.visitors.iter().map(|v| {
        not_yet(format_args!(
            "visitor [{}]: type {:?}",
            v.base.name, v.base.type_
        ))
    }))
    .collect()
}

fn proxy(c: &ProxyConfig) -> impl Iterator<Item = String> {
    let key = |key: &str| not_yet(format_args!("proxy [{}]: {key}", c.base.name));
    let plugin = c.base.plugin.as_ref().map_or("", |p| p.type_name());
    let limit = &c.base.transport.bandwidth_limit;
    named([
        (
            !matches!(c.kind, ProxyKind::Tcp { .. }),
            key(&format!("type {:?}", c.base.type_)),
        ),
        (!plugin.is_empty(), key(&format!("plugin {plugin:?}"))),
        (!c.base.health_check.type_.is_empty(), key("healthCheck")),
        (
            c.base.transport.bandwidth_limit_mode != "server"
                && units::bandwidth(limit) != Ok(None),
            key("transport.bandwidthLimit (in mode \"client\")"),
        ),
    ])
}

/// What a valid client is told and starts without.
pub(super) fn client_warnings(c: &ClientConfig) -> impl Iterator<Item = String> {
    named([
        (
            c.web_server.port != 0,
            format!("{}: no admin API is served", not_yet("webServer.port")),
        ),
        (
            !c.store.path.is_empty(),
            format!("{}: stored proxies are not started", not_yet("store.path")),
        ),
    ])
}
