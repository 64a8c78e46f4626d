//! `tls2raw`: TLS in, plain TCP out (client.md §14.6).

use frp_proto::config::raw::client::Tls2RawPlugin;
use frp_proto::net::Conn;
use frp_proto::tls::{SiteTls, TlsError, TlsFiles};
use tokio::time::timeout;

use super::{HANDSHAKE_LIMIT, User, join, target};
use crate::proxy_protocol;

pub(super) struct Tls2Raw {
    address: String,
    tls: SiteTls,
}

impl std::fmt::Debug for Tls2Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls2Raw")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Tls2Raw {
    pub(super) fn new(c: &Tls2RawPlugin) -> Self {
        let files = TlsFiles {
            cert_file: c.crt_path.clone().into(),
            key_file: c.key_path.clone().into(),
            ..TlsFiles::default()
        };
        Self {
            address: c.local_addr.clone(),
            tls: SiteTls::new(files, &[]),
        }
    }

    pub(super) fn prepare(&self) -> Result<(), TlsError> {
        self.tls.load()
    }

    pub(super) async fn serve(&self, user: User<'_>, work: Conn) {
        let (run_id, proxy) = (user.run_id, user.proxy);
        let work = match timeout(HANDSHAKE_LIMIT, self.tls.accept(work)).await {
            Ok(Ok(work)) => work,
            Ok(Err(e)) => {
                tracing::warn!(run_id = %run_id, proxy = %proxy, "tls handshake error: {e}");
                return;
            }
            Err(_) => {
                tracing::warn!(run_id = %run_id, proxy = %proxy, "tls handshake error: i/o timeout");
                return;
            }
        };
        let mut local = match target::connect(&self.address).await {
            Ok(local) => local,
            Err(e) => {
                tracing::warn!(run_id = %run_id, proxy = %proxy, "dial to local addr error: {e}");
                return;
            }
        };
        let introduced = proxy_protocol::introduce(user.proxy_protocol, &mut local, user.start);
        if let Err(e) = introduced.await {
            tracing::warn!(run_id = %run_id, proxy = %proxy, "tls2raw write proxy protocol header to local conn error: {e}");
            return;
        }
        join(Conn::Other(Box::new(work)), Conn::Tcp(local)).await;
    }
}
