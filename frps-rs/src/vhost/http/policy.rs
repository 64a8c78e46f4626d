//! What a route does to the messages that pass it.

use frp_proto::msg::NewProxy;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING};

use super::credential::Login;

/// Fields that are put in place of what came.
pub(super) type Overrides = Vec<(HeaderName, HeaderValue)>;

/// What a route does to requests and responses: that of the first member of a group, as long as the group lives.
pub(super) struct Policy {
    /// Who may use the route; absent = everybody.
    pub(super) login: Option<Login>,
    /// In place of what users ask for.
    pub(super) host: Option<HeaderValue>,
    /// For requests.
    pub(super) request: Overrides,
    /// For responses of the backend.
    pub(super) response: Overrides,
}

/// That of a route that lets everybody in and changes nothing.
pub(super) static NONE: Policy = Policy {
    login: None,
    host: None,
    request: Vec::new(),
    response: Vec::new(),
};

impl Policy {
    pub(super) fn is_none(&self) -> bool {
        let Self {
            login,
            host,
            request,
            response,
        } = self;
        login.is_none() && host.is_none() && request.is_empty() && response.is_empty()
    }

    pub(super) fn new(m: &NewProxy) -> Self {
        let host = &m.host_header_rewrite;
        Self {
            login: Login::new(&m.http_user, &m.http_pwd),
            host: Some(host)
                .filter(|host| !host.is_empty())
                .and_then(|host| HeaderValue::from_str(host).ok()),
            request: overrides(&m.headers),
            response: overrides(&m.response_headers),
        }
    }
}

/// Fields that can be sent, without those that say where a message goes and where it ends.
fn overrides<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>) -> Overrides {
    let parsed = fields.into_iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    });
    parsed
        .filter(|(name, _)| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(name))
        .collect()
}
