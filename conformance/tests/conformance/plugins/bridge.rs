//! `http2http`, `http2https`, `https2http`, `https2https`.

use conformance::peers::Maker;
use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, Pair, ports};
use frp_proto::tls::{ClientTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{curl, exchange, mirror, normal, plugin, seen, talk};

const NAMES: [&str; 4] = ["http2http", "http2https", "https2http", "https2https"];

/// A request that has everything a proxy must look at.
const REQUEST: &str = "POST /p%2fq?a=1;b=2&c=%zz&d=%41+x&b HTTP/1.1\r\nHost: Site.test:99\r\n\
    Connection: close, X-Hop\r\nX-Hop: 1\r\nX-Keep: 2\r\nForwarded: for=1\r\n\
    X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: gopher\r\n\
    TE: trailers\r\nProxy-Connection: x\r\nContent-Length: 3\r\n\r\nabc";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in NAMES {
        cases.push(Case::pair(
            format!("plugins/{name}/request"),
            async move |lab| request(lab, name).await,
        ));
        cases.push(Case::pair(
            format!("plugins/{name}/upgrade"),
            async move |lab| upgrade(lab, name).await,
        ));
        cases.push(Case::pair(
            format!("plugins/{name}/no_service"),
            async move |lab| no_service(lab, name).await,
        ));
    }
    for name in ["https2http", "https2https"] {
        for http2 in [true, false] {
            let version = if http2 { "2" } else { "1.1" };
            let case = Case::pair(format!("plugins/{name}/http{version}"), async move |lab| {
                negotiated(lab, name, http2).await
            });
            cases.push(case.needs("curl"));
        }
    }
    cases.extend([
        Case::pair("plugins/https2http/other_host", other_host),
        Case::pair("plugins/https2http/plain_http", plain_http),
    ]);
    cases
}

fn is_tls(name: &str) -> bool {
    name.starts_with("https")
}

async fn start(lab: &Lab, name: &str) -> Outcome<Pair> {
    let target = mirror(name.ends_with("https")).await?;
    let setup = plugin(lab, name)
        .proxy("plugin.localAddr", target.to_string())
        .proxy("plugin.requestHeaders.set.x-set", "by frpc")
        .proxy("plugin.requestHeaders.set.host", "ignored");
    setup.start().await
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A user's connection.
async fn user(pair: &Pair, tls: bool) -> Outcome<Box<dyn Stream>> {
    let stream = TcpStream::connect(pair.user).await?;
    if !tls {
        return Ok(Box::new(stream));
    }
    let client = ClientTls::new(TlsFiles::default());
    let handshake = async { client.connect(stream, "site.test").await };
    Ok(Box::new(
        within("a TLS handshake", LIMIT, handshake).await??,
    ))
}

async fn request(lab: &Lab, name: &str) -> Outcome {
    let pair = start(lab, name).await?;
    let mut user = user(&pair, is_tls(name)).await?;
    let answer = talk(&mut user, REQUEST.as_bytes()).await?;
    if lab.frpc.maker == Maker::Ours {
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("\r\nX-Odd-CASE: 1\r\n"), "{text}");
    }
    let answer = normal(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\n"), "{answer}");
    assert!(answer.contains("\ncontent-type: text/plain\n"), "{answer}");
    let forwarded = match name {
        "http2http" => "",
        "http2https" => {
            "\nx-forwarded-for: 9.9.9.9\nx-forwarded-host: h\nx-forwarded-proto: gopher"
        }
        _ => {
            "\nx-forwarded-for: 9.9.9.9, 127.0.0.1\nx-forwarded-host: Site.test:99\nx-forwarded-proto: https"
        }
    };
    assert_eq!(
        seen(&answer),
        format!(
            "POST /p%2fq?b=&d=A+x HTTP/1.1\ncontent-length: 3\nhost: Site.test:99\n\
             te: trailers{forwarded}\nx-keep: 2\nx-set: by frpc"
        )
    );
    assert!(answer.ends_with("\n\nabc"), "{answer}");
    Ok(())
}

async fn upgrade(lab: &Lab, name: &str) -> Outcome {
    let pair = start(lab, name).await?;
    let mut user = user(&pair, is_tls(name)).await?;
    let conversation = async {
        let request =
            b"GET /chat HTTP/1.1\r\nHost: site.test\r\nConnection: keep-alive, Upgrade\r\n\
            Upgrade: mirror\r\nSec-WebSocket-Key: x\r\n\r\n";
        user.write_all(request).await?;
        user.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"ready") {
            head.push(user.read_u8().await?);
        }
        user.write_all(b"ping").await?;
        user.flush().await?;
        let mut echo = [0; 4];
        user.read_exact(&mut echo).await?;
        Ok::<_, std::io::Error>((head, echo))
    };
    let (head, echo) = within("an upgrade", LIMIT, conversation).await??;
    assert_eq!(
        normal(&head),
        "HTTP/1.1 101 Switching Protocols\nupgrade: mirror\n\nready"
    );
    assert_eq!(&echo, b"ping");
    Ok(())
}

async fn no_service(lab: &Lab, name: &str) -> Outcome {
    let setup = plugin(lab, name).proxy("plugin.localAddr", format!("127.0.0.1:{}", ports::free()));
    let mut pair = setup.start().await?;
    let mut user = user(&pair, is_tls(name)).await?;
    assert_eq!(
        normal(&talk(&mut user, REQUEST.as_bytes()).await?),
        "HTTP/1.1 502 Bad Gateway\ncontent-length: 0\n\n"
    );
    pair.frpc
        .logs("http: proxy error: dial tcp 127.0.0.1:")
        .await
}

/// What a browser does: ALPN, and several requests in one connection.
async fn negotiated(lab: &Lab, name: &str, http2: bool) -> Outcome {
    let target = mirror(name.ends_with("https")).await?;
    let setup = plugin(lab, name)
        .proxy("plugin.localAddr", target.to_string())
        .proxy("plugin.hostHeaderRewrite", "rewritten.test")
        .proxy("plugin.enableHTTP2", http2);
    let pair = setup.start().await?;
    let port = pair.user.port();
    let resolve = format!("site.test:{port}:127.0.0.1");
    let url = format!("https://site.test:{port}/way");
    let said = curl(&[
        "--insecure",
        "--http2",
        "--resolve",
        &resolve,
        "--data",
        "abc",
        "--write-out",
        "\n%{http_version} %{num_connects}\n",
        &url,
        &url,
    ])
    .await?;
    let version = if http2 { "2" } else { "1.1" };
    assert!(said.contains(&format!("\n{version} 1\n")), "{said}");
    assert!(said.ends_with(&format!("abc\n{version} 0\n")), "{said}");
    for line in [
        "POST /way HTTP/1.1".to_owned(),
        "host: rewritten.test".to_owned(),
        format!("x-forwarded-host: site.test:{port}"),
    ] {
        assert!(said.contains(&line), "{said}");
    }
    Ok(())
}

async fn other_host(lab: &Lab) -> Outcome {
    let pair = start(lab, "https2http").await?;
    for (host, status) in [
        ("SITE.test.:1", "200 OK"),
        ("other.test", "421 Misdirected Request"),
    ] {
        let mut user = user(&pair, true).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = normal(&talk(&mut user, request.as_bytes()).await?);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\n")),
            "{answer}"
        );
    }
    Ok(())
}

async fn plain_http(lab: &Lab) -> Outcome {
    let pair = start(lab, "https2http").await?;
    let answer = exchange(pair.user, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    );
    Ok(())
}
