//! Users of ports that many proxies share, and services that say which one has answered.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::wait::{LIMIT, within};

/// Starts a service that says its name, then sends back what comes; its port.
pub async fn named_service(name: &'static str) -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await?;
                let (mut r, mut w) = stream.split();
                tokio::io::copy(&mut r, &mut w).await
            });
        }
    });
    Ok(port)
}

/// Sends `request` on a new connection and reads `len` bytes of the answer.
pub async fn ask(port: u16, request: &[u8], len: usize) -> Outcome<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request).await?;
    let mut answer = vec![0; len];
    within("the answer", LIMIT, stream.read_exact(&mut answer)).await??;
    Ok(answer)
}

/// The first bytes of a TLS user who wants `name`; empty: who does not say what he wants. `version` is the highest he knows,
/// without extensions for more.
pub fn client_hello(name: &str, version: u16) -> Vec<u8> {
    let vec16 = |content: &[u8]| [&(content.len() as u16).to_be_bytes(), content].concat();
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    // No session; two cipher suites, the first of which is GREASE; no compression.
    body.extend([0, 0, 4, 0x2a, 0x2a, 0xc0, 0x2f, 1, 0]);
    let grease = [0x1a, 0x1a, 0, 1, 0];
    let extensions = if name.is_empty() {
        grease.to_vec()
    } else {
        let names = vec16(&[&[0], &vec16(name.as_bytes())[..]].concat());
        [&grease, &[0, 0][..], &vec16(&names)].concat()
    };
    body.extend(vec16(&extensions));
    let len = (body.len() as u32).to_be_bytes();
    let message = [&[1], &len[1..], &body].concat();
    [&[22, 3, 1], &vec16(&message)[..]].concat()
}
