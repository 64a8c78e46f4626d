//! Load-balancing groups (server.md §6): proxies that take turns at one port or route.
//!
//! A proxy without a group is the only member of one that has no name, so that both go the same way. Invariants:
//!
//! * a group exists as long as it has members; what they share is claimed before the first one has joined and free again
//!   when the drop of the last [`Member`] returns;
//! * who leaves gets no further turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use balancer::round_robin::{First, Membership, RoundRobin};
use frp_proto::auth::Secret;

use crate::proxy::Context;

/// The groups of one proxy type, by name. Members must agree on terms `T`, share an `S` and take turns as `E`.
pub(crate) struct Groups<T, S, E = Context> {
    first: First,
    /// What who brings other terms is told.
    mismatch: &'static str,
    /// Held while joining: a second proxy must not create the group that a first one is about to.
    joining: tokio::sync::Mutex<()>,
    named: Mutex<Named<T, S, E>>,
}

type Named<T, S, E> = HashMap<String, Arc<Group<T, S, E>>>;

struct Group<T, S, E> {
    terms: T,
    key: Secret,
    members: RoundRobin<E>,
    shared: S,
}

/// A place in a group; dropping it leaves the group.
pub(crate) struct Member<T, S, E = Context> {
    groups: Arc<Groups<T, S, E>>,
    /// Of the group; empty if it has none.
    name: String,
    /// Taken by the drop only.
    place: Option<Place<T, S, E>>,
}

struct Place<T, S, E> {
    membership: Membership<E>,
    group: Arc<Group<T, S, E>>,
}

impl<T: PartialEq, S, E> Groups<T, S, E> {
    /// No group yet. `first` says whose turn the first one is, `mismatch` is the error for other terms than the group's.
    pub(crate) fn new(first: First, mismatch: &'static str) -> Arc<Self> {
        Arc::new(Self {
            first,
            mismatch,
            joining: tokio::sync::Mutex::default(),
            named: Mutex::default(),
        })
    }

    /// Joins the group `name`. The first member creates it, and `create` claims what the members share; it gets those who
    /// will take turns.
    ///
    /// The error is the text for the client.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        name: &str,
        key: &str,
        terms: T,
        endpoint: Arc<E>,
        create: impl FnOnce(RoundRobin<E>) -> F,
    ) -> Result<Member<T, S, E>, String>
    where
        F: Future<Output = Result<S, String>>,
    {
        let key = Secret::from(key);
        if name.is_empty() {
            return self.create(name, key, terms, endpoint, create).await;
        }
        let _turn = self.joining.lock().await;
        if let Some(group) = self.lock().get(name) {
            if group.terms != terms {
                return Err(self.mismatch.into());
            }
            if group.key != key {
                return Err("group auth failed".into());
            }
            let membership = group.members.join(endpoint).map_err(|e| e.to_string())?;
            return Ok(self.member(name, membership, group.clone()));
        }
        let member = self.create(name, key, terms, endpoint, create).await?;
        self.lock().insert(name.to_owned(), member.group().clone());
        Ok(member)
    }

    async fn create<F>(
        self: &Arc<Self>,
        name: &str,
        key: Secret,
        terms: T,
        endpoint: Arc<E>,
        create: impl FnOnce(RoundRobin<E>) -> F,
    ) -> Result<Member<T, S, E>, String>
    where
        F: Future<Output = Result<S, String>>,
    {
        let members = RoundRobin::new(self.first);
        let membership = members.join(endpoint).map_err(|e| e.to_string())?;
        let group = Group {
            terms,
            key,
            shared: create(members.clone()).await?,
            members,
        };
        Ok(self.member(name, membership, Arc::new(group)))
    }

    fn member(
        self: &Arc<Self>,
        name: &str,
        membership: Membership<E>,
        group: Arc<Group<T, S, E>>,
    ) -> Member<T, S, E> {
        Member {
            groups: self.clone(),
            name: name.to_owned(),
            place: Some(Place { membership, group }),
        }
    }
}

impl<T, S, E> Groups<T, S, E> {
    fn lock(&self) -> MutexGuard<'_, Named<T, S, E>> {
        // Every change is one insert or remove: a panic elsewhere leaves the map whole.
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, S, E> Member<T, S, E> {
    fn group(&self) -> &Arc<Group<T, S, E>> {
        &self.place.as_ref().expect("taken by the drop only").group
    }

    /// What the group has claimed.
    pub(crate) fn shared(&self) -> &S {
        &self.group().shared
    }

    /// Whose turn it is; never `None`, since this member is one of them.
    pub(crate) fn pick(&self) -> Option<Arc<E>> {
        self.group().members.pick()
    }
}

impl<T, S, E> Drop for Member<T, S, E> {
    fn drop(&mut self) {
        // Held to the end: nobody joins a group that is about to end, or finds its port or route not free yet.
        let mut named = self.groups.lock();
        let Some(Place { membership, group }) = self.place.take() else {
            return;
        };
        drop(membership);
        if group.members.is_empty() {
            named.remove(&self.name);
        }
        drop(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Test = Groups<i64, Arc<()>, &'static str>;

    fn groups() -> Arc<Test> {
        Groups::new(First::Oldest, "other terms")
    }

    async fn join(
        groups: &Arc<Test>,
        name: &str,
        key: &str,
        terms: i64,
        endpoint: &'static str,
        claim: &Arc<()>,
    ) -> Result<Member<i64, Arc<()>, &'static str>, String> {
        let create = |_| std::future::ready(Ok(claim.clone()));
        groups
            .join(name, key, terms, Arc::new(endpoint), create)
            .await
    }

    #[tokio::test]
    async fn members_take_turns_in_the_order_of_joining() {
        let (groups, claim) = (groups(), Arc::default());
        let a = join(&groups, "g", "k", 1, "a", &claim).await.unwrap();
        let b = join(&groups, "g", "k", 1, "b", &claim).await.unwrap();
        let picks: Vec<_> = (0..4).filter_map(|_| b.pick()).map(|e| *e).collect();
        assert_eq!(picks, ["a", "b", "a", "b"]);
        drop(a);
        assert_eq!(b.pick().as_deref(), Some(&"b"));
        assert_eq!(b.pick().as_deref(), Some(&"b"));
    }

    #[tokio::test]
    async fn terms_come_before_the_key() {
        let (groups, claim) = (groups(), Arc::default());
        let _a = join(&groups, "g", "k", 1, "a", &claim).await.unwrap();
        for (key, terms, error) in [
            ("k", 2, "other terms"),
            ("x", 2, "other terms"),
            ("x", 1, "group auth failed"),
            ("", 1, "group auth failed"),
        ] {
            let joined = join(&groups, "g", key, terms, "b", &claim).await;
            assert_eq!(joined.err().as_deref(), Some(error));
        }
        assert!(join(&groups, "h", "x", 2, "b", &claim).await.is_ok());
    }

    #[tokio::test]
    async fn the_last_member_frees_what_they_share() {
        let (groups, first) = (groups(), Arc::default());
        let a = join(&groups, "g", "k", 1, "a", &first).await.unwrap();
        let b = join(&groups, "g", "k", 1, "b", &first).await.unwrap();
        drop(a);
        assert_eq!(Arc::strong_count(&first), 2);
        drop(b);
        assert_eq!(Arc::strong_count(&first), 1);
        // Nothing of the old group is left, neither key nor terms.
        assert!(join(&groups, "g", "x", 2, "a", &first).await.is_ok());
    }

    #[tokio::test]
    async fn proxies_without_a_group_share_nothing() {
        let (groups, claim) = (groups(), Arc::default());
        let a = join(&groups, "", "", 1, "a", &claim).await.unwrap();
        let b = join(&groups, "", "x", 2, "b", &claim).await.unwrap();
        assert_eq!(a.pick().as_deref(), Some(&"a"));
        assert_eq!(b.pick().as_deref(), Some(&"b"));
        drop((a, b));
        assert_eq!(Arc::strong_count(&claim), 1);
    }

    #[tokio::test]
    async fn a_group_that_could_not_be_created_does_not_exist() {
        let groups = groups();
        let failed = |_| std::future::ready(Err("port already used".to_owned()));
        let joined = groups.join("g", "", 1, Arc::new("a"), failed).await;
        assert_eq!(joined.err().as_deref(), Some("port already used"));
        assert!(
            join(&groups, "g", "x", 2, "a", &Arc::default())
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn who_comes_while_a_group_is_created_joins_it() {
        let groups = groups();
        let (ready, wait) = tokio::sync::oneshot::channel();
        let create = |_| async move {
            wait.await.unwrap();
            Ok(Arc::default())
        };
        let first = groups.join("g", "", 1, Arc::new("a"), create);
        let never = |_| async { Err("created twice".to_owned()) };
        let second = groups.join("g", "", 1, Arc::new("b"), never);
        let (first, second, ()) = tokio::join!(first, second, async { ready.send(()).unwrap() });
        assert!(first.is_ok() && second.is_ok());
    }
}
