//! Names of proxies that are refused until somebody enables them again. They are forgotten with the process.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names at a time. They come from administrators, one by one.
const MAX_NAMES: usize = 4096;

/// The names.
#[derive(Default)]
pub(crate) struct Disabled(Mutex<BTreeSet<String>>);

impl Disabled {
    /// Adds a name; whether it is there now.
    pub(crate) fn add(&self, name: &str) -> bool {
        let mut names = self.lock();
        if names.len() >= MAX_NAMES && !names.contains(name) {
            return false;
        }
        names.insert(name.to_owned());
        true
    }

    /// Takes a name out; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> bool {
        self.lock().remove(name)
    }

    /// The text for a client that wants a proxy of this name, if it may not have it.
    pub(crate) fn check(&self, name: &str) -> Result<(), String> {
        if self.lock().contains(name) {
            return Err(format!(
                "proxy [{name}] is disabled by the administrator of the server"
            ));
        }
        Ok(())
    }

    /// All of them, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Every change is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_until_they_are_enabled() {
        let disabled = Disabled::default();
        assert!(disabled.check("a").is_ok() && !disabled.remove("a"));
        assert!(disabled.add("a") && disabled.add("a"));
        assert_eq!(
            disabled.check("a").unwrap_err(),
            "proxy [a] is disabled by the administrator of the server"
        );
        assert_eq!(disabled.names(), ["a"]);
        assert!(disabled.remove("a"));
        assert!(disabled.check("a").is_ok());
    }

    #[test]
    fn names_are_bounded() {
        let disabled = Disabled::default();
        for n in 0..MAX_NAMES {
            assert!(disabled.add(&n.to_string()));
        }
        assert!(!disabled.add("one more") && disabled.add("0"));
    }
}
