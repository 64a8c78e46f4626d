//! The users of a visitor of byte streams: those who connect to its port, and those whom another visitor hands over.

use frp_proto::net::{Conn, listen};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::Visitor;

/// Idle seconds before keepalive probes to users.
const KEEPALIVE_SECS: i64 = 15;
/// Users that may wait to be taken over.
const QUEUE: usize = 128;

/// How another visitor hands users over.
pub(super) type Handover = mpsc::Sender<User>;

/// Somebody to be served.
pub(crate) struct User {
    pub(super) conn: Conn,
    /// Who wants to know that there is no way to the proxy.
    refusal: Option<oneshot::Sender<String>>,
}

impl User {
    fn new(conn: Conn) -> Self {
        Self {
            conn,
            refusal: None,
        }
    }

    /// A user of this program's own; it is told why if it cannot be served.
    pub(super) fn with_refusal(conn: Conn) -> (Self, oneshot::Receiver<String>) {
        let (refusal, refused) = oneshot::channel();
        let refusal = Some(refusal);
        (Self { conn, refusal }, refused)
    }

    /// Closes the connection, since it cannot be served.
    pub(super) fn refuse(self, why: &str) {
        if let Some(refusal) = self.refusal {
            // Who does not wait any more does not want to know.
            let _ = refusal.send(why.to_owned());
        }
    }
}

/// Where they come in.
pub(super) struct Users {
    listener: Option<TcpListener>,
    handed: mpsc::Receiver<User>,
}

/// Binds the visitor's port, if it has one.
pub(super) async fn listen(visitor: &Visitor) -> Result<Option<TcpListener>, String> {
    if visitor.bind_port < 0 {
        return Ok(None);
    }
    let port = u16::try_from(visitor.bind_port)
        .map_err(|_| format!("listen tcp: address {}: invalid port", visitor.bind_port))?;
    let listener = listen::bind(&visitor.bind_addr, port).await;
    listener.map(Some).map_err(|e| e.to_string())
}

impl Users {
    pub(super) fn new(listener: Option<TcpListener>) -> (Self, Handover) {
        let (handover, handed) = mpsc::channel(QUEUE);
        (Self { listener, handed }, handover)
    }

    /// The next user; `None` when the port has failed for good. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<User> {
        let Some(listener) = &self.listener else {
            return self.handed.recv().await;
        };
        tokio::select! {
            accepted = listen::accept(listener) => {
                let (user, _) = accepted.ok()?;
                if let Err(e) = listen::set_options(&user, KEEPALIVE_SECS) {
                    tracing::debug!("socket options of a user connection: {e}");
                }
                Some(User::new(Conn::Tcp(user)))
            }
            Some(user) = self.handed.recv() => Some(user),
        }
    }
}
