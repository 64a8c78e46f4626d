//! The server over sockets: what a client sees to the byte.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_admin::{Access, ApiError, Request, Response, Route, Router, Server, WebServer};
use frp_proto::tls::{ClientTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

struct Running {
    addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

async fn start(access: Access, tls: Option<TlsFiles>, routes: Vec<Route>) -> Running {
    let settings = WebServer {
        addr: "127.0.0.1".into(),
        port: 0,
        access,
        tls,
        pprof: false,
    };
    let server = Server::bind(&settings).await.unwrap();
    let stop = CancellationToken::new();
    Running {
        addr: server.local_addr().unwrap(),
        task: tokio::spawn(server.serve(Router::new(routes), stop.clone())),
        stop,
    }
}

/// Sends a request and reads to the end of the connection; the `Date` line is left out.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let lines = answer.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

async fn connect(server: &Running) -> TcpStream {
    TcpStream::connect(server.addr).await.unwrap()
}

async fn hello(_: Request) -> Result<Response, ApiError> {
    Ok(Response::json("hello"))
}

#[tokio::test]
async fn wrong_credentials_get_the_sample_of_the_specification() {
    let routes = vec![Route::get("/api/hello", hello)];
    let server = start(Access::new("u", "p"), None, routes).await;
    let start = Instant::now();
    let request = "GET /api/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let refused = ask(connect(&server).await, request).await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Connection: close",
            "Content-Length: 13",
            "Content-Type: text/plain; charset=utf-8",
            "HTTP/1.1 401 Unauthorized",
            "Www-Authenticate: Basic realm=\"Restricted\"",
            "X-Content-Type-Options: nosniff",
        ]
    );
    assert_eq!(body, "Unauthorized\n");
    let request = "GET /api/hello HTTP/1.0\r\nAuthorization: Basic dTpw\r\n\r\n";
    let answer = ask(connect(&server).await, request).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n\"hello\"\n"), "{answer}");
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let routes = vec![Route::get("/", hello)];
    let server = start(Access::new("", ""), None, routes).await;
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = ask(connect(&server).await, request).await;
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK\r\n").count(),
        2,
        "{answers}"
    );
}

#[tokio::test]
async fn a_stop_waits_for_the_response_that_is_under_way() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gates = (entered.clone(), leave.clone());
    let slow = move |request| {
        let (entered, leave) = gates.clone();
        async move {
            entered.notify_one();
            leave.notified().await;
            hello(request).await
        }
    };
    let server = start(Access::new("", ""), None, vec![Route::get("/", slow)]).await;
    let idle = connect(&server).await;
    let asked = tokio::spawn(ask(
        connect(&server).await,
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ));
    entered.notified().await;
    server.stop.cancel();
    leave.notify_one();
    assert!(asked.await.unwrap().ends_with("\"hello\"\n"));
    tokio::time::timeout(LIMIT, server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_ends() {
    let server = start(Access::new("", ""), None, vec![Route::get("/", hello)]).await;
    let start = tokio::time::Instant::now();
    let mut stream = connect(&server).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
    assert!(start.elapsed() >= Duration::from_mins(1));
    // Nor may one wait between requests.
    let mut stream = connect(&server).await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"\"hello\"\n"));
    assert!(start.elapsed() >= Duration::from_mins(2));
}

fn certificate(dir: &Path) -> TlsFiles {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        cert_file: dir.join("cert.pem"),
        key_file: dir.join("key.pem"),
        ..TlsFiles::default()
    };
    std::fs::write(&files.cert_file, cert.pem()).unwrap();
    std::fs::write(&files.key_file, signing_key.serialize_pem()).unwrap();
    files
}

#[tokio::test]
async fn tls_answers_tls_and_tells_others_so() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Some(certificate(dir.path()));
    let server = start(Access::new("", ""), tls, vec![Route::get("/", hello)]).await;
    let request = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(
        ask(connect(&server).await, request).await,
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    );
    let client = ClientTls::new(TlsFiles::default());
    let stream = client.connect(connect(&server).await, "localhost").await;
    let answer = ask(stream.unwrap(), request).await;
    assert!(answer.ends_with("\r\n\r\n\"hello\"\n"), "{answer}");
}

#[tokio::test]
async fn errors_of_binding_read_as_in_go() {
    let server = start(Access::new("", ""), None, Vec::new()).await;
    let mut settings = WebServer {
        addr: "127.0.0.1".into(),
        port: server.addr.port(),
        access: Access::new("", ""),
        tls: None,
        pprof: false,
    };
    let error = Server::bind(&settings).await.err().unwrap().to_string();
    #[cfg(unix)]
    assert_eq!(
        error,
        format!("listen tcp {}: bind: address already in use", server.addr)
    );
    settings.tls = Some(TlsFiles {
        cert_file: "no-such-file".into(),
        key_file: "no-such-file".into(),
        ..TlsFiles::default()
    });
    let error = Server::bind(&settings).await.err().unwrap().to_string();
    assert!(error.starts_with("open no-such-file: "), "{error}");
}
