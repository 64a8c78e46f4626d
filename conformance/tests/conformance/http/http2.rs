//! HTTP/2 with prior knowledge from users.

use std::convert::Infallible;

use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::exchanges::site;
use super::{Site, is_ours};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("http/http2", exchanges),
        Case::pair("http/http2_streaming", streaming),
        Case::pair("http/http2_connect", connect),
    ]
}

async fn open<B>(site: &Site) -> Outcome<SendRequest<B>>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(site.vhost).await?;
    let executor = TokioExecutor::new();
    let (sender, connection) = http2::handshake(executor, TokioIo::new(stream)).await?;
    // Its end is seen by those who use it.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

fn request<B>(method: Method, uri: &str, body: B) -> Outcome<Request<B>> {
    Ok(Request::builder()
        .method(method)
        .uri(uri)
        .header("te", "trailers")
        .body(body)?)
}

/// Status, body and trailers.
async fn read(response: Response<Incoming>) -> Outcome<(u16, String, HeaderMap)> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok((status, text, trailers))
}

async fn exchanges(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = open(&site).await?;
    let none = || Full::new(Bytes::new());

    let asked = request(Method::GET, "http://a.test/x?y", none())?;
    let (status, text, _) = read(user.send_request(asked).await?).await?;
    assert_eq!(status, 200);
    assert_eq!(
        text,
        "GET /x?y HTTP/1.1\nhost: a.test\nte: trailers\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: a.test\nx-forwarded-proto: http\nx-req: v1\n\n"
    );
    let asked = request(Method::POST, "http://a.test/", Full::from("abc"))?;
    let (_, text, _) = read(user.send_request(asked).await?).await?;
    assert!(text.contains("\ncontent-length: 3\n"), "{text}");
    assert!(text.ends_with("\n\nabc"), "{text}");

    let asked = request(Method::GET, "http://no.test/", none())?;
    let response = user.send_request(asked).await?;
    assert_eq!(
        response.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    let (status, text, _) = read(response).await?;
    assert_eq!((status, &*text), (404, include_str!("not_found.html")));
    let asked = request(Method::GET, "http://auth.test/", none())?;
    let (status, text, _) = read(user.send_request(asked).await?).await?;
    assert_eq!((status, &*text), (401, "Unauthorized\n"));

    let asked = request(Method::GET, "http://a.test/trailers", none())?;
    let (_, text, trailers) = read(user.send_request(asked).await?).await?;
    assert_eq!((&*text, &trailers["x-t"]), ("abc", &"1".parse()?));

    // A body that is cut short does not look whole.
    let asked = request(Method::GET, "http://a.test/cut-chunk", none())?;
    if let Ok(response) = user.send_request(asked).await {
        assert!(read(response).await.is_err());
    }
    // Many at a time on one connection.
    let many = (0..100).map(|n| {
        let mut user = user.clone();
        async move {
            let asked = request(Method::GET, &format!("http://a.test/{n}"), none())?;
            let (_, text, _) = read(user.send_request(asked).await?).await?;
            assert!(text.starts_with(&format!("GET /{n} HTTP/1.1\n")), "{text}");
            Outcome::Ok(())
        }
    });
    for answered in many.map(tokio::spawn).collect::<Vec<_>>() {
        answered.await??;
    }
    Ok(())
}

/// What a gRPC call does: the body comes in pieces, and the trailers after it.
async fn streaming(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = open(&site).await?;
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let mut asked = request(Method::POST, "http://a.test/call", body)?;
    let headers = asked.headers_mut();
    headers.insert("content-type", "application/grpc".parse()?);
    headers.insert("trailer", "x-last".parse()?);
    let answer = tokio::spawn(async move { read(user.send_request(asked).await?).await });
    for piece in ["one ", "two ", "three "] {
        sender.send_data(Bytes::from(piece)).await?;
        tokio::task::yield_now().await;
    }
    let trailers = HeaderMap::from_iter([("x-last".parse()?, "1".parse()?)]);
    sender.send(Frame::trailers(trailers)).await?;
    drop(sender);
    let (status, text, _) = within("the answer", LIMIT, answer).await???;
    assert_eq!(status, 200);
    assert!(text.contains("\ntransfer-encoding: chunked\n"), "{text}");
    // Upstream loses the trailers of requests.
    let last = if is_ours(lab) { "x-last: 1" } else { "" };
    let end = format!("\n\none two three {last}");
    assert!(text.ends_with(&end), "{text}");
    Ok(())
}

async fn connect(lab: &Lab) -> Outcome {
    let (site, _a, _b) = site(lab).await?;
    let mut user = open(&site).await?;
    let asked = Request::connect("a.test:443").body(Full::new(Bytes::new()))?;
    let (status, text, _) = read(user.send_request(asked).await?).await?;
    assert_eq!((status, &*text), (500, ""));
    Ok(())
}
