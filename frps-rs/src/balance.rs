//! Load balancing (balancing.md): what stands between groups of proxies and the crate `balancer`.
//!
//! | module | holds |
//! |--|--|
//! | `settings` | `[loadBalancer]` of the server, and what a proxy brings along |
//! | `group` | a balanced group: its members, who speaks for it, what it counts |
//! | `turn` | one user's way through a group: the pick, and others after it failed |
//! | `counters` | what is counted, and its metrics |
//! | `watch` | how a byte stream begins |
//! | `registry` | all groups, and the task that brings them what time brings |
//! | `shed` | users move to members that have joined |
//! | `check` | active checks |

pub(crate) mod check;
mod counters;
mod group;
mod registry;
mod settings;
mod shed;
mod turn;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::Instant;

use balancer::{AgentReport, First, Options};
use frp_proto::auth::Secret;
use frp_proto::msg::NewProxy;

use crate::proxy::Context;

pub(crate) use counters::add_to;
pub(crate) use group::{Balanced, Endpoint, Managed, Seat};
pub(crate) use registry::{Listed, Registry, maintain};
pub use settings::BalancingSettings;
pub(crate) use settings::Offer;
pub(crate) use turn::{Asked, Stage, Turn, Usage, hash_key, source_key};

/// How this server balances.
pub(crate) struct Balancing {
    pub(crate) settings: BalancingSettings,
    pub(crate) registry: Registry,
}

impl Balancing {
    pub(crate) fn new(settings: BalancingSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            registry: Registry::default(),
        })
    }

    /// What a proxy says about balancing, with this server's rules. The error is the text for the client.
    pub(crate) fn offer(&self, m: &NewProxy, kind: &str, run_id: &str) -> Result<Offer, String> {
        self.settings.offer(m, kind, run_id)
    }

    /// What the agent of a proxy's service says; false when it is in no group.
    pub(crate) fn agent_says(&self, context: &Context, report: &AgentReport) -> bool {
        let group = self.registry.find(context.kind, &context.offer.name);
        group.is_some_and(|group| group.agent_says(context, report))
    }

    /// A group without members. `name` is that of the group, or of the proxy that is alone.
    pub(crate) fn group<E: Endpoint>(
        &self,
        kind: &'static str,
        name: &str,
        first: First,
        offer: &Offer,
    ) -> Arc<Balanced<E>> {
        let name = offer.shared_name(name);
        // Of a proxy that stays alone and asks for nothing nobody is kept.
        let alone = !offer.is_grouped() && !offer.configured;
        let secrets = self.settings.secrets.iter().filter(|_| !alone);
        let keys = balancer::Keys::new(secrets.map(Secret::expose), kind, &name);
        let options = Options {
            config: offer.base.clone(),
            first,
            zone: self.settings.zone.clone(),
            keys: keys.clone(),
            seed: turn::seed(),
        };
        let group = balancer::Group::new(Instant::now(), options);
        Arc::new(Balanced::new(kind, name, group, keys, &self.settings))
    }
}
