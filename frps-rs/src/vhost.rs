//! Ports that many proxies share: users are told apart by the domain they ask for.
//!
//! | module | holds |
//! |--|--|
//! | `router` | from domain, user and path to whoever has claimed them |
//! | `http` | the reverse proxy of `vhostHTTPPort` |

pub(crate) mod http;
mod router;
