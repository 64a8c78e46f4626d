//! Who may ask for what (admin-api.md §1.3, and bearer tokens beyond it).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frp_proto::auth::Secret;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at things.
    ReadOnly,
    /// Change them, and see secrets.
    Admin,
}

/// Credentials and what they are good for. Whoever has the user and the password may do everything.
#[derive(Clone, Default)]
pub struct Access {
    basic: Option<(Secret, Secret)>,
    tokens: Vec<(Secret, Role)>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("basic", &self.basic.is_some())
            .field("tokens", &self.tokens.len())
            .finish()
    }
}

impl Access {
    /// A user with a password; neither if both are empty. Without any credentials at all everybody may do everything.
    pub fn new(user: &str, password: &str) -> Self {
        let open = user.is_empty() && password.is_empty();
        Self {
            basic: (!open).then(|| (user.into(), password.into())),
            tokens: Vec::new(),
        }
    }

    /// The same with bearer tokens.
    #[must_use]
    pub fn with_tokens(self, tokens: Vec<(Secret, Role)>) -> Self {
        Self { tokens, ..self }
    }

    /// What the value of an `Authorization` header entitles to; `None` = nothing.
    pub(crate) fn role(&self, authorization: Option<&[u8]>) -> Option<Role> {
        if self.basic.is_none() && self.tokens.is_empty() {
            return Some(Role::Admin);
        }
        let (scheme, given) = scheme(authorization?)?;
        if scheme.eq_ignore_ascii_case(b"Basic") {
            let (user, password) = self.basic.as_ref()?;
            let (given_user, given_password) = credentials(given)?;
            // Both are compared whatever the first says.
            let (user, password) = (given_user == *user, given_password == *password);
            return (user & password).then_some(Role::Admin);
        }
        if !scheme.eq_ignore_ascii_case(b"Bearer") {
            return None;
        }
        let given = Secret::new(given);
        // All are compared whichever it is.
        let matching = self.tokens.iter().map(|(t, role)| (*t == given, *role));
        matching.fold(
            None,
            |found, (matches, role)| {
                if matches { Some(role) } else { found }
            },
        )
    }
}

/// Who an `Authorization` header says its sender is, whether that is true or not.
pub(crate) fn user(authorization: &[u8]) -> Option<String> {
    let (scheme, given) = scheme(authorization)?;
    let (user, _) = credentials(given).filter(|_| scheme.eq_ignore_ascii_case(b"Basic"))?;
    Some(String::from_utf8_lossy(user.expose()).into_owned())
}

/// `SCHEME VALUE`
fn scheme(header: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = header.iter().position(|b| *b == b' ')?;
    Some((&header[..space], &header[space + 1..]))
}

/// User and password of a `Basic` header.
fn credentials(encoded: &[u8]) -> Option<(Secret, Secret)> {
    let plain = STANDARD.decode(encoded).ok()?;
    let colon = plain.iter().position(|b| *b == b':')?;
    Some((
        Secret::new(&plain[..colon]),
        Secret::new(&plain[colon + 1..]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(text)).into_bytes()
    }

    impl Access {
        fn allows(&self, authorization: Option<&[u8]>) -> bool {
            self.role(authorization) == Some(Role::Admin)
        }
    }

    #[test]
    fn both_must_match_unless_both_are_empty() {
        let access = Access::new("u", "p:q");
        assert!(access.allows(Some(&basic("u:p:q"))));
        assert!(access.allows(Some(b"bASIC dTpwOnE=")));
        for wrong in ["u:p", "u", "U:p:q", "u:p:q ", ":", ""] {
            assert!(!access.allows(Some(&basic(wrong))), "{wrong}");
        }
        for wrong in [
            &b"Basic"[..],
            b"Bearer dTpwOnE=",
            b"Basic dTpwOnE",
            b"Basic \xff",
            b"",
        ] {
            assert!(!access.allows(Some(wrong)));
        }
        assert!(!access.allows(None));
        assert!(Access::new("", "").allows(None));
        assert!(Access::new("", "p").allows(Some(&basic(":p"))));
        assert!(!Access::new("", "p").allows(None));
        assert!(!Access::new("u", "").allows(Some(&basic("u:x"))));
    }

    #[test]
    fn tokens_have_roles() {
        let tokens = vec![("r".into(), Role::ReadOnly), ("a".into(), Role::Admin)];
        let access = Access::new("", "").with_tokens(tokens);
        assert_eq!(access.role(Some(b"Bearer r")), Some(Role::ReadOnly));
        assert_eq!(access.role(Some(b"bearer a")), Some(Role::Admin));
        for wrong in [&b"Bearer x"[..], b"Bearer ", b"Bearer", b"Token a", b""] {
            assert_eq!(access.role(Some(wrong)), None);
        }
        // Tokens alone open nothing to who has none.
        assert_eq!(access.role(None), None);
        assert_eq!(access.role(Some(&basic(":"))), None);
    }
}
