//! HTTP CONNECT.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use httparse::{EMPTY_HEADER, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

use super::Credentials;

/// Longest head of a response, and most fields of one.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// Longest body of a response that is skipped.
const MAX_BODY: u64 = 1024 * 1024;

/// Has an HTTP proxy connect to `target`.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    target: &str,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    let authorization = credentials.map(authorization);
    match request(io, target, "Mozilla/5.0", authorization.as_deref()).await? {
        Answer { status: 200, .. } => Ok(()),
        Answer { status, .. } => Err(io::Error::other(format!(
            "DialTcpByHttpProxy error, StatusCode [{status}]"
        ))),
    }
}

/// The value of `Proxy-Authorization`.
pub(super) fn authorization((user, password): &Credentials) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// What a proxy answers.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Proxy-Authenticate`.
    pub(super) challenge: Option<String>,
}

/// Sends one CONNECT and reads the answer with its body, and not a byte more.
pub(super) async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    target: &str,
    user_agent: &str,
    authorization: Option<&str>,
) -> io::Result<Answer> {
    let authorization = authorization
        .map(|value| format!("Proxy-Authorization: {value}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {user_agent}\r\n{authorization}\r\n"
    );
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;

    // What follows the head belongs to who reads next.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(malformed());
        }
        head.push(io.read_u8().await?);
    }
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut response = Response::new(&mut fields);
    response.parse(&head).map_err(|_| malformed())?;
    let field = |name: &str| {
        let found = response
            .headers
            .iter()
            .find(|f| f.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let body = field("Content-Length").map_or(Ok(0), str::parse::<u64>);
    let body = body.ok().filter(|n| *n <= MAX_BODY).ok_or_else(malformed)?;
    if copy(&mut (&mut *io).take(body), &mut sink()).await? < body {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Answer {
        status: response.code.unwrap_or(0),
        challenge: field("Proxy-Authenticate").map(str::to_owned),
    })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP response")
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn the_request_is_upstreams_and_nothing_is_lost() {
        let (mut io, mut proxy) = duplex(4096);
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest";
        proxy.write_all(answer.as_bytes()).await.unwrap();
        let credentials = ("us@er".to_owned(), "pa:ss".to_owned());
        connect(&mut io, "frps.example.com:63110", Some(&credentials))
            .await
            .unwrap();
        let mut rest = [0; 4];
        io.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"rest");
        drop(io);
        let mut request = String::new();
        proxy.read_to_string(&mut request).await.unwrap();
        assert_eq!(
            request,
            "CONNECT frps.example.com:63110 HTTP/1.1\r\nHost: frps.example.com:63110\r\nUser-Agent: Mozilla/5.0\r\nProxy-Authorization: Basic dXNAZXI6cGE6c3M=\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn refusals_and_nonsense_are_errors() {
        for (answer, expected) in [
            (
                "HTTP/1.1 407 No\r\n\r\n",
                "DialTcpByHttpProxy error, StatusCode [407]",
            ),
            ("nonsense\r\n\r\n", "malformed HTTP response"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
                "malformed HTTP response",
            ),
        ] {
            let (mut io, mut proxy) = duplex(4096);
            proxy.write_all(answer.as_bytes()).await.unwrap();
            let error = connect(&mut io, "h:1", None).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
