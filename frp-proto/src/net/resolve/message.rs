//! DNS messages (RFC 1035): questions for addresses, and what answers them.

use std::net::IpAddr;

pub(super) const ADDRESS_V4: u16 = 1;
pub(super) const ADDRESS_V6: u16 = 28;
const INTERNET: u16 = 1;

const HEADER: usize = 12;
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
/// Flags: it is an answer; it is cut off; the result.
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RESULT: u16 = 0x000f;
const NO_SUCH_NAME: u16 = 3;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Perhaps none.
    Addresses(Vec<IpAddr>),
    /// There is more than fits.
    Truncated,
    /// The server cannot say.
    Failed,
}

/// A question; `None` if no name can be like that.
pub(super) fn query(id: [u8; 2], name: &str, kind: u16) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_NAME {
        return None;
    }
    let mut query = id.to_vec();
    for word in [RECURSION_DESIRED, 1, 0, 0, 0] {
        query.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend(INTERNET.to_be_bytes());
    Some(query)
}

/// The answer to `query`; `None` if it is none.
pub(super) fn answer(query: &[u8], message: &[u8]) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let flags = word(2)?;
    let question = message.get(HEADER..query.len())?;
    if message[..2] != query[..2]
        || flags & RESPONSE == 0
        || word(4)? != 1
        || !question.eq_ignore_ascii_case(&query[HEADER..])
    {
        return None;
    }
    if flags & TRUNCATED != 0 {
        return Some(Answer::Truncated);
    }
    match flags & RESULT {
        0 => {}
        NO_SUCH_NAME => return Some(Answer::Addresses(Vec::new())),
        _ => return Some(Answer::Failed),
    }
    let mut found = Vec::new();
    let mut at = query.len();
    // Aliases come along with what they stand for, so names do not matter.
    for _ in 0..word(6)? {
        at = after_name(message, at)?;
        let (kind, class, len) = (word(at)?, word(at + 2)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..)?.get(..len)?;
        at += 10 + len;
        if class != INTERNET {
            continue;
        }
        match kind {
            ADDRESS_V4 => found.push(<[u8; 4]>::try_from(data).ok()?.into()),
            ADDRESS_V6 => found.push(<[u8; 16]>::try_from(data).ok()?.into()),
            _ => {}
        }
    }
    Some(Answer::Addresses(found))
}

/// Where the name at `at` ends.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // The rest is elsewhere.
            0xc0.. => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::{hex, unhex};

    /// `a.test` is 10.1.2.3, after an alias; nothing else exists.
    pub(crate) fn answer_to(query: &[u8], truncated: bool) -> Vec<u8> {
        let mut answer = query.to_vec();
        let known = query[HEADER..].starts_with(b"\x01a\x04test\0\0\x01");
        let exists = query[HEADER..].starts_with(b"\x01a\x04test\0");
        answer[2..4].copy_from_slice(&match (truncated, exists) {
            (true, _) => 0x8380_u16.to_be_bytes(),
            (false, true) => 0x8180_u16.to_be_bytes(),
            (false, false) => 0x8183_u16.to_be_bytes(),
        });
        if known && !truncated {
            answer[7] = 2;
            answer.extend(unhex("c00c 0005 0001 0000003c 0004 0162c00e"));
            answer.extend(unhex("0162c00e 0001 0001 0000003c 0004 0a010203"));
        }
        answer
    }

    #[test]
    fn a_question_and_its_answers() {
        let query = query([0xab, 0xcd], "a.test", ADDRESS_V4).unwrap();
        assert_eq!(
            hex(&query),
            "abcd01000001000000000000016104746573740000010001"
        );
        let good = answer_to(&query, false);
        let addresses = Answer::Addresses(vec![[10, 1, 2, 3].into()]);
        assert_eq!(answer(&query, &good), Some(addresses));
        assert_eq!(
            answer(&query, &answer_to(&query, true)),
            Some(Answer::Truncated)
        );
        for cut in 0..good.len() {
            assert_eq!(answer(&query, &good[..cut]), None, "{cut}");
        }
        let mut failed = good.clone();
        failed[3] |= 2;
        assert_eq!(answer(&query, &failed), Some(Answer::Failed));
        for (at, what) in [(0, "id"), (2, "no answer"), (13, "another question")] {
            let mut other = good.clone();
            other[at] ^= 0x81;
            assert_eq!(answer(&query, &other), None, "{what}");
        }
    }

    #[test]
    fn impossible_names_are_not_asked_for() {
        for name in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(query([0; 2], name, ADDRESS_V4), None, "{name}");
        }
        assert!(query([0; 2], "a.test.", ADDRESS_V4).is_some());
    }
}
