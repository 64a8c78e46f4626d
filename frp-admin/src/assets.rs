//! Where a dashboard would be (admin-api.md §1.7). This build has none and answers as upstream's without one does.

use std::future::ready;

use hyper::header::{HeaderValue, LOCATION};
use hyper::{Method, StatusCode};

use crate::{Response, Route};

/// `/`, `/favicon.ico` and all below `/static/`.
pub fn static_routes() -> Vec<Route> {
    let missing = |_| ready(Ok(Response::not_found()));
    vec![
        Route::get("/favicon.ico", missing),
        Route::get("/static/index.html", |_| ready(Ok(Response::moved("./")))),
        Route::get("/static/*", missing),
        Route::get("/", |_| ready(Ok(page()))),
        Route::new(Method::HEAD, "/", |_| ready(Ok(page()))),
        Route::any("/", |_| ready(Ok(Response::moved("/static/")))),
    ]
}

/// The redirection with something to click on.
fn page() -> Response {
    let page = "<a href=\"/static/\">Moved Permanently</a>.\n\n";
    Response::body("text/html; charset=utf-8", page)
        .with_status(StatusCode::MOVED_PERMANENTLY)
        .with(LOCATION, HeaderValue::from_static("/static/"))
}
