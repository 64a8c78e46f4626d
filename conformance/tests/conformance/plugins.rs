//! Client plugins behind a `tcp` proxy: what users and local services see is the same from both makers.

mod bridge;
mod forward;
mod hostile;
mod raw;
mod static_file;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use conformance::wait::{LIMIT, within};
use conformance::{Case, Failure, Lab, Outcome, Pair, Setup};
use frp_proto::tls::{ServerTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = forward::cases();
    cases.extend(static_file::cases());
    cases.extend(bridge::cases());
    cases.extend(hostile::cases());
    cases.extend(raw::cases());
    cases
}

/// A pair whose proxy is this plugin.
fn plugin<'a>(lab: &'a Lab, name: &str) -> Setup<'a> {
    lab.setup().proxy("plugin.type", name)
}

/// Sends bytes and returns all that comes back until the end.
async fn exchange(address: SocketAddr, sent: &[u8]) -> Outcome<Vec<u8>> {
    let mut user = TcpStream::connect(address).await?;
    talk(&mut user, sent).await
}

async fn talk<S>(user: &mut S, sent: &[u8]) -> Outcome<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        user.write_all(sent).await?;
        user.flush().await?;
        let mut received = Vec::new();
        user.read_to_end(&mut received).await?;
        Ok::<_, std::io::Error>(received)
    };
    Ok(within("an answer and its end", LIMIT, conversation).await??)
}

/// One HTTP request whose answer is the last of its connection, as [`normal`] form.
async fn ask(pair: &Pair, method: &str, target: &str, fields: &str) -> Outcome<String> {
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    Ok(normal(&exchange(pair.user, request.as_bytes()).await?))
}

/// A message with its header fields sorted, their names in lower case, and without those that say when and over what it came.
fn normal(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return text.into_owned();
    };
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut fields: Vec<String> = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some(format!("{}:{value}", name.to_ascii_lowercase()))
        })
        .filter(|line| !line.starts_with("date:") && !line.starts_with("connection:"))
        .collect();
    fields.sort();
    format!("{first}\n{}\n\n{body}", fields.join("\n"))
}

/// An HTTP service that answers with the request it got, and ends each connection then. With `tls` it speaks TLS.
async fn mirror(tls: bool) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let tls = tls
        .then(|| ServerTls::new(TlsFiles::default()))
        .transpose()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => reflect(stream).await,
                    Some(tls) => reflect(tls.accept(stream).await?).await,
                }
            });
        }
    });
    Ok(address)
}

async fn reflect<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    if value("upgrade:").is_some() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: mirror\r\n\r\nready";
        stream.write_all(answer).await?;
        stream.flush().await?;
        let (mut r, mut w) = tokio::io::split(stream);
        tokio::io::copy(&mut r, &mut w).await?;
        return w.shutdown().await;
    }
    let len = value("content-length:").and_then(|v| v.parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    head.extend(body);
    let seen = normal(&head);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Odd-CASE: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{seen}",
        seen.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// What [`mirror`] saw, without what only one maker adds.
fn seen(answer: &str) -> String {
    let body = answer.split("\n\n").nth(1).unwrap_or_default();
    body.lines()
        .filter(|line| !line.starts_with("accept-encoding:") && !line.starts_with("user-agent:"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What curl prints.
async fn curl(arguments: &[&str]) -> Outcome<String> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let run = tokio::task::spawn_blocking(move || {
        std::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--noproxy",
                "",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
    });
    let output = run.await??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!("curl: {why}")))
}
