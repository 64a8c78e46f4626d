//! Balancers in front that say by the PROXY protocol whose connection they pass on. Upstream has nothing of the kind.

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::config::Value;
use conformance::raw::{Client, Link, login_message, read_all, send_and_read_all, tcp_proxy};
use conformance::vhost::{ask, client_hello};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, Setup, ports};
use frp_proto::msg::io::read_message;
use frp_proto::msg::{Message, NewProxy, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const WHY: &str = "upstream does not accept the PROXY protocol";
const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1"];
const OTHERS: &[&str] = &["10.0.0.0/8"];
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
/// The same, then ALPN `h2`.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb\x01\0\x02h2";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("proxy_protocol_in/backend_sees_the_user", async |lab| {
            let setup =
                front(lab, LOOPBACK, &["proxy"]).proxy("transport.proxyProtocolVersion", "v1");
            let pair = setup.start().await?;
            for header in [V1, V2] {
                let sent = [header, b"payload"].concat();
                let expected = [V1, b"payload"].concat();
                let answer = ask(pair.user.port(), &sent, expected.len()).await?;
                assert_eq!(answer, expected);
            }
            Ok(())
        })
        .ours_only(WHY),
        Case::pair("proxy_protocol_in/bind", async |lab| {
            let (mut frps, server) = front(lab, LOOPBACK, &["bind"]).start_server().await?;
            let balancer = balancer(server, V2).await?;
            let setup = lab.setup();
            let mut frpc = setup.start_client(balancer, ports::free()).await?;
            frpc.logs("start proxy success").await?;
            frps.logs("client login info: ip [192.0.2.1:56324] ").await
        })
        .ours_only(WHY),
        Case::frps("proxy_protocol_in/vhosts", vhosts).ours_only(WHY),
        Case::frps("proxy_protocol_in/untrusted", untrusted).ours_only(WHY),
        Case::frps("proxy_protocol_in/trusted_must_send_one", async |lab| {
            let setup = front(lab, LOOPBACK, &["proxy"]).frps("transport.tcpMux", false);
            let (_frps, server) = setup.start_server().await?;
            let link = Link::plain(server, Version::V1);
            let mut client = link.login(login_message()).await?;
            let remote = tcp_port(&mut client).await?;
            let too_long = [&V2[..14], &[0xff, 0xff], &[0; 100]].concat();
            let bad_checksum = [&V2[..14], b"\0\x13", &V2[16..28], b"\x03\0\x04abcd"].concat();
            for bytes in [
                &b"GET / HTTP/1.1\r\n\r\n"[..],
                b"PROXY TCP4 192.0.2.1\r\n",
                b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 70000\r\n",
                &too_long,
                &bad_checksum,
            ] {
                assert_eq!(
                    send_and_read_all(remote, bytes, LIMIT).await?,
                    b"",
                    "{bytes:?}"
                );
            }
            let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, remote)).await?;
            assert_eq!(read_all(&mut silent, Duration::from_secs(15)).await?, b"");
            Ok(())
        })
        .ours_only(WHY),
        Case::frps("proxy_protocol_in/configuration", configuration).ours_only(WHY),
    ]
}

fn front<'a>(lab: &'a Lab, trusted: &'static [&str], listeners: &'static [&str]) -> Setup<'a> {
    lab.setup()
        .frps("proxyProtocol.trustedCIDRs", trusted)
        .frps("proxyProtocol.ports", listeners)
}

/// Passes connections on to `port`, each with a header first; where it listens.
async fn balancer(port: u16, header: &'static [u8]) -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let own = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut user, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                server.write_all(header).await?;
                tokio::io::copy_bidirectional(&mut user, &mut server).await
            });
        }
    });
    Ok(own)
}

async fn tcp_port(client: &mut Client<'_>) -> Outcome<u16> {
    let resp = client.register(tcp_proxy("t", 0)).await?;
    assert_eq!(resp.error, "");
    Ok(resp.remote_addr.trim_start_matches(':').parse()?)
}

/// Connects to `port` with `bytes`; the addresses that the client is told, and the first bytes that its service would get.
async fn told(
    client: &Client<'_>,
    port: u16,
    bytes: &[u8],
    payload: usize,
) -> Outcome<([String; 2], Vec<u8>)> {
    let mut work = client.offer_work().await?;
    let mut user = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    user.write_all(bytes).await?;
    let message = read_message(&mut work, Version::V1);
    let Some(Message::StartWorkConn(start)) = within("StartWorkConn", LIMIT, message).await??
    else {
        return Err(conformance::Failure::new("not StartWorkConn"));
    };
    let mut first = vec![0; payload];
    within("the payload", LIMIT, work.read_exact(&mut first)).await??;
    let ends = [
        format!("{}:{}", start.src_addr, start.src_port),
        format!("{}:{}", start.dst_addr, start.dst_port),
    ];
    Ok((ends, first))
}

async fn vhosts(lab: &Lab) -> Outcome {
    let (http, https, tcpmux) = (ports::free(), ports::free(), ports::free());
    let setup = front(lab, LOOPBACK, &["http", "https", "tcpmux", "proxy"])
        .frps("transport.tcpMux", false)
        .frps("vhostHTTPPort", http)
        .frps("vhostHTTPSPort", https)
        .frps("tcpmuxHTTPConnectPort", tcpmux)
        .frps("tcpmuxPassthrough", true);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, Version::V1);
    let mut client = link.login(login_message()).await?;
    for kind in ["http", "https", "tcpmux"] {
        let proxy = NewProxy {
            proxy_name: kind.into(),
            proxy_type: kind.into(),
            multiplexer: "httpconnect".into(),
            custom_domains: vec!["a.test".into()],
            ..NewProxy::default()
        };
        assert_eq!(client.register(proxy).await?.error, "");
    }
    let tcp = tcp_port(&mut client).await?;
    let hello = client_hello("a.test", 0x0303);
    let connect = b"CONNECT a.test:1 HTTP/1.1\r\n\r\n";
    for (port, request) in [(https, &hello[..]), (tcpmux, connect), (tcp, b"payload")] {
        for header in [V1, V2] {
            let sent = [header, request].concat();
            let (ends, first) = told(&client, port, &sent, request.len()).await?;
            assert_eq!(ends, ["192.0.2.1:56324", "198.51.100.2:443"]);
            assert_eq!(first, request);
        }
        for header in [V1_UNKNOWN, V2_LOCAL] {
            let sent = [header, request].concat();
            let ([source, _], first) = told(&client, port, &sent, request.len()).await?;
            assert!(source.starts_with("127.0.0.1:"), "{source}");
            assert_eq!(first, request);
        }
    }
    let request = [V1, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat();
    let (ends, first) = told(&client, http, &request, 90).await?;
    assert_eq!(ends[0], "192.0.2.1:56324");
    let first = String::from_utf8_lossy(&first).to_lowercase();
    assert!(first.contains("x-forwarded-for: 192.0.2.1\r\n"), "{first}");
    Ok(())
}

/// What looks like a header is payload.
async fn untrusted(lab: &Lab) -> Outcome {
    let setup = front(lab, OTHERS, &["proxy"]).frps("transport.tcpMux", false);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, Version::V1);
    let mut client = link.login(login_message()).await?;
    let port = tcp_port(&mut client).await?;
    for header in [V1, V2] {
        let ([source, _], first) = told(&client, port, header, header.len()).await?;
        assert!(source.starts_with("127.0.0.1:"), "{source}");
        assert_eq!(first, header);
    }
    Ok(())
}

/// Files that cannot be meant are refused, with their place.
async fn configuration(lab: &Lab) -> Outcome {
    for (key, value, text) in [
        (
            "proxyProtocol.trustedCIDRs",
            Value::from(&["10.0.0.0/33"][..]),
            "proxyProtocol.trustedCIDRs: \"10.0.0.0/33\" is neither a network like 10.0.0.0/8 nor an address",
        ),
        (
            "proxyProtocol.ports",
            Value::from(&["smoke"][..]),
            "invalid proxyProtocol.ports, optional values are [bind http https tcpmux proxy]",
        ),
        (
            "proxyProtocol.trustedCIDR",
            Value::from(LOOPBACK),
            "json: unknown field \"trustedCIDR\"",
        ),
    ] {
        let mut config = conformance::config::Config::default();
        config.keys.set("bindPort", ports::free());
        config.keys.set(key, value);
        let mut frps = lab.start_frps(&config)?;
        assert_eq!(frps.exit(LIMIT).await?.code(), Some(1));
        let log = frps.log();
        assert!(log.contains(text) && log.contains("frps.toml:2:"), "{log}");
    }
    Ok(())
}
