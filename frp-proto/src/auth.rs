//! Token authentication (wire.md §4.3) and secrets that never print.

/// A secret: no `Debug`, `Display` or `Serialize`; compared in constant time.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(s: impl Into<Vec<u8>>) -> Self {
        Self(s.into())
    }
    /// The bytes, for key derivation only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// `lower_hex(MD5(token || decimal(timestamp)))`; also the visitor `sign_key`.
pub fn token_key(_token: &Secret, _timestamp: i64) -> String {
    todo!()
}
/// Constant-time check of a received key.
pub fn verify_token_key(_token: &Secret, _timestamp: i64, _key: &str) -> bool {
    todo!()
}
