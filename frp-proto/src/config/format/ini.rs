//! Whether a file is legacy INI (config-frps.md §2.1): it parses as INI and has a section `common`, whatever its name.

/// Looks at the raw text, before any template is rendered.
pub(crate) fn is_legacy(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let mut common = false;
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            match section.rfind(']').map(|end| &section[..end]) {
                None | Some("") => return false,
                Some(name) => common |= name == "common",
            }
            continue;
        }
        let Some(value) = value_of(line) else {
            return false;
        };
        if !skip_value(value, &mut lines) {
            return false;
        }
    }
    common
}

/// What follows the key and its delimiter; `None` if there is no key or no delimiter.
fn value_of(line: &str) -> Option<&str> {
    for quote in ["\"\"\"", "\"", "`"] {
        if let Some(rest) = line.strip_prefix(quote) {
            let (_, rest) = rest.split_once(quote)?;
            return rest.find(['=', ':']).map(|at| rest[at + 1..].trim());
        }
    }
    let at = line.find(['=', ':']).filter(|at| *at > 0)?;
    Some(line[at + 1..].trim())
}

/// Passes over the lines a value takes; `false` if a verbatim value never ends.
fn skip_value(value: &str, lines: &mut std::str::Lines<'_>) -> bool {
    for quote in ["\"\"\"", "`"] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.contains(quote) || lines.any(|line| line.contains(quote));
        }
    }
    let mut value = value;
    while value.ends_with('\\') {
        match lines.next() {
            Some(next) => value = next.trim(),
            None => break,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detection_follows_the_content() {
        for text in [
            "[common]\nbind_port = 7000",
            "\u{feff}; c\n# c\n[common] x\na: 1",
            "[common]\nbind_port = {{ .Envs.X }}",
            "[common]\na = \"\"\"x\ny\nz\"\"\"\nb = `1`",
            "[common]\na = b \\\nbare\nc = d",
            "[common]\n\"a = b\" = c",
        ] {
            assert!(is_legacy(text), "{text}");
        }
        for text in [
            "bindPort = 7000",
            "[frps]\nbind_port = abc",
            "[ common ]\nx=1",
            "[Common]\nx=1",
            "[common]\nbind_port = 1\nbare",
            "{{ if true }}\n[common]\nbind_port=1\n{{ end }}",
            "[common]\n= 1",
            "[common",
            "[]\n[common]",
            "[common]\na = `x",
            "[common]\n\"a = b",
        ] {
            assert!(!is_legacy(text), "{text}");
        }
    }
}
