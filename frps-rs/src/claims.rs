//! Names that only one session may hold at a time: those of proxies. A claim is a value; dropping it gives the name back.
//! Replicas of one service may share theirs if all of them say so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frp_proto::auth::Secret;

/// One name space.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<String, Holders>>>);

/// Who has a name.
struct Holders {
    /// What they have in common; `None`: there is one, and nobody joins it.
    replica: Option<Replica>,
    sessions: Vec<Arc<str>>,
}

/// What proxies of one name must agree on.
#[derive(PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) kind: Box<str>,
    pub(crate) user: String,
    pub(crate) group: String,
    pub(crate) key: Secret,
}

/// A held name.
pub(crate) struct Claim {
    space: Claims,
    name: String,
    owner: Arc<str>,
}

impl Claims {
    /// Takes `name` for the session `owner`, alone or as one of replicas; if others hold it, says who.
    pub(crate) fn claim(
        &self,
        name: &str,
        owner: &Arc<str>,
        replica: Option<Replica>,
    ) -> Result<Claim, Arc<str>> {
        let mut held = self.lock();
        if let Some(holders) = held.get_mut(name) {
            let shared = replica.is_some() && holders.replica == replica;
            if !shared || holders.sessions.contains(owner) {
                return Err(holders.sessions.first().cloned().unwrap_or_default());
            }
            holders.sessions.push(owner.clone());
        } else {
            let sessions = vec![owner.clone()];
            held.insert(name.to_owned(), Holders { replica, sessions });
        }
        Ok(Claim {
            space: self.clone(),
            name: name.to_owned(),
            owner: owner.clone(),
        })
    }

    /// The sessions that hold a name.
    pub(crate) fn holders(&self, name: &str) -> Vec<Arc<str>> {
        let held = self.lock();
        held.get(name)
            .map(|holders| holders.sessions.clone())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Holders>> {
        // A panic elsewhere leaves the map whole: every change is one insert, push or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.space.lock();
        if let Some(holders) = held.get_mut(&self.name) {
            holders.sessions.retain(|session| *session != self.owner);
            if holders.sessions.is_empty() {
                held.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_until_its_claim_is_dropped() {
        let names = Claims::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let claim = names.claim("web", &a, None).ok().unwrap();
        assert_eq!(names.claim("web", &b, None).err().as_deref(), Some("a"));
        assert!(names.claim("other", &b, None).is_ok());
        drop(claim);
        assert!(names.claim("web", &b, None).is_ok());
    }

    #[test]
    fn replicas_share_a_name_if_they_agree() {
        let names = Claims::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let replica = |key: &str| {
            Some(Replica {
                kind: "http".into(),
                user: String::new(),
                group: "g".into(),
                key: Secret::from(key),
            })
        };
        let first = names.claim("web", &a, replica("k")).ok().unwrap();
        assert!(names.claim("web", &a, replica("k")).is_err());
        assert!(names.claim("web", &b, replica("x")).is_err());
        assert!(names.claim("web", &b, None).is_err());
        let second = names.claim("web", &b, replica("k")).ok().unwrap();
        drop(first);
        assert!(names.claim("web", &a, None).is_err());
        drop(second);
        assert!(names.claim("web", &a, None).is_ok());
    }
}
