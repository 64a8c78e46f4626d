//! What a gRPC call does on the wire: messages in both directions at the same time, and a status in the trailers. Over HTTP/2
//! with prior knowledge from end to end through a `tcp` proxy, and through an `http` proxy, whose backends speak HTTP/1.1.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use conformance::service::Kind;
use conformance::wait::{LIMIT, within};
use conformance::{Case, Failure, Lab, Outcome};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Channel};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper::server::conn;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use crate::http::{Site, domains, proxy};

/// Bytes of the messages of a call, one after another.
const MESSAGES: [usize; 5] = [0, 1, 1_000, 200_000, 10];
/// Calls at a time on one connection.
const CALLS: usize = 20;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("software/grpc/tcp", async |lab: &Lab| {
            let service = start(true).await?;
            let setup = lab.setup().service(Kind::At(service.port()));
            let pair = setup.start().await?;
            calls(pair.user).await
        }),
        Case::pair("software/grpc/http", async |lab: &Lab| {
            let service = start(false).await?;
            let proxies = vec![proxy("web", service, &[domains(&["a.test"])])];
            let site = Site::start(lab, proxies, |frps| frps).await?;
            calls(site.vhost).await
        }),
    ]
}

type Messages = Channel<Bytes, Infallible>;

/// A service that returns each message at once, then a status; it speaks HTTP/2 or HTTP/1.1.
async fn start(is_http2: bool) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (io, service) = (TokioIo::new(stream), service_fn(serve));
            // A connection that breaks is seen at the user's end.
            tokio::spawn(async move {
                if is_http2 {
                    let server = conn::http2::Builder::new(TokioExecutor::new());
                    server.serve_connection(io, service).await.ok()
                } else {
                    let server = conn::http1::Builder::new();
                    server.serve_connection(io, service).await.ok()
                }
            });
        }
    });
    Ok(address)
}

async fn serve(request: Request<Incoming>) -> Result<Response<Messages>, Infallible> {
    let (mut sender, body) = Messages::new(1);
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            if let Ok(data) = frame.into_data() {
                sender.send_data(data).await.ok()?;
            }
        }
        let mut status = HeaderMap::new();
        status.insert("grpc-status", HeaderValue::from_static("0"));
        sender.send(Frame::trailers(status)).await.ok()
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("trailer", HeaderValue::from_static("grpc-status"));
    Ok(response)
}

/// Many calls on one connection.
async fn calls(address: SocketAddr) -> Outcome {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let executor = TokioExecutor::new();
    let (sender, connection) = http2::handshake(executor, TokioIo::new(stream)).await?;
    // Its end is seen by those who use it.
    tokio::spawn(async move { connection.await.ok() });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        calls.spawn(within("the call", LIMIT, call(sender.clone())));
    }
    while let Some(called) = calls.join_next().await {
        called???;
    }
    Ok(())
}

/// One call: each message is sent when the last one has come back.
async fn call(mut user: http2::SendRequest<Messages>) -> Outcome {
    let (mut sender, body) = Messages::new(1);
    let request = Request::builder()
        .method(Method::POST)
        .uri("http://a.test/echo.Echo/Chat")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let mut answer = None;
    let response = user.send_request(request);
    tokio::pin!(response);
    for length in MESSAGES {
        let message = message(length);
        sender.send_data(message.clone()).await?;
        let body = match &mut answer {
            Some(body) => body,
            None => answer.insert(response.as_mut().await?.into_body()),
        };
        let mut received = Vec::new();
        while received.len() < message.len() {
            let frame = body.frame().await.ok_or_else(cut)??;
            received.extend(frame.into_data().map_err(|_| cut())?);
        }
        assert!(
            received == message,
            "a message of {length} bytes came changed"
        );
    }
    drop(sender);
    let mut body = answer.ok_or_else(cut)?;
    let end = body.frame().await.ok_or_else(cut)??;
    let trailers = end.into_trailers().map_err(|_| cut())?;
    assert_eq!(trailers["grpc-status"], "0");
    assert!(body.frame().await.is_none());
    Ok(())
}

fn cut() -> Failure {
    Failure::new("the answer ends early")
}

/// A message with its prefix: not compressed, its length.
fn message(length: usize) -> Bytes {
    let prefix = (length as u32).to_be_bytes();
    [&[0], &prefix[..], &vec![7; length]].concat().into()
}
