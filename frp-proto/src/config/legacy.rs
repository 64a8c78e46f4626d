//! Legacy INI files (config-frps.md §12, config-frpc.md §17): read by their own rules, turned into today's schema.

mod client;
mod server;
mod syntax;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use super::raw::client::ClientConfig;
use super::raw::server::ServerConfig;
use super::{ConfigError, template};
use syntax::Ini;

/// Turns a legacy file of frps into a configuration; defaults are not filled in.
pub(super) fn server(
    text: &str,
    path: &Path,
    env: &BTreeMap<String, String>,
) -> Result<ServerConfig, ConfigError> {
    let rendered = template::render_legacy(text, env).map_err(ConfigError)?;
    server::config(&parse(&rendered, path)?).map_err(ConfigError)
}

/// Turns a legacy file of frpc, with what it includes, into a configuration; defaults of the common part are not filled in.
pub(super) fn client(
    text: &str,
    path: &Path,
    env: &BTreeMap<String, String>,
) -> Result<ClientConfig, ConfigError> {
    let rendered = template::render_legacy(text, env).map_err(ConfigError)?;
    let main = parse(&rendered, path)?;
    let mut config = client::common(&main).map_err(ConfigError)?;
    let mut all = rendered;
    for file in super::include::files(&config.includes)
        .map_err(|e| ConfigError(format!("getIncludeContents error: {e}")))?
    {
        let include = || {
            let text = super::read::text(&file).map_err(|e| e.0)?;
            template::render_legacy(&text, env)
        };
        let text = include().map_err(|e| {
            let file = file.display();
            ConfigError(format!(
                "getIncludeContents error: render extra config {file} error: {e}"
            ))
        })?;
        all.push('\n');
        all.push_str(text.trim_start_matches('\u{feff}'));
    }
    // Included files were taken into account.
    config.includes.clear();
    let all = parse(&all, path)?;
    client::entries(&all, &mut config).map_err(ConfigError)?;
    Ok(config)
}

fn parse(text: &str, path: &Path) -> Result<Ini, ConfigError> {
    Ini::parse(text).map_err(|e| ConfigError(format!("{e}\n  --> {}:{}", path.display(), e.line)))
}

/// One number range of `allow_ports`, `local_port` and the like, or why it is none.
fn within<T>(what: impl Display, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|e| format!("{what}{e}"))
}
