//! `[common]`, proxies and visitors of frpc (config-frpc.md §17.2 to §17.6).

use crate::config::raw::client::{
    ClientConfig, DomainConfig, HeaderOperations, Http2HttpPlugin, Http2HttpsPlugin, HttpProxy,
    HttpProxyPlugin, Https2HttpPlugin, Https2HttpsPlugin, HttpsProxy, PluginConfig, ProxyBase,
    ProxyConfig, ProxyKind, Socks5Plugin, StaticFilePlugin, StcpProxy, SudpProxy, TcpmuxProxy,
    Tls2RawPlugin, UnixDomainSocketPlugin, VisitorBase, VisitorConfig, VisitorKind, XtcpProxy,
    XtcpVisitor,
};
use crate::config::raw::common::QuicOptions;
use crate::config::{units, validate};

use super::syntax::{Ini, Section};
use super::within;

/// `authenticate_*` as scopes.
pub(super) fn scopes(s: Section<'_>) -> Vec<String> {
    [
        ("authenticate_heartbeats", "HeartBeats"),
        ("authenticate_new_work_conns", "NewWorkConns"),
    ]
    .into_iter()
    .filter(|(key, _)| s.is_on(key))
    .map(|(_, scope)| scope.to_owned())
    .collect()
}

pub(super) fn quic(s: Section<'_>) -> QuicOptions {
    QuicOptions {
        keepalive_period: s.number("quic_keepalive_period"),
        max_idle_timeout: s.number("quic_max_idle_timeout"),
        max_incoming_streams: s.number("quic_max_incoming_streams"),
        congestion: String::new(),
    }
}

/// Everything but proxies and visitors.
pub(super) fn common(ini: &Ini) -> Result<ClientConfig, String> {
    let s = ini.section("common");
    let mut c = ClientConfig {
        user: s.text("user"),
        server_addr: s.text("server_addr"),
        server_port: s.number("server_port"),
        nat_hole_stun_server: s.text("nat_hole_stun_server"),
        dns_server: s.text("dns_server"),
        login_fail_exit: s.bool("login_fail_exit"),
        start: s.list("start"),
        udp_packet_size: s.number("udp_packet_size"),
        metadatas: s.prefixed("meta_"),
        includes: s.list("includes"),
        ..ClientConfig::default()
    };
    c.auth.method = s.text("authentication_method");
    c.auth.additional_scopes = scopes(s);
    c.auth.token = s.text("token");
    let oidc = &mut c.auth.oidc;
    oidc.client_id = s.text("oidc_client_id");
    oidc.client_secret = s.text("oidc_client_secret");
    oidc.audience = s.text("oidc_audience");
    oidc.scope = s.text("oidc_scope");
    oidc.token_endpoint_url = s.text("oidc_token_endpoint_url");
    oidc.additional_endpoint_params = s.prefixed("oidc_additional_");
    c.log.to = s.text("log_file");
    c.log.level = s.text("log_level");
    c.log.max_days = s.number("log_max_days");
    c.log.disable_print_color = s.is_on("disable_log_color");
    let web = &mut c.web_server;
    web.addr = s.text("admin_addr");
    web.port = s.number("admin_port");
    web.user = s.text("admin_user");
    web.password = s.text("admin_pwd");
    web.assets_dir = s.text("assets_dir");
    web.pprof_enable = s.is_on("pprof_enable");
    let t = &mut c.transport;
    t.protocol = s.text("protocol");
    t.dial_server_timeout = s.number("dial_server_timeout");
    t.dial_server_keepalive = s.number("dial_server_keepalive");
    t.connect_server_local_ip = s.text("connect_server_local_ip");
    t.proxy_url = s.text("http_proxy");
    t.pool_count = s.number("pool_count");
    t.tcp_mux = s.bool("tcp_mux");
    t.tcp_mux_keepalive_interval = s.number("tcp_mux_keepalive_interval");
    t.quic = quic(s);
    t.heartbeat_interval = s.number("heartbeat_interval");
    t.heartbeat_timeout = s.number("heartbeat_timeout");
    t.tls.enable = s.bool("tls_enable");
    t.tls.disable_custom_tls_first_byte = s.bool("disable_custom_tls_first_byte");
    t.tls.tls.cert_file = s.text("tls_cert_file");
    t.tls.tls.key_file = s.text("tls_key_file");
    t.tls.tls.trusted_ca_file = s.text("tls_trusted_ca_file");
    t.tls.tls.server_name = s.text("tls_server_name");
    within("parse config error: ", check(&c))?;
    Ok(c)
}

/// What upstream's legacy reader refuses in words of its own.
fn check(c: &ClientConfig) -> Result<(), String> {
    let t = &c.transport;
    if t.heartbeat_timeout > 0
        && t.heartbeat_interval > 0
        && t.heartbeat_timeout < t.heartbeat_interval
    {
        return Err(
            "invalid heartbeat_timeout, heartbeat_timeout is less than heartbeat_interval".into(),
        );
    }
    if !t.protocol.is_empty() && !validate::is_protocol(&t.protocol) {
        return Err("invalid protocol".into());
    }
    for pattern in &c.includes {
        let directory = std::path::absolute(pattern)
            .ok()
            .and_then(|p| p.parent().map(std::path::Path::to_owned));
        if !directory.is_some_and(|d| d.exists()) {
            return Err(format!("include: directory of {pattern} not exist"));
        }
    }
    Ok(())
}

/// Adds proxies and visitors, in the file's order, as far as `start` names them.
pub(super) fn entries(ini: &Ini, c: &mut ClientConfig) -> Result<(), String> {
    let wanted = |name: &str| c.start.is_empty() || c.start.iter().any(|s| s == name);
    let (mut proxies, mut visitors) = (Vec::new(), Vec::new());
    let mut entry = |name: &str, s: Section<'_>| {
        if !wanted(name) {
            return Ok(());
        }
        match s.string("role").as_deref() {
            None | Some("server") => proxies.push(proxy(name, s)?),
            Some("visitor") => visitors.push(visitor(name, s)?),
            Some(_) => {
                return Err(format!("proxy {name} role should be 'server' or 'visitor'"));
            }
        }
        Ok(())
    };
    for section in ini.names() {
        let s = ini.section(section);
        match section.strip_prefix("range:") {
            _ if section == "common" => {}
            None => entry(section, s)?,
            Some(prefix) => {
                let what = format!("failed to render template for proxy {section}: ");
                let pairs = within(what, pairs(s))?;
                for (i, ports) in pairs.into_iter().enumerate() {
                    entry(&format!("{}_{i}", prefix.trim()), s.with(&ports))?;
                }
            }
        }
    }
    c.proxies = proxies;
    c.visitors = visitors;
    Ok(())
}

/// The ports of each proxy of a `range:` section.
fn pairs(s: Section<'_>) -> Result<Vec<[(&'static str, String); 2]>, String> {
    let (Some(local), Some(remote)) = (s.string("local_port"), s.string("remote_port")) else {
        return Err("local_port or remote_port is empty".into());
    };
    let (local, remote) = (units::number_range(&local)?, units::number_range(&remote)?);
    if local.len() != remote.len() {
        return Err("local ports number should be same with remote ports number".into());
    }
    let pair = |(local, remote): (i64, i64)| {
        [
            ("local_port", local.to_string()),
            ("remote_port", remote.to_string()),
        ]
    };
    Ok(local.into_iter().zip(remote).map(pair).collect())
}

fn proxy(name: &str, s: Section<'_>) -> Result<ProxyConfig, String> {
    let failed = format!("failed to parse proxy {name}, err: ");
    let type_ = s.string("type").unwrap_or("tcp".into());
    let domains = || DomainConfig {
        custom_domains: s.list("custom_domains"),
        subdomain: s.text("subdomain"),
    };
    let (secret_key, allow_users) = (s.text("sk"), s.list("allow_users"));
    let (http_user, http_password) = (s.text("http_user"), s.text("http_pwd"));
    let route_by_http_user = s.text("route_by_http_user");
    let remote_port = s.number("remote_port");
    let kind = match type_.as_str() {
        "tcp" => ProxyKind::Tcp { remote_port },
        "udp" => ProxyKind::Udp { remote_port },
        "http" => ProxyKind::Http(HttpProxy {
            domains: domains(),
            locations: s.list("locations"),
            http_user,
            http_password,
            host_header_rewrite: s.text("host_header_rewrite"),
            request_headers: headers(s, "header_"),
            route_by_http_user,
            ..HttpProxy::default()
        }),
        "https" => ProxyKind::Https(HttpsProxy { domains: domains() }),
        "tcpmux" => ProxyKind::Tcpmux(TcpmuxProxy {
            domains: domains(),
            http_user,
            http_password,
            route_by_http_user,
            multiplexer: s.text("multiplexer"),
        }),
        "stcp" => ProxyKind::Stcp(StcpProxy {
            secret_key,
            allow_users,
        }),
        "sudp" => ProxyKind::Sudp(SudpProxy {
            secret_key,
            allow_users,
        }),
        "xtcp" => ProxyKind::Xtcp(XtcpProxy {
            secret_key,
            allow_users,
            ..XtcpProxy::default()
        }),
        other => return Err(format!("{failed}invalid type [{other}]")),
    };
    let mut base = ProxyBase {
        name: name.into(),
        type_,
        local_ip: s.text("local_ip"),
        local_port: s.number("local_port"),
        metadatas: s.prefixed("meta_"),
        plugin: plugin(name, s)?,
        ..ProxyBase::default()
    };
    let t = &mut base.transport;
    t.use_encryption = s.is_on("use_encryption");
    t.use_compression = s.is_on("use_compression");
    t.bandwidth_limit = within(&failed, units::check_bandwidth(&s.text("bandwidth_limit")))?;
    t.bandwidth_limit_mode = s.text("bandwidth_limit_mode");
    t.proxy_protocol_version = s.text("proxy_protocol_version");
    base.load_balancer.group = s.text("group");
    base.load_balancer.group_key = s.text("group_key");
    let check = &mut base.health_check;
    check.type_ = s.text("health_check_type");
    check.timeout_seconds = s.number("health_check_timeout_s");
    check.max_failed = s.number("health_check_max_failed");
    check.interval_seconds = s.number("health_check_interval_s");
    check.path = s.text("health_check_url");
    Ok(ProxyConfig { base, kind })
}

fn headers(s: Section<'_>, prefix: &str) -> HeaderOperations {
    HeaderOperations {
        set: s.prefixed(prefix),
    }
}

/// The names that upstream's legacy reader knows, and those whose options it cannot carry and that crash it later.
fn plugin(proxy: &str, s: Section<'_>) -> Result<Option<PluginConfig>, String> {
    let Some(name) = s.string("plugin") else {
        return Ok(None);
    };
    let local_addr = s.text("plugin_local_addr");
    let host_header_rewrite = s.text("plugin_host_header_rewrite");
    let request_headers = headers(s, "plugin_header_");
    let (crt_path, key_path) = (s.text("plugin_crt_path"), s.text("plugin_key_path"));
    let (http_user, http_password) = (s.text("plugin_http_user"), s.text("plugin_http_passwd"));
    Ok(Some(match name.as_str() {
        "http_proxy" => PluginConfig::HttpProxy(HttpProxyPlugin {
            http_user,
            http_password,
        }),
        "socks5" => PluginConfig::Socks5(Socks5Plugin {
            username: s.text("plugin_user"),
            password: s.text("plugin_passwd"),
        }),
        "static_file" => PluginConfig::StaticFile(StaticFilePlugin {
            local_path: s.text("plugin_local_path"),
            strip_prefix: s.text("plugin_strip_prefix"),
            http_user,
            http_password,
        }),
        "unix_domain_socket" => PluginConfig::UnixDomainSocket(UnixDomainSocketPlugin {
            unix_path: s.text("plugin_unix_path"),
        }),
        "http2http" => PluginConfig::Http2Http(Http2HttpPlugin {
            local_addr,
            host_header_rewrite,
            request_headers,
        }),
        "http2https" => PluginConfig::Http2Https(Http2HttpsPlugin {
            local_addr,
            host_header_rewrite,
            request_headers,
        }),
        "https2http" => PluginConfig::Https2Http(Https2HttpPlugin {
            local_addr,
            host_header_rewrite,
            request_headers,
            enable_http2: None,
            crt_path,
            key_path,
        }),
        "https2https" => PluginConfig::Https2Https(Https2HttpsPlugin {
            local_addr,
            host_header_rewrite,
            request_headers,
            enable_http2: None,
            crt_path,
            key_path,
        }),
        "tls2raw" => PluginConfig::Tls2Raw(Tls2RawPlugin {
            local_addr,
            crt_path,
            key_path,
        }),
        other => {
            return Err(format!(
                "failed to parse proxy {proxy}, err: plugin [{other}] is not registered"
            ));
        }
    }))
}

fn visitor(name: &str, s: Section<'_>) -> Result<VisitorConfig, String> {
    let failed = format!("failed to parse visitor {name}, err: ");
    let positive = |key: &str, default: i64| s.int(key).filter(|n| *n > 0).unwrap_or(default);
    let type_ = s
        .string("type")
        .ok_or_else(|| format!("{failed}type shouldn't be empty"))?;
    let kind = match type_.as_str() {
        "stcp" => VisitorKind::Stcp,
        "sudp" => VisitorKind::Sudp,
        "xtcp" => VisitorKind::Xtcp(XtcpVisitor {
            protocol: s.text("protocol"),
            keep_tunnel_open: s.is_on("keep_tunnel_open"),
            max_retries_an_hour: positive("max_retries_an_hour", 8),
            min_retry_interval: positive("min_retry_interval", 90),
            fallback_to: s.text("fallback_to"),
            fallback_timeout_ms: positive("fallback_timeout_ms", 1000),
            ..XtcpVisitor::default()
        }),
        other => return Err(format!("{failed}type [{other}] error")),
    };
    let mut base = VisitorBase {
        name: name.into(),
        type_,
        secret_key: s.text("sk"),
        server_user: s.text("server_user"),
        server_name: s.text("server_name"),
        bind_addr: s.text("bind_addr"),
        bind_port: s.number("bind_port"),
        ..VisitorBase::default()
    };
    base.transport.use_encryption = s.is_on("use_encryption");
    base.transport.use_compression = s.is_on("use_compression");
    Ok(VisitorConfig { base, kind })
}
