//! One-to-one with the files' keys. Field names are the keys in snake case; integers are `i64`; after loading, defaults are filled in.
pub mod client;
pub mod common;
pub mod server;
