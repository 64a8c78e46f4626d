//! Reading a `ClientHello` without answering it: which server a TLS user wants (RFC 8446 §4.1.2, RFC 6066 §3).
//!
//! Only what routing needs is looked at. The rest is the business of the server that the bytes go to.

use std::borrow::Cow;

/// Most bytes in which a hello must come; as upstream, the message itself may have 64 KiB.
pub const MAX_LEN: usize = MAX_MESSAGE + 16 * 1024;
const MAX_MESSAGE: usize = 64 * 1024;
/// Longest record of plaintext.
const MAX_RECORD: usize = 16 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const HOST_NAME: u8 = 0;
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;

/// What a hello asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// As the user wrote it; empty if there is none.
    pub server_name: String,
    /// Whether TLS 1.2 or 1.3 would do.
    pub modern: bool,
    /// Whether what follows may be application data of an earlier session (RFC 8446 §4.2.10).
    pub early_data: bool,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A whole hello; what follows it has not been looked at.
    Hello(ClientHello),
    /// The beginning of one.
    Incomplete {
        /// Nothing will be known before this many bytes are there.
        need: usize,
    },
}

/// The bytes are no `ClientHello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not TLS at all.
    #[error("tls: first record does not look like a TLS handshake")]
    NotTls,
    /// TLS, but not well-formed.
    #[error("tls: malformed ClientHello")]
    Malformed,
}

/// Decodes the hello at the front of `bytes`, which may be any beginning of a connection.
pub fn decode(bytes: &[u8]) -> Result<Decoded, HelloError> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        if let Some(whole) = whole(&message)? {
            let hello = parse(whole).ok_or(HelloError::Malformed)?;
            return Ok(Decoded::Hello(hello));
        }
        let taken = bytes.len() - rest.len();
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD) {
            return Err(HelloError::NotTls);
        }
        let Some((&[_, major, _, high, low], after)) = rest.split_first_chunk() else {
            return Ok(Decoded::Incomplete { need: taken + 5 });
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if major != 3 {
            return Err(HelloError::NotTls);
        }
        if len == 0 || len > MAX_RECORD {
            return Err(HelloError::Malformed);
        }
        let Some((fragment, after)) = after.split_at_checked(len) else {
            let need = taken + 5 + len;
            return Ok(Decoded::Incomplete { need });
        };
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        rest = after;
    }
}

/// The body of the handshake message, once all of it is there.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::Malformed);
    }
    let Some((&[_, a, b, c], body)) = message.split_first_chunk() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if len > MAX_MESSAGE {
        return Err(HelloError::Malformed);
    }
    Ok(body.get(..len))
}

fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    let legacy_version = body.u16()?;
    let _random = body.bytes(32)?;
    let _session = body.vec8()?;
    let _ciphers = body.vec16()?;
    let _compression = body.vec8()?;
    let mut hello = ClientHello {
        server_name: String::new(),
        modern: legacy_version >= TLS_1_2,
        early_data: false,
    };
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vec16()?);
    let (mut named, mut versioned) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = Reader(extensions.vec16()?);
        match kind {
            SERVER_NAME if !named => {
                named = true;
                hello.server_name = server_name(data.vec16()?)?;
            }
            SUPPORTED_VERSIONS if !versioned => {
                versioned = true;
                let versions = data.vec8()?.chunks_exact(2);
                let mut versions = versions.map(|v| u16::from_be_bytes([v[0], v[1]]));
                hello.modern = versions.any(|v| matches!(v, TLS_1_2 | TLS_1_3));
            }
            SERVER_NAME | SUPPORTED_VERSIONS => return None,
            EARLY_DATA => {
                hello.early_data = true;
                continue;
            }
            _ => continue,
        }
        if !data.0.is_empty() {
            return None;
        }
    }
    body.0.is_empty().then_some(hello)
}

/// The host name of a list that holds one at most.
fn server_name(list: &[u8]) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    let mut found = None;
    let mut list = Reader(list);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vec16()?;
        // A trailing dot is not allowed on the wire.
        if name.is_empty() || name.ends_with(b".") || kind == HOST_NAME && found.is_some() {
            return None;
        }
        if kind == HOST_NAME {
            found = Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    Some(found.unwrap_or_default())
}

/// Takes fields off the front; `None` when there are not enough bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.bytes(len.into())
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.bytes(len.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vec16(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u16).to_be_bytes(), content].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vec16(data)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        extension(0, &vec16(&[&[0], &vec16(name)[..]].concat()))
    }

    /// A handshake message; no extensions at all if the list is empty.
    fn message(version: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        if !extensions.is_empty() {
            body.extend(vec16(&extensions.concat()));
        }
        let len = (body.len() as u32).to_be_bytes();
        [&[1], &len[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1], &vec16(part)[..]].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn hello(version: u16, extensions: &[Vec<u8>]) -> Result<(String, bool), HelloError> {
        match decode(&records(&message(version, extensions), 16_000))? {
            Decoded::Hello(hello) => Ok((hello.server_name, hello.modern)),
            Decoded::Incomplete { need } => panic!("{need} bytes wanted"),
        }
    }

    #[test]
    fn early_data_is_noticed() {
        let early = |extensions: &[Vec<u8>]| {
            let bytes = records(&message(0x0303, extensions), 16_000);
            matches!(decode(&bytes), Ok(Decoded::Hello(hello)) if hello.early_data)
        };
        assert!(early(&[sni(b"a.test"), extension(42, &[])]));
        assert!(!early(&[sni(b"a.test")]));
    }

    #[test]
    fn names_and_versions() {
        let grease = extension(0x1a1a, &[0]);
        let modern = extension(43, &[4, 0x3a, 0x3a, 3, 4]);
        let of = |name: &str, modern| Ok((name.to_owned(), modern));
        let name = || sni(b"A.test");
        assert_eq!(hello(0x0303, &[grease, name(), modern]), of("A.test", true));
        assert_eq!(hello(0x0303, &[]), of("", true));
        assert_eq!(hello(0x0301, &[name()]), of("A.test", false));
        // The list decides, whatever the old field says.
        let old = extension(43, &[2, 3, 2]);
        assert_eq!(hello(0x0303, &[name(), old]), of("A.test", false));
        let other_kind = extension(0, &vec16(&[9, 0, 1, b'x']));
        assert_eq!(hello(0x0303, &[other_kind]), of("", true));
        assert_eq!(hello(0x0303, &[sni(b"\xff")]), of("\u{fffd}", true));
    }

    #[test]
    fn what_is_malformed() {
        let twice = extension(0, &vec16(b"\0\0\x01a\0\0\x01b"));
        for extensions in [
            vec![sni(b"")],
            vec![sni(b"a.")],
            vec![sni(b"a"), sni(b"a")],
            vec![twice],
            vec![extension(0, &[])],
            vec![extension(0, &[0, 0])],
            vec![extension(0, &[0, 5, 0, 0, 9, b'a', b'b'])],
            vec![extension(43, &[2, 3, 4, 0])],
            vec![vec![0, 1, 2]],
        ] {
            assert_eq!(
                hello(0x0303, &extensions),
                Err(HelloError::Malformed),
                "{extensions:?}"
            );
        }
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\n"[..], HelloError::NotTls),
            (&[22, 0x10, 0, 0, 1, 1], HelloError::NotTls),
            (&[22, 3, 1, 0, 0], HelloError::Malformed),
            (&[22, 3, 1, 0x40, 1], HelloError::Malformed),
            (&[22, 3, 1, 0, 1, 2], HelloError::Malformed),
            (&[22, 3, 1, 0, 4, 1, 1, 0, 1], HelloError::Malformed),
            (&[22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2], HelloError::NotTls),
        ] {
            assert_eq!(decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_hello_may_come_in_any_pieces() {
        let message = message(0x0303, &[extension(21, &[0; 300]), sni(b"a.test")]);
        for size in [1, 3, 100, 16_000] {
            let bytes = [&records(&message, size)[..], b"more"].concat();
            let mut have = 0;
            let hello = loop {
                match decode(&bytes[..have]).unwrap() {
                    Decoded::Hello(hello) => break hello,
                    Decoded::Incomplete { need } => {
                        assert!(need > have);
                        assert_eq!(decode(&bytes[..need - 1]), decode(&bytes[..have]));
                        have = need;
                    }
                }
            };
            assert_eq!(have, bytes.len() - 4);
            assert_eq!(hello.server_name, "a.test");
        }
    }

    #[test]
    fn a_real_one() {
        use std::sync::Arc;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = "web.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let expected = ClientHello {
            server_name: "web.example".into(),
            modern: true,
            early_data: false,
        };
        assert_eq!(decode(&bytes), Ok(Decoded::Hello(expected)));
    }
}
