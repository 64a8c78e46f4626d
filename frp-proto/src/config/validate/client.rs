//! Validation of frpc.

use super::{annotations, auth, balancing, log, value_source, web_server};
use crate::config::places::Failures;
use crate::config::raw::Element as _;
use crate::config::raw::client::{
    AcceptProxiesConfig, AuthOidcClientConfig, ClientConfig, ClientTransportConfig, PluginConfig,
    ProxyBase, ProxyConfig, ProxyKind, SourceConfig, VisitorConfig, VisitorKind,
};
use crate::config::{ConfigError, LocalTargets, UnsafeFeatures};

/// Most pushed proxies a client may take; each is a few kilobytes.
const MAX_PUSHED: i64 = 4096;

/// Warnings and, if invalid, the error text to print: all failures of the common part, or the first one of a proxy or
/// visitor.
pub fn validate_client(
    c: &ClientConfig,
    allowed: &UnsafeFeatures,
) -> (Vec<String>, Result<(), ConfigError>) {
    let mut warnings = Vec::new();
    let mut failures = Failures::new(&c.places);
    common(c, allowed, &mut failures, &mut warnings);
    if failures.is_empty() {
        entries(c, &mut failures);
    }
    (warnings, failures.into_result())
}

fn common(
    c: &ClientConfig,
    allowed: &UnsafeFeatures,
    failures: &mut Failures<'_>,
    warnings: &mut Vec<String>,
) {
    if let Some(name) = c.feature_gates.keys().find(|name| *name != "VirtualNet") {
        failures.push(
            &format!("featureGates.{name}"),
            format_args!("unrecognized feature gate: {name}"),
        );
        return;
    }
    if !c.virtual_net.address.is_empty() && c.feature_gates.get("VirtualNet") != Some(&true) {
        failures.push(
            "virtualNet.address",
            "VirtualNet feature is not enabled; enable it by setting the appropriate feature gate flag",
        );
    }
    auth(
        &c.auth.method,
        &c.auth.additional_scopes,
        &c.auth.token,
        c.auth.token_source.as_ref(),
        allowed,
        failures,
    );
    oidc(&c.auth.oidc, c.auth.method == "oidc", allowed, failures);
    log(&c.log, failures);
    web_server(&c.web_server, allowed, failures);
    sources(&c.sources, failures);
    if let Some(accept) = &c.accept_proxies {
        accept_proxies(accept, failures);
    }
    transport(&c.transport, failures, warnings);
}

/// A key that upstream does not have.
fn sources(sources: &[SourceConfig], failures: &mut Failures<'_>) {
    for source in sources {
        let problem = match source.type_.as_str() {
            _ if source.interval < 0 => "interval must not be negative",
            "file" | "directory" if source.path.is_empty() => "path is required",
            "file" | "directory" if !source.url.is_empty() => "url is for type \"http\"",
            "http" if !source.path.is_empty() => "path is not for type \"http\"",
            "http"
                if !["http://", "https://"]
                    .iter()
                    .any(|s| source.url.starts_with(s)) =>
            {
                "url must be an absolute http or https URL"
            }
            "file" | "directory" | "http" => continue,
            _ => "invalid type, optional values are [file directory http]",
        };
        failures.push("sources", format_args!("sources: {problem}"));
    }
}

/// A key that upstream does not have.
fn accept_proxies(c: &AcceptProxiesConfig, failures: &mut Failures<'_>) {
    let key = "acceptProxies.localTargets";
    if c.local_targets.is_empty() {
        failures.push(
            key,
            format_args!(
                "{key} is required: what may be behind pushed proxies, such as [\"127.0.0.1:8080\"]"
            ),
        );
    }
    if let Err(why) = LocalTargets::parse(&c.local_targets) {
        failures.push(key, format_args!("invalid {key}: {why}"));
    }
    let types = ProxyConfig::TYPES;
    if let Some(other) = c.types.iter().find(|t| !types.contains(&t.as_str())) {
        let values = types.join(" ");
        failures.push(
            "acceptProxies.types",
            format_args!("invalid acceptProxies.types: {other:?}, optional values are [{values}]"),
        );
    }
    if !(1..=MAX_PUSHED).contains(&c.max_proxies) {
        let key = "acceptProxies.maxProxies";
        failures.push(
            key,
            format_args!(
                "invalid {key}: {} must be in the range 1..{MAX_PUSHED}",
                c.max_proxies
            ),
        );
    }
}

/// The first failure of a proxy or else of a visitor.
fn entries(c: &ClientConfig, failures: &mut Failures<'_>) {
    for p in &c.proxies {
        if let Err((key, text)) = proxy_keys(p) {
            let name = &p.base.name;
            let key = format!("proxies[{name}].{key}");
            return failures.push(&key, format_args!("proxy {name}: {text}"));
        }
    }
    for v in &c.visitors {
        if let Err((key, text)) = visitor_keys(v) {
            let name = &v.base.name;
            let key = format!("visitors[{name}].{key}");
            return failures.push(&key, format_args!("visitor {name}: {text}"));
        }
    }
}

/// One proxy by itself.
pub(crate) fn proxy(c: &ProxyConfig) -> Result<(), ConfigError> {
    proxy_keys(c).map_err(|(_, text)| ConfigError(text))
}

/// One visitor by itself.
pub(crate) fn visitor(c: &VisitorConfig) -> Result<(), ConfigError> {
    visitor_keys(c).map_err(|(_, text)| ConfigError(text))
}

/// A key of an entry, and what is wrong with it.
type Problem = (&'static str, String);

fn oidc(
    c: &AuthOidcClientConfig,
    used: bool,
    allowed: &UnsafeFeatures,
    failures: &mut Failures<'_>,
) {
    if let Some(source) = &c.token_source {
        let alone = AuthOidcClientConfig {
            token_source: c.token_source.clone(),
            ..AuthOidcClientConfig::default()
        };
        if *c != alone {
            failures.push(
                "auth.oidc",
                "cannot specify both auth.oidc.tokenSource and any other field of auth.oidc",
            );
        }
        value_source("auth.oidc.tokenSource", source, allowed, failures);
        return;
    }
    if !used {
        return;
    }
    let mut problems = Vec::new();
    if c.client_id.is_empty() {
        problems.push("auth.oidc.clientID is required");
    }
    problems.extend(endpoint(&c.token_endpoint_url));
    if c.additional_endpoint_params.contains_key("scope") {
        problems.push(
            "auth.oidc.additionalEndpointParams.scope is not allowed; use auth.oidc.scope instead",
        );
    }
    if !c.audience.is_empty() && c.additional_endpoint_params.contains_key("audience") {
        problems.push("cannot specify both auth.oidc.audience and auth.oidc.additionalEndpointParams.audience");
    }
    if !problems.is_empty() {
        failures.push("auth.oidc", problems.join("; "));
    }
}

fn endpoint(url: &str) -> Option<&'static str> {
    if url.is_empty() {
        return Some("auth.oidc.tokenEndpointURL is required");
    }
    let host = |rest: &str| {
        !rest
            .split(['/', '?', '#'])
            .next()
            .unwrap_or_default()
            .is_empty()
    };
    match url.split_once("://") {
        Some((scheme, rest)) if host(rest) => match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => None,
            _ => Some("auth.oidc.tokenEndpointURL must use http or https"),
        },
        _ => Some("auth.oidc.tokenEndpointURL must be an absolute http or https URL"),
    }
}

/// Whether `transport.protocol` may have this value.
pub(in crate::config) fn is_protocol(name: &str) -> bool {
    ["tcp", "kcp", "quic", "websocket", "wss", "auto"].contains(&name)
}

/// `transport.protocol = "auto"`, and `transport.tls.enable = false`.
pub const AUTO_WITHOUT_TLS: &str =
    "transport.protocol \"auto\" needs TLS, transport.tls.enable must not be false";

/// Keys that upstream does not have.
fn auto_transport(c: &ClientTransportConfig, failures: &mut Failures<'_>) {
    if c.protocol == "auto" && c.tls.enable == Some(false) {
        failures.push("transport.tls.enable", AUTO_WITHOUT_TLS);
    }
    for (key, port) in [
        ("transport.auto.quicPort", c.auto.quic_port),
        ("transport.auto.wssPort", c.auto.wss_port),
    ] {
        if !(0..=65535).contains(&port) {
            failures.push(
                key,
                format_args!("{key}: port number {port} must be in the range 0..65535"),
            );
        }
    }
}

fn transport(c: &ClientTransportConfig, failures: &mut Failures<'_>, warnings: &mut Vec<String>) {
    if c.heartbeat_timeout > 0
        && c.heartbeat_interval > 0
        && c.heartbeat_timeout < c.heartbeat_interval
    {
        failures.push("transport.heartbeatTimeout", "invalid transport.heartbeatTimeout, heartbeat timeout should not less than heartbeat interval");
    }
    if c.tls.enable == Some(false) {
        for (key, value) in [
            ("certFile", &c.tls.tls.cert_file),
            ("keyFile", &c.tls.tls.key_file),
            ("trustedCaFile", &c.tls.tls.trusted_ca_file),
        ] {
            if !value.is_empty() {
                warnings.push(format!(
                    "transport.tls.{key} is invalid when transport.tls.enable is false"
                ));
            }
        }
    }
    if !is_protocol(&c.protocol) {
        failures.push(
            "transport.protocol",
            "invalid transport.protocol, optional values are [tcp kcp quic websocket wss]",
        );
    }
    auto_transport(c, failures);
    super::congestion(&c.quic, failures);
    if !["v1", "v2"].contains(&c.wire_protocol.as_str()) {
        failures.push(
            "transport.wireProtocol",
            "invalid transport.wireProtocol, optional values are [v1 v2]",
        );
    }
}

fn proxy_keys(c: &ProxyConfig) -> Result<(), Problem> {
    base(&c.base)?;
    balancing::proxy(&c.base).map_err(|text| ("loadBalancer", text))?;
    let domains = match &c.kind {
        ProxyKind::Http(http) => &http.domains,
        ProxyKind::Https(https) => &https.domains,
        ProxyKind::Tcpmux(tcpmux) => &tcpmux.domains,
        _ => return Ok(()),
    };
    if domains.subdomain.is_empty() && domains.custom_domains.is_empty() {
        return Err((
            "customDomains",
            "subdomain and custom domains should not be both empty".to_owned(),
        ));
    }
    match &c.kind {
        ProxyKind::Tcpmux(tcpmux) if tcpmux.multiplexer != "httpconnect" => Err((
            "multiplexer",
            format!("not support multiplexer: {}", tcpmux.multiplexer),
        )),
        _ => Ok(()),
    }
}

/// What every proxy is checked for, in upstream's order.
fn base(c: &ProxyBase) -> Result<(), Problem> {
    if c.name.is_empty() {
        return Err(("name", "name should not be empty".to_owned()));
    }
    annotations::check(&c.annotations).map_err(|text| ("annotations", text))?;
    let version = &c.transport.proxy_protocol_version;
    if !["", "v1", "v2"].contains(&version.as_str()) {
        return Err((
            "transport.proxyProtocolVersion",
            format!("not support proxy protocol version: {version}"),
        ));
    }
    if !["client", "server"].contains(&c.transport.bandwidth_limit_mode.as_str()) {
        return Err((
            "transport.bandwidthLimitMode",
            "bandwidth limit mode should be client or server".to_owned(),
        ));
    }
    if c.plugin.is_none() && !(0..=65535).contains(&c.local_port) {
        let port = c.local_port;
        let text =
            format!("localPort: localPort: port number {port} must be in the range 0..65535");
        return Err(("localPort", text));
    }
    match c.health_check.type_.as_str() {
        "http" if c.health_check.path.is_empty() => {
            return Err((
                "healthCheck.path",
                "health check path should not be empty".to_owned(),
            ));
        }
        "" | "tcp" | "http" => {}
        other => {
            return Err((
                "healthCheck.type",
                format!("not support health check type: {other}"),
            ));
        }
    }
    match c.plugin.as_ref().and_then(missing_option) {
        Some((plugin, key)) => Err(("plugin", format!("plugin {plugin}: {key} is required"))),
        None => Ok(()),
    }
}

fn missing_option(plugin: &PluginConfig) -> Option<(&'static str, &'static str)> {
    let (value, key) = match plugin {
        PluginConfig::StaticFile(o) => (&o.local_path, "localPath"),
        PluginConfig::UnixDomainSocket(o) => (&o.unix_path, "unixPath"),
        PluginConfig::Http2Https(o) => (&o.local_addr, "localAddr"),
        PluginConfig::Https2Http(o) => (&o.local_addr, "localAddr"),
        PluginConfig::Https2Https(o) => (&o.local_addr, "localAddr"),
        PluginConfig::Tls2Raw(o) => (&o.local_addr, "localAddr"),
        // Upstream lets `http2http` pass without an address.
        _ => return None,
    };
    value.is_empty().then_some((plugin.type_name(), key))
}

fn visitor_keys(c: &VisitorConfig) -> Result<(), Problem> {
    if c.base.name.is_empty() {
        return Err(("name", "name is required".to_owned()));
    }
    if c.base.server_name.is_empty() {
        return Err(("serverName", "server name is required".to_owned()));
    }
    if c.base.bind_port == 0 {
        return Err(("bindPort", "bind port is required".to_owned()));
    }
    match &c.kind {
        VisitorKind::Xtcp(xtcp) if !["kcp", "quic"].contains(&xtcp.protocol.as_str()) => {
            Err(("protocol", "protocol should be kcp or quic".to_owned()))
        }
        _ => Ok(()),
    }
}
