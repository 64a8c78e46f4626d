//! Picks an endpoint of a group.
//!
//! The crate knows nothing of tunnels: an endpoint is whatever its user makes it. There is no I/O, no clock and no
//! task in here, and nothing on the way of a pick waits for anything.
//!
//! ```
//! use balancer::{First, RoundRobin};
//!
//! let group = RoundRobin::new(First::Oldest);
//! let _a = group.join("a")?;
//! let b = group.join("b")?;
//! assert_eq!(group.pick().as_deref(), Some(&"a"));
//! assert_eq!(group.pick().as_deref(), Some(&"b"));
//! drop(b); // leaves the group
//! assert_eq!(group.pick().as_deref(), Some(&"a"));
//! # Ok::<(), balancer::Full>(())
//! ```

mod round_robin;

pub use round_robin::{First, Full, MAX_MEMBERS, Members, Membership, RoundRobin};
