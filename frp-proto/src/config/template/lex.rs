//! Text and the tokens of actions.

/// What a token is; the text of it is a slice of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Outside actions, trimmed by the markers beside it.
    Text,
    Open,
    Close,
    Word,
    /// `.Name`
    Field,
    Dot,
    /// `$` or `$name`
    Variable,
    String,
    Number,
    Char,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    LeftParen,
    RightParen,
    /// Any other printable ASCII character, which fits nowhere.
    Other,
    Space,
    Eof,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

/// A message and where it arose.
#[derive(Debug)]
pub(super) struct LexError {
    pub(super) message: String,
    pub(super) offset: usize,
}

pub(super) struct Lexer<'a> {
    input: &'a str,
    at: usize,
    inside: bool,
    /// The action just closed ended in ` -}}`.
    trim: bool,
    parens: usize,
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a str) -> Self {
        Self {
            input,
            at: 0,
            inside: false,
            trim: false,
            parens: 0,
        }
    }

    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn token(&mut self, kind: Kind, len: usize) -> Token<'a> {
        let offset = self.at;
        self.at += len;
        Token {
            kind,
            text: &self.input[offset..self.at],
            offset,
        }
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError {
            message: message.into(),
            offset: self.at,
        })
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, LexError> {
        if self.inside {
            self.action()
        } else {
            self.outside()
        }
    }

    fn outside(&mut self) -> Result<Token<'a>, LexError> {
        if self.trim {
            self.at += self.rest().len() - self.rest().trim_start_matches(SPACE).len();
            self.trim = false;
        }
        let rest = self.rest();
        let Some(open) = rest.find("{{") else {
            let kind = if rest.is_empty() {
                Kind::Eof
            } else {
                Kind::Text
            };
            return Ok(self.token(kind, rest.len()));
        };
        let after = &rest[open + 2..];
        let trims = after.starts_with('-') && after[1..].starts_with(SPACE);
        if open > 0 {
            let mut token = self.token(Kind::Text, open);
            if trims {
                token.text = token.text.trim_end_matches(SPACE);
            }
            if !token.text.is_empty() {
                return Ok(token);
            }
        }
        let marker = if trims { 2 } else { 0 };
        if self.rest()[2 + marker..].starts_with("/*") {
            self.at += 2 + marker;
            return self.comment();
        }
        self.inside = true;
        self.parens = 0;
        Ok(self.token(Kind::Open, 2 + marker))
    }

    /// At `/*`.
    fn comment(&mut self) -> Result<Token<'a>, LexError> {
        let Some(end) = self.rest().find("*/") else {
            return self.error("unclosed comment");
        };
        self.at += end + 2;
        match self.close() {
            Some((len, trim)) => {
                self.at += len;
                self.trim = trim;
                // An empty text keeps the caller's loop simple, and this function free of recursion.
                Ok(self.token(Kind::Text, 0))
            }
            None => self.error("comment ends before closing delimiter"),
        }
    }

    /// The closing delimiter at the cursor: its length, and whether it trims.
    fn close(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some((2, false));
        }
        let trimmed = rest.strip_prefix(SPACE)?.strip_prefix("-}}")?;
        Some((rest.len() - trimmed.len(), true))
    }

    fn action(&mut self) -> Result<Token<'a>, LexError> {
        if let Some((len, trim)) = self.close() {
            if self.parens > 0 {
                return self.error("unclosed left paren");
            }
            self.inside = false;
            self.trim = trim;
            return Ok(self.token(Kind::Close, len));
        }
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return self.error("unclosed action");
        };
        let second = rest[first.len_utf8()..].chars().next();
        Ok(match first {
            ' ' | '\t' | '\r' | '\n' => {
                let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
                // A space before ` -}}` belongs to the delimiter.
                let own = if rest[spaces..].starts_with("-}}") {
                    spaces - 1
                } else {
                    spaces
                };
                self.token(Kind::Space, own.max(1))
            }
            '=' => self.token(Kind::Assign, 1),
            ':' if second == Some('=') => self.token(Kind::Declare, 2),
            ':' => return self.error("expected :="),
            '|' => self.token(Kind::Pipe, 1),
            ',' => self.token(Kind::Comma, 1),
            '(' => {
                self.parens += 1;
                self.token(Kind::LeftParen, 1)
            }
            ')' => {
                if self.parens == 0 {
                    return self.error("unexpected right paren");
                }
                self.parens -= 1;
                self.token(Kind::RightParen, 1)
            }
            '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
            '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
            '`' => match rest[1..].find('`') {
                Some(end) => self.token(Kind::String, end + 2),
                None => return self.error("unterminated raw quoted string"),
            },
            '$' => self.word(Kind::Variable)?,
            '.' if !second.is_some_and(|c| c.is_ascii_digit()) => {
                if second.is_some_and(alphanumeric) {
                    self.word(Kind::Field)?
                } else {
                    self.token(Kind::Dot, 1)
                }
            }
            '+' | '-' | '.' | '0'..='9' => self.number()?,
            c if alphanumeric(c) => self.word(Kind::Word)?,
            c if c.is_ascii_graphic() => self.token(Kind::Other, 1),
            c => {
                return self.error(format!(
                    "unrecognized character in action: U+{:04X} '{c}'",
                    u32::from(c)
                ));
            }
        })
    }

    fn quoted(
        &mut self,
        quote: char,
        kind: Kind,
        unterminated: &str,
    ) -> Result<Token<'a>, LexError> {
        let mut escaped = false;
        for (i, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => return Ok(self.token(kind, i + 1)),
                _ => {}
            }
        }
        self.error(unterminated)
    }

    /// A name after the first character, which must end where a name may.
    fn word(&mut self, kind: Kind) -> Result<Token<'a>, LexError> {
        let rest = self.rest();
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let len = rest[first..]
            .find(|c| !alphanumeric(c))
            .map_or(rest.len(), |i| first + i);
        match rest[len..].chars().next() {
            Some(c)
                if !(SPACE.contains(&c)
                    || ".,|:=()".contains(c)
                    || rest[len..].starts_with("}}")) =>
            {
                self.at += len;
                self.error(format!("bad character U+{:04X} '{c}'", u32::from(c)))
            }
            _ => Ok(self.token(kind, len)),
        }
    }

    fn number(&mut self) -> Result<Token<'a>, LexError> {
        let rest = self.rest();
        let mut previous = '\0';
        let hex = rest
            .trim_start_matches(['+', '-'])
            .to_ascii_lowercase()
            .starts_with("0x");
        let len = rest
            .find(|c: char| {
                let sign = matches!(c, '+' | '-')
                    && (previous == '\0' || !hex && matches!(previous, 'e' | 'E'));
                let part = c.is_ascii_alphanumeric() || c == '.' || c == '_' || sign;
                previous = c;
                !part
            })
            .unwrap_or(rest.len());
        let text = &rest[..len];
        if super::literal::number(text).is_none() {
            return self.error(format!("bad number syntax: {text:?}"));
        }
        Ok(self.token(Kind::Number, len))
    }
}

fn alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
