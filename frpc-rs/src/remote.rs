//! `frpc reload`, `status` and `stop`: one request to the admin API of a client that runs (config-frpc.md §13.5).

mod table;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use frp_proto::config::raw::client::ClientConfig;
use frp_proto::config::raw::common::WebServerConfig;
use frp_proto::net::Conn;
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::net::listen::join_host_port;
use frp_proto::tls::{ClientTls, TlsFiles};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

/// Bytes of an answer: the status of a hundred thousand proxies.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Idle seconds before TCP keepalive probes.
const KEEPALIVE_SECS: i64 = 15;

/// What is asked of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// Read the file again.
    Reload {
        /// Unknown keys are errors.
        strict: bool,
    },
    /// Say where the proxies stand.
    Status,
    /// Stop.
    Stop,
}

impl Ask {
    fn request(self) -> (Method, &'static str) {
        match self {
            Self::Reload { strict: true } => (Method::GET, "/api/reload?strictConfig=true"),
            Self::Reload { strict: false } => (Method::GET, "/api/reload"),
            Self::Status => (Method::GET, "/api/status"),
            Self::Stop => (Method::POST, "/api/stop"),
        }
    }
}

/// Asks the client that was started with this configuration; gives what is to be printed.
pub(crate) async fn ask(
    config: &ClientConfig,
    ask: Ask,
    limit: Duration,
) -> Result<String, String> {
    let server = &config.web_server;
    let port = u16::try_from(server.port).ok().filter(|port| *port > 0);
    let port = port.ok_or("web server port should be set if you want to use this feature")?;
    let (method, path) = ask.request();
    let address = join_host_port(&server.addr, port);
    let scheme = if server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    // `Get "URL"`, as Go begins the error of a request.
    let verb = if method == Method::GET { "Get" } else { "Post" };
    let failed = |e: String| format!("{verb} \"{scheme}://{address}{path}\": {e}");

    let exchange = async {
        let request = Request::builder().method(method.clone()).uri(path);
        let mut request = request.header(HOST, &address);
        if !server.user.is_empty() || !server.password.is_empty() {
            let credentials = STANDARD.encode(format!("{}:{}", server.user, server.password));
            request = request.header(AUTHORIZATION, format!("Basic {credentials}"));
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        exchange(connect(server, port, limit).await?, request).await
    };
    let (status, body) = timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err("context deadline exceeded".into()))
        .map_err(failed)?;
    if status != StatusCode::OK {
        return Err(format!("api status code [{}]", status.as_u16()));
    }
    match ask {
        Ask::Reload { .. } => Ok("reload success".into()),
        Ask::Stop => Ok("stop success".into()),
        Ask::Status => table::status(&body),
    }
}

/// With `webServer.tls` the server is verified if `trustedCaFile` says by what.
async fn connect(server: &WebServerConfig, port: u16, limit: Duration) -> Result<Conn, String> {
    let options = DialOptions {
        host: server.addr.clone(),
        port,
        timeout: limit,
        keepalive_secs: KEEPALIVE_SECS,
        local_ip: None,
    };
    let stream = dial(&options).await.map_err(|e| e.to_string())?;
    let Some(tls) = &server.tls else {
        return Ok(Conn::Tcp(stream));
    };
    let client = ClientTls::new(TlsFiles {
        trusted_ca_file: tls.trusted_ca_file.clone().into(),
        ..TlsFiles::default()
    });
    let name = if tls.server_name.is_empty() {
        &server.addr
    } else {
        &tls.server_name
    };
    let stream = client.connect(stream, name).await;
    Ok(Conn::Other(Box::new(stream.map_err(|e| e.to_string())?)))
}

async fn exchange(
    conn: Conn,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let (mut sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(conn))
        .await
        .map_err(|e| e.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(|e| e.to_string())?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|e| e.to_string())?;
        Ok((head.status, body.to_bytes()))
    };
    // The connection ends when the exchange drops its sender.
    let (_, outcome) = tokio::join!(connection, exchange);
    outcome
}
