//! Starts `frps` and `frpc` programs, ours and upstream's, as processes and lets cases look at them from outside.
//!
//! | module | holds |
//! |--|--|
//! | [`peers`] | where the programs are, and which pairings they give |
//! | [`case`] | a case, and the trials it becomes: one for each pairing |
//! | [`lab`] | what a running case has: a directory, free ports, processes that end with it |
//! | [`config`] | configuration files, as TOML or INI |
//! | [`managed`] | an frpc that is managed while it runs |
//! | [`process`] | a child process: its log, signals, its end |
//! | [`browser`] | a browser without a window |
//! | [`http`] | HTTP/1 to the byte: users and a backend |
//! | [`service`] | local services behind a tunnel, and their users |
//! | [`namespace`] | hosts of their own, on Linux as root |
//! | [`network`] | hosts behind NATs, on Linux as root |
//! | [`oidc`] | an identity provider |
//! | [`datagram`] | users and services that talk in datagrams |
//! | [`stun`] | a STUN server |
//! | [`vhost`] | users of ports that many proxies share |
//! | [`plugin`] | a server plugin that records what it is asked |
//! | [`raw`] | a client, or a server, that is only messages |
//! | [`recording`] | recorded wire sessions and what their bytes say |
//!
//! A case fails with a [`Failure`], or by a panic of an assertion; either way the report ends with the programs' logs.

pub mod browser;
pub mod case;
pub mod config;
pub mod datagram;
pub mod failure;
pub mod http;
pub mod lab;
pub mod managed;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod network;
pub mod oidc;
pub mod peers;
pub mod plugin;
pub mod ports;
pub mod process;
pub mod raw;
pub mod recording;
pub mod service;
pub mod stun;
pub mod vhost;
pub mod wait;

pub use case::{Case, Suite};
pub use failure::{Failure, Outcome};
pub use lab::{Lab, Pair, Setup};
