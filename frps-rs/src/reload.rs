//! Reading the configuration again while the server runs.
//!
//! [`Live`] is what a reload replaces at once: who needs a setting that may change loads it from there when something begins
//! (a login, a proxy, a user connection), which costs no lock; what has begun goes on with what it has. All else is read
//! from `Shared::settings`, which stay as they were at the start; a change of these is named and waits for a restart.

use std::sync::{Arc, Mutex, PoisonError};

use frp_proto::auth::Secret;
use frp_proto::config::raw::server::ServerConfig;
use frp_proto::{crypto, telemetry};

use crate::auth::Auth;
use crate::settings::{Scopes, Settings};
use crate::{Error, Shared};

/// What logins are checked against. A session keeps what it has logged in with.
pub(crate) struct Credentials {
    pub(crate) auth: Auth,
    /// Key of what is encrypted, however clients prove who they are.
    pub(crate) token: Secret,
    /// AES key of proxies with `useEncryption`, derived once.
    pub(crate) payload_key: [u8; 16],
    pub(crate) scopes: Scopes,
}

impl Credentials {
    pub(crate) fn new(auth: Auth, token: Secret, scopes: Scopes) -> Self {
        Self {
            auth,
            payload_key: crypto::derive_key(token.expose()),
            token,
            scopes,
        }
    }
}

/// The settings of now.
pub(crate) struct Live {
    pub(crate) settings: Settings,
    pub(crate) credentials: Arc<Credentials>,
}

impl Live {
    pub(crate) fn new(settings: Settings, auth: Auth, token: Secret) -> Self {
        let credentials = Arc::new(Credentials::new(auth, token, settings.scopes));
        Self {
            settings,
            credentials,
        }
    }
}

/// The configuration file, as `main` gives access to it. The call may block.
pub trait ConfigFile: Send + Sync {
    /// Loads and validates it as at the start, and resolves the token; the error says why it cannot be used.
    fn load(&self) -> Result<(ServerConfig, Secret), String>;
}

/// Where reloads come from.
pub(crate) struct Source {
    file: Box<dyn ConfigFile>,
    /// What the server runs with. Held for a whole reload: the file that was read last is the one that counts.
    config: Mutex<ServerConfig>,
}

impl Source {
    pub(crate) fn new(config: ServerConfig, file: Box<dyn ConfigFile>) -> Self {
        Self {
            file,
            config: Mutex::new(config),
        }
    }
}

/// Why a reload changed nothing. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The server was started without a file.
    #[error("frps has no config file path")]
    NoFile,
    /// The file cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// Reads the file again; what may change takes effect for what begins from now on. Gives the keys that have changed and
/// wait for a restart. An error changes nothing. Blocks.
pub(crate) fn reload(shared: &Shared) -> Result<Vec<&'static str>, ReloadError> {
    let source = shared.source.as_ref().ok_or(ReloadError::NoFile)?;
    let mut config = source.config.lock().unwrap_or_else(PoisonError::into_inner);
    let (new, token) = source.file.load().map_err(ReloadError::Invalid)?;
    let merged = merged(&config, &new);
    let settings = Settings::new(&merged).map_err(|Error(e)| ReloadError::Invalid(e))?;
    let waiting = needs_restart(&merged, &new);
    if merged.http_plugins != config.http_plugins {
        shared.plugins.replace(&settings.plugins);
    }
    shared.tcp_ports.allow(settings.allow_ports.clone());
    shared.udp_ports.allow(settings.allow_ports.clone());
    telemetry::set_level(&merged.log.level);
    let auth = shared.now().credentials.auth.with_token(&token);
    shared
        .live
        .store(Arc::new(Live::new(settings, auth, token)));
    *config = merged;
    if waiting.is_empty() {
        tracing::info!("success reload conf");
    } else {
        let waiting = waiting.join(", ");
        tracing::warn!("success reload conf, changes take effect after a restart: {waiting}");
    }
    Ok(waiting)
}

/// What the server runs with after a reload: the keys of `new` that may change, `old` for the others.
fn merged(old: &ServerConfig, new: &ServerConfig) -> ServerConfig {
    let mut merged = old.clone();
    macro_rules! take {
        ($($($field:ident).+,)*) => {
            $(merged.$($field).+.clone_from(&new.$($field).+);)*
        };
    }
    take! {
        allow_ports,
        auth.additional_scopes,
        auth.token,
        auth.token_source,
        custom_404_page,
        detailed_errors_to_client,
        http_plugins,
        log.level,
        max_ports_per_client,
        proxy_protocol,
        sub_domain_host,
        transport.heartbeat_timeout,
        transport.max_pool_count,
        transport.tcp_keepalive,
        transport.tls.force,
        udp_packet_size,
        user_conn_timeout,
        vhost_http_timeout,
    }
    merged
}

/// Keys in which they differ.
fn needs_restart(merged: &ServerConfig, new: &ServerConfig) -> Vec<&'static str> {
    macro_rules! differing {
        ($($($field:ident).+: $key:literal,)*) => {
            [$((merged.$($field).+ != new.$($field).+, $key),)*]
        };
    }
    let keys = differing! {
        auth.method: "auth.method",
        auth.oidc: "auth.oidc",
        bind_addr: "bindAddr",
        bind_port: "bindPort",
        kcp_bind_port: "kcpBindPort",
        quic_bind_port: "quicBindPort",
        proxy_bind_addr: "proxyBindAddr",
        vhost_http_port: "vhostHTTPPort",
        vhost_https_port: "vhostHTTPSPort",
        tcpmux_http_connect_port: "tcpmuxHTTPConnectPort",
        tcpmux_passthrough: "tcpmuxPassthrough",
        enable_prometheus: "enablePrometheus",
        ssh_tunnel_gateway: "sshTunnelGateway",
        web_server: "webServer",
        load_balancer: "loadBalancer",
        log: "log",
        transport: "transport",
        nathole_analysis_data_reserve_hours: "natholeAnalysisDataReserveHours",
    };
    let differs = |(differs, key): (bool, &'static str)| differs.then_some(key);
    keys.into_iter().filter_map(differs).collect()
}

/// Changes a server while it runs.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Reads the configuration file again. What may change takes effect for what begins from now on; gives the keys that
    /// have changed and wait for a restart. An error changes nothing. The call blocks.
    pub fn reload(&self) -> Result<Vec<&'static str>, ReloadError> {
        reload(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_is_taken_and_the_rest_named() {
        let old = ServerConfig::default();
        let mut new = old.clone();
        new.max_ports_per_client = 3;
        new.log.level = "debug".into();
        new.transport.tls.force = true;
        let now = merged(&old, &new);
        assert_eq!(now, new);
        assert!(needs_restart(&now, &new).is_empty());
        new.bind_port = 1;
        new.transport.tcp_mux = Some(false);
        new.log.to = "f".into();
        let now = merged(&old, &new);
        assert_eq!(
            (now.bind_port, now.max_ports_per_client),
            (old.bind_port, 3)
        );
        assert_eq!(needs_restart(&now, &new), ["bindPort", "log", "transport"]);
    }
}
