//! Who a client is (wire.md §4.3, §4.4): by frp's token, or by tokens of an identity provider.

use std::sync::Arc;

use frp_proto::auth::{Secret, verify_token_key};
use frp_proto::config::raw::server::AuthOidcServerConfig;
use frp_proto::msg::{Login, NewWorkConn, Ping};
use frp_proto::oidc::server::Verifier;

/// How clients prove who they are.
#[derive(Clone)]
pub(crate) enum Auth {
    Token(Secret),
    Oidc(Arc<Verifier>),
}

impl Auth {
    /// With `oidc` the provider is asked what it is.
    pub(crate) async fn new(
        token: &Secret,
        oidc: Option<&AuthOidcServerConfig>,
    ) -> Result<Self, String> {
        match oidc {
            None => Ok(Self::Token(token.clone())),
            Some(oidc) => Ok(Self::Oidc(Arc::new(Verifier::discover(oidc).await?))),
        }
    }

    /// The same way to prove it, with another token of frp's.
    pub(crate) fn with_token(&self, token: &Secret) -> Self {
        match self {
            Self::Token(_) => Self::Token(token.clone()),
            Self::Oidc(verifier) => Self::Oidc(verifier.clone()),
        }
    }

    /// Checks a Login; gives the subject that the client's later tokens must have. The error is for the client.
    pub(crate) async fn login(&self, m: &Login) -> Result<Option<String>, String> {
        match self {
            Self::Token(token) if verify_token_key(token, m.timestamp, &m.privilege_key) => {
                Ok(None)
            }
            Self::Token(_) => Err("token in login doesn't match token from configuration".into()),
            Self::Oidc(verifier) => match verifier.verify(&m.privilege_key).await {
                Ok(subject) => Ok(Some(subject)),
                Err(e) => Err(format!("invalid OIDC token in login: {e}")),
            },
        }
    }

    /// Checks a Ping of a client with this subject.
    pub(crate) async fn ping(&self, m: &Ping, subject: Option<&str>) -> Result<(), String> {
        self.later("heartbeat", m.timestamp, &m.privilege_key, subject)
            .await
    }

    /// Checks a `NewWorkConn` of a client with this subject.
    pub(crate) async fn new_work_conn(
        &self,
        m: &NewWorkConn,
        subject: Option<&str>,
    ) -> Result<(), String> {
        self.later("NewWorkConn", m.timestamp, &m.privilege_key, subject)
            .await
    }

    async fn later(
        &self,
        what: &str,
        timestamp: i64,
        key: &str,
        subject: Option<&str>,
    ) -> Result<(), String> {
        match self {
            Self::Token(token) if verify_token_key(token, timestamp, key) => Ok(()),
            Self::Token(_) => Err(format!(
                "token in {what} doesn't match token from configuration"
            )),
            Self::Oidc(verifier) => match verifier.verify(key).await {
                Ok(found) if Some(found.as_str()) == subject => Ok(()),
                Ok(found) => Err(format!(
                    "received different OIDC subject in login and ping. new subject: {found}"
                )),
                Err(e) => Err(format!("invalid OIDC token in ping: {e}")),
            },
        }
    }
}
