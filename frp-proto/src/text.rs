//! Texts that peers, scripts or panels match on, and the version we announce.

/// The upstream version whose behaviour we implement: sent in `Login` and `LoginResp`, printed by `-v`.
pub const VERSION: &str = "0.70.1";

/// An error as Go's programs print it: what the system says begins in lower case and ends without its number.
pub fn system_error(e: &std::io::Error) -> String {
    let text = e.to_string();
    if e.raw_os_error().is_none() {
        return text;
    }
    let end = text.rfind(" (os error ").unwrap_or(text.len());
    let mut chars = text[..end].chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Printed when a configuration file is legacy INI.
pub const LEGACY_INI_WARNING: &str = "WARNING: ini format is deprecated and the support will be removed in the future, please use yaml/json/toml format instead!";

/// A client's answer to the wish to remove a pushed proxy that it does not have. Ours, not upstream's.
pub const NOT_PUSHED: &str = "there is no pushed proxy of this name";
