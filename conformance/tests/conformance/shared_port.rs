//! Vhost ports that share the client port: the first bytes tell whose a connection is.

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::config::Config;
use conformance::lab::TOKEN;
use conformance::process::Process;
use conformance::raw::{read_all, send_and_read_all};
use conformance::vhost::{ask, client_hello};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome, Setup, ports, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("shared_port/https", async |lab| {
            let (_frps, port) = start(lab, &["vhostHTTPSPort"]).await?;
            let _frpc = client(&https(lab), port).await?;
            passes_through(port).await
        }),
        Case::pair("shared_port/http", async |lab| {
            let (_frps, port) = start(lab, &["vhostHTTPPort"]).await?;
            let setup = lab.setup();
            let remote = ports::free();
            let mut frpc = setup.start_client(port, remote).await?;
            frpc.logs("start proxy success").await?;
            service::echo((Ipv4Addr::LOCALHOST, remote).into(), 100_000).await?;
            not_found(port).await
        }),
        Case::pair("shared_port/both", async |lab| {
            let (_frps, port) = start(lab, &["vhostHTTPPort", "vhostHTTPSPort"]).await?;
            let _frpc = client(&https(lab), port).await?;
            passes_through(port).await?;
            not_found(port).await
        }),
        Case::frps("shared_port/others", async |lab| {
            let (mut frps, port) = start(lab, &["vhostHTTPPort", "vhostHTTPSPort"]).await?;
            for bytes in [
                &b"MKCOL / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..],
                b"POX / HTTP/1.1\r\n\r\n",
            ] {
                assert_eq!(send_and_read_all(port, bytes, LIMIT).await?, b"");
            }
            // Too little to tell, and then the end.
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.write_all(b"GE").await?;
            stream.shutdown().await?;
            assert_eq!(read_all(&mut stream, LIMIT).await?, b"");
            assert!(frps.ended().is_none());
            Ok(())
        }),
        Case::frps("shared_port/other_address", async |lab| {
            let port = ports::free();
            let mut config = server(port, &["vhostHTTPPort"]);
            config.keys.set("bindAddr", "0.0.0.0");
            let mut frps = lab.start_frps(&config)?;
            assert_eq!(frps.exit(LIMIT).await?.code(), Some(1));
            let error = "create vhost http listener error, listen tcp 127.0.0.1:";
            frps.logs(error).await
        }),
    ]
}

/// A server whose client port is also that of `shared`.
fn server(port: u16, shared: &[&'static str]) -> Config {
    let mut config = Config::default();
    config.keys.set("auth.token", TOKEN);
    config.keys.set("bindAddr", "127.0.0.1");
    config.keys.set("proxyBindAddr", "127.0.0.1");
    config.keys.set("bindPort", port);
    for key in shared {
        config.keys.set(key, port);
    }
    config
}

async fn start(lab: &Lab, shared: &[&'static str]) -> Outcome<(Process, u16)> {
    let port = ports::free();
    let mut frps = lab.start_frps(&server(port, shared))?;
    frps.logs("frps started successfully").await?;
    Ok((frps, port))
}

/// An `https` proxy of a client that begins TLS with a byte of its own.
fn https(lab: &Lab) -> Setup<'_> {
    lab.setup()
        .frpc("transport.tls.disableCustomTLSFirstByte", false)
        .proxy("type", "https")
        .proxy("customDomains", &["a.test"][..])
}

async fn client(setup: &Setup<'_>, port: u16) -> Outcome<Process> {
    let mut frpc = setup.start_client(port, 0).await?;
    frpc.logs("start proxy success").await?;
    Ok(frpc)
}

async fn passes_through(port: u16) -> Outcome {
    let hello = client_hello("a.test", 0x0303);
    assert_eq!(ask(port, &hello, hello.len()).await?, hello);
    Ok(())
}

/// The answer of the HTTP server, to a request in one piece and in many.
async fn not_found(port: u16) -> Outcome {
    const ANSWER: &[u8] = b"HTTP/1.1 404 Not Found\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: z.test\r\n\r\n";
    assert_eq!(ask(port, request, ANSWER.len()).await?, ANSWER);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    for byte in request {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut answer = [0; ANSWER.len()];
    within("the answer", LIMIT, stream.read_exact(&mut answer)).await??;
    assert_eq!(answer, ANSWER);
    Ok(())
}
