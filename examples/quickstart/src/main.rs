//! A demo service, `frps` and `frpc` on loopback with one command: proves the tunnel with a request, says what to try
//! next, and runs until Ctrl-C. The two configuration files beside this crate are the ones to copy.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use frp_proto::config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const BODY: &str = "Hello from behind the tunnel.\n";
/// How long the first request may take, login included.
const START_LIMIT: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stop = CancellationToken::new();
    let (frps_file, frpc_file) = (dir.join("frps.toml"), dir.join("frpc.toml"));
    let server = config::load_server(&frps_file, true, &BTreeMap::new())?.config;
    let client = config::load_client(&frpc_file, true, &BTreeMap::new())?.config;
    let (server_token, client_token) = (
        server.auth.token.as_str().into(),
        client.auth.token.as_str().into(),
    );

    let service = TcpListener::bind("127.0.0.1:18080")
        .await
        .map_err(|e| format!("demo service on port 18080: {e}"))?;
    tokio::spawn(demo_service(service));
    let mut frps = tokio::spawn(frps_rs::run(server, server_token, stop.clone()));
    let mut frpc = tokio::spawn(frpc_rs::run(client, client_token, stop.clone()));

    let reply = tokio::select! {
        reply = tokio::time::timeout(START_LIMIT, first_reply("127.0.0.1:16000")) => reply.map_err(|_| "no answer through the tunnel")?,
        ended = &mut frps => return Err(format!("frps ended: {ended:?}").into()),
        ended = &mut frpc => return Err(format!("frpc ended: {ended:?}").into()),
    };
    println!("Through the tunnel, GET http://127.0.0.1:16000/ answered: {reply}");
    println!("  demo service  127.0.0.1:18080   (what you would keep at home)");
    println!("  frps          127.0.0.1:17000   {}", shown(&frps_file));
    println!("  frpc          demo -> :16000    {}", shown(&frpc_file));
    println!("Try next:  curl http://127.0.0.1:16000/");
    println!(
        "           copy the two files, put your server's address into frpc.toml, run frps and frpc with -c"
    );
    println!("Ctrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    frpc.await??;
    frps.await??;
    Ok(())
}

/// The file as seen from where the user stands, if that is shorter.
fn shown(file: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::new());
    file.strip_prefix(here)
        .unwrap_or(file)
        .display()
        .to_string()
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
async fn first_reply(addr: &str) -> String {
    loop {
        if let Ok(Some(body)) = ask(addr).await {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ask(addr: &str) -> std::io::Result<Option<String>> {
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
