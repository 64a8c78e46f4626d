//! JSON with positions and with the error texts of Go's `encoding/json`.

use super::{MAX_DEPTH, SyntaxError};
use crate::config::value::{Data, Lines, Member, Value};

pub(in crate::config) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let mut parser = Parser {
        bytes: text.as_bytes(),
        text,
        at: 0,
        lines: Lines::new(text),
        depth: 0,
    };
    let value = parser.value()?;
    match parser.next_byte() {
        None => Ok(value),
        Some(_) => Err(parser.unexpected("after top-level value")),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    lines: Lines<'a>,
    depth: usize,
}

impl Parser<'_> {
    /// The next byte that is no white space, not consumed.
    fn next_byte(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn error(&self, text: impl Into<String>) -> SyntaxError {
        SyntaxError {
            text: text.into(),
            pos: self.lines.pos(self.at),
        }
    }

    /// The error of the byte at the cursor.
    fn unexpected(&self, context: &str) -> SyntaxError {
        match self.bytes.get(self.at) {
            None => self.error("unexpected EOF"),
            Some(byte) => self.error(format!("invalid character {} {context}", quote(*byte))),
        }
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        let first = self.next_byte();
        let pos = self.lines.pos(self.at);
        let data = match first {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'"') => Data::String(self.string()?),
            Some(b't') => self.literal("true", Data::Bool(true))?,
            Some(b'f') => self.literal("false", Data::Bool(false))?,
            Some(b'n') => self.literal("null", Data::Null)?,
            Some(b'-' | b'0'..=b'9') => Data::Number(self.number()?),
            _ => return Err(self.unexpected("looking for beginning of value")),
        };
        Ok(Value { pos, data })
    }

    fn nested(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Data, SyntaxError>,
    ) -> Result<Data, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error("exceeded max depth"));
        }
        self.depth += 1;
        self.at += 1;
        let data = parse(self)?;
        self.depth -= 1;
        Ok(data)
    }

    fn object(&mut self) -> Result<Data, SyntaxError> {
        let mut members = Vec::new();
        if self.next_byte() == Some(b'}') {
            self.at += 1;
            return Ok(Data::Object(members));
        }
        loop {
            if self.next_byte() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let pos = self.lines.pos(self.at);
            let key = self.string()?;
            if self.next_byte() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            let value = self.value()?;
            members.push(Member { key, pos, value });
            match self.next_byte() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
        self.at += 1;
        Ok(Data::Object(members))
    }

    fn array(&mut self) -> Result<Data, SyntaxError> {
        let mut elements = Vec::new();
        if self.next_byte() == Some(b']') {
            self.at += 1;
            return Ok(Data::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            match self.next_byte() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("after array element")),
            }
        }
        self.at += 1;
        Ok(Data::Array(elements))
    }

    fn literal(&mut self, word: &str, data: Data) -> Result<Data, SyntaxError> {
        for expected in word.bytes() {
            if self.bytes.get(self.at) != Some(&expected) {
                let context = format!("in literal {word} (expecting {})", quote(expected));
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(data)
    }

    fn number(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(self.text[start..self.at].to_owned())
    }

    /// At least one digit.
    fn digits(&mut self, context: &str) -> Result<(), SyntaxError> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.unexpected(context));
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.bytes[self.at..];
            let plain = rest
                .iter()
                .position(|b| matches!(b, b'"' | b'\\') || *b < 0x20)
                .unwrap_or(rest.len());
            out.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
        self.at += 1;
        Ok(out)
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let c = match self.bytes.get(self.at) {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(c)
    }

    /// After `\u`: a lone surrogate becomes U+FFFD, as in Go.
    fn unicode_escape(&mut self) -> Result<char, SyntaxError> {
        self.at += 1;
        let high = self.hex4()?;
        if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self
                .bytes
                .get(self.at)
                .and_then(|b| char::from(*b).to_digit(16))
                .ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }
}

/// A byte as Go's error texts quote it.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        0x07 => "'\\a'".to_owned(),
        0x08 => "'\\b'".to_owned(),
        0x0b => "'\\v'".to_owned(),
        0x0c => "'\\f'".to_owned(),
        b'\t' | b'\n' | b'\r' | b'\\' => format!("'{}'", char::from(byte).escape_default()),
        0x00..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Pos;

    #[test]
    fn errors_are_those_of_go() {
        for (text, error) in [
            (
                "{\"a\":7000,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" \"x\"}", "invalid character '\"' after object key"),
            ("{\"a\":", "unexpected EOF"),
            ("{\"a\":7000", "unexpected EOF"),
            (
                "{\"a\":1 \"b\":2}",
                "invalid character '\"' after object key:value pair",
            ),
            ("{\"a\"=1}", "invalid character '=' after object key"),
            (
                "{\"a\":}",
                "invalid character '}' looking for beginning of value",
            ),
            (
                "{\"a\":\"x\ny\"}",
                "invalid character '\\n' in string literal",
            ),
            (
                "{\"a\":\"\\x\"}",
                "invalid character 'x' in string escape code",
            ),
            (
                "{\"a\":tru}",
                "invalid character '}' in literal true (expecting 'e')",
            ),
            ("{\"a\":[1 2]}", "invalid character '2' after array element"),
            ("{\"a\":-x}", "invalid character 'x' in numeric literal"),
            (
                "{\"a\":1.}",
                "invalid character '}' after decimal point in numeric literal",
            ),
            (
                "{\"a\":\"\\u12g4\"}",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("{} xyz", "invalid character 'x' after top-level value"),
            (
                "{bindPort: 7000}",
                "invalid character 'b' looking for beginning of object key string",
            ),
        ] {
            assert_eq!(
                parse(text).map_err(|e| e.text),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn positions_and_escapes() {
        let value =
            parse("{\n \"a\": \"\\u00e4\\ud83d\\ude00\\ud800x\",\n \"b\": -1.5e3}").unwrap();
        let a = value.member("A").unwrap();
        assert_eq!(a.data, Data::String("ä😀\u{fffd}x".to_owned()));
        assert_eq!(a.pos, Pos { line: 2, column: 7 });
        let b = value.member("b").unwrap();
        assert_eq!(b.data, Data::Number("-1.5e3".to_owned()));
        assert_eq!(b.pos, Pos { line: 3, column: 7 });
    }
}
