//! `[common]` and `[plugin.NAME]` of frps (config-frps.md §12.2, §12.3).

use crate::config::raw::common::{PortsRange, TlsConfig};
use crate::config::raw::server::{HttpPluginOptions, ServerConfig};
use crate::config::units;

use super::syntax::Ini;
use super::within;

pub(super) fn config(ini: &Ini) -> Result<ServerConfig, String> {
    let s = ini.section("common");
    let mut c = ServerConfig {
        bind_addr: s.text("bind_addr"),
        bind_port: s.number("bind_port"),
        kcp_bind_port: s.number("kcp_bind_port"),
        quic_bind_port: s.number("quic_bind_port"),
        proxy_bind_addr: s.text("proxy_bind_addr"),
        vhost_http_port: s.number("vhost_http_port"),
        vhost_https_port: s.number("vhost_https_port"),
        vhost_http_timeout: s.number("vhost_http_timeout"),
        tcpmux_http_connect_port: s.number("tcpmux_httpconnect_port"),
        tcpmux_passthrough: s.is_on("tcpmux_passthrough"),
        sub_domain_host: s.text("subdomain_host"),
        custom_404_page: s.text("custom_404_page"),
        enable_prometheus: s.is_on("enable_prometheus"),
        detailed_errors_to_client: s.bool("detailed_errors_to_client"),
        max_ports_per_client: s.number("max_ports_per_client"),
        user_conn_timeout: s.number("user_conn_timeout"),
        udp_packet_size: s.number("udp_packet_size"),
        nathole_analysis_data_reserve_hours: s.number("nat_hole_analysis_data_reserve_hours"),
        allow_ports: allow_ports(&s.text("allow_ports"))?,
        ..ServerConfig::default()
    };
    c.web_server.addr = s.string("dashboard_addr").unwrap_or("0.0.0.0".into());
    c.web_server.port = s.number("dashboard_port");
    c.web_server.user = s.text("dashboard_user");
    c.web_server.password = s.text("dashboard_pwd");
    c.web_server.assets_dir = s.text("assets_dir");
    c.web_server.pprof_enable = s.is_on("pprof_enable");
    c.web_server.tls = s.is_on("dashboard_tls_mode").then(|| TlsConfig {
        cert_file: s.text("dashboard_tls_cert_file"),
        key_file: s.text("dashboard_tls_key_file"),
        ..TlsConfig::default()
    });
    c.log.to = s.text("log_file");
    c.log.level = s.text("log_level");
    c.log.max_days = s.number("log_max_days");
    c.log.disable_print_color = s.is_on("disable_log_color");
    c.auth.method = s.text("authentication_method");
    c.auth.additional_scopes = super::client::scopes(s);
    c.auth.token = s.text("token");
    c.auth.oidc.issuer = s.text("oidc_issuer");
    c.auth.oidc.audience = s.text("oidc_audience");
    c.auth.oidc.skip_expiry_check = s.is_on("oidc_skip_expiry_check");
    c.auth.oidc.skip_issuer_check = s.is_on("oidc_skip_issuer_check");
    let t = &mut c.transport;
    t.tcp_mux = s.bool("tcp_mux");
    t.tcp_mux_keepalive_interval = s.number("tcp_mux_keepalive_interval");
    t.tcp_keepalive = s.number("tcp_keepalive");
    t.max_pool_count = s.number("max_pool_count");
    t.heartbeat_timeout = s.number("heartbeat_timeout");
    t.quic = super::client::quic(s);
    t.tls.force = s.is_on("tls_only");
    t.tls.tls.cert_file = s.text("tls_cert_file");
    t.tls.tls.key_file = s.text("tls_key_file");
    t.tls.tls.trusted_ca_file = s.text("tls_trusted_ca_file");
    c.http_plugins = plugins(ini);
    Ok(c)
}

/// A malformed list is refused: upstream drops it, which allows every port.
fn allow_ports(text: &str) -> Result<Vec<PortsRange>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let spans = within("invalid allow_ports: ", units::number_spans(text))?;
    let range = |(start, end): (i64, i64)| {
        if start == end {
            PortsRange {
                single: start,
                ..PortsRange::default()
            }
        } else {
            PortsRange {
                start,
                end,
                ..PortsRange::default()
            }
        }
    };
    Ok(spans.into_iter().map(range).collect())
}

/// In the file's order; upstream's is random.
fn plugins(ini: &Ini) -> Vec<HttpPluginOptions> {
    ini.names()
        .filter_map(|section| {
            let name = section.strip_prefix("plugin.")?.trim();
            let s = ini.section(section);
            Some(HttpPluginOptions {
                name: name.into(),
                addr: s.text("addr"),
                path: s.text("path"),
                ops: s.list("ops"),
                tls_verify: s.is_on("tlsVerify"),
            })
        })
        .collect()
}
