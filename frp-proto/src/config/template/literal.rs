//! Literals of the template language, and places in its text.

use super::value::Value;

/// The line of an offset, counted from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// Go's number constants.
pub(super) fn number(text: &str) -> Option<Value> {
    let clean = text.replace('_', "");
    let (negative, digits) = match clean.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, clean.strip_prefix('+').unwrap_or(&clean)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1
            && lower.bytes().all(|b| b.is_ascii_digit())
            && lower.starts_with('0') =>
        {
            (8, &lower[1..])
        }
        _ => (10, lower.as_str()),
    };
    let signed = format!("{}{body}", if negative { "-" } else { "" });
    if !body.starts_with(['+', '-'])
        && let Ok(n) = i64::from_str_radix(&signed, radix)
    {
        return Some(Value::Int(n));
    }
    // Digits alone are an integer or nothing.
    let float = lower.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !lower.bytes().all(|b| b.is_ascii_digit());
    clean.parse().ok().filter(|_| float).map(Value::Float)
}

/// A Go string or character literal.
pub(super) fn unquote(literal: &str) -> Option<String> {
    let inner = &literal[1..literal.len() - 1];
    if literal.starts_with('`') {
        return Some(inner.replace('\r', ""));
    }
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let hex = |chars: &mut std::str::Chars<'_>, len| {
            let digits: String = chars.take(len).collect();
            u32::from_str_radix(&digits, 16)
                .ok()
                .filter(|_| digits.len() == len)
        };
        let code = match chars.next() {
            Some('a') => Some(7),
            Some('b') => Some(8),
            Some('f') => Some(12),
            Some('n') => Some(10),
            Some('r') => Some(13),
            Some('t') => Some(9),
            Some('v') => Some(11),
            Some(c @ ('\\' | '\'' | '"')) => Some(u32::from(c)),
            // Text is UTF-8 here, so a byte escape must be one of ASCII.
            Some('x') => hex(&mut chars, 2).filter(|c| *c < 0x80),
            Some('u') => hex(&mut chars, 4),
            Some('U') => hex(&mut chars, 8),
            _ => None,
        };
        out.push(code.and_then(char::from_u32)?);
    }
    Some(out)
}
