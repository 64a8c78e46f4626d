//! Go's `printf` for the values templates have.

use std::fmt::Write as _;

use super::MAX_OUTPUT;
use super::value::Value;

/// Columns a value may be padded to.
const MAX_WIDTH: usize = 10_000;

/// A directive without its letter.
struct Verb {
    flags: String,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn sprintf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format;
    let mut next = 0;
    while let Some((plain, directive)) = rest.split_once('%') {
        out.push_str(plain);
        if out.len() > MAX_OUTPUT {
            break;
        }
        let verb;
        (verb, rest) = Verb::parse(directive)?;
        let Some(letter) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[letter.len_utf8()..];
        if letter == '%' {
            out.push('%');
            continue;
        }
        match args.get(next) {
            Some(arg) => out.push_str(&verb.format(letter, arg)),
            None => out.extend(["%!", letter.encode_utf8(&mut [0; 4]), "(MISSING)"]),
        }
        next += 1;
    }
    out.push_str(rest);
    if next < args.len() {
        let extra: Vec<_> = args[next..]
            .iter()
            .map(|a| format!("{}={}", a.type_name(), a.argument()))
            .collect();
        out.extend(["%!(EXTRA ", &extra.join(", "), ")"]);
    }
    Ok(out)
}

impl Verb {
    /// Flags, width and precision; also what follows them.
    fn parse(text: &str) -> Result<(Self, &str), String> {
        let (flags, rest) = split_while(text, |c| "-+ #0".contains(c));
        let (width, rest) = split_while(rest, |c| c.is_ascii_digit());
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (digits, rest) = split_while(rest, |c| c.is_ascii_digit());
                (Some(columns(digits)?), rest)
            }
            None => (None, rest),
        };
        let verb = Self {
            flags: flags.to_owned(),
            width: columns(width)?,
            precision,
        };
        Ok((verb, rest))
    }

    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    fn format(&self, letter: char, arg: &Value) -> String {
        let text = match (letter, arg) {
            ('d' | 'v', Value::Int(n)) => {
                return self.integer(*n, &n.unsigned_abs().to_string(), "");
            }
            ('x', Value::Int(n)) => {
                return self.integer(*n, &format!("{:x}", n.unsigned_abs()), "0x");
            }
            ('X', Value::Int(n)) => {
                return self.integer(*n, &format!("{:X}", n.unsigned_abs()), "0X");
            }
            ('o', Value::Int(n)) => {
                return self.integer(*n, &format!("{:o}", n.unsigned_abs()), "0");
            }
            ('b', Value::Int(n)) => {
                return self.integer(*n, &format!("{:b}", n.unsigned_abs()), "0b");
            }
            ('c', Value::Int(n)) => u32::try_from(*n)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER)
                .to_string(),
            ('f' | 'F', Value::Float(x)) => {
                let digits = format!("{:.*}", self.precision.unwrap_or(6), x.abs());
                return self.number(*x < 0.0, &digits);
            }
            ('v', _)
            | ('g', Value::Float(_))
            | ('t', Value::Bool(_))
            | ('s', Value::Map(_))
            | ('d', Value::List(_) | Value::Pair(..)) => arg.argument(),
            ('s', Value::Str(s)) => match self.precision {
                Some(n) => s.chars().take(n).collect(),
                None => s.to_string(),
            },
            ('q', Value::Str(s)) => format!("{s:?}"),
            ('x', Value::Str(s)) => hex(s),
            (_, Value::Missing) => format!("%!{letter}(<nil>)"),
            _ => format!("%!{letter}({}={})", arg.type_name(), arg.argument()),
        };
        self.pad(&text)
    }

    fn integer(&self, n: i64, digits: &str, prefix: &str) -> String {
        let prefix = if self.has('#') { prefix } else { "" };
        let digits = format!(
            "{prefix}{digits:0>width$}",
            width = self.precision.unwrap_or(0)
        );
        self.number(n < 0, &digits)
    }

    fn number(&self, negative: bool, digits: &str) -> String {
        let sign = match (negative, self.has('+'), self.has(' ')) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        if self.has('0') && !self.has('-') {
            let width = self.width.saturating_sub(sign.len());
            return format!("{sign}{digits:0>width$}");
        }
        self.pad(&format!("{sign}{digits}"))
    }

    fn pad(&self, text: &str) -> String {
        let width = self.width;
        if self.has('-') {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        }
    }
}

fn split_while(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// A width or precision; none is zero.
fn columns(digits: &str) -> Result<usize, String> {
    if digits.is_empty() {
        return Ok(0);
    }
    digits
        .parse()
        .ok()
        .filter(|n| *n <= MAX_WIDTH)
        .ok_or_else(|| format!("a width above {MAX_WIDTH}"))
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
