//! Visitors (client.md §13): they make a secret proxy of some frpc reachable here, as if it were local.

pub(crate) mod manager;
mod stcp;
mod sudp;
mod users;
mod virtual_net;
mod xtcp;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::auth::{Secret, token_key};
use frp_proto::config::raw::client::{VisitorConfig, VisitorKind};
use frp_proto::crypto;
use frp_proto::msg::{Message, NewVisitorConn, handshake, io};
use frp_proto::net::Conn;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use users::{Handover, Users};

use crate::host;
use crate::proxy::wire_name;
use crate::work::Context;

/// For the first message, and for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A configured visitor.
#[derive(PartialEq)]
pub(crate) struct Visitor {
    /// Name in the configuration; the server never hears it.
    pub(crate) name: String,
    kind: Kind,
    /// Name of the proxy on the wire.
    target: String,
    secret: Secret,
    /// AES key of the way to frps, if it is encrypted.
    key: Option<[u8; 16]>,
    use_compression: bool,
    bind_addr: String,
    /// Negative = no listener.
    bind_port: i64,
    /// What it makes reachable on the virtual network, if it is for that.
    destination: Option<Result<IpAddr, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Stcp,
    Sudp,
    Xtcp(xtcp::Options),
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Where a visitor's users come in.
enum Entrance {
    /// Those of byte streams; without a listener only users that are handed over.
    Streams(Option<tokio::net::TcpListener>),
    Datagrams(frp_proto::udp::Socket),
}

impl Visitor {
    /// From a loaded visitor of a client of `user`.
    pub(crate) fn new(user: &str, c: &VisitorConfig) -> Self {
        let base = &c.base;
        let kind = match &c.kind {
            VisitorKind::Stcp => Kind::Stcp,
            VisitorKind::Sudp => Kind::Sudp,
            VisitorKind::Xtcp(c) => Kind::Xtcp(xtcp::Options::new(c)),
        };
        // Datagrams have no use for it.
        let plugin = base.plugin.as_ref().filter(|_| kind != Kind::Sudp);
        let owner = if base.server_user.is_empty() {
            user
        } else {
            &base.server_user
        };
        let secret = base.secret_key.as_str().into();
        Self {
            name: base.name.clone(),
            kind,
            target: wire_name(owner, &base.server_name),
            key: base
                .transport
                .use_encryption
                .then(|| crypto::derive_key(base.secret_key.as_bytes())),
            secret,
            use_compression: base.transport.use_compression,
            bind_addr: base.bind_addr.clone(),
            bind_port: base.bind_port,
            destination: plugin.map(virtual_net::destination),
        }
    }

    /// Opens the place where users come in. The error is the text of the log.
    async fn listen(&self) -> Result<Entrance, String> {
        if let Some(Err(e)) = &self.destination {
            return Err(format!("new visitor error: {e}"));
        }
        let entrance = match self.kind {
            Kind::Stcp | Kind::Xtcp(_) => users::listen(self).await.map(Entrance::Streams),
            Kind::Sudp => sudp::listen(self).await.map(Entrance::Datagrams),
        };
        entrance.map_err(|e| format!("start error: {e}"))
    }

    /// A connection to the proxy, which carries payload. The error is the text of the log.
    async fn dial(&self, context: &Context) -> Result<Conn, String> {
        let version = context.shared.settings.wire_version;
        let timestamp = host::unix_time();
        let request = Message::NewVisitorConn(NewVisitorConn {
            run_id: context.run_id.to_string(),
            proxy_name: self.target.clone(),
            sign_key: token_key(&self.secret, timestamp),
            timestamp,
            use_encryption: self.key.is_some(),
            use_compression: self.use_compression,
        });
        let mut conn =
            (context.link.connect().await).map_err(|e| format!("connect to server error: {e}"))?;
        let sent = timeout(ANSWER_LIMIT, handshake::open(&mut conn, version, &request));
        let sent = sent.await.map_or_else(
            |_| Err("i/o timeout".to_owned()),
            |sent| sent.map_err(|e| e.to_string()),
        );
        sent.map_err(|e| format!("send newVisitorConnMsg to server error: {e}"))?;
        let error = match timeout(ANSWER_LIMIT, io::read_message(&mut conn, version)).await {
            Ok(Ok(Some(Message::NewVisitorConnResp(resp)))) if resp.error.is_empty() => {
                return Ok(conn.layered(self.key.as_ref(), self.use_compression));
            }
            Ok(Ok(Some(Message::NewVisitorConnResp(resp)))) => {
                return Err(format!(
                    "start new visitor connection error: {}",
                    resp.error
                ));
            }
            Ok(Ok(other)) => {
                let name = other.map_or("null", |m| m.name());
                format!("unexpected message type {name}, want NewVisitorConnResp")
            }
            Ok(Err(e)) => e.to_string(),
            Err(_) => "i/o timeout".into(),
        };
        Err(format!("read newVisitorConnRespMsg error: {error}"))
    }
}

/// Serves the users of a visitor that has started, until it is told to end; gives the way for others to hand users over, if that
/// is possible.
fn serve(
    context: Arc<Context>,
    visitor: Arc<Visitor>,
    entrance: Entrance,
    cancel: CancellationToken,
) -> (Option<Handover>, impl Future<Output = ()> + Send + 'static) {
    let (entrance, handover) = match entrance {
        Entrance::Streams(listener) => {
            let (users, handover) = Users::new(listener);
            (Ok(users), Some(handover))
        }
        Entrance::Datagrams(socket) => (Err(socket), None),
    };
    let own_user = handover.clone();
    let serve = async move {
        let feed = async {
            match (&visitor.destination, &own_user) {
                (Some(Ok(to)), Some(users)) => {
                    virtual_net::feed(&context, &visitor.name, *to, users).await;
                }
                _ => std::future::pending().await,
            }
        };
        let serve = async {
            match (entrance, &visitor.kind) {
                (Ok(users), Kind::Xtcp(options)) => {
                    xtcp::serve(&context, &visitor, options, users, &cancel).await;
                }
                (Ok(users), _) => stcp::serve(&context, &visitor, users, &cancel).await,
                (Err(socket), _) => sudp::serve(&context, &visitor, socket, &cancel).await,
            }
        };
        tokio::select! {
            () = serve => {}
            () = feed => {}
        }
    };
    (handover, serve)
}
