//! The proxies of a client (client.md §6.1): which exist, where each stands, and what to tell the server about them.
//!
//! The set outlives sessions: each session announces all of it anew, and the set may change at any time. Nothing is sent
//! from here: [`Manager::due`] gives the messages, and whoever waits for [`Manager::changed`] learns that there may be some.
//! One task asks and sends, so that messages reach the server in the order of the changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use frp_proto::config::raw::client::ProxyConfig;
use frp_proto::msg::{AgentState, CloseProxy, Message, NewProxyResp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::agent::Watch;
use super::health::{Check, Monitor};
use super::state::{Action, Phase, State};
use super::status::ProxyStatus;
use super::{Proxy, wire_name};
use crate::Error;

/// Names whose answers are waited for though the proxy has gone; a server that answers at all answers sooner.
const MAX_STALE: usize = 65_536;

/// Proxies by name, without the user prefix.
pub(crate) struct Manager {
    user: String,
    proxies: BTreeMap<String, Entry>,
    /// Run id of the session that there is now.
    session: Option<Arc<str>>,
    /// Names on the wire that the server is to close before it hears of new ones.
    leaving: BTreeSet<String>,
    /// Answers that are still to come for proxies of this name, and mean none that is there now.
    stale: BTreeMap<String, u32>,
    changed: Arc<Notify>,
}

struct Entry {
    proxy: Arc<Proxy>,
    state: State,
    /// While a session lasts, for a proxy that has something to check.
    monitor: Option<Monitor>,
    /// While the server wants to hear what the service's agent says.
    agent: Option<Watch>,
}

impl Entry {
    fn new(proxy: Arc<Proxy>, now: Instant) -> Self {
        Self {
            proxy,
            state: State::new(now),
            monitor: None,
            agent: None,
        }
    }

    fn watch(&mut self, run_id: &Arc<str>, changed: &Arc<Notify>) {
        let start = |check: &Arc<Check>| {
            let (run_id, changed) = (run_id.clone(), changed.clone());
            Monitor::start(check.clone(), run_id, &self.proxy.name, changed)
        };
        self.monitor = self.proxy.check.as_ref().map(start);
    }

    /// The server has taken the proxy. `listens`: it wants to hear the agent.
    fn accepted(&mut self, listens: bool, changed: &Arc<Notify>) {
        match (&self.agent, self.proxy.agent.as_ref().filter(|_| listens)) {
            (Some(watch), Some(_)) => watch.forget(),
            (None, Some(agent)) => {
                let watch = Watch::start(agent.clone(), &self.proxy.name, changed.clone());
                self.agent = Some(watch);
            }
            (_, None) => self.agent = None,
        }
    }

    fn is_healthy(&self) -> bool {
        self.monitor.as_ref().is_none_or(Monitor::is_ok)
    }
}

/// What a new set changed: names in order. Of what is in neither list nothing was touched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff {
    /// Not there any more, or there with another configuration.
    pub(crate) removed: Vec<String>,
    /// Not there before, or with another configuration.
    pub(crate) added: Vec<String>,
}

impl Manager {
    pub(crate) fn new(user: &str) -> Self {
        Self {
            user: user.into(),
            proxies: BTreeMap::new(),
            session: None,
            leaving: BTreeSet::new(),
            stale: BTreeMap::new(),
            changed: Arc::new(Notify::new()),
        }
    }

    /// Notified when something may be due.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Begins a session, in which the server knows no proxy. Needs a runtime.
    pub(crate) fn begin(&mut self, run_id: Arc<str>, now: Instant) {
        for entry in self.proxies.values_mut() {
            *entry = Entry::new(entry.proxy.clone(), now);
            entry.watch(&run_id, &self.changed);
        }
        if !self.proxies.is_empty() {
            let names: Vec<_> = self.proxies.keys().map(String::as_str).collect();
            tracing::info!(run_id = %run_id, "proxy added: [{}]", names.join(" "));
        }
        self.session = Some(run_id);
    }

    /// Ends the session: nothing more can be told.
    pub(crate) fn end(&mut self) {
        self.session = None;
        self.leaving.clear();
        self.stale.clear();
        for entry in self.proxies.values_mut() {
            entry.monitor = None;
            entry.agent = None;
            entry.state.close();
        }
    }

    /// Replaces the set; `configs` are complete. A proxy that is the same in both sets is not touched. If one cannot be
    /// served, all stays as it was. Needs a runtime while a session lasts.
    pub(crate) fn update(&mut self, configs: &[ProxyConfig], now: Instant) -> Result<Diff, Error> {
        let mut diff = Diff::default();
        let mut fresh = Vec::new();
        for config in configs {
            let name = &config.base.name;
            let known = self.proxies.get(name);
            if known.is_none_or(|entry| entry.proxy.config != *config) {
                fresh.push(Arc::new(Proxy::new(&self.user, config)?));
                diff.added.push(name.clone());
            }
        }
        let wanted: BTreeSet<&str> = configs.iter().map(|c| c.base.name.as_str()).collect();
        let gone = |name: &&String| !wanted.contains(name.as_str());
        diff.removed = self.proxies.keys().filter(gone).cloned().collect();
        let replaced = |name: &&String| self.proxies.contains_key(*name);
        diff.removed
            .extend(diff.added.iter().filter(replaced).cloned());
        diff.removed.sort_unstable();
        for name in &diff.removed {
            self.remove(name);
        }
        for proxy in fresh {
            let mut entry = Entry::new(proxy, now);
            if let Some(run_id) = &self.session {
                entry.watch(run_id, &self.changed);
            }
            self.proxies.insert(entry.proxy.name.clone(), entry);
        }
        diff.added.sort_unstable();
        for (what, names) in [("removed", &diff.removed), ("added", &diff.added)] {
            if let Some(run_id) = &self.session
                && !names.is_empty()
            {
                tracing::info!(run_id = %run_id, "proxy {what}: [{}]", names.join(" "));
            }
        }
        self.changed.notify_one();
        Ok(diff)
    }

    fn remove(&mut self, name: &str) {
        let Some(mut entry) = self.proxies.remove(name) else {
            return;
        };
        entry.proxy.close();
        if self.session.is_none() {
            return;
        }
        // What was never announced is nothing to the server.
        if entry.state.phase() != Phase::New {
            self.leaving.insert(wire_name(&self.user, name));
        }
        expect_stale(&mut self.stale, name, entry.state.take_unanswered());
    }

    /// What is due now; it counts as sent. Nothing without a session.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Message> {
        let Some(run_id) = &self.session else {
            return Vec::new();
        };
        let leaving = std::mem::take(&mut self.leaving);
        let mut messages: Vec<_> = leaving.into_iter().map(close_proxy).collect();
        for (name, entry) in &mut self.proxies {
            let before = entry.state.phase();
            let healthy = entry.is_healthy();
            match entry.state.check(now, healthy) {
                Some(Action::Announce) => {
                    messages.push(Message::NewProxy(entry.proxy.announcement.clone()));
                }
                Some(Action::Withdraw) => {
                    let unanswered = entry.state.take_unanswered();
                    expect_stale(&mut self.stale, name, unanswered);
                    let wire_name = entry.proxy.announcement.proxy_name.clone();
                    messages.push(close_proxy(wire_name));
                }
                None => {}
            }
            let running = entry.state.phase() == Phase::Running;
            if let Some(line) = entry
                .agent
                .as_ref()
                .filter(|_| running)
                .and_then(Watch::take)
            {
                let proxy_name = entry.proxy.announcement.proxy_name.clone();
                messages.push(Message::AgentState(AgentState { proxy_name, line }));
            }
            trace_change(run_id, name, before, entry.state.phase());
        }
        messages
    }

    /// Takes the server's answer to an announcement. A proxy for which something is missing here is closed again; the server
    /// is told with what is due next.
    pub(crate) fn answer(&mut self, now: Instant, resp: &NewProxyResp) {
        let name = local_name(&self.user, &resp.proxy_name);
        if let Some(left) = self.stale.get_mut(name) {
            *left -= 1;
            if *left == 0 {
                self.stale.remove(name);
            }
            return;
        }
        let run_id = self.session.as_deref().unwrap_or_default();
        let Some(entry) = self.proxies.get_mut(name) else {
            tracing::warn!(run_id = %run_id, "[{name}] start error: proxy [{name}] not found");
            return;
        };
        let before = entry.state.phase();
        let accepted = before == Phase::WaitStart && resp.error.is_empty();
        let missing = accepted.then(|| entry.proxy.prepare().err()).flatten();
        let error = missing.as_ref().map_or(&resp.error, |e| &e.0);
        match entry.state.answer(now, &resp.remote_addr, error) {
            Ok(()) => {
                tracing::info!(run_id = %run_id, "[{name}] start proxy success");
                entry.accepted(resp.agent, &self.changed);
            }
            Err(e) => tracing::warn!(run_id = %run_id, "[{name}] start error: {e}"),
        }
        trace_change(run_id, name, before, entry.state.phase());
        if missing.is_some() {
            self.leaving.insert(wire_name(&self.user, name));
            self.changed.notify_one();
        }
    }

    /// The proxy the server means, if users may connect to it. The first user may overtake the answer to the announcement.
    pub(crate) fn running(&self, wire_name: &str) -> Option<Arc<Proxy>> {
        let entry = self.proxies.get(local_name(&self.user, wire_name))?;
        matches!(entry.state.phase(), Phase::WaitStart | Phase::Running)
            .then(|| entry.proxy.clone())
    }

    /// Where each proxy stands, by name. Nothing without a session.
    pub(crate) fn status(&self, server_addr: &str) -> Vec<ProxyStatus> {
        if self.session.is_none() {
            return Vec::new();
        }
        let status =
            |entry: &Entry| ProxyStatus::new(&entry.proxy.config, &entry.state, server_addr);
        self.proxies.values().map(status).collect()
    }

    /// Closes all proxies, as the last words of a session.
    pub(crate) fn close(&mut self) -> Vec<Message> {
        let run_id = self.session.as_deref().unwrap_or_default();
        let leaving = std::mem::take(&mut self.leaving);
        let mut messages: Vec<_> = leaving.into_iter().map(close_proxy).collect();
        for (name, entry) in &mut self.proxies {
            let before = entry.state.phase();
            entry.state.close();
            trace_change(run_id, name, before, entry.state.phase());
            messages.push(close_proxy(entry.proxy.announcement.proxy_name.clone()));
        }
        messages
    }
}

/// Notes that answers will come which mean no proxy that is there.
fn expect_stale(stale: &mut BTreeMap<String, u32>, name: &str, unanswered: u32) {
    if unanswered > 0 && stale.len() < MAX_STALE {
        *stale.entry(name.to_owned()).or_default() += unanswered;
    }
}

fn close_proxy(proxy_name: String) -> Message {
    Message::CloseProxy(CloseProxy { proxy_name })
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
    use super::super::tests::config;
    use super::*;
    use frp_proto::config::raw::client::{PluginConfig, Tls2RawPlugin};

    fn configs(entries: &[(&str, u16)]) -> Vec<ProxyConfig> {
        let proxy = |&(name, port): &(&str, u16)| config(name, port);
        entries.iter().map(proxy).collect()
    }

    fn manager(user: &str, entries: &[(&str, u16)]) -> Manager {
        let mut manager = Manager::new(user);
        let now = Instant::now();
        manager.update(&configs(entries), now).unwrap();
        manager.begin("run".into(), now);
        manager
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
            remote_addr: ":6000".into(),
            error: error.into(),
            ..NewProxyResp::default()
        };
        manager.answer(Instant::now(), &resp);
    }

    fn update(manager: &mut Manager, entries: &[(&str, u16)]) -> Diff {
        manager.update(&configs(entries), Instant::now()).unwrap()
    }

    fn phases(manager: &Manager) -> Vec<(String, Phase)> {
        let status = manager.status("");
        status.into_iter().map(|s| (s.name, s.phase)).collect()
    }

    #[test]
    fn proxies_are_announced_in_order_run_when_accepted_and_are_closed() {
        let mut manager = manager("alice", &[("web", 0), ("ssh", 0)]);
        let now = Instant::now();
        assert!(manager.running("alice.ssh").is_none());
        assert_eq!(
            names(&manager.due(now)),
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
        assert!(manager.due(now).is_empty());
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
        let mut manager = Manager::new("");
        let now = Instant::now();
        manager.update(&[config], now).unwrap();
        manager.begin("run".into(), now);
        manager.due(now);
        answer(&mut manager, "web", "");
        assert_eq!(names(&manager.due(now)), [("CloseProxy", "web")]);
        assert!(manager.running("web").is_none());
        let later = now + std::time::Duration::from_secs(31);
        assert_eq!(names(&manager.due(later)), [("NewProxy", "web")]);
    }

    #[test]
    fn an_update_touches_only_what_differs() {
        let mut manager = manager("", &[("a", 1), ("b", 1), ("c", 1)]);
        manager.due(Instant::now());
        for name in ["a", "b", "c"] {
            answer(&mut manager, name, "");
        }
        let kept = manager.running("a").unwrap();
        let diff = update(&mut manager, &[("d", 1), ("a", 1), ("b", 2)]);
        assert_eq!(
            (diff.removed.join(" "), diff.added.join(" ")),
            ("b c".into(), "b d".into())
        );
        assert!(Arc::ptr_eq(&kept, &manager.running("a").unwrap()));
        assert!(manager.running("b").is_none() && manager.running("c").is_none());
        assert_eq!(
            names(&manager.due(Instant::now())),
            [
                ("CloseProxy", "b"),
                ("CloseProxy", "c"),
                ("NewProxy", "b"),
                ("NewProxy", "d")
            ]
        );
        assert_eq!(manager.status("")[1].local_addr, "127.0.0.1:2");
        assert_eq!(
            update(&mut manager, &[("d", 1), ("a", 1), ("b", 2)]),
            Diff::default()
        );
        assert!(manager.due(Instant::now()).is_empty());
    }

    #[test]
    fn what_was_never_announced_needs_no_closing() {
        let mut manager = manager("", &[("a", 1)]);
        update(&mut manager, &[("a", 2)]);
        update(&mut manager, &[("b", 1)]);
        assert_eq!(names(&manager.due(Instant::now())), [("NewProxy", "b")]);
    }

    #[test]
    fn an_answer_to_what_is_gone_is_not_taken_for_what_is_there() {
        let mut manager = manager("", &[("a", 1)]);
        manager.due(Instant::now());
        update(&mut manager, &[("a", 2)]);
        assert_eq!(
            names(&manager.due(Instant::now())),
            [("CloseProxy", "a"), ("NewProxy", "a")]
        );
        answer(&mut manager, "a", "port already used");
        assert_eq!(phases(&manager), [("a".into(), Phase::WaitStart)]);
        answer(&mut manager, "a", "");
        assert_eq!(phases(&manager), [("a".into(), Phase::Running)]);
    }

    #[test]
    fn a_set_that_cannot_be_served_changes_nothing() {
        let mut manager = manager("", &[("a", 1)]);
        manager.due(Instant::now());
        let mut bad = configs(&[("a", 2), ("b", 1)]);
        bad[1].base.local_port = 70_000;
        assert!(manager.update(&bad, Instant::now()).is_err());
        assert!(manager.due(Instant::now()).is_empty());
        assert_eq!(manager.status("")[0].local_addr, "127.0.0.1:1");
    }

    #[test]
    fn a_new_session_announces_the_set_as_it_is_then() {
        let mut manager = manager("", &[("a", 1), ("b", 1)]);
        manager.due(Instant::now());
        manager.end();
        assert!(manager.status("").is_empty());
        update(&mut manager, &[("b", 1), ("c", 1)]);
        assert!(manager.due(Instant::now()).is_empty());
        manager.begin("next".into(), Instant::now());
        assert_eq!(
            names(&manager.due(Instant::now())),
            [("NewProxy", "b"), ("NewProxy", "c")]
        );
    }

    #[tokio::test]
    async fn a_checked_proxy_waits_for_its_service_and_follows_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut checked = config("a", listener.local_addr().unwrap().port());
        checked.base.health_check.type_ = "tcp".into();
        checked.base.health_check.interval_seconds = 1;
        let mut manager = Manager::new("");
        let changed = manager.changed();
        manager.begin("run".into(), Instant::now());
        manager.update(&[checked], Instant::now()).unwrap();
        changed.notified().await;
        assert!(manager.due(Instant::now()).is_empty());
        changed.notified().await;
        assert_eq!(names(&manager.due(Instant::now())), [("NewProxy", "a")]);
        answer(&mut manager, "a", "");
        drop(listener);
        changed.notified().await;
        assert_eq!(names(&manager.due(Instant::now())), [("CloseProxy", "a")]);
        assert_eq!(phases(&manager), [("a".into(), Phase::CheckFailed)]);
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
