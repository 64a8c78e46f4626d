//! What files may say but this version does not do. It is refused by name, since ignoring it would open what should be
//! closed or leave dead what should work; what only adds a view gives a warning. Lines leave this file as features arrive.

use std::fmt::Display;

use super::places::Failures;
use super::raw::client::{ClientConfig, ProxyConfig, ProxyKind};
use super::raw::server::ServerConfig;
use super::units;

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
    refuse(
        c.ssh_tunnel_gateway.bind_port != 0,
        "sshTunnelGateway.bindPort",
    );
    refuse(!c.http_plugins.is_empty(), "httpPlugins");
    auth_method(&c.auth.method, failures);
}

fn auth_method(method: &str, failures: &mut Failures<'_>) {
    if method == "oidc" {
        failures.push("auth.method", not_yet("auth.method: \"oidc\""));
    }
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
    auth_method(&c.auth.method, failures);
    if !c.virtual_net.address.is_empty() {
        failures.push("virtualNet.address", not_yet("virtualNet.address"));
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
    let transport = &base.transport;
    // In mode "server" the limit is the server's affair.
    let limited = transport.bandwidth_limit_mode != "server"
        && units::bandwidth(&transport.bandwidth_limit) != Ok(None);
    for (holds, key) in [
        (!base.health_check.type_.is_empty(), "healthCheck"),
        (limited, "transport.bandwidthLimit"),
    ] {
        refuse(holds, key, key);
    }
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
