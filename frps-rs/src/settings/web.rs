//! What the admin server runs with, and what it tells of the configuration.

use frp_admin::WebServer;
use frp_proto::config::raw::common::PortsRange;
use frp_proto::config::raw::server::ServerConfig;
use serde::Serialize;

use crate::Error;

/// `webServer` and `enablePrometheus`.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// Where and to whom it answers.
    pub server: WebServer,
    /// Whether `/metrics` is served.
    pub prometheus: bool,
    /// What it tells of the configuration.
    pub info: Info,
}

/// The configuration as `/api/serverinfo` shows it: as it was written.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "each is the key that it is written as")]
pub struct Info {
    #[serde(rename = "bindPort")]
    pub bind_port: i64,
    #[serde(rename = "vhostHTTPPort")]
    pub vhost_http_port: i64,
    #[serde(rename = "vhostHTTPSPort")]
    pub vhost_https_port: i64,
    #[serde(rename = "tcpmuxHTTPConnectPort")]
    pub tcpmux_http_connect_port: i64,
    #[serde(rename = "kcpBindPort")]
    pub kcp_bind_port: i64,
    #[serde(rename = "quicBindPort")]
    pub quic_bind_port: i64,
    #[serde(rename = "subdomainHost")]
    pub subdomain_host: String,
    #[serde(rename = "maxPoolCount")]
    pub max_pool_count: i64,
    #[serde(rename = "maxPortsPerClient")]
    pub max_ports_per_client: i64,
    #[serde(rename = "heartbeatTimeout")]
    pub heartbeat_timeout: i64,
    /// `allowPorts` as text. Whether it is shown when empty, and the next when false, is up to the version of the API.
    #[serde(skip)]
    pub allow_ports: String,
    #[serde(skip)]
    pub tls_force: bool,
}

impl WebSettings {
    /// `None` when the admin server is off.
    pub fn new(c: &ServerConfig) -> Result<Option<Self>, Error> {
        let server = WebServer::new(&c.web_server).map_err(|e| Error(e.0))?;
        Ok(server.map(|server| Self {
            server,
            prometheus: c.enable_prometheus,
            info: Info {
                bind_port: c.bind_port,
                vhost_http_port: c.vhost_http_port,
                vhost_https_port: c.vhost_https_port,
                tcpmux_http_connect_port: c.tcpmux_http_connect_port,
                kcp_bind_port: c.kcp_bind_port,
                quic_bind_port: c.quic_bind_port,
                subdomain_host: c.sub_domain_host.clone(),
                max_pool_count: c.transport.max_pool_count,
                max_ports_per_client: c.max_ports_per_client,
                heartbeat_timeout: c.transport.heartbeat_timeout,
                allow_ports: ranges_text(&c.allow_ports),
                tls_force: c.transport.tls.force,
            },
        }))
    }
}

fn ranges_text(ranges: &[PortsRange]) -> String {
    let ranges = ranges.iter().map(|range| {
        if range.single > 0 {
            range.single.to_string()
        } else {
            format!("{}-{}", range.start, range.end)
        }
    });
    ranges.collect::<Vec<_>>().join(",")
}
