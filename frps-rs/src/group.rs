//! Load-balancing groups (server.md §6): proxies that share the users of one port or route.
//!
//! A proxy without a group is the only member of one that has no name, so that both go the same way. Invariants:
//!
//! * a group exists as long as it has members; what they share is claimed before the first one has joined and free again
//!   when the drop of the last [`Member`] returns;
//! * who leaves gets no further turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use balancer::First;
use frp_proto::auth::Secret;
use frp_proto::msg::NewProxy;

use crate::balance::{Balanced, Balancing, Endpoint, Listed, Offer, Seat};
use crate::proxy::Context;

/// The groups of one proxy type, by name. Members must agree on terms `T`, share an `S` and are picked as `E`.
pub(crate) struct Groups<T, S, E = Context> {
    balancing: Arc<Balancing>,
    kind: &'static str,
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
    members: Arc<Balanced<E>>,
    shared: S,
    _listed: Option<Box<Listed>>,
}

/// Who wants to join.
pub(crate) struct Newcomer<'a, E = Context> {
    /// Of the group; empty for none.
    pub(crate) group: &'a str,
    pub(crate) key: &'a str,
    /// The proxy's name, for a group that has none.
    pub(crate) proxy: &'a str,
    pub(crate) endpoint: Arc<E>,
    pub(crate) offer: &'a Offer,
}

/// A place in a group; dropping it leaves the group.
pub(crate) struct Member<T, S, E = Context> {
    groups: Arc<Groups<T, S, E>>,
    /// Whether the group is among those that others may join.
    named: bool,
    /// Taken by the drop only.
    place: Option<Place<T, S, E>>,
}

struct Place<T, S, E> {
    seat: Seat<E>,
    group: Arc<Group<T, S, E>>,
}

impl<'a> Newcomer<'a> {
    pub(crate) fn new(context: &'a Arc<Context>, m: &'a NewProxy) -> Self {
        Self {
            group: &m.group,
            key: &m.group_key,
            proxy: &m.proxy_name,
            endpoint: context.clone(),
            offer: &context.offer,
        }
    }
}

impl<T: PartialEq, S, E: Endpoint> Groups<T, S, E> {
    /// No group yet. `first` says whose turn the first one is, `mismatch` is the error for other terms than the group's.
    pub(crate) fn new(
        balancing: &Arc<Balancing>,
        kind: &'static str,
        first: First,
        mismatch: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self {
            balancing: balancing.clone(),
            kind,
            first,
            mismatch,
            joining: tokio::sync::Mutex::default(),
            named: Mutex::default(),
        })
    }

    /// Joins a group. The first member creates it, and `create` claims what the members share; it gets those who will be
    /// picked.
    ///
    /// The error is the text for the client.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        newcomer: Newcomer<'_, E>,
        terms: T,
        create: impl FnOnce(Arc<Balanced<E>>) -> F,
    ) -> Result<Member<T, S, E>, String>
    where
        F: Future<Output = Result<S, String>>,
    {
        let key = Secret::from(newcomer.key);
        let name = newcomer.group;
        if name.is_empty() {
            return self.create(newcomer, key, terms, create).await;
        }
        let _turn = self.joining.lock().await;
        if let Some(group) = self.lock().get(name) {
            if group.terms != terms {
                return Err(self.mismatch.into());
            }
            if group.key != key {
                return Err("group auth failed".into());
            }
            let seat = group.members.join(newcomer.endpoint, newcomer.offer)?;
            return Ok(self.member(true, seat, group.clone()));
        }
        let member = self.create(newcomer, key, terms, create).await?;
        self.lock().insert(name.to_owned(), member.group().clone());
        Ok(member)
    }

    async fn create<F>(
        self: &Arc<Self>,
        newcomer: Newcomer<'_, E>,
        key: Secret,
        terms: T,
        create: impl FnOnce(Arc<Balanced<E>>) -> F,
    ) -> Result<Member<T, S, E>, String>
    where
        F: Future<Output = Result<S, String>>,
    {
        let (name, offer) = (newcomer.group, newcomer.offer);
        let alone = name.is_empty();
        let title = if alone { newcomer.proxy } else { name };
        let balancing = &self.balancing;
        let members = balancing.group(self.kind, title, self.first, offer);
        let seat = members.join(newcomer.endpoint, offer)?;
        let shared = create(members.clone()).await?;
        let listed = !alone || members.is_configured();
        let list = || Box::new(balancing.registry.list(members.clone(), !alone));
        let group = Group {
            terms,
            key,
            shared,
            _listed: listed.then(list),
            members,
        };
        Ok(self.member(!alone, seat, Arc::new(group)))
    }

    fn member(
        self: &Arc<Self>,
        named: bool,
        seat: Seat<E>,
        group: Arc<Group<T, S, E>>,
    ) -> Member<T, S, E> {
        Member {
            groups: self.clone(),
            named,
            place: Some(Place { seat, group }),
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

    /// Who can be picked.
    pub(crate) fn members(&self) -> &Arc<Balanced<E>> {
        &self.group().members
    }
}

impl<T, S, E> Drop for Member<T, S, E> {
    fn drop(&mut self) {
        // Held to the end: nobody joins a group that is about to end, or finds its port or route not free yet.
        let mut named = self.groups.lock();
        let Some(Place { seat, group }) = self.place.take() else {
            return;
        };
        drop(seat);
        if self.named && group.members.len() == 0 {
            named.remove(group.members.name());
        }
        drop(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::pin::Pin;

    use balancer::CheckConfig;

    use crate::balance::{Asked, BalancingSettings, Turn};

    type Test = Groups<i64, Arc<()>, &'static str>;

    impl Endpoint for &'static str {
        fn check(self: Arc<Self>, _: CheckConfig) -> Pin<Box<dyn Future<Output = bool> + Send>> {
            Box::pin(std::future::ready(true))
        }

        fn is(&self, _: &crate::proxy::Context) -> bool {
            false
        }

        fn cut(&self) {}

        fn open(&self) -> u32 {
            0
        }

        fn end_oldest(&self) {}
    }

    fn groups() -> Arc<Test> {
        let balancing = Balancing::new(BalancingSettings::new(None).unwrap());
        Groups::new(&balancing, "tcp", First::Oldest, "other terms")
    }

    fn pick(member: &Member<i64, Arc<()>, &'static str>) -> Option<&'static str> {
        let turn = Turn::begin(member.members(), Asked::default()).ok()?;
        Some(**turn.endpoint())
    }

    async fn join_with<F: Future<Output = Result<Arc<()>, String>>>(
        groups: &Arc<Test>,
        group: &str,
        key: &str,
        terms: i64,
        endpoint: &'static str,
        create: impl FnOnce(Arc<Balanced<&'static str>>) -> F,
    ) -> Result<Member<i64, Arc<()>, &'static str>, String> {
        let m = NewProxy {
            proxy_name: endpoint.into(),
            ..NewProxy::default()
        };
        let newcomer = Newcomer {
            group,
            key,
            proxy: endpoint,
            endpoint: Arc::new(endpoint),
            offer: &groups.balancing.offer(&m, "tcp", "run")?,
        };
        groups.join(newcomer, terms, create).await
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let balancing = Balancing::new(BalancingSettings::new(None).unwrap());
        let mut m = NewProxy {
            group: "g".into(),
            ..NewProxy::default()
        };
        let group = |m: &NewProxy| {
            let offer = balancing.offer(m, "tcp", "run").unwrap();
            let group = balancing.group::<&str>("tcp", "g", First::Oldest, &offer);
            let seat = group.join(Arc::new("a"), &offer).unwrap();
            (group, seat)
        };
        m.metas.insert("lb.maxPending".into(), "1".into());
        let (configured, _seat) = group(&m);
        let waits = configured.wait();
        assert!(waits.is_some() && configured.wait().is_none());
        drop(waits);
        assert!(configured.wait().is_some());
        // Nobody has configured this one.
        m.metas.clear();
        let (stock, _seat) = group(&m);
        let waits: Vec<_> = (0..2_000).map(|_| stock.wait()).collect();
        assert!(waits.iter().all(Option::is_some));
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
        join_with(groups, name, key, terms, endpoint, create).await
    }

    #[tokio::test]
    async fn members_take_turns_in_the_order_of_joining() {
        let (groups, claim) = (groups(), Arc::default());
        let a = join(&groups, "g", "k", 1, "a", &claim).await.unwrap();
        let b = join(&groups, "g", "k", 1, "b", &claim).await.unwrap();
        let picks: Vec<_> = (0..4).filter_map(|_| pick(&b)).collect();
        assert_eq!(picks, ["a", "b", "a", "b"]);
        drop(a);
        assert_eq!(pick(&b), Some("b"));
        assert_eq!(pick(&b), Some("b"));
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
        assert_eq!(pick(&a), Some("a"));
        assert_eq!(pick(&b), Some("b"));
        drop((a, b));
        assert_eq!(Arc::strong_count(&claim), 1);
    }

    #[tokio::test]
    async fn a_group_that_could_not_be_created_does_not_exist() {
        let groups = groups();
        let failed = |_| std::future::ready(Err("port already used".to_owned()));
        let joined = join_with(&groups, "g", "", 1, "a", failed).await;
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
        let first = join_with(&groups, "g", "", 1, "a", create);
        let never = |_| async { Err("created twice".to_owned()) };
        let second = join_with(&groups, "g", "", 1, "b", never);
        let (first, second, ()) = tokio::join!(first, second, async { ready.send(()).unwrap() });
        assert!(first.is_ok() && second.is_ok());
    }
}
