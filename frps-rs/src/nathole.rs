//! Brings `xtcp` visitors and proxies together, so that they can make a hole through their NATs (nathole.md §7). What they send
//! each other then never comes here.
//!
//! Everything in here ends by itself: an exchange has a task that owns it, and the maps hold no more than ways to that task.

mod exchange;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frp_proto::auth::{Secret, verify_token_key};
use frp_proto::msg::{
    Message, NatHoleClient, NatHoleReport, NatHoleResp, NatHoleVisitor, NewProxy,
};
use frp_proto::nathole::MAX_ID;
use frp_proto::nathole::plan::Records;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::proxy::Context;
use crate::session::Handle;
use crate::visitors::ANYONE;

/// Exchanges that the visitors of one client may have at a time, those that may still be reported on included. Upstream's
/// visitors begin one in 10 s, which counts for 40 s or 70 s.
pub(crate) const MAX_EXCHANGES: usize = 256;
/// The same of all clients; each costs a few KiB.
const MAX_SESSIONS: usize = 16_384;

/// All `xtcp` proxies and exchanges.
pub(crate) struct NatHoles {
    proxies: Mutex<HashMap<String, Entry>>,
    sessions: Mutex<HashMap<String, Session>>,
    records: Mutex<Records>,
}

/// A proxy that visitors may ask for.
#[derive(Clone)]
struct Entry {
    secret: Secret,
    allowed: Vec<String>,
    context: Arc<Context>,
    cancel: CancellationToken,
}

/// What an exchange waits for; each comes once.
struct Session {
    /// Run id of the proxy's client: nobody else may speak for it.
    owner: Arc<str>,
    client: Option<oneshot::Sender<NatHoleClient>>,
    report: Option<oneshot::Sender<bool>>,
}

/// A proxy's place; dropping it gives the name back, and ends exchanges that wait for the proxy's client.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    name: String,
    cancel: CancellationToken,
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.shared.nat_holes.proxies).remove(&self.name);
        self.cancel.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insert or remove: a panic elsewhere leaves the maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NatHoles {
    /// Remembers what has worked for so long.
    pub(crate) fn new(max_age: Duration) -> Self {
        Self {
            proxies: Mutex::default(),
            sessions: Mutex::default(),
            records: Mutex::new(Records::new(max_age)),
        }
    }

    /// The proxy, if this visitor may ask for it. The error is the text for the visitor.
    fn find(&self, user: &str, m: &NatHoleVisitor) -> Result<Entry, String> {
        let name = &m.proxy_name;
        let entry = lock(&self.proxies).get(name).cloned();
        let entry = entry.ok_or_else(|| format!("xtcp server for [{name}] doesn't exist"))?;
        if !m.pre_check && !verify_token_key(&entry.secret, m.timestamp, &m.sign_key) {
            return Err(format!("xtcp connection of [{name}] auth failed"));
        }
        if !entry.allowed.iter().any(|u| u == user || u == ANYONE) {
            return Err(format!(
                "xtcp visitor user [{user}] not allowed for [{name}]"
            ));
        }
        Ok(entry)
    }

    /// The session that this client may speak for.
    fn with_session<T>(
        &self,
        from: &Handle,
        sid: &str,
        f: impl FnOnce(&mut Session) -> Option<T>,
    ) -> Option<T> {
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(sid);
        session.filter(|s| s.owner == from.run_id).and_then(f)
    }

    /// A proxy's client is ready.
    pub(crate) fn client(&self, from: &Handle, m: NatHoleClient) {
        let waiter = self.with_session(from, &m.sid, |s| s.client.take());
        if let Some(waiter) = waiter {
            // An error means that it was waited for long enough.
            let _ = waiter.send(m);
        }
    }

    /// A proxy's client has tried.
    pub(crate) fn report(&self, from: &Handle, m: &NatHoleReport) {
        let waiter = self.with_session(from, &m.sid, |s| s.report.take());
        if let Some(waiter) = waiter {
            // As above.
            let _ = waiter.send(m.success);
        } else {
            let sid: String = m.sid.chars().take(MAX_ID).collect();
            tracing::trace!(run_id = %from.run_id, "sid [{sid}] report make hole success: {}, but session not found", m.success);
        }
    }
}

/// Opens a proxy to visitors. The error is the text for the client.
pub(crate) fn register(context: Arc<Context>, m: &NewProxy) -> Result<Registration, String> {
    let shared = context.shared.clone();
    let cancel = context.session.cancel.child_token();
    let name = m.proxy_name.clone();
    match lock(&shared.nat_holes.proxies).entry(name.clone()) {
        Slot::Occupied(_) => return Err(format!("proxy [{name}] is repeated")),
        Slot::Vacant(slot) => slot.insert(Entry {
            secret: m.sk.as_str().into(),
            allowed: if m.allow_users.is_empty() {
                vec![context.session.login.user.clone()]
            } else {
                m.allow_users.clone()
            },
            context,
            cancel: cancel.clone(),
        }),
    };
    Ok(Registration {
        shared,
        name,
        cancel,
    })
}

/// Answers a visitor: at once if it only asks, or may not; else when an exchange has found out what it shall do.
pub(crate) async fn visit(shared: &Arc<Shared>, visitor: &Arc<Handle>, m: NatHoleVisitor) {
    if m.transaction_id.len() > MAX_ID || m.protocol.len() > MAX_ID {
        return;
    }
    let holes = &shared.nat_holes;
    match holes.find(&visitor.login.user, &m) {
        Ok(_) if m.pre_check => answer(visitor, m.transaction_id, String::new()).await,
        Ok(entry) => {
            let place = visitor.exchanges.clone().try_acquire_owned().ok();
            let place = place.filter(|_| lock(&holes.sessions).len() < MAX_SESSIONS);
            let Some(place) = place else {
                tracing::warn!(run_id = %visitor.run_id, proxy = %m.proxy_name, "too many nat hole exchanges, request ignored");
                return;
            };
            let (shared, visitor) = (shared.clone(), visitor.clone());
            shared.tasks.clone().spawn(async move {
                let stop = shared.stop.clone();
                let exchange = exchange::run(&shared, &visitor, entry, m);
                stop.run_until_cancelled(exchange).await;
                drop(place);
            });
        }
        Err(error) => {
            if !m.pre_check {
                tracing::warn!(run_id = %visitor.run_id, "handle visitorMsg error: {error}");
            }
            answer(visitor, m.transaction_id, error).await;
        }
    }
}

/// An answer that says no more than whether something is wrong.
async fn answer(to: &Handle, transaction_id: String, error: String) {
    let resp = NatHoleResp {
        transaction_id,
        error,
        ..NatHoleResp::default()
    };
    to.send(Message::NatHoleResp(Box::new(resp))).await;
}
