//! Round robin over a snapshot of the members (balancing.md §2.1 with equal weights).
//!
//! Invariants:
//!
//! * a snapshot never changes; joining and leaving put a new one in its place;
//! * members stand in the order in which they joined;
//! * as long as the members stay the same, any `n` consecutive picks among `n` members hit each exactly once, however
//!   many threads pick;
//! * a pick that begins after a [`Membership`] was dropped does not return its endpoint.

use arc_swap::ArcSwap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Members a group may have (balancing.md §1): joining copies the list, and a peer decides how often that happens.
pub const MAX_MEMBERS: usize = 10_000;

/// The group has [`MAX_MEMBERS`] members already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group has {MAX_MEMBERS} members already")]
pub struct Full;

/// Which member the very first pick returns, when there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum First {
    /// The one that joined first: A B C A B C, upstream's order for connections.
    #[default]
    Oldest,
    /// The one after it: B C A B C A, upstream's order for HTTP requests.
    Second,
}

/// A group whose members take turns. Cheap to clone: all clones are the same group.
///
/// `E` is the endpoint; picks hand out `Arc<E>`, so one that leaves lives on for those who still use it.
pub struct RoundRobin<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    members: ArcSwap<Vec<Member<E>>>,
    /// Picks so far. Wrapping around costs one uneven turn, after 2^64 picks on 64-bit machines.
    picks: AtomicUsize,
    /// Next [`Member::id`].
    next_id: AtomicU64,
}

struct Member<E> {
    /// Tells apart members whose endpoints are equal.
    id: u64,
    endpoint: Arc<E>,
}

/// Membership of one endpoint in a group; dropping it makes the endpoint leave.
#[must_use = "dropping it makes the endpoint leave at once"]
pub struct Membership<E> {
    shared: Arc<Shared<E>>,
    id: u64,
    endpoint: Arc<E>,
}

/// The members at one moment, in the order in which they joined.
pub struct Members<E>(Arc<Vec<Member<E>>>);

impl<E> RoundRobin<E> {
    /// An empty group.
    pub fn new(first: First) -> Self {
        Self {
            shared: Arc::new(Shared {
                members: ArcSwap::default(),
                picks: AtomicUsize::new(match first {
                    First::Oldest => 0,
                    First::Second => 1,
                }),
                next_id: AtomicU64::new(0),
            }),
        }
    }

    /// Adds `endpoint` at the end, until the returned membership is dropped. O(members).
    ///
    /// Equal endpoints may join several times; each membership is one turn.
    pub fn join(&self, endpoint: impl Into<Arc<E>>) -> Result<Membership<E>, Full> {
        let endpoint = endpoint.into();
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let before = self.shared.members.rcu(|members| {
            if members.len() >= MAX_MEMBERS {
                return Arc::clone(members);
            }
            let mut joined = Vec::with_capacity(members.len() + 1);
            joined.extend(members.iter().cloned());
            joined.push(Member {
                id,
                endpoint: Arc::clone(&endpoint),
            });
            Arc::new(joined)
        });
        if before.len() >= MAX_MEMBERS {
            return Err(Full);
        }
        Ok(Membership {
            shared: Arc::clone(&self.shared),
            id,
            endpoint,
        })
    }

    /// The endpoint whose turn it is; `None` when the group is empty. O(1), takes no lock, allocates nothing.
    pub fn pick(&self) -> Option<Arc<E>> {
        let members = self.shared.members.load();
        if members.is_empty() {
            return None;
        }
        // Relaxed: the counter orders nothing but itself, and the snapshot comes with its own ordering.
        let turn = self.shared.picks.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&members[turn % members.len()].endpoint))
    }

    /// The members now: to show them, or to try the others after a pick that failed.
    pub fn members(&self) -> Members<E> {
        Members(self.shared.members.load_full())
    }

    /// How many members there are now.
    pub fn len(&self) -> usize {
        self.shared.members.load().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E> Membership<E> {
    /// The endpoint that joined.
    pub fn endpoint(&self) -> &Arc<E> {
        &self.endpoint
    }
}

impl<E> Drop for Membership<E> {
    fn drop(&mut self) {
        self.shared.members.rcu(|members| {
            let stays = members.iter().filter(|member| member.id != self.id);
            stays.cloned().collect::<Vec<_>>()
        });
    }
}

impl<E> Members<E> {
    /// Endpoints in the order in which they joined.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<E>> {
        self.0.iter().map(|member| &member.endpoint)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<E> Default for RoundRobin<E> {
    fn default() -> Self {
        Self::new(First::default())
    }
}

impl<E> Clone for RoundRobin<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E> Clone for Member<E> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            endpoint: Arc::clone(&self.endpoint),
        }
    }
}

impl<E> Deref for Membership<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.endpoint
    }
}

impl<E> fmt::Debug for RoundRobin<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundRobin")
            .field("members", &self.len())
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Membership<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Members<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn group(first: First, names: &str) -> (RoundRobin<char>, Vec<Membership<char>>) {
        let group = RoundRobin::new(first);
        let members = names
            .chars()
            .map(|name| group.join(name).unwrap())
            .collect();
        (group, members)
    }

    fn picks(group: &RoundRobin<char>, count: usize) -> String {
        (0..count).map(|_| *group.pick().unwrap()).collect()
    }

    #[test]
    fn upstreams_orders() {
        let (tcp, _members) = group(First::Oldest, "abc");
        assert_eq!(picks(&tcp, 6), "abcabc");
        let (http, mut members) = group(First::Second, "abc");
        assert_eq!(picks(&http, 12), "bcabcabcabca");
        drop(members.remove(0));
        assert_eq!(picks(&http, 4), "cbcb");
    }

    #[test]
    fn an_empty_group_picks_nothing_and_loses_no_turn() {
        let group = RoundRobin::new(First::Oldest);
        assert_eq!(group.pick(), None);
        assert!(group.is_empty());
        let _a = group.join('a').unwrap();
        let _b = group.join('b').unwrap();
        assert_eq!(picks(&group, 2), "ab");
    }

    #[test]
    fn equal_endpoints_are_separate_members() {
        let (group, mut members) = group(First::Oldest, "aab");
        drop(members.remove(0));
        assert_eq!(
            group.members().iter().map(|e| **e).collect::<String>(),
            "ab"
        );
    }

    #[test]
    fn an_endpoint_outlives_its_membership_for_its_users() {
        let (group, mut members) = group(First::Oldest, "a");
        let picked = group.pick().unwrap();
        let seen = group.members();
        members.clear();
        assert_eq!(group.pick(), None);
        assert_eq!((*picked, seen.len()), ('a', 1));
    }

    #[test]
    fn a_full_group_refuses_and_recovers() {
        let group = RoundRobin::new(First::Oldest);
        let shared: Arc<str> = "same".into();
        let mut members = Vec::new();
        // Filled in one step: joining is O(members).
        group.shared.members.store(Arc::new(
            (0..MAX_MEMBERS as u64 - 1)
                .map(|n| Member {
                    id: u64::MAX - n,
                    endpoint: Arc::new(Arc::clone(&shared)),
                })
                .collect(),
        ));
        members.push(group.join(Arc::clone(&shared)).unwrap());
        assert_eq!(group.join(Arc::clone(&shared)).unwrap_err(), Full);
        assert_eq!(group.len(), MAX_MEMBERS);
        members.clear();
        assert!(group.join(shared).is_ok());
    }

    #[test]
    fn threads_share_the_turns_exactly() {
        const THREADS: usize = 4;
        const EACH: usize = 6000;
        let (group, _members) = group(First::Oldest, "abcdef");
        let mut counts = BTreeMap::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| picks(&group, EACH)))
                .collect();
            for thread in threads {
                for name in thread.join().unwrap().chars() {
                    *counts.entry(name).or_insert(0) += 1;
                }
            }
        });
        assert!(
            counts.values().all(|&n| n == THREADS * EACH / 6),
            "{counts:?}"
        );
    }

    #[test]
    fn members_may_change_while_others_pick() {
        let (group, _stays) = group(First::Oldest, "ab");
        std::thread::scope(|scope| {
            for name in ['x', 'y'] {
                let group = &group;
                scope.spawn(move || {
                    for _ in 0..500 {
                        let membership = group.join(name).unwrap();
                        assert!(group.members().iter().any(|e| **e == *membership));
                    }
                });
            }
            let picked = picks(&group, 5000);
            assert!(picked.contains('a') && picked.contains('b'));
        });
        assert_eq!(
            group.members().iter().map(|e| **e).collect::<String>(),
            "ab"
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join,
        Leave(usize),
        Pick(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Join),
            2 => any::<usize>().prop_map(Step::Leave),
            3 => (1..40_usize).prop_map(Step::Pick),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Whatever joined and left before: the next `k` picks among `n` members give each `k / n` turns, rounded
        /// down or up, and nobody else any.
        #[test]
        fn every_member_gets_its_share(steps in steps(), second in any::<bool>()) {
            let group = RoundRobin::new(if second { First::Second } else { First::Oldest });
            let mut members: Vec<Membership<usize>> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Join => {
                        members.push(group.join(next).unwrap());
                        next += 1;
                    }
                    Step::Leave(at) if !members.is_empty() => drop(members.remove(at % members.len())),
                    Step::Leave(_) => {}
                    Step::Pick(_) if members.is_empty() => prop_assert_eq!(group.pick(), None),
                    Step::Pick(count) => {
                        let mut turns: BTreeMap<usize, usize> = members.iter().map(|m| (**m, 0)).collect();
                        for _ in 0..count {
                            let picked = *group.pick().unwrap();
                            let turn = turns.get_mut(&picked);
                            prop_assert!(turn.is_some(), "{} is no member", picked);
                            *turn.unwrap() += 1;
                        }
                        let fair = count / members.len();
                        let most = count.div_ceil(members.len());
                        prop_assert!(turns.values().all(|&n| (fair..=most).contains(&n)), "{:?}", turns);
                    }
                }
                let listed: Vec<usize> = group.members().iter().map(|e| **e).collect();
                prop_assert_eq!(listed, members.iter().map(|m| **m).collect::<Vec<_>>());
            }
        }
    }
}
