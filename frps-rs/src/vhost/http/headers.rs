//! What a reverse proxy changes in a message's head (server.md §7.4, §7.5). Fields that stay keep their order.

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};

use super::policy::{Overrides, Policy};
use super::target::Target;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// By `Content-Length`.
    Length,
    /// By chunks.
    Chunked,
}

/// Whether the only transfer coding of a request is one that can be passed on.
pub(super) fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The protocol a request or a response switches to.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    tokens(&connection(headers))
        .any(|token| token.eq_ignore_ascii_case("upgrade"))
        .then(|| headers.get(UPGRADE).cloned())
        .flatten()
}

/// Makes a user's head the one for the backend. `peer` is the user's address, `switch` the protocol to upgrade to.
pub(super) fn to_backend(
    parts: &mut Parts,
    target: &Target,
    peer: &HeaderValue,
    framing: Framing,
    switch: Option<&HeaderValue>,
    policy: &Policy,
) {
    let headers = &mut parts.headers;
    let wants_trailers = headers
        .get_all(TE)
        .iter()
        .any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let forwarded_for = forwarded_for(headers, peer);

    let named = connection(headers);
    retain(headers, |name| match *name {
        TRAILER => framing == Framing::Chunked,
        PROXY_AUTHORIZATION | FORWARDED => false,
        CONTENT_LENGTH => framing == Framing::Length,
        _ => {
            !is_hop_by_hop(name, &named)
                && *name != X_FORWARDED_FOR
                && *name != X_FORWARDED_HOST
                && *name != X_FORWARDED_PROTO
        }
    });
    set_host(headers, policy.host.as_ref().unwrap_or(&target.authority));
    if framing == Framing::Chunked {
        put(headers, &TRANSFER_ENCODING, "chunked");
    }
    let has_length = headers.contains_key(CONTENT_LENGTH);
    let takes_body = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if framing == Framing::Empty && takes_body && !has_length {
        put(headers, &CONTENT_LENGTH, "0");
    }
    if wants_trailers {
        put(headers, &TE, "trailers");
    }
    if let Some(protocol) = switch {
        put(headers, &CONNECTION, "Upgrade");
        set(headers, &UPGRADE, protocol.clone());
    }
    set(headers, &X_FORWARDED_FOR, forwarded_for);
    set(headers, &X_FORWARDED_HOST, target.authority.clone());
    put(headers, &X_FORWARDED_PROTO, "http");
    override_with(headers, &policy.request);
    parts.version = Version::HTTP_11;
}

/// Makes a backend's head the one for the user, whose version is that of the request. A response that switches protocols
/// keeps saying so.
pub(super) fn to_user<B>(response: &mut Response<B>, overrides: &Overrides) {
    *response.version_mut() = Version::HTTP_11;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    // Trailers can only follow chunks; a body of another framing has none to announce.
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    let named = connection(headers);
    retain(headers, |name| match *name {
        TRAILER => is_chunked,
        CONNECTION | UPGRADE if switches => true,
        _ => !is_hop_by_hop(name, &named),
    });
    override_with(headers, overrides);
}

/// The addresses a request has come by, this connection's last.
fn forwarded_for(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    let mut before = headers.get_all(&X_FORWARDED_FOR).iter().peekable();
    if before.peek().is_none() {
        return peer.clone();
    }
    let mut text = Vec::new();
    for value in before {
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b", ");
    }
    text.extend_from_slice(peer.as_bytes());
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| peer.clone())
}

/// `Host` in the place where it is, or first.
fn set_host(headers: &mut HeaderMap, host: &HeaderValue) {
    if let Some(present) = headers.get_mut(HOST) {
        present.clone_from(host);
        return;
    }
    let rest = std::mem::take(headers);
    headers.reserve(rest.len() + 1);
    set(headers, &HOST, host.clone());
    append_all(headers, rest);
}

/// Values of `Connection`.
fn connection(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(CONNECTION).iter().cloned().collect()
}

fn tokens(values: &[HeaderValue]) -> impl Iterator<Item = &str> {
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether a field is for the next hop only: by its nature, or because `Connection` names it. What frames the message and
/// says where it goes is for nobody else to take away.
fn is_hop_by_hop(name: &HeaderName, named: &[HeaderValue]) -> bool {
    match *name {
        HOST | CONTENT_LENGTH => false,
        CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER
        | TRANSFER_ENCODING | UPGRADE => true,
        _ => {
            let name = name.as_str();
            matches!(name, "keep-alive" | "proxy-connection")
                || tokens(named).any(|token| token.eq_ignore_ascii_case(name))
        }
    }
}

/// Like `Vec::retain`. Removing fields one by one would change the order of the others.
fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    if headers.keys().all(&keep) {
        return;
    }
    let all = std::mem::take(headers);
    headers.reserve(all.len());
    let mut current = None;
    for (name, value) in all {
        if let Some(name) = name {
            current = Some(name).filter(|name| keep(name));
        }
        if let Some(name) = &current {
            // A map that gets only what another one held is never too large.
            let _ = headers.try_append(name, value);
        }
    }
}

fn append_all(headers: &mut HeaderMap, all: HeaderMap) {
    let mut current = None;
    for (name, value) in all {
        current = name.or(current);
        if let Some(name) = &current {
            let _ = headers.try_append(name, value);
        }
    }
}

fn override_with(headers: &mut HeaderMap, overrides: &Overrides) {
    for (name, value) in overrides {
        set(headers, name, value.clone());
    }
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: &'static str) {
    set(headers, name, HeaderValue::from_static(value));
}

/// Replaces all values of a field. The limits on heads keep a map far from being full; if it were, the field would be missing.
fn set(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    let _ = headers.try_insert(name, value);
}

#[cfg(test)]
mod tests {
    use frp_proto::msg::NewProxy;
    use http::Request;

    use super::*;

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        headers.iter().map(line).collect()
    }

    /// What a backend gets for a GET with these fields.
    fn sent(fields: &[(&str, &str)], framing: Framing, overrides: &[(&str, &str)]) -> Vec<String> {
        let mut request = Request::get("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        let target = Target::of(&parts).ok().unwrap();
        let overrides = overrides
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let policy = Policy::new(&NewProxy {
            headers: overrides.collect(),
            ..NewProxy::default()
        });
        let peer = HeaderValue::from_static("9.9.9.9");
        to_backend(&mut parts, &target, &peer, framing, None, &policy);
        lines(&parts.headers)
    }

    #[test]
    fn fields_that_stay_keep_their_order() {
        let fields = [
            ("host", "a.test"),
            ("x-1", "1"),
            ("connection", "keep-alive, X-Gone"),
            ("x-2", "2"),
            ("x-gone", "g"),
            ("keep-alive", "1"),
            ("x-3", "3"),
            ("x-3", "4"),
            ("forwarded", "for=x"),
            ("x-4", "5"),
        ];
        let expected = [
            "host: a.test",
            "x-1: 1",
            "x-2: 2",
            "x-3: 3",
            "x-3: 4",
            "x-4: 5",
            "x-forwarded-for: 9.9.9.9",
            "x-forwarded-host: a.test",
            "x-forwarded-proto: http",
        ];
        assert_eq!(sent(&fields, Framing::Empty, &[]), expected);
    }

    #[test]
    fn addresses_add_up_and_the_configuration_has_the_last_word() {
        let fields = [
            ("x-forwarded-for", "1.1.1.1"),
            ("host", "a.test"),
            ("x-forwarded-for", "2.2.2.2, 3.3.3.3"),
            ("x-forwarded-proto", "https"),
        ];
        let got = sent(&fields, Framing::Empty, &[("x-forwarded-proto", "wss")]);
        let expected = [
            "host: a.test",
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 9.9.9.9",
            "x-forwarded-host: a.test",
            "x-forwarded-proto: wss",
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn framing_is_said_once() {
        let fields = [
            ("host", "a"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-t"),
            ("connection", "content-length, host"),
        ];
        let framed = |framing| {
            let mut lines = sent(&fields, framing, &[]);
            lines.retain(|line| !line.starts_with("x-forwarded"));
            lines
        };
        assert_eq!(framed(Framing::Length), ["host: a", "content-length: 3"]);
        assert_eq!(
            framed(Framing::Chunked),
            ["host: a", "trailer: x-t", "transfer-encoding: chunked"]
        );
        assert_eq!(framed(Framing::Empty), ["host: a"]);
    }

    #[test]
    fn only_an_upgrade_that_is_asked_for_is_one() {
        let of = |connection: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            upgrade(&headers)
        };
        assert!(of("keep-alive, upgrade").is_some());
        assert!(of("keep-alive").is_none());
        assert!(of("upgrades").is_none());
    }

    #[test]
    fn a_response_loses_what_is_for_one_hop() {
        let mut response = Response::builder()
            .version(Version::HTTP_10)
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("trailer", "x-t")
            .header("upgrade", "h2c")
            .header("set-cookie", "a")
            .header("set-cookie", "b")
            .body(())
            .unwrap();
        let overrides = vec![(
            HeaderName::from_static("x-resp"),
            HeaderValue::from_static("1"),
        )];
        to_user(&mut response, &overrides);
        assert_eq!(response.version(), Version::HTTP_11);
        assert_eq!(
            lines(response.headers()),
            ["set-cookie: a", "set-cookie: b", "x-resp: 1"]
        );
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [(CONNECTION, "upgrade"), (UPGRADE, "x")] {
            put(response.headers_mut(), &name, value);
        }
        to_user(&mut response, &Vec::new());
        assert_eq!(
            lines(response.headers())[3..],
            ["connection: upgrade", "upgrade: x"]
        );
    }
}
