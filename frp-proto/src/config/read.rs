//! Files read whole, once and bounded, with Go's error texts.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::ConfigError;

/// Far above any real configuration, so that a wrong path (a device, a log) cannot exhaust memory.
const MAX_FILE: u64 = 8 << 20;

/// The text of a configuration file.
///
/// It is read once, so a pipe works, which upstream's second read makes empty.
pub(super) fn text(path: &Path) -> Result<String, ConfigError> {
    let bytes = bytes(path).map_err(ConfigError)?;
    String::from_utf8(bytes).map_err(|e| {
        let good =
            String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]).into_owned();
        let line = 1 + good.matches('\n').count();
        ConfigError(format!("{}: line {line} is not UTF-8 text", path.display()))
    })
}

/// The bytes of a small file, or the error as Go words it.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let file = File::open(path).map_err(|e| format!("open {name}: {}", os_error(&e)))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("read {name}: {}", os_error(&e)))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!(
            "read {name}: file is larger than {} MiB",
            MAX_FILE >> 20
        ));
    }
    Ok(bytes)
}

/// `No such file or directory (os error 2)` → `no such file or directory`.
pub(super) fn os_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}
