//! Proxies that only visitors reach (server.md §5.6): who may, and the connections of those who did.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frp_proto::auth::{Secret, verify_token_key};
use frp_proto::crypto;
use frp_proto::msg::{NewProxy, NewVisitorConn, Version};
use frp_proto::net::Conn;
use tokio::sync::mpsc;

use crate::proxy::connect::Ends;

/// Visitors of one proxy that may wait to be served.
const QUEUE: usize = 128;
/// Stands for every user in `allowUsers`.
pub(crate) const ANYONE: &str = "*";

/// All such proxies, by name.
#[derive(Clone, Default)]
pub(crate) struct Visitors(Arc<Mutex<HashMap<String, Entry>>>);

struct Entry {
    secret: Secret,
    /// AES key of visitors with `useEncryption`.
    key: [u8; 16],
    allowed: Vec<String>,
    queue: mpsc::Sender<Visitor>,
}

/// A visitor's connection, which carries payload.
pub(crate) struct Visitor {
    /// With the layers the visitor has asked for.
    pub(crate) conn: Conn,
    /// Wire version the connection was opened with.
    pub(crate) version: Version,
    /// The visitor's frpc and the address it reached.
    pub(crate) ends: Ends,
}

/// A proxy's visitors; dropping it gives the name back.
pub(crate) struct Listener {
    visitors: Visitors,
    name: String,
    queue: mpsc::Receiver<Visitor>,
}

/// Leave to visit, not used yet.
pub(crate) struct Admission {
    key: Option<[u8; 16]>,
    compression: bool,
    queue: mpsc::OwnedPermit<Visitor>,
}

/// Why somebody may not visit; `Display` is the text visitors are told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("custom listener for [{0}] doesn't exist")]
    Unknown(String),
    #[error("visitor connection of [{0}] auth failed")]
    Auth(String),
    #[error("visitor connection of [{0}] user [{1}] not allowed")]
    User(String, String),
}

impl Visitors {
    /// Opens a proxy of the user `owner` to visitors. The error is the text for the client.
    pub(crate) fn listen(&self, m: &NewProxy, owner: &str) -> Result<Listener, String> {
        let (sender, queue) = mpsc::channel(QUEUE);
        match self.lock().entry(m.proxy_name.clone()) {
            Slot::Occupied(slot) => {
                return Err(format!("custom listener for [{}] is repeated", slot.key()));
            }
            Slot::Vacant(slot) => slot.insert(Entry {
                key: crypto::derive_key(m.sk.as_bytes()),
                secret: m.sk.as_str().into(),
                allowed: if m.allow_users.is_empty() {
                    vec![owner.to_owned()]
                } else {
                    m.allow_users.clone()
                },
                queue: sender,
            }),
        };
        Ok(Listener {
            visitors: self.clone(),
            name: m.proxy_name.clone(),
            queue,
        })
    }

    /// Decides whether a visitor of this user may come in. `None`: too many wait already.
    pub(crate) fn admit(
        &self,
        user: &str,
        m: &NewVisitorConn,
    ) -> Result<Option<Admission>, Refusal> {
        let name = || m.proxy_name.clone();
        let entries = self.lock();
        let entry = entries
            .get(&m.proxy_name)
            .ok_or_else(|| Refusal::Unknown(name()))?;
        if !verify_token_key(&entry.secret, m.timestamp, &m.sign_key) {
            return Err(Refusal::Auth(name()));
        }
        if !entry.allowed.iter().any(|u| u == user || u == ANYONE) {
            return Err(Refusal::User(name(), user.to_owned()));
        }
        let place = entry.queue.clone().try_reserve_owned();
        Ok(place.ok().map(|queue| Admission {
            key: m.use_encryption.then_some(entry.key),
            compression: m.use_compression,
            queue,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Every change is one insert or remove: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Hands the connection to the proxy. If that has closed meanwhile, so does the connection.
    pub(crate) fn enter(self, conn: Conn, version: Version, ends: Ends) {
        let conn = conn.layered(self.key.as_ref(), self.compression);
        self.queue.send(Visitor {
            conn,
            version,
            ends,
        });
    }
}

impl Listener {
    /// The next visitor. Cancel safe.
    pub(crate) async fn accept(&mut self) -> Option<Visitor> {
        self.queue.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.visitors.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::auth::token_key;

    fn proxy(allow_users: &[&str]) -> NewProxy {
        NewProxy {
            proxy_name: "owner.web".into(),
            sk: "1234".into(),
            allow_users: allow_users.iter().map(|u| (*u).to_owned()).collect(),
            ..NewProxy::default()
        }
    }

    fn visit(secret: &str) -> NewVisitorConn {
        NewVisitorConn {
            proxy_name: "owner.web".into(),
            sign_key: token_key(&secret.into(), 1_488_720_000),
            timestamp: 1_488_720_000,
            ..NewVisitorConn::default()
        }
    }

    fn refusal(visitors: &Visitors, user: &str, secret: &str) -> Option<String> {
        let admitted = visitors.admit(user, &visit(secret));
        admitted.err().map(|e| e.to_string())
    }

    #[test]
    fn the_key_of_the_specification_opens() {
        let visitors = Visitors::default();
        let _listener = visitors.listen(&proxy(&[]), "owner").unwrap();
        let mut m = visit("");
        m.sign_key = "6df41a43725f0c770fd56379e12acf8c".into();
        assert!(visitors.admit("owner", &m).unwrap().is_some());
        m.timestamp += 1;
        assert!(visitors.admit("owner", &m).is_err());
    }

    #[test]
    fn refusals_say_why() {
        let visitors = Visitors::default();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            refusal(&visitors, "owner", "1234"),
            text("custom listener for [owner.web] doesn't exist")
        );
        let listener = visitors.listen(&proxy(&[]), "owner").unwrap();
        assert_eq!(
            visitors.listen(&proxy(&[]), "other").err(),
            text("custom listener for [owner.web] is repeated")
        );
        assert_eq!(
            refusal(&visitors, "owner", "4321"),
            text("visitor connection of [owner.web] auth failed")
        );
        assert_eq!(
            refusal(&visitors, "guest", "1234"),
            text("visitor connection of [owner.web] user [guest] not allowed")
        );
        assert_eq!(refusal(&visitors, "owner", "1234"), None);
        drop(listener);
        let listener = visitors.listen(&proxy(&["guest"]), "owner").unwrap();
        assert_eq!(refusal(&visitors, "guest", "1234"), None);
        assert!(refusal(&visitors, "owner", "1234").is_some());
        drop(listener);
        let _listener = visitors.listen(&proxy(&["*"]), "owner").unwrap();
        assert_eq!(refusal(&visitors, "", "1234"), None);
    }

    #[tokio::test]
    async fn so_many_may_wait_and_places_come_back() {
        let visitors = Visitors::default();
        let mut listener = visitors.listen(&proxy(&[]), "").unwrap();
        let admit = || visitors.admit("", &visit("1234")).unwrap();
        let mut admitted: Vec<_> = (0..QUEUE).map(|_| admit().unwrap()).collect();
        assert!(admit().is_none());
        let (near, _far) = tokio::io::duplex(1);
        let conn = Conn::Other(Box::new(near));
        let one = admitted.pop().unwrap();
        one.enter(conn, Version::V2, Ends::default());
        assert!(admit().is_none());
        let visitor = listener.accept().await.unwrap();
        assert_eq!(visitor.version, Version::V2);
        assert!(admit().is_some());
    }
}
