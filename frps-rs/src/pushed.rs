//! Proxies that administrators have pushed to clients (docs/pushed-proxies.md).
//!
//! What a client has taken is remembered by the key that the client registry has for it, and pushed again when the client logs
//! in anew. It is forgotten with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frp_proto::msg::{self, Message, PushProxy, RemoveProxy, Version, v1};
use frp_proto::net::listen::join_host_port;
use frp_proto::text::NOT_PUSHED;
use serde_json::Value;
use tokio::time::timeout;

use crate::clients::{self, Clients};
use crate::events::Event;
use crate::session::Handle;
use crate::session::pushes::Gone;
use crate::{Shared, records};

/// Proxies that are remembered, of all clients together; each is some kilobytes at most.
const MAX_PROXIES: usize = 4096;
/// For the client's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a proxy was not pushed, or not removed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    #[error("{0}")]
    Invalid(String),
    #[error("the proxy takes more than the {limit} bytes of a message", limit = v1::MAX_PAYLOAD)]
    TooLong,
    #[error("the client does not allow that proxies are pushed to it (acceptProxies)")]
    NotAllowed,
    #[error("the client has refused: {0}")]
    Refused(String),
    #[error("too many proxies are pushed")]
    TooMany,
    #[error("the client has gone")]
    Gone,
    #[error("the client has not answered within {} s", ANSWER_LIMIT.as_secs())]
    NoAnswer,
    #[error("there is no pushed proxy of this name")]
    Unknown,
}

impl From<Gone> for PushError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// A proxy to push. Whether its keys make sense is for the client to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) kind: String,
    conf: Value,
}

impl Proxy {
    /// Reads an entry of `proxies`, as JSON.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, PushError> {
        if text.len() > 2 * v1::MAX_PAYLOAD {
            return Err(PushError::TooLong);
        }
        let conf: Value = serde_json::from_slice(text)
            .map_err(|e| PushError::Invalid(format!("parse JSON error: {e}")))?;
        let text = |key: &str| match conf.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            _ => Err(PushError::Invalid(format!(
                "{key} is required: the body is an entry of `proxies`, such as \
                 {{\"name\":\"web\",\"type\":\"tcp\",\"localPort\":80,\"remotePort\":8080}}"
            ))),
        };
        let proxy = Self {
            name: text("name")?,
            kind: text("type")?,
            conf,
        };
        // Whatever the client speaks now: it may speak v1 when it comes back.
        let message = proxy.message(i64::MAX);
        msg::encode(Version::V1, &message, &mut Vec::new()).map_err(|_| PushError::TooLong)?;
        Ok(proxy)
    }

    /// Where the client shall connect its users to.
    pub(crate) fn target(&self) -> String {
        let host = self.conf.get("localIP").and_then(Value::as_str);
        let port = self.conf.get("localPort").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok());
        join_host_port(host.unwrap_or("127.0.0.1"), port.unwrap_or(0))
    }

    fn message(&self, id: i64) -> Message {
        Message::PushProxy(PushProxy {
            id,
            proxy: self.conf.clone(),
        })
    }
}

/// One that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// `None`: the client is to remove it when it comes back.
    proxy: Option<Proxy>,
    /// Why the client has not taken it again; empty if it has.
    error: String,
}

/// One that is remembered, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) proxy: Proxy,
    pub(crate) error: String,
}

/// What is remembered, by the keys of clients and the names of proxies.
#[derive(Default)]
pub(crate) struct Pushed(Mutex<BTreeMap<String, BTreeMap<String, Entry>>>);

impl Pushed {
    /// Those of a client, by name; `None`: nothing was ever pushed to it.
    pub(crate) fn of(&self, key: &str) -> Option<Vec<Shown>> {
        let all = self.lock();
        let shown = |entry: &Entry| {
            Some(Shown {
                proxy: entry.proxy.clone()?,
                error: entry.error.clone(),
            })
        };
        Some(all.get(key)?.values().filter_map(shown).collect())
    }

    /// Whether there is room for one more; clients that are not known any more make room.
    fn has_room(&self, key: &str, name: &str, clients: &Clients) -> bool {
        let mut all = self.lock();
        let known = all.get(key).is_some_and(|of| of.contains_key(name));
        let full = |all: &BTreeMap<_, BTreeMap<_, _>>| {
            all.values().map(BTreeMap::len).sum::<usize>() >= MAX_PROXIES
        };
        if !known && full(&all) {
            all.retain(|key, _| clients.find(key).is_some());
        }
        known || !full(&all)
    }

    fn get(&self, key: &str, name: &str) -> Option<Entry> {
        self.lock().get(key)?.get(name).cloned()
    }

    fn set(&self, key: &str, name: &str, entry: Entry) {
        let mut all = self.lock();
        let of = all.entry(key.to_owned()).or_default();
        of.insert(name.to_owned(), entry);
    }

    fn forget(&self, key: &str, name: &str) {
        let mut all = self.lock();
        if let Some(of) = all.get_mut(key) {
            of.remove(name);
            if of.is_empty() {
                all.remove(key);
            }
        }
    }

    fn names(&self, key: &str) -> Vec<String> {
        let all = self.lock();
        all.get(key)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Entry>>> {
        // Every change leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a client serve a proxy, or one of its name in its place, and remembers it.
pub(crate) async fn push(
    shared: &Shared,
    session: &Handle,
    key: &str,
    proxy: Proxy,
) -> Result<(), PushError> {
    if !session.login.accept_proxies {
        return Err(PushError::NotAllowed);
    }
    let asked = async {
        let turn = session.push_turn().await?;
        if !shared
            .pushed
            .has_room(key, &proxy.name, shared.sessions.clients())
        {
            return Err(PushError::TooMany);
        }
        let answer = turn.ask(|id| proxy.message(id)).await?;
        answer.map_err(PushError::Refused)?;
        let entry = Entry {
            proxy: Some(proxy.clone()),
            error: String::new(),
        };
        shared.pushed.set(key, &proxy.name, entry);
        Ok(())
    };
    let result = timeout(ANSWER_LIMIT, asked).await;
    let result = result.unwrap_or(Err(PushError::NoAnswer));
    tell(shared, session, key, &proxy, &result);
    result
}

/// Has a client serve a pushed proxy no longer, now or when it comes back, and forgets it. Says whether it is done already.
pub(crate) async fn remove(
    shared: &Shared,
    session: Option<&Handle>,
    key: &str,
    name: &str,
) -> Result<bool, PushError> {
    let known = || shared.pushed.get(key, name).is_some();
    let Some(session) = session else {
        if !known() {
            return Err(PushError::Unknown);
        }
        let gone = Entry {
            proxy: None,
            error: String::new(),
        };
        shared.pushed.set(key, name, gone);
        return Ok(false);
    };
    let asked = async {
        let turn = session.push_turn().await?;
        // Who takes none now has stopped those it had.
        let answer = if session.login.accept_proxies {
            turn.ask(|id| remove_message(id, name)).await?
        } else {
            Err(NOT_PUSHED.to_owned())
        };
        match answer {
            Ok(()) => {}
            Err(e) if e == NOT_PUSHED && known() => {}
            Err(e) if e == NOT_PUSHED => return Err(PushError::Unknown),
            Err(e) => return Err(PushError::Refused(e)),
        }
        shared.pushed.forget(key, name);
        Ok(())
    };
    let result = timeout(ANSWER_LIMIT, asked).await;
    result.unwrap_or(Err(PushError::NoAnswer))?;
    tracing::warn!(run_id = %session.run_id, "pushed proxy [{name}] is removed by an administrator");
    shared.events.tell(|| Event::PushRemoved {
        name,
        client: key,
        run_id: &session.run_id,
    });
    Ok(true)
}

fn remove_message(id: i64, name: &str) -> Message {
    let name = name.to_owned();
    Message::RemoveProxy(RemoveProxy { id, name })
}

/// Tells a client that has logged in what it had before. Never ends, so that it may stand beside what ends a session.
pub(crate) async fn again(shared: &Shared, session: &Handle) {
    if session.login.accept_proxies {
        // Most sessions need no room for it.
        Box::pin(push_all_again(shared, session)).await;
    }
    std::future::pending::<()>().await;
}

async fn push_all_again(shared: &Shared, session: &Handle) {
    let key = clients::key(&session.login, &session.run_id);
    for name in shared.pushed.names(&key) {
        // One that is not answered does not keep the others waiting for ever.
        let answered = timeout(ANSWER_LIMIT, push_again(shared, session, &key, &name)).await;
        if answered.is_err() {
            tracing::warn!(run_id = %session.run_id, "pushed proxy [{name}]: {}", PushError::NoAnswer);
        }
    }
}

async fn push_again(shared: &Shared, session: &Handle, key: &str, name: &str) {
    let Ok(turn) = session.push_turn().await else {
        return;
    };
    // An administrator may have come in between.
    let Some(mut entry) = shared.pushed.get(key, name) else {
        return;
    };
    match &entry.proxy {
        None => {
            // Whether it was there or not: it is gone now.
            if turn.ask(|id| remove_message(id, name)).await.is_ok() {
                shared.pushed.forget(key, name);
            }
        }
        Some(proxy) => {
            let Ok(answer) = turn.ask(|id| proxy.message(id)).await else {
                return;
            };
            let result = answer.map_err(PushError::Refused);
            tell(shared, session, key, proxy, &result);
            entry.error = result.err().map_or_else(String::new, |e| e.to_string());
            shared.pushed.set(key, name, entry);
        }
    }
}

/// Log, audit log and events.
fn tell(
    shared: &Shared,
    session: &Handle,
    key: &str,
    proxy: &Proxy,
    result: &Result<(), PushError>,
) {
    let (name, kind, run_id) = (&proxy.name, &proxy.kind, &session.run_id);
    let error = result.as_ref().err().map(ToString::to_string);
    match &error {
        None => {
            tracing::info!(run_id = %run_id, "proxy [{name}] type [{kind}] is pushed to the client");
        }
        Some(e) => {
            tracing::warn!(run_id = %run_id, "proxy [{name}] type [{kind}] is not pushed: {e}");
        }
    }
    records::push(shared, session, key, proxy, error.as_deref());
    shared.events.tell(|| match error.as_deref() {
        None => Event::PushAccepted {
            name,
            kind,
            client: key,
            run_id,
        },
        Some(error) => Event::PushRefused {
            name,
            kind,
            client: key,
            run_id,
            error,
        },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry {
            proxy: Some(Proxy::parse(text.as_bytes()).unwrap()),
            error: String::new(),
        }
    }

    #[test]
    fn a_proxy_has_a_name_a_type_and_a_size() {
        let proxy = Proxy::parse(br#"{"name":"a","type":"tcp","localIP":"::1","localPort":80}"#);
        assert_eq!(proxy.unwrap().target(), "[::1]:80");
        for (text, expected) in [
            ("", "parse JSON error"),
            ("[]", "name is required"),
            ("7", "name is required"),
            (r#"{"name":7,"type":"tcp"}"#, "name is required"),
            (r#"{"name":"a"}"#, "type is required"),
        ] {
            let error = Proxy::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let long = |n: usize| format!(r#"{{"name":"{}","type":"tcp"}}"#, "n".repeat(n));
        assert!(Proxy::parse(long(10_000).as_bytes()).is_ok());
        for n in [v1::MAX_PAYLOAD, 100 * v1::MAX_PAYLOAD] {
            let error = Proxy::parse(long(n).as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the proxy takes more than the 10240 bytes of a message"
            );
        }
        assert!(Proxy::parse("[".repeat(10_000).as_bytes()).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (pushed, clients) = (Pushed::default(), Clients::default());
        let web = entry(r#"{"name":"web","type":"tcp"}"#);
        assert!(pushed.of("c").is_none());
        for n in 0..MAX_PROXIES {
            assert!(pushed.has_room("c", &n.to_string(), &clients));
            pushed.set("c", &n.to_string(), web.clone());
        }
        assert!(pushed.has_room("c", "0", &clients), "it is there");
        // The client is not known any more.
        assert!(pushed.has_room("d", "web", &clients));
        assert!(pushed.of("c").is_none());
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let login = msg::Login::default();
        clients
            .register(&login, &"d".into(), peer, Version::V1)
            .unwrap();
        for n in 0..MAX_PROXIES {
            pushed.set("d", &n.to_string(), web.clone());
        }
        assert!(!pushed.has_room("d", "web", &clients));
        pushed.forget("d", "0");
        assert!(pushed.has_room("d", "web", &clients));
        let gone = Entry { proxy: None, ..web };
        pushed.set("d", "1", gone);
        assert_eq!(pushed.of("d").unwrap().len(), MAX_PROXIES - 2);
    }
}
