//! What is told of what is over: a connection or request to the access log and the metrics, a login to the audit log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use frp_proto::msg::{Login, Version};
use frp_proto::telemetry::{Sink, millis};
use serde::Serialize;

use crate::metrics::{Failure, LoginOutcome};
use crate::proxy::Context;
use crate::session::{Handle, Origin};
use crate::{Shared, metrics, pushed};

/// A user's connection; it is told of when the value is dropped.
pub(crate) struct Connection<'a> {
    context: &'a Context,
    user: &'a str,
    start: Instant,
    traffic: (u64, u64),
    outcome: Outcome,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The server stopped, or whoever served was cut off.
    Cut,
    Ok,
    Failed(Failure),
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut_off",
            Self::Ok => "ok",
            Self::Failed(failure) => failure.name(),
        }
    }
}

impl<'a> Connection<'a> {
    /// `user` is who came, at `start`.
    pub(crate) fn new(context: &'a Context, user: &'a str, start: Instant) -> Self {
        Self {
            context,
            user,
            start,
            traffic: (0, 0),
            outcome: Outcome::Cut,
        }
    }

    /// Whose it is.
    pub(crate) fn context(&self) -> &'a Context {
        self.context
    }

    /// Who came.
    pub(crate) fn user(&self) -> &'a str {
        self.user
    }

    /// Bytes have passed to the service and back.
    pub(crate) fn add(&mut self, traffic_in: u64, traffic_out: u64) {
        self.traffic.0 += traffic_in;
        self.traffic.1 += traffic_out;
    }

    /// It has ended in order, or by this.
    pub(crate) fn ended(&mut self, failure: Option<Failure>) {
        self.outcome = failure.map_or(Outcome::Ok, Outcome::Failed);
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let context = self.context;
        if let Outcome::Failed(failure) = self.outcome {
            context.metrics.failed(failure);
        }
        let access = &context.shared.access;
        if !access.is_on() {
            return;
        }
        let (bytes_in, bytes_out) = self.traffic;
        access.write(&Line {
            kind: "connection",
            proxy: Some(Served::by(context)),
            source: self.user,
            bytes_in,
            bytes_out,
            duration_ms: millis(self.start.elapsed()),
            outcome: self.outcome.name(),
            http: None,
        });
    }
}

/// A line of the access log. Its names are documented in `docs/observability.md`.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    #[serde(flatten)]
    proxy: Option<Served<'a>>,
    source: &'a str,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    outcome: &'static str,
    #[serde(flatten)]
    http: Option<Http<'a>>,
}

/// Which proxy served, and whose it is.
#[derive(Serialize)]
struct Served<'a> {
    proxy: &'a str,
    #[serde(rename = "type")]
    type_: &'a str,
    run_id: &'a str,
}

impl<'a> Served<'a> {
    fn by(context: &'a Context) -> Self {
        Self {
            proxy: &context.name,
            type_: context.kind,
            run_id: &context.session.run_id,
        }
    }
}

#[derive(Serialize)]
struct Http<'a> {
    #[serde(flatten)]
    asked: &'a Asked,
    status: u16,
}

/// What a request asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) user_agent: String,
}

/// A request; it is told of when the value is dropped.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    user: SocketAddr,
    start: Instant,
    /// Only with an access log.
    asked: Option<Box<Asked>>,
    context: Option<Arc<Context>>,
    status: u16,
    traffic: (u64, u64),
    outcome: Outcome,
}

impl Exchange {
    /// Its head has arrived. `asked` is only called for an access log.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        user: SocketAddr,
        asked: impl FnOnce() -> Asked,
    ) -> Self {
        Self {
            shared: shared.clone(),
            user,
            start: Instant::now(),
            asked: shared.access.is_on().then(|| Box::new(asked())),
            context: None,
            status: 0,
            traffic: (0, 0),
            outcome: Outcome::Cut,
        }
    }

    /// This proxy is to answer.
    pub(crate) fn served_by(&mut self, context: &Arc<Context>) {
        self.context = Some(context.clone());
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// Bytes of bodies have passed to the service and back.
    pub(crate) fn add(&mut self, traffic_in: u64, traffic_out: u64) {
        self.traffic.0 += traffic_in;
        self.traffic.1 += traffic_out;
    }

    /// The answer has been given to its end.
    pub(crate) fn complete(&mut self) {
        if self.outcome == Outcome::Cut {
            self.outcome = Outcome::Ok;
        }
    }

    /// The service has not answered, or not to the end.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.outcome = Outcome::Failed(failure);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.start.elapsed();
        match &self.context {
            Some(context) => {
                context.metrics.answered(self.status, duration);
                if let Outcome::Failed(failure) = self.outcome {
                    context.metrics.failed(failure);
                }
            }
            None if self.outcome == Outcome::Failed(Failure::Request) => {
                self.shared.metrics.unrouted();
            }
            None => {}
        }
        let Some(asked) = &self.asked else {
            return;
        };
        let (bytes_in, bytes_out) = self.traffic;
        self.shared.access.write(&Line {
            kind: "request",
            proxy: self.context.as_deref().map(Served::by),
            source: &self.user.to_string(),
            bytes_in,
            bytes_out,
            duration_ms: millis(duration),
            outcome: self.outcome.name(),
            http: Some(Http {
                asked,
                status: self.status,
            }),
        });
    }
}

/// A client that wants to log in. The audit log is told how that ended.
pub(crate) struct LoginAttempt<'a> {
    metrics: &'a metrics::Metrics,
    audit: &'a Sink,
    line: Option<Box<LoginLine>>,
}

#[derive(Serialize)]
struct LoginLine {
    event: &'static str,
    source: String,
    user: String,
    client_id: String,
    run_id: String,
    version: String,
    hostname: String,
    wire: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl<'a> LoginAttempt<'a> {
    /// What it says of itself is kept if there is an audit log.
    pub(crate) fn new(shared: &'a Shared, origin: Origin, version: Version, login: &Login) -> Self {
        let line = || {
            Box::new(LoginLine {
                event: "login",
                source: origin.peer().to_string(),
                user: login.user.clone(),
                client_id: login.client_id.clone(),
                run_id: login.run_id.clone(),
                version: login.version.clone(),
                hostname: login.hostname.clone(),
                wire: version.name(),
                outcome: "",
                error: String::new(),
            })
        };
        Self {
            metrics: &shared.metrics,
            audit: &shared.audit,
            line: shared.audit.is_on().then(line),
        }
    }

    /// It is let in.
    pub(crate) fn accepted(self, login: &Login, run_id: &str) {
        self.metrics.login(LoginOutcome::accepted(login));
        if let Some(mut line) = self.line {
            run_id.clone_into(&mut line.run_id);
            line.outcome = "accepted";
            self.audit.write(&line);
        }
    }

    /// It is not.
    pub(crate) fn refused(self, error: &str) {
        self.metrics.login(LoginOutcome::Refused);
        if let Some(mut line) = self.line {
            line.outcome = "refused";
            error.clone_into(&mut line.error);
            self.audit.write(&line);
        }
    }
}

/// A proxy that was pushed to a client, or why not.
pub(crate) fn push(
    shared: &Shared,
    session: &Handle,
    client: &str,
    proxy: &pushed::Proxy,
    error: Option<&str>,
) {
    #[derive(Serialize)]
    struct Push<'a> {
        event: &'static str,
        client: &'a str,
        run_id: &'a str,
        name: &'a str,
        #[serde(rename = "type")]
        type_: &'a str,
        target: String,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    if shared.audit.is_on() {
        shared.audit.write(&Push {
            event: "push",
            client,
            run_id: &session.run_id,
            name: &proxy.name,
            type_: &proxy.kind,
            target: proxy.target(),
            outcome: if error.is_none() {
                "accepted"
            } else {
                "refused"
            },
            error,
        });
    }
}

/// A session that has ended.
pub(crate) fn logout(shared: &Shared, user: &str, run_id: &str, peer: SocketAddr) {
    #[derive(Serialize)]
    struct Logout<'a> {
        event: &'static str,
        source: String,
        user: &'a str,
        run_id: &'a str,
    }
    if shared.audit.is_on() {
        shared.audit.write(&Logout {
            event: "logout",
            source: peer.to_string(),
            user,
            run_id,
        });
    }
}
