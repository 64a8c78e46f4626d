//! `unix_domain_socket`, `tls2raw`, and bytes that are for none of the plugins.

use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, service};
use frp_proto::tls::{ClientTls, TlsFiles};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ask, mirror, plugin, talk};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::pair("plugins/tls2raw/echo", async |lab| {
            let echo = service::start(service::Kind::Echo).await?;
            let setup = plugin(lab, "tls2raw").proxy("plugin.localAddr", echo.to_string());
            let pair = setup.start().await?;
            let mut user = tls(TcpStream::connect(pair.user).await?).await?;
            let sent = vec![7; 100_000];
            let mut got = vec![0; sent.len()];
            let conversation = async {
                let (mut r, mut w) = tokio::io::split(&mut user);
                let write = async {
                    w.write_all(&sent).await?;
                    w.flush().await
                };
                tokio::try_join!(write, r.read_exact(&mut got)).map(drop)
            };
            within("the echo", LIMIT, conversation).await??;
            assert!(got == sent);
            Ok(())
        }),
        Case::pair("plugins/tls2raw/proxy_protocol", tls2raw_introduces),
        Case::pair("plugins/tls2raw/changed_certificate", changed_certificate)
            .ours_only("upstream reads certificates once"),
        Case::pair("plugins/missing_certificate", missing_certificate),
        Case::pair("plugins/garbage", garbage),
    ];
    if cfg!(unix) {
        cases.push(Case::pair("plugins/unix_domain_socket", unix_domain_socket));
    }
    cases
}

async fn tls(stream: TcpStream) -> Outcome<frp_proto::tls::TlsStream<TcpStream>> {
    let client = ClientTls::new(TlsFiles::default());
    let handshake = async { client.connect(stream, "site.test").await };
    Ok(within("a TLS handshake", LIMIT, handshake).await??)
}

async fn tls2raw_introduces(lab: &Lab) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let setup = plugin(lab, "tls2raw")
        .proxy("plugin.localAddr", address)
        .proxy("transport.proxyProtocolVersion", "v2");
    let pair = setup.start().await?;
    let stream = TcpStream::connect(pair.user).await?;
    let source = stream.local_addr()?;
    let mut user = tls(stream).await?;
    user.write_all(b"hello").await?;
    user.flush().await?;
    let (mut local, _) = within("a connection", LIMIT, listener.accept()).await??;
    let mut got = [0; 33];
    within("the header", LIMIT, local.read_exact(&mut got)).await??;
    let expected = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"[..],
        &source.port().to_be_bytes(),
        &pair.user.port().to_be_bytes(),
        b"hello",
    ]
    .concat();
    assert_eq!(got[..], expected);
    Ok(())
}

#[cfg(not(unix))]
async fn unix_domain_socket(_: &Lab) -> Outcome {
    Ok(())
}

#[cfg(unix)]
async fn unix_domain_socket(lab: &Lab) -> Outcome {
    let path = lab.directory().join("socket");
    let setup = plugin(lab, "unix_domain_socket")
        .proxy("plugin.unixPath", path.to_string_lossy().into_owned())
        .proxy("transport.proxyProtocolVersion", "v1");
    let mut pair = setup.start().await?;
    let mut early = TcpStream::connect(pair.user).await?;
    assert_eq!(talk(&mut early, b"").await?, b"");
    let dialled = format!("dial to uds {} error: dial unix", path.display());
    pair.frpc.logs(&dialled).await?;
    let listener = tokio::net::UnixListener::bind(&path)?;
    let mut user = TcpStream::connect(pair.user).await?;
    let (mut local, _) = within("a connection", LIMIT, listener.accept()).await??;
    let header = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        user.local_addr()?.port(),
        pair.user.port()
    );
    let mut got = vec![0; header.len()];
    within("the header", LIMIT, local.read_exact(&mut got)).await??;
    assert_eq!(String::from_utf8_lossy(&got), header);
    user.write_all(b"ping").await?;
    within("the user's bytes", LIMIT, local.read_exact(&mut got[..4])).await??;
    local.write_all(b"pong").await?;
    within("the answer", LIMIT, user.read_exact(&mut got[..4])).await??;
    assert_eq!(&got[..4], b"pong");
    Ok(())
}

/// The proxy does not start, and is not kept at the server.
async fn missing_certificate(lab: &Lab) -> Outcome {
    for (name, text) in [
        (
            "tls2raw",
            "[web] start error: open /nonexistent/crt: no such file or directory",
        ),
        (
            "https2http",
            "[web] start error: gen TLS config error: open /nonexistent/crt: no such file or directory",
        ),
    ] {
        let setup = plugin(lab, name)
            .proxy("plugin.localAddr", "127.0.0.1:1")
            .proxy("plugin.crtPath", "/nonexistent/crt")
            .proxy("plugin.keyPath", "/nonexistent/key");
        let (mut frps, port) = setup.start_server().await?;
        let mut frpc = setup.start_client(port, 0).await?;
        frpc.logs(text).await?;
        frps.logs("proxy closing").await?;
    }
    Ok(())
}

/// Who sends garbage or ends early harms nobody.
async fn garbage(lab: &Lab) -> Outcome {
    let target = mirror(false).await?;
    let root = lab.directory().to_string_lossy().into_owned();
    for name in [
        "http_proxy",
        "socks5",
        "static_file",
        "http2http",
        "https2http",
        "tls2raw",
    ] {
        let mut setup = plugin(lab, name);
        setup = match name {
            "static_file" => setup.proxy("plugin.localPath", root.clone()),
            "http_proxy" | "socks5" => setup,
            _ => setup.proxy("plugin.localAddr", target.to_string()),
        };
        let pair = setup.start().await?;
        let noise: Vec<u8> = (0..2_000_u32)
            .map(|i| ((i * i) >> 3) as u8 | 0x80)
            .collect();
        for sent in [
            &b""[..],
            b"\0",
            b"CONNECT",
            b"GET / HT",
            b"\x16\x03\x01\x00\x10",
            &noise,
        ] {
            let mut user = TcpStream::connect(pair.user).await?;
            user.write_all(sent).await?;
            user.shutdown().await?;
            let mut rest = Vec::new();
            // A reset is an end, too.
            let _ = within("the end", LIMIT, user.read_to_end(&mut rest)).await?;
        }
        if let "static_file" | "http2http" = name {
            let answer = ask(&pair, "GET", "/", "").await?;
            assert!(answer.starts_with("HTTP/1.1 200 OK\n"), "{name}: {answer}");
        }
    }
    Ok(())
}

/// New connections see new files; the proxy is not started again.
async fn changed_certificate(lab: &Lab) -> Outcome {
    let write = |name: &str| -> Outcome<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
        Ok((
            lab.file("site.crt", &certificate.pem())?,
            lab.file("site.key", &key.serialize_pem())?,
        ))
    };
    let (crt, key) = write("site.test")?;
    let echo = service::start(service::Kind::Echo).await?;
    let setup = plugin(lab, "tls2raw")
        .proxy("plugin.localAddr", echo.to_string())
        .proxy("plugin.crtPath", crt.clone())
        .proxy("plugin.keyPath", key);
    let pair = setup.start().await?;
    for changed in [false, true] {
        if changed {
            write("site.test")?;
        }
        let trusting = ClientTls::new(TlsFiles {
            trusted_ca_file: crt.clone().into(),
            ..TlsFiles::default()
        });
        let stream = TcpStream::connect(pair.user).await?;
        let handshake = async { trusting.connect(stream, "site.test").await };
        within("a handshake", LIMIT, handshake).await??;
    }
    Ok(())
}
