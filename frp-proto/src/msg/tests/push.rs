//! Messages that upstream does not have: proxies that frps pushes, and agents of services.

use super::{decoded, encoded, json, text, v1_bytes};
use crate::msg::*;
use crate::testing::{hex, unhex};

/// Vectors of what upstream does not have.
#[test]
fn vectors() {
    let proxy = serde_json::json!({ "name": "web", "type": "tcp", "localPort": 80 });
    for (message, v1, v2) in [
        (
            Message::PushProxy(PushProxy { id: 1, proxy }),
            "2b000000000000003b7b226964223a312c2270726f7879223a7b226c6f63616c506f7274223a38302c226e616d65223a22776562222c2274797065223a22746370227d7d",
            "001000000000003df0017b226964223a312c2270726f7879223a7b226c6f63616c506f7274223a38302c226e616d65223a22776562222c2274797065223a22746370227d7d",
        ),
        (
            Message::RemoveProxy(RemoveProxy {
                id: 2,
                name: text("web"),
            }),
            "2d00000000000000157b226964223a322c226e616d65223a22776562227d",
            "0010000000000017f0027b226964223a322c226e616d65223a22776562227d",
        ),
        (
            Message::PushResult(PushResult {
                id: 2,
                error: text("no"),
            }),
            "3d00000000000000157b226964223a322c226572726f72223a226e6f227d",
            "0010000000000017f0037b226964223a322c226572726f72223a226e6f227d",
        ),
        (
            Message::PushResult(PushResult {
                id: 1,
                error: String::new(),
            }),
            "3d00000000000000087b226964223a317d",
            "001000000000000af0037b226964223a317d",
        ),
        (
            Message::AgentState(AgentState {
                proxy_name: text("web"),
                line: text("75%"),
            }),
            "7e00000000000000217b2270726f78795f6e616d65223a22776562222c226c696e65223a22373525227d",
            "0010000000000023f0047b2270726f78795f6e616d65223a22776562222c226c696e65223a22373525227d",
        ),
    ] {
        for (version, expected) in [(Version::V1, v1), (Version::V2, v2)] {
            assert_eq!(hex(&encoded(version, &message)), expected);
            assert_eq!(decoded(version, &unhex(expected)), message);
        }
    }
    let announced = Message::Login(Box::new(Login {
        accept_proxies: true,
        ..Login::default()
    }));
    assert_eq!(
        json(&announced),
        r#"{"client_spec":{},"accept_proxies":true}"#
    );
}

#[test]
fn a_pushed_proxy_is_kept_as_it_is_however_odd() {
    for proxy in [
        r#"{"a":[1,-2,1.5,true,null,"\u0000<é"],"b":{"c":{}}}"#,
        "[]",
        "7",
        r#""text""#,
    ] {
        let payload = format!("{{\"id\":-1,\"proxy\":{proxy}}}");
        let message = decoded(Version::V1, &v1_bytes(b'+', payload.as_bytes()));
        let expected = Message::PushProxy(PushProxy {
            id: -1,
            proxy: serde_json::from_str(proxy).unwrap(),
        });
        assert_eq!(message, expected);
        for version in [Version::V1, Version::V2] {
            assert_eq!(decoded(version, &encoded(version, &message)), message);
        }
    }
    let refused = |byte, payload: &str| decode(Version::V1, &v1_bytes(byte, payload.as_bytes()));
    assert!(refused(b'+', r#"{"id":"x"}"#).is_err());
    assert!(refused(b'-', r#"{"name":{}}"#).is_err());
    assert!(refused(b'=', r#"{"error":7}"#).is_err());
    let deep = format!(r#"{{"proxy":{}"#, "[".repeat(5000));
    assert!(refused(b'+', &deep).is_err());
    for id in [0, 19, 61_440, 61_445] {
        let frame = [
            &unhex("0010 0000 00000004")[..],
            &u16::to_be_bytes(id),
            b"{}",
        ]
        .concat();
        assert_eq!(decode(Version::V2, &frame), Err(WireError::UnknownId(id)));
    }
}
