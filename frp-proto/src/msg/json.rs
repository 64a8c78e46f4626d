//! Go's JSON rules (wire.md §0.2): what upstream emits, and what it accepts.
//!
//! Encoding: compact, declaration order, zero values left out, HTML characters escaped. Decoding: keys match exactly or
//! without regard to case, the last duplicate wins, `null` changes nothing, unknown keys are skipped.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A payload that does not fit its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or more than one value.
    #[error("malformed JSON: {0}")]
    Syntax(String),
    /// A value of the wrong type or out of range.
    #[error("field {field:?}: cannot read {found} as {wanted}")]
    Type {
        /// Key as we spell it.
        field: &'static str,
        /// JSON type found.
        found: &'static str,
        /// What was expected.
        wanted: &'static str,
    },
}

/// A JSON value that keeps keys in document order, duplicates included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses one value; depth is bounded by the parser. Invalid UTF-8 is replaced, as Go does.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, JsonError> {
        serde_json::from_str(&String::from_utf8_lossy(payload))
            .map_err(|e| JsonError::Syntax(e.to_string()))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
                Ok(Json::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Json, E> {
                Ok(Json::Number(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Json, E> {
                Ok(Json::Number(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Json, E> {
                Ok(serde_json::Number::from_f64(v).map_or(Json::Null, Json::Number))
            }
            fn visit_str<E>(self, v: &str) -> Result<Json, E> {
                Ok(Json::String(v.to_owned()))
            }
            fn visit_string<E>(self, v: String) -> Result<Json, E> {
                Ok(Json::String(v))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = a.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Json, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = a.next_entry()? {
                    entries.push(entry);
                }
                Ok(Json::Object(entries))
            }
        }
        d.deserialize_any(Any)
    }
}

/// A Go struct: its fields in declaration order.
pub(crate) trait Record: Default {
    /// Appends the members to an object whose first member would be at `start`.
    fn write_members(&self, start: usize, out: &mut Vec<u8>);
    /// Appends `{…}`.
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_members(out.len(), out);
        out.push(b'}');
    }
    /// Sets the fields that `value` has.
    fn read(&mut self, value: &Json) -> Result<(), JsonError>;
}

/// The type of one field.
pub(crate) trait Field {
    /// Whether `omitempty` leaves it out.
    fn is_zero(&self) -> bool;
    fn write(&self, out: &mut Vec<u8>);
    /// Sets the field; `null` is handled by the caller.
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError>;
}

fn mismatch<T>(field: &'static str, value: &Json, wanted: &'static str) -> Result<T, JsonError> {
    Err(JsonError::Type {
        field,
        found: value.kind(),
        wanted,
    })
}

impl Field for String {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::String(s) = value else {
            return mismatch(field, value, "string");
        };
        self.clone_from(s);
        Ok(())
    }
}

impl Field for bool {
    fn is_zero(&self) -> bool {
        !self
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::Bool(b) = value else {
            return mismatch(field, value, "bool");
        };
        *self = *b;
        Ok(())
    }
}

impl Field for i64 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_string().as_bytes());
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::Number(n) = value else {
            return mismatch(field, value, "int64");
        };
        let Some(n) = n.as_i64() else {
            return mismatch(field, value, "int64");
        };
        *self = n;
        Ok(())
    }
}

impl Field for u16 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_string().as_bytes());
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::Number(n) = value else {
            return mismatch(field, value, "uint16");
        };
        let Some(n) = n.as_u64().and_then(|n| Self::try_from(n).ok()) else {
            return mismatch(field, value, "uint16");
        };
        *self = n;
        Ok(())
    }
}

impl Field for Bytes {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        let start = out.len();
        out.resize(start + self.len().div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(self, &mut out[start..])
            .expect("the slice has the exact encoded length");
        out.push(b'"');
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::String(s) = value else {
            return mismatch(field, value, "base64");
        };
        let decoded = if s.contains(['\r', '\n']) {
            STANDARD.decode(s.replace(['\r', '\n'], ""))
        } else {
            STANDARD.decode(s)
        };
        match decoded {
            Ok(bytes) => *self = bytes.into(),
            Err(_) => return mismatch(field, value, "base64"),
        }
        Ok(())
    }
}

impl Field for BTreeMap<String, String> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, (k, v)) in self.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_string(k, out);
            out.push(b':');
            write_string(v, out);
        }
        out.push(b'}');
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::Object(entries) = value else {
            return mismatch(field, value, "object of strings");
        };
        for (k, v) in entries {
            match v {
                Json::String(s) => self.insert(k.clone(), s.clone()),
                Json::Null => self.insert(k.clone(), String::new()),
                _ => return mismatch(field, v, "string"),
            };
        }
        Ok(())
    }
}

impl<T: Field + Default> Field for Vec<T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (i, item) in self.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            item.write(out);
        }
        out.push(b']');
    }
    fn read(&mut self, field: &'static str, value: &Json) -> Result<(), JsonError> {
        let Json::Array(items) = value else {
            return mismatch(field, value, "array");
        };
        self.clear();
        for item in items {
            let mut element = T::default();
            if *item != Json::Null {
                element.read(field, item)?;
            }
            self.push(element);
        }
        Ok(())
    }
}

/// Anything at all, kept as it is.
impl Field for serde_json::Value {
    fn is_zero(&self) -> bool {
        self.is_null()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_string().as_bytes());
    }
    fn read(&mut self, _field: &'static str, value: &Json) -> Result<(), JsonError> {
        *self = value.clone().into();
        Ok(())
    }
}

impl From<Json> for serde_json::Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => Self::Number(n),
            Json::String(s) => Self::String(s),
            Json::Array(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(entries) => entries
                .into_iter()
                .map(|(k, v)| (k, Self::from(v)))
                .collect(),
        }
    }
}

impl<T: Record> Field for Option<T> {
    fn is_zero(&self) -> bool {
        self.is_none()
    }
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(record) => record.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
    fn read(&mut self, _field: &'static str, value: &Json) -> Result<(), JsonError> {
        self.get_or_insert_default().read(value)
    }
}

/// The entries of an object, for a record.
pub(crate) fn entries<'a>(
    record: &'static str,
    value: &'a Json,
) -> Result<&'a [(String, Json)], JsonError> {
    match value {
        Json::Object(entries) => Ok(entries),
        Json::Null => Ok(&[]),
        _ => mismatch(record, value, "object"),
    }
}

/// Gives a struct its codec from one table: `field: "key"`, with `always` for keys without `omitempty`, `nullable` for such
/// whose zero value is `null`, and `record` for nested structs, which are never left out.
macro_rules! records {
    ($($name:ident { $($field:ident : $key:literal $($mode:ident)?),* $(,)? })*) => {$(
        impl $crate::msg::json::Record for $name {
            fn write_members(&self, start: usize, out: &mut Vec<u8>) {
                $($crate::msg::json::records!(@write self, out, start, $field, $key $(, $mode)?);)*
                let _ = (start, out);
            }
            fn read(&mut self, value: &$crate::msg::json::Json) -> Result<(), $crate::msg::json::JsonError> {
                const KEYS: &[&str] = &[$($key),*];
                for (key, value) in $crate::msg::json::entries(stringify!($name), value)? {
                    let known = KEYS.iter().find(|k| *k == key).or_else(|| KEYS.iter().find(|k| k.eq_ignore_ascii_case(key)));
                    if *value == $crate::msg::json::Json::Null {
                        continue;
                    }
                    match known.copied() {
                        $(Some($key) => $crate::msg::json::records!(@read self, value, $field, $key $(, $mode)?),)*
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    )*};
    (@write $self:ident, $out:ident, $start:ident, $field:ident, $key:literal) => {
        if !$crate::msg::json::Field::is_zero(&$self.$field) {
            $crate::msg::json::write_key($key, $start, $out);
            $crate::msg::json::Field::write(&$self.$field, $out);
        }
    };
    (@write $self:ident, $out:ident, $start:ident, $field:ident, $key:literal, always) => {
        $crate::msg::json::write_key($key, $start, $out);
        $crate::msg::json::Field::write(&$self.$field, $out);
    };
    (@write $self:ident, $out:ident, $start:ident, $field:ident, $key:literal, nullable) => {
        $crate::msg::json::write_key($key, $start, $out);
        if $crate::msg::json::Field::is_zero(&$self.$field) {
            $out.extend_from_slice(b"null");
        } else {
            $crate::msg::json::Field::write(&$self.$field, $out);
        }
    };
    (@write $self:ident, $out:ident, $start:ident, $field:ident, $key:literal, record) => {
        $crate::msg::json::write_key($key, $start, $out);
        $crate::msg::json::Record::write(&$self.$field, $out);
    };
    (@read $self:ident, $value:ident, $field:ident, $key:literal, record) => {
        $crate::msg::json::Record::read(&mut $self.$field, $value)?
    };
    (@read $self:ident, $value:ident, $field:ident, $key:literal $(, $mode:ident)?) => {
        $crate::msg::json::Field::read(&mut $self.$field, $key, $value)?
    };
}
pub(crate) use records;

/// Appends `"key":`, after a comma if the object has a member already.
pub(crate) fn write_key(key: &str, start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A string literal as Go writes it.
fn write_string(s: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for c in s.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' => {
                let byte = c as usize;
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[byte >> 4], HEX[byte & 15]]);
            }
            '\u{2028}' => out.extend_from_slice(b"\\u2028"),
            '\u{2029}' => out.extend_from_slice(b"\\u2029"),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
