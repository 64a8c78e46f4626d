//! Annotation keys are Kubernetes' qualified names, checked in lower case (config-frpc.md §12.3).

use crate::config::raw::common::StringMap;

const MAX_SIZE: usize = 256 << 10;

const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const PREFIX: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const QUALIFIED: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";

/// One line a reason.
pub(super) fn check(annotations: &StringMap) -> Result<(), String> {
    let mut failures = Vec::new();
    for key in annotations.keys() {
        let reasons = reasons(&key.to_lowercase());
        failures.extend(
            reasons
                .iter()
                .map(|r| format!("annotation key {key} is invalid: {r}")),
        );
    }
    let size: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > MAX_SIZE {
        failures.push(format!(
            "annotations size {size} is larger than limit {MAX_SIZE}"
        ));
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}

fn reasons(key: &str) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    let parts: Vec<&str> = key.splitn(3, '/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                reasons.push("prefix part must be non-empty");
            } else {
                if prefix.len() > 253 {
                    reasons.push("prefix part must be no more than 253 characters");
                }
                if !prefix.split('.').all(|label| word(label, "-")) {
                    reasons.push(PREFIX);
                }
            }
            name
        }
        _ => return vec![QUALIFIED],
    };
    if name.is_empty() {
        reasons.push("name part must be non-empty");
    } else if name.len() > 63 {
        reasons.push("name part must be no more than 63 characters");
    }
    if !word(name, "-_.") {
        reasons.push(NAME);
    }
    reasons
}

/// Letters and digits at both ends, also `inner` between.
fn word(text: &str, inner: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    alphanumeric(text.chars().next())
        && alphanumeric(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || inner.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for key in ["a", "MyName", "example.net/Team", "x.y/z_1.2"] {
            assert_eq!(reasons(&key.to_lowercase()), Vec::<&str>::new(), "{key}");
        }
        assert_eq!(reasons("bad key"), [NAME]);
        assert_eq!(reasons("/x"), ["prefix part must be non-empty"]);
        assert_eq!(reasons("a/b/c"), [QUALIFIED]);
        assert_eq!(reasons("a_b/c"), [PREFIX]);
        assert_eq!(reasons("a/"), ["name part must be non-empty", NAME]);
        assert_eq!(
            reasons(&"a".repeat(64)),
            ["name part must be no more than 63 characters"]
        );
    }

    #[test]
    fn size() {
        let annotations = StringMap::from([("a".to_owned(), "x".repeat(MAX_SIZE))]);
        assert_eq!(
            check(&annotations),
            Err("annotations size 262145 is larger than limit 262144".to_owned())
        );
    }
}
