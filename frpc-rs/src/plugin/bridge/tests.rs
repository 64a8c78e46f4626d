use super::*;
use crate::plugin::tests::user;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

async fn listen() -> (TcpListener, Http2HttpPlugin) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Http2HttpPlugin {
        local_addr: listener.local_addr().unwrap().to_string(),
        ..Http2HttpPlugin::default()
    };
    (listener, options)
}

fn start(options: &Http2HttpPlugin) -> (BufReader<DuplexStream>, JoinHandle<()>) {
    let bridge = Bridge::http2http(options).unwrap();
    let (near, far) = duplex(64 * 1024);
    let task = tokio::spawn(async move {
        bridge.serve(user(), Conn::Other(Box::new(far))).await;
    });
    (BufReader::new(near), task)
}

/// The lines of a message's header.
async fn header<S: tokio::io::AsyncBufRead + Unpin>(stream: &mut S) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => return lines,
            line => lines.push(line.to_owned()),
        }
    }
}

async fn send(user: &mut BufReader<DuplexStream>, method: &str) {
    let request = format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n");
    user.get_mut().write_all(request.as_bytes()).await.unwrap();
}

async fn serve_one(service: &mut BufReader<TcpStream>) -> Vec<String> {
    let request = header(service).await;
    let answer = b"HTTP/1.1 204 No Content\r\nX-ID: 1\r\nx-lower: 2\r\n\r\n";
    service.get_mut().write_all(answer).await.unwrap();
    request
}

#[tokio::test]
async fn names_keep_their_case_and_connections_are_used_again() {
    let (listener, options) = listen().await;
    let (mut user, _task) = start(&options);
    let service = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut service = BufReader::new(stream);
        serve_one(&mut service).await;
        serve_one(&mut service).await
    });
    for _ in 0..2 {
        let request = b"GET /a HTTP/1.1\r\nHOST: Site.test\r\nx-lower: 1\r\nX-ODD-case: 2\r\n\r\n";
        user.get_mut().write_all(request).await.unwrap();
        let answer = header(&mut user).await;
        assert_eq!(
            answer[..3],
            ["HTTP/1.1 204 No Content", "X-ID: 1", "x-lower: 2"]
        );
    }
    assert_eq!(
        service.await.unwrap(),
        [
            "GET /a HTTP/1.1",
            "HOST: Site.test",
            "x-lower: 1",
            "X-ODD-case: 2"
        ]
    );
}

/// A service that takes a request on a kept connection and closes it without an answer.
async fn closing(method: &str) -> (Vec<String>, JoinHandle<bool>) {
    let (listener, options) = listen().await;
    let (mut user, _task) = start(&options);
    let service = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut service = BufReader::new(stream);
        serve_one(&mut service).await;
        header(&mut service).await;
        drop(service);
        let again = tokio::time::timeout(Duration::from_millis(500), listener.accept());
        let Ok(Ok((stream, _))) = again.await else {
            return false;
        };
        serve_one(&mut BufReader::new(stream)).await;
        true
    });
    send(&mut user, "GET").await;
    header(&mut user).await;
    send(&mut user, method).await;
    (header(&mut user).await, service)
}

#[tokio::test]
async fn a_request_that_met_the_end_of_a_kept_connection_is_repeated_if_it_may_be() {
    let (answer, service) = closing("GET").await;
    assert_eq!(answer[0], "HTTP/1.1 204 No Content");
    assert!(service.await.unwrap());
    let (answer, service) = closing("POST").await;
    assert_eq!(answer[0], "HTTP/1.1 502 Bad Gateway");
    assert!(!service.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_slow_header_is_not_waited_for() {
    let options = Http2HttpPlugin::default();
    let (mut user, task) = start(&options);
    user.get_mut()
        .write_all(b"GET / HTTP/1.1\r\n")
        .await
        .unwrap();
    let started = tokio::time::Instant::now();
    task.await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 75);
    let mut rest = Vec::new();
    user.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_host_must_be_named_once() {
    for (hosts, status) in [
        ("", "400"),
        ("Host: a\r\nHost: b\r\n", "400"),
        ("Host: a\r\n", "502"),
    ] {
        let (mut user, _task) = start(&Http2HttpPlugin::default());
        let request = format!("GET / HTTP/1.1\r\n{hosts}\r\n");
        user.get_mut().write_all(request.as_bytes()).await.unwrap();
        let answer = header(&mut user).await;
        assert!(
            answer[0].starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer:?}"
        );
    }
}

#[test]
fn options_that_would_break_every_request_are_refused() {
    let refusal = |name: &str, value: &str, host: &str| {
        let mut options = Http2HttpPlugin {
            host_header_rewrite: host.into(),
            ..Http2HttpPlugin::default()
        };
        options
            .request_headers
            .set
            .insert(name.into(), value.into());
        Bridge::http2http(&options).err().map(|e| e.to_string())
    };
    assert_eq!(refusal("x-a", "b", "host.test"), None);
    assert!(
        refusal("x a", "b", "")
            .unwrap()
            .starts_with("requestHeaders.set.x a: ")
    );
    assert!(
        refusal("x-a", "b\n", "")
            .unwrap()
            .starts_with("requestHeaders.set.x-a: ")
    );
    assert!(
        refusal("x-a", "b", "a\r\nb")
            .unwrap()
            .starts_with("hostHeaderRewrite: ")
    );
}

#[test]
fn hosts_are_compared_without_case_port_and_dot() {
    for host in ["site.test", "SITE.test:443", "Site.Test.", "site.test.:1"] {
        assert_eq!(normal_host(host), "site.test");
    }
    assert_eq!(normal_host("[::1]:80"), "::1");
}

#[test]
fn cookies_of_http2_become_one_field() {
    let mut headers = HeaderMap::new();
    for cookie in ["a=1", "b=2", "c=3"] {
        headers.append(header::COOKIE, HeaderValue::from_static(cookie));
    }
    join_cookies(&mut headers);
    assert_eq!(
        headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(),
        ["a=1; b=2; c=3"]
    );
}
