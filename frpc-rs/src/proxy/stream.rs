//! The local side of proxies that carry a byte stream a user (client.md §8): dial, PROXY header, join.

use std::time::Duration;

use frp_proto::config::raw::client::ProxyBase;
use frp_proto::msg::{StartWorkConn, Verdict};
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::listen::join_host_port;
use frp_proto::net::relay::Side;
use frp_proto::net::{Conn, relay};
use frp_proto::tls::TlsError;

use super::{local, verdict};
use crate::Error;
use crate::metrics::Failure;
use crate::plugin::{Plugin, User};
use crate::proxy_protocol::{self, ProxyProtocol};
use crate::records::Connection;
use crate::vnet::Controller;

/// Limit for reaching the local service, name resolution included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle seconds before keepalive probes to the local service.
const KEEPALIVE_SECS: i64 = 15;

/// Where byte streams go.
#[derive(Debug)]
pub(super) struct Backend {
    target: Target,
    proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Debug)]
enum Target {
    /// A service that is reached over TCP.
    Service(DialOptions),
    Plugin(Plugin),
}

impl Target {
    fn new(base: &ProxyBase) -> Result<Self, Error> {
        let name = &base.name;
        if let Some(plugin) = &base.plugin {
            let plugin = Plugin::new(plugin).map_err(|e| Error(format!("proxy [{name}]: {e}")))?;
            return Ok(Self::Plugin(plugin));
        }
        Ok(Self::Service(DialOptions {
            host: base.local_ip.clone(),
            port: local::port(base)?,
            timeout: DIAL_TIMEOUT,
            keepalive_secs: KEEPALIVE_SECS,
            local_ip: None,
        }))
    }
}

impl Backend {
    pub(super) fn new(base: &ProxyBase) -> Result<Self, Error> {
        Ok(Self {
            target: Target::new(base)?,
            proxy_protocol: local::proxy_protocol(base)?,
        })
    }

    /// What has to be there when the proxy starts.
    pub(super) fn prepare(&self) -> Result<(), TlsError> {
        match &self.target {
            Target::Service(_) => Ok(()),
            Target::Plugin(plugin) => plugin.prepare(),
        }
    }

    /// The proxy is no more.
    pub(super) fn close(&self) {
        if let Target::Plugin(plugin) = &self.target {
            plugin.close();
        }
    }

    /// Serves a user over a work connection.
    pub(super) async fn serve(
        &self,
        network: Option<&Controller>,
        run_id: &str,
        name: &str,
        work: Conn,
        start: &StartWorkConn,
        record: &mut Connection<'_>,
    ) {
        let user = User {
            run_id,
            proxy: name,
            start,
            proxy_protocol: self.proxy_protocol,
            network,
        };
        match &self.target {
            Target::Service(service) => join(service, user, work, record).await,
            Target::Plugin(plugin) => {
                let served = async {
                    if let Some(work) = reached(work, start).await {
                        plugin.serve(user, work).await;
                    }
                };
                Box::pin(served).await;
            }
        }
    }
}

/// Says that there is somebody to talk to, if the server wants to know. `None`: it is gone.
async fn reached(work: Conn, start: &StartWorkConn) -> Option<Conn> {
    if start.dial_verdict {
        // Few servers ask, so that the room for it is not everybody's.
        Box::pin(verdict::tell(work, Verdict::Reached)).await
    } else {
        Some(work)
    }
}

/// Joins a work connection with a new connection to the service.
async fn join(service: &DialOptions, user: User<'_>, work: Conn, record: &mut Connection<'_>) {
    let (run_id, name, start) = (user.run_id, user.proxy, user.start);
    let address = join_host_port(&service.host, service.port);
    let dialled = Box::pin(dial(service)).await;
    record.dialled(&dialled);
    let mut local = match dialled {
        Ok(local) => local,
        Err(e) => {
            tracing::error!(run_id = %run_id, proxy = %name, "connect to local service [{address}] error: {e}");
            if start.dial_verdict {
                Box::pin(verdict::refuse(work)).await;
            }
            return;
        }
    };
    if let Err(e) = proxy_protocol::introduce(user.proxy_protocol, &mut local, start).await {
        tracing::error!(run_id = %run_id, proxy = %name, "write proxy protocol header to local conn error: {e}");
        return record.ended((0, 0), Some(Failure::Local));
    }
    let Some(work) = reached(work, start).await else {
        return record.ended((0, 0), Some(Failure::WorkConn));
    };
    tracing::debug!(
        run_id = %run_id, proxy = %name,
        "join connections, user [{}] local service [{address}]",
        join_host_port(&start.src_addr, start.src_port)
    );
    let outcome = relay::relay(work, Conn::Tcp(local)).await;
    let failure = outcome.error.as_ref().map(|(side, _)| match side {
        Side::A => Failure::WorkConn,
        Side::B => Failure::Local,
    });
    record.ended((outcome.a_to_b, outcome.b_to_a), failure);
    tracing::debug!(run_id = %run_id, proxy = %name, "join connections closed");
    if let Some((_, e)) = outcome.error {
        tracing::trace!(run_id = %run_id, proxy = %name, "join connections errors: [{e}]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a served user's future.
    const BUDGET: usize = 900;

    #[test]
    fn a_served_user_is_small() {
        fn size<A, B, C, D, E, F, G, S: Future>(_: impl FnOnce(A, B, C, D, E, F, G) -> S) -> usize {
            size_of::<S>()
        }
        let size = size(Backend::serve);
        assert!(size <= BUDGET, "{size} bytes");
    }
}
