//! What files may say but this version does not do. It is refused by name, since ignoring it would open what should be
//! closed or leave dead what should work; what only adds a view gives a warning. Lines leave this file as features arrive.

use std::fmt::Display;

use super::places::Failures;
use super::raw::client::{ClientConfig, PluginConfig, ProxyConfig, VisitorConfig, VisitorKind};
use super::raw::server::ServerConfig;

fn not_yet(what: impl Display) -> String {
    format!("{what} is not supported by this version yet")
}

/// What a valid server is told and starts without.
pub fn server_warnings(c: &ServerConfig) -> Vec<String> {
    [(
        c.web_server.port != 0 && !c.web_server.assets_dir.is_empty(),
        "webServer.assetsDir",
        "no files are served",
    )]
    .into_iter()
    .filter(|(holds, ..)| *holds)
    .map(|(_, key, effect)| format!("{}: {effect}", not_yet(key)))
    .collect()
}

/// Failures of an otherwise valid client.
pub(super) fn client(c: &ClientConfig, failures: &mut Failures<'_>) {
    if !c.virtual_net.address.is_empty() {
        failures.push("virtualNet.address", not_yet("virtualNet.address"));
    }
    for p in &c.proxies {
        proxy(p, failures);
    }
    for v in &c.visitors {
        visitor(v, failures);
    }
}

/// Failures of an otherwise valid visitor.
pub(super) fn visitor(c: &VisitorConfig, failures: &mut Failures<'_>) {
    let name = &c.base.name;
    // With sudp upstream ignores it.
    if c.base.plugin.is_some() && c.kind != VisitorKind::Sudp {
        let what = format!("visitor [{name}]: plugin");
        failures.push(&format!("visitors[{name}].plugin"), not_yet(what));
    }
}

/// Failures of an otherwise valid proxy.
pub(super) fn proxy(c: &ProxyConfig, failures: &mut Failures<'_>) {
    let name = &c.base.name;
    let mut refuse = |holds: bool, key: &str, what: &str| {
        if holds {
            let what = format!("proxy [{name}]: {what}");
            failures.push(&format!("proxies[{name}].{key}"), not_yet(what));
        }
    };
    let base = &c.base;
    let virtual_net = matches!(base.plugin, Some(PluginConfig::VirtualNet(_)));
    refuse(virtual_net, "plugin.type", "plugin \"virtual_net\"");
}
