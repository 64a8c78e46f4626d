//! The proxies of one session (client.md §6.1): which exist, where each stands, and what to tell the server about them.
//!
//! No I/O: every call returns the messages it asks to be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use frp_proto::msg::{CloseProxy, Message, NewProxyResp};
use tokio::time::Instant;

use super::Proxy;
use super::state::{Phase, State};

/// Proxies by name, without the user prefix.
pub(crate) struct Manager {
    run_id: Arc<str>,
    user: String,
    proxies: BTreeMap<String, Entry>,
}

struct Entry {
    proxy: Arc<Proxy>,
    state: State,
}

impl Manager {
    /// Takes on the proxies of a new session, none of which the server knows.
    pub(crate) fn new(run_id: Arc<str>, user: &str, proxies: &[Arc<Proxy>], now: Instant) -> Self {
        let proxies: BTreeMap<_, _> = proxies
            .iter()
            .map(|proxy| {
                let entry = Entry {
                    proxy: proxy.clone(),
                    state: State::new(now),
                };
                (proxy.name.clone(), entry)
            })
            .collect();
        if !proxies.is_empty() {
            let names: Vec<_> = proxies.keys().map(String::as_str).collect();
            tracing::info!(run_id = %run_id, "proxy added: [{}]", names.join(" "));
        }
        Self {
            run_id,
            user: user.into(),
            proxies,
        }
    }

    /// Announcements that are due.
    pub(crate) fn announce(&mut self, now: Instant) -> Vec<Message> {
        let mut messages = Vec::new();
        for (name, entry) in &mut self.proxies {
            let before = entry.state.phase();
            if entry.state.announce(now) {
                trace_change(&self.run_id, name, before, entry.state.phase());
                messages.push(Message::NewProxy(entry.proxy.announcement.clone()));
            }
        }
        messages
    }

    /// Takes the server's answer to an announcement; returns what the server is to be told then, which is that a proxy ends
    /// again for which something is missing here.
    #[must_use]
    pub(crate) fn answer(&mut self, now: Instant, resp: &NewProxyResp) -> Option<Message> {
        let (run_id, name) = (&self.run_id, local_name(&self.user, &resp.proxy_name));
        let Some(entry) = self.proxies.get_mut(name) else {
            tracing::warn!(run_id = %run_id, "[{name}] start error: proxy [{name}] not found");
            return None;
        };
        let before = entry.state.phase();
        let accepted = before == Phase::WaitStart && resp.error.is_empty();
        let missing = accepted.then(|| entry.proxy.prepare().err()).flatten();
        let error = missing.as_ref().map_or(&resp.error, |e| &e.0);
        match entry.state.answer(now, error) {
            Ok(()) => tracing::info!(run_id = %run_id, "[{name}] start proxy success"),
            Err(e) => tracing::warn!(run_id = %run_id, "[{name}] start error: {e}"),
        }
        trace_change(run_id, name, before, entry.state.phase());
        missing.map(|_| close(&entry.proxy))
    }

    /// The proxy the server means, if users may connect to it. The first user may overtake the answer to the announcement.
    pub(crate) fn running(&self, wire_name: &str) -> Option<Arc<Proxy>> {
        let entry = self.proxies.get(local_name(&self.user, wire_name))?;
        matches!(entry.state.phase(), Phase::WaitStart | Phase::Running)
            .then(|| entry.proxy.clone())
    }

    /// Ends all proxies.
    pub(crate) fn close(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for (name, entry) in &mut self.proxies {
            let before = entry.state.phase();
            entry.state.close();
            trace_change(&self.run_id, name, before, entry.state.phase());
            messages.push(close(&entry.proxy));
        }
        messages
    }
}

fn close(proxy: &Proxy) -> Message {
    Message::CloseProxy(CloseProxy {
        proxy_name: proxy.announcement.proxy_name.clone(),
    })
}

/// The name of a proxy here, from its name on the wire.
fn local_name<'a>(user: &str, wire_name: &'a str) -> &'a str {
    wire_name
        .strip_prefix(user)
        .filter(|_| !user.is_empty())
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(wire_name)
}

fn trace_change(run_id: &str, name: &str, before: Phase, after: Phase) {
    if before != after {
        tracing::trace!(run_id = %run_id, proxy = %name, "change status from [{before}] to [{after}]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::config::raw::client::{PluginConfig, Tls2RawPlugin};

    fn manager(user: &str, names: &[&str]) -> Manager {
        let proxies: Vec<_> = names
            .iter()
            .map(|name| Arc::new(Proxy::for_test(user, name, 0)))
            .collect();
        Manager::new("run".into(), user, &proxies, Instant::now())
    }

    fn names(messages: &[Message]) -> Vec<(&str, &str)> {
        messages
            .iter()
            .map(|m| match m {
                Message::NewProxy(new) => (m.name(), new.proxy_name.as_str()),
                Message::CloseProxy(close) => (m.name(), close.proxy_name.as_str()),
                other => panic!("unexpected {}", other.name()),
            })
            .collect()
    }

    fn answer(manager: &mut Manager, wire_name: &str, error: &str) {
        let resp = NewProxyResp {
            proxy_name: wire_name.into(),
            error: error.into(),
            ..NewProxyResp::default()
        };
        assert!(manager.answer(Instant::now(), &resp).is_none());
    }

    #[test]
    fn proxies_are_announced_in_order_run_when_accepted_and_are_closed() {
        let mut manager = manager("alice", &["web", "ssh"]);
        let now = Instant::now();
        assert!(manager.running("alice.ssh").is_none());
        assert_eq!(
            names(&manager.announce(now)),
            [("NewProxy", "alice.ssh"), ("NewProxy", "alice.web")]
        );
        // The first user may come before the answer.
        assert!(manager.running("alice.ssh").is_some());
        answer(&mut manager, "alice.ssh", "");
        answer(&mut manager, "alice.web", "port already used");
        answer(&mut manager, "alice.unknown", "");
        assert_eq!(manager.running("alice.ssh").unwrap().name, "ssh");
        assert!(manager.running("alice.web").is_none());
        assert!(manager.running("alice.unknown").is_none());
        assert!(manager.announce(now).is_empty());
        assert_eq!(
            names(&manager.close()),
            [("CloseProxy", "alice.ssh"), ("CloseProxy", "alice.web")]
        );
        assert!(manager.running("alice.ssh").is_none());
    }

    #[test]
    fn a_proxy_without_its_certificate_is_closed_and_tried_again() {
        let mut config = crate::proxy::tests::config("web", 0);
        config.base.plugin = Some(PluginConfig::Tls2Raw(Tls2RawPlugin {
            local_addr: "127.0.0.1:1".into(),
            crt_path: "/nonexistent/crt".into(),
            key_path: "/nonexistent/key".into(),
        }));
        let proxies = [Arc::new(Proxy::new("", &config).unwrap())];
        let mut manager = Manager::new("run".into(), "", &proxies, Instant::now());
        let now = Instant::now();
        manager.announce(now);
        let resp = NewProxyResp {
            proxy_name: "web".into(),
            ..NewProxyResp::default()
        };
        let told: Vec<_> = manager.answer(now, &resp).into_iter().collect();
        assert_eq!(names(&told), [("CloseProxy", "web")]);
        assert!(manager.running("web").is_none());
        let later = now + std::time::Duration::from_secs(31);
        assert_eq!(names(&manager.announce(later)), [("NewProxy", "web")]);
    }

    #[test]
    fn one_exact_prefix_is_stripped() {
        for (user, wire, local) in [
            ("", "web", "web"),
            ("", ".web", ".web"),
            ("alice", "alice.web", "web"),
            ("alice", "alice.alice.web", "alice.web"),
            ("alice", "alicia.web", "alicia.web"),
            ("alice", "aliceweb", "aliceweb"),
            ("alice", "web", "web"),
        ] {
            assert_eq!(local_name(user, wire), local);
        }
    }
}
