//! The schema of frpc (config-frpc.md §4–§8).
use super::common::*;
use std::collections::BTreeMap;
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientConfig {
    pub version: String,
    pub user: String,
    pub client_id: String,
    pub server_addr: String,
    pub server_port: i64,
    pub nat_hole_stun_server: String,
    pub dns_server: String,
    pub login_fail_exit: Option<bool>,
    pub start: Vec<String>,
    pub udp_packet_size: i64,
    pub metadatas: StringMap,
    pub includes: Vec<String>,
    pub feature_gates: BTreeMap<String, bool>,
    pub store: StoreConfig,
    pub virtual_net: VirtualNetConfig,
    pub auth: AuthClientConfig,
    pub log: LogConfig,
    pub web_server: WebServerConfig,
    pub transport: ClientTransportConfig,
    pub proxies: Vec<ProxyConfig>,
    pub visitors: Vec<VisitorConfig>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreConfig {
    pub path: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VirtualNetConfig {
    pub address: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthClientConfig {
    pub method: String,
    pub additional_scopes: Vec<String>,
    pub token: String,
    pub token_source: Option<ValueSource>,
    pub oidc: AuthOidcClientConfig,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthOidcClientConfig {
    pub client_id: String,
    pub client_secret: String,
    pub audience: String,
    pub scope: String,
    pub token_endpoint_url: String,
    pub additional_endpoint_params: StringMap,
    pub trusted_ca_file: String,
    pub insecure_skip_verify: bool,
    pub proxy_url: String,
    pub token_source: Option<ValueSource>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientTransportConfig {
    pub protocol: String,
    pub wire_protocol: String,
    pub dial_server_timeout: i64,
    pub dial_server_keepalive: i64,
    pub connect_server_local_ip: String,
    pub proxy_url: String,
    pub pool_count: i64,
    pub tcp_mux: Option<bool>,
    pub tcp_mux_keepalive_interval: i64,
    pub quic: QuicOptions,
    pub heartbeat_interval: i64,
    pub heartbeat_timeout: i64,
    pub tls: TlsClientConfig,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsClientConfig {
    pub enable: Option<bool>,
    pub disable_custom_tls_first_byte: Option<bool>,
    pub tls: TlsConfig,
}
/// A proxy of any type: the common part and what its type adds (config-frpc.md §5, §6). The helper of `config` completes this.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    pub base: ProxyBase,
    pub kind: ProxyKind,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyBase {
    pub name: String,
    pub type_: String,
    pub enabled: Option<bool>,
    pub annotations: StringMap,
    pub metadatas: StringMap,
    pub transport: ProxyTransport,
    pub load_balancer: LoadBalancerConfig,
    pub health_check: HealthCheckConfig,
    pub local_ip: String,
    pub local_port: i64,
    pub plugin: Option<PluginConfig>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyTransport {
    pub use_encryption: bool,
    pub use_compression: bool,
    pub bandwidth_limit: String,
    pub bandwidth_limit_mode: String,
    pub proxy_protocol_version: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadBalancerConfig {
    pub group: String,
    pub group_key: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HealthCheckConfig {
    pub type_: String,
    pub timeout_seconds: i64,
    pub max_failed: i64,
    pub interval_seconds: i64,
    pub path: String,
    pub http_headers: Vec<HttpHeader>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpHeader {
    pub name: String,
    pub value: String,
}
/// What a proxy's type adds.
#[derive(Debug, Clone, PartialEq)]
pub enum ProxyKind {
    Tcp { remote_port: i64 },
    Udp { remote_port: i64 }, /* … every other type of the spec … */
}
/// A client plugin: its type and options, all types of the spec.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginConfig {/* … every type of the spec … */}
/// A visitor: all types of the spec.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitorConfig {
    pub name: String,
    pub type_: String,
}
