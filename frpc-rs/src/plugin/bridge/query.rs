//! Query strings that two servers could read differently do not go to the service as they are.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

/// `None` when the query can go as it is. Otherwise what is left of it: parts with `;` or with bad escapes are dropped, the
/// others are written anew, sorted by key.
pub(super) fn cleaned(query: &str) -> Option<String> {
    if !query.contains(';') && escapes_are_good(query) {
        return None;
    }
    let mut parts: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|part| !part.is_empty() && !part.contains(';') && escapes_are_good(part))
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(key), decoded(value))
        })
        .collect();
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::with_capacity(query.len());
    for (key, value) in parts {
        if !out.is_empty() {
            out.push('&');
        }
        encode(&key, &mut out);
        out.push('=');
        encode(&value, &mut out);
    }
    Some(out)
}

fn escapes_are_good(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let rest = rest.as_bytes();
        rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

fn encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_queries_are_not_touched() {
        for query in ["", "a=1&b=%41&&=&c", "x+y=%2B"] {
            assert_eq!(cleaned(query), None, "{query}");
        }
    }

    #[test]
    fn doubtful_parts_are_dropped() {
        for (query, expected) in [
            ("a=1;b=2&c=%zz&d=%41+x&b", "b=&d=A+x"),
            ("a;", ""),
            ("z=1&y=%", "z=1"),
            ("b=2&a=2&b=1&%2", "a=2&b=2&b=1"),
            ("k=%c3%a9~&;", "k=%C3%A9~"),
        ] {
            assert_eq!(cleaned(query).as_deref(), Some(expected), "{query}");
        }
    }
}
