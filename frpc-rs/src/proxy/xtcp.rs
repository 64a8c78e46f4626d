//! The client side of `xtcp` proxies (client.md §12): a work connection brings the id of a visitor that wants to make a hole; its
//! users come through that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use frp_proto::auth::Secret;
use frp_proto::config::raw::client::{ProxyBase, XtcpProxy};
use frp_proto::crypto;
use frp_proto::msg::{Message, NatHoleClient, StartWorkConn, io};
use frp_proto::nathole::punch::Hole;
use frp_proto::net::Conn;
use frp_proto::tls::TlsError;
use tokio::time::timeout;

use super::{Proxy, stream};
use crate::nathole::tunnel::{Acceptor, Options, Protocol};
use crate::nathole::{self, Exchanges, Name};
use crate::{Error, Shared};

/// For the id.
const ID_LIMIT: Duration = Duration::from_secs(10);

/// Where the users of an `xtcp` proxy go, and what they have to know.
pub(super) struct Backend {
    service: stream::Backend,
    secret: Secret,
    /// AES key of users with `useEncryption`.
    key: [u8; 16],
    /// Visitors may try the addresses of this host's interfaces.
    assisted: bool,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Backend {
    pub(super) fn new(base: &ProxyBase, c: &XtcpProxy) -> Result<Self, Error> {
        let traversal = c.nat_traversal.as_ref();
        Ok(Self {
            service: stream::Backend::new(base)?,
            secret: c.secret_key.as_str().into(),
            key: crypto::derive_key(c.secret_key.as_bytes()),
            assisted: !traversal.is_some_and(|t| t.disable_assisted_addrs),
        })
    }

    /// As [`Proxy::prepare`].
    pub(super) fn prepare(&self) -> Result<(), TlsError> {
        self.service.prepare()
    }

    /// As [`Proxy::close`].
    pub(super) fn close(&self) {
        self.service.close();
    }

    /// Serves one user who came through a tunnel.
    async fn serve(&self, proxy: &Proxy, shared: &Shared, run_id: &str, user: Conn) {
        let announcement = &proxy.announcement;
        let key = announcement.use_encryption.then_some(&self.key);
        let user = user
            .limited(proxy.limiter.as_ref())
            .layered(key, announcement.use_compression);
        // Nobody knows who the user is.
        let start = StartWorkConn::default();
        let mut record = proxy.record(shared, run_id, &start);
        let (service, network) = (&self.service, shared.network.get().map(|n| &**n));
        let serve = service.serve(network, run_id, &proxy.name, user, &start, &mut record);
        serve.await;
    }
}

/// Makes a hole for the visitor that a work connection announces, and serves its users until the tunnel ends.
pub(super) async fn serve(
    proxy: &Arc<Proxy>,
    backend: &Arc<Backend>,
    shared: &Arc<Shared>,
    run_id: &Arc<str>,
    exchanges: &Exchanges,
    work: Conn,
) {
    let name = Name {
        run_id,
        proxy: &proxy.name,
    };
    let Some(place) = exchanges.place() else {
        tracing::warn!(run_id = %run_id, proxy = %name.proxy, "too many nat holes are being made, request ignored");
        return;
    };
    let wire_name = &proxy.announcement.proxy_name;
    let (hole, protocol) =
        match Box::pin(hole(backend, name, wire_name, shared, exchanges, work)).await {
            Ok(made) => made,
            Err(e) => return tracing::warn!(run_id = %run_id, proxy = %name.proxy, "{e}"),
        };
    drop(place);
    let options = Options {
        protocol,
        quic: &shared.settings.hole_quic,
        tasks: &shared.tasks,
    };
    let mut tunnel = match Box::pin(Acceptor::new(hole, &options)).await {
        Ok(tunnel) => tunnel,
        Err(e) => {
            tracing::warn!(run_id = %run_id, proxy = %name.proxy, "listen {} error: {e}", protocol.name());
            return;
        }
    };
    loop {
        let user = match tunnel.accept().await {
            Ok(user) => user,
            Err(e) => return tracing::debug!(run_id = %run_id, proxy = %name.proxy, "{e}"),
        };
        let (backend, proxy, run_id) = (backend.clone(), proxy.clone(), run_id.clone());
        let of_user = shared.clone();
        shared.tasks.spawn(async move {
            let serve = Box::pin(backend.serve(&proxy, &of_user, &run_id, user));
            of_user.stop.run_until_cancelled(serve).await;
        });
    }
}

/// The way to the visitor, and what to send there. The error is the text of the log.
async fn hole(
    backend: &Backend,
    name: Name<'_>,
    wire_name: &str,
    shared: &Shared,
    exchanges: &Exchanges,
    mut work: Conn,
) -> Result<(Hole, Protocol), String> {
    let settings = &shared.settings;
    let id = timeout(ID_LIMIT, io::read_message(&mut work, settings.wire_version));
    let sid = match id.await {
        Ok(Ok(message)) => nathole::announced(message),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("i/o timeout".into()),
    };
    let sid = sid.map_err(|e| format!("xtcp read from workConn error: {e}"))?;
    drop(work);
    let stun_server = &settings.nat_hole_stun_server;
    let prepared = nathole::prepare(name, stun_server, backend.assisted).await?;
    let question = |transaction_id| {
        Message::NatHoleClient(NatHoleClient {
            transaction_id,
            proxy_name: wire_name.to_owned(),
            sid: sid.clone(),
            mapped_addrs: prepared.mapped.clone(),
            assisted_addrs: prepared.assisted.clone(),
        })
    };
    let resp = exchanges.ask(question).await;
    let resp = resp.map_err(|e| format!("nathole exchange info error: {e}"))?;
    let hole = nathole::make_hole(name, prepared, &backend.secret, &resp).await;
    exchanges.report(&resp.sid, hole.is_ok());
    Ok((hole?, Protocol::from_name(&resp.protocol)))
}
