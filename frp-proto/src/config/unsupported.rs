//! What files may say but this version does not do. It is refused by name, since ignoring it would open what should be
//! closed or leave dead what should work. Lines leave this file as features arrive.

use std::fmt::Display;

use super::places::Failures;
use super::raw::client::{ClientConfig, PluginConfig, ProxyConfig, VisitorConfig, VisitorKind};

fn not_yet(what: impl Display) -> String {
    format!("{what} is not supported by this version yet")
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
