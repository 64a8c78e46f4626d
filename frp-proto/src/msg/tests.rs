//! Golden vectors (wire.md §10), rules of the JSON dialect, properties of both framings, and the handshake.

mod push;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};

use super::handshake::{self, Accepted, HelloInfo, Side};
use super::*;
use crate::auth::Secret;
use crate::testing::{hex, unhex};

fn text(s: &str) -> String {
    s.to_owned()
}

fn encoded(version: Version, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    encode(version, message, &mut out).unwrap();
    out
}

/// The only message in `data`.
fn decoded(version: Version, data: &[u8]) -> Message {
    match decode(version, data).unwrap() {
        Decoded::Message(Some(message), taken) if taken == data.len() => message,
        other => panic!("{other:?}"),
    }
}

fn json(message: &Message) -> String {
    String::from_utf8(encoded(Version::V1, message)[v1::HEADER..].to_vec()).unwrap()
}

/// A v1 message with this type byte and payload.
fn v1_bytes(byte: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    [&[byte], &length[..], payload].concat()
}

fn packet(content: &'static [u8], ip: &str, zone: &str) -> Message {
    Message::UdpPacket(UdpPacket {
        content: Bytes::from_static(content),
        local: None,
        remote: Some(UdpAddr {
            ip: text(ip),
            port: 5000,
            zone: text(zone),
        }),
    })
}

fn login() -> Login {
    Login {
        version: text("0.70.1"),
        hostname: text("h"),
        os: text("linux"),
        arch: text("amd64"),
        privilege_key: text("e37729af62f40f134311cffbc230178e"),
        timestamp: 1_700_000_000,
        pool_count: 1,
        ..Login::default()
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn vectors_of_the_specification() {
    let web = || text("web");
    let cases = [
        (
            Message::ReqWorkConn,
            "7200000000000000027b7d",
            "001000000000000400077b7d",
        ),
        (
            Message::Ping(Ping::default()),
            "6800000000000000027b7d",
            "0010000000000004000b7b7d",
        ),
        (
            Message::Pong(Pong::default()),
            "3400000000000000027b7d",
            "0010000000000004000c7b7d",
        ),
        (
            Message::NewProxyResp(NewProxyResp {
                proxy_name: web(),
                remote_addr: text(":6000"),
                ..NewProxyResp::default()
            }),
            "32000000000000002a7b2270726f78795f6e616d65223a22776562222c2272656d6f74655f61646472223a223a36303030227d",
            "001000000000002c00047b2270726f78795f6e616d65223a22776562222c2272656d6f74655f61646472223a223a36303030227d",
        ),
        (
            Message::NewProxy(Box::new(NewProxy {
                proxy_name: web(),
                proxy_type: text("tcp"),
                remote_port: 6000,
                ..NewProxy::default()
            })),
            "70000000000000003a7b2270726f78795f6e616d65223a22776562222c2270726f78795f74797065223a22746370222c2272656d6f74655f706f7274223a363030307d",
            "001000000000003c00037b2270726f78795f6e616d65223a22776562222c2270726f78795f74797065223a22746370222c2272656d6f74655f706f7274223a363030307d",
        ),
        (
            Message::NewWorkConn(NewWorkConn {
                run_id: text("0123456789abcdef"),
                ..NewWorkConn::default()
            }),
            "77000000000000001d7b2272756e5f6964223a2230313233343536373839616263646566227d",
            "001000000000001f00067b2272756e5f6964223a2230313233343536373839616263646566227d",
        ),
        (
            packet(b"hello", "127.0.0.1", ""),
            "75000000000000003d7b2263223a22614756736247383d222c2272223a7b224950223a223132372e302e302e31222c22506f7274223a353030302c225a6f6e65223a22227d7d",
            "001000000000003f000d7b2263223a22614756736247383d222c2272223a7b224950223a223132372e302e302e31222c22506f7274223a353030302c225a6f6e65223a22227d7d",
        ),
        (
            Message::StartWorkConn(StartWorkConn {
                proxy_name: web(),
                src_addr: text("127.0.0.1"),
                dst_addr: text("127.0.0.1"),
                src_port: 54321,
                dst_port: 6000,
                error: String::new(),
                dial_verdict: false,
            }),
            "7300000000000000637b2270726f78795f6e616d65223a22776562222c227372635f61646472223a223132372e302e302e31222c226473745f61646472223a223132372e302e302e31222c227372635f706f7274223a35343332312c226473745f706f7274223a363030307d",
            "001000000000006500087b2270726f78795f6e616d65223a22776562222c227372635f61646472223a223132372e302e302e31222c226473745f61646472223a223132372e302e302e31222c227372635f706f7274223a35343332312c226473745f706f7274223a363030307d",
        ),
        (
            Message::LoginResp(LoginResp {
                version: text("0.70.1"),
                run_id: text("0123456789abcdef"),
                ..LoginResp::default()
            }),
            "3100000000000000307b2276657273696f6e223a22302e37302e31222c2272756e5f6964223a2230313233343536373839616263646566227d",
            "001000000000003200027b2276657273696f6e223a22302e37302e31222c2272756e5f6964223a2230313233343536373839616263646566227d",
        ),
        (
            Message::CloseProxy(CloseProxy { proxy_name: web() }),
            "6300000000000000147b2270726f78795f6e616d65223a22776562227d",
            "001000000000001600057b2270726f78795f6e616d65223a22776562227d",
        ),
        (
            Message::NewVisitorConnResp(NewVisitorConnResp {
                proxy_name: text("alice.secret"),
                ..NewVisitorConnResp::default()
            }),
            "33000000000000001d7b2270726f78795f6e616d65223a22616c6963652e736563726574227d",
            "001000000000001f000a7b2270726f78795f6e616d65223a22616c6963652e736563726574227d",
        ),
        (
            Message::NatHoleReport(NatHoleReport {
                sid: text("s"),
                success: false,
            }),
            "36000000000000000b7b22736964223a2273227d",
            "001000000000000d00127b22736964223a2273227d",
        ),
        (
            Message::UdpPacket(UdpPacket::default()),
            "7500000000000000027b7d",
            "0010000000000004000d7b7d",
        ),
        (
            Message::NatHoleResp(Box::default()),
            "6d00000000000000167b226465746563745f6265686176696f72223a7b7d7d",
            "001000000000001800107b226465746563745f6265686176696f72223a7b7d7d",
        ),
    ];
    for (message, v1, v2) in cases {
        for (version, expected) in [(Version::V1, v1), (Version::V2, v2)] {
            assert_eq!(
                hex(&encoded(version, &message)),
                expected,
                "{}",
                message.name()
            );
            assert_eq!(decoded(version, &unhex(expected)), message);
        }
    }
}

#[test]
fn login_of_the_specification() {
    let message = Message::Login(Box::new(login()));
    let v1 = encoded(Version::V1, &message);
    assert_eq!(hex(&v1[..9]), "6f00000000000000a9");
    assert_eq!(
        String::from_utf8_lossy(&v1[9..]),
        r#"{"version":"0.70.1","hostname":"h","os":"linux","arch":"amd64","privilege_key":"e37729af62f40f134311cffbc230178e","timestamp":1700000000,"client_spec":{},"pool_count":1}"#
    );
    assert_eq!(
        hex(&encoded(Version::V2, &message)[..10]),
        "00100000000000ab0001"
    );
}

#[test]
fn strings_are_escaped_as_go_does() {
    let user = String::from_utf8_lossy(b"a<b>&\xe2\x80\xa8\x01\"\xff").into_owned();
    let metas = [(text("b"), text("2")), (text("a"), text("1"))].into();
    let message = Message::Login(Box::new(Login {
        user,
        metas,
        ..Login::default()
    }));
    // The replacement character stands for the invalid byte; a JSON reader gets the same string either way.
    assert_eq!(
        json(&message),
        "{\"user\":\"a\\u003cb\\u003e\\u0026\\u2028\\u0001\\\"\u{fffd}\",\"metas\":{\"a\":\"1\",\"b\":\"2\"},\"client_spec\":{}}"
    );
    assert_eq!(
        json(&packet(b"hello", "fe80::1", "eth0")),
        r#"{"c":"aGVsbG8=","r":{"IP":"fe80::1","Port":5000,"Zone":"eth0"}}"#
    );
}

#[test]
fn decoding_is_as_lenient_as_go() {
    let ping = |payload: &str| match decode(Version::V1, &v1_bytes(b'h', payload.as_bytes())) {
        Ok(Decoded::Message(Some(Message::Ping(m)), _)) => Some((m.privilege_key, m.timestamp)),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    };
    let accepted = [
        (r#"{"PRIVILEGE_KEY":"k"}"#, "k", 0),
        (r#"{"privilege_key":"a","privilege_key":"b"}"#, "b", 0),
        (r#"{"privilege_key":"a","privilege_key":null}"#, "a", 0),
        (r#" {"other":[{}],"timestamp":-5} "#, "", -5),
        (r#"{"timestamp":9223372036854775807}"#, "", i64::MAX),
    ];
    for (payload, key, timestamp) in accepted {
        assert_eq!(ping(payload), Some((text(key), timestamp)), "{payload}");
    }
    for refused in [
        "",
        "{",
        "{}x",
        "[]",
        "\"\"",
        "1",
        r#"{"timestamp":1e3}"#,
        r#"{"timestamp":1.5}"#,
        r#"{"timestamp":"1"}"#,
        r#"{"timestamp":9223372036854775808}"#,
        r#"{"privilege_key":1}"#,
        r#"{"privilege_key":"a" "b"}"#,
    ] {
        assert_eq!(ping(refused), None, "{refused}");
    }
    let start = |payload: &[u8]| decode(Version::V1, &v1_bytes(b's', payload));
    assert!(start(br#"{"src_port":65535}"#).is_ok());
    assert!(start(br#"{"src_port":65536}"#).is_err());
    assert!(start(br#"{"src_port":-1}"#).is_err());
    let udp = |payload: &[u8]| decode(Version::V1, &v1_bytes(b'u', payload));
    assert!(udp(b"{\"c\":\"aGVs\\r\\nbG8=\"}").is_ok());
    assert!(udp(br#"{"c":"aGVsbG8"}"#).is_err());
}

#[test]
fn a_null_payload_says_nothing_in_v1_and_is_empty_in_v2() {
    let v1 = v1_bytes(b'h', b"null");
    assert_eq!(
        decode(Version::V1, &v1),
        Ok(Decoded::Message(None, v1.len()))
    );
    assert_eq!(
        decoded(Version::V2, &unhex("0010000000000006000b6e756c6c")),
        Message::Ping(Ping::default())
    );
}

#[test]
fn lengths_and_types_are_checked_before_anything_is_read() {
    let v1 = |bytes: &str| decode(Version::V1, &unhex(bytes));
    assert_eq!(v1("00"), Err(WireError::Type));
    assert_eq!(v1("6f 0000000000002801"), Err(WireError::TooLong));
    assert_eq!(v1("6f 0000000000002800"), Ok(Decoded::Need(9 + 10_240)));
    assert_eq!(v1("6f ffffffffffffffff"), Err(WireError::Length));
    assert_eq!(v1("6f 7fffffffffffffff"), Err(WireError::TooLong));
    let v2 = |bytes: &str| decode(Version::V2, &unhex(bytes));
    assert_eq!(v2("0010 0001 00000000"), Err(WireError::Flags(1)));
    assert_eq!(
        v2("0010 0000 00010001"),
        Err(WireError::FrameTooLong(65_537))
    );
    assert_eq!(v2("0010 0000 00010000"), Ok(Decoded::Need(8 + 65_536)));
    assert_eq!(v2("0063 0000 00000002 0007"), Err(WireError::FrameType(99)));
    assert_eq!(v2("0010 0000 00000001 00"), Err(WireError::TooShort));
    assert_eq!(
        v2("0010 0000 00000004 0063 7b7d"),
        Err(WireError::UnknownId(99))
    );
}

#[test]
fn what_the_peer_would_refuse_is_not_sent() {
    let long = |n: usize| {
        Message::CloseProxy(CloseProxy {
            proxy_name: "x".repeat(n),
        })
    };
    let mut out = b"before".to_vec();
    // {"proxy_name":""} takes 17 bytes.
    assert!(encode(Version::V1, &long(10_240 - 17), &mut out).is_ok());
    out.truncate(6);
    assert_eq!(
        encode(Version::V1, &long(10_240 - 16), &mut out),
        Err(WireError::TooLong)
    );
    assert_eq!(out, b"before");
    assert!(encode(Version::V2, &long(65_536 - 19), &mut out).is_ok());
    out.truncate(6);
    assert_eq!(
        encode(Version::V2, &long(65_536 - 18), &mut out),
        Err(WireError::FrameTooLong(65_537))
    );
    assert_eq!(out, b"before");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        name in ".{0,40}", kind in ".{0,8}", port: i64, flags: (bool, bool),
        metas in prop::collection::btree_map(".{0,10}", ".{0,10}", 0..4),
        domains in prop::collection::vec(".{0,20}", 0..4),
    ) {
        let message = Message::NewProxy(Box::new(NewProxy {
            proxy_name: name, proxy_type: kind, remote_port: port, use_encryption: flags.0, use_compression: flags.1,
            metas, custom_domains: domains, ..NewProxy::default()
        }));
        for version in [Version::V1, Version::V2] {
            prop_assert_eq!(decoded(version, &encoded(version, &message)), message.clone());
        }
    }

    #[test]
    fn datagrams_survive(content: Vec<u8>, port: u16) {
        let remote = Some(UdpAddr { ip: text("::1"), port: port.into(), zone: String::new() });
        let message = Message::UdpPacket(UdpPacket { content: content.into(), local: None, remote });
        prop_assert_eq!(decoded(Version::V2, &encoded(Version::V2, &message)), message);
    }

    #[test]
    fn a_message_is_never_read_beyond_its_end(message in 0usize..3, rest: Vec<u8>, cut in 0usize..60) {
        let message = [Message::ReqWorkConn, Message::Login(Box::new(login())), packet(b"x", "1.2.3.4", "")][message].clone();
        for version in [Version::V1, Version::V2] {
            let whole = encoded(version, &message);
            let data = [&whole[..], &rest].concat();
            prop_assert_eq!(decode(version, &data), Ok(Decoded::Message(Some(message.clone()), whole.len())));
            let part = &whole[..cut.min(whole.len() - 1)];
            prop_assert!(matches!(decode(version, part), Ok(Decoded::Need(n)) if n > part.len() && n <= whole.len()));
        }
    }

    #[test]
    fn garbage_is_an_error_or_needs_more(data: Vec<u8>) {
        for version in [Version::V1, Version::V2] {
            if let Ok(Decoded::Message(_, taken)) = decode(version, &data) {
                prop_assert!(taken <= data.len());
            }
        }
    }
}

fn hello() -> HelloInfo {
    HelloInfo {
        transport: text("tcp"),
        tls: true,
        tcp_mux: true,
    }
}

#[tokio::test]
async fn both_versions_log_in_and_then_talk_encrypted() {
    for version in [Version::V1, Version::V2] {
        let token = Secret::new("secret");
        let (mut client, mut server) = duplex(300);
        let server_token = token.clone();
        let server = tokio::spawn(async move {
            let Accepted {
                version,
                message,
                negotiated,
            } = handshake::accept(&mut server).await.unwrap();
            assert_eq!(message, Message::Login(Box::new(login())));
            let resp = LoginResp {
                run_id: text("id"),
                ..LoginResp::default()
            };
            io::write_message(&mut server, version, &Message::LoginResp(resp))
                .await
                .unwrap();
            let (mut reader, mut writer) =
                handshake::control(server, Side::Server, version, negotiated, &server_token)
                    .unwrap();
            writer
                .write_all(&[Message::ReqWorkConn, Message::ReqWorkConn])
                .await
                .unwrap();
            let got = reader.read().await.unwrap();
            writer.write(&Message::Pong(Pong::default())).await.unwrap();
            got
        });
        let (resp, negotiated) = handshake::login(&mut client, version, hello(), login())
            .await
            .unwrap();
        assert_eq!(resp.run_id, "id");
        let (mut reader, mut writer) =
            handshake::control(client, Side::Client, version, negotiated, &token).unwrap();
        let ping = Message::Ping(Ping {
            timestamp: 7,
            ..Ping::default()
        });
        // Too long for v1 and left out there; the message behind it arrives all the same.
        let long = Message::CloseProxy(CloseProxy {
            proxy_name: "x".repeat(70_000),
        });
        writer.write_all(&[long, ping.clone()]).await.unwrap();
        assert_eq!(server.await.unwrap(), Some(ping));
        for expected in [
            Message::ReqWorkConn,
            Message::ReqWorkConn,
            Message::Pong(Pong::default()),
        ] {
            assert_eq!(reader.read().await.unwrap(), Some(expected));
        }
        assert_eq!(reader.read().await.unwrap(), None);
    }
}

#[tokio::test]
async fn another_token_makes_the_control_connection_unreadable() {
    for version in [Version::V1, Version::V2] {
        let (mut client, mut server) = duplex(4096);
        let accepted = async {
            let accepted = handshake::accept(&mut server).await.unwrap();
            io::write_message(
                &mut server,
                version,
                &Message::LoginResp(LoginResp::default()),
            )
            .await
            .unwrap();
            accepted.negotiated
        };
        let (server_side, client_side) = tokio::join!(
            accepted,
            handshake::login(&mut client, version, hello(), login())
        );
        let (mut reader, _writer) = handshake::control(
            server,
            Side::Server,
            version,
            server_side,
            &Secret::new("one"),
        )
        .unwrap();
        let (_reader, mut writer) = handshake::control(
            client,
            Side::Client,
            version,
            client_side.unwrap().1,
            &Secret::new("two"),
        )
        .unwrap();
        // A wrong key may turn a type byte into another valid one; a few messages make that chance vanish.
        writer
            .write_all(&vec![Message::Ping(Ping::default()); 20])
            .await
            .unwrap();
        drop(writer);
        assert!(reader.read().await.is_err());
    }
}

/// What the server answers to these bytes, and whether it accepted them.
async fn answer_to(bytes: &[u8]) -> (Vec<u8>, Result<Message, String>) {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let accepted = handshake::accept(&mut server)
        .await
        .map(|a| a.message)
        .map_err(|e| e.to_string());
    drop(server);
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut client, &mut answer)
        .await
        .unwrap();
    (answer, accepted)
}

fn frame(kind: u16, payload: &str) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode_frame(kind, payload.as_bytes(), &mut out).unwrap();
    out
}

#[tokio::test]
async fn bad_first_messages_are_refused() {
    let magic = v2::MAGIC.to_vec();
    let hello = |json: &str| [magic.clone(), frame(1, json)].concat();
    let refusal = |error: &str| {
        frame(
            2,
            &format!(
                r#"{{"selected":{{"message":{{"codec":"json"}},"crypto":{{}}}},"error":"{error}"}}"#
            ),
        )
    };
    let random = "ERERERERERERERERERERERERERERERERERERERERERE=";
    let cases = [
        (
            hello("{}"),
            refusal("unsupported message codec"),
            "unsupported message codec",
        ),
        (
            hello(r#"{"capabilities":{"message":{"codecs":["json"]}}}"#),
            refusal("invalid crypto client random length 0, want 32"),
            "invalid crypto client random length 0, want 32",
        ),
        (
            hello(&format!(
                r#"{{"capabilities":{{"message":{{"codecs":["json"]}},"crypto":{{"algorithms":["rot13"],"clientRandom":"{random}"}}}}}}"#
            )),
            refusal("no supported crypto algorithm"),
            "no supported crypto algorithm",
        ),
        (
            [magic.clone(), frame(99, "{}")].concat(),
            Vec::new(),
            "unexpected frame type 99, want 16",
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Vec::new(),
            "message type error",
        ),
        (b"FRP\0\x02\r\r".to_vec(), Vec::new(), "message type error"),
        (v1_bytes(b'o', b"null"), Vec::new(), "empty first message"),
        (unhex("6f 00000000"), Vec::new(), "EOF"),
        (Vec::new(), Vec::new(), "EOF"),
    ];
    for (bytes, answer, error) in cases {
        assert_eq!(
            answer_to(&bytes).await,
            (answer, Err(text(error))),
            "{}",
            hex(&bytes)
        );
    }
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let good = format!(
        r#"{{"capabilities":{{"message":{{"codecs":["json"]}},"crypto":{{"algorithms":["rot13","xchacha20-poly1305","aes-256-gcm"],"clientRandom":"{}"}}}}}}"#,
        "ERERERERERERERERERERERERERERERERERERERERERE="
    );
    let (answer, accepted) =
        answer_to(&[v2::MAGIC.to_vec(), frame(1, &good), frame(1, &good)].concat()).await;
    assert!(
        String::from_utf8_lossy(&answer).contains(r#""algorithm":"xchacha20-poly1305""#),
        "the client's order decides"
    );
    assert_eq!(accepted, Err(text("unexpected frame type 1, want 16")));
}
