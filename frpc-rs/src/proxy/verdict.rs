//! What a server that balances is told of the dial of the local service (balancing.md §4.1): one byte ahead of the payload.

use std::time::Duration;

use frp_proto::msg::Verdict;
use frp_proto::net::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// For the server to hear a verdict, and to close.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a user that the server may have sent on already.
const MAX_SENT: usize = 1024 * 1024;

/// Tells the verdict, and gives the connection back if that worked.
pub(super) async fn tell(mut work: Conn, verdict: Verdict) -> Option<Conn> {
    let said = async {
        work.write_all(&[verdict.byte()]).await?;
        work.flush().await
    };
    timeout(LIMIT, said).await.ok()?.ok()?;
    Some(work)
}

/// Tells that the service was not reached, and closes once the server has. What the user has sent is read until then: a
/// connection that is closed with bytes unread may take the verdict along.
pub(super) async fn refuse(work: Conn) {
    let Some(mut work) = tell(work, Verdict::Refused).await else {
        return;
    };
    let ignored = async {
        work.shutdown().await?;
        let (mut buf, mut read) = (vec![0; 4096], 0);
        while read < MAX_SENT {
            match work.read(&mut buf).await? {
                0 => break,
                n => read += n,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whatever happens, the connection is done with.
    let _ = timeout(LIMIT, ignored).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn the_server_hears_it_whatever_it_has_sent() {
        let (near, mut server) = duplex(16);
        let refused = tokio::spawn(refuse(Conn::Other(Box::new(near))));
        server.write_all(&[7; 100]).await.unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [Verdict::Refused.byte()]);
        drop(server);
        refused.await.unwrap();
    }
}
