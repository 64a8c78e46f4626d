//! The schema of frps (config-frps.md §6.1).
use super::common::*;
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerConfig {
    pub version: String,
    pub bind_addr: String,
    pub bind_port: i64,
    pub kcp_bind_port: i64,
    pub quic_bind_port: i64,
    pub proxy_bind_addr: String,
    pub vhost_http_port: i64,
    pub vhost_https_port: i64,
    pub vhost_http_timeout: i64,
    pub tcpmux_http_connect_port: i64,
    pub tcpmux_passthrough: bool,
    pub sub_domain_host: String,
    pub custom_404_page: String,
    pub enable_prometheus: bool,
    pub detailed_errors_to_client: Option<bool>,
    pub max_ports_per_client: i64,
    pub user_conn_timeout: i64,
    pub udp_packet_size: i64,
    pub nathole_analysis_data_reserve_hours: i64,
    pub allow_ports: Vec<PortsRange>,
    pub auth: AuthServerConfig,
    pub log: LogConfig,
    pub web_server: WebServerConfig,
    pub transport: ServerTransportConfig,
    pub ssh_tunnel_gateway: SshTunnelGateway,
    pub http_plugins: Vec<HttpPluginOptions>,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthServerConfig {
    pub method: String,
    pub additional_scopes: Vec<String>,
    pub token: String,
    pub token_source: Option<ValueSource>,
    pub oidc: AuthOidcServerConfig,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthOidcServerConfig {
    pub issuer: String,
    pub audience: String,
    pub skip_expiry_check: bool,
    pub skip_issuer_check: bool,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerTransportConfig {
    pub tcp_mux: Option<bool>,
    pub tcp_mux_keepalive_interval: i64,
    pub tcp_keepalive: i64,
    pub max_pool_count: i64,
    pub heartbeat_timeout: i64,
    pub quic: QuicOptions,
    pub tls: TlsServerConfig,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsServerConfig {
    pub force: bool,
    pub tls: TlsConfig,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SshTunnelGateway {
    pub bind_port: i64,
    pub private_key_file: String,
    pub auto_gen_private_key_path: String,
    pub authorized_keys_file: String,
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpPluginOptions {
    pub name: String,
    pub addr: String,
    pub path: String,
    pub ops: Vec<String>,
    pub tls_verify: bool,
}
