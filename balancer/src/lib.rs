//! Picks an endpoint of a group (balancing.md).
//!
//! The crate knows nothing of tunnels: an endpoint is whatever its user makes it. There is no I/O, no clock and no task in
//! here, and nothing on the way of a pick waits for anything: time and randomness are passed in.
//!
//! | module | holds |
//! |--|--|
//! | `config` | settings of groups and members, and how they are read from keys and values |
//! | `group` | who belongs to a group, picks, what time brings, what administrators see and set |
//! | `pick` | the strategies |
//! | `health` | states of a member, ejection, checks, slow start |
//! | `lease` | a pick in use |
//! | `agent` | what a member's agent says of it |
//! | `report` | weights by the load that members report |
//! | `retry` | how many retries there may be |
//! | `hedge` | when a second copy of a request is worth it |
//! | `sticky` | signed cookies |
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use balancer::{Group, MemberConfig, Options, Outcome, Random, Request};
//!
//! let (now, mut random) = (Instant::now(), Random::new(1));
//! let group = Group::new(now, Options::default());
//! let _a = group.join(now, "a", Arc::new("10.0.0.1:80"), MemberConfig::default(), None)?;
//! let b = group.join(now, "b", Arc::new("10.0.0.2:80"), MemberConfig::default(), None)?;
//!
//! let picked = group.pick(now, &Request::default(), &mut random)?;
//! assert_eq!(**picked.lease.endpoint(), "10.0.0.1:80");
//! // … the request is served …
//! picked.lease.finish(now, Outcome::Ok);
//!
//! drop(b); // leaves the group
//! let picked = group.pick(now, &Request::default(), &mut random)?;
//! assert_eq!(**picked.lease.endpoint(), "10.0.0.1:80");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "shares and latencies are estimates: a float's digits are enough, and none is negative"
)]

mod agent;
mod clock;
mod config;
mod group;
mod health;
mod hedge;
mod lease;
mod member;
mod pick;
mod random;
mod report;
mod retry;
mod snapshot;
mod sticky;

pub use agent::{AgentError, AgentReport, MAX_AGENT_LINE};
pub use config::{
    AgentConfig, CheckConfig, CheckKind, ConfigError, EwmaConfig, GroupConfig, HashAlgorithm,
    HashConfig, HashKey, MemberConfig, OutlierConfig, Overflow, Parsed, RetryConfig, SameSite,
    StickyConfig, Strategy, parse,
};
pub use group::{
    Event, First, Full, Group, MAX_MEMBERS, MemberView, Membership, NoMember, Options, Picked,
    Reason, Request, RetryPermit,
};
pub use health::{Cause, State};
pub use lease::{Lease, Outcome};
pub use member::{MemberKey, Overrides};
pub use random::Random;
pub use report::LoadReport;
pub use sticky::{Claim, Keys, Tag, cookie_name};
