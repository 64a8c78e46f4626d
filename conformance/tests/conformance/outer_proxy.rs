//! frpc reaches frps through another proxy, and finds it by the name server it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, ports, service};
use frp_proto::tls::{ServerTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, scheme, authority) in [
        ("http", "http", ""),
        ("http_password", "http", "us%40er:pa%3Ass@"),
        ("socks5", "socks5", ""),
        ("socks5_password", "socks5", "us%40er:pa%3Ass@"),
    ] {
        for transport in ["tcp", "websocket"] {
            cases.push(
                Case::pair(
                    format!("outer_proxy/{name}/{transport}"),
                    async move |lab| {
                        let proxy = proxy(scheme, !authority.is_empty()).await?;
                        through(lab, transport, &format!("{scheme}://{authority}{proxy}")).await
                    },
                )
                .since(52),
            );
        }
    }
    cases.extend([
        Case::pair("outer_proxy/refused", async |lab: &Lab| {
            let proxy = proxy("http", true).await?;
            let setup = lab
                .setup()
                .frpc("transport.proxyURL", format!("http://{proxy}"));
            let mut frpc = setup.start_client(1, 0).await?;
            assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
            frpc.logs("DialTcpByHttpProxy error, StatusCode [407]")
                .await
        }),
        Case::pair("outer_proxy/unknown_scheme", async |lab: &Lab| {
            let setup = lab.setup().frpc("transport.proxyURL", "ftp://127.0.0.1:1");
            let mut frpc = setup.start_client(1, 0).await?;
            assert_eq!(frpc.exit(LIMIT).await?.code(), Some(1));
            let text = "ProxyType must be http, https, socks5 or ntlm, not [ftp]";
            frpc.logs(text).await
        }),
        Case::pair("outer_proxy/wss", async |lab: &Lab| {
            // What a TLS-terminating web server in front of frps does.
            let setup = lab.setup().frpc("transport.protocol", "wss");
            let (_frps, port) = setup.start_server().await?;
            let front = tls_front(([127, 0, 0, 1], port).into()).await?;
            let remote = ports::free();
            let mut frpc = setup.start_client(front.port(), remote).await?;
            frpc.logs("start proxy success").await?;
            service::echo(([127, 0, 0, 1], remote).into(), 300_000).await
        }),
        Case::pair("outer_proxy/dns_server", async |lab: &Lab| {
            let server = name_server().await?;
            let setup = lab.setup().frpc("dnsServer", server.to_string());
            let setup = setup.frpc("serverAddr", "frps.conformance.test");
            setup.start().await?.echo().await
        }),
        Case::pair("outer_proxy/local_ip", async |lab: &Lab| {
            let setup = lab
                .setup()
                .frpc("transport.connectServerLocalIP", "127.0.0.9");
            let mut pair = setup.start().await?;
            pair.frps.logs("client login info: ip [127.0.0.9:").await
        }),
    ]);
    cases
}

/// A tunnel over a proxy that resolves names itself.
async fn through(lab: &Lab, transport: &str, url: &str) -> Outcome {
    let setup = lab.setup().frpc("transport.protocol", transport);
    let setup = setup.frpc("transport.proxyURL", url);
    // No name that this machine knows.
    let setup = setup.frpc("serverAddr", "frps.behind.proxy.test");
    setup.start().await?.echo().await
}

/// A proxy that connects to this machine, whatever it is asked for.
async fn proxy(scheme: &'static str, password: bool) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut user, _)) = listener.accept().await {
            tokio::spawn(async move {
                let port = match scheme {
                    "http" => http(&mut user, password).await?,
                    _ => socks5(&mut user, password).await?,
                };
                let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                copy_bidirectional(&mut user, &mut server).await
            });
        }
    });
    Ok(address)
}

async fn http(user: &mut TcpStream, password: bool) -> std::io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(user.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let expected = "Proxy-Authorization: Basic dXNAZXI6cGE6c3M=";
    if password && !head.contains(expected) {
        user.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await?;
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    user.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    let port = head
        .split(' ')
        .nth(1)
        .and_then(|at| at.rsplit_once(':')?.1.parse().ok());
    port.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

async fn socks5(user: &mut TcpStream, password: bool) -> std::io::Result<u16> {
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let [_, methods] = read(user).await?;
    user.read_exact(&mut vec![0; methods.into()]).await?;
    user.write_all(&[5, if password { 2 } else { 0 }]).await?;
    if password {
        let request: [u8; 13] = read(user).await?;
        if request != *b"\x01\x05us@er\x05pa:ss" {
            user.write_all(&[1, 1]).await?;
            return Err(bad());
        }
        user.write_all(&[1, 0]).await?;
    }
    let [_, _, _, kind, len] = read(user).await?;
    if kind != 3 {
        return Err(bad());
    }
    user.read_exact(&mut vec![0; len.into()]).await?;
    let port = user.read_u16().await?;
    user.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(port)
}

async fn read<const N: usize>(stream: &mut TcpStream) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Ends TLS and forwards what is inside.
async fn tls_front(target: SocketAddr) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let tls = Arc::new(ServerTls::new(TlsFiles::default())?);
    tokio::spawn(async move {
        while let Ok((user, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move { forward(tls.accept(user).await?, target).await });
        }
    });
    Ok(address)
}

async fn forward(
    mut user: impl AsyncRead + AsyncWrite + Unpin,
    target: SocketAddr,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut user, &mut server).await.map(drop)
}

/// Says of every name that it is this machine.
async fn name_server() -> Outcome<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut query).await {
            let question = query[12..n]
                .iter()
                .position(|b| *b == 0)
                .map(|end| 12 + end + 5);
            let Some(end) = question.filter(|end| *end <= n) else {
                continue;
            };
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            if answer[end - 3] == 1 {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    Ok(address)
}
