//! The checked form of `webServer` (config-frps.md §6.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frp_proto::auth::Secret;
use frp_proto::config::raw::common::WebServerConfig;
use frp_proto::tls::TlsFiles;

/// Where and to whom the server answers.
#[derive(Debug, Clone)]
pub struct WebServer {
    /// Address to listen on.
    pub addr: String,
    /// Port to listen on; 0 lets the system choose (an embedding program's choice, no file can say it).
    pub port: u16,
    /// Who may ask.
    pub access: Access,
    /// Certificate and key; `None` = plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether `/debug/pprof/` is served.
    pub pprof: bool,
}

impl WebServer {
    /// Takes over a validated section; `None` when the server is off.
    pub fn new(c: &WebServerConfig) -> Option<Self> {
        let port = u16::try_from(c.port).ok().filter(|port| *port > 0)?;
        Some(Self {
            addr: c.addr.clone(),
            port,
            access: Access::new(&c.user, &c.password),
            tls: c.tls.as_ref().map(|tls| TlsFiles {
                cert_file: tls.cert_file.clone().into(),
                key_file: tls.key_file.clone().into(),
                ..TlsFiles::default()
            }),
            pprof: c.pprof_enable,
        })
    }
}

/// Basic authentication (admin-api.md §1.3).
#[derive(Clone)]
pub struct Access(Option<(Secret, Secret)>);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Basic" } else { "Open" })
    }
}

impl Access {
    /// Everybody may ask if both are empty; else both must match.
    pub fn new(user: &str, password: &str) -> Self {
        let open = user.is_empty() && password.is_empty();
        Self((!open).then(|| (user.into(), password.into())))
    }

    /// Whether the value of an `Authorization` header lets the request in.
    pub(crate) fn allows(&self, authorization: Option<&[u8]>) -> bool {
        let Some((user, password)) = &self.0 else {
            return true;
        };
        let Some((given_user, given_password)) = authorization.and_then(credentials) else {
            return false;
        };
        // Both are compared whatever the first says.
        let (user, password) = (given_user == *user, given_password == *password);
        user && password
    }
}

/// User and password of a `Basic` header.
fn credentials(header: &[u8]) -> Option<(Secret, Secret)> {
    const SCHEME: &[u8] = b"Basic ";
    let (scheme, encoded) = header.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
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
    fn a_section_without_a_port_is_off() {
        let mut c = WebServerConfig::default();
        assert!(WebServer::new(&c).is_none());
        c.port = 7500;
        assert_eq!(WebServer::new(&c).unwrap().port, 7500);
    }
}
