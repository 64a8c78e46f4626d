//! Logs in upstream's format (config-frps.md §10) over `tracing`.

/// Logger settings.
#[derive(Debug, Clone)]
pub struct LogSettings {
    pub to: String,
    pub level: String,
    pub max_days: i64,
    pub disable_print_color: bool,
}

/// Installs the global subscriber. Fields `run_id`, `proxy` of events become the `[X] ` prefixes in that order.
pub fn init(_s: &LogSettings) {
    todo!()
}
