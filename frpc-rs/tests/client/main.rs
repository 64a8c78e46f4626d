//! frpc against a hand-made server, where every message is the test's own, and against frps in this process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;
mod hand_made;
mod pair;

use std::net::SocketAddr;
use std::time::Duration;

use frp_proto::config::raw::client::{ClientConfig, ProxyBase, ProxyConfig, ProxyKind};
use frpc_rs::{Error, Resources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "secret";
/// Far more than anything here takes; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for what must happen.
async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("in time")
}

/// A client of this process. Dropping it stops it.
struct Frpc {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Drop for Frpc {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Frpc {
    /// How it ended by itself.
    async fn end(&mut self) -> Result<(), String> {
        let ended = within(&mut self.task).await;
        ended.unwrap().map_err(|e| e.to_string())
    }

    /// Stops it in order.
    async fn stop(mut self) {
        self.stop.cancel();
        self.end().await.unwrap();
    }
}

/// Starts a client, by default with neither TLS nor mux.
fn frpc(server: SocketAddr, edit: impl FnOnce(&mut ClientConfig)) -> Frpc {
    let mut config = ClientConfig {
        server_addr: server.ip().to_string(),
        server_port: server.port().into(),
        ..ClientConfig::default()
    };
    config.transport.tcp_mux = Some(false);
    config.transport.tls.enable = Some(false);
    config.transport.pool_count = 1;
    edit(&mut config);
    let stop = CancellationToken::new();
    let task = tokio::spawn(frpc_rs::run(
        config,
        TOKEN.into(),
        Resources::default(),
        stop.clone(),
    ));
    Frpc { stop, task }
}

/// A `tcp` proxy to a service of this machine.
fn proxy(name: &str, service: SocketAddr) -> ProxyConfig {
    ProxyConfig {
        base: ProxyBase {
            name: name.into(),
            type_: "tcp".into(),
            local_ip: service.ip().to_string(),
            local_port: service.port().into(),
            ..ProxyBase::default()
        },
        kind: ProxyKind::Tcp { remote_port: 0 },
    }
}

/// A service that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut user, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = user.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

/// Whether `len` bytes come back whole, the last of them after the user has said that there are no more.
async fn echoes(mut user: TcpStream, len: usize) -> bool {
    let sent: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
    let (mut read, mut write) = user.split();
    let request = async {
        write.write_all(&sent).await?;
        write.shutdown().await
    };
    let mut got = Vec::new();
    let (sending, receiving) =
        within(async { tokio::join!(request, read.read_to_end(&mut got)) }).await;
    sending.is_ok() && receiving.is_ok() && got == sent
}
