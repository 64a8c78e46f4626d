//! The local side of proxies that carry a byte stream a user (client.md §8): dial, PROXY header, join.

use std::time::Duration;

use frp_proto::config::raw::client::ProxyBase;
use frp_proto::msg::StartWorkConn;
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::listen::join_host_port;
use frp_proto::net::{Conn, relay};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::local;
use crate::Error;
use crate::proxy_protocol::ProxyProtocol;

/// Limit for reaching the local service, name resolution included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle seconds before keepalive probes to the local service.
const KEEPALIVE_SECS: i64 = 15;

/// A service that is reached over TCP.
#[derive(Debug)]
pub(super) struct Backend {
    dial: DialOptions,
    proxy_protocol: Option<ProxyProtocol>,
}

impl Backend {
    pub(super) fn new(base: &ProxyBase) -> Result<Self, Error> {
        Ok(Self {
            dial: DialOptions {
                host: base.local_ip.clone(),
                port: local::port(base)?,
                timeout: DIAL_TIMEOUT,
                keepalive_secs: KEEPALIVE_SECS,
                local_ip: None,
            },
            proxy_protocol: local::proxy_protocol(base)?,
        })
    }

    /// Joins a work connection with a new connection to the service.
    pub(super) async fn serve(&self, run_id: &str, name: &str, work: Conn, start: &StartWorkConn) {
        let mut local = match dial(&self.dial).await {
            Ok(local) => local,
            Err(e) => {
                let address = join_host_port(&self.dial.host, self.dial.port);
                tracing::error!(run_id = %run_id, proxy = %name, "connect to local service [{address}] error: {e}");
                return;
            }
        };
        if let Err(e) = self.introduce(&mut local, start).await {
            tracing::error!(run_id = %run_id, proxy = %name, "write proxy protocol header to local conn error: {e}");
            return;
        }
        tracing::debug!(
            run_id = %run_id, proxy = %name,
            "join connections, user [{}] local service [{}]",
            join_host_port(&start.src_addr, start.src_port),
            join_host_port(&self.dial.host, self.dial.port)
        );
        let outcome = relay::relay(work, Conn::Tcp(local)).await;
        tracing::debug!(run_id = %run_id, proxy = %name, "join connections closed");
        if let Some((_, e)) = outcome.error {
            tracing::trace!(run_id = %run_id, proxy = %name, "join connections errors: [{e}]");
        }
    }

    /// Tells the service who the user is, if it wants to know.
    async fn introduce(
        &self,
        local: &mut TcpStream,
        start: &StartWorkConn,
    ) -> Result<(), std::io::Error> {
        let Some(version) = self.proxy_protocol else {
            return Ok(());
        };
        let header = version.header(start).map_err(std::io::Error::other)?;
        local.write_all(&header).await
    }
}
