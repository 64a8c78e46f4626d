//! What is told of what is over: a user's connection to the access log and the metrics, a login to the audit log.

use std::sync::Arc;
use std::time::Instant;

use frp_proto::msg::StartWorkConn;
use frp_proto::net::listen::join_host_port;
use frp_proto::telemetry::{Sink, millis};
use serde::Serialize;

use crate::metrics::{Failure, Proxy};

/// A user's connection; it is told of when the value is dropped.
pub(crate) struct Connection<'a> {
    access: &'a Sink,
    run_id: &'a str,
    metrics: Arc<Proxy>,
    name: &'a str,
    kind: &'a str,
    user: &'a StartWorkConn,
    began: Instant,
    /// To the service and back; not known of plugins and datagrams.
    traffic: Option<(u64, u64)>,
    failure: Option<Failure>,
}

/// A line of the access log. Its names are documented in `docs/observability.md`.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    proxy: &'a str,
    #[serde(rename = "type")]
    type_: &'a str,
    run_id: &'a str,
    source: String,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    duration_ms: f64,
    outcome: &'static str,
}

impl<'a> Connection<'a> {
    /// A user has come.
    pub(crate) fn new(
        access: &'a Sink,
        run_id: &'a str,
        (metrics, name, kind): (Arc<Proxy>, &'a str, &'a str),
        user: &'a StartWorkConn,
    ) -> Self {
        Self {
            access,
            run_id,
            metrics,
            name,
            kind,
            user,
            began: Instant::now(),
            traffic: None,
            failure: None,
        }
    }

    /// The local service has been reached, or not.
    pub(crate) fn dialled<T, E>(&mut self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.metrics.dialled(self.began.elapsed()),
            Err(_) => self.failure = Some(Failure::LocalDial),
        }
    }

    /// It has ended by this, if by anything; bytes passed to the service and back.
    pub(crate) fn ended(&mut self, traffic: (u64, u64), failure: Option<Failure>) {
        self.traffic = Some(traffic);
        self.failure = failure;
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let lifetime = self.began.elapsed();
        let traffic = self.traffic.unwrap_or_default();
        self.metrics.ended(lifetime, traffic, self.failure);
        if !self.access.is_on() {
            return;
        }
        let source = match self.user.src_addr.as_str() {
            "" => String::new(),
            address => join_host_port(address, self.user.src_port),
        };
        self.access.write(&Line {
            kind: "connection",
            proxy: self.name,
            type_: self.kind,
            run_id: self.run_id,
            source,
            bytes_in: self.traffic.map(|(n, _)| n),
            bytes_out: self.traffic.map(|(_, n)| n),
            duration_ms: millis(lifetime),
            outcome: self.failure.map_or("ok", Failure::name),
        });
    }
}

/// A proxy that the server has pushed.
#[derive(Serialize)]
pub(crate) struct Push<'a> {
    pub(crate) server: &'a str,
    pub(crate) name: &'a str,
    #[serde(rename = "type")]
    pub(crate) type_: &'a str,
    pub(crate) target: String,
}

impl Push<'_> {
    /// Tells of it: taken, or why not.
    pub(crate) fn tell(&self, audit: &Sink, error: Option<&String>) {
        #[derive(Serialize)]
        struct Line<'a> {
            event: &'static str,
            #[serde(flatten)]
            push: &'a Push<'a>,
            outcome: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a String>,
        }
        audit.write(&Line {
            event: "push",
            push: self,
            outcome: if error.is_none() {
                "accepted"
            } else {
                "refused"
            },
            error,
        });
    }
}

/// Tells of an attempt to log in: the run id, or why it failed.
pub(crate) fn login(audit: &Sink, server: &str, result: Result<&str, &str>) {
    #[derive(Serialize)]
    struct Line<'a> {
        event: &'static str,
        server: &'a str,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        run_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    audit.write(&Line {
        event: "login",
        server,
        outcome: if result.is_ok() { "accepted" } else { "failed" },
        run_id: result.ok(),
        error: result.err(),
    });
}
