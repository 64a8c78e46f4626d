//! `unix_domain_socket`: a Unix socket as the local service (client.md §14.4).

use std::path::PathBuf;

use frp_proto::config::raw::client::UnixDomainSocketPlugin;
use frp_proto::net::Conn;
use frp_proto::text::system_error;
use tokio::net::UnixStream;

use super::{User, join};
use crate::proxy_protocol;

#[derive(Debug)]
pub(super) struct UnixDomainSocket {
    path: PathBuf,
}

impl UnixDomainSocket {
    pub(super) fn new(c: &UnixDomainSocketPlugin) -> Self {
        Self {
            path: c.unix_path.clone().into(),
        }
    }

    pub(super) async fn serve(&self, user: User<'_>, work: Conn) {
        let (run_id, proxy) = (user.run_id, user.proxy);
        let mut local = match UnixStream::connect(&self.path).await {
            Ok(local) => local,
            Err(e) => {
                let (path, e) = (self.path.display(), system_error(&e));
                tracing::warn!(
                    run_id = %run_id, proxy = %proxy,
                    "dial to uds {path} error: dial unix {path}: connect: {e}"
                );
                return;
            }
        };
        let introduced = proxy_protocol::introduce(user.proxy_protocol, &mut local, user.start);
        if let Err(e) = introduced.await {
            tracing::error!(run_id = %run_id, proxy = %proxy, "write proxy protocol header to local conn error: {e}");
            return;
        }
        join(work, Conn::Other(Box::new(local))).await;
    }
}
