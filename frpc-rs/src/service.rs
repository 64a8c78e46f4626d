//! What runs: the entries of watched sources, of the file and of the store, and what frps has pushed, merged in one place and
//! changed at run time (client.md §16).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frp_proto::config::Entries;
use frp_proto::config::raw::Entry;
use frp_proto::config::raw::client::{ClientConfig, ProxyConfig};
use tokio::time::Instant;

use crate::proxy::status::ProxyStatus;
use crate::pushed::Pushed;
use crate::store::{Kind, Store, StoreError};
use crate::visitor::Visitor;
use crate::{Error, Shared};

/// The configuration file, as `main` gives access to it. All calls may block.
pub trait ConfigFile: Send + Sync {
    /// Loads and validates it as at the start; the error says why it cannot be used.
    fn load(&self, strict: bool) -> Result<ClientConfig, String>;

    /// Its bytes.
    fn read(&self) -> Result<Vec<u8>, String>;

    /// Replaces its bytes, whatever they are.
    fn write(&self, content: &[u8]) -> Result<(), String>;
}

/// Why a reload changed nothing. `Display` is the text of the admin API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be used.
    #[error("invalid argument: {0}")]
    Invalid(String),
    /// What it says cannot be served.
    #[error("apply config failed: {0}")]
    Apply(String),
}

/// Why a stored entry was not changed, or not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// It was not changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no store.
    #[error("store disabled: store API is disabled")]
    Disabled,
    /// It is stored and cannot be served.
    #[error("apply config failed: {0}")]
    Apply(Error),
}

/// Where proxies and visitors come from. Of a name that several have, the store's counts, else the file's, else that of
/// the watched source that is listed last, else the pushed one.
struct Sources {
    watched: Vec<Entries>,
    /// The file, or what stands for it.
    config: ClientConfig,
    store: Option<Store>,
    pushed: Pushed,
}

impl Sources {
    /// What is to run; of what was pushed, what fits.
    fn merged(&self) -> ClientConfig {
        let mut config = self.own();
        let (fit, _) = self.pushed.fit(&config.proxies);
        config.proxies.extend(fit.into_iter().cloned());
        config
    }

    /// Without what was pushed.
    fn own(&self) -> ClientConfig {
        let config = self.with_watched();
        match &self.store {
            Some(store) => store.merged(&config),
            None => config,
        }
    }

    fn with_watched(&self) -> ClientConfig {
        let mut config = self.config.clone();
        if !self.watched.is_empty() {
            let proxies = self.watched.iter().map(|w| &w.proxies[..]);
            config.proxies = overridden(proxies, &self.config.proxies, &config.start);
            let visitors = self.watched.iter().map(|w| &w.visitors[..]);
            config.visitors = overridden(visitors, &self.config.visitors, &config.start);
        }
        config
    }
}

/// Entries by name: those of watched sources, as far as `start` wants them, overridden by those of the file.
fn overridden<'a, E: Entry>(
    watched: impl Iterator<Item = &'a [E]>,
    file: &'a [E],
    start: &[String],
) -> Vec<E> {
    let wanted = |e: &&E| start.is_empty() || start.iter().any(|name| name == e.name());
    let watched = watched.flatten().filter(wanted);
    let by_name: BTreeMap<&str, &E> = watched.chain(file).map(|e| (e.name(), e)).collect();
    by_name.into_values().cloned().collect()
}

/// A client and what it serves.
pub(crate) struct Service {
    shared: Arc<Shared>,
    file: Option<Box<dyn ConfigFile>>,
    /// Held while a change is made and applied, so that changes come one after the other.
    sources: Mutex<Sources>,
    /// Held for a whole reload: the file that was read last is the one that counts.
    reloading: Mutex<()>,
}

impl Service {
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: ClientConfig,
        store: Option<Store>,
        file: Option<Box<dyn ConfigFile>>,
    ) -> Result<Self, Error> {
        let watched = vec![Entries::default(); config.sources.len()];
        let sources = Sources {
            watched,
            pushed: Pushed::new(config.accept_proxies.as_ref())?,
            config,
            store,
        };
        let service = Self {
            shared,
            file,
            sources: Mutex::new(sources),
            reloading: Mutex::new(()),
        };
        service.apply(&mut service.sources())?;
        Ok(service)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves what the sources have now; what was pushed and fits no more is forgotten. An error changes nothing.
    fn apply(&self, sources: &mut Sources) -> Result<(), Error> {
        let merged = sources.merged();
        let user = &self.shared.settings.user;
        let visitors = merged.visitors.iter();
        let visitors = visitors.map(|v| Arc::new(Visitor::new(user, v))).collect();
        let now = Instant::now();
        self.shared
            .with_proxies(|m| m.update(&merged.proxies, now))?;
        self.shared.visitors.send_replace(visitors);
        let (_, unfit) = sources.pushed.fit(&sources.own().proxies);
        for (name, why) in unfit {
            tracing::warn!("pushed proxy [{name}] is stopped: {why}");
            sources.pushed.remove(&name);
        }
        let allowed = sources.pushed.is_allowed();
        self.shared
            .accepts_proxies
            .store(allowed, Ordering::Relaxed);
        Ok(())
    }

    /// Serves a proxy that frps has pushed, if the configuration allows it; the error is for frps.
    pub(crate) fn push(&self, proxy: ProxyConfig) -> Result<(), String> {
        let mut sources = self.sources();
        let name = proxy.base.name.clone();
        let own = sources.own();
        let before = sources.pushed.take(proxy, &own.proxies)?;
        self.apply(&mut sources).map_err(|e| {
            sources.pushed.restore(&name, before);
            e.to_string()
        })
    }

    /// Serves a pushed proxy no longer.
    pub(crate) fn remove_pushed(&self, name: &str) -> Result<(), String> {
        let mut sources = self.sources();
        let before = sources.pushed.remove(name);
        let before = before.ok_or_else(|| frp_proto::text::NOT_PUSHED.to_owned())?;
        self.apply(&mut sources).map_err(|e| {
            sources.pushed.restore(name, Some(before));
            e.to_string()
        })
    }

    /// Replaces what the file said.
    fn replace(&self, config: ClientConfig) -> Result<(), Error> {
        let mut sources = self.sources();
        let pushed = sources.pushed.under(config.accept_proxies.as_ref())?;
        let before = std::mem::replace(&mut sources.config, config);
        let pushed = std::mem::replace(&mut sources.pushed, pushed);
        if let Err(e) = self.apply(&mut sources) {
            (sources.config, sources.pushed) = (before, pushed);
            return Err(e);
        }
        if sources.pushed.is_allowed() && !pushed.is_allowed() {
            tracing::info!("acceptProxies is told to the server with the next login");
        }
        let waiting = needs_restart(&before, &sources.config);
        if !waiting.is_empty() {
            tracing::warn!(
                "changes take effect after a restart: {}",
                waiting.join(", ")
            );
        }
        Ok(())
    }

    /// Replaces what the watched source at `place` said; whether that is anything new. An error changes nothing.
    pub(crate) fn set_watched(&self, place: usize, entries: Entries) -> Result<bool, Error> {
        let mut sources = self.sources();
        if sources.watched[place] == entries {
            return Ok(false);
        }
        let before = std::mem::replace(&mut sources.watched[place], entries);
        if let Err(e) = self.apply(&mut sources) {
            sources.watched[place] = before;
            return Err(e);
        }
        Ok(true)
    }

    /// Reads the file again and serves what it says now.
    pub(crate) fn reload(&self, strict: bool) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock();
        let file = self.file().map_err(ReloadError::Invalid)?;
        let config = file.load(strict).map_err(ReloadError::Invalid)?;
        self.replace(config)
            .map_err(|e| ReloadError::Apply(e.to_string()))?;
        tracing::info!("success reload conf");
        Ok(())
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> Result<&dyn ConfigFile, String> {
        let file = self.file.as_deref();
        file.ok_or_else(|| "frpc has no config file path".into())
    }

    pub(crate) fn has_store(&self) -> bool {
        self.sources().store.is_some()
    }

    /// Asks the store, if there is one.
    pub(crate) fn with_store<T>(&self, f: impl FnOnce(&Store) -> T) -> Option<T> {
        self.sources().store.as_ref().map(f)
    }

    /// Changes the store, knowing what the file says, and serves what it has then.
    pub(crate) fn change_store(
        &self,
        change: impl FnOnce(&mut Store, &ClientConfig) -> Result<(), StoreError>,
    ) -> Result<(), ChangeError> {
        let mut sources = self.sources();
        let Sources { config, store, .. } = &mut *sources;
        change(store.as_mut().ok_or(ChangeError::Disabled)?, config)?;
        self.apply(&mut sources).map_err(ChangeError::Apply)
    }

    /// An entry as it runs, else as it is stored.
    pub(crate) fn entry<E: Kind>(&self, name: &str) -> Option<E> {
        let sources = self.sources();
        let merged = sources.merged();
        let running = E::configured(&merged).iter().find(|e| e.name() == name);
        let stored = || sources.store.as_ref()?.get(name);
        running.or_else(stored).cloned()
    }

    /// Where each proxy stands, and where it comes from if not from the file or a watched source: `store` or `pushed`.
    pub(crate) fn status(&self) -> Vec<(ProxyStatus, Option<&'static str>)> {
        let server_addr = &self.shared.settings.server_addr;
        let status = self.shared.with_proxies(|m| m.status(server_addr));
        let sources = self.sources();
        let stored = |name: &str| {
            let entry = sources.store.as_ref()?.get::<ProxyConfig>(name)?;
            Some(entry.enabled())
        };
        status
            .into_iter()
            .map(|s| {
                let source = match stored(&s.name) {
                    Some(true) => Some("store"),
                    _ => sources.pushed.contains(&s.name).then_some("pushed"),
                };
                (s, source)
            })
            .collect()
    }

    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }
}

/// Keys that differ and are only read at the start.
fn needs_restart(old: &ClientConfig, new: &ClientConfig) -> Vec<&'static str> {
    macro_rules! differing {
        ($($field:ident: $key:literal,)*) => {
            [$((old.$field != new.$field, $key),)*]
        };
    }
    let keys = differing! {
        auth: "auth",
        user: "user",
        client_id: "clientID",
        server_addr: "serverAddr",
        server_port: "serverPort",
        nat_hole_stun_server: "natHoleStunServer",
        dns_server: "dnsServer",
        login_fail_exit: "loginFailExit",
        log: "log",
        enable_prometheus: "enablePrometheus",
        web_server: "webServer",
        transport: "transport",
        virtual_net: "virtualNet",
        feature_gates: "featureGates",
        udp_packet_size: "udpPacketSize",
        metadatas: "metadatas",
        store: "store",
        sources: "sources",
    };
    let differs = |(differs, key): (bool, &'static str)| differs.then_some(key);
    keys.into_iter().filter_map(differs).collect()
}

/// Changes, asks and stops a client while it runs. Changes need a runtime; some of the calls read and write files.
#[derive(Clone)]
pub struct Handle(Arc<Service>);

impl Handle {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self(service)
    }

    /// Serves the proxies and visitors of this (loaded and validated) configuration instead of the ones that the last one
    /// had. What is the same in both is not touched, and no connection of a user is cut. An error changes nothing.
    pub fn update(&self, config: ClientConfig) -> Result<(), Error> {
        self.0.replace(config)
    }

    /// Reads the configuration file again and serves what it says now. An error changes nothing.
    pub fn reload(&self, strict: bool) -> Result<(), ReloadError> {
        self.0.reload(strict)
    }

    /// Where each proxy stands, by name; nothing while there is no session.
    pub fn status(&self) -> Vec<ProxyStatus> {
        self.0
            .status()
            .into_iter()
            .map(|(status, _)| status)
            .collect()
    }

    /// Stops the client in order.
    pub fn stop(&self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_need_a_restart_are_named() {
        let old = ClientConfig::default();
        let mut new = old.clone();
        new.start = vec!["a".into()];
        new.includes = vec!["b".into()];
        assert!(needs_restart(&old, &new).is_empty());
        new.user = "u".into();
        new.transport.pool_count = 3;
        assert_eq!(needs_restart(&old, &new), ["user", "transport"]);
    }
}
