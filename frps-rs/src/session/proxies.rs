//! The proxies of a session. The session opens and closes them as its client wants; an administrator may close them, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::proxy::{Context, Proxy};

/// By name.
#[derive(Default)]
pub(crate) struct Proxies(Mutex<State>);

#[derive(Default)]
struct State {
    /// Boxed, since the table has room for up to twice as many.
    open: HashMap<Arc<str>, Box<Proxy>>,
    /// What `open` holds of these.
    ports: usize,
    /// No more come.
    drained: bool,
}

impl Proxies {
    /// Ports they hold together.
    pub(crate) fn ports(&self) -> usize {
        self.lock().ports
    }

    /// Puts a proxy there; it comes back if the session has been drained meanwhile.
    pub(crate) fn insert(&self, proxy: Box<Proxy>) -> Result<(), Box<Proxy>> {
        let mut state = self.lock();
        if state.drained {
            return Err(proxy);
        }
        let name = proxy.context().name.clone();
        state.ports += proxy.ports();
        state.open.insert(name, proxy);
        Ok(())
    }

    /// Whether it is open.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.lock().open.contains_key(name)
    }

    /// What users of one need.
    pub(crate) fn context(&self, name: &str) -> Option<Arc<Context>> {
        self.lock()
            .open
            .get(name)
            .map(|proxy| proxy.context().clone())
    }

    /// Takes one out, for being closed.
    pub(crate) fn remove(&self, name: &str) -> Option<Box<Proxy>> {
        let mut state = self.lock();
        let proxy = state.open.remove(name)?;
        state.ports -= proxy.ports();
        Some(proxy)
    }

    /// Takes all out, for being closed; from now on there are no more.
    pub(crate) fn drain(&self) -> HashMap<Arc<str>, Box<Proxy>> {
        let mut state = self.lock();
        state.drained = true;
        state.ports = 0;
        std::mem::take(&mut state.open)
    }

    /// Whether there are no more to come.
    pub(crate) fn is_drained(&self) -> bool {
        self.lock().drained
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insert or remove, or a flag.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
