//! How this client proves who it is (wire.md §4.3, §4.4): by frp's token, or by tokens of an identity provider.

use std::sync::Arc;

use frp_proto::auth::{Secret, token_key};
use frp_proto::host;
use frp_proto::oidc::client::TokenSource;

/// Signs messages.
pub(crate) enum Auth {
    Token(Secret),
    Oidc(Arc<TokenSource>),
}

impl Auth {
    /// `privilege_key` of a Login at this time. The error is for the log.
    pub(crate) async fn login(&self, timestamp: i64) -> Result<String, String> {
        match self {
            Self::Token(token) => Ok(token_key(token, timestamp)),
            Self::Oidc(source) => source.token().await,
        }
    }

    /// `timestamp` and `privilege_key` of any later message. The error is for the log.
    pub(crate) async fn later(&self) -> Result<(i64, String), String> {
        match self {
            Self::Token(token) => {
                let timestamp = host::unix_time();
                Ok((timestamp, token_key(token, timestamp)))
            }
            Self::Oidc(source) => Ok((0, source.token().await?)),
        }
    }
}
