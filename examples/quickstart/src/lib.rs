//! A demo service, `frps` and `frpc` in one process: the smallest program that carries a tunnel.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use frp_proto::config::raw::client::ClientConfig;
use frp_proto::config::raw::server::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Any error of the demo.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const BODY: &str = "Hello from behind the tunnel.\n";
/// How long the first request may take, login included.
const START_LIMIT: Duration = Duration::from_secs(15);

/// What runs.
pub struct Demo {
    /// What a request through the tunnel answered.
    pub reply: String,
    stop: CancellationToken,
    frps: JoinHandle<()>,
    frpc: JoinHandle<std::result::Result<(), frpc_rs::Error>>,
}

impl Demo {
    /// Starts both programs, and a service for the tunnel's far end, and waits until a request to `public` is answered.
    pub async fn start(
        server: &ServerConfig,
        client: ClientConfig,
        service: TcpListener,
        public: SocketAddr,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let token = |token: &str| token.into();
        let settings = frps_rs::Settings::new(server)?;
        let server_token = token(&server.auth.token);
        let frps = frps_rs::Server::bind(settings, server_token, stop.clone()).await?;
        let frps = tokio::spawn(frps.serve());
        tokio::spawn(demo_service(service));
        let client_token = token(&client.auth.token);
        let mut frpc = tokio::spawn(frpc_rs::run(
            client,
            client_token,
            frpc_rs::Resources::default(),
            stop.clone(),
        ));
        let reply = tokio::select! {
            reply = tokio::time::timeout(START_LIMIT, first_reply(public)) => {
                reply.map_err(|_| "no answer through the tunnel")?
            }
            ended = &mut frpc => {
                ended??;
                return Err("frpc ended".into());
            }
        };
        Ok(Self {
            reply,
            stop,
            frps,
            frpc,
        })
    }

    /// Ends both programs in order.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.frpc.await??;
        Ok(self.frps.await?)
    }
}

/// Answers every connection with one small HTTP response.
async fn demo_service(listener: TcpListener) {
    while let Ok((mut user, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 1024];
            // A user that leaves early needs no answer.
            if user.read(&mut request).await.is_ok_and(|n| n > 0) {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    BODY.len()
                );
                let _ = user.write_all((head + BODY).as_bytes()).await;
                let _ = user.shutdown().await;
            }
        });
    }
}

/// Asks until the tunnel is up; gives the body of the answer.
async fn first_reply(addr: SocketAddr) -> String {
    loop {
        if let Ok(Some(body)) = ask(addr).await {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ask(addr: SocketAddr) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.trim_end().to_owned()))
}
