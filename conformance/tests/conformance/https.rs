//! `https` proxies: TLS users by server name, passed through untouched.

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::raw::{Link, login_message, read_all, send_and_read_all};
use conformance::vhost::{ask, client_hello};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, Setup, ports};
use frp_proto::msg::{NewProxy, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TLS_1_0: u16 = 0x0301;
const TLS_1_2: u16 = 0x0303;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::frps("https/refused", async |lab| {
            let port = ports::free();
            let setup = lab.setup().frps("vhostHTTPSPort", port);
            let (_frps, _) = setup.start_server().await?;
            refused(port).await
        }),
        Case::frps("https/registration", registration),
        Case::frps("https/silence", async |lab| {
            let port = ports::free();
            let setup = lab.setup().frps("vhostHTTPSPort", port);
            let (_frps, _) = setup.start_server().await?;
            let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            let mut half = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            half.write_all(&client_hello("a.test", TLS_1_2)[..30])
                .await?;
            let limit = Duration::from_secs(40);
            assert_eq!(read_all(&mut silent, limit).await?, b"");
            assert_eq!(read_all(&mut half, LIMIT).await?, b"");
            Ok(())
        })
        .long("30 s until they are given up"),
    ];
    for wire in ["v1", "v2"] {
        cases.push(Case::pair(
            format!("https/{wire}/passthrough"),
            async move |lab| {
                let port = ports::free();
                let setup = setup(lab, port).wire(wire);
                let _pair = setup.start().await?;
                for name in [
                    "a.test",
                    "A.TEST",
                    "x.wild.test",
                    "y.x.wild.test",
                    "s.sub.test",
                ] {
                    let hello = client_hello(name, TLS_1_2);
                    assert_eq!(ask(port, &hello, hello.len()).await?, hello, "{name}");
                }
                // An old version is the business of who answers.
                let old = client_hello("a.test", TLS_1_0);
                assert_eq!(ask(port, &old, old.len()).await?, old);
                in_pieces(port).await
            },
        ));
    }
    cases
}

fn setup(lab: &Lab, port: u16) -> Setup<'_> {
    lab.setup()
        .frps("vhostHTTPSPort", port)
        .frps("subDomainHost", "sub.test")
        .proxy("type", "https")
        .proxy("customDomains", &["a.test", "*.wild.test"][..])
        .proxy("subdomain", "s")
}

/// A hello in many segments and records, and what follows it.
async fn in_pieces(port: u16) -> Outcome {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let whole = client_hello("a.test", TLS_1_2);
    let mut sent = Vec::new();
    for fragment in whole[5..].chunks(9) {
        sent.extend([22, 3, 1, 0, fragment.len() as u8]);
        sent.extend(fragment);
    }
    sent.extend(b"\x17\x03\x03\x00\x04more");
    for piece in sent.chunks(7) {
        stream.write_all(piece).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut received = vec![0; sent.len()];
    within("the echo", LIMIT, stream.read_exact(&mut received)).await??;
    assert_eq!(received, sent);
    Ok(())
}

/// What users see whom no proxy wants.
async fn refused(port: u16) -> Outcome {
    const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
    const PROTOCOL_VERSION: &[u8] = &[21, 3, 1, 0, 2, 2, 70];
    let trailing_dot = client_hello("a.test.", TLS_1_2);
    let cut_name = [&client_hello("a.test", TLS_1_2)[..60], &[0xff; 20]].concat();
    for (bytes, answer) in [
        (&client_hello("z.test", TLS_1_2)[..], UNRECOGNIZED_NAME),
        (&client_hello("", TLS_1_2), UNRECOGNIZED_NAME),
        (&client_hello("z.test", TLS_1_0), PROTOCOL_VERSION),
        (&trailing_dot, b""),
        (&cut_name, b""),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", b""),
        (&[21, 3, 3, 0, 2, 2, 40], b""),
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0], b""),
    ] {
        assert_eq!(
            send_and_read_all(port, bytes, LIMIT).await?,
            answer,
            "{bytes:?}"
        );
    }
    // Half a hello, and then the end.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream
        .write_all(&client_hello("a.test", TLS_1_2)[..30])
        .await?;
    stream.shutdown().await?;
    assert_eq!(read_all(&mut stream, LIMIT).await?, b"");
    Ok(())
}

async fn registration(lab: &Lab) -> Outcome {
    let port = ports::free();
    let setup = setup(lab, port).frps("transport.tcpMux", false);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, Version::V1);
    let mut client = link.login(login_message()).await?;
    let of = |name: &str, domains: &[&str], subdomain: &str| NewProxy {
        proxy_name: name.into(),
        proxy_type: "https".into(),
        custom_domains: domains.iter().map(|&d| d.into()).collect(),
        subdomain: subdomain.into(),
        ..NewProxy::default()
    };
    let resp = client
        .register(of("a", &["A.test", "", "b.test"], "s"))
        .await?;
    let expected = format!("A.test:{port},b.test:{port},s.sub.test:{port}");
    assert_eq!((resp.error.as_str(), resp.remote_addr), ("", expected));
    for (proxy, error) in [
        (of("b", &["c.test", "a.TEST"], ""), "router config conflict"),
        (of("b", &["d.test", "d.test"], ""), "router config conflict"),
        (
            of("b", &["x.sub.test"], ""),
            "custom domain [x.sub.test] should not belong to subdomain host [sub.test]",
        ),
        (
            of("b", &[], "a.b"),
            "'.' and '*' are not supported in subdomain",
        ),
    ] {
        assert_eq!(client.register(proxy).await?.error, error);
    }
    // What was taken before the conflict is free again.
    let resp = client.register(of("b", &["c.test", "d.test"], "")).await?;
    assert_eq!(resp.error, "");
    let resp = client.register(of("none", &[], "")).await?;
    assert_eq!((resp.error.as_str(), resp.remote_addr.as_str()), ("", ""));
    Ok(())
}
