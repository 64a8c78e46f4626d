//! A balanced group: a `balancer::Group` with a name, the terms its members brought, and counters.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use balancer::{
    AgentReport, CheckConfig, Event, GroupConfig, Keys, MemberKey, MemberView, Membership,
    NoMember, Overrides, State, Tag,
};

use super::counters::Counters;
use super::settings::{BalancingSettings, Offer};
use super::shed::{Load, Shedding};
use crate::proxy::Context;

/// What members are: proxies, by the way their users go.
pub(crate) trait Endpoint: Send + Sync + 'static {
    /// Whether the service behind it is well.
    fn check(self: Arc<Self>, check: CheckConfig) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// Whether it is this proxy.
    fn is(&self, context: &Context) -> bool;

    /// Ends the connections that users have now.
    fn cut(&self);

    /// How many of them last and can be ended one by one.
    fn open(&self) -> u32;

    /// Ends the oldest of these.
    fn end_oldest(&self);
}

/// Proxies that serve the same.
pub(crate) struct Balanced<E> {
    pub(super) kind: &'static str,
    pub(super) name: Arc<str>,
    pub(super) group: balancer::Group<E>,
    keys: Keys,
    /// Of sticky cookies, unless it is configured; worked out when somebody asks.
    cookie: OnceLock<Box<str>>,
    /// Whether another member is tried when a work connection does not come, in groups that nobody has configured.
    stock_failover: bool,
    reject: bool,
    /// Members that have a key of their own or by a rule.
    configured: AtomicU32,
    /// What members say about the group, in the order of joining.
    said: Mutex<Vec<Said>>,
    /// From the first one that counts: most proxies are alone and rest.
    counters: OnceLock<Box<Counters>>,
    shedding: Mutex<Option<Box<Shedding>>>,
    /// Users who wait for a connection to a member.
    pending: AtomicU32,
}

struct Said {
    member: MemberKey,
    revision: i64,
    keys: BTreeMap<String, String>,
}

/// A place in a group; dropping it leaves the group.
pub(crate) struct Seat<E> {
    group: Arc<Balanced<E>>,
    membership: Membership<E>,
    configured: bool,
}

impl<E> Balanced<E> {
    pub(super) fn new(
        kind: &'static str,
        name: Arc<str>,
        group: balancer::Group<E>,
        keys: Keys,
        settings: &BalancingSettings,
    ) -> Self {
        Self {
            kind,
            name,
            group,
            keys,
            cookie: OnceLock::new(),
            stock_failover: settings.stock_failover,
            reject: settings.reject,
            configured: AtomicU32::new(0),
            said: Mutex::default(),
            counters: OnceLock::new(),
            shedding: Mutex::default(),
            pending: AtomicU32::new(0),
        }
    }

    /// Adds a member. The error is the text for the client.
    pub(crate) fn join(
        self: &Arc<Self>,
        endpoint: Arc<E>,
        offer: &Offer,
    ) -> Result<Seat<E>, String> {
        self.agree(offer)?;
        let (id, member, said) = (offer.id.clone(), offer.member.clone(), &offer.group);
        let config = said.as_ref().map(|said| said.config.clone());
        let membership = self
            .group
            .join(Instant::now(), id, endpoint, member, config)
            .map_err(|e| e.to_string())?;
        if let Some(said) = said {
            self.said().push(Said {
                member: membership.key(),
                revision: offer.member.revision,
                keys: said.keys.clone(),
            });
        }
        if offer.configured {
            self.configured.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Seat {
            group: self.clone(),
            membership,
            configured: offer.configured,
        })
    }

    /// Whether a newcomer says the same as who speaks for the group. A higher revision may say anything.
    fn agree(&self, offer: &Offer) -> Result<(), String> {
        let Some(says) = &offer.group else {
            return Ok(());
        };
        let said = self.said();
        let highest = said.iter().map(|s| s.revision).max();
        let speaker = said.iter().find(|s| Some(s.revision) == highest);
        let Some(speaker) = speaker.filter(|s| s.revision >= offer.member.revision) else {
            return Ok(());
        };
        let Some((key, have, got)) = difference(&speaker.keys, &says.keys) else {
            return Ok(());
        };
        self.counters().conflict();
        let text = format!(
            "group [{}] load balancer settings differ: lb.{key}: have {have:?}, got {got:?}",
            self.name
        );
        if self.reject {
            return Err(text);
        }
        tracing::warn!(proxy = %offer.id, "{text}; the former hold");
        Ok(())
    }

    pub(super) fn counters(&self) -> &Counters {
        self.counters.get_or_init(Box::default)
    }

    /// Begins to wait for a connection to a member. `None`: too many wait already.
    pub(crate) fn wait(self: &Arc<Self>) -> Option<Pending<E>> {
        if !self.is_configured() {
            return Some(Pending(None));
        }
        let pending = Pending(Some(self.clone()));
        let (before, max) = (
            self.pending.fetch_add(1, Ordering::Relaxed),
            self.group.config().max_pending,
        );
        if max > 0 && before >= max {
            self.counters().no_member(NoMember::Full);
            return None;
        }
        Some(pending)
    }

    /// Whether anybody wants more than turns.
    pub(crate) fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Relaxed) > 0
    }

    /// Whether a user who gets no work connection of one member is given another.
    pub(super) fn fails_over(&self) -> bool {
        self.stock_failover || self.is_configured()
    }

    /// The name of the group's sticky cookie.
    pub(crate) fn default_cookie(&self) -> &str {
        let name = || balancer::cookie_name(self.kind, &self.name).into();
        self.cookie.get_or_init(name)
    }

    /// The member that a cookie of this group names.
    pub(crate) fn verify(&self, value: &str, unix: u32, ttl: Option<Duration>) -> Option<Tag> {
        self.keys.verify(value, unix, ttl).map(|claim| claim.tag)
    }

    /// A cookie for a member.
    pub(crate) fn issue(&self, id: &str, unix: u32) -> Option<String> {
        self.keys.issue(id, unix)
    }

    /// A cookie was followed, or issued.
    pub(crate) fn count_sticky(&self, issued: bool) {
        self.counters().sticky(issued);
    }

    /// The settings that hold now.
    pub(crate) fn config(&self) -> Arc<GroupConfig> {
        self.group.config()
    }

    /// That of the group, or of the proxy that is alone.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.group.len()
    }

    fn lock_shedding(&self) -> MutexGuard<'_, Option<Box<Shedding>>> {
        // The order is replaced as a whole, or counts.
        self.shedding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, Vec<Said>> {
        // Every change is one push or removal: a panic elsewhere leaves the list whole.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first key that two sets of settings do not have in common, with its values.
fn difference<'a>(
    have: &'a BTreeMap<String, String>,
    got: &'a BTreeMap<String, String>,
) -> Option<(&'a str, &'a str, &'a str)> {
    let value = |map: &'a BTreeMap<String, String>, key: &str| map.get(key).map_or("", |v| v);
    have.keys()
        .chain(got.keys())
        .map(|key| (&**key, value(have, key), value(got, key)))
        .find(|(_, have, got)| have != got)
}

/// A user's wait for a connection to a member, which counts where the group is configured; it is over when this is dropped.
pub(crate) struct Pending<E>(Option<Arc<Balanced<E>>>);

impl<E> Drop for Pending<E> {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<E> Drop for Seat<E> {
    fn drop(&mut self) {
        let key = self.membership.key();
        self.group.said().retain(|said| said.member != key);
        if self.configured {
            self.group.configured.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<E: Endpoint> Balanced<E> {
    /// Ends connections of those who have more than their share, as far as that was ordered.
    fn end_surplus(&self, now: Instant) {
        let mut order = self.lock_shedding();
        let Some(shedding) = &mut *order else {
            return;
        };
        let members = self.group.members(now).into_iter();
        let members = members.filter_map(|m| Some((self.group.endpoint(m.key)?, m)));
        let members: Vec<(Arc<E>, MemberView)> = members.collect();
        let mut loads: Vec<Load> = members
            .iter()
            .map(|(endpoint, member)| Load {
                open: endpoint.open(),
                weight: if member.state == State::Up {
                    member.effective_weight
                } else {
                    0.0
                },
            })
            .collect();
        if let Some(due) = shedding.due(now, &mut loads) {
            for at in due {
                members[at].0.end_oldest();
            }
        } else {
            let (kind, name, ended) = (self.kind, &self.name, shedding.ended);
            tracing::info!(
                "{kind} group [{name}]: nobody has more than his share, {ended} connections moved"
            );
            *order = None;
        }
    }
}

/// A group of any kind, for the task that looks after them and for administrators.
pub(crate) trait Managed: Send + Sync {
    fn kind(&self) -> &'static str;
    fn name(&self) -> &str;
    fn config(&self) -> Arc<GroupConfig>;
    fn counters(&self) -> &Counters;
    fn is_configured(&self) -> bool;
    fn members(&self) -> Vec<MemberView>;
    fn set_overrides(&self, id: &str, overrides: &Overrides) -> bool;
    fn restore(&self, id: &str) -> bool;
    /// What the agent of a proxy says; false when that is not a member.
    fn agent_says(&self, proxy: &Context, report: &AgentReport) -> bool;
    /// Moves users of members that have more than their share, so many percent of all a second; 0 = no more.
    fn shed(&self, percent: f64);
    /// The rate of that, while it goes on.
    fn shedding(&self) -> Option<f64>;
    fn tick(&self) -> Vec<Event>;
    fn checked(&self, member: MemberKey, passed: bool);
    fn cut(&self, member: MemberKey);
    /// The check of a member, if it and the check are still there.
    fn check(&self, member: MemberKey) -> Option<Pin<Box<dyn Future<Output = bool> + Send>>>;
}

impl<E: Endpoint> Managed for Balanced<E> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn config(&self) -> Arc<GroupConfig> {
        self.group.config()
    }

    fn counters(&self) -> &Counters {
        self.counters()
    }

    fn is_configured(&self) -> bool {
        self.is_configured()
    }

    fn members(&self) -> Vec<MemberView> {
        self.group.members(Instant::now())
    }

    fn set_overrides(&self, id: &str, overrides: &Overrides) -> bool {
        self.group.set_overrides(Instant::now(), id, overrides)
    }

    fn restore(&self, id: &str) -> bool {
        self.group.restore(Instant::now(), id)
    }

    fn agent_says(&self, proxy: &Context, report: &AgentReport) -> bool {
        let whose = |endpoint: &E| endpoint.is(proxy);
        self.group.agent_says(Instant::now(), whose, report)
    }

    fn shed(&self, percent: f64) {
        let order = (percent > 0.0).then(|| Box::new(Shedding::new(Instant::now(), percent)));
        *self.lock_shedding() = order;
    }

    fn shedding(&self) -> Option<f64> {
        self.lock_shedding().as_ref().map(|order| order.percent)
    }

    fn tick(&self) -> Vec<Event> {
        let now = Instant::now();
        self.end_surplus(now);
        self.group.tick(now)
    }

    fn checked(&self, member: MemberKey, passed: bool) {
        self.group.checked(Instant::now(), member, passed);
    }

    fn cut(&self, member: MemberKey) {
        if let Some(endpoint) = self.group.endpoint(member) {
            endpoint.cut();
        }
    }

    fn check(&self, member: MemberKey) -> Option<Pin<Box<dyn Future<Output = bool> + Send>>> {
        let check = self.group.config().check.clone()?;
        Some(self.group.endpoint(member)?.check(check))
    }
}
