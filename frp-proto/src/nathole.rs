//! NAT hole punching for `xtcp` (nathole.md).
//!
//! | part | holds |
//! |--|--|
//! | [`stun`] | STUN requests and responses |
//! | [`discover`] | asking a STUN server, and what both peers find out before an exchange |
//! | [`classify`] | kinds of NAT |
//! | [`plan`] | who does what in which attempt, and what has worked |
//! | [`punch`] | the datagrams that make a hole, and the procedure |

pub mod classify;
pub mod discover;
pub mod plan;
pub mod punch;
pub mod stun;

use std::io;

/// Addresses of one kind that a peer may name; upstream sends two mapped ones and up to ten local ones.
pub const MAX_ADDRESSES: usize = 32;
/// Longest id or protocol name that a peer may send; upstream's have 26 bytes.
pub const MAX_ID: usize = 64;

/// A transaction or session id: Unix seconds and 64 random bits. Fails only when the system has no random bytes.
pub fn new_id(unix_secs: i64) -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{unix_secs}{random:016x}"))
}
