//! Go's built-in functions, and the two upstream adds.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::rc::Rc;

use super::MAX_OUTPUT;
use super::printf::sprintf;
use super::tree::OperandKind;
use super::value::Value;
use crate::config::units::number_range;

/// Names with the least and the greatest number of arguments.
const FUNCTIONS: [(&str, usize, usize); 21] = [
    ("and", 1, usize::MAX),
    ("call", 1, usize::MAX),
    ("eq", 1, usize::MAX),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("html", 0, usize::MAX),
    ("index", 1, usize::MAX),
    ("js", 0, usize::MAX),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lt", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, usize::MAX),
    ("parseNumberRange", 1, 1),
    ("parseNumberRangePair", 2, 2),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("slice", 1, 4),
    ("urlquery", 0, usize::MAX),
];

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(n, ..)| *n == name)
}

/// Whether it is one of Go's own.
pub(super) fn is_builtin(name: &str) -> bool {
    exists(name) && !name.starts_with("parseNumberRange")
}

/// Go's text if `name` does not take `given` arguments.
pub(super) fn wrong_count(name: &str, given: usize) -> Option<String> {
    let (_, least, most) = FUNCTIONS.iter().find(|(n, ..)| *n == name)?;
    let wanted = if least == most {
        least.to_string()
    } else {
        format!("at least {least}")
    };
    (given < *least || given > *most)
        .then(|| format!("wrong number of args for {name}: want {wanted} got {given}"))
}

/// Go's text if an argument cannot be the string that a function needs.
pub(super) fn wrong_type(
    name: &str,
    index: usize,
    value: &Value,
    operand: &OperandKind,
    text: &str,
) -> Option<String> {
    let needs_string = name.starts_with("parseNumberRange") || name == "printf" && index == 0;
    if !needs_string {
        return None;
    }
    match (value, operand) {
        (Value::Str(_), _) => None,
        (_, OperandKind::Constant(_)) => Some(format!("expected string; found {text}")),
        (Value::Missing, _) => Some("invalid value; expected string".to_owned()),
        _ => Some(format!(
            "wrong type for value; expected string; got {}",
            value.type_name()
        )),
    }
}

pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    Ok(match (name, args) {
        // With more arguments these two are evaluated by the caller, one by one.
        ("and" | "or", [value, ..]) => value.clone(),
        ("not", [value]) => Value::Bool(!value.truth()),
        ("eq", [first, others @ ..]) => {
            if others.is_empty() {
                return Err("missing argument for comparison".to_owned());
            }
            let mut equal = false;
            for other in others {
                equal |= self::equal(first, other)?;
            }
            Value::Bool(equal)
        }
        ("ne", [a, b]) => Value::Bool(!equal(a, b)?),
        ("lt", [a, b]) => Value::Bool(order(a, b)?.is_lt()),
        ("le", [a, b]) => Value::Bool(order(a, b)?.is_le()),
        ("gt", [a, b]) => Value::Bool(order(a, b)?.is_gt()),
        ("ge", [a, b]) => Value::Bool(order(a, b)?.is_ge()),
        ("len", [value]) => Value::Int(len(value)?),
        ("index", [value, keys @ ..]) => keys
            .iter()
            .try_fold(value.clone(), |v, key| index(&v, key))?,
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("print", _) => string(sprint(args))?,
        ("println", _) => {
            let parts: Vec<_> = args.iter().map(Value::argument).collect();
            string(parts.join(" ") + "\n")?
        }
        ("printf", [Value::Str(format), args @ ..]) => string(sprintf(format, args)?)?,
        ("html", _) => string(html(&escapable(args)))?,
        ("js", _) => string(js(&escapable(args)))?,
        ("urlquery", _) => string(urlquery(&escapable(args)))?,
        ("parseNumberRange", [Value::Str(range)]) => {
            Value::List(number_range(range)?.into_iter().map(Value::Int).collect())
        }
        ("parseNumberRangePair", [Value::Str(first), Value::Str(second)]) => {
            let (first, second) = (number_range(first)?, number_range(second)?);
            if first.len() != second.len() {
                return Err("first and second range numbers are not in pairs".to_owned());
            }
            Value::List(
                first
                    .into_iter()
                    .zip(second)
                    .map(|(a, b)| Value::Pair(a, b))
                    .collect(),
            )
        }
        ("call", [value, ..]) => {
            return Err(format!(
                "non-function {value} of type {}",
                value.type_name()
            ));
        }
        _ => return Err("wrong type of argument".to_owned()),
    })
}

/// A result, unless it is larger than a whole file may be.
fn string(text: String) -> Result<Value, String> {
    if text.len() > MAX_OUTPUT {
        return Err("the result is too large".to_owned());
    }
    Ok(Value::Str(text.into()))
}

/// Go's `Sprint`: a space between two arguments of which none is a string.
fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        let apart = i > 0
            && ![&args[i - 1], arg]
                .iter()
                .any(|a| matches!(a, Value::Str(_)));
        let _ = write!(out, "{}{}", if apart { " " } else { "" }, arg.argument());
        // The caller refuses it; what follows would only cost memory.
        if out.len() > MAX_OUTPUT {
            break;
        }
    }
    out
}

/// What the escaping functions see: unlike `print`, they leave a lone missing key as it is.
fn escapable(args: &[Value]) -> String {
    match args {
        [missing @ Value::Missing] => missing.to_string(),
        _ => sprint(args),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Missing, _) | (_, Value::Missing) => {
            Ok(matches!((a, b), (Value::Missing, Value::Missing)))
        }
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Pair(a, b), Value::Pair(c, d)) => Ok((a, b) == (c, d)),
        (Value::List(_) | Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ => order(a, b).map(Ordering::is_eq),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Greater)),
        (Value::Str(a), Value::Str(b)) => Ok(a.cmp(b)),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".to_owned()),
        _ => Err(format!(
            "incompatible types for comparison: {} and {}",
            a.type_name(),
            b.type_name()
        )),
    }
}

fn len(value: &Value) -> Result<i64, String> {
    let len = match value {
        Value::Str(s) => s.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Missing => return Err("len of nil pointer".to_owned()),
        _ => return Err(format!("len of type {}", value.type_name())),
    };
    i64::try_from(len).map_err(|e| e.to_string())
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Map(map), Value::Str(key)) => Ok(Value::Str(
            map.get(&**key).map_or("", String::as_str).into(),
        )),
        (Value::List(list), Value::Int(i)) => usize::try_from(*i)
            .ok()
            .and_then(|i| list.get(i).cloned())
            .ok_or_else(|| format!("index out of range: {i}")),
        (Value::Str(s), Value::Int(i)) => usize::try_from(*i)
            .ok()
            .and_then(|i| s.as_bytes().get(i))
            .map(|b| Value::Int(i64::from(*b)))
            .ok_or_else(|| format!("index out of range: {i}")),
        (Value::List(_) | Value::Str(_), _) => Err(format!(
            "cannot index slice/array with type {}",
            key.type_name()
        )),
        (Value::Map(_), _) => Err(format!(
            "value has type {}; should be string",
            key.type_name()
        )),
        (Value::Missing, _) => Err("index of untyped nil".to_owned()),
        _ => Err(format!("can't index item of type {}", value.type_name())),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match value {
        Value::Str(s) if bounds.len() < 3 => s.len(),
        Value::Str(_) => return Err("cannot 3-index slice a string".to_owned()),
        Value::List(list) => list.len(),
        _ => return Err(format!("can't slice item of type {}", value.type_name())),
    };
    let bound = |i: usize, default: usize| match bounds.get(i) {
        None => Ok(default),
        Some(Value::Int(n)) => usize::try_from(*n)
            .ok()
            .filter(|n| *n <= length)
            .ok_or_else(|| format!("index out of range: {n}")),
        Some(other) => Err(format!(
            "cannot index slice/array with type {}",
            other.type_name()
        )),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::Str(s) => s
            .get(from..to)
            .map(|s| Value::Str(s.into()))
            .ok_or_else(|| "slice of a string inside a character".to_owned()),
        Value::List(list) => Ok(Value::List(Rc::from(&list[from..to]))),
        _ => Ok(value.clone()),
    }
}

fn html(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
        out
    })
}

fn js(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

fn urlquery(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b if b.is_ascii_alphanumeric() => out.push(char::from(b)),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
        out
    })
}
