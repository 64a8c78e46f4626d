//! JSON as Go writes it (admin-api.md §1.5): compact, HTML characters escaped, a line break at the end.
//!
//! Order of fields and omission are up to the type; maps must be sorted ones.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// A value as a response body. A value that JSON cannot hold gives `null`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    if value
        .serialize(&mut Serializer::with_formatter(&mut out, Go))
        .is_err()
    {
        out.clear();
        out.extend_from_slice(b"null");
    }
    out.push(b'\n');
    out
}

struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = special.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn strings_are_escaped_as_in_go() {
        let text = "<a&b>\u{2028}\u{2029}\u{0}\u{8}\u{c}\n\r\t\"\\/\u{7f}ä";
        assert_eq!(
            String::from_utf8(encode(text)).unwrap(),
            "\"\\u003ca\\u0026b\\u003e\\u2028\\u2029\\u0000\\b\\f\\n\\r\\t\\\"\\\\/\u{7f}ä\"\n"
        );
    }

    #[test]
    fn keys_are_escaped_too() {
        let map = BTreeMap::from([("b", 1), ("<", 2)]);
        assert_eq!(encode(&map), b"{\"\\u003c\":2,\"b\":1}\n");
    }
}
