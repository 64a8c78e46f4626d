//! The gateway's host key (server.md §10.1). Errors are upstream's texts.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frp_proto::text::system_error;
use russh::keys::{PrivateKey, decode_secret_key};

/// Characters of a PEM line.
const PEM_LINE: usize = 64;
/// What is before the PKCS #1 structure in a PKCS #8 one of an RSA key whose lengths take two bytes each.
const PKCS8_HEADER: usize = 26;

/// Reads an unencrypted key.
pub(super) fn load(path: &Path) -> Result<PrivateKey, String> {
    let pem = fs::read(path).map_err(|e| failed("open", path, &e))?;
    parse(&pem)
}

/// Reads the key that an earlier run has made, or makes one.
pub(super) fn load_or_make(path: &Path) -> Result<PrivateKey, String> {
    if let Ok(pem) = fs::read(path)
        && !pem.is_empty()
    {
        return parse(&pem);
    }
    let pem = make()?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        // An empty file may be there already, with another mode.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        file.write_all(pem.as_bytes())
    });
    written.map_err(|e| failed("open", path, &e))?;
    parse(pem.as_bytes())
}

fn failed(call: &str, path: &Path, e: &io::Error) -> String {
    format!("{call} {}: {}", path.display(), system_error(e))
}

fn parse(pem: &[u8]) -> Result<PrivateKey, String> {
    let text = std::str::from_utf8(pem).unwrap_or_default();
    if !text.contains("-----BEGIN ") {
        return Err("ssh: no key found".into());
    }
    decode_secret_key(text, None).map_err(|e| format!("ssh: {e}"))
}

/// An RSA key of 2048 bits as PKCS #1 in PEM.
fn make() -> Result<String, String> {
    let failed = |_| "no RSA key could be made".to_owned();
    let key = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
    let body = STANDARD.encode(der.as_ref().get(PKCS8_HEADER..).unwrap_or_default());
    let mut pem = String::from("-----BEGIN RSA PRIVATE KEY-----\n");
    for line in body.as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().map(|c| char::from(*c)));
        pem.push('\n');
    }
    pem.push_str("-----END RSA PRIVATE KEY-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_kept_for_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "").unwrap();
        let made = load_or_make(&path).unwrap();
        assert!(made.algorithm().is_rsa());
        let pem = fs::read_to_string(&path).unwrap();
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        #[cfg(unix)]
        {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = load_or_make(&path).unwrap();
        assert_eq!(again.public_key(), made.public_key());
        assert_eq!(load(&path).unwrap().public_key(), made.public_key());
    }

    #[test]
    fn unusable_files_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "nonsense").unwrap();
        assert_eq!(load(&file).unwrap_err(), "ssh: no key found");
        assert_eq!(load_or_make(&file).unwrap_err(), "ssh: no key found");
        let missing = dir.path().join("nope");
        assert_eq!(
            load(&missing).unwrap_err(),
            format!("open {}: no such file or directory", missing.display())
        );
        let below = file.join("x");
        assert_eq!(
            load_or_make(&below).unwrap_err(),
            format!("open {}: not a directory", below.display())
        );
    }
}
