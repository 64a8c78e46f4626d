//! From a file to a checked configuration.
//!
//! A file is read and rendered (`template`), parsed by whatever format its content has (`format`) into one tree with
//! positions (`value`), and decoded by Go's rules (`decode`) into [`raw`], one-to-one with the file's keys.
//! [`load_server`] and [`load_client`] do that and fill the defaults; [`validate_server`] and [`validate_client`] say what
//! cannot be used.

mod decode;
mod definition;
mod encode;
mod format;
mod include;
mod legacy;
mod load;
mod places;
pub mod raw;
mod read;
mod targets;
mod template;
#[cfg(test)]
mod tests;
mod token;
mod units;
mod validate;
mod value;

pub use definition::{Definition, Stored, proxy_from_json};
pub use load::{
    Entries, client_from_text, entries_from_text, load_client, load_server, server_from_text,
};
pub use places::Places;
pub use targets::LocalTargets;
pub use token::{resolve_token, resolve_value};
pub use units::{bandwidth, network, number_range, number_spans};
pub use validate::{AUTO_WITHOUT_TLS, validate_client, validate_server};

/// A configuration that can't be used; `Display` is what the program prints: upstream's text first, then file, line, column
/// and what would have been right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Unsafe features allowed on the command line (`--allow-unsafe`).
#[derive(Debug, Clone, Default)]
pub struct UnsafeFeatures {
    /// `TokenSourceExec`: a secret may come from a command.
    pub token_source_exec: bool,
}

impl UnsafeFeatures {
    /// The features among `names`; other names mean nothing, as upstream has it.
    pub fn from_names(names: &[String]) -> Self {
        Self {
            token_source_exec: names.iter().any(|name| name == "TokenSourceExec"),
        }
    }
}

/// What a load gave.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration, defaults filled in.
    pub config: T,
    /// The file is legacy INI: the caller prints the deprecation warning.
    pub legacy_ini: bool,
}
