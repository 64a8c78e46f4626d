//! The UDP ports for clients.

use std::sync::Arc;

use frp_proto::kcp;
use frp_proto::net::listen::{bind_transport, join_host_port};
use frp_proto::quic;
use frp_proto::tls::ServerTls;

use super::quic::serve as serve_quic;
use super::serve_kcp;
use crate::{Error, Settings, Shared};

/// Those that the settings name, bound.
pub(crate) struct Listeners {
    kcp: Option<kcp::Listener>,
    quic: Option<quic::Listener>,
}

impl Listeners {
    pub(crate) async fn bind(settings: &Settings, tls: &ServerTls) -> Result<Self, Error> {
        let addr = &settings.bind_addr;
        let kcp = match settings.kcp_port {
            None => None,
            Some(port) => {
                let at = join_host_port(addr, port);
                let listener = match bind_transport(addr, port).await {
                    Ok(socket) => kcp::Listener::new(socket, kcp::Windows::SERVER),
                    Err(e) => Err(e),
                };
                let listener = listener
                    .map_err(|e| Error(format!("listen on kcp udp address {at} error: {e}")))?;
                tracing::info!("frps kcp listen on udp {at}");
                Some(listener)
            }
        };
        let quic = match settings.quic_port {
            None => None,
            Some(port) => {
                let at = join_host_port(addr, port);
                let listener = match bind_transport(addr, port).await {
                    Ok(socket) => quic::Listener::new(socket, tls.clone(), settings.quic),
                    Err(e) => Err(e),
                };
                let listener = listener
                    .map_err(|e| Error(format!("listen on quic udp address {at} error: {e}")))?;
                tracing::info!("frps quic listen on {at}");
                Some(listener)
            }
        };
        Ok(Self { kcp, quic })
    }

    /// Accepts clients for ever.
    pub(crate) async fn serve(&self, shared: &Arc<Shared>) {
        let kcp = async {
            if let Some(listener) = &self.kcp {
                serve_kcp(shared, listener).await;
            }
        };
        let quic = async {
            if let Some(listener) = &self.quic {
                serve_quic(shared, listener).await;
            }
        };
        tokio::join!(kcp, quic);
        std::future::pending::<()>().await;
    }

    /// Closes what the clients have open, in order.
    pub(crate) async fn close(&self) {
        if let Some(listener) = &self.quic {
            listener.close().await;
        }
    }

    pub(crate) fn quic(&self) -> Option<&quic::Listener> {
        self.quic.as_ref()
    }
}
