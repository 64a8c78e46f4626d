//! Validation of annotations (server.md §3.1): keys are Kubernetes qualified names, the total size is bounded.

use std::collections::BTreeMap;

/// Bytes of all keys and values together.
const MAX_TOTAL: usize = 262_144;
const MAX_NAME: usize = 63;
const MAX_PREFIX: usize = 253;

/// All faults, one a line.
pub(crate) fn check(annotations: &BTreeMap<String, String>) -> Result<(), String> {
    let mut faults: Vec<String> = annotations
        .keys()
        .flat_map(|key| {
            key_faults(&key.to_lowercase())
                .into_iter()
                .map(move |m| format!("annotation key {key} is invalid: {m}"))
        })
        .collect();
    let total: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if total > MAX_TOTAL {
        faults.push(format!(
            "annotations size {total} is larger than limit {MAX_TOTAL}"
        ));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

fn key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return vec![
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".into(),
            ];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".into());
            } else if prefix.len() > MAX_PREFIX || !prefix.split('.').all(is_label) {
                faults.push(
                    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
                        .into(),
                );
            }
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > MAX_NAME {
        faults.push(format!(
            "name part must be no more than {MAX_NAME} characters"
        ));
    }
    if !is_name(name) {
        faults.push("name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')".into());
    }
    faults
}

fn is_label(s: &str) -> bool {
    is_framed(s, |b| b == b'-')
}

fn is_name(s: &str) -> bool {
    is_framed(s, |b| matches!(b, b'-' | b'_' | b'.'))
}

/// ASCII letters and digits, with others that `inner` allows between the first and the last.
fn is_framed(s: &str, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = s.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || inner(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str, value: &str) -> Result<(), String> {
        check(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn qualified_names_pass() {
        for key in [
            "a",
            "MyName",
            "my.name",
            "123-abc",
            "example.com/name",
            "Example.COM/x_y",
        ] {
            assert_eq!(of(key, "v"), Ok(()), "{key}");
        }
    }

    #[test]
    fn others_are_named() {
        for key in [
            "",
            "-a",
            "a-",
            "a b",
            "/a",
            "a/b/c",
            "pre_fix/a",
            &"x".repeat(64),
        ] {
            let error = of(key, "v").unwrap_err();
            assert!(
                error.starts_with(&format!("annotation key {key} is invalid: ")),
                "{error}"
            );
        }
        assert_eq!(
            of("a", &"x".repeat(MAX_TOTAL)).unwrap_err(),
            "annotations size 262145 is larger than limit 262144"
        );
    }
}
