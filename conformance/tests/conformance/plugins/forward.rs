//! `http_proxy` and `socks5`.

use std::net::SocketAddr;

use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, ports, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ask, curl, exchange, mirror, plugin, seen};

const NOT_AUTHORIZED: &str = "HTTP/1.1 407 Not authorized\r\nConnection: close\r\n\
    Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
/// `u:p` and `x:y`.
const RIGHT: &str = "Proxy-Authorization: Basic dTpw\r\n";
const WRONG: &str = "Proxy-Authorization: Basic eDp5\r\n";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("plugins/http_proxy/tunnel", http_tunnel),
        Case::pair("plugins/http_proxy/refusals", http_refusals),
        Case::pair("plugins/http_proxy/requests", http_requests),
        Case::pair("plugins/http_proxy/curl", async |lab| {
            let setup = plugin(lab, "http_proxy")
                .proxy("plugin.httpUser", "u")
                .proxy("plugin.httpPassword", "p");
            let (pair, target) = (setup.start().await?, mirror(false).await?);
            for tunnel in [&["--proxytunnel"][..], &[]] {
                let (proxy, url) = (
                    format!("http://u:p@{}", pair.user),
                    format!("http://{target}/way?x"),
                );
                let arguments = [&["--proxy", &proxy, &url][..], tunnel].concat();
                assert!(curl(&arguments).await?.starts_with("GET /way?x HTTP/1.1\n"));
            }
            Ok(())
        })
        .needs("curl"),
        Case::pair("plugins/socks5/connect", socks_connect),
        Case::pair("plugins/socks5/refusals", socks_refusals),
        Case::pair("plugins/socks5/curl", async |lab| {
            let setup = plugin(lab, "socks5")
                .proxy("plugin.username", "u")
                .proxy("plugin.password", "p");
            let (pair, target) = (setup.start().await?, mirror(false).await?);
            let url = format!("http://localhost:{}/way", target.port());
            for scheme in ["socks5", "socks5h"] {
                let proxy = format!("{scheme}://u:p@{}", pair.user);
                let seen = curl(&["--ipv4", "--proxy", &proxy, &url]).await?;
                assert!(seen.starts_with("GET /way HTTP/1.1\n"));
            }
            let wrong = format!("socks5://u:x@{}", pair.user);
            assert!(curl(&["--proxy", &wrong, &url]).await.is_err());
            Ok(())
        })
        .needs("curl"),
    ]
}

fn connect(target: impl std::fmt::Display, fields: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n").into_bytes()
}

async fn http_tunnel(lab: &Lab) -> Outcome {
    let pair = plugin(lab, "http_proxy").start().await?;
    let echo = service::start(service::Kind::Echo).await?;
    let mut user = TcpStream::connect(pair.user).await?;
    // The first bytes for the service may come along with the request.
    user.write_all(&[connect(echo, ""), b"early".to_vec()].concat())
        .await?;
    expect(&mut user, b"HTTP/1.1 200 OK\r\n\r\nearly").await?;
    within("the echo", LIMIT, service::exchange(&mut user, 200_000)).await?
}

async fn expect(user: &mut TcpStream, expected: &[u8]) -> Outcome {
    let mut got = vec![0; expected.len()];
    within("an answer", LIMIT, user.read_exact(&mut got)).await??;
    assert_eq!(
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(expected)
    );
    Ok(())
}

async fn http_refusals(lab: &Lab) -> Outcome {
    let closed = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let pair = plugin(lab, "http_proxy").start().await?;
    let unreachable = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for (sent, expected) in [
        (connect(closed, ""), unreachable),
        (connect("127.0.0.1", ""), unreachable),
        (
            b"connect 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            "",
        ),
        (b"CONNECT x y z\r\n\r\n".to_vec(), ""),
    ] {
        let got = exchange(pair.user, &sent).await?;
        assert_eq!(String::from_utf8_lossy(&got), expected);
    }
    drop(pair);
    let setup = plugin(lab, "http_proxy")
        .proxy("plugin.httpUser", "u")
        .proxy("plugin.httpPassword", "p");
    let pair = setup.start().await?;
    for (fields, expected) in [
        ("", NOT_AUTHORIZED),
        (WRONG, NOT_AUTHORIZED),
        (RIGHT, unreachable),
    ] {
        let got = exchange(pair.user, &connect(closed, fields)).await?;
        assert_eq!(String::from_utf8_lossy(&got), expected);
    }
    for fields in ["", WRONG] {
        assert_eq!(
            ask(&pair, "GET", "http://127.0.0.1:1/", fields).await?,
            "HTTP/1.1 407 Proxy Authentication Required\ncontent-length: 0\nproxy-authenticate: Basic\n\n"
        );
    }
    Ok(())
}

async fn http_requests(lab: &Lab) -> Outcome {
    let pair = plugin(lab, "http_proxy").start().await?;
    let target = mirror(false).await?;
    let fields =
        "Proxy-Connection: keep-alive\r\nTE: trailers\r\nX-Bar: 2\r\nContent-Length: 3\r\n\r\nabc";
    let answer = ask(&pair, "POST", &format!("http://{target}/z?a;b"), fields).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\n"), "{answer}");
    assert_eq!(
        seen(&answer),
        format!("POST /z?a;b HTTP/1.1\ncontent-length: 3\nhost: {target}\nx-bar: 2")
    );
    assert!(answer.ends_with("\n\nabc"), "{answer}");
    let closed = ports::free();
    for (target, text) in [
        (
            format!("http://127.0.0.1:{closed}/"),
            format!("dial tcp 127.0.0.1:{closed}: connect: connection refused\n"),
        ),
        ("/z".into(), "unsupported protocol scheme \"\"\n".into()),
        (
            "ftp://a/z".into(),
            "unsupported protocol scheme \"ftp\"\n".into(),
        ),
    ] {
        assert_eq!(
            ask(&pair, "GET", &target, "").await?,
            format!(
                "HTTP/1.1 500 Internal Server Error\ncontent-length: {}\n\
                 content-type: text/plain; charset=utf-8\nx-content-type-options: nosniff\n\n{text}",
                text.len()
            )
        );
    }
    Ok(())
}

async fn socks_connect(lab: &Lab) -> Outcome {
    let pair = plugin(lab, "socks5").start().await?;
    let echo = service::start(service::Kind::Echo).await?;
    let port = echo.port().to_be_bytes();
    let by_address = [&b"\x05\x01\x00\x01\x7f\x00\x00\x01"[..], &port].concat();
    let by_name = [&b"\x05\x01\x00\x03\x09127.0.0.1"[..], &port].concat();
    for request in [by_address, by_name] {
        let mut user = TcpStream::connect(pair.user).await?;
        user.write_all(b"\x05\x02\x00\x02").await?;
        expect(&mut user, b"\x05\x00").await?;
        user.write_all(&request).await?;
        expect(&mut user, b"\x05\x00\x00\x01\x7f\x00\x00\x01").await?;
        let bound = within("a port", LIMIT, user.read_u16()).await??;
        assert_ne!(bound, 0);
        within("the echo", LIMIT, service::exchange(&mut user, 200_000)).await??;
    }
    Ok(())
}

async fn socks_refusals(lab: &Lab) -> Outcome {
    let closed = ports::free().to_be_bytes();
    let failure = |code: u8| [&[5, 0, 5, code, 0, 1][..], &[0; 6]].concat();
    let request = |middle: &[u8]| [&b"\x05\x01\x00\x05"[..], middle, &closed].concat();
    let pair = plugin(lab, "socks5").start().await?;
    for (sent, expected) in [
        (request(b"\x01\x00\x01\x7f\x00\x00\x01"), failure(5)),
        (request(b"\x02\x00\x01\x7f\x00\x00\x01"), failure(7)),
        (request(b"\x03\x00\x01\x7f\x00\x00\x01"), failure(7)),
        (request(b"\x01\x00\x03\x0fno-such.invalid"), failure(4)),
        (b"\x05\x01\x00\x05\x01\x00\x09".to_vec(), failure(8)),
        (b"\x05\x01\x00\x04\x01\x00\x01".to_vec(), vec![5, 0]),
        (b"\x05\x01\x01".to_vec(), vec![5, 255]),
        (b"\x05\x00".to_vec(), vec![5, 255]),
        (b"\x04".to_vec(), vec![]),
    ] {
        assert_eq!(exchange(pair.user, &sent).await?, expected, "{sent:x?}");
    }
    drop(pair);
    let setup = plugin(lab, "socks5").proxy("plugin.username", "u");
    let pair = setup.proxy("plugin.password", "p").start().await?;
    for (sent, expected) in [
        (&b"\x05\x01\x00"[..], &[5, 255][..]),
        (b"\x05\x01\x02\x01\x01x\x01p", &[5, 2, 1, 1]),
        (b"\x05\x01\x02\x01\x00\x00", &[5, 2, 1, 1]),
    ] {
        assert_eq!(exchange(pair.user, sent).await?, expected, "{sent:x?}");
    }
    Ok(())
}
