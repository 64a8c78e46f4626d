//! What a registered proxy is, as the API shows it (admin-api.md §3.2, §4.6): its definition without any secret.

use std::collections::BTreeMap;

use frp_proto::msg::NewProxy;

/// A definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spec {
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) metadatas: BTreeMap<String, String>,
    pub(crate) use_encryption: bool,
    pub(crate) use_compression: bool,
    pub(crate) bandwidth_limit: String,
    pub(crate) bandwidth_limit_mode: String,
    pub(crate) group: String,
    pub(crate) custom_domains: Vec<String>,
    pub(crate) subdomain: String,
    pub(crate) locations: Vec<String>,
    pub(crate) host_header_rewrite: String,
    pub(crate) multiplexer: String,
    pub(crate) route_by_http_user: String,
    /// The port really in use, where there is one.
    pub(crate) remote_port: Option<u16>,
}

impl Spec {
    /// Of what a client has asked for, and what it was told.
    pub(crate) fn new(m: &NewProxy, remote_addr: &str) -> Self {
        let port = remote_addr.rsplit_once(':').map(|(_, port)| port);
        Self {
            annotations: m.annotations.clone(),
            metadatas: m.metas.clone(),
            use_encryption: m.use_encryption,
            use_compression: m.use_compression,
            bandwidth_limit: m.bandwidth_limit.clone(),
            bandwidth_limit_mode: if m.bandwidth_limit_mode.is_empty() {
                "client".into()
            } else {
                m.bandwidth_limit_mode.clone()
            },
            group: m.group.clone(),
            custom_domains: m.custom_domains.clone(),
            subdomain: m.subdomain.clone(),
            locations: m.locations.clone(),
            host_header_rewrite: m.host_header_rewrite.clone(),
            multiplexer: m.multiplexer.clone(),
            route_by_http_user: m.route_by_http_user.clone(),
            remote_port: match m.proxy_type.as_str() {
                "" | "tcp" | "udp" => port.and_then(|port| port.parse().ok()),
                _ => None,
            },
        }
    }
}
