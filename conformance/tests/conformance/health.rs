//! Health checks: a proxy is there only while its service is healthy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use conformance::managed::{Managed, tcp};
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const EVERY_SECOND: &str = "healthCheck.intervalSeconds = 1\nhealthCheck.timeoutSeconds = 1";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("health/tcp", tcp_check),
        Case::pair("health/http", http_check),
        Case::pair("health/hanging", hanging),
    ]
}

fn user(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn closed(port: u16) -> Outcome {
    until("the proxy's port is closed", LIMIT, async || {
        TcpStream::connect(user(port)).await.err().map(|_| ())
    })
    .await
}

async fn served(port: u16) -> Outcome {
    until("the proxy serves", LIMIT, async || {
        service::echo(user(port), 100).await.ok()
    })
    .await
}

async fn tcp_check(lab: &Lab) -> Outcome {
    let (local, remote) = (ports::free(), ports::free());
    let more = format!("healthCheck.type = \"tcp\"\n{EVERY_SECOND}");
    let mut managed = Managed::start(lab, &tcp("web", local, remote, &more)).await?;
    let refused = format!(
        "do one health check failed: dial tcp 127.0.0.1:{local}: connect: connection refused"
    );
    managed.frpc.logs_times(&refused, 2).await?;
    managed.shows(&["\"status\":\"new\""]).await?;
    assert!(!managed.frps.log().contains("[web]"));

    for round in 1..=2 {
        let service = EchoService::start(local).await?;
        served(remote).await?;
        managed.shows(&["\"status\":\"running\""]).await?;
        for line in [
            "health check status change to success",
            "health check success",
        ] {
            managed.frpc.logs_times(line, round).await?;
        }
        drop(service);
        managed.shows(&["\"status\":\"check failed\""]).await?;
        for line in [
            "health check status change to failed",
            "health check failed",
        ] {
            managed.frpc.logs_times(line, round).await?;
        }
        closed(remote).await?;
    }
    Ok(())
}

/// An echo service on a port, as long as it lives.
struct EchoService(tokio::task::JoinHandle<()>);

impl EchoService {
    async fn start(port: u16) -> Outcome<Self> {
        let listener = until("the port can be bound", LIMIT, async || {
            TcpListener::bind(user(port)).await.ok()
        });
        let listener = listener.await?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut r, mut w) = stream.split();
                    let _ = tokio::io::copy(&mut r, &mut w).await;
                });
            }
        })))
    }
}

impl Drop for EchoService {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn http_check(lab: &Lab) -> Outcome {
    let status = Arc::new(AtomicU16::new(503));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let local = listener.local_addr()?.port();
    let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (answered, asked) = (status.clone(), requests.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http(stream, answered.clone(), asked.clone()));
        }
    });
    let remote = ports::free();
    let more = format!(
        "healthCheck.type = \"http\"\nhealthCheck.path = \"moved?x=1\"\nhealthCheck.httpHeaders = [{{ name = \"Host\", value = \"health.local\" }}, {{ name = \"x-a\", value = \"1\" }}, {{ name = \"X-A\", value = \"2\" }}]\n{EVERY_SECOND}"
    );
    let mut managed = Managed::start(lab, &tcp("web", local, remote, &more)).await?;
    let failed = "do one health check failed: do http health check, StatusCode is [503] not 2xx";
    managed.frpc.logs(failed).await?;
    closed(remote).await?;
    status.store(204, Ordering::Relaxed);
    managed.shows(&["\"status\":\"running\""]).await?;
    TcpStream::connect(user(remote)).await?;
    status.store(500, Ordering::Relaxed);
    managed.shows(&["\"status\":\"check failed\""]).await?;
    closed(remote).await?;

    let requests = requests
        .lock()
        .map_err(|_| conformance::Failure::new("poisoned"))?;
    let first: &String = &requests[0];
    assert_eq!(
        first,
        "GET /moved?x=1 HTTP/1.1\r\nHost: health.local\r\nUser-Agent: Go-http-client/1.1\r\nX-A: 2\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    assert!(requests[1].starts_with("GET /here HTTP/1.1\r\nHost: health.local\r\n"));
    Ok(())
}

/// `/moved` leads to `/here`, which has the status that is wanted.
async fn http(
    mut stream: TcpStream,
    status: Arc<AtomicU16>,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
) {
    let mut request = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        request.push(byte);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut request)).into_owned();
        let answer = if text.starts_with("GET /moved") {
            "HTTP/1.1 302 Found\r\nLocation: /here\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            let status = status.load(Ordering::Relaxed);
            format!("HTTP/1.1 {status} S\r\nContent-Length: 0\r\n\r\n")
                .replace("204 S\r\nContent-Length: 0\r\n", "204 S\r\n")
        };
        if let Ok(mut requests) = requests.lock() {
            requests.push(text);
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn hanging(lab: &Lab) -> Outcome {
    // It takes connections and says nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let local = listener.local_addr()?.port();
    let more = format!("healthCheck.type = \"http\"\nhealthCheck.path = \"/\"\n{EVERY_SECOND}");
    let other = ports::free();
    let proxies = tcp("web", local, ports::free(), &more) + &tcp("other", "ECHO", other, "");
    let mut managed = Managed::start(lab, &proxies).await?;
    let failed = format!(
        "do one health check failed: Get \"http://127.0.0.1:{local}/\": context deadline exceeded"
    );
    managed.frpc.logs_times(&failed, 2).await?;
    served(other).await?;
    managed
        .shows(&["\"status\":\"new\"", "\"status\":\"running\""])
        .await?;
    Ok(())
}
