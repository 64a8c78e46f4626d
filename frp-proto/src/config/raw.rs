//! One-to-one with the files' keys. Field names are the keys in snake case; integers are `i64`, as in Go; after loading,
//! defaults are filled in.

pub mod client;
pub mod common;
mod plugin;
mod proxy;
pub mod server;
mod visitor;

use serde::Serialize;

use super::ConfigError;

pub(crate) use plugin::Envelope;
pub(crate) use sealed::Element;

/// What proxies and visitors have in common; nothing else implements it.
///
/// Serialized it is what a configuration file says of it, secrets included.
pub trait Entry: Element + Serialize + Clone + PartialEq + Send + 'static {
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
}

mod sealed {
    use crate::config::decode::{DecodeError, Decoder};
    use crate::config::value::Value;

    /// What reading needs to know of an entry.
    pub trait Element: Sized {
        /// Every `type` there is.
        const TYPES: &'static [&'static str];

        /// Decodes one element of the list; its `type` was read before.
        fn decode(type_: &str, value: &Value, d: &mut Decoder) -> Result<Self, DecodeError>;
        /// Sets name and type.
        fn set_identity(&mut self, name: String, type_: String);
    }
}
