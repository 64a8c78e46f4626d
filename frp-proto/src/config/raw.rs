//! One-to-one with the files' keys. Field names are the keys in snake case; integers are `i64`, as in Go; after loading,
//! defaults are filled in.

pub mod client;
pub mod common;
mod plugin;
mod proxy;
pub mod server;
mod visitor;

use super::decode::{DecodeError, Decoder};
use super::value::Value;

pub(crate) use plugin::Envelope;

/// What the loader does alike with proxies and visitors.
pub(crate) trait Entry: Sized {
    /// `proxy` or `visitor`, as texts call it.
    const WHAT: &'static str;

    fn name(&self) -> &str;
    fn enabled(&self) -> bool;
    fn complete(&mut self);

    /// Decodes one element of the list; its `type` was read before.
    fn decode(type_: &str, value: &Value, d: &mut Decoder) -> Result<Self, DecodeError>;
}
