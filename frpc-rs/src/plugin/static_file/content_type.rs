//! `Content-Type` of a file: by its extension, else by its first bytes (the WHATWG's MIME sniffing standard §7, shortened).

use std::io;
use std::path::Path;

use http::HeaderValue;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes that are looked at.
const SNIFFED: usize = 512;
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";

/// Begins of binary formats.
const SIGNATURES: [(&[u8], &str); 21] = [
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", TEXT),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\0", "application/ogg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (b"\0asm", "application/wasm"),
];

/// Tags that a page may begin with.
const TAGS: [&str; 17] = [
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a",
    "<style",
    "<title",
    "<b",
    "<body",
    "<br",
    "<p",
    "<!--",
];

/// The type of a file; its position is at the begin afterwards.
pub(super) async fn of(path: &Path, file: &mut File) -> io::Result<HeaderValue> {
    if let Some(known) = by_extension(path) {
        return Ok(known);
    }
    let mut start = Vec::with_capacity(SNIFFED);
    file.take(SNIFFED as u64).read_to_end(&mut start).await?;
    file.rewind().await?;
    Ok(HeaderValue::from_static(sniffed(&start)))
}

fn by_extension(path: &Path) -> Option<HeaderValue> {
    let known = mime_guess::from_path(path).first_raw()?;
    if known.starts_with("text/") {
        HeaderValue::try_from(format!("{known}; charset=utf-8")).ok()
    } else {
        Some(HeaderValue::from_static(known))
    }
}

fn sniffed(start: &[u8]) -> &'static str {
    let text = start.trim_ascii_start();
    let is_tag = |tag: &&str| {
        let Some((begin, rest)) = text.split_at_checked(tag.len()) else {
            return false;
        };
        let ends = *tag == "<!--" || matches!(rest.first(), Some(b' ' | b'>'));
        begin.eq_ignore_ascii_case(tag.as_bytes()) && ends
    };
    if TAGS.iter().any(is_tag) {
        return HTML;
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, known)) = SIGNATURES.iter().find(|(s, _)| start.starts_with(s)) {
        return known;
    }
    match (start.get(..4), start.get(8..12)) {
        (Some(b"RIFF"), Some(b"WEBP")) => "image/webp",
        (Some(b"RIFF"), Some(b"WAVE")) => "audio/wave",
        (Some(b"RIFF"), Some(b"AVI ")) => "video/avi",
        _ if start.get(4..8) == Some(b"ftyp") => "video/mp4",
        _ if start.iter().any(|b| is_binary(*b)) => BINARY,
        _ => TEXT,
    }
}

/// Control characters that texts do not have.
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions() {
        for (name, expected) in [
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("a.wasm", "application/wasm"),
        ] {
            assert_eq!(by_extension(Path::new(name)).unwrap(), expected, "{name}");
        }
        assert_eq!(by_extension(Path::new("README")), None);
    }

    #[test]
    fn first_bytes() {
        for (start, expected) in [
            (&b""[..], TEXT),
            (b"just words\n", TEXT),
            (b"caf\xc3\xa9", TEXT),
            (b"\0\0\0", BINARY),
            (b"\x89PNG\r\n\x1a\n0000", "image/png"),
            (b"  \n<!DOCTYPE HTML>", HTML),
            (b"<p>hi</p>", HTML),
            (b"<pre", TEXT),
            (b"RIFF1234WEBPVP", "image/webp"),
            (b"\0\0\0\x18ftypmp42", "video/mp4"),
        ] {
            assert_eq!(sniffed(start), expected, "{start:?}");
        }
    }
}
