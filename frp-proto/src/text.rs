//! Texts that peers, scripts or panels match on, and the version we announce.

/// The upstream version whose behaviour we implement: sent in Login and LoginResp, printed by `-v`.
pub const VERSION: &str = "0.70.1";
