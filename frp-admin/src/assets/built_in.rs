//! The dashboards that are part of the programs (admin-api.md §11, §12): plain files, as they stand in `dashboard/`.

use std::path::Path;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use super::{inner, respond};
use crate::{Request, Response};

/// What its pages may load and do: scripts and styles are files, and only this program is asked.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// A name and its content.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($($name:literal: $file:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../dashboard/", $file)))),*]
    };
}

const FRPS: &[File] = files! {
    "index.html": "server.html",
    "server.js": "server.js",
};
const FRPC: &[File] = files! {
    "index.html": "client.html",
    "client.js": "client.js",
    "form.js": "form.js",
};
const BOTH: &[File] = files! {
    "common.js": "common.js",
    "icon.svg": "icon.svg",
    "style.css": "style.css",
};

/// Which dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashboard {
    /// That of frps.
    Frps,
    /// That of frpc.
    Frpc,
}

impl Dashboard {
    fn file(self, name: &str) -> Option<&'static [u8]> {
        let own = match self {
            Self::Frps => FRPS,
            Self::Frpc => FRPC,
        };
        let mut files = own.iter().chain(BOTH);
        files.find(|file| file.0 == name).map(|file| file.1)
    }

    pub(super) fn answer(self, request: &Request) -> Response {
        let name = match inner(request) {
            "" => "index.html",
            name if name == "index.html" || name.ends_with("/index.html") => {
                return Response::moved("./");
            }
            name => name,
        };
        let Some(content) = self.file(name) else {
            return Response::not_found();
        };
        let content = Bytes::from_static(content);
        let served = respond(Path::new(name), content, None, &request.headers)
            .unwrap_or_else(|_| Response::empty(StatusCode::INTERNAL_SERVER_ERROR));
        // Whoever installs another version gets its files at once.
        served
            .with(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
            .with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
            .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
            .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(dashboard: Dashboard, path: &str) -> Response {
        dashboard.answer(&Request {
            path: path.into(),
            ..Request::default()
        })
    }

    #[test]
    fn every_file_is_served_and_nothing_else() {
        for dashboard in [Dashboard::Frps, Dashboard::Frpc] {
            assert_eq!(get(dashboard, "/static/").status(), 200);
            assert_eq!(get(dashboard, "/static/common.js").status(), 200);
            assert_eq!(get(dashboard, "/static/index.html").status(), 301);
            for absent in ["/static/common.js/", "/static/../common.js", "/favicon.ico"] {
                assert_eq!(get(dashboard, absent).status(), 404, "{absent}");
            }
        }
        assert_eq!(get(Dashboard::Frps, "/static/form.js").status(), 404);
    }

    /// What a page refers to, as `src="…"`, `href="…"` or `from "./…"`.
    fn references(text: &str) -> Vec<&str> {
        let starts = [
            "src=\"",
            "rel=\"icon\" href=\"",
            "rel=\"stylesheet\" href=\"",
            "from \"./",
        ];
        let after = |start| text.split(start).skip(1);
        let found = starts.into_iter().flat_map(after);
        found.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn what_pages_refer_to_is_there() {
        for (dashboard, files) in [(Dashboard::Frps, FRPS), (Dashboard::Frpc, FRPC)] {
            let mut count = 0;
            for (name, content) in files.iter().chain(BOTH) {
                let text = std::str::from_utf8(content).unwrap();
                for file in references(text) {
                    assert!(dashboard.file(file).is_some(), "{name} refers to {file}");
                    count += 1;
                }
            }
            assert!(count >= 4, "{count}");
        }
    }
}
