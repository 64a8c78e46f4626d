//! The tables of `frpc status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

/// Types in the order of their tables.
const TYPES: [&str; 8] = [
    "tcp", "udp", "tcpmux", "http", "https", "stcp", "sudp", "xtcp",
];
const COLUMNS: [&str; 6] = [
    "Name",
    "Status",
    "LocalAddr",
    "Plugin",
    "RemoteAddr",
    "Error",
];
/// Blanks behind the widest cell of a column.
const GAP: usize = 2;

/// One proxy in the answer to `GET /api/status`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Proxy {
    name: String,
    status: String,
    err: String,
    local_addr: String,
    plugin: String,
    remote_addr: String,
}

/// All tables, from the answer's body.
pub(super) fn status(body: &[u8]) -> Result<String, String> {
    let types: BTreeMap<String, Vec<Proxy>> =
        serde_json::from_slice(body).map_err(|e| format!("unmarshal http response error: {e}"))?;
    let mut text = "Proxy Status...\n".to_owned();
    for type_ in TYPES {
        let Some(proxies) = types.get(type_).filter(|proxies| !proxies.is_empty()) else {
            continue;
        };
        let mut proxies: Vec<_> = proxies.iter().collect();
        proxies.sort_by(|a, b| a.name.cmp(&b.name));
        let _ = write!(text, "\n{}\n{}", type_.to_uppercase(), table(&proxies));
    }
    Ok(text)
}

fn table(proxies: &[&Proxy]) -> String {
    let rows = proxies.iter().map(|p| {
        [
            &p.name,
            &p.status,
            &p.local_addr,
            &p.plugin,
            &p.remote_addr,
            &p.err,
        ]
        .map(String::as_str)
    });
    let rows: Vec<_> = std::iter::once(COLUMNS).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0) + GAP
    };
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_of_the_specification() {
        let body = br#"{"http":[{"name":"h2","type":"http","status":"running","err":"","local_addr":"","plugin":"static_file","remote_addr":"sub2.example.test:63701"},{"name":"h","type":"http","status":"new","err":"","local_addr":"127.0.0.1:80","plugin":"","remote_addr":""}],"tcp":[{"name":"badport","type":"tcp","status":"start error","err":"port not allowed","local_addr":"127.0.0.1:1","plugin":"","remote_addr":""},{"name":"t1","type":"tcp","status":"running","err":"","local_addr":"127.0.0.1:22","plugin":"","remote_addr":"127.0.0.1:63730"}],"udp":[]}"#;
        let expected = "Proxy Status...$
$
TCP$
Name     Status       LocalAddr     Plugin  RemoteAddr       Error             $
badport  start error  127.0.0.1:1                            port not allowed  $
t1       running      127.0.0.1:22          127.0.0.1:63730                    $
$
HTTP$
Name  Status   LocalAddr     Plugin       RemoteAddr               Error  $
h     new      127.0.0.1:80                                               $
h2    running                static_file  sub2.example.test:63701         $
$
";
        let printed = format!("{}\n", status(body).unwrap());
        assert_eq!(printed, expected.replace('$', ""));
        assert_eq!(status(b"{}").unwrap(), "Proxy Status...\n");
        assert!(status(b"[]").is_err());
    }
}
