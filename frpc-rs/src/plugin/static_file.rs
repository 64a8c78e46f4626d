//! `static_file`: files over HTTP (client.md §14.3).

mod body;
mod conditions;
mod content_type;
mod listing;
mod path;
mod range;

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use frp_proto::config::raw::client::StaticFilePlugin;
use frp_proto::net::Conn;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tokio::fs::File;
use tokio::time::sleep;

use super::basic_auth::{Credentials, PENALTY, Verdict};
use super::server::{self, Body, Tunnel};
use conditions::Outcome;
use range::Ranges;

const INDEX: &str = "index.html";
/// Upstream's words for status 416.
const NOT_SATISFIABLE: ReasonPhrase = ReasonPhrase::from_static(b"Requested Range Not Satisfiable");

#[derive(Debug)]
pub(super) struct StaticFile(Arc<Site>);

#[derive(Debug)]
struct Site {
    root: PathBuf,
    /// Where the site begins: `/` or `/PREFIX/`.
    prefix: String,
    credentials: Option<Credentials>,
}

impl StaticFile {
    pub(super) fn new(c: &StaticFilePlugin) -> Self {
        Self(Arc::new(Site {
            root: c.local_path.clone().into(),
            prefix: if c.strip_prefix.is_empty() {
                "/".into()
            } else {
                format!("/{}/", c.strip_prefix)
            },
            credentials: Credentials::new(&c.http_user, &c.http_password),
        }))
    }

    pub(super) async fn serve(&self, work: Conn) {
        server::serve(work, Tunnel::default(), |request| {
            self.0.clone().answer(request)
        })
        .await;
    }
}

impl Site {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let answered = self.respond(request.method(), request.uri(), request.headers());
        answered.await.unwrap_or_else(|e| failure(&e))
    }

    async fn respond(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> io::Result<Response<Body>> {
        let Some(path) = path::decoded(uri.path()) else {
            return Ok(server::status(StatusCode::BAD_REQUEST));
        };
        let clean = path::cleaned(&path);
        if clean != path {
            return Ok(redirect(&path::encoded(&clean), uri));
        }
        let Some(inner) = path.strip_prefix(self.prefix.as_bytes()) else {
            return Ok(not_found());
        };
        if method != Method::GET {
            return Ok(server::status(StatusCode::METHOD_NOT_ALLOWED));
        }
        if let Some(credentials) = &self.credentials {
            let authorization = headers.get(header::AUTHORIZATION);
            let authorization = authorization.map(HeaderValue::as_bytes);
            if credentials.verdict(authorization, Some("Basic")) != Verdict::Right {
                sleep(PENALTY).await;
                return Ok(unauthorized());
            }
        }
        self.find(inner, uri, headers).await
    }

    /// The answer for a path without `..` and the like, relative to the root.
    async fn find(
        &self,
        inner: &[u8],
        uri: &Uri,
        headers: &HeaderMap,
    ) -> io::Result<Response<Body>> {
        let name = inner.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if name == INDEX.as_bytes() {
            return Ok(redirect("./", uri));
        }
        let Some(local) = path::local(&self.root, inner) else {
            return Ok(not_found());
        };
        let directory = inner.is_empty() || inner.ends_with(b"/");
        let metadata = tokio::fs::metadata(&local).await?;
        match (metadata.is_dir(), directory) {
            (true, false) => {
                let target = path::relative(&[name, b"/"].concat());
                Ok(redirect(&target, uri))
            }
            (false, true) if inner.is_empty() => Ok(not_found()),
            (false, true) => {
                let inner = inner.strip_suffix(b"/").unwrap_or(inner);
                let name = inner.rsplit(|b| *b == b'/').next().unwrap_or_default();
                Ok(redirect(&format!("../{}", path::encoded(name)), uri))
            }
            (false, false) => serve_file(&local, &metadata, headers).await,
            (true, true) => {
                let index = local.join(INDEX);
                match tokio::fs::metadata(&index).await {
                    Ok(metadata) if metadata.is_file() => {
                        serve_file(&index, &metadata, headers).await
                    }
                    _ => list(&local, modified(&metadata), headers).await,
                }
            }
        }
    }
}

/// A file, or what the request's conditions and ranges leave of it.
async fn serve_file(
    path: &Path,
    metadata: &Metadata,
    headers: &HeaderMap,
) -> io::Result<Response<Body>> {
    if !metadata.is_file() {
        // Opening a pipe waits for its other end, and a device may have no end.
        return Ok(not_found());
    }
    let mut file = File::open(path).await?;
    let modified = modified(metadata);
    if let Some(answer) = precondition(headers, modified) {
        return Ok(answer);
    }
    let content_type = content_type::of(path, &mut file).await?;
    let len = metadata.len();
    let range = headers
        .get(header::RANGE)
        .filter(|_| conditions::if_range(headers, modified));
    let ranges = match range.map(|range| range::parse(range.as_bytes(), len)) {
        None | Some(Ok(Ranges::Whole)) => None,
        Some(Ok(Ranges::Parts(parts))) => Some(parts),
        Some(Err(e)) => {
            let mut response = server::error(StatusCode::RANGE_NOT_SATISFIABLE, e.text());
            response.extensions_mut().insert(NOT_SATISFIABLE);
            if let range::Error::NoOverlap = e {
                let range = HeaderValue::try_from(format!("bytes */{len}"));
                insert(&mut response, header::CONTENT_RANGE, range.ok());
            }
            return Ok(response);
        }
    };
    let mut response = Response::new(server::empty());
    insert(
        &mut response,
        header::ACCEPT_RANGES,
        Some(HeaderValue::from_static("bytes")),
    );
    let mut kind = content_type.clone();
    match ranges {
        None if accepts_gzip(headers) => {
            let gzip = HeaderValue::from_static("gzip");
            insert(&mut response, header::CONTENT_ENCODING, Some(gzip));
            *response.body_mut() = body::gzipped(file, len);
        }
        None => {
            insert(&mut response, header::CONTENT_LENGTH, Some(len.into()));
            *response.body_mut() = body::whole(file, len);
        }
        Some(parts) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let plan = body::Plan::new(&parts, len, &content_type);
            insert(&mut response, header::CONTENT_LENGTH, Some(plan.len.into()));
            if let Some(range) = plan.content_range {
                insert(&mut response, header::CONTENT_RANGE, Some(range));
            }
            kind = plan.content_type;
            *response.body_mut() = body::parts(file, plan.segments);
        }
    }
    insert(&mut response, header::CONTENT_TYPE, Some(kind));
    insert(
        &mut response,
        header::LAST_MODIFIED,
        modified.and_then(conditions::http_date),
    );
    Ok(response)
}

async fn list(
    directory: &Path,
    modified: Option<SystemTime>,
    headers: &HeaderMap,
) -> io::Result<Response<Body>> {
    if conditions::not_modified_since(headers, modified) {
        return Ok(server::status(StatusCode::NOT_MODIFIED));
    }
    let page = listing::page(directory.to_owned()).await?;
    let mut response = Response::new(server::empty());
    *response.body_mut() = if accepts_gzip(headers) {
        let gzip = HeaderValue::from_static("gzip");
        insert(&mut response, header::CONTENT_ENCODING, Some(gzip));
        server::full(body::gzip(page.as_bytes()))
    } else {
        server::full(page)
    };
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    insert(&mut response, header::CONTENT_TYPE, Some(html));
    insert(
        &mut response,
        header::LAST_MODIFIED,
        modified.and_then(conditions::http_date),
    );
    Ok(response)
}

fn precondition(headers: &HeaderMap, modified: Option<SystemTime>) -> Option<Response<Body>> {
    let status = match conditions::check(headers, modified) {
        Outcome::Serve => None,
        Outcome::NotModified => Some(StatusCode::NOT_MODIFIED),
        Outcome::Failed => Some(StatusCode::PRECONDITION_FAILED),
    };
    status.map(|status| {
        let mut response = server::status(status);
        let date = modified.and_then(conditions::http_date);
        insert(&mut response, header::LAST_MODIFIED, date);
        response
    })
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("gzip"))
}

/// When a file was changed; the epoch stands for unknown.
fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata
        .modified()
        .ok()
        .filter(|at| *at > SystemTime::UNIX_EPOCH)
}

fn insert(response: &mut Response<Body>, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        response.headers_mut().insert(name, value);
    }
}

/// `target` is encoded already; the query stays.
fn redirect(target: &str, uri: &Uri) -> Response<Body> {
    let mut response = server::status(StatusCode::MOVED_PERMANENTLY);
    let location = match uri.query() {
        Some(query) if !query.is_empty() => HeaderValue::try_from(format!("{target}?{query}")),
        _ => HeaderValue::try_from(target),
    };
    insert(&mut response, header::LOCATION, location.ok());
    response
}

fn not_found() -> Response<Body> {
    server::error(StatusCode::NOT_FOUND, "404 page not found")
}

fn unauthorized() -> Response<Body> {
    let mut response = server::error(StatusCode::UNAUTHORIZED, "Unauthorized");
    let challenge = HeaderValue::from_static("Basic realm=\"Restricted\"");
    insert(&mut response, header::WWW_AUTHENTICATE, Some(challenge));
    response
}

fn failure(e: &io::Error) -> Response<Body> {
    match e.kind() {
        io::ErrorKind::PermissionDenied => server::error(StatusCode::FORBIDDEN, "403 Forbidden"),
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename => not_found(),
        _ => server::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 Internal Server Error",
        ),
    }
}

#[cfg(test)]
mod tests;
