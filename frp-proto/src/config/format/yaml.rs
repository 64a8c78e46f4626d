//! YAML 1.1 as go-yaml reads it into an untyped tree: first document only, last of equal keys wins, anchors and merges.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{MAX_DEPTH, SyntaxError};
use crate::config::value::{Data, Member, Pos, Value, go_float};

/// Nodes that may be copied for anchors and aliases: a few lines of them can otherwise stand for billions.
const MAX_COPIED: usize = 100_000;

pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut builder = Builder {
        text,
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        copied: 0,
        depth: 0,
    };
    loop {
        match builder.next()? {
            (Event::DocumentStart(_), _) => {
                let (event, span) = builder.next()?;
                return builder.node(event, span);
            }
            (Event::StreamEnd, _) => return Ok(Value::null()),
            _ => {}
        }
    }
}

struct Builder<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// Finished nodes by anchor, with their size.
    anchors: HashMap<usize, (Value, usize)>,
    copied: usize,
    depth: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => Err(scan_error(&e, self.text)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Value, SyntaxError> {
        let pos = pos(&span);
        let (anchor, data) = match event {
            Event::Alias(anchor) => return self.alias(anchor, pos),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(core_tag);
                (anchor, scalar(&text, style, tag.as_deref(), pos)?)
            }
            Event::SequenceStart(anchor, _) => (anchor, self.nested(pos, Self::sequence)?),
            Event::MappingStart(anchor, _) => (anchor, self.nested(pos, Self::mapping)?),
            _ => (0, Data::Null),
        };
        let value = Value { pos, data };
        if anchor != 0 {
            let size = size(&value);
            self.copy(size, pos)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    /// Pays for a copy before it is made.
    fn copy(&mut self, size: usize, pos: Pos) -> Result<(), SyntaxError> {
        self.copied += size;
        if self.copied > MAX_COPIED {
            return Err(error(pos, "document contains excessive aliasing"));
        }
        Ok(())
    }

    fn nested(
        &mut self,
        pos: Pos,
        build: impl FnOnce(&mut Self) -> Result<Data, SyntaxError>,
    ) -> Result<Data, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(error(pos, "exceeded max depth"));
        }
        self.depth += 1;
        let data = build(self)?;
        self.depth -= 1;
        Ok(data)
    }

    fn alias(&mut self, anchor: usize, pos: Pos) -> Result<Value, SyntaxError> {
        let (size, depth) = match self.anchors.get(&anchor) {
            Some((value, size)) => (*size, depth(value)),
            // Inside its own anchor an alias has no finished node.
            None => return Err(error(pos, "anchor contains itself")),
        };
        if depth + self.depth > MAX_DEPTH {
            return Err(error(pos, "exceeded max depth"));
        }
        self.copy(size, pos)?;
        Ok(self.anchors[&anchor].0.clone())
    }

    fn sequence(&mut self) -> Result<Data, SyntaxError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(Data::Array(elements)),
                (event, span) => elements.push(self.node(event, span)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Data, SyntaxError> {
        let mut members: Vec<Member> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break;
            }
            let merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            if merge {
                merge_into(&mut members, value)?;
            } else {
                let pos = key.pos;
                let key = key_text(key, &value)?;
                members.push(Member { key, pos, value });
            }
        }
        Ok(Data::Object(members))
    }
}

/// What is merged counts where it stands: it loses against what follows, and wins over what went before.
fn merge_into(members: &mut Vec<Member>, value: Value) -> Result<(), SyntaxError> {
    match value.data {
        Data::Object(merged) => members.extend(merged),
        // Of several maps the first wins, so it goes last.
        Data::Array(maps) => {
            for map in maps.into_iter().rev() {
                match map.data {
                    Data::Object(merged) => members.extend(merged),
                    _ => return Err(merge_error(map.pos)),
                }
            }
        }
        _ => return Err(merge_error(value.pos)),
    }
    Ok(())
}

fn merge_error(pos: Pos) -> SyntaxError {
    error(
        pos,
        "map merge requires map or sequence of maps as the value",
    )
}

/// Keys are text in JSON.
fn key_text(key: Value, value: &Value) -> Result<String, SyntaxError> {
    match key.data {
        Data::String(text) | Data::Number(text) => Ok(text),
        Data::Bool(b) => Ok(b.to_string()),
        Data::Null => {
            let value = match &value.data {
                Data::String(text) | Data::Number(text) => text.clone(),
                Data::Bool(b) => b.to_string(),
                Data::Null => "<nil>".to_owned(),
                _ => value.kind().to_owned(),
            };
            Err(SyntaxError {
                text: format!(
                    "error converting YAML to JSON: Unsupported map key of type: %!s(<nil>), key: <nil>, value: {value}"
                ),
                pos: key.pos,
            })
        }
        Data::Array(_) | Data::Object(_) => Err(error(key.pos, "invalid map key")),
    }
}

fn size(value: &Value) -> usize {
    1 + match &value.data {
        Data::Array(elements) => elements.iter().map(size).sum(),
        Data::Object(members) => members.iter().map(|m| size(&m.value)).sum(),
        _ => 0,
    }
}

fn depth(value: &Value) -> usize {
    match &value.data {
        Data::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Data::Object(members) => 1 + members.iter().map(|m| depth(&m.value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// `!!str` and the like; with any other tag a scalar is text.
fn core_tag(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() {
        tag.suffix.clone()
    } else {
        "str".to_owned()
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&str>,
    pos: Pos,
) -> Result<Data, SyntaxError> {
    let wanted = match tag {
        Some("str" | "binary") => return Ok(Data::String(text.to_owned())),
        Some(tag @ ("int" | "float" | "bool" | "null")) => Some(tag),
        _ if style != ScalarStyle::Plain => return Ok(Data::String(text.to_owned())),
        _ => None,
    };
    let data = plain(text, pos)?;
    let found = match data {
        Data::Null => "null",
        Data::Bool(_) => "bool",
        Data::Number(_) => "number",
        _ => "str",
    };
    match wanted {
        Some("int" | "float") if found == "number" => Ok(data),
        Some(wanted) if found != wanted => Err(error(
            pos,
            &format!("cannot decode !!{found} `{text}` as a !!{wanted}"),
        )),
        _ => Ok(data),
    }
}

/// The scalar rules of YAML 1.1 as go-yaml has them.
fn plain(text: &str, pos: Pos) -> Result<Data, SyntaxError> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            Data::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Data::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => return Err(unsupported(pos, "NaN")),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Err(unsupported(pos, "+Inf"));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Err(unsupported(pos, "-Inf")),
        _ => match number(text) {
            Some(number) => Data::Number(number),
            None => Data::String(text.to_owned()),
        },
    })
}

fn unsupported(pos: Pos, value: &str) -> SyntaxError {
    SyntaxError {
        text: format!("error converting YAML to JSON: json: unsupported value: {value}"),
        pos,
    }
}

fn number(text: &str) -> Option<String> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let text = text.replace('_', "");
    integer(&text).or_else(|| {
        let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let shaped = digits(whole)
            && digits(fraction)
            && digits(exponent)
            && !exponent.is_empty()
            && !(whole.is_empty() && fraction.is_empty());
        let float = text
            .parse::<f64>()
            .ok()
            .filter(|f| shaped && f.is_finite())?;
        Some(go_float(float))
    })
}

/// Go's base-by-prefix integers.
fn integer(text: &str) -> Option<String> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    Some(format!(
        "{}{magnitude}",
        if magnitude == 0 { "" } else { sign }
    ))
}

fn pos(span: &Span) -> Pos {
    Pos {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn error(pos: Pos, message: &str) -> SyntaxError {
    // go-yaml leaves the first line out.
    let line = if pos.line > 1 {
        format!("line {}: ", pos.line)
    } else {
        String::new()
    };
    SyntaxError {
        text: format!("error converting YAML to JSON: yaml: {line}{message}"),
        pos,
    }
}

fn scan_error(e: &ScanError, text: &str) -> SyntaxError {
    let pos = Pos {
        line: e.marker().line(),
        column: e.marker().col() + 1,
    };
    if e.info().ends_with("unknown anchor") {
        let name: String = text
            .lines()
            .nth(pos.line - 1)
            .into_iter()
            .flat_map(|line| line.chars().skip(pos.column))
            .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
            .collect();
        let message = format!("yaml: unknown anchor '{name}' referenced");
        return SyntaxError {
            text: format!("error converting YAML to JSON: {message}"),
            pos,
        };
    }
    error(pos, e.info())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Data {
        parse(text).unwrap().data
    }

    #[test]
    fn scalars_of_yaml_1_1() {
        for text in ["y", "Yes", "on", "TRUE"] {
            assert_eq!(data(text), Data::Bool(true), "{text}");
        }
        for text in ["n", "No", "off", "False"] {
            assert_eq!(data(text), Data::Bool(false), "{text}");
        }
        for text in ["", "~", "null", "# nothing"] {
            assert_eq!(data(text), Data::Null, "{text}");
        }
        for (text, literal) in [
            ("017", "15"),
            ("018", "18"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("0o17", "15"),
            ("1_000", "1000"),
            ("+5", "5"),
            ("-0x10", "-16"),
            (".5", "0.5"),
            ("1e3", "1000"),
            ("7000.0", "7000"),
            ("99999999999999999999", "100000000000000000000"),
        ] {
            assert_eq!(data(text), Data::Number(literal.to_owned()), "{text}");
        }
        for text in [
            "1.2.3",
            "1,000",
            "1a",
            "tRUE",
            "12:30:45",
            "2020-01-01",
            "\"7000\"",
            "'yes'",
            "-",
            "+",
            ".",
            "1e",
            "infinity",
            "nan",
            "!!str 5",
        ] {
            assert!(
                matches!(data(text), Data::String(_) | Data::Array(_)),
                "{text}"
            );
        }
    }

    #[test]
    fn merges_lose_against_what_follows_them() {
        for text in [
            "x: &x {a: 1, b: 2}\nz: {<<: *x, b: 3}",
            "x: &x {a: 1, b: 3}\nz: {b: 2, <<: *x}",
            "x: &x {a: 1, b: 2}\nz: {<<: [*x, {a: 9, b: 9}], b: 3}",
        ] {
            let value = parse(text).unwrap();
            let z = value.member("z").unwrap();
            assert_eq!(
                z.member("a").unwrap().data,
                Data::Number("1".to_owned()),
                "{text}"
            );
            assert_eq!(
                z.member("b").unwrap().data,
                Data::Number("3".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn keys_become_text_and_only_the_first_document_counts() {
        let value = parse("1: a\nyes: b\n---\nc: d").unwrap();
        assert!(value.member("1").is_some());
        assert!(value.member("true").is_some());
        assert!(value.member("c").is_none());
    }

    #[test]
    fn positions() {
        let value = parse("a:\n  - b: 1\n    c: x").unwrap();
        let Data::Array(elements) = &value.member("a").unwrap().data else {
            panic!("a list");
        };
        assert_eq!(
            elements[0].member("c").unwrap().pos,
            Pos { line: 3, column: 8 }
        );
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..20 {
            let alias = format!("*a{}, ", i - 1).repeat(10);
            let list = alias.trim_end_matches(", ");
            text = format!("{text}a{i}: &a{i} [{list}]\n");
        }
        assert!(
            parse(&text)
                .unwrap_err()
                .text
                .contains("excessive aliasing")
        );
        assert!(parse("a: &a [*a]").is_err());
    }

    #[test]
    fn errors_in_upstream_s_frame() {
        for (text, error) in [
            (
                "a: b: c",
                "error converting YAML to JSON: yaml: mapping values are not allowed in this context",
            ),
            (
                "bindPort: 7000\n  foo: 1",
                "error converting YAML to JSON: yaml: line 2: mapping values are not allowed in this context",
            ),
            (
                "a: !!int x",
                "error converting YAML to JSON: yaml: cannot decode !!str `x` as a !!int",
            ),
            (
                "~: 2",
                "error converting YAML to JSON: Unsupported map key of type: %!s(<nil>), key: <nil>, value: 2",
            ),
            (
                "a: .inf",
                "error converting YAML to JSON: json: unsupported value: +Inf",
            ),
        ] {
            assert_eq!(
                parse(text).map_err(|e| e.text),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }
}
