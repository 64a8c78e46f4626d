//! HTTP CONNECT with NTLM (version 2) authentication (MS-NLMP).

use std::io;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use md4::{Digest, Md4};
use md5::Md5;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Credentials, http};

const USER_AGENT: &str = "Go-http-client/1.1";
const SCHEME: &str = "Negotiate ";

/// The first message: what we can do.
const NEGOTIATE: [u8; 40] = *b"NTLMSSP\0\x01\0\0\0\x01\x82\x88\xa0\0\0\0\0\x28\0\0\0\0\0\0\0\x28\0\0\0\x06\x01\xb1\x1d\0\0\0\x0f";
/// The flags in it: Unicode, NTLM, always sign, extended session security, target info, 128 and 56 bits.
const FLAGS: u32 = 0xa088_8201;
const LAN_MANAGER_KEY: u32 = 0x80;
const KEY_EXCHANGE: u32 = 0x4000_0000;

/// Seconds from 1601 to 1970.
const EPOCH: u64 = 11_644_473_600;
/// Attribute of the server's time.
const TIMESTAMP: u16 = 7;

/// Has an HTTP proxy connect to `target`.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    target: &str,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    let first = credentials.map(|_| format!("{SCHEME}{}", BASE64.encode(NEGOTIATE)));
    let mut answer = http::request(io, target, USER_AGENT, first.as_deref()).await?;
    let challenge = answer.challenge.as_deref().unwrap_or_default();
    if let (407, Some(challenge), Some(credentials)) =
        (answer.status, challenge.strip_prefix(SCHEME), credentials)
    {
        let message = BASE64
            .decode(challenge.trim())
            .ok()
            .and_then(|message| Challenge::parse(&message))
            .ok_or_else(|| invalid("ntlm: bad challenge"))?;
        if message.flags & (LAN_MANAGER_KEY | KEY_EXCHANGE) != 0 {
            return Err(invalid("ntlm: challenge demands what is not supported"));
        }
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let third = format!(
            "{SCHEME}{}",
            BASE64.encode(authenticate(&message, credentials, nonce, now()))
        );
        answer = http::request(io, target, USER_AGENT, Some(&third)).await?;
    }
    match answer.status {
        200 => Ok(()),
        status => Err(io::Error::other(format!(
            "DialTcpByNTLMHttpProxy error, StatusCode [{status}]"
        ))),
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Now, in units of 100 ns since 1601.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    (EPOCH + since.as_secs()) * 10_000_000 + u64::from(since.subsec_nanos() / 100)
}

/// The second message: the server's.
struct Challenge {
    flags: u32,
    nonce: [u8; 8],
    target_info: Vec<u8>,
}

impl Challenge {
    fn parse(message: &[u8]) -> Option<Self> {
        if !message.starts_with(b"NTLMSSP\0\x02\0\0\0") {
            return None;
        }
        let u16_at = |at| Some(u16::from_le_bytes(*message.get(at..)?.first_chunk()?));
        let u32_at = |at| Some(u32::from_le_bytes(*message.get(at..)?.first_chunk()?));
        let (len, offset) = (usize::from(u16_at(40)?), u32_at(44)? as usize);
        Some(Self {
            flags: u32_at(20)?,
            nonce: *message.get(24..)?.first_chunk()?,
            target_info: message.get(offset..)?.get(..len)?.to_vec(),
        })
    }

    /// The server's time, if it tells.
    fn time(&self) -> Option<[u8; 8]> {
        let mut rest = &self.target_info[..];
        while let Some((&[i0, i1, l0, l1], after)) = rest.split_first_chunk() {
            let value = after.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
            if u16::from_le_bytes([i0, i1]) == TIMESTAMP {
                return value.try_into().ok();
            }
            rest = &after[value.len()..];
        }
        None
    }
}

/// The third message: the proof that we know the password.
fn authenticate(
    challenge: &Challenge,
    (user, password): &Credentials,
    nonce: [u8; 8],
    now: u64,
) -> Vec<u8> {
    const HEADER: usize = 64;
    let (domain, user) = user.split_once('\\').unwrap_or(("", user));
    let key = response_key(domain, user, password);
    let server_time = challenge.time();

    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    blob.extend(server_time.unwrap_or(now.to_le_bytes()));
    blob.extend(nonce);
    blob.extend([0; 4]);
    blob.extend(&challenge.target_info);
    blob.extend([0; 4]);
    let mut response = hmac(&key, &[&challenge.nonce, &blob]).to_vec();
    response.extend(blob);
    let lan_manager = if server_time.is_some() {
        vec![0; 24]
    } else {
        [&hmac(&key, &[&challenge.nonce, &nonce])[..], &nonce].concat()
    };

    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    let mut payload = Vec::new();
    for part in [
        lan_manager,
        response,
        utf16(domain),
        utf16(user),
        Vec::new(),
        Vec::new(),
    ] {
        let len = (part.len() as u16).to_le_bytes();
        message.extend(len);
        message.extend(len);
        message.extend(((HEADER + payload.len()) as u32).to_le_bytes());
        payload.extend(part);
    }
    message.extend((challenge.flags & FLAGS).to_le_bytes());
    message.extend(payload);
    message
}

fn response_key(domain: &str, user: &str, password: &str) -> [u8; 16] {
    let password: [u8; 16] = Md4::digest(utf16(password)).into();
    hmac(&password, &[&utf16(&user.to_uppercase()), &utf16(domain)])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("a key may have any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::testing::{hex, unhex};

    fn user() -> Credentials {
        ("Domain\\User".into(), "Password".into())
    }

    /// The example of MS-NLMP §4.2.4.
    fn challenge() -> Challenge {
        Challenge {
            flags: FLAGS,
            nonce: 0x0123_4567_89ab_cdef_u64.to_be_bytes(),
            target_info: unhex(
                "02000c0044006f006d00610069006e0001000c005300650072007600650072000000 0000",
            ),
        }
    }

    #[test]
    fn the_documented_example() {
        assert_eq!(
            hex(&NEGOTIATE),
            "4e544c4d5353500001000000018288a0000000002800000000000000280000000601b11d0000000f"
        );
        assert_eq!(
            hex(&response_key("Domain", "User", "Password")),
            "0c868a403bfd7a93a3001ef22ef02e3f"
        );
        let message = hex(&authenticate(&challenge(), &user(), [0xaa; 8], 0));
        assert!(
            message.contains("68cd0ab851e51c96aabc927bebef6a1c"),
            "proof"
        );
        assert!(
            message.contains("86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"),
            "LMv2"
        );
    }

    #[test]
    fn bad_challenges_are_refused() {
        let good = [
            &b"NTLMSSP\0\x02\0\0\0"[..],
            &[0; 8],
            &FLAGS.to_le_bytes(),
            &[7; 8],
            &[0; 8],
            &[4, 0, 4, 0, 48, 0, 0, 0],
            &[0; 4],
        ]
        .concat();
        let parsed = Challenge::parse(&good).unwrap();
        assert_eq!((parsed.flags, parsed.nonce), (FLAGS, [7; 8]));
        assert_eq!(parsed.time(), None);
        for cut in 0..good.len() {
            assert!(Challenge::parse(&good[..cut]).is_none(), "{cut}");
        }
        let lying = [4_u16, 200, 0, 0]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let challenge = Challenge {
            target_info: lying,
            ..parsed
        };
        assert_eq!(challenge.time(), None);
    }

    #[tokio::test]
    async fn two_requests_on_one_connection() {
        let (mut io, mut proxy) = duplex(8192);
        let mut second = b"NTLMSSP\0\x02\0\0\0".to_vec();
        second.extend([0; 8]);
        second.extend(FLAGS.to_le_bytes());
        second.extend([7; 8]);
        second.extend([0; 8]);
        second.extend([0, 0, 0, 0, 48, 0, 0, 0]);
        let answers = format!(
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate {}\r\nContent-Length: 3\r\n\r\nno!HTTP/1.1 200 OK\r\n\r\n",
            BASE64.encode(second)
        );
        proxy.write_all(answers.as_bytes()).await.unwrap();
        connect(&mut io, "h:1", Some(&user())).await.unwrap();
        drop(io);
        let mut requests = String::new();
        proxy.read_to_string(&mut requests).await.unwrap();
        assert_eq!(requests.matches("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nUser-Agent: Go-http-client/1.1\r\nProxy-Authorization: Negotiate TlRMTVNTU").count(), 2);

        let (mut io, mut proxy) = duplex(8192);
        proxy.write_all(b"HTTP/1.1 407 No\r\n\r\n").await.unwrap();
        let error = connect(&mut io, "h:1", None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "DialTcpByNTLMHttpProxy error, StatusCode [407]"
        );
    }
}
