//! Client plugins (client.md §14): they serve the users of a proxy in place of a local service.

mod basic_auth;
mod bridge;
mod http_proxy;
mod pool;
mod server;
mod socks5;
mod static_file;
mod target;
mod tls2raw;
#[cfg(unix)]
mod unix_domain_socket;
mod virtual_net;

use std::time::Duration;

use frp_proto::config::raw::client::PluginConfig;
use frp_proto::msg::StartWorkConn;
use frp_proto::net::{Conn, relay};
use frp_proto::tls::TlsError;

use crate::Error;
use crate::proxy_protocol::ProxyProtocol;
use crate::vnet::Controller;

/// For what a user has to say before it is served: a TLS or SOCKS handshake, a request's header.
const HANDSHAKE_LIMIT: Duration = Duration::from_mins(1);

/// A checked plugin.
#[derive(Debug)]
pub(crate) struct Plugin {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bridge(bridge::Bridge),
    HttpProxy(http_proxy::HttpProxy),
    Socks5(socks5::Socks5),
    StaticFile(static_file::StaticFile),
    Tls2Raw(tls2raw::Tls2Raw),
    #[cfg(unix)]
    UnixDomainSocket(unix_domain_socket::UnixDomainSocket),
    VirtualNet(virtual_net::VirtualNet),
}

/// Whom a plugin serves, and for which proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    /// The session's.
    pub(crate) run_id: &'a str,
    /// Name without the user prefix.
    pub(crate) proxy: &'a str,
    /// The addresses.
    pub(crate) start: &'a StartWorkConn,
    /// What a local service is to be told about the user, by the plugins that can.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// The virtual network, if this host is part of it.
    pub(crate) network: Option<&'a Controller>,
}

impl Plugin {
    /// Checks the options; no file is read and nothing is dialled.
    pub(crate) fn new(c: &PluginConfig) -> Result<Self, Error> {
        let kind = match c {
            PluginConfig::HttpProxy(c) => Kind::HttpProxy(http_proxy::HttpProxy::new(c)),
            PluginConfig::Socks5(c) => Kind::Socks5(socks5::Socks5::new(c)),
            PluginConfig::StaticFile(c) => Kind::StaticFile(static_file::StaticFile::new(c)),
            #[cfg(unix)]
            PluginConfig::UnixDomainSocket(c) => {
                Kind::UnixDomainSocket(unix_domain_socket::UnixDomainSocket::new(c))
            }
            PluginConfig::Http2Http(c) => Kind::Bridge(bridge::Bridge::http2http(c)?),
            PluginConfig::Http2Https(c) => Kind::Bridge(bridge::Bridge::http2https(c)?),
            PluginConfig::Https2Http(c) => Kind::Bridge(bridge::Bridge::https2http(c)?),
            PluginConfig::Https2Https(c) => Kind::Bridge(bridge::Bridge::https2https(c)?),
            PluginConfig::Tls2Raw(c) => Kind::Tls2Raw(tls2raw::Tls2Raw::new(c)),
            PluginConfig::VirtualNet(_) => Kind::VirtualNet(virtual_net::VirtualNet::default()),
            #[cfg(not(unix))]
            PluginConfig::UnixDomainSocket(_) => {
                let name = c.type_name();
                return Err(Error(format!(
                    "plugin {name:?} is not supported on this platform"
                )));
            }
        };
        Ok(Self {
            name: c.type_name(),
            kind,
        })
    }

    /// What has to be there when the proxy starts: the certificates. `Display` of the error is what users are told.
    pub(crate) fn prepare(&self) -> Result<(), TlsError> {
        match &self.kind {
            Kind::Bridge(bridge) => bridge.prepare(),
            Kind::Tls2Raw(tls2raw) => tls2raw.prepare(),
            _ => Ok(()),
        }
    }

    /// The proxy is no more.
    pub(crate) fn close(&self) {
        if let Kind::VirtualNet(plugin) = &self.kind {
            plugin.close();
        }
    }

    /// Serves a user over a work connection, to its end.
    pub(crate) async fn serve(&self, user: User<'_>, work: Conn) {
        let (run_id, proxy, name) = (user.run_id, user.proxy, self.name);
        tracing::debug!(run_id = %run_id, proxy = %proxy, "handle by plugin: {name}");
        match &self.kind {
            Kind::Bridge(plugin) => plugin.serve(user, work).await,
            Kind::HttpProxy(plugin) => plugin.serve(work).await,
            Kind::Socks5(plugin) => plugin.serve(user, work).await,
            Kind::StaticFile(plugin) => plugin.serve(work).await,
            Kind::Tls2Raw(plugin) => plugin.serve(user, work).await,
            #[cfg(unix)]
            Kind::UnixDomainSocket(plugin) => plugin.serve(user, work).await,
            Kind::VirtualNet(plugin) => plugin.serve(user, work).await,
        }
        tracing::debug!(run_id = %run_id, proxy = %proxy, "handle by plugin finished");
    }
}

/// Copies both ways until both directions have ended or either failed.
async fn join(user: Conn, service: Conn) {
    if let Some((_, e)) = relay::relay(user, service).await.error {
        tracing::trace!("join connections errors: [{e}]");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Somebody whom the server does not describe.
    pub(crate) fn user() -> User<'static> {
        static START: std::sync::LazyLock<StartWorkConn> =
            std::sync::LazyLock::new(StartWorkConn::default);
        User {
            run_id: "run",
            proxy: "web",
            start: &START,
            proxy_protocol: None,
            network: None,
        }
    }
}
