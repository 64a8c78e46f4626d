//! Proxies of every type (config-frpc.md §5, §6).

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::balancing::BalancingKeys;
use super::common::StringMap;
use super::plugin::PluginConfig;
use super::{Element, Entry};
use crate::config::decode::{DecodeError, Decoder, Record, Whole, record};
use crate::config::encode::{Encode, Members};
use crate::config::value::Value;
use crate::config::{ConfigError, definition, units, validate};

/// A proxy of any type: the common part and what its type adds.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// Keys of every type.
    pub base: ProxyBase,
    /// Keys of this type.
    pub kind: ProxyKind,
}

record! {
    /// Keys of every proxy.
    ProxyBase = "v1.ProxyBaseConfig" {
        name: String = [always "name"],
        type_: String = [always "type"],
        /// `Some(false)` drops the entry.
        enabled: Option<bool> = ["enabled"],
        annotations: StringMap = ["annotations"],
        transport: ProxyTransport = ["transport"],
        metadatas: StringMap = ["metadatas"],
        load_balancer: LoadBalancerConfig = ["loadBalancer"],
        health_check: HealthCheckConfig = ["healthCheck"],
        local_ip: String = ["localIP" in "ProxyBackend"] or "127.0.0.1",
        /// Unused with a plugin.
        local_port: i64 = ["localPort" in "ProxyBackend" as "int"],
        plugin: Option<PluginConfig> = [always "plugin" in "ProxyBackend"],
    }
}

record! {
    /// `transport` of a proxy.
    ProxyTransport = "v1.ProxyTransport" {
        use_encryption: bool = ["useEncryption"],
        use_compression: bool = ["useCompression"],
        /// As written, trimmed; see [`bandwidth`](crate::config::bandwidth).
        bandwidth_limit: String = [always "bandwidthLimit" via units::check_bandwidth],
        /// `client` or `server`.
        bandwidth_limit_mode: String = ["bandwidthLimitMode"] or "client",
        /// Empty, `v1` or `v2`.
        proxy_protocol_version: String = ["proxyProtocolVersion"],
    }
}

record! {
    /// `loadBalancer`.
    LoadBalancerConfig = "v1.LoadBalancerConfig" {
        group: String = [always "group"],
        group_key: String = [secret "groupKey"],
        /// Ours, not upstream's.
        keys: BalancingKeys = [embed "LoadBalancerConfig"],
    }
}

record! {
    /// `healthCheck`.
    HealthCheckConfig = "v1.HealthCheckConfig" {
        /// Empty = off, `tcp` or `http`.
        type_: String = [always "type"],
        /// 0 or less = 3, at run time.
        timeout_seconds: i64 = ["timeoutSeconds" as "int"],
        /// 0 or less = 1, at run time.
        max_failed: i64 = ["maxFailed" as "int"],
        /// 0 or less = 10, at run time.
        interval_seconds: i64 = [always "intervalSeconds" as "int"],
        path: String = ["path"],
        http_headers: Vec<HttpHeader> = ["httpHeaders"],
        /// A redirect to another address fails the check instead of being followed.
        same_target: bool = [hidden],
    }
}

record! {
    /// A header of a health check's request.
    HttpHeader = "v1.HTTPHeader" {
        name: String = [always "name"],
        value: String = [always "value"],
    }
}

record! {
    /// Headers to set; an existing one is replaced.
    HeaderOperations = "v1.HeaderOperations" {
        set: StringMap = ["set"],
    }
}

record! {
    /// Host names of a proxy.
    DomainConfig = "v1.DomainConfig" {
        custom_domains: Vec<String> = ["customDomains"],
        /// Label before the server's `subDomainHost`.
        subdomain: String = ["subdomain"],
    }
}

record! {
    /// What `http` adds.
    HttpProxy = "v1.HTTPProxyConfig" {
        domains: DomainConfig = [embed "DomainConfig"],
        /// Path prefixes.
        locations: Vec<String> = ["locations"],
        http_user: String = ["httpUser"],
        http_password: String = [secret "httpPassword"],
        host_header_rewrite: String = ["hostHeaderRewrite"],
        request_headers: HeaderOperations = ["requestHeaders"],
        response_headers: HeaderOperations = ["responseHeaders"],
        route_by_http_user: String = ["routeByHTTPUser"],
    }
}

record! {
    /// What `https` adds.
    HttpsProxy = "v1.HTTPSProxyConfig" {
        domains: DomainConfig = [embed "DomainConfig"],
    }
}

record! {
    /// What `tcpmux` adds.
    TcpmuxProxy = "v1.TCPMuxProxyConfig" {
        domains: DomainConfig = [embed "DomainConfig"],
        http_user: String = ["httpUser"],
        http_password: String = [secret "httpPassword"],
        route_by_http_user: String = ["routeByHTTPUser"],
        /// `httpconnect`.
        multiplexer: String = ["multiplexer"],
    }
}

record! {
    /// What `stcp` adds.
    StcpProxy = "v1.STCPProxyConfig" {
        secret_key: String = [secret "secretKey"],
        /// Empty = the same user, `*` = everyone.
        allow_users: Vec<String> = ["allowUsers"],
    }
}

record! {
    /// What `sudp` adds.
    SudpProxy = "v1.SUDPProxyConfig" {
        secret_key: String = [secret "secretKey"],
        /// Empty = the same user, `*` = everyone.
        allow_users: Vec<String> = ["allowUsers"],
    }
}

record! {
    /// What `xtcp` adds.
    XtcpProxy = "v1.XTCPProxyConfig" {
        secret_key: String = [secret "secretKey"],
        /// Empty = the same user, `*` = everyone.
        allow_users: Vec<String> = ["allowUsers"],
        nat_traversal: Option<NatTraversalConfig> = ["natTraversal"],
    }
}

record! {
    /// `natTraversal` of an `xtcp` proxy or visitor.
    NatTraversalConfig = "v1.NatTraversalConfig" {
        disable_assisted_addrs: bool = ["disableAssistedAddrs"],
    }
}

record! {
    /// What `tcp` adds, as a record.
    TcpProxy = "v1.TCPProxyConfig" {
        /// 0 lets the server choose.
        remote_port: i64 = ["remotePort" as "int"],
    }
}

record! {
    /// What `udp` adds, as a record.
    UdpProxy = "v1.UDPProxyConfig" {
        /// 0 lets the server choose.
        remote_port: i64 = ["remotePort" as "int"],
    }
}

/// What a proxy's type adds.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "each variant is the type of its name, described at its record"
)]
pub enum ProxyKind {
    Tcp { remote_port: i64 },
    Udp { remote_port: i64 },
    Http(HttpProxy),
    Https(HttpsProxy),
    Tcpmux(TcpmuxProxy),
    Stcp(StcpProxy),
    Sudp(SudpProxy),
    Xtcp(XtcpProxy),
}

impl ProxyConfig {
    /// Fills the defaults; a second call changes nothing.
    pub fn complete(&mut self) {
        self.base.fill_defaults();
    }
}

impl Entry for ProxyConfig {
    const WHAT: &'static str = "proxy";
    const LIST: &'static str = "proxies";

    fn name(&self) -> &str {
        &self.base.name
    }

    fn type_name(&self) -> &str {
        &self.base.type_
    }

    fn enabled(&self) -> bool {
        self.base.enabled.unwrap_or(true)
    }

    fn complete(&mut self) {
        Self::complete(self);
    }

    fn validate(&self) -> Result<(), ConfigError> {
        validate::proxy(self)
    }

    fn from_definition(text: &str, expected_name: Option<&str>) -> Result<Self, ConfigError> {
        definition::parse(text, expected_name)
    }
}

impl Members for ProxyConfig {
    fn members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.base.members(map)?;
        match &self.kind {
            &ProxyKind::Tcp { remote_port } => TcpProxy { remote_port }.members(map),
            &ProxyKind::Udp { remote_port } => UdpProxy { remote_port }.members(map),
            ProxyKind::Http(kind) => kind.members(map),
            ProxyKind::Https(kind) => kind.members(map),
            ProxyKind::Tcpmux(kind) => kind.members(map),
            ProxyKind::Stcp(kind) => kind.members(map),
            ProxyKind::Sudp(kind) => kind.members(map),
            ProxyKind::Xtcp(kind) => kind.members(map),
        }
    }
}

impl Serialize for ProxyConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encode(serializer)
    }
}

impl Element for ProxyConfig {
    const GO: &'static str = "model.ProxyDefinition";
    const TYPES: &'static [&'static str] = &[
        "tcp", "udp", "http", "https", "tcpmux", "stcp", "sudp", "xtcp",
    ];

    fn set_identity(&mut self, name: String, type_: String) {
        self.base.name = name;
        self.base.type_ = type_;
    }

    fn decode(type_: &str, value: &Value, d: &mut Decoder) -> Result<Self, DecodeError> {
        let (base, kind) = match type_ {
            "tcp" => decode_as(value, d, |k: TcpProxy| ProxyKind::Tcp {
                remote_port: k.remote_port,
            }),
            "udp" => decode_as(value, d, |k: UdpProxy| ProxyKind::Udp {
                remote_port: k.remote_port,
            }),
            "http" => decode_as(value, d, ProxyKind::Http),
            "https" => decode_as(value, d, ProxyKind::Https),
            "tcpmux" => decode_as(value, d, ProxyKind::Tcpmux),
            "stcp" => decode_as(value, d, ProxyKind::Stcp),
            "sudp" => decode_as(value, d, ProxyKind::Sudp),
            "xtcp" => decode_as(value, d, ProxyKind::Xtcp),
            _ => {
                return Err(DecodeError::text(
                    value.member("type").unwrap_or(value).pos,
                    format!("unknown proxy type: {type_}"),
                ));
            }
        }
        .map_err(|e| e.within("unmarshal ProxyConfig error: "))?;
        if d.strict {
            PluginConfig::refuse_unknown_keys(value)
                .map_err(|e| e.within("unmarshal proxy plugin error: "))?;
        }
        Ok(Self { base, kind })
    }
}

fn decode_as<K: Record>(
    value: &Value,
    d: &mut Decoder,
    kind: impl FnOnce(K) -> ProxyKind,
) -> Result<(ProxyBase, ProxyKind), DecodeError> {
    let whole: Whole<ProxyBase, K> = d.root(value)?;
    Ok((whole.base, kind(whole.kind)))
}
