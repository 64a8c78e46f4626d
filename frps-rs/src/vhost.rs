//! Ports that many proxies share: users are told apart by the domain they ask for.
//!
//! | module | holds |
//! |--|--|
//! | `router` | from domain, user and path to whoever has claimed them |
//! | `http` | the reverse proxy of `vhostHTTPPort` |
//! | `muxer` | what the ports of byte streams have in common |
//! | `https` | `vhostHTTPSPort`: TLS users, by the server name they ask for |
//! | `tcpmux`, `connect_head` | `tcpmuxHTTPConnectPort`: users of an HTTP proxy, by the host they want to be connected with |

mod connect_head;
pub(crate) mod http;
pub(crate) mod https;
mod muxer;
mod router;
pub(crate) mod tcpmux;

use std::net::SocketAddr;
use std::sync::Arc;

use frp_proto::net::{Conn, listen};
use tokio::net::{TcpListener, TcpStream};

use self::muxer::Routed;
use crate::proxy::connect::{self, Ends};
use crate::proxy_protocol::Listener;
use crate::{Error, Settings, Shared};

/// What users of a port speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Https,
    /// `CONNECT` of HTTP, and a byte stream from there on.
    Tcpmux,
}

impl Protocol {
    fn listener(self) -> Listener {
        match self {
            Self::Http => Listener::Http,
            Self::Https => Listener::Https,
            Self::Tcpmux => Listener::Tcpmux,
        }
    }
}

/// Binds a vhost port; `None` when it is off, or shared with the client port.
pub(crate) async fn bind(
    settings: &Settings,
    protocol: Protocol,
) -> Result<Option<(Protocol, TcpListener)>, Error> {
    let (ports, shared) = (&settings.vhost_ports, &settings.shared_port);
    let (port, shared, what) = match protocol {
        Protocol::Http => (ports.http, shared.http, "vhost http"),
        Protocol::Https => (ports.https, shared.https, "server"),
        Protocol::Tcpmux => (ports.tcpmux, false, "server"),
    };
    if port == 0 {
        return Ok(None);
    }
    let error = |e: String| Error(format!("create {what} listener error, {e}"));
    let port = u16::try_from(port).map_err(|e| error(e.to_string()))?;
    let addr = &settings.proxy_bind_addr;
    let listener = if shared {
        None
    } else {
        let bound = listen::bind(addr, port).await;
        Some((protocol, bound.map_err(|e| error(e.to_string()))?))
    };
    let addr = listen::join_host_port(addr, port);
    match protocol {
        Protocol::Http => tracing::info!("http service listen on {addr}"),
        Protocol::Https if shared => {}
        Protocol::Https => tracing::info!("https service listen on {addr}"),
        Protocol::Tcpmux => tracing::info!(
            "tcpmux httpconnect multiplexer listen on {addr}, passthrough: {}",
            ports.tcpmux_passthrough
        ),
    }
    Ok(listener)
}

/// Accepts users until the listener fails for good, or the server stops.
pub(crate) async fn serve(shared: Arc<Shared>, protocol: Protocol, listener: TcpListener) {
    let accept = async {
        loop {
            match listen::accept(&listener).await {
                Ok((user, peer)) => {
                    let served = accepted(shared.clone(), protocol, user, peer);
                    shared.tasks.spawn(served);
                }
                Err(e) => {
                    tracing::warn!("listener is closed: {e}");
                    return;
                }
            }
        }
    };
    shared.stop.run_until_cancelled(accept).await;
}

async fn accepted(shared: Arc<Shared>, protocol: Protocol, mut user: TcpStream, peer: SocketAddr) {
    let listener = protocol.listener();
    if let Some(ends) = shared.ends(listener, &mut user, peer).await {
        greet(shared, protocol, user, ends).await;
    }
}

/// Serves one user from the first byte on.
pub(crate) async fn greet(
    shared: Arc<Shared>,
    protocol: Protocol,
    mut user: TcpStream,
    ends: Ends,
) {
    let routed = match (protocol, ends.src) {
        (Protocol::Http, Some(peer)) => {
            if let Err(e) = listen::set_options(&user, shared.now().settings.tcp_keepalive) {
                tracing::debug!("socket options of a user connection: {e}");
            }
            return Box::pin(http::serve_connection(shared, Conn::Tcp(user), peer)).await;
        }
        // Nobody is accepted without an address.
        (Protocol::Http, None) => return,
        (Protocol::Https, _) => {
            let route = Box::pin(https::route(&shared, &mut user, ends));
            muxer::limited(&shared, route).await
        }
        (Protocol::Tcpmux, _) => {
            let route = Box::pin(tcpmux::route(&shared, &mut user, ends));
            muxer::limited(&shared, route).await
        }
    };
    if let Some(Routed { turn, head }) = routed {
        Box::pin(connect::serve_turn(&shared, turn, user, ends, head)).await;
    }
}
