//! SOCKS5 (RFC 1928, RFC 1929).

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Credentials;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Has a SOCKS5 proxy connect to `host:port`.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    let methods: &[u8] = match credentials {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, PASSWORD],
    };
    io.write_all(methods).await?;
    io.flush().await?;
    let [version, method] = read(io).await?;
    check_version(version)?;
    match (method, credentials) {
        (NO_AUTHENTICATION, _) => {}
        (PASSWORD, Some(credentials)) => authenticate(io, credentials).await?,
        (NONE_ACCEPTABLE, _) => return fail("no acceptable authentication methods"),
        (other, _) => return fail(format!("unsupported authentication method {other}")),
    }

    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        Err(_) => {
            let Ok(len) = u8::try_from(host.len()) else {
                return fail("FQDN too long");
            };
            request.extend([NAME, len]);
            request.extend(host.bytes());
        }
    }
    request.extend(port.to_be_bytes());
    io.write_all(&request).await?;
    io.flush().await?;

    let [version, code, reserved, kind] = read(io).await?;
    check_version(version)?;
    if code != 0 {
        return fail(format!("unknown error {}", reply_text(code)));
    }
    if reserved != 0 {
        return fail("non-zero reserved field");
    }
    let len = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(io.read_u8().await?),
        other => return fail(format!("unknown address type {other}")),
    };
    // The address it connected from is of no use.
    io.read_exact(&mut vec![0; len + 2]).await?;
    Ok(())
}

async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    (user, password): &Credentials,
) -> io::Result<()> {
    let (Ok(user_len @ 1..), Ok(password_len)) =
        (u8::try_from(user.len()), u8::try_from(password.len()))
    else {
        return fail("invalid username/password");
    };
    let mut request = vec![1, user_len];
    request.extend(user.bytes());
    request.push(password_len);
    request.extend(password.bytes());
    io.write_all(&request).await?;
    io.flush().await?;
    let [version, status] = read(io).await?;
    if version != 1 {
        return fail("invalid username/password version");
    }
    if status != 0 {
        return fail("username/password authentication failed");
    }
    Ok(())
}

async fn read<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn check_version(version: u8) -> io::Result<()> {
    if version == VERSION {
        Ok(())
    } else {
        fail(format!("unexpected protocol version {version}"))
    }
}

fn fail<T>(text: impl Into<String>) -> io::Result<T> {
    Err(io::Error::other(text.into()))
}

fn reply_text(code: u8) -> String {
    match code {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        other => return format!("unknown code: {other}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::testing::{hex, unhex};

    /// What is asked of a proxy that answers so, and the outcome.
    async fn asked(
        host: &str,
        credentials: Option<(&str, &str)>,
        answers: &str,
    ) -> (String, Result<(), String>) {
        let (mut io, mut proxy) = duplex(4096);
        proxy.write_all(&unhex(answers)).await.unwrap();
        proxy.shutdown().await.unwrap();
        let credentials = credentials.map(|(u, p)| (u.to_owned(), p.to_owned()));
        let connected = connect(&mut io, host, 63110, credentials.as_ref()).await;
        drop(io);
        let mut request = Vec::new();
        proxy.read_to_end(&mut request).await.unwrap();
        (hex(&request), connected.map_err(|e| e.to_string()))
    }

    #[tokio::test]
    async fn the_bytes_are_those_of_the_specification() {
        let done = "05000001 00000000 0000";
        let name = "0501000310667270732e6578616d706c652e636f6df686";
        let (request, connected) = asked("frps.example.com", None, &format!("0500 {done}")).await;
        assert_eq!((request, connected), (format!("050100{name}"), Ok(())));
        let (request, connected) = asked(
            "frps.example.com",
            Some(("user", "pass")),
            &format!("0502 0100 {done}"),
        )
        .await;
        let expected = format!("050200020104757365720470617373{name}");
        assert_eq!((request, connected), (expected, Ok(())));
        // The proxy needs no password.
        let (request, _) = asked("::1", Some(("u", "p")), &format!("0500 {done}")).await;
        assert_eq!(
            request,
            "0502000205010004 00000000000000000000000000000001f686".replace(' ', "")
        );
        let (request, _) = asked("10.0.0.1", None, "0500 050000030161 0000").await;
        assert_eq!(request, "05010005010001 0a000001f686".replace(' ', ""));
    }

    #[tokio::test]
    async fn refusals_tell_why() {
        for (credentials, answers, expected) in [
            (None, "05ff", "no acceptable authentication methods"),
            (None, "0502", "unsupported authentication method 2"),
            (None, "0400", "unexpected protocol version 4"),
            (None, "0500 05050001", "unknown error connection refused"),
            (None, "0500 05630001", "unknown error unknown code: 99"),
            (None, "0500 05000101", "non-zero reserved field"),
            (None, "0500 05000009", "unknown address type 9"),
            (Some(("", "p")), "0502", "invalid username/password"),
            (
                Some(("u", "p")),
                "0502 0101",
                "username/password authentication failed",
            ),
            (None, "05", "early eof"),
        ] {
            let (_, connected) = asked("h", credentials, answers).await;
            assert_eq!(connected, Err(expected.into()), "{answers}");
        }
    }
}
