//! The checked form of `webServer` (config-frps.md §6.1).

use std::path::PathBuf;

use frp_proto::auth::Secret;
use frp_proto::config::raw::common::WebServerConfig;
use frp_proto::config::{ConfigError, resolve_token};
use frp_proto::tls::TlsFiles;

use crate::{Access, Role};

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
    /// Files of a dashboard.
    pub assets_dir: Option<PathBuf>,
    /// Whether `/debug/pprof/` is served.
    pub pprof: bool,
}

impl WebServer {
    /// Takes over a validated section; `None` when the server is off. Tokens are read from where they come from.
    pub fn new(c: &WebServerConfig) -> Result<Option<Self>, ConfigError> {
        let Some(port) = u16::try_from(c.port).ok().filter(|port| *port > 0) else {
            return Ok(None);
        };
        Ok(Some(Self {
            addr: c.addr.clone(),
            port,
            access: Access::new(&c.user, &c.password).with_tokens(tokens(c)?),
            tls: c.tls.as_ref().map(|tls| TlsFiles {
                cert_file: tls.cert_file.clone().into(),
                key_file: tls.key_file.clone().into(),
                ..TlsFiles::default()
            }),
            assets_dir: Some(&c.assets_dir)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            pprof: c.pprof_enable,
        }))
    }
}

fn tokens(c: &WebServerConfig) -> Result<Vec<(Secret, Role)>, ConfigError> {
    let tokens = c.tokens.iter().map(|t| {
        let role = match t.role.as_str() {
            "admin" => Role::Admin,
            _ => Role::ReadOnly,
        };
        Ok((resolve_token(&t.token, t.token_source.as_ref())?, role))
    });
    tokens.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_a_port_is_off() {
        let mut c = WebServerConfig::default();
        assert!(WebServer::new(&c).unwrap().is_none());
        c.port = 7500;
        assert_eq!(WebServer::new(&c).unwrap().unwrap().port, 7500);
    }
}
