//! `tcpmux` proxies: users of an HTTP proxy by the host they want to be connected with.

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::raw::{Link, login_message, read_all, send_and_read_all};
use conformance::service::Kind;
use conformance::vhost::{ask, named_service};
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, Setup, ports};
use frp_proto::msg::{NewProxy, Version};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const UNAUTHORIZED: &[u8] = b"HTTP/1.1 407 Proxy Authentication Required\r\n\
    Proxy-Authenticate: Basic realm=\"Restricted\"\r\nContent-Length: 0\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 489\r\n\
    Content-Type: text/html\r\nServer: frp/0.70.1\r\n\r\n<!DOCTYPE html>\n";
/// `u:p`
const GOOD: &str = "Proxy-Authorization: Basic dTpw\r\n";
/// `u:x`
const BAD: &str = "Proxy-Authorization: Basic dTp4\r\n";
/// `bob:`
const BOB: &str = "Proxy-Authorization: Basic Ym9iOg==\r\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::pair("tcpmux/passthrough", async |lab| {
            let port = ports::free();
            let setup = setup(lab, port).frps("tcpmuxPassthrough", true);
            let _pair = setup.start().await?;
            // The service sends back what it gets: the head, to the byte, and what came with it.
            let sent = b"CONNECT A.test:80 HTTP/1.1\r\nhost:x\r\nX-odd:  y \r\n\r\nearly";
            assert_eq!(ask(port, sent, sent.len()).await?, sent);
            Ok(())
        }),
        Case::pair("tcpmux/route_by_user", route_by_user),
        Case::pair("tcpmux/login", async |lab| {
            let port = ports::free();
            let setup = closed(lab, port);
            let _pair = setup.start().await?;
            for fields in [GOOD, "proxy-authorization: bAsIc dTpw\r\n"] {
                assert_eq!(
                    ask(port, &connect("a.test:1", fields), CONNECTED.len()).await?,
                    CONNECTED
                );
            }
            Ok(())
        }),
        Case::pair("tcpmux/login_fails_without_a_200", async |lab| {
            let port = ports::free();
            let _pair = closed(lab, port).start().await?;
            login_fails(port).await
        })
        .ours_only("upstream says 200, then 407"),
        Case::pair("tcpmux/login_fails_with_passthrough", async |lab| {
            let port = ports::free();
            let setup = closed(lab, port).frps("tcpmuxPassthrough", true);
            let _pair = setup.start().await?;
            login_fails(port).await
        }),
        Case::pair("tcpmux/payload_behind_the_head", async |lab| {
            let port = ports::free();
            let _pair = setup(lab, port).start().await?;
            let sent = [&connect("a.test:1", "")[..], b"early"].concat();
            let answer = ask(port, &sent, CONNECTED.len() + 5).await?;
            assert_eq!(answer, [CONNECTED, b"early"].concat());
            Ok(())
        })
        .ours_only("upstream loses it"),
        Case::frps("tcpmux/refused", async |lab| {
            let port = ports::free();
            let (_frps, _) = setup(lab, port).start_server().await?;
            refused(port).await
        }),
        Case::frps("tcpmux/oversized", async |lab| {
            let port = ports::free();
            let (mut frps, _) = setup(lab, port).start_server().await?;
            let head = connect("a.test:1", &format!("X: {}\r\n", "x".repeat(64 * 1024)));
            assert_eq!(send_and_read_all(port, &head, LIMIT).await?, b"");
            assert!(frps.ended().is_none());
            Ok(())
        })
        .ours_only("upstream reads heads of any size"),
        Case::frps("tcpmux/ambiguous", async |lab| {
            let port = ports::free();
            let (_frps, _) = setup(lab, port).start_server().await?;
            for fields in ["X : y\r\n", "X: y\r\n z: w\r\n"] {
                let head = connect("a.test:1", fields);
                let answer = send_and_read_all(port, &head, LIMIT).await?;
                assert_eq!(answer, b"", "{fields:?}");
            }
            Ok(())
        })
        .ours_only("upstream takes them in its own way"),
        Case::frps("tcpmux/silence", async |lab| {
            let port = ports::free();
            let (_frps, _) = setup(lab, port).start_server().await?;
            let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            let mut half = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            half.write_all(b"CONNECT a.test:1 HTTP/1.1\r\n").await?;
            let limit = Duration::from_secs(40);
            assert_eq!(read_all(&mut silent, limit).await?, b"");
            assert_eq!(read_all(&mut half, LIMIT).await?, b"");
            Ok(())
        })
        .long("30 s until they are given up"),
        Case::frps("tcpmux/registration", registration),
    ];
    for wire in ["v1", "v2"] {
        cases.push(Case::pair(
            format!("tcpmux/{wire}/connect"),
            async move |lab| {
                let port = ports::free();
                let _pair = setup(lab, port).wire(wire).start().await?;
                for target in ["a.test:80", "a.test", "A.TEST.:443", "x.wild.test:1"] {
                    connects(port, target).await?;
                }
                Ok(())
            },
        ));
    }
    cases
}

fn setup(lab: &Lab, port: u16) -> Setup<'_> {
    lab.setup()
        .frps("tcpmuxHTTPConnectPort", port)
        .proxy("type", "tcpmux")
        .proxy("multiplexer", "httpconnect")
        .proxy("customDomains", &["a.test", "*.wild.test"][..])
}

fn closed(lab: &Lab, port: u16) -> Setup<'_> {
    setup(lab, port)
        .proxy("httpUser", "u")
        .proxy("httpPassword", "p")
}

fn connect(target: &str, fields: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

/// Connects, then talks to the service.
async fn connects(port: u16, target: &str) -> Outcome {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    for piece in connect(target, "Host: other.test\r\n").chunks(20) {
        stream.write_all(piece).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut answer = vec![0; CONNECTED.len()];
    let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer);
    conformance::wait::within("the 200", LIMIT, read).await??;
    assert_eq!(answer, CONNECTED);
    conformance::service::exchange(&mut stream, 100_000).await
}

async fn login_fails(port: u16) -> Outcome {
    for fields in [
        "",
        BAD,
        "Authorization: Basic dTpw\r\n",
        "Proxy-Authorization: Basic !\r\n",
        "Proxy-Authorization: Bearer dTpw\r\n",
        // One credential counts, and it is the first.
        &format!("{BAD}{GOOD}"),
    ] {
        let answer = send_and_read_all(port, &connect("a.test:1", fields), LIMIT).await?;
        assert_eq!(answer, UNAUTHORIZED, "{fields:?}");
    }
    Ok(())
}

async fn refused(port: u16) -> Outcome {
    for target in ["z.test:80", "[::1]:80", "/a.test:80", "http://a.test:80/"] {
        let answer = send_and_read_all(port, &connect(target, ""), LIMIT).await?;
        assert!(answer.starts_with(NOT_FOUND), "{target}: {answer:?}");
        assert!(answer.ends_with(b"</html>\n"));
    }
    for bytes in [
        &b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"[..],
        b"connect a.test:1 HTTP/1.1\r\n\r\n",
        b"CONNECT a.test:1\r\n\r\n",
        b"CONNECT a.test:x HTTP/1.1\r\n\r\n",
        b"CONNECT a.test:1 HTTP/1.1\r\nno colon\r\n\r\n",
        b"CONNECT a.test:1 HTTP/1.1\r\nX: \0\r\n\r\n",
        b"CONNECT a.test:1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ] {
        assert_eq!(
            send_and_read_all(port, bytes, LIMIT).await?,
            b"",
            "{bytes:?}"
        );
    }
    // Half a head, and then the end.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"CONNECT a.test:1 HTTP/1.1\r\n").await?;
    stream.shutdown().await?;
    assert_eq!(read_all(&mut stream, LIMIT).await?, b"");
    Ok(())
}

async fn route_by_user(lab: &Lab) -> Outcome {
    let port = ports::free();
    let base = setup(lab, port).frps("tcpmuxPassthrough", true);
    let (_frps, server) = base.start_server().await?;
    let mut clients = Vec::new();
    for (name, user) in [("a", ""), ("b", "bob")] {
        let setup = base
            .clone()
            .named(name)
            .service(Kind::At(named_service(name).await?))
            .proxy("routeByHTTPUser", user);
        let mut frpc = setup.start_client(server, 0).await?;
        frpc.logs("start proxy success").await?;
        clients.push(frpc);
    }
    for (fields, name) in [
        ("", b"a"),
        (GOOD, b"a"),
        (BOB, b"b"),
        ("Authorization: Basic Ym9iOg==\r\n", b"a"),
    ] {
        assert_eq!(
            ask(port, &connect("a.test:1", fields), 1).await?,
            name,
            "{fields:?}"
        );
    }
    Ok(())
}

async fn registration(lab: &Lab) -> Outcome {
    let port = ports::free();
    let setup = setup(lab, port).frps("transport.tcpMux", false);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, Version::V1);
    let mut client = link.login(login_message()).await?;
    let of = |name: &str, multiplexer: &str, user: &str| NewProxy {
        proxy_name: name.into(),
        proxy_type: "tcpmux".into(),
        multiplexer: multiplexer.into(),
        custom_domains: vec!["A.test".into(), "b.test".into()],
        route_by_http_user: user.into(),
        ..NewProxy::default()
    };
    let resp = client.register(of("a", "httpconnect", "")).await?;
    let expected = format!("A.test:{port},b.test:{port}");
    assert_eq!((resp.error.as_str(), resp.remote_addr), ("", expected));
    for (multiplexer, user, error) in [
        ("httpconnect", "", "router config conflict"),
        ("", "x", "unknown multiplexer []"),
        ("smoke", "x", "unknown multiplexer [smoke]"),
        ("httpconnect", "x", ""),
    ] {
        let resp = client.register(of("b", multiplexer, user)).await?;
        assert_eq!(resp.error, error);
    }
    Ok(())
}
