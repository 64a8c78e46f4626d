//! OIDC as frp uses it (wire.md §4.4): frpc gets access tokens from a provider, frps checks them.
//!
//! | module | holds |
//! |--|--|
//! | [`client`] | where tokens come from: client credentials (RFC 6749 §4.4), a file or a command |
//! | [`server`] | discovery, the provider's keys, and what a token must say |
//! | `jwt` | tokens and keys (RFC 7515, RFC 7517, RFC 7518) |
//! | `http` | one request at a time, maybe through a proxy |
//!
//! Errors are texts in upstream's words: peers and people read them.

pub mod client;
mod http;
mod jwt;
pub mod server;
