//! Wrong messages on a fresh conn and on a control connection: closed, answered or ignored as upstream does.

use std::net::Ipv4Addr;

use conformance::lab::TOKEN;
use conformance::raw::{self, login_message};
use conformance::wait::{LIMIT, within};
use conformance::{Case, Lab, Outcome};
use frp_proto::crypto::{CfbDecryptor, CfbEncryptor, derive_key};
use frp_proto::msg::io::read_message;
use frp_proto::msg::{
    Decoded, Login, LoginResp, Message, NewWorkConn, Ping, StartWorkConn, Version, v2,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the server does.
enum Reaction {
    Closes,
    /// Sends this message, then closes.
    Says(Message),
    /// Sends a v2 hello with this in it, then closes.
    Greets(&'static str),
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, make) in FRESH {
        cases.push(Case::frps(format!("negative/{name}"), async move |lab| {
            fresh(lab, make).await
        }));
    }
    for (name, bytes, survives) in CONTROL {
        cases.push(Case::frps(
            format!("negative/control/{name}"),
            async move |lab| control(lab, bytes, survives).await,
        ));
    }
    for (name, bytes, reply, closes) in MUX {
        cases.push(Case::frps(
            format!("negative/mux/{name}"),
            async move |lab| mux(lab, bytes, reply, closes).await,
        ));
    }
    cases
}

/// What is sent on a fresh conn, in which version, and the reaction.
type Make = fn() -> (Vec<u8>, Version, Reaction);

const FRESH: [(&str, Make); 18] = [
    ("v1/unknown_type", || closes(v1(b'z', b"{}"))),
    ("v1/too_long", || closes(v1_header(b'o', 10_241))),
    ("v1/negative_length", || closes(v1_header(b'o', -1))),
    ("v1/bad_json", || closes(v1(b'o', b"{\"version\""))),
    ("v1/trailing_bytes", || closes(v1(b'o', b"{} {}"))),
    ("v1/wrong_field_type", || {
        closes(v1(b'o', b"{\"pool_count\":\"1\"}"))
    }),
    ("v1/null", || closes(v1(b'o', b"null"))),
    ("v1/ping_first", || closes(v1(b'h', b"{}"))),
    ("v1/wrong_key", || wrong_key(Version::V1)),
    ("v1/unknown_run_id", || unknown_run_id(Version::V1)),
    ("v2/flags", || closes_v2(b"\0\x10\0\x01\0\0\0\x04\0\x01{}")),
    ("v2/too_long", || {
        closes_v2(b"\0\x10\0\0\0\x01\0\x01\0\x01{}")
    }),
    ("v2/unknown_frame", || {
        closes_v2(b"\0\x63\0\0\0\0\0\x04\0\x01{}")
    }),
    ("v2/unknown_message", || {
        closes_v2(b"\0\x10\0\0\0\0\0\x04\0\x63{}")
    }),
    ("v2/bad_hello", || closes_v2(b"\0\x01\0\0\0\0\0\x02{{")),
    ("v2/bad_capabilities", || {
        let hello = hello(
            "{\"message\":{\"codecs\":[\"json\"]},\"crypto\":{\"algorithms\":[\"none\"],\"clientRandom\":\"ERERERERERERERERERERERERERERERERERERERERERE=\"}}",
        );
        (
            hello,
            Version::V2,
            Reaction::Greets("\"error\":\"no supported crypto algorithm\""),
        )
    }),
    ("v2/second_hello", || {
        let first = hello(GOOD_CAPABILITIES);
        let twice = [&first[..], &first[v2::MAGIC.len()..]].concat();
        (
            twice,
            Version::V2,
            Reaction::Greets("\"algorithm\":\"aes-256-gcm\""),
        )
    }),
    ("v2/login_without_hello", || {
        let resp = LoginResp {
            version: "0.70.1".into(),
            error: "missing v2 crypto negotiation".into(),
            ..LoginResp::default()
        };
        let login = first_message(Version::V2, &Message::Login(Box::new(login_message())));
        (login, Version::V2, Reaction::Says(Message::LoginResp(resp)))
    }),
];

const GOOD_CAPABILITIES: &str = "{\"message\":{\"codecs\":[\"json\"]},\"crypto\":{\"algorithms\":[\"aes-256-gcm\"],\"clientRandom\":\"ERERERERERERERERERERERERERERERERERERERERERE=\"}}";

/// What is sent on a control connection after login, and whether it survives.
const CONTROL: [(&str, &[u8], bool); 8] = [
    ("unknown_type", b"z\0\0\0\0\0\0\0\x02{}", false),
    ("too_long", b"p\0\0\0\0\0\0\x28\x01{}", false),
    ("bad_json", b"p\0\0\0\0\0\0\0\x02{{", false),
    (
        "wrong_field_type",
        b"p\0\0\0\0\0\0\0\x11{\"remote_port\":{}}",
        false,
    ),
    ("login_null", b"o\0\0\0\0\0\0\0\x04null", true),
    ("new_proxy_null", b"p\0\0\0\0\0\0\0\x04null", true),
    ("unhandled_type", b"s\0\0\0\0\0\0\0\x02{}", true),
    (
        "close_unknown_proxy",
        b"c\0\0\0\0\0\0\0\x15{\"proxy_name\":\"none\"}",
        true,
    ),
];

/// Opens stream 1, as upstream does.
const OPEN: &[u8; 12] = b"\0\x01\0\x01\0\0\0\x01\0\x5c\0\0";
const FIN: &[u8; 12] = b"\0\x01\0\x04\0\0\0\x01\0\0\0\0";
const PING: &[u8; 12] = b"\0\x02\0\x01\0\0\0\0\0\0\0\x07";
const PONG: &[u8; 12] = b"\0\x02\0\x02\0\0\0\0\0\0\0\x07";
const PROTOCOL_ERROR: &[u8; 12] = b"\0\x03\0\0\0\0\0\0\0\0\0\x01";

/// Frames of the mux, the answer, and whether the session is closed. Before it is, the answer may get lost.
type Frames = (&'static str, &'static [&'static [u8]], &'static [u8], bool);

const MUX: [Frames; 9] = [
    ("ping", &[PING], PONG, false),
    (
        "wrong_version",
        &[b"\x01\0\0\0\0\0\0\x01\0\0\0\0"],
        b"",
        true,
    ),
    ("wrong_type", &[b"\0\x09\0\0\0\0\0\0\0\0\0\0"], b"", true),
    ("not_a_mux", &[b"o\0\0\0\0\0\0\0\x02{}"], b"", true),
    (
        "data_for_unknown_stream",
        &[b"\0\0\0\0\0\0\0\x05\0\0\0\x03abc", PING],
        PONG,
        false,
    ),
    ("stream_opened_twice", &[OPEN, OPEN], PROTOCOL_ERROR, true),
    (
        "stream_finished_twice",
        &[OPEN, FIN, FIN],
        PROTOCOL_ERROR,
        true,
    ),
    (
        "beyond_the_window",
        &[OPEN, b"\0\0\0\0\0\0\0\x01\0\x70\0\0", &[0; 32]],
        PROTOCOL_ERROR,
        true,
    ),
    ("go_away", &[b"\0\x03\0\0\0\0\0\0\0\0\0\x01"], b"", true),
];

fn v1_header(kind: u8, len: i64) -> Vec<u8> {
    [&[kind][..], &len.to_be_bytes(), b"{}"].concat()
}

fn v1(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &(payload.len() as u64).to_be_bytes(), payload].concat()
}

fn hello(capabilities: &str) -> Vec<u8> {
    let json =
        format!("{{\"bootstrap\":{{\"transport\":\"tcp\"}},\"capabilities\":{capabilities}}}");
    let mut out = v2::MAGIC.to_vec();
    out.extend([0, 1, 0, 0]);
    out.extend((json.len() as u32).to_be_bytes());
    out.extend(json.as_bytes());
    out
}

fn first_message(version: Version, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    if version == Version::V2 {
        out.extend(v2::MAGIC);
    }
    frp_proto::msg::encode(version, message, &mut out).expect("messages here are short");
    out
}

fn closes(bytes: Vec<u8>) -> (Vec<u8>, Version, Reaction) {
    (bytes, Version::V1, Reaction::Closes)
}

fn closes_v2(frame: &[u8]) -> (Vec<u8>, Version, Reaction) {
    let bytes = [&v2::MAGIC[..], frame].concat();
    (bytes, Version::V2, Reaction::Closes)
}

fn wrong_key(version: Version) -> (Vec<u8>, Version, Reaction) {
    let login = Login {
        privilege_key: "0".repeat(32),
        ..login_message()
    };
    let resp = LoginResp {
        version: "0.70.1".into(),
        error: "token in login doesn't match token from configuration".into(),
        ..LoginResp::default()
    };
    let login = first_message(version, &Message::Login(Box::new(login)));
    (login, version, Reaction::Says(Message::LoginResp(resp)))
}

fn unknown_run_id(version: Version) -> (Vec<u8>, Version, Reaction) {
    let work = NewWorkConn {
        run_id: "nobody".into(),
        ..NewWorkConn::default()
    };
    let start = StartWorkConn {
        error: "no client control found for run id [nobody]".into(),
        ..StartWorkConn::default()
    };
    let work = first_message(version, &Message::NewWorkConn(work));
    (work, version, Reaction::Says(Message::StartWorkConn(start)))
}

async fn fresh(lab: &Lab, make: Make) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (mut frps, port) = setup.start_server().await?;
    let (bytes, version, reaction) = make();
    let reply = raw::send_and_read_all(port, &bytes, LIMIT).await?;
    match reaction {
        Reaction::Closes => assert_eq!(reply, b""),
        Reaction::Says(message) => {
            let decoded = frp_proto::msg::decode(version, &reply)?;
            assert_eq!(decoded, Decoded::Message(Some(message), reply.len()));
        }
        Reaction::Greets(text) => {
            let reply = String::from_utf8_lossy(&reply);
            assert!(reply.contains(text), "{reply}");
        }
    }
    assert!(frps.ended().is_none());
    Ok(())
}

/// Logs in by v1, sends `bytes` under the cipher, then a ping.
async fn control(lab: &Lab, bytes: &[u8], survives: bool) -> Outcome {
    let setup = lab.setup().frps("transport.tcpMux", false);
    let (mut frps, port) = setup.start_server().await?;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let login = Message::Login(Box::new(login_message()));
    stream
        .write_all(&first_message(Version::V1, &login))
        .await?;
    let resp = within("LoginResp", LIMIT, read_message(&mut stream, Version::V1)).await??;
    assert!(matches!(resp, Some(Message::LoginResp(resp)) if resp.error.is_empty()));

    let key = derive_key(TOKEN.as_bytes());
    let ping = first_message(Version::V1, &Message::Ping(Ping::default()));
    let plain = [bytes, &ping].concat();
    let cipher = CfbEncryptor::new(&key)?.encrypt_stream(plain);
    stream.write_all(&cipher).await?;
    let mut reply = if survives {
        let pong = 11;
        let mut reply = vec![0; 16 + pong];
        let read = stream.read_exact(&mut reply);
        within("Pong", LIMIT, read).await??;
        reply
    } else {
        raw::read_all(&mut stream, LIMIT).await?
    };
    let reply = CfbDecryptor::new(&key).decrypt_stream(&mut reply).to_vec();
    let expected: &[u8] = if survives {
        b"4\0\0\0\0\0\0\0\x02{}"
    } else {
        b""
    };
    assert_eq!(reply, expected);
    assert!(frps.ended().is_none());
    Ok(())
}

/// Sends raw frames on a connection with a mux.
async fn mux(lab: &Lab, frames: &[&[u8]], expected: &[u8], closes: bool) -> Outcome {
    let (mut frps, port) = lab.setup().start_server().await?;
    let mut bytes = frames.concat();
    // What is too short to be recognised would only wait.
    bytes.resize(bytes.len().max(12), 0);
    if closes {
        let reply = raw::send_and_read_all(port, &bytes, LIMIT).await?;
        // A stream may have been accepted, or even closed, before the session is.
        let window_update = |frame: &&[u8]| frame.get(1) == Some(&1);
        let rest: Vec<&[u8]> = reply.chunks(12).filter(|f| !window_update(f)).collect();
        assert!(expected.starts_with(&rest.concat()), "{reply:02x?}");
    } else {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(&bytes).await?;
        let mut reply = vec![0; expected.len()];
        within("the answer", LIMIT, stream.read_exact(&mut reply)).await??;
        assert_eq!(reply, expected);
    }
    assert!(frps.ended().is_none());
    Ok(())
}
