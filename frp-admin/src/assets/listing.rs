//! What a directory without `index.html` shows.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::Response;
use crate::request::escape_path;

/// Entries shown at most.
const MAX_ENTRIES: usize = 10_000;

/// The entries as links, sorted. Names that are no UTF-8 cannot be asked for and are left out.
pub(super) fn page(directory: &Path) -> io::Result<Response> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let is_directory = fs::metadata(entry.path()).is_ok_and(|m| m.is_dir());
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, is_directory));
        }
    }
    names.sort_unstable();
    let mut page = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for (name, is_directory) in names {
        let slash = if is_directory { "/" } else { "" };
        let link = escaped(&relative(&name, is_directory));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "<a href=\"{link}\">{}{slash}</a>", escaped(&name));
    }
    page.push_str("</pre>\n");
    Ok(Response::body("text/html; charset=utf-8", page))
}

/// A name as a relative reference: a `:` in it must not be taken for a scheme.
pub(super) fn relative(name: &str, is_directory: bool) -> String {
    let here = if name.contains(':') { "./" } else { "" };
    let slash = if is_directory { "/" } else { "" };
    format!("{here}{}{slash}", escape_path(name))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}
