//! What `frpc` and `frps` must agree on.
//!
//! | module | holds |
//! |--|--|
//! | [`msg`] | messages and both wire versions |
//! | [`auth`] | token keys, secrets, value sources |
//! | [`oidc`] | tokens of an identity provider, for who gets and who checks them |
//! | [`crypto`] | key derivation, AES-128-CFB stream, v2 AEAD records |
//! | [`mux`] | the yamux protocol: sans-IO engine and tokio driver |
//! | [`ws`] | WebSocket streams |
//! | [`kcp`] | KCP sessions over UDP, with error correction |
//! | [`quic`] | QUIC connections and streams |
//! | [`tls`] | TLS streams, certificates that may change at any time |
//! | [`nathole`] | STUN, kinds of NAT, hole punching |
//! | [`net`] | listening, dialling, the layers of a connection, the relay |
//! | [`host`] | name, clock and randomness of the machine |
//! | [`udp`] | datagrams in messages: sockets, queues |
//! | [`config`] | files to checked settings |
//! | [`telemetry`] | logs |
//! | [`cli`] | flag parsing with upstream's spellings and texts |
//! | [`plugin`] | what frps and its HTTP plugins tell each other |
//! | [`process`] | what `main` does to its process: signals, limits, output, rest |

pub mod auth;
mod buffer;
mod chunk;
pub mod cli;
mod compress;
pub mod config;
pub mod crypto;
pub mod disk;
pub mod host;
pub mod kcp;
pub mod msg;
pub mod mux;
pub mod nathole;
pub mod net;
pub mod oidc;
pub mod plugin;
pub mod process;
pub mod quic;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod text;
pub mod tls;
pub mod udp;
pub mod ws;
