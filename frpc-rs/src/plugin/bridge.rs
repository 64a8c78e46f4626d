//! `http2http`, `http2https`, `https2http`, `https2https`: reverse proxies to one service (client.md §14.5).

mod query;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use frp_proto::config::raw::client::{
    HeaderOperations, Http2HttpPlugin, Http2HttpsPlugin, Https2HttpPlugin, Https2HttpsPlugin,
};
use frp_proto::net::Conn;
use frp_proto::net::replay::Replay;
use frp_proto::tls::{SiteTls, TlsError, TlsFiles};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::pool::{Pool, Route};
use super::server::{self, Body, Tunnel};
use super::{HANDSHAKE_LIMIT, User, target};
use crate::Error;

/// Bytes that tell plain HTTP from a TLS record.
const PEEK: usize = 5;
/// What somebody hears who speaks plain HTTP where TLS is served.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// Host of the URIs for the pool; the service's address is the pool's affair.
const SERVICE: Authority = Authority::from_static("service");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What becomes of `X-Forwarded-For`, `-Host` and `-Proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forwarded {
    /// Taken out.
    Removed,
    /// As the client sent them.
    PassedOn,
    /// Told by us.
    Told,
}

pub(super) struct Bridge {
    tls: Option<SiteTls>,
    rules: Arc<Rules>,
}

/// How requests are changed, and where they go.
struct Rules {
    forwarded: Forwarded,
    host: Option<HeaderValue>,
    set: Vec<(HeaderName, HeaderValue)>,
    pool: Pool,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").finish_non_exhaustive()
    }
}

/// Who asks: what requests and logs tell.
#[derive(Clone)]
struct Asker(Arc<AskerInner>);

struct AskerInner {
    run_id: String,
    proxy: String,
    address: Option<IpAddr>,
    /// Asked for in the TLS handshake.
    server_name: Option<String>,
}

impl Bridge {
    pub(super) fn http2http(c: &Http2HttpPlugin) -> Result<Self, Error> {
        let route = Route::to(&c.local_addr);
        let rules = Rules::new(
            Forwarded::Removed,
            route,
            (&c.host_header_rewrite, &c.request_headers),
        )?;
        Ok(Self { tls: None, rules })
    }

    pub(super) fn http2https(c: &Http2HttpsPlugin) -> Result<Self, Error> {
        let route = Route::to_https(&c.local_addr);
        let rules = Rules::new(
            Forwarded::PassedOn,
            route,
            (&c.host_header_rewrite, &c.request_headers),
        )?;
        Ok(Self { tls: None, rules })
    }

    pub(super) fn https2http(c: &Https2HttpPlugin) -> Result<Self, Error> {
        let route = Route::to(&c.local_addr);
        let tls = Some(site(&c.crt_path, &c.key_path, c.enable_http2));
        let rules = Rules::new(
            Forwarded::Told,
            route,
            (&c.host_header_rewrite, &c.request_headers),
        )?;
        Ok(Self { tls, rules })
    }

    pub(super) fn https2https(c: &Https2HttpsPlugin) -> Result<Self, Error> {
        let route = Route::to_https(&c.local_addr);
        let tls = Some(site(&c.crt_path, &c.key_path, c.enable_http2));
        let rules = Rules::new(
            Forwarded::Told,
            route,
            (&c.host_header_rewrite, &c.request_headers),
        )?;
        Ok(Self { tls, rules })
    }

    pub(super) fn prepare(&self) -> Result<(), TlsError> {
        let loaded = self.tls.as_ref().map_or(Ok(()), SiteTls::load);
        loaded.map_err(|e| TlsError(format!("gen TLS config error: {e}")))
    }

    pub(super) async fn serve(&self, user: User<'_>, work: Conn) {
        let mut asker = AskerInner {
            run_id: user.run_id.into(),
            proxy: user.proxy.into(),
            address: user.start.src_addr.parse().ok(),
            server_name: None,
        };
        let Some(tls) = &self.tls else {
            return self.serve_http(work, Asker(Arc::new(asker))).await;
        };
        let Ok(Some(stream)) = timeout(HANDSHAKE_LIMIT, accept(tls, &asker, work)).await else {
            return;
        };
        let (_, session) = stream.get_ref();
        asker.server_name = session.server_name().map(normal_host);
        let http2 = session.alpn_protocol() == Some(b"h2");
        let asker = Asker(Arc::new(asker));
        if http2 {
            let rules = self.rules.clone();
            server::serve_http2(stream, move |request| {
                rules
                    .clone()
                    .answer(asker.clone(), request, Tunnel::default())
            })
            .await;
        } else {
            self.serve_http(stream, asker).await;
        }
    }

    async fn serve_http(&self, io: impl frp_proto::net::Io, asker: Asker) {
        let tunnel = Tunnel::default();
        let to_open = tunnel.clone();
        server::serve(io, tunnel, |request| {
            let rules = self.rules.clone();
            rules.answer(asker.clone(), request, to_open.clone())
        })
        .await;
    }
}

fn site(cert: &str, key: &str, http2: Option<bool>) -> SiteTls {
    let files = TlsFiles {
        cert_file: cert.into(),
        key_file: key.into(),
        ..TlsFiles::default()
    };
    let protocols: &[&str] = if http2.unwrap_or(true) {
        &["h2", "http/1.1"]
    } else {
        &["http/1.1"]
    };
    SiteTls::new(files, protocols)
}

/// The TLS handshake with a user; who speaks plain HTTP is told so.
async fn accept(
    tls: &SiteTls,
    asker: &AskerInner,
    work: Conn,
) -> Option<tokio_rustls::server::TlsStream<Replay<Conn>>> {
    let mut peeked = Replay::peek_at_most(work, PEEK).await.ok()?;
    let failure = if is_http(peeked.prefix()) {
        // Whether the answer arrives does not matter.
        let _ = peeked.write_all(PLAIN_HTTP).await;
        let _ = peeked.shutdown().await;
        "client sent an HTTP request to an HTTPS server".to_owned()
    } else {
        match tls.accept_negotiated(peeked).await {
            Ok(stream) => return Some(stream),
            Err(e) => e.to_string(),
        }
    };
    let (run_id, proxy) = (&asker.run_id, &asker.proxy);
    tracing::debug!(run_id = %run_id, proxy = %proxy, "http: TLS handshake error: {failure}");
    None
}

fn is_http(start: &[u8]) -> bool {
    [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"]
        .iter()
        .any(|method| start == *method)
}

impl Rules {
    fn new(
        forwarded: Forwarded,
        route: Route,
        (host, headers): (&str, &HeaderOperations),
    ) -> Result<Arc<Self>, Error> {
        let value = |key: &str, value: &str| {
            HeaderValue::from_str(value)
                .map_err(|_| Error(format!("{key}: {value:?} is no header value")))
        };
        let host = (!host.is_empty())
            .then(|| value("hostHeaderRewrite", host))
            .transpose()?;
        let mut set = Vec::new();
        for (name, v) in &headers.set {
            let key = format!("requestHeaders.set.{name}");
            let name: HeaderName = name
                .parse()
                .map_err(|_| Error(format!("{key}: {name:?} is no header name")))?;
            let v = value(&key, v)?;
            // These are told by other means: `hostHeaderRewrite`, and the body itself.
            if ![
                header::HOST,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
            ]
            .contains(&name)
            {
                set.push((name, v));
            }
        }
        Ok(Arc::new(Self {
            forwarded,
            host,
            set,
            pool: Pool::new(route),
        }))
    }

    /// Asks the service.
    async fn answer(
        self: Arc<Self>,
        asker: Asker,
        mut request: Request<Incoming>,
        tunnel: Tunnel,
    ) -> Response<Body> {
        let asker = &*asker.0;
        let host = host_of(&request);
        if let Some(name) = &asker.server_name
            && *name != normal_host(host.as_ref().map_or("", |h| h.to_str().unwrap_or("")))
        {
            return server::status(StatusCode::MISDIRECTED_REQUEST);
        }
        if request.method() == Method::CONNECT {
            return server::status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let upgrade = server::upgrade_protocol(request.headers())
            .filter(|_| request.version() == Version::HTTP_11);
        let user_end = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        self.change(&mut request, host, asker.address, upgrade.as_ref());
        let request = request.map(server::passed_on);
        let answered = match self.pool.send(request).await {
            Ok(response) => finish(response, upgrade, user_end, &tunnel),
            Err(e) => Err(e),
        };
        answered.unwrap_or_else(|e| {
            let (run_id, proxy) = (&asker.run_id, &asker.proxy);
            tracing::warn!(run_id = %run_id, proxy = %proxy, "http: proxy error: {e}");
            server::status(StatusCode::BAD_GATEWAY)
        })
    }

    /// Makes the user's request the one for the service.
    fn change(
        &self,
        request: &mut Request<Incoming>,
        host: Option<HeaderValue>,
        user: Option<IpAddr>,
        upgrade: Option<&HeaderValue>,
    ) {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = service_uri(request.uri());
        let headers = request.headers_mut();
        let trailers = headers
            .get_all(header::TE)
            .iter()
            .any(|v| v.as_bytes().eq_ignore_ascii_case(b"trailers"));
        server::remove_hop_by_hop(headers);
        headers.remove(header::FORWARDED);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        join_cookies(headers);
        self.forward(headers, host.as_ref(), user);
        if let Some(host) = self.host.clone().or(host) {
            headers.insert(header::HOST, host);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }

    fn forward(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>, user: Option<IpAddr>) {
        match self.forwarded {
            Forwarded::PassedOn => {}
            Forwarded::Removed => {
                for name in [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
                    headers.remove(name);
                }
            }
            Forwarded::Told => {
                if let Some(user) = user {
                    let mut value = Vec::new();
                    for before in headers.get_all(X_FORWARDED_FOR) {
                        value.extend(before.as_bytes());
                        value.extend(b", ");
                    }
                    value.extend(user.to_string().as_bytes());
                    if let Ok(value) = HeaderValue::from_bytes(&value) {
                        headers.insert(X_FORWARDED_FOR, value);
                    }
                }
                if let Some(host) = host {
                    headers.insert(X_FORWARDED_HOST, host.clone());
                }
                headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
            }
        }
    }
}

/// Makes the service's answer the one for the user, and joins both when they agree on another protocol.
fn finish(
    mut response: Response<Incoming>,
    wanted: Option<HeaderValue>,
    user: Option<hyper::upgrade::OnUpgrade>,
    tunnel: &Tunnel,
) -> Result<Response<Body>, String> {
    let mut upgrade = None;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let agreed = server::upgrade_protocol(response.headers());
        let same =
            |a: &HeaderValue, b: &HeaderValue| a.as_bytes().eq_ignore_ascii_case(b.as_bytes());
        match (user, wanted, agreed) {
            (Some(user), Some(wanted), Some(agreed)) if same(&wanted, &agreed) => {
                tunnel.open(user, hyper::upgrade::on(&mut response));
                upgrade = Some(agreed);
            }
            (_, wanted, agreed) => {
                return Err(format!(
                    "backend tried to switch protocol {agreed:?} when {wanted:?} was requested"
                ));
            }
        }
    }
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    server::remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    Ok(response.map(server::passed_on))
}

/// The host a request names, as it names it: an absolute URI comes first (RFC 9112 §3.2.2).
fn host_of(request: &Request<Incoming>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(header::HOST).cloned(),
    }
}

/// A host for comparisons: lower case, without port and trailing dot.
fn normal_host(host: &str) -> String {
    target::host(host)
        .trim_end_matches('.')
        .to_ascii_lowercase()
}

/// The same path and query at the service.
fn service_uri(uri: &Uri) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(SERVICE);
    parts.path_and_query = Some(
        match (uri.path_and_query(), uri.query().map(query::cleaned)) {
            (Some(whole), None | Some(None)) => whole.clone(),
            (Some(whole), Some(Some(query))) => {
                let cleaned = format!("{}?{query}", whole.path());
                PathAndQuery::try_from(cleaned).unwrap_or_else(|_| PathAndQuery::from_static("/"))
            }
            (None, _) => PathAndQuery::from_static("/"),
        },
    );
    Uri::from_parts(parts).expect("scheme, authority and path are there")
}

/// HTTP/2 clients may split cookies; HTTP/1.1 knows one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in std::iter::once(second).chain(cookies) {
            joined.extend(b"; ");
            joined.extend(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

#[cfg(test)]
mod tests;
