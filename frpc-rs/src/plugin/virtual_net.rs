//! `virtual_net`: a user is a tunnel of the virtual network.

use frp_proto::net::Conn;
use tokio_util::sync::CancellationToken;

use super::User;
use crate::vnet::Role;

#[derive(Debug, Default)]
pub(super) struct VirtualNet {
    closed: CancellationToken,
}

impl VirtualNet {
    /// Ends all tunnels: they belong to the proxy, not to a user who would miss them.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) async fn serve(&self, user: User<'_>, work: Conn) {
        let (run_id, proxy) = (user.run_id, user.proxy);
        let Some(network) = user.network else {
            tracing::warn!(run_id = %run_id, proxy = %proxy, "no virtualNet.address, connection closed");
            return;
        };
        let tunnel = network.attach(Role::Proxy);
        // Others have no packet to hold.
        let carry = Box::pin(tunnel.carry(work));
        let ended = self.closed.run_until_cancelled(carry).await;
        if let Some(Err(e)) = ended {
            tracing::warn!(run_id = %run_id, proxy = %proxy, "server read error: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::user;
    use super::*;
    use crate::vnet::Controller;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    fn work() -> (Conn, DuplexStream) {
        let (near, far) = duplex(64);
        (Conn::Other(Box::new(near)), far)
    }

    #[tokio::test]
    async fn without_a_network_the_connection_is_closed() {
        let (near, mut far) = work();
        VirtualNet::default().serve(user(), near).await;
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn tunnels_end_with_the_proxy() {
        let (near, mut far) = work();
        let network = Controller::for_test();
        let user = User {
            network: Some(&network),
            ..user()
        };
        let plugin = VirtualNet::default();
        let close = async { plugin.close() };
        tokio::join!(biased; plugin.serve(user, near), close);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }
}
