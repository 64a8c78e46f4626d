//! A dashboard's files (admin-api.md §1.7): those of `webServer.assetsDir`, read for every request, or else the built-in ones.

mod built_in;
mod conditions;
mod listing;

use std::fs::{self, File};
use std::future::ready;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderValue,
    LAST_MODIFIED, LOCATION, VARY,
};
use hyper::{HeaderMap, Method, StatusCode};

use crate::{ApiError, Request, Response, Route};
pub use built_in::Dashboard;
use conditions::Range;

/// Bytes of a file: each is held in memory while it is sent, and dashboards have none that are larger.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// `/`, `/favicon.ico` and all below `/static/`, out of the directory, or else as built in.
pub fn static_routes(directory: Option<PathBuf>, built_in: Dashboard) -> Vec<Route> {
    let directory: Arc<Option<PathBuf>> = Arc::new(directory);
    let file = move |request: Request| {
        let directory = directory.clone();
        async move {
            let serve = move || match &*directory {
                Some(root) => answer(root, &request),
                None => built_in.answer(&request),
            };
            let served = tokio::task::spawn_blocking(serve).await;
            served.map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
        }
    };
    vec![
        Route::get("/favicon.ico", file.clone())
            .about("the icon of the dashboard")
            .pages(),
        Route::get("/static/*", file)
            .about("files of the dashboard")
            .pages(),
        Route::get("/", |_| ready(Ok(page())))
            .about("to the dashboard")
            .pages(),
        Route::new(Method::HEAD, "/", |_| ready(Ok(page())))
            .about("to the dashboard")
            .pages(),
        Route::any("/", |_| ready(Ok(Response::moved("/static/"))))
            .about("to the dashboard")
            .pages(),
    ]
}

/// The redirection with something to click on.
fn page() -> Response {
    let page = "<a href=\"/static/\">Moved Permanently</a>.\n\n";
    Response::body("text/html; charset=utf-8", page)
        .with_status(StatusCode::MOVED_PERMANENTLY)
        .with(LOCATION, HeaderValue::from_static("/static/"))
}

fn answer(root: &Path, request: &Request) -> Response {
    let inner = inner(request);
    match find(root, inner, &request.headers) {
        Ok(response) => response,
        Err(e) => {
            if !matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) {
                tracing::warn!("webServer.assetsDir: {inner}: {e}");
            }
            Response::not_found()
        }
    }
}

/// The path below the root of the files.
fn inner(request: &Request) -> &str {
    let path = request.path();
    path.strip_prefix("/static/").unwrap_or(path)
}

fn find(root: &Path, inner: &str, headers: &HeaderMap) -> io::Result<Response> {
    let local = local(root, inner).ok_or(io::ErrorKind::NotFound)?;
    let name = inner.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    if name == "index.html" && !inner.ends_with('/') {
        return Ok(Response::moved("./"));
    }
    let metadata = fs::metadata(&local)?;
    if metadata.is_dir() {
        if !inner.is_empty() && !inner.ends_with('/') {
            return Ok(Response::moved(&listing::relative(name, true)));
        }
        return match file(&local.join("index.html"), headers) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => listing::page(&local),
            served => served,
        };
    }
    if inner.ends_with('/') {
        let name = listing::relative(name, false);
        return Ok(Response::moved(&format!("../{name}")));
    }
    file(&local, headers)
}

/// Where a path leads. `None`: nowhere. Symbolic links are followed, as upstream does.
fn local(root: &Path, inner: &str) -> Option<PathBuf> {
    let mut local = root.to_owned();
    for part in inner.split('/').filter(|part| !part.is_empty()) {
        // Where `\` separates, and `C:` means something, a name can be more than a name.
        let mut components = Path::new(part).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if name == part && !part.contains('\0') => {
                local.push(name);
            }
            _ => return None,
        }
    }
    Some(local)
}

fn file(path: &Path, headers: &HeaderMap) -> io::Result<Response> {
    let metadata = fs::metadata(path)?;
    // Opening anything else may block.
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let modified = metadata.modified().ok();
    if conditions::is_unmodified(headers, modified) {
        let response = Response::empty(StatusCode::NOT_MODIFIED);
        return Ok(with_file_headers(response, path, modified));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut content)?;
    respond(path, content.into(), modified, headers)
}

/// The content of a file, as much of it and packed as the headers ask.
fn respond(
    path: &Path,
    content: Bytes,
    modified: Option<SystemTime>,
    headers: &HeaderMap,
) -> io::Result<Response> {
    let size = content.len();
    let response = match conditions::range(headers, size, modified) {
        Range::Part(part) => {
            let (first, last) = (part.start, part.end - 1);
            Response::body("", content.slice(part))
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with_text(CONTENT_RANGE, format!("bytes {first}-{last}/{size}"))
        }
        Range::Unsatisfiable => {
            return Ok(Response::text(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "invalid range: failed to overlap",
            )
            .with_text(CONTENT_RANGE, format!("bytes */{size}")));
        }
        Range::Whole if accepts_gzip(headers) => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::default());
            packed.write_all(&content)?;
            Response::body("", packed.finish()?)
                .with(CONTENT_ENCODING, HeaderValue::from_static("gzip"))
                .with(VARY, HeaderValue::from_static("Accept-Encoding"))
        }
        Range::Whole => Response::body("", content),
    };
    Ok(with_file_headers(response, path, modified))
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("gzip"))
}

fn with_file_headers(response: Response, path: &Path, modified: Option<SystemTime>) -> Response {
    let response = response
        .with(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
        .with_text(CONTENT_TYPE, content_type(path));
    match modified {
        Some(modified) => response.with_text(LAST_MODIFIED, httpdate::fmt_http_date(modified)),
        None => response,
    }
}

fn content_type(path: &Path) -> String {
    if path.extension().is_some_and(|extension| extension == "ico") {
        return "image/vnd.microsoft.icon".into();
    }
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    if guess.type_() == "text" {
        return format!("{guess}; charset=utf-8");
    }
    guess.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(root: &Path, path: &str, headers: &[(&'static str, &str)]) -> Response {
        let mut request = Request {
            path: path.into(),
            ..Request::default()
        };
        for (name, value) in headers {
            request.headers.insert(*name, value.parse().unwrap());
        }
        answer(root, &request)
    }

    fn header(response: Response, name: &str) -> String {
        let response: hyper::Response<crate::response::Body> = response.into();
        let value = response.headers().get(name);
        value.map_or_else(String::new, |v| v.to_str().unwrap().into())
    }

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("index.html"), "<p>front").unwrap();
        fs::write(dir.path().join("favicon.ico"), "icon").unwrap();
        fs::write(dir.path().join("a/app.js"), "0123456789").unwrap();
        dir
    }

    #[test]
    fn files_directories_and_what_is_not_there() {
        let dir = root();
        for (path, status, text) in [
            ("/static/", 200, "<p>front"),
            ("/static/index.html", 301, "./"),
            ("/favicon.ico", 200, "icon"),
            ("/static/a", 301, "a/"),
            ("/static/a/app.js", 200, "0123456789"),
            ("/static/a/app.js/", 301, "../app.js"),
            ("/static/a/none", 404, ""),
            ("/static/a/app.js/none", 404, ""),
        ] {
            let response = get(dir.path(), path, &[]);
            assert_eq!(response.status(), status, "{path}");
            match status {
                200 => assert_eq!(response.bytes(), text, "{path}"),
                301 => assert_eq!(header(response, "location"), text, "{path}"),
                _ => {}
            }
        }
        let listing = get(dir.path(), "/static/a/", &[]);
        let text = String::from_utf8_lossy(listing.bytes()).into_owned();
        assert!(
            text.contains("<a href=\"app.js\">app.js</a>\n<a href=\"b/\">b/</a>"),
            "{text}"
        );
    }

    #[test]
    fn nothing_outside_is_served() {
        let dir = root();
        fs::write(dir.path().join("secret"), "s").unwrap();
        let inner = dir.path().join("a");
        for path in [
            "/static/../secret",
            "/static/b/../../secret",
            "/static/..\\secret",
            "/static/\0",
        ] {
            assert_eq!(get(&inner, path, &[]).status(), 404, "{path}");
        }
    }

    #[test]
    fn types_conditions_ranges_and_compression() {
        let dir = root();
        let path = "/static/a/app.js";
        let plain = || get(dir.path(), path, &[]);
        assert_eq!(
            header(plain(), "content-type"),
            "text/javascript; charset=utf-8"
        );
        assert_eq!(
            header(get(dir.path(), "/favicon.ico", &[]), "content-type"),
            "image/vnd.microsoft.icon"
        );
        let modified = header(plain(), "last-modified");
        let unmodified = get(dir.path(), path, &[("if-modified-since", &modified)]);
        assert_eq!(
            (unmodified.status(), unmodified.bytes().len()),
            (StatusCode::NOT_MODIFIED, 0)
        );
        for (range, status, body) in [
            ("bytes=2-4", 206, "234"),
            ("bytes=8-", 206, "89"),
            ("bytes=-3", 206, "789"),
            ("bytes=0-99", 206, "0123456789"),
            ("bytes=0-1,3-4", 200, "0123456789"),
            ("lines=1-2", 200, "0123456789"),
        ] {
            let answer = get(
                dir.path(),
                path,
                &[("range", range), ("accept-encoding", "identity")],
            );
            assert_eq!(
                (answer.status().as_u16(), &answer.bytes()[..]),
                (status, body.as_bytes()),
                "{range}"
            );
        }
        let beyond = get(dir.path(), path, &[("range", "bytes=10-")]);
        assert_eq!(beyond.status(), 416);
        assert_eq!(header(beyond, "content-range"), "bytes */10");
        let packed = get(dir.path(), path, &[("accept-encoding", "br, gzip")]);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed.bytes()[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "0123456789");
        assert_eq!(header(packed, "content-encoding"), "gzip");
    }
}
