//! Proxies that frps pushes, at the wish of its administrators (docs/pushed-proxies.md).
//!
//! The client decides: nothing is taken unless `acceptProxies` of its own configuration allows it, and a pushed proxy can
//! lead nowhere but to the targets listed there. Its name never takes the place of an own proxy's, and whatever changes later
//! is checked again: a reload that withdraws the permission stops it. What was pushed is forgotten with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use frp_proto::config::raw::client::{AcceptProxiesConfig, ProxyConfig};
use frp_proto::config::{self, LocalTargets};
use frp_proto::msg::{Message, PushProxy, PushResult, RemoveProxy};
use frp_proto::net::listen::join_host_port;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::proxy::agent::Agent;
use crate::service::Service;
use crate::work::Context;
use crate::{Error, records};

/// What the server may ask for before it has got answers.
pub(crate) const QUEUE: usize = 32;
/// The type that has to be named to be allowed: it sends datagrams to addresses that the server names.
const NAMED_ONLY: &str = "xtcp";

/// What `acceptProxies` allows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    targets: LocalTargets,
    /// Empty = all but `NAMED_ONLY`.
    types: Vec<String>,
    max: usize,
}

impl Policy {
    fn new(c: &AcceptProxiesConfig) -> Result<Self, Error> {
        let targets = LocalTargets::parse(&c.local_targets)
            .map_err(|e| Error(format!("invalid acceptProxies.localTargets: {e}")))?;
        let max = usize::try_from(c.max_proxies);
        Ok(Self {
            targets,
            types: c.types.clone(),
            max: max.map_err(|_| Error("invalid acceptProxies.maxProxies".into()))?,
        })
    }

    /// Why a proxy is not allowed, if it is not.
    fn check(&self, proxy: &ProxyConfig) -> Result<(), String> {
        let base = &proxy.base;
        let type_ = base.type_.as_str();
        let allowed = match &self.types[..] {
            [] => type_ != NAMED_ONLY,
            types => types.iter().any(|t| t == type_),
        };
        if !allowed {
            return Err(format!(
                "type {type_} is not allowed by acceptProxies.types of the client"
            ));
        }
        if base.plugin.is_some() {
            return Err("a pushed proxy may not have a plugin".into());
        }
        if base.enabled == Some(false) {
            return Err("a pushed proxy cannot be disabled".into());
        }
        let port = u16::try_from(base.local_port).unwrap_or(0);
        if port == 0 {
            return Err("localPort is required".into());
        }
        let agent = Agent::new(base);
        let targets = [(base.local_ip.as_str(), port)];
        for (host, port) in targets.into_iter().chain(agent.as_ref().map(Agent::target)) {
            if !self.targets.allow(host, port) {
                return Err(format!(
                    "{} is not allowed by acceptProxies.localTargets of the client",
                    join_host_port(host, port)
                ));
            }
        }
        Ok(())
    }
}

/// What was pushed, and what may be.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// `None`: nothing.
    policy: Option<Policy>,
    /// By name; complete and valid by themselves.
    proxies: BTreeMap<String, ProxyConfig>,
}

impl Pushed {
    /// Nothing pushed yet.
    pub(crate) fn new(accept: Option<&AcceptProxiesConfig>) -> Result<Self, Error> {
        Ok(Self {
            policy: accept.map(Policy::new).transpose()?,
            proxies: BTreeMap::new(),
        })
    }

    /// The same proxies under other rules; [`Pushed::fit`] says which of them stay.
    pub(crate) fn under(&self, accept: Option<&AcceptProxiesConfig>) -> Result<Self, Error> {
        let proxies = self.proxies.clone();
        Ok(Self {
            proxies,
            ..Self::new(accept)?
        })
    }

    /// Whether anything may be pushed.
    pub(crate) fn is_allowed(&self) -> bool {
        self.policy.is_some()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.proxies.contains_key(name)
    }

    /// Those that may be served beside the client's `own` proxies; the others, and why not.
    pub(crate) fn fit(&self, own: &[ProxyConfig]) -> (Vec<&ProxyConfig>, Vec<(String, String)>) {
        if self.proxies.is_empty() {
            return Default::default();
        }
        let own: BTreeSet<&str> = own.iter().map(|p| p.base.name.as_str()).collect();
        let (mut fit, mut unfit) = (Vec::new(), Vec::new());
        for (name, proxy) in &self.proxies {
            match self.check(proxy, own.contains(name.as_str()), fit.len()) {
                Ok(()) => fit.push(proxy),
                Err(why) => unfit.push((name.clone(), why)),
            }
        }
        (fit, unfit)
    }

    fn check(&self, proxy: &ProxyConfig, is_own: bool, others: usize) -> Result<(), String> {
        let Some(policy) = &self.policy else {
            return Err("the configuration of the client does not allow it (acceptProxies)".into());
        };
        policy.check(proxy)?;
        if is_own {
            return Err("the client has a proxy of its own with this name".into());
        }
        if others >= policy.max {
            return Err(format!(
                "the client takes {} pushed proxies at most (acceptProxies.maxProxies)",
                policy.max
            ));
        }
        Ok(())
    }

    /// Takes a proxy, or one of its name in its place, if it may be served beside the client's `own`. Gives what it replaces.
    pub(crate) fn take(
        &mut self,
        proxy: ProxyConfig,
        own: &[ProxyConfig],
    ) -> Result<Option<ProxyConfig>, String> {
        let name = &proxy.base.name;
        let is_own = own.iter().any(|p| p.base.name == *name);
        let others = self.proxies.keys().filter(|other| *other != name).count();
        self.check(&proxy, is_own, others)?;
        Ok(self.proxies.insert(name.clone(), proxy))
    }

    /// Puts back what a change has replaced.
    pub(crate) fn restore(&mut self, name: &str, before: Option<ProxyConfig>) {
        match before {
            Some(before) => self.proxies.insert(name.to_owned(), before),
            None => self.proxies.remove(name),
        };
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<ProxyConfig> {
        self.proxies.remove(name)
    }
}

/// A proxy as it was pushed, with what is filled in; the error is for the server.
pub(crate) fn parse(proxy: &Value) -> Result<ProxyConfig, String> {
    let mut proxy = config::proxy_from_json(&proxy.to_string()).map_err(|e| e.to_string())?;
    // A check that followed a redirect elsewhere would ask what is not listed.
    proxy.base.health_check.same_target = true;
    Ok(proxy)
}

/// One wish of the server, and where the answer goes.
pub(crate) struct Wish {
    what: What,
    run_id: Arc<str>,
    answers: mpsc::Sender<Message>,
}

/// What the server wants.
pub(crate) enum What {
    Push(PushProxy),
    Remove(RemoveProxy),
}

/// Hands a wish on, to be fulfilled in its turn. A server that has too many gets no answer to the last ones.
pub(crate) fn queue(work: &Context, answers: &mpsc::Sender<Message>, what: What) {
    let wish = Wish {
        what,
        run_id: work.run_id.clone(),
        answers: answers.clone(),
    };
    if work.shared.wishes.try_send(wish).is_err() {
        tracing::debug!(run_id = %work.run_id, "more pushed proxies than can be looked at, ignored");
    }
}

/// Fulfils wishes one after the other. Runs until dropped.
pub(crate) async fn serve(mut wishes: mpsc::Receiver<Wish>, service: Arc<Service>) {
    while let Some(Wish {
        what,
        run_id,
        answers,
    }) = wishes.recv().await
    {
        let service = service.clone();
        // A change waits for others, which may wait for a disk.
        let done = tokio::task::spawn_blocking(move || fulfil(&service, &run_id, what));
        let Ok(result) = done.await else {
            continue;
        };
        // An error means that the session has ended, and with it who asked.
        let _ = answers.send(Message::PushResult(result)).await;
    }
}

fn fulfil(service: &Service, run_id: &str, what: What) -> PushResult {
    let server = &service.shared().settings.server_addr;
    let audit = &service.shared().audit;
    let (id, result) = match what {
        What::Push(PushProxy { id, proxy }) => {
            let result = parse(&proxy).and_then(|proxy| service.push(proxy));
            let text = |key| proxy.get(key).and_then(Value::as_str).unwrap_or_default();
            let host = Some(text("localIP")).filter(|host| !host.is_empty());
            let port = proxy.get("localPort").and_then(Value::as_u64).unwrap_or(0);
            let line = records::Push {
                server,
                name: text("name"),
                type_: text("type"),
                target: format!("{}:{port}", host.unwrap_or("127.0.0.1")),
            };
            let records::Push {
                name,
                type_,
                target,
                ..
            } = &line;
            match &result {
                Ok(()) => tracing::info!(
                    run_id = %run_id,
                    "proxy [{name}] type [{type_}] to [{target}], pushed by the server [{server}], is accepted"
                ),
                Err(e) => tracing::warn!(
                    run_id = %run_id,
                    "proxy [{name}] type [{type_}] to [{target}], pushed by the server [{server}], is refused: {e}"
                ),
            }
            line.tell(audit, result.as_ref().err());
            (id, result)
        }
        What::Remove(RemoveProxy { id, name }) => {
            let result = service.remove_pushed(&name);
            match &result {
                Ok(()) => tracing::info!(
                    run_id = %run_id,
                    "pushed proxy [{name}] is removed by the server [{server}]"
                ),
                Err(e) => tracing::warn!(
                    run_id = %run_id,
                    "pushed proxy [{name}] is not removed by the server [{server}]: {e}"
                ),
            }
            (id, result)
        }
    };
    PushResult {
        id,
        error: result.err().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn accept(types: &[&str]) -> AcceptProxiesConfig {
        AcceptProxiesConfig {
            local_targets: vec!["127.0.0.1:80-89".into(), "nas:80".into()],
            types: types.iter().map(|t| (*t).to_owned()).collect(),
            max_proxies: 2,
        }
    }

    fn tcp(name: &str, port: u16) -> ProxyConfig {
        parse(&json!({ "name": name, "type": "tcp", "localPort": port })).unwrap()
    }

    #[test]
    fn nothing_is_taken_without_permission() {
        let mut pushed = Pushed::new(None).unwrap();
        assert!(!pushed.is_allowed());
        assert!(pushed.take(tcp("a", 80), &[]).is_err());
        assert!(!pushed.contains("a"));
    }

    #[test]
    fn only_what_the_client_allows_is_taken() {
        let refusal = |proxy: Value, types: &[&str]| {
            let mut pushed = Pushed::new(Some(&accept(types))).unwrap();
            let own = [tcp("own", 22)];
            let taken = parse(&proxy).and_then(|p| pushed.take(p, &own));
            taken.err().unwrap_or_default()
        };
        for (proxy, types, expected) in [
            (
                json!({ "name": "a", "type": "tcp", "localPort": 80 }),
                &[][..],
                "",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localIP": "NAS", "localPort": 80 }),
                &[],
                "",
            ),
            (
                json!({ "name": "a", "type": "udp", "localPort": 80 }),
                &["udp"],
                "",
            ),
            (
                json!({ "name": "a", "type": "xtcp", "localPort": 80 }),
                &["xtcp"],
                "",
            ),
            (
                json!({ "name": "a", "type": "xtcp", "localPort": 80 }),
                &[],
                "type xtcp is not allowed",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localPort": 80 }),
                &["http"],
                "type tcp is not allowed",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localPort": 90 }),
                &[],
                "127.0.0.1:90 is not allowed",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localIP": "::1", "localPort": 80 }),
                &[],
                "[::1]:80 is not allowed",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localIP": "localhost", "localPort": 80 }),
                &[],
                "localhost:80 is not allowed",
            ),
            (
                json!({ "name": "a", "type": "tcp" }),
                &[],
                "localPort is required",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localPort": -1 }),
                &[],
                "localPort",
            ),
            (
                json!({ "name": "own", "type": "tcp", "localPort": 80 }),
                &[],
                "the client has a proxy of its own",
            ),
            (
                json!({ "name": "", "type": "tcp", "localPort": 80 }),
                &[],
                "name should not be empty",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localPort": 80, "enabled": false }),
                &[],
                "disabled",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localPort": 80, "plugin": { "type": "socks5" } }),
                &[],
                "a pushed proxy may not have a plugin",
            ),
            (
                json!({ "name": "a", "type": "tcp", "localPort": 80, "bindPort": 1 }),
                &[],
                "bindPort",
            ),
            (json!({ "visitors": [], "type": "tcp" }), &[], "visitors"),
            (json!([]), &[], ""),
        ] {
            let got = refusal(proxy.clone(), types);
            assert!(got.contains(expected), "{proxy}: {got}");
            assert_eq!(
                got.is_empty(),
                expected.is_empty() && proxy.is_object(),
                "{proxy}: {got}"
            );
        }
    }

    #[test]
    fn an_agent_is_where_the_client_allows_it() {
        let taken = |agent: Value| {
            let balancing = json!({ "group": "g", "agent": agent });
            let proxy = json!({
                "name": "a", "type": "tcp", "localPort": 80, "loadBalancer": balancing,
            });
            let mut pushed = Pushed::new(Some(&accept(&[]))).unwrap();
            parse(&proxy).and_then(|p| pushed.take(p, &[]))
        };
        assert_eq!(taken(json!({ "port": 81 })), Ok(None));
        for agent in [
            json!({ "port": 22 }),
            json!({ "port": 80, "address": "10.0.0.1" }),
        ] {
            let error = taken(agent).unwrap_err();
            assert!(
                error.contains("is not allowed by acceptProxies.localTargets"),
                "{error}"
            );
        }
    }

    #[test]
    fn they_are_counted_and_replaced_by_name() {
        let mut pushed = Pushed::new(Some(&accept(&[]))).unwrap();
        assert_eq!(pushed.take(tcp("a", 80), &[]), Ok(None));
        assert_eq!(pushed.take(tcp("b", 80), &[]), Ok(None));
        assert!(
            pushed
                .take(tcp("c", 80), &[])
                .unwrap_err()
                .contains("2 pushed proxies at most")
        );
        assert_eq!(pushed.take(tcp("b", 81), &[]), Ok(Some(tcp("b", 80))));
        pushed.restore("b", Some(tcp("b", 80)));
        pushed.restore("a", None);
        assert!(!pushed.contains("a") && pushed.contains("b"));
        assert_eq!(pushed.remove("b"), Some(tcp("b", 80)));
    }

    #[test]
    fn what_changes_later_is_checked_again() {
        let mut pushed = Pushed::new(Some(&accept(&[]))).unwrap();
        pushed.take(tcp("a", 80), &[]).unwrap();
        pushed.take(tcp("b", 81), &[]).unwrap();
        let names = |(fit, unfit): (Vec<&ProxyConfig>, Vec<(String, String)>)| {
            let fit: Vec<_> = fit.iter().map(|p| p.base.name.clone()).collect();
            let unfit: Vec<_> = unfit.into_iter().map(|(name, _)| name).collect();
            (fit.join(" "), unfit.join(" "))
        };
        assert_eq!(names(pushed.fit(&[])), ("a b".into(), String::new()));
        assert_eq!(names(pushed.fit(&[tcp("a", 1)])), ("b".into(), "a".into()));
        let mut less = accept(&[]);
        less.local_targets = vec!["127.0.0.1:81".into()];
        let under =
            |accept: Option<&AcceptProxiesConfig>| names(pushed.under(accept).unwrap().fit(&[]));
        assert_eq!(under(Some(&less)), ("b".into(), "a".into()));
        less.local_targets = accept(&[]).local_targets;
        less.max_proxies = 1;
        assert_eq!(under(Some(&less)), ("a".into(), "b".into()));
        assert_eq!(
            under(Some(&accept(&["http"]))),
            (String::new(), "a b".into())
        );
        assert_eq!(under(None), (String::new(), "a b".into()));
    }
}
