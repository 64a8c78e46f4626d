//! From a file to a checked configuration: `raw` (one-to-one with the file's keys) and how it is loaded and validated.
mod decode;
pub mod raw;
mod units;
mod value;

pub use units::{bandwidth, number_range, number_spans};

use std::collections::BTreeMap;
use std::path::Path;

/// A configuration that can't be used; `Display` is what the program prints (spec text first, then file, line, column and a suggestion).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Unsafe features allowed on the command line (`--allow-unsafe`).
#[derive(Debug, Clone, Default)]
pub struct UnsafeFeatures {
    pub token_source_exec: bool,
}

/// What a load gave.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    pub config: T,
    /// The file is legacy INI: the caller prints the deprecation warning.
    pub legacy_ini: bool,
}

/// Reads, renders, decodes, fills defaults. `env` is the process environment at start. No validation.
pub fn load_server(
    _path: &Path,
    _strict: bool,
    _env: &BTreeMap<String, String>,
) -> Result<Loaded<raw::server::ServerConfig>, ConfigError> {
    todo!()
}
/// As [`load_server`], with includes merged and duplicate names refused; proxies and visitors completed, filtered by `start` and `enabled`, sorted by name.
pub fn load_client(
    _path: &Path,
    _strict: bool,
    _env: &BTreeMap<String, String>,
) -> Result<Loaded<raw::client::ClientConfig>, ConfigError> {
    todo!()
}
/// All failures, in the spec's order; empty = valid.
pub fn validate_server(_c: &raw::server::ServerConfig, _u: &UnsafeFeatures) -> Vec<String> {
    todo!()
}
/// Warnings and, if invalid, the error text to print.
pub fn validate_client(
    _c: &raw::client::ClientConfig,
    _u: &UnsafeFeatures,
) -> (Vec<String>, Result<(), ConfigError>) {
    todo!()
}
/// Resolves a token source: file or exec (config-frps.md §7.2), error text with its prefix `failed to resolve auth.tokenSource: `.
pub fn resolve_token(
    _auth_token: &str,
    _source: Option<&raw::common::ValueSource>,
) -> Result<crate::auth::Secret, ConfigError> {
    todo!()
}
