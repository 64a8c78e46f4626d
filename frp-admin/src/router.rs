//! From a request to its handler (admin-api.md §1.2 to §1.4): the path is cleaned, a route found, the asker authenticated,
//! the handler run and logged.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;
use tokio::time::timeout;

use crate::failures::Failures;
use crate::request::{escape_path, parse_query, unescape};
use crate::response::ErrorForm;
use crate::{Access, ApiError, Request, Response, Role, openapi, origin};

/// How long a wrong password keeps its asker waiting.
const FAILURE_DELAY: Duration = Duration::from_millis(200);
/// For receiving a body.
const BODY_LIMIT: Duration = Duration::from_mins(1);
/// Bytes of a body: upstream has no limit, and this is more than twice the configuration of ten thousand proxies.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What a page of another site gets, see `origin`.
const FOREIGN: &str = "pages of another origin may not change anything here";

/// Names of a route's parameters, and what stands for them.
pub(crate) type Params = Vec<(&'static str, String)>;

type Answer = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;

/// One line of the table: method, path, handler.
pub struct Route {
    /// `None` = any.
    pub(crate) method: Option<Method>,
    pub(crate) pattern: Pattern,
    handler: Box<dyn Fn(Request) -> Answer + Send + Sync>,
    pub(crate) errors: ErrorForm,
    /// Whether segments are those of the path as it was sent, so that `%2F` may stand in a parameter.
    escaped: bool,
    /// Whether anybody may ask, which is not logged either.
    pub(crate) open: bool,
    /// `None`: to look is for everybody who may ask, to change is not.
    needs: Option<Role>,
    /// What it is for, in a line.
    pub(crate) about: &'static str,
    /// Parameters of the query that it knows.
    pub(crate) query: &'static [&'static str],
    /// What its answers are, for the API's document.
    pub(crate) content: Content,
}

/// What a route answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// JSON, or nothing.
    Json,
    /// Something of this media type; errors are JSON.
    Media(&'static str),
    /// Pages and files, which may have moved or be missing.
    Pages,
}

impl Route {
    /// `pattern` is a path whose segments may be `{name}`, which stands for anything but nothing; with `/*` at its end it
    /// stands for all that is below, too.
    pub fn new<H, F>(method: Method, pattern: &'static str, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        Self {
            method: Some(method),
            pattern: Pattern(pattern),
            handler: Box::new(move |request| Box::pin(handler(request))),
            errors: ErrorForm::V1,
            escaped: false,
            open: false,
            needs: None,
            about: "",
            query: &[],
            content: Content::Json,
        }
    }

    /// `GET`, without `HEAD`, as upstream has it.
    pub fn get<H, F>(pattern: &'static str, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        Self::new(Method::GET, pattern, handler)
    }

    /// Every method.
    pub fn any<H, F>(pattern: &'static str, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        Self {
            method: None,
            ..Self::get(pattern, handler)
        }
    }

    /// Errors are written in frps's v2 envelope, and parameters may have `%2F` in them.
    #[must_use]
    pub fn v2(self) -> Self {
        Self {
            errors: ErrorForm::V2,
            escaped: true,
            ..self
        }
    }

    /// Only administrators may ask, although nothing is changed.
    #[must_use]
    pub fn admin(self) -> Self {
        Self {
            needs: Some(Role::Admin),
            ..self
        }
    }

    /// What it is for, in a line, for the API's document.
    #[must_use]
    pub fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Parameters of the query that it knows, for the API's document.
    #[must_use]
    pub fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    /// It answers with something of this media type instead of JSON, for the API's document.
    #[must_use]
    pub fn media(self, media: &'static str) -> Self {
        let content = Content::Media(media);
        Self { content, ..self }
    }

    /// It answers with pages or files, for the API's document.
    #[must_use]
    pub fn pages(self) -> Self {
        let content = Content::Pages;
        Self { content, ..self }
    }

    /// Who may ask.
    pub(crate) fn role(&self) -> Role {
        let looks = matches!(self.method, None | Some(Method::GET | Method::HEAD));
        let usual = if looks { Role::ReadOnly } else { Role::Admin };
        self.needs.unwrap_or(usual)
    }

    /// Anybody may ask, and it is not logged.
    #[must_use]
    pub fn open(self) -> Self {
        Self { open: true, ..self }
    }
}

/// See [`Route::new`].
pub(crate) struct Pattern(pub(crate) &'static str);

impl Pattern {
    /// The parameters, if the path fits.
    fn matches(&self, path: &str) -> Option<Params> {
        let (pattern, below) = match self.0.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (self.0, false),
        };
        let mut params = Params::new();
        let mut segments = path.split('/');
        let mut wanted = pattern.split('/').peekable();
        while let Some(want) = wanted.next() {
            if below && wanted.peek().is_none() {
                // The path has the prefix's last slash; what comes after it is free.
                return segments.next().map(|_| params);
            }
            let segment = segments.next()?;
            match want.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
                Some(_) if segment.is_empty() => return None,
                Some(name) => params.push((name, segment.to_owned())),
                None if want == segment => {}
                None => return None,
            }
        }
        segments.next().is_none().then_some(params)
    }
}

/// Who sends a request.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) access: &'a Access,
    pub(crate) failures: &'a Failures,
    pub(crate) peer: IpAddr,
}

impl Asker<'_> {
    /// Whether these credentials are good enough; else what to answer.
    async fn may(self, needed: Role, given: Option<&HeaderValue>) -> Result<(), Box<Response>> {
        let given = given.map(HeaderValue::as_bytes);
        if given.is_some()
            && let Some(wait) = self.failures.wait(self.peer)
        {
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            let refusal = Response::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
            return Err(Box::new(refusal.with(RETRY_AFTER, seconds)));
        }
        match self.access.role(given) {
            Some(role) if role >= needed => Ok(()),
            Some(_) => {
                let refusal = Response::text(StatusCode::FORBIDDEN, "Forbidden");
                Err(Box::new(refusal))
            }
            None => {
                // A browser asks without any first.
                if given.is_some() {
                    self.failures.add(self.peer);
                }
                tokio::time::sleep(FAILURE_DELAY).await;
                let realm = HeaderValue::from_static("Basic realm=\"Restricted\"");
                let refusal = Response::text(StatusCode::UNAUTHORIZED, "Unauthorized");
                Err(Box::new(refusal.with(WWW_AUTHENTICATE, realm)))
            }
        }
    }
}

/// Where a request goes.
struct Found<'a> {
    route: &'a Route,
    /// Decoded.
    path: String,
    params: Params,
}

/// The table, in order: the first route that fits path and method answers.
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// Takes the table; `/healthz` is added.
    pub fn new(mut routes: Vec<Route>) -> Self {
        let healthz = |_| std::future::ready(Ok(Response::empty(StatusCode::OK)));
        let healthz = Route::any("/healthz", healthz).open();
        routes.insert(0, healthz.about("whether the program runs"));
        Self { routes }
    }

    /// The same with a document of all routes at `/api/openapi.json`.
    #[must_use]
    pub fn documented(mut self, title: &str, version: &str) -> Self {
        // The document describes itself, too: its own route is there before it is written.
        let body = Arc::new(OnceLock::<Value>::new());
        let written = body.clone();
        let document = move |_| {
            let document = written.get().map(Response::json);
            std::future::ready(Ok(document.unwrap_or_else(Response::not_found)))
        };
        let route = Route::get("/api/openapi.json", document).about("this document");
        self.routes.insert(1, route);
        body.get_or_init(|| openapi::document(title, version, &self.routes));
        self
    }

    /// Answers a request. `body` is not looked at before the asker is known.
    pub(crate) async fn answer<B>(
        &self,
        asker: Asker<'_>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: B,
    ) -> Response
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Found {
            route,
            path,
            params,
        } = match self.find(method, uri) {
            Ok(found) => found,
            Err(response) => return *response,
        };
        if !route.open {
            if let Err(response) = asker.may(route.role(), headers.get(AUTHORIZATION)).await {
                return *response;
            }
            tracing::info!("http request: [{path}]");
            if origin::is_foreign(method, headers) {
                tracing::warn!("http response [{path}]: error: {FOREIGN}");
                return ApiError::new(StatusCode::FORBIDDEN, FOREIGN).response(route.errors);
            }
        }
        // A stranger's body is not worth its memory.
        let body = if route.open {
            Ok(Bytes::new())
        } else {
            receive(body).await
        };
        let answer = match body {
            Ok(body) => {
                let request = Request {
                    path: path.clone(),
                    params,
                    query: uri.query().map(parse_query).unwrap_or_default(),
                    headers: headers.clone(),
                    body,
                };
                (route.handler)(request).await
            }
            Err(e) => Err(e),
        };
        let response = answer.unwrap_or_else(|e| {
            tracing::warn!("http response [{path}]: error: {}", e.text);
            e.response(route.errors)
        });
        if !route.open {
            tracing::info!(
                "http response [{path}]: code [{}]",
                response.status().as_u16()
            );
        }
        response
    }

    /// The route, the decoded path and its parameters; else what to answer without any.
    fn find(&self, method: &Method, uri: &Uri) -> Result<Found<'_>, Box<Response>> {
        let sent = uri.path();
        let Some(path) = unescape(sent) else {
            let close = HeaderValue::from_static("close");
            let response = Response::body("text/plain; charset=utf-8", "400 Bad Request")
                .with_status(StatusCode::BAD_REQUEST)
                .with(CONNECTION, close);
            return Err(Box::new(response));
        };
        let clean = clean(&path);
        if clean != path && !self.has_slashes_in_names(sent) {
            let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
            let location = format!("{}{query}", escape_path(&clean));
            return Err(Box::new(Response::moved(&location)));
        }
        let mut wrong_method = false;
        for route in &self.routes {
            let Some(mut params) = route
                .pattern
                .matches(if route.escaped { sent } else { &path })
            else {
                continue;
            };
            if route.method.as_ref().is_some_and(|m| m != method) {
                wrong_method = true;
                continue;
            }
            if route.escaped {
                for (_, value) in &mut params {
                    *value = unescape(value).unwrap_or_default();
                }
            }
            return Ok(Found {
                route,
                path,
                params,
            });
        }
        Err(Box::new(if wrong_method {
            Response::empty(StatusCode::METHOD_NOT_ALLOWED)
        } else {
            Response::not_found()
        }))
    }
}

impl Router {
    /// Whether a path is unclean only once the names in it are decoded.
    fn has_slashes_in_names(&self, sent: &str) -> bool {
        let is_dots = |name: &str| matches!(unescape(name).as_deref(), Some("." | ".."));
        self.routes
            .iter()
            .filter(|route| route.escaped)
            .any(|route| {
                let params = route.pattern.matches(sent);
                params.is_some_and(|params| params.iter().all(|(_, name)| !is_dots(name)))
            })
    }
}

/// The path without empty segments, `.` and `..`; a slash at its end stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", kept.join("/"))
}

/// The whole body, if it is not too large and comes in time.
async fn receive<B>(body: B) -> Result<Bytes, ApiError>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match timeout(BODY_LIMIT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("request body is larger than {MAX_BODY} bytes"),
        )),
        Ok(Err(e)) => Err(ApiError::bad_request(format!(
            "read request body error: {e}"
        ))),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "read request body error: i/o timeout",
        )),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn asker<'a>(access: &'a Access, failures: &'a Failures) -> Asker<'a> {
        Asker {
            access,
            failures,
            peer: IpAddr::from([127, 0, 0, 1]),
        }
    }

    async fn echo(request: Request) -> Result<Response, ApiError> {
        match request.param("name") {
            "missing" => Err(ApiError::not_found("it is missing")),
            name => Ok(Response::json(&(
                name,
                request.query("q"),
                request.body().len(),
            ))),
        }
    }

    fn router() -> Router {
        Router::new(vec![
            Route::get("/api/item/{name}", echo),
            Route::get("/api/item/{kind}/{name}", echo),
            Route::new(Method::PUT, "/api/item/{name}", echo),
            Route::get("/api/v2/item/{name}", echo).v2(),
            Route::get("/static/*", echo),
            Route::any("/", echo),
        ])
    }

    async fn ask(method: Method, uri: &str) -> (u16, String, String) {
        let response = router()
            .answer(
                asker(&Access::new("", ""), &Failures::default()),
                &method,
                &uri.parse().unwrap(),
                &HeaderMap::new(),
                Full::new(Bytes::from_static(b"body")),
            )
            .await;
        let response = hyper::Response::from(response);
        let location = response.headers().get("location");
        let location = location.map_or("", |l| l.to_str().unwrap()).to_owned();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, location, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The status of the answer to somebody with this token.
    async fn with_token(method: Method, token: &str, failures: &Failures) -> u16 {
        let tokens = vec![("r".into(), Role::ReadOnly), ("a".into(), Role::Admin)];
        let access = Access::new("", "").with_tokens(tokens);
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        headers.insert(AUTHORIZATION, value);
        let uri = "/api/item/a".parse().unwrap();
        let body = Full::new(Bytes::new());
        let router = router();
        let answer = router.answer(asker(&access, failures), &method, &uri, &headers, body);
        answer.await.status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn roles_and_failures() {
        let failures = Failures::default();
        for (method, token, status) in [
            (Method::GET, "r", 200),
            (Method::PUT, "r", 403),
            (Method::PUT, "a", 200),
            (Method::GET, "x", 401),
        ] {
            assert_eq!(
                with_token(method, token, &failures).await,
                status,
                "{token}"
            );
        }
        while with_token(Method::GET, "x", &failures).await == 401 {}
        // Nobody at this address is listened to for a while.
        assert_eq!(with_token(Method::GET, "a", &failures).await, 429);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(with_token(Method::GET, "a", &failures).await, 200);
    }

    #[tokio::test]
    async fn the_document_has_every_route() {
        let router = router().documented("t", "1");
        let uri = "/api/openapi.json".parse().unwrap();
        let (access, failures) = (Access::default(), Failures::default());
        let (headers, body) = (HeaderMap::new(), Full::new(Bytes::new()));
        let asker = asker(&access, &failures);
        let answer = router.answer(asker, &Method::GET, &uri, &headers, body);
        let document: Value = serde_json::from_slice(answer.await.bytes()).unwrap();
        for path in [
            "/healthz",
            "/api/openapi.json",
            "/api/item/{name}",
            "/static/{path}",
        ] {
            assert!(document["paths"][path]["get"].is_object(), "{path}");
        }
        assert!(document["paths"]["/api/item/{name}"]["put"].is_object());
    }

    #[tokio::test]
    async fn routes_are_found() {
        for (uri, body) in [
            ("/api/item/a%20b+c?q=1", "[\"a b+c\",\"1\",4]\n"),
            ("/api/item/a%2Fb", "[\"b\",null,4]\n"),
            ("/api/v2/item/a%2Fb", "[\"a/b\",null,4]\n"),
            ("/api/v2/item/a%2F%2Fb", "[\"a//b\",null,4]\n"),
            ("/static/", "[\"\",null,4]\n"),
            ("/static/a/b", "[\"\",null,4]\n"),
            ("/", "[\"\",null,4]\n"),
            ("/healthz", ""),
        ] {
            assert_eq!(
                ask(Method::GET, uri).await,
                (200, String::new(), body.into()),
                "{uri}"
            );
        }
        assert_eq!(ask(Method::PUT, "/api/item/a").await.0, 200);
    }

    #[tokio::test]
    async fn what_has_no_route() {
        for uri in [
            "/nope",
            "/static",
            "/api/item/",
            "/api/item/a/",
            "/api/item/a/b/c",
            "/healthz/",
        ] {
            let not_found = (404, String::new(), "404 page not found\n".into());
            assert_eq!(ask(Method::GET, uri).await, not_found, "{uri}");
        }
        for (method, uri) in [
            (Method::POST, "/api/item/a"),
            (Method::HEAD, "/api/item/a"),
            (Method::OPTIONS, "/api/v2/item/a"),
        ] {
            assert_eq!(
                ask(method, uri).await,
                (405, String::new(), String::new()),
                "{uri}"
            );
        }
        assert_eq!(
            ask(Method::GET, "/api/%zz").await,
            (400, String::new(), "400 Bad Request".into())
        );
    }

    #[tokio::test]
    async fn unclean_paths_are_redirected() {
        for (uri, location) in [
            ("//api/serverinfo?x=1", "/api/serverinfo?x=1"),
            ("/api/../api/x", "/api/x"),
            ("/api//", "/api/"),
            ("/./", "/"),
            ("/%2e%2e/x", "/x"),
            ("/api/%2Fx", "/api/x"),
            ("/api/v2/item/%2e%2e", "/api/v2"),
            ("/api//v2/item/a%2Fb", "/api/v2/item/a/b"),
            ("/%C3%A4//*", "/%C3%A4/%2A"),
        ] {
            let (status, to, body) = ask(Method::POST, uri).await;
            assert_eq!(
                (status, to.as_str(), body.as_str()),
                (301, location, ""),
                "{uri}"
            );
        }
    }

    #[tokio::test]
    async fn errors_have_the_form_of_their_route() {
        assert_eq!(
            ask(Method::GET, "/api/item/missing").await.2,
            "{\"Code\":404,\"Msg\":\"it is missing\"}\n"
        );
        assert_eq!(
            ask(Method::GET, "/api/v2/item/missing").await.2,
            "{\"code\":404,\"msg\":\"it is missing\",\"data\":null}\n"
        );
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        let body = Full::new(Bytes::from(vec![0; MAX_BODY + 1]));
        let response = router()
            .answer(
                asker(&Access::new("", ""), &Failures::default()),
                &Method::PUT,
                &"/api/item/a".parse().unwrap(),
                &HeaderMap::new(),
                body,
            )
            .await;
        assert_eq!(response.status(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_password_waits() {
        let start = tokio::time::Instant::now();
        let access = Access::new("u", "p");
        for (uri, status) in [("/", 401), ("/healthz", 200), ("/nope", 404)] {
            let body = Full::new(Bytes::new());
            let response = router()
                .answer(
                    asker(&access, &Failures::default()),
                    &Method::GET,
                    &uri.parse().unwrap(),
                    &HeaderMap::new(),
                    body,
                )
                .await;
            assert_eq!(response.status(), status, "{uri}");
        }
        assert_eq!(start.elapsed(), FAILURE_DELAY);
    }
}
