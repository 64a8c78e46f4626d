//! Query strings that programs read differently are brought into one form before a backend sees them (server.md §7.4).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::target::percent_decoded;

/// Parameters a query may have; one that has more is dropped.
const MAX_PARAMETERS: usize = 10_000;

/// The cleaned query, or `None` when `query` may stay as it is.
pub(super) fn cleaned(query: &str) -> Option<String> {
    if query.split('&').count() > MAX_PARAMETERS {
        return Some(String::new());
    }
    let doubtful = query.contains(';') || decoded(query).is_none();
    doubtful.then(|| rewritten(query))
}

/// Drops bad pairs and sorts the rest by key.
fn rewritten(query: &str) -> String {
    let mut values = BTreeMap::<Cow<'_, [u8]>, Vec<Cow<'_, [u8]>>>::new();
    let pairs = query.split('&');
    for pair in pairs.filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (decoded(key), decoded(value)) {
            values.entry(key).or_default().push(value);
        }
    }
    let mut text = String::new();
    for (key, values) in values {
        for value in values {
            if !text.is_empty() {
                text.push('&');
            }
            encode(&mut text, &key);
            text.push('=');
            encode(&mut text, &value);
        }
    }
    text
}

/// `None` on an escape that is none.
fn decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.contains('+') {
        // A plus sign is a space, an escaped one is not.
        let spaced = text.replace('+', " ");
        return Some(Cow::Owned(percent_decoded(spaced.as_bytes())?.into_owned()));
    }
    percent_decoded(text.as_bytes())
}

fn encode(text: &mut String, bytes: &[u8]) {
    for &b in bytes {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(b));
            }
            b' ' => text.push('+'),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{b:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_queries_stay() {
        for query in ["", "a=1&b=2", "b=%41&a", "&&", "a=%22"] {
            assert_eq!(cleaned(query), None, "{query}");
        }
    }

    #[test]
    fn bad_pairs_go_and_the_rest_is_sorted() {
        for (query, expected) in [
            ("a=1&b=%zz&c=d;e", "a=1"),
            ("b=2+%2b&%zz=1&a=%C3%A4&b=1", "a=%C3%A4&b=2+%2B&b=1"),
            (";", ""),
            ("x&;", "x="),
            ("a=%", ""),
        ] {
            assert_eq!(cleaned(query).as_deref(), Some(expected), "{query}");
        }
        let many = vec!["a"; MAX_PARAMETERS + 1].join("&");
        assert_eq!(cleaned(&many).as_deref(), Some(""));
    }
}
