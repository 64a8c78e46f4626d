//! Routes of the HTTP port and the groups behind them (server.md §6, §7.2): a route points at a group, and a lone proxy is a
//! group of one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use balancer::round_robin::{First, Membership, RoundRobin};
use frp_proto::auth::Secret;
use frp_proto::msg::NewProxy;

use super::policy::Policy;
use super::pool::Pool;
use crate::vhost::router::{Claim, Router};

/// All routes and groups of `http` proxies.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Route>,
    groups: Groups,
}

/// Where requests for one domain, location and user go.
pub(crate) struct Route {
    /// For logs.
    pub(super) place: Place,
    pub(super) group: String,
    pub(super) policy: Policy,
    pub(super) members: RoundRobin<Pool>,
}

/// What tells routes apart, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) domain: String,
    pub(crate) location: String,
    pub(crate) user: String,
}

/// A proxy's part in a route; dropping it ends that.
pub(crate) enum Seat {
    /// The route is the proxy's own.
    Lone {
        _membership: Membership<Pool>,
        _claim: Claim<Route>,
    },
    /// One of a group.
    Grouped {
        _membership: Membership<Pool>,
        _name: GroupName,
    },
}

type Groups = Arc<Mutex<HashMap<String, Group>>>;

/// A group as long as it has members.
struct Group {
    key: Secret,
    route: Arc<Route>,
    /// Names of the proxies in it.
    names: Vec<Arc<str>>,
    _claim: Claim<Route>,
}

/// A proxy's name in a group.
pub(crate) struct GroupName {
    groups: Groups,
    group: String,
    name: Arc<str>,
}

impl Routes {
    /// Puts a proxy on a place. The error is the text for the client.
    pub(crate) fn join(
        &self,
        m: &NewProxy,
        name: &Arc<str>,
        place: &Place,
        pool: &Arc<Pool>,
    ) -> Result<Seat, String> {
        if m.group.is_empty() {
            let (route, claim) = self.add(m, place)?;
            return Ok(Seat::Lone {
                _membership: sit(&route, pool)?,
                _claim: claim,
            });
        }
        let mut groups = lock(&self.groups);
        let key = Secret::new(m.group_key.as_str());
        let route = match groups.get_mut(&m.group) {
            Some(group) if group.route.place != *place => {
                return Err("group params invalid".into());
            }
            Some(group) if group.key != key => return Err("group auth failed".into()),
            Some(group) if group.names.contains(name) => {
                return Err("group proxy repeated".into());
            }
            Some(group) => {
                group.names.push(name.clone());
                group.route.clone()
            }
            None => {
                let (route, claim) = self.add(m, place)?;
                let group = Group {
                    key,
                    route: route.clone(),
                    names: vec![name.clone()],
                    _claim: claim,
                };
                groups.insert(m.group.clone(), group);
                route
            }
        };
        drop(groups);
        let name = GroupName {
            groups: self.groups.clone(),
            group: m.group.clone(),
            name: name.clone(),
        };
        Ok(Seat::Grouped {
            _membership: sit(&route, pool)?,
            _name: name,
        })
    }

    /// The route of a request (see [`Router::find`]).
    pub(super) fn find(&self, host: &str, path: &[u8], user: &str) -> Option<Arc<Route>> {
        self.router.find(host, path, user)
    }

    fn add(&self, m: &NewProxy, place: &Place) -> Result<(Arc<Route>, Claim<Route>), String> {
        let route = Arc::new(Route {
            place: place.clone(),
            group: m.group.clone(),
            policy: Policy::new(m),
            members: RoundRobin::new(First::Second),
        });
        let claim = self
            .router
            .claim(&place.domain, &place.user, &place.location, route.clone())
            .map_err(|e| e.to_string())?;
        Ok((route, claim))
    }
}

fn sit(route: &Route, pool: &Arc<Pool>) -> Result<Membership<Pool>, String> {
    route.members.join(pool.clone()).map_err(|e| e.to_string())
}

impl Drop for GroupName {
    fn drop(&mut self) {
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get_mut(&self.group) {
            group.names.retain(|name| *name != self.name);
            if group.names.is_empty() {
                groups.remove(&self.group);
            }
        }
    }
}

fn lock(groups: &Groups) -> MutexGuard<'_, HashMap<String, Group>> {
    groups.lock().unwrap_or_else(PoisonError::into_inner)
}
