//! `http_proxy`: a forward proxy (client.md §14.1): tunnels for CONNECT, single requests for the rest.

use std::sync::Arc;

use bytes::BytesMut;
use frp_proto::config::raw::client::HttpProxyPlugin;
use frp_proto::net::Conn;
use frp_proto::net::replay::Replay;
use http::header::{self, HeaderValue};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::basic_auth::{Credentials, PENALTY, Verdict};
use super::pool::{Pool, Route};
use super::server::{self, Body, Tunnel};
use super::{HANDSHAKE_LIMIT, join, target};

const CONNECT: &[u8] = b"CONNECT";
/// Bytes of the header of a CONNECT request.
const MAX_HEADER: usize = 64 * 1024;
/// Its header fields.
const MAX_FIELDS: usize = 64;
/// Answers to CONNECT.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const UNREACHABLE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
const NOT_AUTHORIZED: &[u8] = b"HTTP/1.1 407 Not authorized\r\nConnection: close\r\n\
    Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";

#[derive(Debug)]
pub(super) struct HttpProxy(Arc<Forwarder>);

#[derive(Debug)]
struct Forwarder {
    credentials: Option<Credentials>,
    pool: Pool,
}

impl HttpProxy {
    pub(super) fn new(c: &HttpProxyPlugin) -> Self {
        Self(Arc::new(Forwarder {
            credentials: Credentials::new(&c.http_user, &c.http_password),
            pool: Pool::new(Route::Requested),
        }))
    }

    pub(super) async fn serve(&self, work: Conn) {
        let begin = async {
            let peeked = Replay::peek_at_most(work, CONNECT.len()).await.ok()?;
            Some(if peeked.prefix().eq_ignore_ascii_case(CONNECT) {
                Begin::Tunnel(read_connect(peeked).await?)
            } else {
                Begin::Requests(peeked)
            })
        };
        // Who does not say what it wants gets no answer.
        match timeout(HANDSHAKE_LIMIT, begin).await {
            Ok(Some(Begin::Tunnel(asked))) => self.0.tunnel(asked).await,
            Ok(Some(Begin::Requests(work))) => {
                server::serve(work, Tunnel::default(), |request| {
                    self.0.clone().answer(request)
                })
                .await;
            }
            Ok(None) | Err(_) => {}
        }
    }
}

enum Begin {
    Tunnel(Connect),
    Requests(Replay<Conn>),
}

/// A CONNECT request.
struct Connect {
    target: String,
    authorization: Option<Vec<u8>>,
    work: Replay<Conn>,
}

/// Reads the header of a CONNECT request; `None` if it is none.
async fn read_connect(peeked: Replay<Conn>) -> Option<Connect> {
    let (start, mut work) = peeked.into_parts();
    let mut header = BytesMut::from(&start[..]);
    let mut searched = 0;
    while !ends(&header[searched..]) {
        // The end may have come in part.
        searched = header.len().saturating_sub(2);
        let room = MAX_HEADER.checked_sub(header.len()).filter(|n| *n > 0)?;
        let mut limited = (&mut work).take(room as u64);
        if limited.read_buf(&mut header).await.ok()? == 0 {
            return None;
        }
    }
    let (len, target, authorization) = parse(&header)?;
    let rest = header.split_off(len).freeze();
    Some(Connect {
        target,
        authorization,
        work: Replay::new(rest, work),
    })
}

/// Whether an empty line is in these bytes.
fn ends(bytes: &[u8]) -> bool {
    bytes
        .windows(2)
        .enumerate()
        .any(|(i, two)| two == b"\n\n" || two == b"\n\r" && bytes.get(i + 2) == Some(&b'\n'))
}

/// Length, target and credentials of a header.
fn parse(header: &[u8]) -> Option<(usize, String, Option<Vec<u8>>)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(len) = request.parse(header).ok()? else {
        return None;
    };
    if request.method?.as_bytes() != CONNECT {
        return None;
    }
    let authorization = request
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("Proxy-Authorization"))
        .map(|field| field.value.to_vec());
    Some((len, request.path?.to_owned(), authorization))
}

impl Forwarder {
    /// Whether a user may go on. Guessing takes time.
    async fn lets_in(&self, authorization: Option<&[u8]>) -> bool {
        let Some(credentials) = &self.credentials else {
            return true;
        };
        let verdict = credentials.verdict(authorization, None);
        if verdict == Verdict::Wrong {
            sleep(PENALTY).await;
        }
        verdict == Verdict::Right
    }

    async fn tunnel(&self, asked: Connect) {
        let Connect {
            target,
            authorization,
            mut work,
        } = asked;
        let (answer, service) = if self.lets_in(authorization.as_deref()).await {
            match target::connect(&target).await {
                Ok(service) => (ESTABLISHED, Some(service)),
                Err(e) => {
                    tracing::debug!("http_proxy: {e}");
                    (UNREACHABLE, None)
                }
            }
        } else {
            (NOT_AUTHORIZED, None)
        };
        if work.write_all(answer).await.is_err() || work.flush().await.is_err() {
            return;
        }
        match service {
            Some(service) => join(work.into_conn(), Conn::Tcp(service)).await,
            // The answer is out; a user that is gone misses nothing.
            None => drop(work.shutdown().await),
        }
    }

    /// Asks the service a request names.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let authorization = request.headers().get(header::PROXY_AUTHORIZATION);
        if !self.lets_in(authorization.map(HeaderValue::as_bytes)).await {
            let mut response = server::status(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
            let challenge = HeaderValue::from_static("Basic");
            response
                .headers_mut()
                .insert(header::PROXY_AUTHENTICATE, challenge);
            return response;
        }
        match self.forward(request).await {
            Ok(response) => response,
            Err(e) => server::error(StatusCode::INTERNAL_SERVER_ERROR, &e),
        }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
        let uri = request.uri();
        let scheme = uri.scheme().map_or("", Scheme::as_str);
        if scheme != "http" {
            return Err(format!("unsupported protocol scheme {scheme:?}"));
        }
        let host = uri.authority().map_or("", |authority| {
            let authority = authority.as_str();
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host)
        });
        let host = HeaderValue::from_str(host).map_err(|e| e.to_string())?;
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        server::remove_hop_by_hop(headers);
        headers.insert(header::HOST, host);
        let mut response = self.pool.send(request.map(server::passed_on)).await?;
        *response.version_mut() = Version::HTTP_11;
        server::remove_hop_by_hop(response.headers_mut());
        Ok(response.map(server::passed_on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::duplex;
    use tokio::net::TcpListener;

    /// Everything that comes back for these bytes, which the user sends one by one.
    async fn talk(sent: &[u8]) -> Vec<u8> {
        let plugin = HttpProxy::new(&HttpProxyPlugin {
            http_user: "u".into(),
            http_password: "p".into(),
        });
        let (mut near, far) = duplex(1);
        let serve = plugin.serve(Conn::Other(Box::new(far)));
        let user = async move {
            // Who is refused may be cut off.
            let _ = near.write_all(sent).await;
            let mut got = Vec::new();
            near.read_to_end(&mut got).await.unwrap();
            got
        };
        tokio::join!(user, serve).0
    }

    const TUNNEL: &str = "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\
        Proxy-Authorization: Basic dTpw\r\n\r\n";

    #[tokio::test]
    async fn a_tunnel_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut service, _) = listener.accept().await.unwrap();
            service.write_all(b"welcome").await.unwrap();
        });
        let tunnel = TUNNEL.replace("127.0.0.1:1", &address);
        let expected = [ESTABLISHED, b"welcome"].concat();
        assert_eq!(talk(tunnel.as_bytes()).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_waits() {
        for (credentials, pause) in [("Basic", Duration::ZERO), ("Basic dTpx", PENALTY)] {
            let started = tokio::time::Instant::now();
            let tunnel = TUNNEL.replace("Basic dTpw", credentials);
            assert_eq!(talk(tunnel.as_bytes()).await, NOT_AUTHORIZED);
            // Timers count whole milliseconds.
            assert_eq!(started.elapsed().as_millis() / 10, pause.as_millis() / 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_request_gets_no_answer() {
        for sent in [
            &b"CONNECT x y z\r\n\r\n"[..],
            b"connect a:1 HTTP/1.1\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\n\rx",
        ] {
            assert_eq!(talk(sent).await, b"", "{sent:?}");
        }
        let endless = [&b"CONNECT a:1 HTTP/1.1\r\nX: "[..], &vec![b'a'; MAX_HEADER]].concat();
        assert_eq!(talk(&endless).await, b"");
    }

    #[test]
    fn an_empty_line_ends_a_header() {
        for (bytes, expected) in [
            (&b"a\r\n\r\n"[..], true),
            (b"\n\n", true),
            (b"\r\n\r", false),
            (b"\n", false),
            (b"", false),
        ] {
            assert_eq!(ends(bytes), expected, "{bytes:?}");
        }
    }
}
