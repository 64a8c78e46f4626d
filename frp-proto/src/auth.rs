//! Token authentication (wire.md §4.3), and secrets that never print.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// A secret: neither `Debug` nor `Display` nor `Serialize`, and compared in constant time.
#[derive(Clone, Default)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(s: impl Into<Vec<u8>>) -> Self {
        Self(s.into().into_boxed_slice())
    }

    /// The bytes, for key derivation only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(s: &str) -> Self {
        Self::new(s)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

/// `lower_hex(MD5(token || decimal(timestamp)))`; a visitor's `sign_key` is the same of its secret key.
pub fn token_key(token: &Secret, timestamp: i64) -> String {
    let digest = Md5::new()
        .chain_update(token.expose())
        .chain_update(timestamp.to_string())
        .finalize();
    format!("{:032x}", u128::from_be_bytes(digest.into()))
}

/// Checks a received key in constant time.
pub fn verify_token_key(token: &Secret, timestamp: i64, key: &str) -> bool {
    token_key(token, timestamp)
        .as_bytes()
        .ct_eq(key.as_bytes())
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_specification() {
        let secret = Secret::new("secret");
        for (token, timestamp, key) in [
            (&secret, 1_700_000_000, "e37729af62f40f134311cffbc230178e"),
            (
                &Secret::default(),
                1_700_000_000,
                "24920decf83f6960b80f737a28eeafc1",
            ),
            (&secret, 0, "175ec77a7f63082590987d0d8b051aff"),
            (
                &Secret::new("abc"),
                1_700_000_000,
                "22bd6333f840eeeee03ad14f75fd96ac",
            ),
        ] {
            assert_eq!(token_key(token, timestamp), key);
            assert!(verify_token_key(token, timestamp, key));
        }
        assert!(!verify_token_key(
            &secret,
            1,
            "e37729af62f40f134311cffbc230178e"
        ));
        assert!(!verify_token_key(&secret, 1, ""));
    }
}
