//! The configuration file on the disk: loaded at the start, read and written again over the admin API.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use frp_proto::config::raw::client::ClientConfig;
use frp_proto::config::{self, ConfigError, Loaded, UnsafeFeatures};
use frp_proto::{process, text};
use frpc_rs::{ConfigFile, Store};

/// A configuration file.
pub(crate) struct FileOnDisk {
    pub(crate) path: PathBuf,
    pub(crate) allowed: UnsafeFeatures,
}

impl FileOnDisk {
    /// Loads it, nothing checked yet.
    pub(crate) fn parse(&self, strict: bool) -> Result<Loaded<ClientConfig>, ConfigError> {
        config::load_client(&self.path, strict, &process::environment())
    }

    /// Opens the store that the configuration names. Its path is relative to this file.
    pub(crate) fn store(&self, config: &ClientConfig) -> Result<Option<Store>, ConfigError> {
        if config.store.path.is_empty() {
            return Ok(None);
        }
        let directory = self.path.parent().unwrap_or(&self.path);
        Store::open(directory.join(&config.store.path)).map(Some)
    }

    /// `open PATH: why`, as Go words it.
    fn error(&self, what: &str, e: &io::Error) -> String {
        format!("{what} {}: {}", self.path.display(), text::system_error(e))
    }
}

impl ConfigFile for FileOnDisk {
    fn load(&self, strict: bool) -> Result<ClientConfig, String> {
        let Loaded { config, .. } = self.parse(strict).map_err(|e| e.to_string())?;
        refuse_nameless(&config).map_err(|e| e.to_string())?;
        let (_, valid) = config::validate_client(&config, &self.allowed);
        valid.map_err(|e| e.to_string())?;
        Ok(config)
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        fs::read(&self.path).map_err(|e| self.error("open", &e))
    }

    fn write(&self, content: &[u8]) -> Result<(), String> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options
            .open(&self.path)
            .map_err(|e| self.error("open", &e))?;
        file.write_all(content).map_err(|e| self.error("write", &e))
    }
}

/// A run words an empty name differently than `verify` does.
pub(crate) fn refuse_nameless(config: &ClientConfig) -> Result<(), ConfigError> {
    let what = if config.proxies.iter().any(|p| p.base.name.is_empty()) {
        "proxy"
    } else if config.visitors.iter().any(|v| v.base.name.is_empty()) {
        "visitor"
    } else {
        return Ok(());
    };
    Err(ConfigError(format!(
        "failed to set config source: {what} name cannot be empty"
    )))
}
