//! Go's `printf` for the values templates have.

use super::MAX_OUTPUT;
use super::value::Value;

/// Columns a value may be padded to.
const MAX_WIDTH: usize = 10_000;

#[derive(Default)]
struct Verb {
    left: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn sprintf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if out.len() > MAX_OUTPUT {
            break;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => verb.left = true,
                '+' => verb.plus = true,
                ' ' => verb.space = true,
                '#' => verb.sharp = true,
                _ => verb.zero = true,
            }
        }
        let mut number = || {
            let mut n = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = (n * 10 + digit as usize).min(MAX_WIDTH + 1);
                chars.next();
            }
            n
        };
        verb.width = number();
        if chars.next_if_eq(&'.').is_some() {
            let mut n = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = (n * 10 + digit as usize).min(MAX_WIDTH + 1);
                chars.next();
            }
            verb.precision = Some(n);
        }
        if verb.width.max(verb.precision.unwrap_or(0)) > MAX_WIDTH {
            return Err(format!("a width above {MAX_WIDTH}"));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => {
                match args.get(next) {
                    Some(arg) => out.push_str(&verb.format(letter, arg)),
                    None => out.push_str(&format!("%!{letter}(MISSING)")),
                }
                next += 1;
            }
        }
    }
    if next < args.len() {
        let extra: Vec<_> = args[next..]
            .iter()
            .map(|a| format!("{}={}", a.type_name(), a.argument()))
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

impl Verb {
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
            ('v' | 'g', Value::Float(_)) | ('t', Value::Bool(_)) | ('v', _) => arg.argument(),
            ('s', Value::Str(s)) => match self.precision {
                Some(n) => s.chars().take(n).collect(),
                None => s.to_string(),
            },
            ('s', Value::Map(_)) => arg.argument(),
            ('q', Value::Str(s)) => format!("{s:?}"),
            ('x', Value::Str(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
            ('d', Value::List(_) | Value::Pair(..)) => arg.argument(),
            (_, Value::Missing) => format!("%!{letter}(<nil>)"),
            _ => format!("%!{letter}({}={})", arg.type_name(), arg.argument()),
        };
        self.pad(&text)
    }

    fn integer(&self, n: i64, digits: &str, prefix: &str) -> String {
        let prefix = if self.sharp { prefix } else { "" };
        let digits = format!(
            "{prefix}{digits:0>width$}",
            width = self.precision.unwrap_or(0)
        );
        self.number(n < 0, &digits)
    }

    fn number(&self, negative: bool, digits: &str) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        if self.zero && !self.left {
            let width = self.width.saturating_sub(sign.len());
            return format!("{sign}{digits:0>width$}");
        }
        self.pad(&format!("{sign}{digits}"))
    }

    fn pad(&self, text: &str) -> String {
        let width = self.width;
        if self.left {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        }
    }
}
