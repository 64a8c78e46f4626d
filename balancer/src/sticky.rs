//! Signed cookies that keep a user with a member (balancing.md §5.1).
//!
//! A value is base64url of 14 bytes of payload (version, 0, Unix seconds, tag of the member) and 16 bytes of
//! HMAC. Neither tells an address, and both are bound to the group.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

type HmacSha256 = Hmac<Sha256>;

/// Names a member without telling it.
pub type Tag = [u8; 8];

const VERSION: u8 = 1;
const PAYLOAD: usize = 14;
const MAC: usize = 16;
/// Each one is tried on every cookie.
const MAX_SECRETS: usize = 16;
/// Clocks of several servers may differ by this much.
const MAX_FUTURE: Duration = Duration::from_hours(24);

/// Secrets of a group's cookies: the first signs, all verify.
#[derive(Clone)]
pub struct Keys(Arc<[Key]>);

pub(crate) struct Key {
    tag: HmacSha256,
    mac: HmacSha256,
    /// Kind and group, each ended by NUL.
    scope: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(&self.0.len()).finish()
    }
}

/// What a cookie that counts says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The member it was issued for.
    pub tag: Tag,
    /// Unix seconds of its issue.
    pub issued: u32,
}

impl Keys {
    /// Keys of the group `group` of kind `kind`. At most 16 secrets count, the first signs.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>, kind: &str, group: &str) -> Self {
        let mut secrets = secrets.into_iter().peekable();
        if secrets.peek().is_none() {
            // Shared by all that have none.
            return Self(Arc::default());
        }
        let scope = format!("{kind}\0{group}\0").into_bytes();
        let keys = secrets.take(MAX_SECRETS).map(|secret| {
            let derive = |label: &[u8]| hmac(&digest(&hmac(secret), label));
            Key {
                tag: derive(b"frp-lb tag v1"),
                mac: derive(b"frp-lb mac v1"),
                scope: scope.clone(),
            }
        });
        Self(keys.collect())
    }

    /// The cookie for member `id`; `None` without a secret.
    pub fn issue(&self, id: &str, unix: u32) -> Option<String> {
        let key = self.0.first()?;
        let mut value = [0; PAYLOAD + MAC];
        value[0] = VERSION;
        value[2..6].copy_from_slice(&unix.to_be_bytes());
        value[6..PAYLOAD].copy_from_slice(&key.tag(id));
        let mac = key.mac(&value[..PAYLOAD]).finalize().into_bytes();
        value[PAYLOAD..].copy_from_slice(&mac[..MAC]);
        Some(URL_SAFE_NO_PAD.encode(value))
    }

    /// What a cookie says, if it was issued for this group and still holds.
    pub fn verify(&self, value: &str, unix: u32, ttl: Option<Duration>) -> Option<Claim> {
        let value: [u8; PAYLOAD + MAC] = URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok()?;
        let (payload, mac) = value.split_at(PAYLOAD);
        if payload[0] != VERSION {
            return None;
        }
        // Compares in constant time. The place of a secret changes when a new one comes first, so all are tried.
        self.0
            .iter()
            .find(|key| key.mac(payload).verify_truncated_left(mac).is_ok())?;
        let issued = u32::from_be_bytes(payload[2..6].try_into().ok()?);
        let old = ttl.is_some_and(|ttl| u64::from(unix.saturating_sub(issued)) > ttl.as_secs());
        let future = u64::from(issued.saturating_sub(unix)) > MAX_FUTURE.as_secs();
        if old || future {
            return None;
        }
        let tag = payload[6..].try_into().ok()?;
        Some(Claim { tag, issued })
    }

    pub(crate) fn all(&self) -> &[Key] {
        &self.0
    }
}

impl Key {
    pub(crate) fn tag(&self, id: &str) -> Tag {
        let mut mac = self.tag.clone();
        mac.update(&self.scope);
        mac.update(id.as_bytes());
        let bytes = mac.finalize().into_bytes();
        let mut tag = Tag::default();
        tag.copy_from_slice(&bytes[..8]);
        tag
    }

    fn mac(&self, payload: &[u8]) -> HmacSha256 {
        let mut mac = self.mac.clone();
        mac.update(&self.scope);
        mac.update(payload);
        mac
    }
}

fn hmac(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn digest(mac: &HmacSha256, data: &[u8]) -> [u8; 32] {
    let mut mac = mac.clone();
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// The cookie's name when none is configured: another one for every group.
pub fn cookie_name(kind: &str, group: &str) -> String {
    let hash = Sha256::digest(format!("{kind}\0{group}"));
    format!(
        "frplb_{:02x}{:02x}{:02x}{:02x}",
        hash[0], hash[1], hash[2], hash[3]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_700_000_000;
    const VALUE: &str = "AQBlU_EAallbjnAEX_gMyLo4kESG5-ZHRZyhwtgs";

    fn keys(secret: &str, group: &str) -> Keys {
        Keys::new([secret.as_bytes()], "http", group)
    }

    #[test]
    fn the_golden_cookie_of_the_specification() {
        assert_eq!(cookie_name("http", "web"), "frplb_71401754");
        let keys = keys("test-secret", "web");
        assert_eq!(keys.issue("alice.site-1", NOW).as_deref(), Some(VALUE));
        let claim = keys.verify(VALUE, NOW, None).unwrap();
        assert_eq!(claim.issued, NOW);
        assert_eq!(claim.tag, keys.all()[0].tag("alice.site-1"));
    }

    #[test]
    fn cookies_of_others_and_altered_ones_say_nothing() {
        let own = keys("test-secret", "web");
        assert_eq!(keys("other", "web").verify(VALUE, NOW, None), None);
        assert_eq!(keys("test-secret", "shop").verify(VALUE, NOW, None), None);
        let tcp = Keys::new([b"test-secret".as_slice()], "tcp", "web");
        assert_eq!(tcp.verify(VALUE, NOW, None), None);
        let mut bytes = URL_SAFE_NO_PAD.decode(VALUE).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(&bytes);
            assert_eq!(own.verify(&forged, NOW, None), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for junk in ["", "x", "AQBl", &"A".repeat(10_000), "äöü", &VALUE[1..]] {
            assert_eq!(own.verify(junk, NOW, None), None);
        }
        assert_eq!(Keys::new([], "http", "web").verify(VALUE, NOW, None), None);
    }

    #[test]
    fn age_counts() {
        let keys = keys("test-secret", "web");
        let hour = Some(Duration::from_hours(1));
        assert!(keys.verify(VALUE, NOW + 3_600, hour).is_some());
        assert!(keys.verify(VALUE, NOW + 3_601, hour).is_none());
        assert!(keys.verify(VALUE, NOW - 86_400, hour).is_some());
        assert!(keys.verify(VALUE, NOW - 86_401, hour).is_none());
    }

    #[test]
    fn old_secrets_verify_and_the_first_signs() {
        let rotated = Keys::new(
            [b"new".as_slice(), b"test-secret".as_slice()],
            "http",
            "web",
        );
        assert!(rotated.verify(VALUE, NOW, None).is_some());
        let issued = rotated.issue("m", NOW).unwrap();
        assert!(keys("new", "web").verify(&issued, NOW, None).is_some());
        assert!(
            keys("test-secret", "web")
                .verify(&issued, NOW, None)
                .is_none()
        );
    }
}
