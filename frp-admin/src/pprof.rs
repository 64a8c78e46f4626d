//! `/debug/pprof/` (admin-api.md §1.6): what runs, as text. Profiles of a Go runtime do not exist here and are not made up.

use std::future::ready;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::{Response, Route};

/// `tasks` lists what runs, a line or more each. Anybody may ask for it, so it must not name what opens anything.
pub fn pprof_routes(tasks: impl Fn() -> String + Send + Sync + 'static) -> Vec<Route> {
    vec![
        Route::any("/debug/pprof/", |_| ready(Ok(index())))
            .about("what can be looked at")
            .pages()
            .open(),
        Route::any("/debug/pprof/goroutine", move |_| {
            ready(Ok(plain(StatusCode::OK, tasks())))
        })
        .about("what runs")
        .open(),
        Route::any("/debug/pprof/*", |_| ready(Ok(unknown())))
            .about("nothing")
            .pages()
            .open(),
    ]
}

fn index() -> Response {
    const PAGE: &str = "<html>
<head>
<title>/debug/pprof/</title>
</head>
<body>
/debug/pprof/
<br>
<p>Profiles available:</p>
<p><a href='goroutine?debug=2'>goroutine</a>: the tasks that run</p>
</body>
</html>
";
    Response::body("text/html; charset=utf-8", PAGE)
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
}

fn unknown() -> Response {
    let mark = HeaderName::from_static("x-go-pprof");
    plain(StatusCode::NOT_FOUND, "Unknown profile\n".into())
        .with(mark, HeaderValue::from_static("1"))
}

fn plain(status: StatusCode, body: String) -> Response {
    Response::body("text/plain; charset=utf-8", body)
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with_status(status)
}
