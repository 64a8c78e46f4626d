//! Routes of the HTTP port (server.md §6, §7.2): a route points at a group, and a lone proxy is a group of one.

use std::sync::Arc;

use balancer::First;
use frp_proto::msg::NewProxy;

use super::policy::{self, Policy};
use super::pool::Pool;
use crate::balance::{Balanced, Balancing};
use crate::group::{Groups, Member, Newcomer};
use crate::vhost::router::{Claim, Router};

/// All routes and groups of `http` proxies.
pub(crate) struct Routes {
    router: Router<Route>,
    groups: Arc<Groups<Arc<Place>, Claim<Route>, Pool>>,
}

/// Where requests for one domain, location and user go.
pub(crate) struct Route {
    /// For logs.
    pub(super) place: Arc<Place>,
    /// Its name; empty for a proxy that is alone.
    pub(super) group: Box<str>,
    /// `None`: messages pass as they are.
    policy: Option<Box<Policy>>,
    pub(super) members: Arc<Balanced<Pool>>,
}

impl Route {
    pub(super) fn policy(&self) -> &Policy {
        self.policy.as_deref().unwrap_or(&policy::NONE)
    }
}

/// What tells routes apart, as the client wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) domain: Box<str>,
    pub(crate) location: Box<str>,
    pub(crate) user: Box<str>,
}

/// A proxy's part in a route; dropping it ends that.
pub(crate) type Seat = Member<Arc<Place>, Claim<Route>, Pool>;

impl Routes {
    pub(crate) fn new(balancing: &Arc<Balancing>) -> Self {
        Self {
            router: Router::default(),
            groups: Groups::new(balancing, "http", First::Second, "group params invalid"),
        }
    }

    /// Puts a proxy on a place. The error is the text for the client.
    pub(crate) async fn join(
        &self,
        m: &NewProxy,
        place: &Arc<Place>,
        pool: &Arc<Pool>,
    ) -> Result<Seat, String> {
        let newcomer = Newcomer {
            group: &m.group,
            key: &m.group_key,
            proxy: &m.proxy_name,
            endpoint: pool.clone(),
            offer: pool.offer(),
        };
        let claim = |members| async {
            let route = Route {
                place: place.clone(),
                group: m.group.as_str().into(),
                policy: Some(Policy::new(m))
                    .filter(|policy| !policy.is_none())
                    .map(Box::new),
                members,
            };
            let claimed =
                self.router
                    .claim(&place.domain, &place.user, &place.location, Arc::new(route));
            claimed.map_err(|e| e.to_string())
        };
        self.groups.join(newcomer, place.clone(), claim).await
    }

    /// The route of a request (see [`Router::find`]).
    pub(super) fn find(&self, host: &str, path: &[u8], user: &str) -> Option<Arc<Route>> {
        self.router.find(host, path, user)
    }
}
