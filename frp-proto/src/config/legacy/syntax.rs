//! The INI dialect: sections of keys and values, and how a value is looked up and read.

use std::collections::BTreeMap;

/// Rounds of `%(key)s` replacement; values that name each other end here.
const MAX_ROUNDS: usize = 99;
/// A value may not grow beyond this by replacement.
const MAX_VALUE: usize = 1 << 20;

/// Why a text is no INI file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct SyntaxError {
    text: String,
    pub(super) line: usize,
}

/// Sections in the order of their first mention. Repeated ones are one, and of a repeated key the last value counts.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// Keys before the first section.
    head: BTreeMap<String, String>,
    sections: Vec<(String, BTreeMap<String, String>)>,
}

impl Ini {
    pub(super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut ini = Self::default();
        let mut section = None;
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let line = line.trim();
            let error = |text: String| SyntaxError {
                text,
                line: number + 1,
            };
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let end = rest
                    .rfind(']')
                    .ok_or_else(|| error(format!("unclosed section: {line}")))?;
                if end == 0 {
                    return Err(error("empty section name".into()));
                }
                section = Some(ini.place(&rest[..end]));
                continue;
            }
            let (key, value) =
                split(line).ok_or_else(|| error(format!("key is missing: {line}")))?;
            let value = match value {
                // A key alone is a switch.
                None => "true".to_owned(),
                Some(value) => read_value(value, &mut lines.by_ref().map(|(_, line)| line))
                    .ok_or_else(|| error(format!("missing closing quote of the value of {key}")))?,
            };
            let keys = match section {
                Some(at) => {
                    let (_, keys): &mut (String, _) = &mut ini.sections[at];
                    keys
                }
                None => &mut ini.head,
            };
            keys.insert(key.to_owned(), value);
        }
        Ok(ini)
    }

    /// Where a section is; it is made when it is new.
    fn place(&mut self, name: &str) -> usize {
        let found = self.sections.iter().position(|(n, _)| n == name);
        found.unwrap_or_else(|| {
            self.sections.push((name.to_owned(), BTreeMap::new()));
            self.sections.len() - 1
        })
    }

    /// Names of the sections, in the file's order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }

    /// A section; one that is not there has no keys.
    pub(super) fn section<'a>(&'a self, name: &'a str) -> Section<'a> {
        Section {
            ini: self,
            name,
            replaced: &[],
        }
    }

    fn keys(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.sections
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, keys)| keys)
    }
}

/// Key and value; no value without a delimiter.
fn split(line: &str) -> Option<(&str, Option<&str>)> {
    for quote in ["\"\"\"", "\"", "`"] {
        if let Some(rest) = line.strip_prefix(quote) {
            let (key, rest) = rest.split_once(quote)?;
            let value = rest.find(['=', ':']).map(|at| rest[at + 1..].trim());
            return Some((key, value));
        }
    }
    match line.find(['=', ':']) {
        Some(0) => None,
        Some(at) => Some((line[..at].trim(), Some(line[at + 1..].trim()))),
        None => Some((line, None)),
    }
}

/// A value's text without quotes, from its first line and the lines that it goes on over; `None` if it never ends.
fn read_value<'a>(first: &'a str, lines: &mut dyn Iterator<Item = &'a str>) -> Option<String> {
    for quote in ["\"\"\"", "`"] {
        let Some(rest) = first.strip_prefix(quote) else {
            continue;
        };
        if let Some((value, _)) = rest.split_once(quote) {
            return Some(value.to_owned());
        }
        let mut value = rest.to_owned();
        for line in lines {
            value.push('\n');
            if let Some((last, _)) = line.split_once(quote) {
                value.push_str(last);
                return Some(value);
            }
            value.push_str(line);
        }
        return None;
    }
    let mut value = first.to_owned();
    while value.ends_with('\\') {
        value.pop();
        match lines.next() {
            Some(line) => value.push_str(line.trim()),
            None => break,
        }
    }
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote))
            .filter(|inner| !inner.contains(quote));
        if let Some(inner) = inner {
            return Some(inner.to_owned());
        }
    }
    Some(value)
}

/// Values of one section. Empty ones and those that cannot be read count as absent, so that the default stays.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    ini: &'a Ini,
    name: &'a str,
    /// Keys with other values than the file's.
    replaced: &'a [(&'a str, String)],
}

impl<'a> Section<'a> {
    /// The same section, where these keys have these values.
    pub(super) fn with(self, replaced: &'a [(&'a str, String)]) -> Self {
        Self { replaced, ..self }
    }

    /// A key's text, perhaps empty. A section `a.b` has what `a` has, unless it has it itself.
    fn raw(&self, key: &str) -> Option<String> {
        if let Some((_, value)) = self.replaced.iter().find(|(k, _)| *k == key) {
            return Some(value.clone());
        }
        let mut name = self.name;
        loop {
            if let Some(value) = self.ini.keys(name).and_then(|keys| keys.get(key)) {
                return Some(self.interpolated(value));
            }
            name = name.rsplit_once('.')?.0;
        }
    }

    /// Replaces `%(key)s` by the section's or the head's value of that key.
    fn interpolated(&self, value: &str) -> String {
        let mut value = value.to_owned();
        for _ in 0..MAX_ROUNDS {
            let Some(start) = value.find("%(") else { break };
            let Some(length) = value[start..].find(")s") else {
                break;
            };
            let key = &value[start + 2..start + length];
            let own = self.ini.keys(self.name).and_then(|keys| keys.get(key));
            let Some(by) = own.or_else(|| self.ini.head.get(key)) else {
                break;
            };
            value = format!("{}{by}{}", &value[..start], &value[start + length + 2..]);
            if value.len() > MAX_VALUE {
                break;
            }
        }
        value
    }

    pub(super) fn string(&self, key: &str) -> Option<String> {
        self.raw(key).filter(|value| !value.is_empty())
    }

    /// The text, empty without one.
    pub(super) fn text(&self, key: &str) -> String {
        self.raw(key).unwrap_or_default()
    }

    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        match self.raw(key)?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" | "YES" | "yes" | "Yes" | "y" | "ON"
            | "on" | "On" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "NO" | "no" | "No" | "n" | "OFF"
            | "off" | "Off" => Some(false),
            _ => None,
        }
    }

    /// A switch that is off by default.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.bool(key).unwrap_or(false)
    }

    pub(super) fn int(&self, key: &str) -> Option<i64> {
        go_int(&self.raw(key)?)
    }

    /// The number, 0 without one.
    pub(super) fn number(&self, key: &str) -> i64 {
        self.int(key).unwrap_or(0)
    }

    /// Items between commas; `\,` is a comma in an item.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let Some(value) = self.string(key) else {
            return Vec::new();
        };
        let mut items = vec![String::new()];
        let mut chars = value.chars().peekable();
        while let Some(c) = chars.next() {
            let last = items.len() - 1;
            match c {
                '\\' if chars.next_if_eq(&',').is_some() => items[last].push(','),
                ',' => items.push(String::new()),
                c => items[last].push(c),
            }
        }
        let mut items: Vec<String> = items.iter().map(|item| item.trim().to_owned()).collect();
        if items.last().is_some_and(String::is_empty) {
            items.pop();
        }
        items
    }

    /// Keys that begin with `prefix`, without it. These are not inherited.
    pub(super) fn prefixed(&self, prefix: &str) -> BTreeMap<String, String> {
        self.ini
            .keys(self.name)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| {
                let key = key.strip_prefix(prefix)?;
                Some((key.to_owned(), self.interpolated(value)))
            })
            .collect()
    }
}

/// Go's integer literals: the base is in the prefix, `_` may stand between digits.
fn go_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let misplaced = digits.starts_with('_') && base == 10 || digits.ends_with('_');
    if misplaced || digits.contains("__") || digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i64::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, key: &str) -> Option<String> {
        Ini::parse(text).unwrap().section("s").raw(key)
    }

    #[test]
    fn values_and_their_quotes() {
        for (line, expected) in [
            ("k = v", "v"),
            ("k: v ; no comment", "v ; no comment"),
            ("k = 'a b'", "a b"),
            ("k = \"a\"", "a"),
            ("k = \"a\"b\"", "\"a\"b\""),
            ("\"k\" = v", "v"),
            ("`k` = v", "v"),
            ("k = `a\n b`", "a\n b"),
            ("k = \"\"\"a\nb\"\"\"", "a\nb"),
            ("k = a \\\n  b", "a b"),
            ("k", "true"),
            ("k = a\nk = b", "b"),
            ("k =", ""),
        ] {
            let text = format!("[s]\n{line}\n");
            assert_eq!(value(&text, "k").as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn sections_merge_inherit_and_interpolate() {
        let text =
            "top = T\n[a]\nx = 1\nmeta_m = 1\n[a.b]\ny = %(x2)s%(top)s%(no)s\nx2 = q\n[a]\nz = 3";
        let ini = Ini::parse(text).unwrap();
        assert_eq!(ini.names().collect::<Vec<_>>(), ["a", "a.b"]);
        let child = ini.section("a.b");
        assert_eq!(child.text("x"), "1");
        assert_eq!(child.text("z"), "3");
        assert_eq!(child.text("y"), "qT%(no)s");
        assert!(child.prefixed("meta_").is_empty());
        assert_eq!(ini.section("a").prefixed("meta_").len(), 1);
    }

    #[test]
    fn replacement_ends() {
        let text = "[s]\na = %(b)s%(b)s\nb = %(a)s%(a)s";
        assert!(value(text, "a").unwrap().len() <= 2 * MAX_VALUE);
    }

    #[test]
    fn numbers_switches_and_lists() {
        for (text, expected) in [
            ("7000", Some(7000)),
            ("0x10", Some(16)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("-5", Some(-5)),
            ("0", Some(0)),
            ("abc", None),
            ("5s", None),
            ("", None),
            ("--5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(go_int(text), expected, "{text}");
        }
        let ini = Ini::parse("[s]\nl = a, b\\,c ,\non = On\nodd = TRUe").unwrap();
        let s = ini.section("s");
        assert_eq!(s.list("l"), ["a", "b,c"]);
        assert_eq!(
            (s.bool("on"), s.bool("odd"), s.is_on("none")),
            (Some(true), None, false)
        );
    }

    #[test]
    fn what_is_no_ini_names_its_line() {
        for (text, line) in [
            ("[a]\n[b", 2),
            ("[]", 1),
            ("\n\n= 1", 3),
            ("[a]\nk = `x", 2),
        ] {
            assert_eq!(Ini::parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
