//! All groups, and the task that brings them what time brings: ends of ejections, checks, drains.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use balancer::Event;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use super::check::LIMIT;
use super::group::Managed;
use crate::Shared;

/// How often groups are looked after.
const PERIOD: Duration = Duration::from_millis(100);
/// Groups that nobody has configured have little to be done: every so many periods.
const STOCK_PERIODS: u32 = 10;
/// Active checks at a time, in all groups together.
const MAX_CHECKS: usize = 64;

/// The groups that there are.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone)]
struct Entry {
    group: Arc<dyn Managed>,
    /// Whether it has a name of its own, by which administrators may ask for it.
    named: bool,
}

/// A group's place in the registry; dropping it takes the group out.
pub(crate) struct Listed {
    registry: Registry,
    group: Arc<dyn Managed>,
}

impl Registry {
    pub(crate) fn list(&self, group: Arc<dyn Managed>, named: bool) -> Listed {
        let entry = Entry {
            group: group.clone(),
            named,
        };
        self.lock().push(entry);
        Listed {
            registry: self.clone(),
            group,
        }
    }

    /// Those with a name, by kind and name.
    pub(crate) fn named(&self) -> Vec<Arc<dyn Managed>> {
        let entries = self.lock();
        let named = entries.iter().filter(|entry| entry.named);
        let mut groups: Vec<_> = named.map(|entry| entry.group.clone()).collect();
        drop(entries);
        groups.sort_by(|a, b| (a.kind(), a.name()).cmp(&(b.kind(), b.name())));
        groups
    }

    /// One with a name.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Arc<dyn Managed>> {
        let entries = self.lock();
        let mut named = entries.iter().filter(|entry| entry.named);
        named
            .find(|entry| entry.group.kind() == kind && entry.group.name() == name)
            .map(|entry| entry.group.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Every change is one push or removal: a panic elsewhere leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        if let Some(at) = entries
            .iter()
            .position(|e| Arc::ptr_eq(&e.group, &self.group))
        {
            entries.swap_remove(at);
        }
    }
}

/// Looks after all groups. Runs until dropped.
pub(crate) async fn maintain(shared: &Arc<Shared>) {
    let checks = Arc::new(Semaphore::new(MAX_CHECKS));
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut periods = 0_u32;
    loop {
        ticks.tick().await;
        periods = periods.wrapping_add(1);
        let entries = shared.balancing.registry.lock().clone();
        for Entry { group, .. } in entries {
            if group.is_configured() || periods.is_multiple_of(STOCK_PERIODS) {
                for event in group.tick() {
                    handle(shared, &checks, &group, event);
                }
            }
        }
    }
}

fn handle(shared: &Arc<Shared>, checks: &Arc<Semaphore>, group: &Arc<dyn Managed>, event: Event) {
    let (kind, name) = (group.kind(), group.name());
    match event {
        Event::Ejected(id, cause) => {
            group.counters().ejection(cause);
            tracing::warn!(proxy = %id, "{kind} group [{name}]: member ejected, cause: {}", cause.as_str());
        }
        Event::EjectionSuppressed(id, cause) => {
            group.counters().ejection_suppressed();
            tracing::warn!(proxy = %id, "{kind} group [{name}]: member kept, since too many are out, cause: {}", cause.as_str());
        }
        Event::HalfOpen(id) => {
            tracing::info!(proxy = %id, "{kind} group [{name}]: member may try again");
        }
        Event::Restored(id) => {
            tracing::info!(proxy = %id, "{kind} group [{name}]: member restored");
        }
        Event::Down(id) => {
            tracing::warn!(proxy = %id, "{kind} group [{name}]: member is down by its check");
        }
        Event::DrainEnded(id, member) => {
            tracing::info!(proxy = %id, "{kind} group [{name}]: drain is over, connections closed");
            group.cut(member);
        }
        Event::CheckDue(_, member) => {
            // At most one for each member.
            let (group, checks, stop) = (group.clone(), checks.clone(), shared.stop.clone());
            shared
                .tasks
                .spawn(stop.run_until_cancelled_owned(async move {
                    let Ok(_permit) = checks.acquire().await else {
                        return;
                    };
                    let Some(check) = group.check(member) else {
                        return;
                    };
                    let passed = tokio::time::timeout(LIMIT, check).await.unwrap_or(false);
                    group.counters().check(passed);
                    group.checked(member, passed);
                }));
        }
    }
}
