//! The client registry (server.md §2.4): who is connected, and who with a client id of its own has been.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use frp_proto::msg::{Login, Version};

/// Offline records kept; the one that went first makes room.
const MAX_OFFLINE: usize = 65_536;

/// A client, as the API shows it. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// `user.ID`, or `ID` without a user.
    pub(crate) key: String,
    pub(crate) user: String,
    /// As configured; may be empty.
    pub(crate) raw_client_id: String,
    /// Empty while offline.
    pub(crate) run_id: Arc<str>,
    pub(crate) version: String,
    pub(crate) wire: Version,
    pub(crate) hostname: String,
    pub(crate) ip: String,
    pub(crate) first_connected: i64,
    pub(crate) last_connected: i64,
    pub(crate) disconnected: Option<i64>,
}

impl Record {
    /// The configured id, else the run id.
    pub(crate) fn client_id(&self) -> &str {
        if self.raw_client_id.is_empty() {
            &self.run_id
        } else {
            &self.raw_client_id
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.disconnected.is_none()
    }
}

/// The key of the record of a login: `user.ID`, or `ID` without a user; the run id stands for an id that was not configured.
pub(crate) fn key(login: &Login, run_id: &str) -> String {
    let id = if login.client_id.is_empty() {
        run_id
    } else {
        login.client_id.as_str()
    };
    if login.user.is_empty() {
        id.to_owned()
    } else {
        format!("{}.{id}", login.user)
    }
}

/// All records. Whose login is current is not decided here: who calls [`Clients::offline`] must know.
#[derive(Default)]
pub(crate) struct Clients(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    records: HashMap<String, Record>,
    /// Run id of those that are online → key.
    keys: HashMap<Arc<str>, String>,
}

impl Clients {
    /// Puts down an accepted login. The error is the text for a client whose id another run id has online.
    pub(crate) fn register(
        &self,
        login: &Login,
        run_id: &Arc<str>,
        peer: SocketAddr,
        wire: Version,
    ) -> Result<(), String> {
        let key = key(login, run_id);
        let now = unix_now();
        let mut inner = self.lock();
        let known = inner.records.get(&key);
        if !login.client_id.is_empty()
            && known.is_some_and(|known| known.is_online() && known.run_id != *run_id)
        {
            return Err(format!(
                "client_id [{}] for user [{}] is already online",
                login.client_id, login.user
            ));
        }
        let first_connected = known.map_or(now, |known| known.first_connected);
        if inner.keys.get(run_id).is_some_and(|other| *other != key) {
            inner.offline(run_id, now);
        }
        inner.keys.insert(run_id.clone(), key.clone());
        let record = Record {
            user: login.user.clone(),
            raw_client_id: login.client_id.clone(),
            run_id: run_id.clone(),
            version: login.version.clone(),
            wire,
            hostname: login.hostname.clone(),
            ip: peer.ip().to_canonical().to_string(),
            first_connected,
            last_connected: now,
            disconnected: None,
            key: key.clone(),
        };
        inner.records.insert(key, record);
        Ok(())
    }

    /// The last login of a run id has ended.
    pub(crate) fn offline(&self, run_id: &str) {
        self.lock().offline(run_id, unix_now());
    }

    /// All records, in no order.
    pub(crate) fn all(&self) -> Vec<Record> {
        self.lock().records.values().cloned().collect()
    }

    /// One record.
    pub(crate) fn find(&self, key: &str) -> Option<Record> {
        self.lock().records.get(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A record that a panic left half-registered is replaced by its client's next login.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn offline(&mut self, run_id: &str, now: i64) {
        let Some(key) = self.keys.remove(run_id) else {
            return;
        };
        let Some(record) = self.records.get_mut(&key).filter(|r| &*r.run_id == run_id) else {
            return;
        };
        if record.raw_client_id.is_empty() {
            self.records.remove(&key);
            return;
        }
        record.run_id = "".into();
        record.disconnected = Some(now);
        if self.records.len() - self.keys.len() > MAX_OFFLINE {
            let offline = self.records.values().filter(|r| !r.is_online());
            if let Some(key) = offline
                .min_by_key(|r| r.disconnected)
                .map(|r| r.key.clone())
            {
                self.records.remove(&key);
            }
        }
    }
}

pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, client_id: &str) -> Login {
        Login {
            user: user.into(),
            client_id: client_id.into(),
            ..Login::default()
        }
    }

    fn register(clients: &Clients, user: &str, client_id: &str, run: &str) -> Result<(), String> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        clients.register(&login(user, client_id), &run.into(), peer, Version::V2)
    }

    #[test]
    fn only_a_client_with_an_id_of_its_own_stays() {
        let clients = Clients::default();
        register(&clients, "alice", "c1", "r1").unwrap();
        register(&clients, "", "", "r2").unwrap();
        assert_eq!(clients.find("alice.c1").unwrap().client_id(), "c1");
        assert_eq!(clients.find("r2").unwrap().client_id(), "r2");
        clients.offline("r1");
        clients.offline("r2");
        clients.offline("r3");
        let left = clients.find("alice.c1").unwrap();
        assert!(!left.is_online() && left.run_id.is_empty());
        assert_eq!(clients.all().len(), 1);
        register(&clients, "alice", "c1", "r4").unwrap();
        let back = clients.find("alice.c1").unwrap();
        assert!(back.is_online());
        assert_eq!(back.first_connected, left.first_connected);
    }

    #[test]
    fn an_id_that_is_online_is_refused_to_others() {
        let clients = Clients::default();
        register(&clients, "u", "c", "r1").unwrap();
        assert_eq!(
            register(&clients, "u", "c", "r2").unwrap_err(),
            "client_id [c] for user [u] is already online"
        );
        register(&clients, "u", "c", "r1").unwrap();
        assert_eq!(&*clients.find("u.c").unwrap().run_id, "r1");
        clients.offline("r2");
        assert!(clients.find("u.c").unwrap().is_online());
    }

    #[test]
    fn a_run_id_is_registered_once() {
        let clients = Clients::default();
        register(&clients, "u", "c", "r").unwrap();
        register(&clients, "v", "", "r").unwrap();
        assert!(!clients.find("u.c").unwrap().is_online());
        register(&clients, "", "", "r").unwrap();
        assert!(clients.find("v.r").is_none());
        assert!(clients.find("r").unwrap().is_online());
    }
}
