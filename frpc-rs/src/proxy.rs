//! What a proxy is: its announcement to the server, and where its users' connections go.

pub(crate) mod agent;
mod announcement;
mod health;
mod local;
pub(crate) mod manager;
pub(crate) mod state;
pub(crate) mod status;
mod stream;
mod udp;
mod verdict;
mod xtcp;

use std::sync::{Arc, OnceLock};

use frp_proto::config;
use frp_proto::config::raw::client::{ProxyBase, ProxyConfig, ProxyKind};
use frp_proto::msg::{NewProxy, StartWorkConn};
use frp_proto::net::Conn;
use frp_proto::net::limit::Limiter;
use frp_proto::tls::TlsError;

use crate::nathole::Exchanges;
use crate::records::Connection;
use crate::{Error, Shared, metrics};

/// A configured proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Name in the configuration, without the user prefix.
    pub(crate) name: String,
    /// What the server is told; holds the name on the wire.
    pub(crate) announcement: Box<NewProxy>,
    /// What all of this was made from, defaults filled in.
    pub(crate) config: ProxyConfig,
    /// How to find out whether the local service is healthy; `None` = it always counts as that.
    pub(crate) check: Option<Arc<health::Check>>,
    /// Who says how busy the local service is.
    agent: Option<Arc<agent::Agent>>,
    backend: Backend,
    /// Of all its connections together, if that is this side's affair.
    limiter: Option<Limiter>,
    /// Looked up when the first user comes.
    metrics: OnceLock<Arc<metrics::Proxy>>,
}

/// Where the users of a proxy are served.
#[derive(Debug)]
enum Backend {
    /// A byte stream a user: `tcp`, `http`, `https`, `tcpmux`, `stcp`.
    Stream(stream::Backend),
    /// Datagrams: `udp`, `sudp`.
    Udp(udp::Backend),
    /// Visitors who come through a hole: `xtcp`.
    Xtcp(Arc<xtcp::Backend>),
}

impl Proxy {
    /// Checks a loaded proxy. What this build cannot do is refused by name, never ignored.
    pub(crate) fn new(user: &str, c: &ProxyConfig) -> Result<Self, Error> {
        let base = &c.base;
        let backend = match &c.kind {
            ProxyKind::Tcp { .. }
            | ProxyKind::Http(_)
            | ProxyKind::Https(_)
            | ProxyKind::Tcpmux(_)
            | ProxyKind::Stcp(_) => Backend::Stream(stream::Backend::new(base)?),
            ProxyKind::Udp { .. } => Backend::Udp(udp::Backend::udp(base)?),
            ProxyKind::Sudp(_) => Backend::Udp(udp::Backend::sudp(base)?),
            ProxyKind::Xtcp(c) => Backend::Xtcp(Arc::new(xtcp::Backend::new(base, c)?)),
        };
        let agent = agent::Agent::new(base).map(Arc::new);
        let mut announcement = announcement::announcement(user, c);
        announcement.agent = agent.is_some();
        Ok(Self {
            name: base.name.clone(),
            announcement: Box::new(announcement),
            config: c.clone(),
            check: health::Check::new(base).map(Arc::new),
            agent,
            backend,
            limiter: limiter(base)?,
            metrics: OnceLock::new(),
        })
    }

    /// What has to be there before users come, looked at each time the server takes the proxy.
    pub(crate) fn prepare(&self) -> Result<(), TlsError> {
        match &self.backend {
            Backend::Stream(backend) => backend.prepare(),
            Backend::Udp(_) => Ok(()),
            Backend::Xtcp(backend) => backend.prepare(),
        }
    }

    /// The proxy is no more. Its users stay, as far as they are somebody.
    pub(crate) fn close(&self) {
        match &self.backend {
            Backend::Stream(backend) => backend.close(),
            Backend::Udp(_) => {}
            Backend::Xtcp(backend) => backend.close(),
        }
    }

    /// Serves one user over a work connection, until both sides have ended; or all users of a visitor for whom the work connection
    /// asks.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        run_id: &Arc<str>,
        exchanges: &Exchanges,
        work: Conn,
        start: &StartWorkConn,
    ) {
        let layered = |work: Conn| {
            let announcement = &self.announcement;
            let key = announcement.use_encryption.then_some(&shared.payload_key);
            let work = work.limited(self.limiter.as_ref());
            work.layered(key, announcement.use_compression)
        };
        match &self.backend {
            Backend::Stream(backend) => {
                let mut record = self.record(shared, run_id, start);
                let work = layered(work);
                let network = shared.network.get().map(|n| &**n);
                let served = backend.serve(network, run_id, &self.name, work, start, &mut record);
                served.await;
            }
            Backend::Udp(backend) => {
                let _record = self.record(shared, run_id, start);
                Box::pin(backend.serve(shared, run_id, &self.name, layered(work))).await;
            }
            Backend::Xtcp(backend) => {
                let serve = xtcp::serve(self, backend, shared, run_id, exchanges, work);
                Box::pin(serve).await;
            }
        }
    }

    /// For a user who has come.
    fn record<'a>(
        &'a self,
        shared: &'a Shared,
        run_id: &'a str,
        start: &'a StartWorkConn,
    ) -> Connection<'a> {
        let kind = &self.config.base.type_;
        let metrics = self
            .metrics
            .get_or_init(|| shared.metrics.proxy(&self.name, kind));
        let whose = (metrics.clone(), self.name.as_str(), kind.as_str());
        Connection::new(&shared.access, run_id, whose, start)
    }
}

/// The limit in mode `client`; in mode `server` it is the server's affair.
fn limiter(base: &ProxyBase) -> Result<Option<Limiter>, Error> {
    let transport = &base.transport;
    if transport.bandwidth_limit_mode == "server" {
        return Ok(None);
    }
    let rate = config::bandwidth(&transport.bandwidth_limit).map_err(|e| {
        Error(format!(
            "proxy [{}]: transport.bandwidthLimit: {e}",
            base.name
        ))
    })?;
    Ok(rate.map(Limiter::new))
}

/// A proxy's name on the wire.
pub(crate) fn wire_name(user: &str, name: &str) -> String {
    if user.is_empty() {
        name.into()
    } else {
        format!("{user}.{name}")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A `tcp` proxy to a local port.
    pub(crate) fn config(name: &str, local_port: u16) -> ProxyConfig {
        ProxyConfig {
            base: ProxyBase {
                name: name.into(),
                type_: "tcp".into(),
                local_ip: "127.0.0.1".into(),
                local_port: local_port.into(),
                ..ProxyBase::default()
            },
            kind: ProxyKind::Tcp { remote_port: 0 },
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refusal = |change: fn(&mut ProxyConfig)| {
            let mut c = config("web", 80);
            change(&mut c);
            Proxy::new("", &c).unwrap_err().to_string()
        };
        let limit = refusal(|c| c.base.transport.bandwidth_limit = "1GB".into());
        assert!(limit.contains("bandwidthLimit"));
        let port = refusal(|c| c.base.local_port = 70_000);
        assert!(port.contains("localPort"));
        let version = refusal(|c| c.base.transport.proxy_protocol_version = "v3".into());
        assert!(version.contains("proxyProtocolVersion"));
    }
}
