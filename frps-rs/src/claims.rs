//! Names that only one session may hold at a time: those of proxies. A claim is a value; dropping it gives the name back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One name space.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<String, Arc<str>>>>);

/// A held name.
pub(crate) struct Claim {
    space: Claims,
    name: String,
}

impl Claims {
    /// Takes `name` for the session `owner`; if it is held, says by whom.
    pub(crate) fn claim(&self, name: &str, owner: &Arc<str>) -> Result<Claim, Arc<str>> {
        let mut held = self.lock();
        if let Some(holder) = held.get(name) {
            return Err(holder.clone());
        }
        held.insert(name.to_owned(), owner.clone());
        Ok(Claim {
            space: self.clone(),
            name: name.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<str>>> {
        // A panic elsewhere leaves the map whole: every change is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.space.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_until_its_claim_is_dropped() {
        let names = Claims::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let claim = names.claim("web", &a).ok().unwrap();
        assert_eq!(names.claim("web", &b).err().as_deref(), Some("a"));
        assert!(names.claim("other", &b).is_ok());
        drop(claim);
        assert!(names.claim("web", &b).is_ok());
    }
}
