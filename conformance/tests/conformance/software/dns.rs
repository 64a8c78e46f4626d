//! A resolver's client over a `udp` proxy.

use conformance::datagram;
use conformance::service::Kind;
use conformance::{Case, Lab, Outcome};

use super::run;

/// Queried types.
const A: u16 = 1;
const TXT: u16 = 16;
/// Strings of a TXT answer, and the length of each: more than fits the classic 512 bytes.
const STRINGS: usize = 5;
const STRING: u8 = 200;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::pair("software/dig", dig).needs("dig").since(52)]
}

async fn dig(lab: &Lab) -> Outcome {
    let server = datagram::serve(answer).await?;
    let setup = lab.setup().proxy("type", "udp");
    let pair = setup.service(Kind::At(server.port())).start().await?;
    let port = pair.user.port().to_string();
    let ask = async |kind: &str| {
        let arguments = [
            "@127.0.0.1",
            "-p",
            &port,
            "+short",
            "+tries=5",
            "+time=3",
            "name.test",
            kind,
        ];
        let (code, answer) = run("dig", &arguments, b"").await?;
        let answer = String::from_utf8_lossy(&answer).trim().to_owned();
        assert_eq!(code, 0, "{answer}");
        Outcome::Ok(answer)
    };
    assert_eq!(ask("A").await?, "192.0.2.7");
    let string = format!("\"{}\"", "x".repeat(STRING.into()));
    assert_eq!(ask("TXT").await?, [string.as_str(); STRINGS].join(" "));
    Ok(())
}

/// The answer to a query (RFC 1035 §4.1) of one question.
fn answer(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let labels = query.iter().skip(HEADER).position(|byte| *byte == 0);
    let question = labels.and_then(|labels| query.get(HEADER..HEADER + labels + 5));
    let (Some(question), Some(id)) = (question, query.get(..2)) else {
        return Vec::new();
    };
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let data = match kind {
        A => vec![192, 0, 2, 7],
        TXT => [&[STRING][..], &[b'x'; STRING as usize]]
            .concat()
            .repeat(STRINGS),
        _ => return Vec::new(),
    };
    let counts = [0, 1, 0, 1, 0, 0, 0, 0];
    // The question's name; its type and class; a minute.
    let record = [0xc0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 60];
    let length = (data.len() as u16).to_be_bytes();
    [
        id,
        &[0x85, 0x80],
        &counts,
        question,
        &record,
        &length,
        &data,
    ]
    .concat()
}
