//! What a proxy is: its announcement to the server, and where its users' connections go.

pub(crate) mod manager;
pub(crate) mod state;
mod tcp;

use frp_proto::config;
use frp_proto::config::raw::client::{ProxyConfig, ProxyKind};
use frp_proto::msg::{NewProxy, StartWorkConn};
use frp_proto::net::Conn;

use crate::{Error, Shared};

/// A configured proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Name in the configuration, without the user prefix.
    pub(crate) name: String,
    /// What the server is told; holds the name on the wire.
    pub(crate) announcement: Box<NewProxy>,
    backend: tcp::Backend,
}

impl Proxy {
    /// Checks a loaded proxy. What this build cannot do is refused by name, never ignored.
    pub(crate) fn new(user: &str, c: &ProxyConfig) -> Result<Self, Error> {
        let base = &c.base;
        let refuse = |what: &str| {
            Err(Error(format!(
                "proxy [{}]: {what} is not supported by this version yet",
                base.name
            )))
        };
        let ProxyKind::Tcp { remote_port } = c.kind else {
            return refuse(&format!("type {:?}", base.type_));
        };
        if base.plugin.is_some() {
            return refuse("plugin");
        }
        if !base.health_check.type_.is_empty() {
            return refuse("healthCheck");
        }
        let transport = &base.transport;
        let limited_by_server = transport.bandwidth_limit_mode == "server";
        if !limited_by_server && config::bandwidth(&transport.bandwidth_limit) != Ok(None) {
            return refuse("transport.bandwidthLimit (in mode \"client\")");
        }
        let name = base.name.clone();
        let announcement = Box::new(NewProxy {
            proxy_name: wire_name(user, &name),
            proxy_type: "tcp".into(),
            use_encryption: transport.use_encryption,
            use_compression: transport.use_compression,
            bandwidth_limit: transport.bandwidth_limit.clone(),
            bandwidth_limit_mode: if limited_by_server {
                transport.bandwidth_limit_mode.clone()
            } else {
                String::new()
            },
            group: base.load_balancer.group.clone(),
            group_key: base.load_balancer.group_key.clone(),
            metas: base.metadatas.clone(),
            annotations: base.annotations.clone(),
            remote_port,
            ..NewProxy::default()
        });
        Ok(Self {
            backend: tcp::Backend::new(base)?,
            name,
            announcement,
        })
    }

    /// Serves one user over a work connection, until both sides have ended.
    pub(crate) async fn serve(
        &self,
        shared: &Shared,
        run_id: &str,
        work: Conn,
        start: &StartWorkConn,
    ) {
        let key = self
            .announcement
            .use_encryption
            .then_some(&shared.payload_key);
        let work = work.layered(key, self.announcement.use_compression);
        self.backend.serve(run_id, &self.name, work, start).await;
    }

    #[cfg(test)]
    pub(crate) fn for_test(user: &str, name: &str, local_port: u16) -> Self {
        Self::new(user, &tests::config(name, local_port)).unwrap()
    }
}

/// A proxy's name on the wire.
fn wire_name(user: &str, name: &str) -> String {
    if user.is_empty() {
        name.into()
    } else {
        format!("{user}.{name}")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use frp_proto::config::raw::client::{HealthCheckConfig, ProxyBase};

    /// A `tcp` proxy to a local port.
    pub(crate) fn config(name: &str, local_port: u16) -> ProxyConfig {
        ProxyConfig {
            base: ProxyBase {
                name: name.into(),
                type_: "tcp".into(),
                local_ip: "127.0.0.1".into(),
                local_port: local_port.into(),
                ..ProxyBase::default()
            },
            kind: ProxyKind::Tcp { remote_port: 0 },
        }
    }

    #[test]
    fn the_announcement_holds_every_field() {
        let mut c = config("web", 80);
        c.kind = ProxyKind::Tcp { remote_port: 6000 };
        let base = &mut c.base;
        base.metadatas.insert("m".into(), "1".into());
        base.annotations.insert("a".into(), "2".into());
        base.load_balancer.group = "g".into();
        base.load_balancer.group_key = "k".into();
        base.transport.use_encryption = true;
        base.transport.use_compression = true;
        base.transport.bandwidth_limit = "10MB".into();
        base.transport.bandwidth_limit_mode = "server".into();
        let expected = NewProxy {
            proxy_name: "alice.web".into(),
            proxy_type: "tcp".into(),
            use_encryption: true,
            use_compression: true,
            bandwidth_limit: "10MB".into(),
            bandwidth_limit_mode: "server".into(),
            group: "g".into(),
            group_key: "k".into(),
            metas: [("m".into(), "1".into())].into(),
            annotations: [("a".into(), "2".into())].into(),
            remote_port: 6000,
            ..NewProxy::default()
        };
        assert_eq!(*Proxy::new("alice", &c).unwrap().announcement, expected);
    }

    #[test]
    fn the_client_mode_is_not_announced() {
        let mut c = config("web", 80);
        c.base.transport.bandwidth_limit_mode = "client".into();
        let proxy = Proxy::new("", &c).unwrap();
        assert_eq!(proxy.announcement.proxy_name, "web");
        assert_eq!(proxy.announcement.bandwidth_limit_mode, "");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let refusal = |change: fn(&mut ProxyConfig)| {
            let mut c = config("web", 80);
            change(&mut c);
            Proxy::new("", &c).unwrap_err().to_string()
        };
        let udp = refusal(|c| {
            c.base.type_ = "udp".into();
            c.kind = ProxyKind::Udp { remote_port: 1 };
        });
        assert!(udp.starts_with("proxy [web]: type \"udp\" is not supported"));
        let health = refusal(|c| {
            c.base.health_check = HealthCheckConfig {
                type_: "tcp".into(),
                ..HealthCheckConfig::default()
            };
        });
        assert!(health.contains("healthCheck"));
        let limit = refusal(|c| c.base.transport.bandwidth_limit = "1MB".into());
        assert!(limit.contains("bandwidthLimit"));
        let port = refusal(|c| c.base.local_port = 70_000);
        assert!(port.contains("localPort"));
        let version = refusal(|c| c.base.transport.proxy_protocol_version = "v3".into());
        assert!(version.contains("proxyProtocolVersion"));
    }
}
