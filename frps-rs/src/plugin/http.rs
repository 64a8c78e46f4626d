//! Asking a plugin over HTTP(S): one POST, answered with 200 and a body. Connections are kept for the next question.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use frp_proto::net::Conn;
use frp_proto::net::dial::{DialOptions, dial};
use frp_proto::plugin;
use frp_proto::tls::{ClientTls, TlsFiles};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::target::{Origin, Target};

/// For one question from dialling to the last byte of the answer, redirects included. Upstream waits for ever; no client
/// waits longer than this for any of its answers.
const LIMIT: Duration = Duration::from_secs(30);
/// For the connection alone.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Idle seconds before keepalive probes.
const KEEPALIVE_SECS: i64 = 30;
/// Bytes of an answer's body: many times what any message may hold.
const MAX_BODY: usize = 1024 * 1024;
/// Connections kept for the next question.
const MAX_IDLE: usize = 16;
/// How long one is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// Redirects followed.
const MAX_REDIRECTS: usize = 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-frp-reqid");
/// What plugins have always seen.
const AGENT: HeaderValue = HeaderValue::from_static("Go-http-client/1.1");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

type Sender = SendRequest<Full<Bytes>>;

/// A plugin's HTTP side.
pub(super) struct Client {
    target: Target,
    tls: ClientTls,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for a question.
struct Idle {
    origin: Origin,
    sender: Sender,
    since: Instant,
}

impl Client {
    /// Nothing is dialled before the first question.
    pub(super) fn new(target: Target, tls_verify: bool) -> Self {
        let tls = if tls_verify {
            ClientTls::system_roots()
        } else {
            ClientTls::new(TlsFiles::default())
        };
        Self {
            target,
            tls,
            idle: Mutex::default(),
        }
    }

    /// The body of the answer to one question. The error is for the log.
    pub(super) async fn ask(
        &self,
        op: plugin::Op,
        request_id: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, String> {
        let request_id = HeaderValue::from_str(request_id).map_err(|e| e.to_string())?;
        timeout(LIMIT, Box::pin(self.exchange(op, &request_id, body.into())))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())))
    }

    /// Sends the question to wherever redirects lead.
    async fn exchange(
        &self,
        op: plugin::Op,
        request_id: &HeaderValue,
        mut body: Bytes,
    ) -> Result<Bytes, String> {
        let mut method = Method::POST;
        let mut target = self.target.clone();
        target.path = format!(
            "{}?op={}&version={}",
            target.path,
            op.name(),
            plugin::VERSION
        );
        for _ in 0..=MAX_REDIRECTS {
            let request = request(&method, &target, request_id, &body)?;
            let (sender, response) = self.send(&target.origin, request).await?;
            match response.status() {
                StatusCode::OK => {
                    let body = Limited::new(response.into_body(), MAX_BODY).collect();
                    let body = body.await.map_err(|e| e.to_string())?.to_bytes();
                    self.keep(target.origin, sender);
                    return Ok(body);
                }
                StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
                    method = Method::GET;
                    body = Bytes::new();
                }
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {}
                status => return Err(format!("do http request error code: {}", status.as_u16())),
            }
            let location = response.headers().get(LOCATION);
            let location = location
                .and_then(|l| l.to_str().ok())
                .ok_or("redirect without a Location")?;
            target = target.redirected(location)?;
        }
        Err(format!("stopped after {MAX_REDIRECTS} redirects"))
    }

    /// Sends a request over a kept connection or a new one. One that closed before it took the request is replaced.
    async fn send(
        &self,
        origin: &Origin,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Sender, Response<Incoming>), String> {
        while let Some(mut sender) = self.kept(origin) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((sender, response)),
                Err(mut e) => match e.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(chain(&e.into_error())),
                },
            }
        }
        let mut sender = self.connect(origin).await?;
        let response = sender.send_request(request).await;
        Ok((sender, response.map_err(|e| chain(&e))?))
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, String> {
        let options = DialOptions {
            host: origin.host.clone(),
            port: origin.port,
            timeout: DIAL_LIMIT,
            keepalive_secs: KEEPALIVE_SECS,
            local_ip: None,
        };
        let stream = dial(&options).await.map_err(|e| e.to_string())?;
        let conn = if origin.secure {
            let tls = self.tls.connect(stream, &origin.host).await;
            Conn::Other(Box::new(tls.map_err(|e| e.to_string())?))
        } else {
            Conn::Tcp(stream)
        };
        let (sender, driver) = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(conn))
            .await
            .map_err(|e| chain(&e))?;
        // It ends with its sender; an error comes up there, too.
        tokio::spawn(driver);
        Ok(sender)
    }

    /// A connection that may still be good.
    fn kept(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|i| !i.sender.is_closed() && i.since.elapsed() < IDLE_LIMIT);
        // The youngest is the least likely to be closed by the peer right now.
        let at = idle.iter().rposition(|i| i.origin == *origin)?;
        Some(idle.remove(at).sender)
    }

    fn keep(&self, origin: Origin, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle {
                origin,
                sender,
                since: Instant::now(),
            });
        }
    }
}

/// Header fields as upstream sends them. An empty body is that of a redirected question, which asks with GET.
fn request(
    method: &Method,
    target: &Target,
    request_id: &HeaderValue,
    body: &Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, AGENT);
    if !body.is_empty() {
        request = request.header(CONTENT_LENGTH, body.len());
    }
    if let Some(authorization) = &target.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, JSON);
    }
    request
        .header(REQUEST_ID, request_id)
        .body(Full::new(body.clone()))
        .map_err(|e| e.to_string())
}

/// An error and its causes.
fn chain(e: &hyper::Error) -> String {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn listen() -> (TcpListener, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let target = Target::parse(&format!("http://{address}/h")).unwrap();
        (listener, Client::new(target, false))
    }

    async fn ask(client: &Client) -> Result<Bytes, String> {
        client.ask(plugin::Op::Ping, "id", b"{}".to_vec()).await
    }

    /// Reads a request and answers with `text`.
    async fn answer(stream: &mut TcpStream, text: &str) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n{}") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[tokio::test]
    async fn a_connection_is_kept_and_replaced_once_it_is_closed() {
        let (listener, client) = listen().await;
        let serve = async {
            let (mut first, _) = listener.accept().await.unwrap();
            answer(&mut first, OK).await;
            answer(&mut first, OK).await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            answer(&mut second, OK).await;
        };
        let questions = async {
            for _ in 0..2 {
                assert_eq!(ask(&client).await.unwrap(), "ok");
            }
            while !client.idle.lock().unwrap()[0].sender.is_closed() {
                tokio::task::yield_now().await;
            }
            assert_eq!(ask(&client).await.unwrap(), "ok");
        };
        tokio::join!(serve, questions);
    }

    #[tokio::test]
    async fn questions_at_the_same_time_have_connections_of_their_own() {
        let (listener, client) = listen().await;
        let serve = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let (mut second, _) = listener.accept().await.unwrap();
            answer(&mut second, OK).await;
            answer(&mut first, OK).await;
        };
        let (one, other, ()) = tokio::join!(ask(&client), ask(&client), serve);
        assert!(one.is_ok() && other.is_ok());
        assert_eq!(client.idle.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_plugin_is_given_up() {
        let (_listener, client) = listen().await;
        let start = Instant::now();
        assert_eq!(ask(&client).await.unwrap_err(), "no answer within 30 s");
        assert!(start.elapsed() >= LIMIT);
    }

    #[tokio::test]
    async fn a_large_answer_is_given_up() {
        let (listener, client) = listen().await;
        let text = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY + 1));
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, &text).await;
        };
        let (asked, ()) = tokio::join!(ask(&client), serve);
        assert_eq!(asked.unwrap_err(), "length limit exceeded");
    }

    #[tokio::test]
    async fn redirects_end_somewhere() {
        let (listener, client) = listen().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let text = "HTTP/1.1 308 X\r\nLocation: /h\r\nConnection: close\r\n\r\n";
            answer(&mut stream, text).await;
            for _ in 0..MAX_REDIRECTS {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer(&mut stream, text).await;
            }
        };
        let (asked, ()) = tokio::join!(ask(&client), serve);
        assert_eq!(asked.unwrap_err(), "stopped after 10 redirects");
    }
}
