//! Active checks (balancing.md §3.4): the whole path to a service, through a work connection.

use std::future::poll_fn;
use std::time::Duration;

use balancer::{CheckConfig, CheckKind};
use bytes::{BufMut, Bytes, BytesMut};
use frp_proto::msg::Verdict;
use frp_proto::net::Conn;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use crate::proxy::Context;
use crate::proxy::connect::{self, Ends};

/// No check takes longer, whatever its configuration says.
pub(super) const LIMIT: Duration = Duration::from_mins(1);
/// How long a `tcp` service must stay open: a client tells of a refused dial only by closing.
const SETTLED: Duration = Duration::from_millis(200);
/// Bytes of a gRPC answer that are read.
const MAX_ANSWER: usize = 1024;
/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`
const SERVING: &[u8] = &[0x08, 1];

/// Whether the service of a proxy is well.
pub(crate) async fn passes(context: &Context, check: CheckConfig) -> bool {
    let checked = async {
        // The users of a check are this server itself: no address of a user.
        let asks = context.verdicts && check.kind == CheckKind::Tcp;
        let work = connect::open_within(context, Ends::default(), check.timeout, asks).await?;
        match check.kind {
            CheckKind::Tcp if asks => is_reached(work).await.then_some(()),
            CheckKind::Tcp => stays_open(work).await.then_some(()),
            CheckKind::Http => over_http(work, &check).await,
            CheckKind::Grpc => over_grpc(work, &check).await,
        }
    };
    let passed = timeout(check.timeout, checked).await;
    matches!(passed, Ok(Some(())))
}

/// What the client says of its dial.
async fn is_reached(mut work: Conn) -> bool {
    let chunk = poll_fn(|cx| work.poll_read_chunk(cx)).await;
    chunk.is_ok_and(|chunk| chunk.first() == Some(&Verdict::Reached.byte()))
}

async fn stays_open(mut work: Conn) -> bool {
    let read = poll_fn(|cx| work.poll_read_chunk(cx));
    match timeout(SETTLED, read).await {
        // A service that speaks first is as good as one that waits.
        Ok(Ok(chunk)) => !chunk.is_empty(),
        Ok(Err(_)) => false,
        Err(_) => true,
    }
}

async fn over_http(work: Conn, check: &CheckConfig) -> Option<()> {
    let request = Request::builder()
        .uri(&check.path)
        .header(HOST, "localhost")
        .header(USER_AGENT, "frps-health-check")
        .body(Full::<Bytes>::default())
        .ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(work)).await.ok()?;
    let asked = async { sender.send_request(request).await.ok() };
    let response = tokio::select! {
        response = asked => response?,
        _ = connection => return None,
    };
    is_expected(response.status(), &check.expect).then_some(())
}

fn is_expected(status: StatusCode, expected: &[u16]) -> bool {
    if expected.is_empty() {
        status.is_success()
    } else {
        expected.contains(&status.as_u16())
    }
}

/// `grpc.health.v1.Health/Check` of the service that `path` names.
async fn over_grpc(work: Conn, check: &CheckConfig) -> Option<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(Uri::from_static(
            "http://localhost/grpc.health.v1.Health/Check",
        ))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "frps-health-check")
        .body(Full::new(question(&check.path)?))
        .ok()?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(work));
    let (mut sender, connection) = handshake.await.ok()?;
    let asked = async {
        let response = sender.send_request(request).await.ok()?;
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        Some(body.collect().await.ok()?.to_bytes())
    };
    let answer = tokio::select! {
        answer = asked => answer?,
        _ = connection => return None,
    };
    // A flag and a length stand before the message.
    answer.get(5..)?.starts_with(SERVING).then_some(())
}

/// A message of one field, the service's name, which is left out if it is empty.
fn question(service: &str) -> Option<Bytes> {
    // A length in one byte is enough for names.
    let len = u8::try_from(service.len()).ok().filter(|len| *len < 0x80)?;
    let mut message = BytesMut::new();
    if len > 0 {
        message.put_slice(&[0x0a, len]);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::from(&[0, 0, 0, 0, message.len() as u8][..]);
    framed.put_slice(&message);
    Some(framed.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pair() -> (Conn, DuplexStream) {
        let (near, far) = duplex(4096);
        (Conn::Other(Box::new(near)), far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_tcp_service_stays_open() {
        let (work, service) = pair();
        assert!(stays_open(work).await);
        drop(service);
        let (work, service) = pair();
        drop(service);
        assert!(!stays_open(work).await);
    }

    #[tokio::test]
    async fn an_http_service_answers_as_expected() {
        for (status, expect, passes) in [
            ("200 OK", vec![], true),
            ("404 Not Found", vec![], false),
            ("404 Not Found", vec![404], true),
            ("200 OK", vec![204], false),
        ] {
            let (work, mut service) = pair();
            let check = CheckConfig {
                path: "/healthz".into(),
                expect,
                ..CheckConfig::new(CheckKind::Http)
            };
            let answer = async {
                let mut head = [0; 64];
                let n = service.read(&mut head).await.unwrap();
                assert!(head[..n].starts_with(b"GET /healthz HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                service.write_all(answer.as_bytes()).await.unwrap();
            };
            let (passed, ()) = tokio::join!(over_http(work, &check), answer);
            assert_eq!(passed.is_some(), passes, "{status}");
        }
    }

    #[test]
    fn the_question_of_grpc() {
        assert_eq!(question("").as_deref(), Some(&[0, 0, 0, 0, 0][..]));
        assert_eq!(
            question("a").as_deref(),
            Some(&[0, 0, 0, 0, 3, 0x0a, 1, b'a'][..])
        );
        assert_eq!(question(&"a".repeat(128)), None);
    }
}
