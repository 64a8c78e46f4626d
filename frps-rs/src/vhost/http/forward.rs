//! One request: route, authorise, send to a backend, bring the answer back (server.md §7.2–§7.9).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use balancer::{GroupConfig, NoMember, Outcome};
use http::header::{
    CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::{self, OnUpgrade};
use tokio::time::sleep;

use super::body::{Body, Serving, Upload, Uploaded};
use super::credential::Credential;
use super::headers::{self, Framing};
use super::io::Gate;
use super::pages::{self, Malformed};
use super::pool::{Dialing, Lease, Pool};
use super::routes::Route;
use super::sticky::{self, Sender};
use super::target::Target;
use super::{load, query, upgrade as joined};
use crate::Shared;
use crate::balance::{self, Stage, Turn};
use crate::metrics;
use crate::records::{Asked, Exchange};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static X_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");

/// Bytes of a body that are kept until it is known whether the service can be reached. Who has more waits until it is.
const KEPT_UNTIL_VERDICT: usize = 64 * 1024;

/// Who sends requests on a connection.
pub(super) struct User {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    /// The address of `peer` as `X-Forwarded-For` has it.
    pub(super) address: HeaderValue,
    /// Of his HTTP/1 connection.
    pub(super) gate: Gate,
}

/// Why a request has no answer of a backend. `Display` is for the log; users see the 404 page, or a 504.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no route found: {0}")]
    NoRoute(String),
    #[error("http: no Host in request URL")]
    NoHost,
    #[error("no healthy endpoint for http group [{0}]")]
    NoMember(String),
    /// There are members, and none for this request.
    #[error("{0}")]
    Unavailable(NoMember),
    /// Why has been logged.
    #[error("no work connection")]
    NoWorkConn,
    #[error("net/http: timeout awaiting response headers")]
    Timeout,
    #[error("EOF")]
    Closed,
    /// Its client says so; nothing has reached the service.
    #[error("local service refused")]
    Refused,
    #[error("{0}")]
    Backend(hyper::Error),
    #[error("client tried to switch to a protocol whose name cannot be printed")]
    Unprintable,
    #[error("backend tried to switch protocol {got:?} when {asked:?} was requested")]
    Switched { got: String, asked: String },
}

impl From<hyper::Error> for Failure {
    fn from(e: hyper::Error) -> Self {
        if e.is_parse() {
            Self::Backend(e)
        } else {
            Self::Closed
        }
    }
}

impl Failure {
    /// Whether there are members, and none for this request, which is none of their faults.
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// As metrics and the access log have it.
    fn kind(&self) -> metrics::Failure {
        match self {
            Self::NoWorkConn => metrics::Failure::NoWorkConn,
            Self::Timeout => metrics::Failure::Timeout,
            Self::Closed | Self::Refused | Self::Backend(_) => metrics::Failure::Backend,
            _ => metrics::Failure::Request,
        }
    }
}

/// The answer to one request, whatever happens. The exchange is over when the body is dropped.
pub(super) async fn answer(user: &User, request: Request<Incoming>) -> Response<Body> {
    let exchange = Exchange::new(&user.shared, user.peer, || asked(&request));
    let mut exchange = Some(exchange);
    let response = respond(user, request, &mut exchange).await;
    // An upgrade has taken it along.
    let Some(mut exchange) = exchange else {
        return response;
    };
    exchange.answered(response.status().as_u16());
    response.map(|body| body.of_exchange(exchange))
}

/// For the access log.
fn asked<B>(request: &Request<B>) -> Asked {
    let header = |name| {
        let value = request.headers().get(name).map(HeaderValue::as_bytes);
        value.map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
    };
    let host = request.uri().authority().map(ToString::to_string);
    Asked {
        method: request.method().to_string(),
        host: host.unwrap_or_else(|| header(HOST)),
        path: request.uri().path().to_owned(),
        user_agent: header(USER_AGENT),
    }
}

async fn respond(
    user: &User,
    request: Request<Incoming>,
    exchange: &mut Option<Exchange>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let is_http2 = parts.version == Version::HTTP_2;
    if is_http2 && parts.method == Method::CONNECT {
        return pages::empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let target = match Target::of(&parts) {
        Ok(target) => target,
        Err(why) => return pages::malformed(why),
    };
    if !headers::is_plainly_chunked(&parts.headers) {
        return pages::malformed(Malformed::TransferEncoding);
    }
    if !is_http2 && !expects_what_is_known(&parts) {
        return pages::expectation_failed();
    }
    if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
        return pages::empty(StatusCode::OK);
    }
    let credential = Credential::of(&parts.headers, target.proxied);
    let path = String::from_utf8_lossy(&target.path);
    tracing::debug!(
        "get new http request host [{}] path [{path}] httpuser [{}]",
        target.host,
        credential.user
    );
    let is_connect = parts.method == Method::CONNECT;
    let route = user
        .shared
        .http
        .find(&target.host, &target.path, &credential.user);
    let served = match route {
        Some(route) => {
            let login = route.policy().login.as_ref();
            if login.is_some_and(|login| !login.admits(&credential)) {
                return pages::unauthorized(target.proxied);
            }
            if is_connect {
                connect(user, &route, &target, &credential, parts, body, exchange).await
            } else {
                forward(user, &route, &target, &credential, parts, body, exchange).await
            }
        }
        None if target.authority.is_empty() => Err(Failure::NoHost),
        None => {
            let asked = format!("{} {path} {}", target.host, credential.user);
            Err(Failure::NoRoute(asked))
        }
    };
    match served {
        Ok(response) => response,
        Err(failure) => {
            if let Some(exchange) = exchange {
                exchange.failed(failure.kind());
            }
            tracing::warn!(
                "do http proxy request [host: {}] error: {failure}",
                String::from_utf8_lossy(target.authority.as_bytes())
            );
            match failure {
                Failure::Timeout => pages::empty(StatusCode::GATEWAY_TIMEOUT),
                Failure::Unavailable(why) => pages::unavailable(why),
                _ if is_connect => pages::not_found_connect(&user.shared).await,
                _ => pages::not_found(&user.shared).await,
            }
        }
    }
}

fn expects_what_is_known(parts: &Parts) -> bool {
    let known =
        |v: &HeaderValue| v.is_empty() || v.as_bytes().eq_ignore_ascii_case(b"100-continue");
    parts.headers.get(EXPECT).is_none_or(known)
}

/// A request that is not CONNECT.
async fn forward(
    user: &User,
    route: &Route,
    target: &Target,
    credential: &Credential,
    mut parts: Parts,
    body: Incoming,
    exchange: &mut Option<Exchange>,
) -> Result<Response<Body>, Failure> {
    let asked = headers::upgrade(&parts.headers).filter(|_| parts.version != Version::HTTP_2);
    if asked.as_ref().is_some_and(|asked| asked.to_str().is_err()) {
        return Err(Failure::Unprintable);
    }
    let mut turn = pick(user, route, target, credential, &parts, &body)?;
    let user_side = parts.extensions.remove::<OnUpgrade>();
    let framing = framing(&parts, &body);
    let policy = route.policy();
    sticky::strip(turn.group(), &turn.config, &mut parts.headers);
    headers::to_backend(
        &mut parts,
        target,
        &user.address,
        framing,
        asked.as_ref(),
        policy,
    );
    let host = policy.host.as_ref().unwrap_or(&target.authority);
    parts.uri = uri(&parts.uri, target.proxied.then_some(host));

    // What may be sent once only need not be kept, unless it may turn out not to have been sent at all.
    let repeats = asked.is_none() && turn.may_repeat() && is_repeatable(&parts, &turn.config);
    let unreached = turn.may_fail_over() && turn.endpoint().gives_verdicts();
    let keep = match (repeats, unreached) {
        (true, true) => turn.config.retry.max_body_bytes.max(KEPT_UNTIL_VERDICT),
        (true, false) => turn.config.retry.max_body_bytes,
        (false, true) => KEPT_UNTIL_VERDICT,
        (false, false) => 0,
    };
    let (upload, mut uploaded) = Upload::new(body, keep, &user.gate);
    let request = Request::from_parts(parts, upload);
    let again = Again { repeats, unreached };
    let sent = send(user, &mut turn, request, &mut uploaded, again).await;
    served_by(&turn, exchange);
    let (mut response, lease) = sent?;
    let cookie = sticky::cookie(&turn);
    let member = turn.endpoint().clone();
    let reports = turn.config.load_report;
    let usage = turn.into_usage();
    if reports && let Some(report) = load::take(response.headers_mut()) {
        usage.load(&report);
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let serving = Serving::new(usage, response.status(), response.headers());
        headers::to_user(&mut response, &policy.response);
        sticky::set(&mut response, cookie);
        return Ok(response.map(|body| Body::of_backend(body, lease, uploaded, serving)));
    }
    let mut usage = usage;
    usage.first_byte(Outcome::Ok);
    let got = response.headers().get(UPGRADE);
    let (Some(asked), Some(got), Some(user_side)) = (&asked, got, user_side) else {
        return Err(switched(got, asked.as_ref()));
    };
    if !got.as_bytes().eq_ignore_ascii_case(asked.as_bytes()) {
        return Err(switched(Some(got), Some(asked)));
    }
    let backend_side = upgrade::on(&mut response);
    let exchange = switching(exchange, response.status());
    let line = member.lifeline();
    joined::join(&user.shared, line, usage, exchange, user_side, backend_side);
    headers::to_user(&mut response, &policy.response);
    sticky::set(&mut response, cookie);
    Ok(response.map(|_| Body::full("")))
}

fn switched(got: Option<&HeaderValue>, asked: Option<&HeaderValue>) -> Failure {
    let text = |v: Option<&HeaderValue>| {
        v.map_or_else(String::new, |v| {
            String::from_utf8_lossy(v.as_bytes()).into_owned()
        })
    };
    Failure::Switched {
        got: text(got),
        asked: text(asked),
    }
}

/// CONNECT: the backend is a proxy itself and decides. Nothing is changed but what frames the messages.
async fn connect(
    user: &User,
    route: &Route,
    target: &Target,
    credential: &Credential,
    mut parts: Parts,
    body: Incoming,
    of: &mut Option<Exchange>,
) -> Result<Response<Body>, Failure> {
    let mut turn = pick(user, route, target, credential, &parts, &body)?;
    let user_side = parts.extensions.remove::<OnUpgrade>();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    parts.version = Version::HTTP_11;
    drop(body);
    let dialed = loop {
        let mut dialed = turn.endpoint().dial(user.peer, dialing(user, &turn)).await;
        let reached = match &mut dialed {
            Ok(lease) => lease.is_reached().await,
            Err(_) => false,
        };
        let full = matches!(&dialed, Err(failure) if failure.is_unavailable());
        if reached || full || !turn.again(Stage::A, Outcome::Local) {
            break dialed;
        }
    };
    served_by(&turn, of);
    let mut lease = dialed?;
    let request = Request::from_parts(parts, Upload::empty());
    let mut uploaded = Uploaded::over();
    let limit = user.shared.now().settings.vhost_http_timeout;
    let mut response = match exchange(&mut lease, request, &mut uploaded, limit).await {
        Ok(response) => response,
        Err(broken) => {
            turn.into_usage().finish(Outcome::Local);
            return Err(broken.failure);
        }
    };
    let accepted = response.status().is_success();
    let line = turn.endpoint().lifeline();
    let mut usage = turn.into_usage();
    let Some(user_side) = user_side.filter(|_| accepted) else {
        let serving = Serving::new(usage, response.status(), response.headers());
        headers::to_user(&mut response, &Vec::new());
        return Ok(response.map(|body| Body::of_backend(body, lease, uploaded, serving)));
    };
    usage.first_byte(Outcome::Ok);
    let backend_side = upgrade::on(&mut response);
    let of = switching(of, response.status());
    joined::join(&user.shared, line, usage, of, user_side, backend_side);
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(TRANSFER_ENCODING);
    Ok(response.map(|_| Body::full("")))
}

/// The exchange, which goes on with what is no HTTP any more.
fn switching(exchange: &mut Option<Exchange>, status: StatusCode) -> Option<Exchange> {
    let mut exchange = exchange.take()?;
    exchange.answered(status.as_u16());
    Some(exchange)
}

/// Notes who answers.
fn served_by(turn: &Turn<Pool>, exchange: &mut Option<Exchange>) {
    if let Some(exchange) = exchange {
        exchange.served_by(turn.endpoint().context());
    }
}

/// A member for a request.
fn pick(
    user: &User,
    route: &Route,
    target: &Target,
    credential: &Credential,
    parts: &Parts,
    body: &Incoming,
) -> Result<Turn<Pool>, Failure> {
    let group = &route.members;
    let asked = if group.is_configured() {
        let sender = Sender {
            ip: user.peer.ip(),
            user: &credential.user,
            host: &target.host,
        };
        sticky::asked(group, &sender, parts, body.is_end_stream())
    } else {
        balance::Asked::default()
    };
    let turn = Turn::begin(group, asked).map_err(|why| match why {
        NoMember::Empty => Failure::NoMember(route.group.to_string()),
        why => Failure::Unavailable(why),
    })?;
    if !route.group.is_empty() {
        tracing::trace!(
            "choose endpoint name [{}] for http request host [{}] path [{}] httpuser [{}]",
            turn.endpoint().name(),
            route.place.domain,
            route.place.location,
            route.place.user
        );
    }
    Ok(turn)
}

fn framing(parts: &Parts, body: &Incoming) -> Framing {
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        Framing::Chunked
    } else if parts.headers.contains_key(CONTENT_LENGTH) {
        Framing::Length
    } else if body.is_end_stream() {
        Framing::Empty
    } else {
        Framing::Chunked
    }
}

/// The target for the backend: a path, or absolute for users that take this port for a proxy.
fn uri(asked: &Uri, authority: Option<&HeaderValue>) -> Uri {
    let cleaned = asked.query().and_then(query::cleaned);
    if cleaned.is_none() && authority.is_none() && asked.authority().is_none() {
        return asked.clone();
    }
    let path = match cleaned {
        None => asked.path_and_query().cloned(),
        Some(query) => {
            let mark = if query.is_empty() { "" } else { "?" };
            PathAndQuery::try_from(format!("{}{mark}{query}", asked.path())).ok()
        }
    };
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Some(authority) = authority {
        parts.authority = authority.to_str().ok().and_then(|a| a.parse().ok());
        parts.scheme = parts.authority.is_some().then_some(Scheme::HTTP);
    }
    Uri::from_parts(parts).unwrap_or_else(|_| asked.clone())
}

/// Sends a request to the member whose turn it is, and a copy to another one when that takes long, where the group has it so
/// and neither hurts. The first answer counts (balancing.md §4.4).
async fn send_hedged(
    user: &User,
    turn: &mut Turn<Pool>,
    request: Request<Upload>,
    uploaded: &mut Uploaded,
) -> Result<(Response<Incoming>, Lease), Broken> {
    let can_be_copied = request.body().is_empty()
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(UPGRADE);
    let delay = if can_be_copied {
        turn.hedge_delay()
    } else {
        None
    };
    let (pool, dialing) = (turn.endpoint().clone(), dialing(user, turn));
    let Some(delay) = delay else {
        return send_to(user, &pool, dialing, request, uploaded).await;
    };
    let spare = copy(&request);
    let mut first = pin!(send_to(user, &pool, dialing.clone(), request, uploaded));
    tokio::select! {
        biased;
        sent = &mut first => return sent,
        () = sleep(delay) => {}
    }
    let Some(hedge) = turn.hedge() else {
        return first.await;
    };
    let (pool, mut none) = (hedge.endpoint().clone(), Uploaded::over());
    let mut second = pin!(send_to(user, &pool, dialing, spare, &mut none));
    tokio::select! {
        biased;
        sent = &mut first => {
            let Err(broken) = sent else {
                hedge.lost();
                return sent;
            };
            let Ok(sent) = second.await else {
                hedge.failed(Outcome::Local);
                return Err(broken);
            };
            turn.won(hedge, Some(Outcome::Local));
            Ok(sent)
        }
        sent = &mut second => {
            let Ok(sent) = sent else {
                hedge.failed(Outcome::Local);
                return first.await;
            };
            turn.won(hedge, None);
            Ok(sent)
        }
    }
}

fn dialing(user: &User, turn: &Turn<Pool>) -> Dialing {
    Dialing {
        group: turn.is_watched().then(|| turn.group().clone()),
        limit: turn.patience(user.shared.now().settings.user_conn_timeout),
        asks: turn.may_fail_over(),
    }
}

/// When another member may have a request, besides when nothing was sent. Each needs a copy of it.
#[derive(Debug, Clone, Copy)]
struct Again {
    /// After a member has had it.
    repeats: bool,
    /// After it was sent to a client that could not reach its service.
    unreached: bool,
}

/// Sends a request to the member whose turn it is, and to others as long as that is allowed.
async fn send(
    user: &User,
    turn: &mut Turn<Pool>,
    mut request: Request<Upload>,
    uploaded: &mut Uploaded,
    Again { repeats, unreached }: Again,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let spare = (repeats || unreached).then(|| copy(&request));
    let has_body = !request.body().is_empty();
    loop {
        let broken = match send_hedged(user, turn, request, uploaded).await {
            Ok(answered) => {
                let status = answered.0.status();
                let Some(spare) = spare
                    .as_ref()
                    .filter(|_| repeats && turn.is_retried(status))
                else {
                    return Ok(answered);
                };
                let Some(body) = uploaded.again(has_body).await else {
                    return Ok(answered);
                };
                if !turn.again(Stage::C, Outcome::of_status(status.as_u16(), None)) {
                    return Ok(answered);
                }
                drop(answered);
                sleep(turn.back_off()).await;
                request = copy(spare).map(|_| body);
                continue;
            }
            Err(broken) => broken,
        };
        let stage = match &broken.failure {
            Failure::Refused => Some(Stage::A),
            Failure::Closed if repeats => Some(Stage::B),
            _ => None,
        };
        let next = match (broken.unsent, &spare, stage) {
            (Some(unsent), ..) => (turn.again(Stage::A, Outcome::Local)).then_some(unsent),
            (None, Some(spare), Some(stage)) => {
                let body = uploaded.again(has_body).await;
                body.filter(|_| turn.again(stage, Outcome::Local))
                    .map(|body| copy(spare).map(|_| body))
            }
            _ => None,
        };
        let Some(next) = next else {
            if !broken.failure.is_unavailable() {
                turn.failed(Outcome::Local);
            }
            return Err(broken.failure);
        };
        request = next;
    }
}

/// Sends a request over a connection that is open already, or over a new one. One that its other end has closed meanwhile
/// does not fail the request if that can be sent again.
async fn send_to(
    user: &User,
    pool: &Arc<Pool>,
    dialing: Dialing,
    mut request: Request<Upload>,
    uploaded: &mut Uploaded,
) -> Result<(Response<Incoming>, Lease), Broken> {
    let limit = user.shared.now().settings.vhost_http_timeout;
    while let Some(mut lease) = pool.reuse().await {
        let spare = is_replayable(&request).then(|| copy(&request));
        let broken = match exchange(&mut lease, request, uploaded, limit).await {
            Ok(response) => return Ok((response, lease)),
            Err(broken) => broken,
        };
        request = match (broken.unsent, broken.failure, spare) {
            (Some(unsent), ..) => unsent,
            (None, Failure::Closed, Some(spare)) => {
                request = spare;
                break;
            }
            (None, failure, _) => {
                let unsent = None;
                return Err(Broken { failure, unsent });
            }
        };
    }
    let mut lease = match pool.dial(user.peer, dialing).await {
        Ok(lease) => lease,
        Err(failure) => {
            // Of too many who wait no other member would do.
            let unsent = (!failure.is_unavailable()).then_some(request);
            return Err(Broken { failure, unsent });
        }
    };
    let length = request.body().size_hint().upper();
    let is_kept = length.is_some_and(|length| length <= KEPT_UNTIL_VERDICT as u64);
    if !is_kept && !lease.is_reached().await {
        let (failure, unsent) = (Failure::Refused, Some(request));
        return Err(Broken { failure, unsent });
    }
    match exchange(&mut lease, request, uploaded, limit).await {
        Ok(response) => Ok((response, lease)),
        Err(broken) if lease.was_refused() => Err(Broken {
            failure: Failure::Refused,
            ..broken
        }),
        Err(broken) => Err(broken),
    }
}

/// Whether a group's settings let a request be sent to another member after one has had it (RFC 9110 §9.2.2).
fn is_repeatable(parts: &Parts, config: &GroupConfig) -> bool {
    let is_idempotent = is_safe(&parts.method)
        || matches!(parts.method, Method::PUT | Method::DELETE)
        || has_key(&parts.headers);
    is_idempotent || config.retry.non_idempotent && !config.retry.on.is_empty()
}

pub(super) fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

fn has_key(headers: &HeaderMap) -> bool {
    headers.contains_key(&IDEMPOTENCY_KEY) || headers.contains_key(&X_IDEMPOTENCY_KEY)
}

/// A request that has no answer.
struct Broken {
    failure: Failure,
    /// The request, if nothing of it has been sent.
    unsent: Option<Request<Upload>>,
}

/// Sends a request and waits for the head of its answer: `limit` from when all of the request has been sent.
async fn exchange(
    lease: &mut Lease,
    request: Request<Upload>,
    uploaded: &mut Uploaded,
    limit: Duration,
) -> Result<Response<Incoming>, Broken> {
    let late = async {
        uploaded.wait().await;
        sleep(limit).await;
    };
    tokio::select! {
        biased;
        answer = lease.sender.try_send_request(request) => answer.map_err(|mut e| Broken {
            unsent: e.take_message(),
            failure: e.into_error().into(),
        }),
        () = late => Err(Broken { failure: Failure::Timeout, unsent: None }),
    }
}

/// Whether sending a request twice is as good as once (RFC 9110 §9.2.2), and there is no body that would have to be kept.
fn is_replayable(request: &Request<Upload>) -> bool {
    request.body().is_empty() && (is_safe(request.method()) || has_key(request.headers()))
}

/// A copy of a request without a body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}
