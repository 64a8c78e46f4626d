//! The page for a directory without an index.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::path;

/// Entries of a page; no browser shows more with pleasure.
const MAX_ENTRIES: usize = 100_000;

/// Names and links, sorted by the bytes of the names.
pub(super) async fn page(directory: PathBuf) -> io::Result<String> {
    tokio::task::spawn_blocking(move || read(&directory)).await?
}

fn read(directory: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let mut name = entry.file_name().into_encoded_bytes();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            name.push(b'/');
        }
        names.push(name);
    }
    names.sort_unstable_by(|a, b| without_slash(a).cmp(without_slash(b)));
    let mut page = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for name in names {
        let (link, text) = (
            path::relative(&name),
            escaped(&String::from_utf8_lossy(&name)),
        );
        let _ = writeln!(page, "<a href=\"{link}\">{text}</a>");
    }
    page.push_str("</pre>\n");
    Ok(page)
}

fn without_slash(name: &[u8]) -> &[u8] {
    name.strip_suffix(b"/").unwrap_or(name)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_sorted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        for name in ["sub.txt", "a:b", "x <&\"'.txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(
            read(directory.path()).unwrap(),
            "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n\
             <a href=\"./a:b\">a:b</a>\n\
             <a href=\"sub/\">sub/</a>\n\
             <a href=\"sub.txt\">sub.txt</a>\n\
             <a href=\"x%20%3C&%22%27.txt\">x &lt;&amp;&#34;&#39;.txt</a>\n\
             </pre>\n"
        );
    }
}
