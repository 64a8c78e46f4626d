//! Basic credentials (RFC 7617), compared in constant time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frp_proto::auth::Secret;

/// How long somebody who guesses waits for the answer.
pub(super) const PENALTY: Duration = Duration::from_millis(200);

/// The credentials a plugin asks for.
pub(super) struct Credentials {
    user: Secret,
    password: Secret,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// What a request says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The right credentials.
    Right,
    /// None, or none that can be read.
    Missing,
    /// Others.
    Wrong,
}

impl Credentials {
    /// `None` when neither is set: everybody is served.
    pub(super) fn new(user: &str, password: &str) -> Option<Self> {
        (!user.is_empty() || !password.is_empty()).then(|| Self {
            user: user.into(),
            password: password.into(),
        })
    }

    /// Compares. The time it takes does not depend on which of the two is wrong.
    pub(super) fn are(&self, user: &[u8], password: &[u8]) -> bool {
        let user = self.user == Secret::new(user);
        let password = self.password == Secret::new(password);
        user & password
    }

    /// Looks at `Basic BASE64(user:password)`. `scheme`: the first word, if it matters.
    pub(super) fn verdict(&self, value: Option<&[u8]>, scheme: Option<&str>) -> Verdict {
        match value.and_then(|value| decode(value, scheme)) {
            None => Verdict::Missing,
            Some((user, password)) if self.are(&user, &password) => Verdict::Right,
            Some(_) => Verdict::Wrong,
        }
    }
}

fn decode(value: &[u8], scheme: Option<&str>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (word, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if scheme.is_some_and(|scheme| !word.eq_ignore_ascii_case(scheme)) {
        return None;
    }
    let mut user = STANDARD.decode(encoded).ok()?;
    let colon = user.iter().position(|b| *b == b':')?;
    let password = user.split_off(colon + 1);
    user.pop();
    Some((user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_asked_for_when_either_is_set() {
        assert!(Credentials::new("", "").is_none());
        for (user, password) in [("u", ""), ("", "p"), ("u", "p")] {
            let c = Credentials::new(user, password).unwrap();
            assert!(c.are(user.as_bytes(), password.as_bytes()));
            assert!(!c.are(b"u", b"x") && !c.are(b"x", b"p") && !c.are(b"x", b"x"));
        }
    }

    #[test]
    fn values_of_the_header() {
        let c = Credentials::new("u", "p:q").unwrap();
        let verdict = |v: &str| c.verdict(Some(v.as_bytes()), Some("Basic"));
        assert_eq!(verdict("Basic dTpwOnE="), Verdict::Right);
        assert_eq!(verdict("bASIC dTpwOnE="), Verdict::Right);
        assert_eq!(verdict("Basic dTpw"), Verdict::Wrong);
        for garbled in [
            "",
            "Basic",
            "dTpwOnE=",
            "Basic !",
            "Basic dQ==",
            "Bearer dTpwOnE=",
        ] {
            assert_eq!(verdict(garbled), Verdict::Missing, "{garbled}");
        }
        assert_eq!(c.verdict(Some(b"Foo dTpwOnE="), None), Verdict::Right);
        assert_eq!(c.verdict(None, None), Verdict::Missing);
    }
}
