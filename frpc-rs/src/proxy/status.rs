//! [`ProxyStatus`]: where a proxy stands, as the admin API shows it (admin-api.md §7.1).

use frp_proto::config::raw::client::{ProxyConfig, ProxyKind};
use frp_proto::net::listen::join_host_port;

use super::state::{Phase, State};

/// Where a proxy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyStatus {
    /// Its name, without the user prefix.
    pub name: String,
    /// Its type, such as `tcp`.
    pub type_: String,
    /// How far it is.
    pub phase: Phase,
    /// Why it was last refused; empty if it was not.
    pub error: String,
    /// Address of the local service; empty without a port.
    pub local_addr: String,
    /// Type of its plugin; empty without one.
    pub plugin: String,
    /// Where its users connect to; empty as long as that is not known.
    pub remote_addr: String,
}

impl ProxyStatus {
    /// `server_addr` is the server's, as configured.
    pub(super) fn new(config: &ProxyConfig, state: &State, server_addr: &str) -> Self {
        let base = &config.base;
        Self {
            name: base.name.clone(),
            type_: base.type_.clone(),
            phase: state.phase(),
            error: state.error().into(),
            local_addr: match u16::try_from(base.local_port) {
                Ok(port) if port > 0 => join_host_port(&base.local_ip, port),
                _ => String::new(),
            },
            plugin: base
                .plugin
                .as_ref()
                .map_or_else(String::new, |plugin| plugin.type_name().into()),
            remote_addr: match (&config.kind, state.remote_addr()) {
                _ if !state.error().is_empty() => String::new(),
                (_, "") => String::new(),
                (ProxyKind::Tcp { .. } | ProxyKind::Udp { .. }, port) => {
                    format!("{server_addr}{port}")
                }
                (_, address) => address.into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn addresses() {
        let mut c = config("web", 80);
        let mut state = State::new(Instant::now());
        let status = ProxyStatus::new(&c, &state, "frps.test");
        assert_eq!(
            (status.local_addr.as_str(), status.remote_addr.as_str()),
            ("127.0.0.1:80", "")
        );
        state.check(Instant::now(), true);
        state.answer(Instant::now(), ":6000", "").unwrap();
        let status = ProxyStatus::new(&c, &state, "frps.test");
        assert_eq!(status.remote_addr, "frps.test:6000");
        c.kind = ProxyKind::Https(frp_proto::config::raw::client::HttpsProxy::default());
        c.base.local_port = 0;
        let status = ProxyStatus::new(&c, &state, "frps.test");
        assert_eq!(
            (status.local_addr.as_str(), status.remote_addr.as_str()),
            ("", ":6000")
        );
    }
}
