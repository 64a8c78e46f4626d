//! Basic credentials (server.md §7.2, §7.3). A request has at most one: what chooses the route is what is authorised.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use frp_proto::auth::Secret;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue, PROXY_AUTHORIZATION};

/// Who a request says it is.
#[derive(Default)]
pub(in crate::vhost) struct Credential {
    /// Empty when the request does not say.
    pub(in crate::vhost) user: String,
    /// Absent when this credential may choose a route, but not open it.
    password: Option<Secret>,
}

/// Who a route lets in.
pub(in crate::vhost) struct Login {
    user: Secret,
    password: Secret,
}

impl Credential {
    /// `proxied`: the user takes this port for a proxy, so `Proxy-Authorization` comes first and only it opens a route.
    pub(super) fn of(headers: &HeaderMap, proxied: bool) -> Self {
        let get = |name| headers.get(name).filter(|v| !v.is_empty());
        if !proxied {
            return get(AUTHORIZATION).and_then(basic).unwrap_or_default();
        }
        match get(PROXY_AUTHORIZATION) {
            Some(value) => basic(value).unwrap_or_default(),
            None => Self {
                password: None,
                ..get(AUTHORIZATION).and_then(basic).unwrap_or_default()
            },
        }
    }
}

/// The scheme without regard to case, one space, then base64 of `user:password`.
pub(in crate::vhost) fn basic(value: &HeaderValue) -> Option<Credential> {
    let (scheme, text) = value.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = STANDARD.decode(text).ok()?;
    let colon = user.iter().position(|b| *b == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some(Credential {
        user: String::from_utf8(user).ok()?,
        password: Some(Secret::new(password)),
    })
}

impl Login {
    /// `None` when both are empty: everybody may in.
    pub(in crate::vhost) fn new(user: &str, password: &str) -> Option<Self> {
        (!user.is_empty() || !password.is_empty()).then(|| Self {
            user: Secret::new(user),
            password: Secret::new(password),
        })
    }

    pub(in crate::vhost) fn admits(&self, credential: &Credential) -> bool {
        let Some(password) = &credential.password else {
            return false;
        };
        let user = self.user == Secret::new(credential.user.as_str());
        let password = self.password == *password;
        user & password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn encoded(credential: &str) -> String {
        format!("Basic {}", STANDARD.encode(credential))
    }

    #[test]
    fn only_a_whole_credential_counts() {
        let of = |value: &str| Credential::of(&headers(&[("authorization", value)]), false);
        let login = Login::new("ann", "a:b").unwrap();
        for good in [
            encoded("ann:a:b"),
            encoded("ann:a:b").replace("Basic", "bAsIc"),
        ] {
            assert!(login.admits(&of(&good)));
            assert_eq!(of(&good).user, "ann");
        }
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Basic  YW5uOmE6Yg==",
            "Basic YW5uOmE6Yg",
            "Bearer x",
        ] {
            assert!(!login.admits(&of(bad)), "{bad}");
            assert_eq!(of(bad).user, "", "{bad}");
        }
        for wrong in ["ann:", "ann:a", "bob:a:b", ":a:b"] {
            assert!(!login.admits(&of(&encoded(wrong))), "{wrong}");
        }
        assert_eq!(of(&encoded("ann")).user, "");
    }

    #[test]
    fn either_part_alone_closes_a_route() {
        assert!(Login::new("", "").is_none());
        let of = |text: &str| Credential::of(&headers(&[("authorization", &encoded(text))]), false);
        assert!(Login::new("", "p").unwrap().admits(&of(":p")));
        assert!(!Login::new("", "p").unwrap().admits(&Credential::default()));
        assert!(Login::new("u", "").unwrap().admits(&of("u:")));
    }

    #[test]
    fn a_proxy_user_is_authorised_by_the_credential_that_chose_the_route() {
        let (ann, bob) = (encoded("ann:1"), encoded("bob:2"));
        let both = headers(&[("authorization", &ann), ("proxy-authorization", &bob)]);
        let direct = Credential::of(&both, false);
        let proxied = Credential::of(&both, true);
        assert_eq!((&*direct.user, &*proxied.user), ("ann", "bob"));
        let (for_ann, for_bob) = (
            Login::new("ann", "1").unwrap(),
            Login::new("bob", "2").unwrap(),
        );
        assert!(for_ann.admits(&direct) && !for_bob.admits(&direct));
        assert!(for_bob.admits(&proxied) && !for_ann.admits(&proxied));

        let chosen = Credential::of(&headers(&[("authorization", &ann)]), true);
        assert_eq!(chosen.user, "ann");
        assert!(!for_ann.admits(&chosen));
        let broken = headers(&[("authorization", &ann), ("proxy-authorization", "Basic !")]);
        assert_eq!(Credential::of(&broken, true).user, "");
    }
}
