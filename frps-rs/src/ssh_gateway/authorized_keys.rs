//! `authorizedKeysFile` (server.md §10.1), in the format of `sshd`. It is read at every attempt, so that it can be changed
//! at any time.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use frp_proto::text::system_error;
use russh::keys::PublicKey;

/// Bytes read of the file: tens of thousands of keys.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// The comment of the entry with this key, if there is one. Blocks while the file is read; the error is for the log.
pub(super) fn comment_of(path: &Path, key: &PublicKey) -> Result<Option<String>, String> {
    let mut text = Vec::new();
    File::open(path)
        .map_err(|e| format!("open {}: {}", path.display(), system_error(&e)))?
        .take(MAX_SIZE)
        .read_to_end(&mut text)
        .map_err(|e| format!("read {}: {}", path.display(), system_error(&e)))?;
    Ok(find(&String::from_utf8_lossy(&text), key))
}

/// Lines that are no entries are passed over, wherever they stand.
fn find(text: &str, key: &PublicKey) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(entry)
        .find(|entry| entry.key_data() == key.key_data())
        .map(|entry| entry.comment().as_str_lossy().trim().to_owned())
}

/// The key of a line, which may stand after options.
fn entry(line: &str) -> Option<PublicKey> {
    let key = |text: &str| PublicKey::from_openssh(text).ok();
    key(line).or_else(|| key(without_options(line)?))
}

/// What follows the first white space that is not within quotes.
fn without_options(line: &str) -> Option<&str> {
    let mut quoted = false;
    let mut escaped = false;
    let end = line.find(|c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        !quoted && c.is_ascii_whitespace()
    })?;
    Some(line[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIB8s3gmRgHYOPfwJpe2ZQhVbzQhCD5QGjYrXJzWP1dZp";
    const BOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIDZIuUlBvOWnEeHsA0oVbQbtCBDHEQTNVfL+RWFWnqGg";

    fn key(base64: &str) -> PublicKey {
        PublicKey::from_openssh(&format!("ssh-ed25519 {base64}")).unwrap()
    }

    #[test]
    fn keys_are_found_between_anything() {
        let text = format!(
            "# who may come\n\n  ssh-ed25519 {ALICE}   alice of wonderland \r\ngarbage\n\
             command=\"echo \\\"hi\\\"  ho\",no-pty ssh-ed25519 {BOB}\n# end\n\ngarbage at the end\n\n"
        );
        assert_eq!(
            find(&text, &key(ALICE)).as_deref(),
            Some("alice of wonderland")
        );
        assert_eq!(find(&text, &key(BOB)).as_deref(), Some(""));
        assert_eq!(find("", &key(ALICE)), None);
        assert_eq!(find(&format!("#ssh-ed25519 {ALICE}"), &key(ALICE)), None);
    }

    #[test]
    fn a_missing_file_is_told() {
        let error = comment_of(Path::new("/nonexistent/keys"), &key(ALICE)).unwrap_err();
        assert_eq!(error, "open /nonexistent/keys: no such file or directory");
    }
}
