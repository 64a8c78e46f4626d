//! The tree every format is read into: what Go's `encoding/json` would see, plus where it stood in the file.

/// A place in the rendered text, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pos {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) pos: Pos,
    pub(crate) data: Data,
}

/// JSON's kinds. A number keeps its literal, because which literals fit an integer is decided by the field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(Vec<Member>),
}

/// A key and its value. Objects keep the order in which the decoder must walk them, duplicates included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) pos: Pos,
    pub(crate) value: Value,
}

impl Value {
    pub(crate) fn null() -> Self {
        Self {
            pos: Pos { line: 1, column: 1 },
            data: Data::Null,
        }
    }

    /// Go's name of the kind in type errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "bool",
            Data::Number(_) => "number",
            Data::String(_) => "string",
            Data::Array(_) => "array",
            Data::Object(_) => "object",
        }
    }

    /// The member Go would decode into a field of this name: the last one whose key is equal but for case.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        match &self.data {
            Data::Object(members) => members
                .iter()
                .rev()
                .find(|m| m.key.eq_ignore_ascii_case(name))
                .map(|m| &m.value),
            _ => None,
        }
    }
}

/// Beyond this, columns count bytes: a file may be one long line, and every value on it asks.
const MAX_COUNTED: usize = 1000;

/// Finds line and column of byte offsets of one text.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(i, _)| i + 1))
            .collect();
        Self { text, starts }
    }

    pub(crate) fn pos(&self, offset: usize) -> Pos {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts[line - 1];
        let column = match self.text.get(start..offset.min(self.text.len())) {
            Some(before) if before.len() < MAX_COUNTED => before.chars().count(),
            _ => offset - start,
        } + 1;
        Pos { line, column }
    }
}

/// A float as Go's `encoding/json` writes it: integral values below 1e21 look like integers, which is what lets `7000.0` of
/// TOML and YAML fit an integer key.
pub(crate) fn go_float(f: f64) -> String {
    let magnitude = f.abs();
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        return f.to_string();
    }
    let text = format!("{f:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !exponent.starts_with('-') => {
            format!("{mantissa}e+{exponent}")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let lines = Lines::new("a\nää b\n");
        assert_eq!(lines.pos(0), Pos { line: 1, column: 1 });
        assert_eq!(lines.pos(7), Pos { line: 2, column: 4 });
        assert_eq!(lines.pos(8), Pos { line: 2, column: 5 });
        assert_eq!(lines.pos(9), Pos { line: 3, column: 1 });
    }

    #[test]
    fn floats_as_go_writes_them() {
        for (f, text) in [
            (7000.0, "7000"),
            (7000.5, "7000.5"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1.5e-7, "1.5e-7"),
            (-0.0, "-0"),
        ] {
            assert_eq!(go_float(f), text);
        }
    }
}
