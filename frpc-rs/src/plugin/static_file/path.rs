//! Paths of URLs: decoding, cleaning, encoding, and the way into the file system.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// What Go leaves as it is in the path of a URL, besides letters and digits.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The bytes a path stands for; `None` if an escape is bad.
pub(super) fn decoded(path: &str) -> Option<Vec<u8>> {
    let good = path.split('%').skip(1).all(|rest| {
        let rest = rest.as_bytes();
        rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit)
    });
    good.then(|| percent_decode(path.as_bytes()).collect())
}

/// The shortest path with the same meaning; it begins with `/` and keeps a `/` at the end.
pub(super) fn cleaned(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend(kept.join(&b'/'));
    if path.ends_with(b"/") && clean.len() > 1 {
        clean.push(b'/');
    }
    clean
}

/// A path as URLs write it.
pub(super) fn encoded(path: &[u8]) -> String {
    percent_encode(path, ESCAPED).to_string()
}

/// As [`encoded`], for a path that is relative to the current one: a `:` in it must not be taken for a scheme.
pub(super) fn relative(path: &[u8]) -> String {
    let encoded = encoded(path);
    let first = encoded.split('/').next().unwrap_or_default();
    if first.contains(':') || encoded.starts_with('/') {
        format!("./{encoded}")
    } else {
        encoded
    }
}

/// The file that a clean path means. `None`: there can be none. Symbolic links are followed, wherever they lead.
pub(super) fn local(root: &Path, inner: &[u8]) -> Option<PathBuf> {
    let mut local = root.to_owned();
    for part in inner.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        let part = os_name(part)?;
        let mut components = part.components();
        // Where `\` separates, and `C:` or `NUL` mean something, a name can be more than a name.
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if name.len() == part.as_os_str().len() => {
                local.push(name);
            }
            _ => return None,
        }
    }
    Some(local)
}

#[cfg(unix)]
fn os_name(part: &[u8]) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt as _;
    (!part.contains(&0)).then(|| Path::new(std::ffi::OsStr::from_bytes(part)))
}

#[cfg(not(unix))]
fn os_name(part: &[u8]) -> Option<&Path> {
    let name = std::str::from_utf8(part).ok()?;
    (!name.contains(['\0', '\\', ':'])).then(|| Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_paths_cannot_climb() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("*", "/*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a", "/a"),
            ("/../../a", "/a"),
            ("/a/../..", "/"),
            ("/a/../../", "/"),
            ("/./a/.", "/a"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(cleaned(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(decoded("/%2e%2E/a%20b").unwrap(), b"/../a b");
        for bad in ["/%", "/%2", "/%zz", "/%+1"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
        assert_eq!(
            encoded("x <&\"' %?#é.txt".as_bytes()),
            "x%20%3C&%22%27%20%25%3F%23%C3%A9.txt"
        );
        assert_eq!(relative(b"a:b/"), "./a:b/");
        assert_eq!(relative(b"a/b:c"), "a/b:c");
    }

    #[test]
    fn names_stay_below_the_root() {
        let root = Path::new("/srv");
        assert_eq!(local(root, b""), Some("/srv".into()));
        assert_eq!(local(root, b"a/b/"), Some("/srv/a/b".into()));
        for bad in [&b".."[..], b"a/../../b", b"a\0b", b"."] {
            assert_eq!(local(root, bad), None, "{bad:?}");
        }
    }
}
