//! What templates compute with.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A key that a map does not have; prints as `<no value>`.
    Missing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<[Value]>),
    Map(Rc<BTreeMap<String, String>>),
    /// A pair of numbers: `First`, `Second`.
    Pair(i64, i64),
    /// What `.` is at first: `Envs`.
    Root(Rc<BTreeMap<String, String>>),
}

impl Value {
    /// Go's name of the type in errors.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(list) if matches!(list.first(), Some(Self::Pair(..))) => {
                "[]config.NumberPair"
            }
            Self::List(_) => "[]int64",
            Self::Map(_) => "map[string]string",
            Self::Pair(..) => "config.NumberPair",
            Self::Root(_) => "*config.Values",
        }
    }

    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Pair(..) | Self::Root(_) => true,
        }
    }

    /// `.Name`, or the error.
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        match (self, name) {
            (Self::Missing, _) => Ok(Self::Missing),
            (Self::Root(env), "Envs") => Ok(Self::Map(Rc::clone(env))),
            (Self::Map(map), _) => Ok(map
                .get(name)
                .map_or(Self::Missing, |v| Self::Str(v.as_str().into()))),
            (Self::Pair(first, _), "First") => Ok(Self::Int(*first)),
            (Self::Pair(_, second), "Second") => Ok(Self::Int(*second)),
            _ => Err(format!(
                "can't evaluate field {name} in type {}",
                self.type_name()
            )),
        }
    }

    /// As an argument of `print` and its kin, where a missing key is Go's nil.
    pub(super) fn argument(&self) -> String {
        match self {
            Self::Missing => "<nil>".to_owned(),
            _ => self.to_string(),
        }
    }
}

/// Go's `%v`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("<no value>"),
            Self::Bool(b) => b.fmt(f),
            Self::Int(n) => n.fmt(f),
            Self::Float(x) => f.write_str(&float(*x)),
            Self::Str(s) => f.write_str(s),
            Self::List(list) => {
                f.write_str("[")?;
                for (i, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => write_map(f, map),
            Self::Pair(first, second) => write!(f, "{{{first} {second}}}"),
            Self::Root(map) => {
                f.write_str("{")?;
                write_map(f, map)?;
                f.write_str("}")
            }
        }
    }
}

fn write_map(f: &mut fmt::Formatter<'_>, map: &BTreeMap<String, String>) -> fmt::Result {
    f.write_str("map[")?;
    for (i, (key, value)) in map.iter().enumerate() {
        write!(f, "{}{key}:{value}", if i == 0 { "" } else { " " })?;
    }
    f.write_str("]")
}

/// Go's `%v` of a float: shortest digits, an exponent of at least two digits below 1e-4 and from 1e21.
fn float(x: f64) -> String {
    let magnitude = x.abs();
    if magnitude == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return x.to_string();
    }
    if !x.is_finite() {
        let sign = if x > 0.0 { "+" } else { "-" };
        return if x.is_nan() {
            "NaN".to_owned()
        } else {
            format!("{sign}Inf")
        };
    }
    let text = format!("{x:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}
