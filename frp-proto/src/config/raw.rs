//! One-to-one with the files' keys. Field names are the keys in snake case; integers are `i64`, as in Go; after loading,
//! defaults are filled in.

pub mod balancing;
pub mod client;
pub mod common;
mod plugin;
mod proxy;
pub mod server;
mod visitor;

use serde::Serialize;

use super::ConfigError;
use super::decode::{DecodeError, Decoder};
use super::value::Value;

pub(crate) use plugin::Envelope;
/// What proxies and visitors have in common.
///
/// Serialized it is what a configuration file says of it, secrets included.
pub trait Entry: Serialize + Clone + PartialEq + Send + 'static {
    /// `proxy` or `visitor`, as texts call it.
    const WHAT: &'static str;
    /// `proxies` or `visitors`: the key of their list.
    const LIST: &'static str;

    /// Its name, without the user prefix.
    fn name(&self) -> &str;
    /// The value of `type`.
    fn type_name(&self) -> &str;
    /// Whether it counts at all.
    fn enabled(&self) -> bool;
    /// Fills the defaults; a second call changes nothing.
    fn complete(&mut self);
    /// What is wrong with it by itself, once it is complete.
    fn validate(&self) -> Result<(), ConfigError>;
    /// Reads a definition of the admin API; `expected_name` is the one it must have. Unknown keys are ignored, nothing is
    /// filled in or validated.
    fn from_definition(text: &str, expected_name: Option<&str>) -> Result<Self, ConfigError>;
}

/// What reading needs to know of an entry.
pub(crate) trait Element: Entry {
    /// Go's name of its definition, for the error texts.
    const GO: &'static str;
    /// Every `type` there is.
    const TYPES: &'static [&'static str];

    /// Decodes one element of the list; its `type` was read before.
    fn decode(type_: &str, value: &Value, d: &mut Decoder) -> Result<Self, DecodeError>;
    /// Sets name and type.
    fn set_identity(&mut self, name: String, type_: String);
}
