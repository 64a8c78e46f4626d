//! What is wrong with keys of load balancing, as the server would say it of a client's.

use std::collections::BTreeMap;

use crate::config::places::Failures;
use crate::config::raw::balancing::{BalancingKeys, Setting};
use crate::config::raw::client::ProxyBase;
use crate::config::raw::server::ServerConfig;

/// Types of proxies that can be in a group.
const KINDS: [&str; 4] = ["tcp", "http", "https", "tcpmux"];

/// Of a proxy: `loadBalancer` and metadata that begin with `lb.`, as they go to the server together.
pub(super) fn proxy(c: &ProxyBase) -> Result<(), String> {
    let metas = c.metadatas.iter();
    let mut keys: BTreeMap<String, String> = metas
        .filter_map(|(key, value)| Some((key.strip_prefix("lb.")?.to_owned(), value.clone())))
        .collect();
    keys.extend(c.load_balancer.keys.flat());
    balancer::parse(&keys, c.type_ == "http")
        .map(drop)
        .map_err(|e| e.to_string())
}

/// Of the server: `loadBalancer`.
pub(super) fn server(c: &ServerConfig, failures: &mut Failures<'_>) {
    let Some(c) = &c.load_balancer else {
        return;
    };
    for (key, value, values) in [
        (
            "loadBalancer.stockFailover",
            &c.stock_failover,
            ["true", "false"],
        ),
        (
            "loadBalancer.onConflict",
            &c.on_conflict,
            ["first", "reject"],
        ),
    ] {
        if let Setting(Some(value)) = value
            && !values.contains(&value.as_str())
        {
            let values = values.join(" ");
            failures.push(
                key,
                format_args!("invalid {key}, optional values are [{values}]"),
            );
        }
    }
    if !c.sticky_secrets.is_empty() && !c.sticky_secrets_file.is_empty() {
        failures.push(
            "loadBalancer.stickySecretsFile",
            "loadBalancer.stickySecrets and loadBalancer.stickySecretsFile exclude each other",
        );
    }
    keys("loadBalancer.defaults", &c.defaults, "", failures);
    for rule in &c.rules {
        let kind = rule.kind.as_str();
        if !kind.is_empty() && !KINDS.contains(&kind) {
            failures.push(
                "loadBalancer.rules",
                format_args!(
                    "invalid loadBalancer.rules.kind, optional values are [{}]",
                    KINDS.join(" ")
                ),
            );
        }
        keys("loadBalancer.rules", &rule.keys, kind, failures);
    }
}

/// Keys that belong to proxies of `kind`, or of any kind if it is empty.
fn keys(place: &str, keys: &BalancingKeys, kind: &str, failures: &mut Failures<'_>) {
    let flat = keys.flat();
    // Without a kind they need fit only where they are used.
    let fits = |http| balancer::parse(&flat, http).map(drop);
    let fitted = match kind {
        "http" => fits(true),
        "" => fits(true).or_else(|e| fits(false).map_err(|_| e)),
        _ => fits(false),
    };
    if let Err(e) = fitted {
        failures.push(place, e);
    }
}
