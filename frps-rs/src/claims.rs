//! Names that only one session may hold at a time: those of proxies. A claim is a value; dropping it gives the name back.
//! Replicas of one service may share theirs if all of them say so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frp_proto::auth::Secret;

/// One name space.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<Arc<str>, Holders>>>);

/// Who has a name.
enum Holders {
    /// One, whom nobody joins.
    One(Arc<str>),
    /// Replicas, of which there is one at least.
    Replicas(Box<Replicas>),
}

struct Replicas {
    /// What they have in common.
    terms: Replica,
    sessions: Vec<Arc<str>>,
}

impl Holders {
    fn sessions(&self) -> &[Arc<str>] {
        match self {
            Self::One(session) => std::slice::from_ref(session),
            Self::Replicas(replicas) => &replicas.sessions,
        }
    }
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
    name: Arc<str>,
    owner: Arc<str>,
}

impl Claims {
    /// Takes `name` for the session `owner`, alone or as one of replicas; if others hold it, says who.
    pub(crate) fn claim(
        &self,
        name: &Arc<str>,
        owner: &Arc<str>,
        replica: Option<Replica>,
    ) -> Result<Claim, Arc<str>> {
        let mut held = self.lock();
        match (held.get_mut(name), replica) {
            (Some(Holders::Replicas(there)), Some(terms))
                if there.terms == terms && !there.sessions.contains(owner) =>
            {
                there.sessions.push(owner.clone());
            }
            (Some(holders), _) => {
                let first = holders.sessions().first();
                return Err(first.cloned().unwrap_or_default());
            }
            (None, replica) => {
                let holders = match replica {
                    None => Holders::One(owner.clone()),
                    Some(terms) => Holders::Replicas(Box::new(Replicas {
                        terms,
                        sessions: vec![owner.clone()],
                    })),
                };
                held.insert(name.clone(), holders);
            }
        }
        Ok(Claim {
            space: self.clone(),
            name: name.clone(),
            owner: owner.clone(),
        })
    }

    /// The sessions that hold a name.
    pub(crate) fn holders(&self, name: &str) -> Vec<Arc<str>> {
        let held = self.lock();
        held.get(name)
            .map(|holders| holders.sessions().to_vec())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Holders>> {
        // A panic elsewhere leaves the map whole: every change is one insert, push or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.space.lock();
        let left = match held.get_mut(&self.name) {
            Some(Holders::Replicas(replicas)) => {
                replicas.sessions.retain(|session| *session != self.owner);
                !replicas.sessions.is_empty()
            }
            _ => false,
        };
        if !left {
            held.remove(&self.name);
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
        let claim = names.claim(&"web".into(), &a, None).ok().unwrap();
        assert_eq!(
            names.claim(&"web".into(), &b, None).err().as_deref(),
            Some("a")
        );
        assert!(names.claim(&"other".into(), &b, None).is_ok());
        drop(claim);
        assert!(names.claim(&"web".into(), &b, None).is_ok());
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
        let first = names.claim(&"web".into(), &a, replica("k")).ok().unwrap();
        assert!(names.claim(&"web".into(), &a, replica("k")).is_err());
        assert!(names.claim(&"web".into(), &b, replica("x")).is_err());
        assert!(names.claim(&"web".into(), &b, None).is_err());
        let second = names.claim(&"web".into(), &b, replica("k")).ok().unwrap();
        drop(first);
        assert!(names.claim(&"web".into(), &a, None).is_err());
        drop(second);
        assert!(names.claim(&"web".into(), &a, None).is_ok());
    }
}
