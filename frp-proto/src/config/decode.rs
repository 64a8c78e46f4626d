//! From the value tree to the raw records, by the rules of Go's `encoding/json` (config-frps.md §5, config-frpc.md §2.2).
//!
//! [`record!`] declares a record once: Rust field, key, Go's type name where the texts need it, and default. Everything else
//! comes from that one line: decoding, the known keys (strict mode and suggestions), the filling of defaults, and encoding.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::value::{Data, Pos, Value};

/// Why a value does not fit, not yet tied to a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecodeError {
    pub(crate) problem: Problem,
    pub(crate) pos: Pos,
    /// What would have been right, for our second line.
    pub(crate) hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Problem {
    /// Kept apart, because the loader words it by format and strictness.
    Type(Box<TypeMismatch>),
    /// A finished text.
    Text(String),
}

/// `value` is what was found, `go` the type wanted, `path` the field inside `holder`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TypeMismatch {
    pub(crate) value: String,
    pub(crate) go: String,
    pub(crate) holder: &'static str,
    pub(crate) path: String,
}

impl TypeMismatch {
    /// The wording of the common part of a configuration.
    pub(crate) fn short(&self) -> String {
        let Self {
            value, go, path, ..
        } = self;
        if path.is_empty() {
            return self.long();
        }
        format!("field \"{path}\": cannot unmarshal {value} into {go}")
    }

    /// The wording of `encoding/json` itself.
    pub(crate) fn long(&self) -> String {
        let Self {
            value,
            go,
            holder,
            path,
        } = self;
        if path.is_empty() {
            return format!("json: cannot unmarshal {value} into Go value of type {go}");
        }
        format!("json: cannot unmarshal {value} into Go struct field {holder}.{path} of type {go}")
    }
}

impl DecodeError {
    pub(crate) fn text(pos: Pos, text: impl Into<String>) -> Self {
        Self {
            problem: Problem::Text(text.into()),
            pos,
            hint: None,
        }
    }

    /// Puts `prefix` before the text, in `encoding/json`'s own wording.
    pub(crate) fn within(mut self, prefix: &str) -> Self {
        let text = match &self.problem {
            Problem::Type(mismatch) => mismatch.long(),
            Problem::Text(text) => text.clone(),
        };
        self.problem = Problem::Text(format!("{prefix}{text}"));
        self
    }
}

/// A key as [`record!`] declares it: its spelling, the struct Go embeds it from, and Go's type where it is not the usual one.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) embed: Option<&'static str>,
    pub(crate) go: Option<&'static str>,
}

/// What decoding needs to know about where it is.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    /// Unknown keys are errors.
    pub(crate) strict: bool,
    /// Numbers and booleans become text where text is wanted: upstream's non-strict YAML.
    pub(crate) coerce: bool,
    path: Vec<&'static str>,
    holder: &'static str,
}

impl Decoder {
    pub(crate) fn new(strict: bool, coerce: bool) -> Self {
        Self {
            strict,
            coerce,
            path: Vec::new(),
            holder: "",
        }
    }

    /// Decodes a whole document, or an element that upstream decodes by itself.
    pub(crate) fn root<R: Record>(&mut self, value: &Value) -> Result<R, DecodeError> {
        let mut record = R::default();
        self.record(&mut record, value, R::GO)?;
        Ok(record)
    }

    /// One key of a record.
    pub(crate) fn field<T: Field>(
        &mut self,
        field: &mut T,
        key: Key,
        value: &Value,
    ) -> Result<(), DecodeError> {
        if let Some(embed) = key.embed {
            let key = Key { embed: None, ..key };
            return self.embedded(embed, |d| d.field(field, key, value));
        }
        self.path.push(key.name);
        let result = match key.go {
            Some(go) => field.decode(self, value, go),
            None => field.decode(self, value, &T::go()),
        };
        self.path.pop();
        result
    }

    /// The keys of a record that lies inside another one in Go, and shows in the paths of errors only.
    pub(crate) fn embedded<T>(
        &mut self,
        name: &'static str,
        decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let coerce = std::mem::replace(&mut self.coerce, false);
        self.path.push(name);
        let result = decode(self);
        self.path.pop();
        self.coerce = coerce;
        result
    }

    pub(crate) fn record<R: Record>(
        &mut self,
        record: &mut R,
        value: &Value,
        go: &str,
    ) -> Result<(), DecodeError> {
        let members = match &value.data {
            Data::Null => return Ok(()),
            Data::Object(members) => members,
            _ => return Err(self.mismatch(value, value.kind(), go)),
        };
        let outer = std::mem::replace(&mut self.holder, unqualified(R::GO));
        let mut keys = Vec::new();
        R::keys(&mut keys);
        for member in members {
            let known = keys.iter().find(|key| **key == member.key).or_else(|| {
                keys.iter()
                    .find(|key| key.eq_ignore_ascii_case(&member.key))
            });
            match known {
                Some(key) => {
                    record.set(key, &member.value, self)?;
                }
                None if self.strict => {
                    return Err(DecodeError {
                        problem: Problem::Text(format!("json: unknown field {:?}", member.key)),
                        pos: member.pos,
                        hint: nearest(&member.key, &keys)
                            .map(|key| format!("did you mean `{key}`?")),
                    });
                }
                None => {}
            }
        }
        self.holder = outer;
        Ok(())
    }

    pub(crate) fn mismatch(&self, value: &Value, found: &str, go: &str) -> DecodeError {
        let expected = match go {
            "int" | "int64" => "an integer",
            "bool" => "true or false",
            _ if go.starts_with("[]") => "a list",
            _ if go.starts_with("map[") || go.contains('.') && !STRING_TYPES.contains(&go) => {
                "a table"
            }
            _ => "a string",
        };
        let hint = match self.path.last() {
            Some(key) => format!("`{key}` must be {expected}"),
            None => format!("expected {expected}"),
        };
        DecodeError {
            problem: Problem::Type(Box::new(TypeMismatch {
                value: found.to_owned(),
                go: go.to_owned(),
                holder: self.holder,
                path: self.path.join("."),
            })),
            pos: value.pos,
            hint: Some(hint),
        }
    }
}

/// A Go type's name without its package.
fn unqualified(go: &'static str) -> &'static str {
    go.split_once('.').map_or(go, |(_, name)| name)
}

/// Go's named string types, which would otherwise read as tables.
const STRING_TYPES: [&str; 2] = ["v1.AuthMethod", "v1.AuthScope"];

/// The known key a typing error most likely meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    // A hostile file must not buy quadratic work with one long key.
    if key.len() > 64 {
        return None;
    }
    let key = key.to_lowercase().replace(['_', '-'], "");
    known
        .iter()
        .filter_map(|k| {
            let lower = k.to_lowercase();
            let distance = strsim::damerau_levenshtein(&key, &lower);
            let begun = key.len() > 2 && lower.starts_with(&key);
            (begun || distance <= key.len() / 3).then_some((distance, *k))
        })
        .min()
        .map(|(_, k)| k)
}

/// A value of a key.
pub(crate) trait Field {
    /// Go's name of the type, for the error texts.
    fn go() -> Cow<'static, str>;

    /// Decodes into what is already there: a key given twice merges tables and replaces the rest; `null` changes nothing.
    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError>;

    /// Fills the defaults of the records inside.
    fn fill(&mut self) {}
}

/// A table with known keys.
pub(crate) trait Record: Default {
    /// Go's name of the type, for the error texts.
    const GO: &'static str;

    /// Appends the canonical spelling of every key.
    fn keys(out: &mut Vec<&'static str>);

    /// Decodes the value of one canonical key; `false` if the key is not of this record.
    fn set(&mut self, key: &str, value: &Value, d: &mut Decoder) -> Result<bool, DecodeError>;

    /// Replaces zero values by their defaults.
    fn fill_defaults(&mut self);
}

impl<R: Record> Field for R {
    fn go() -> Cow<'static, str> {
        Cow::Borrowed(R::GO)
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        d.record(self, value, go)
    }

    fn fill(&mut self) {
        self.fill_defaults();
    }
}

impl Field for String {
    fn go() -> Cow<'static, str> {
        Cow::Borrowed("string")
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        match &value.data {
            Data::Null => {}
            Data::String(s) => self.clone_from(s),
            Data::Number(n) if d.coerce => self.clone_from(n),
            Data::Bool(b) if d.coerce => *self = b.to_string(),
            _ => return Err(d.mismatch(value, value.kind(), go)),
        }
        Ok(())
    }
}

impl Field for bool {
    fn go() -> Cow<'static, str> {
        Cow::Borrowed("bool")
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        match value.data {
            Data::Null => {}
            Data::Bool(b) => *self = b,
            _ => return Err(d.mismatch(value, value.kind(), go)),
        }
        Ok(())
    }
}

impl Field for i64 {
    fn go() -> Cow<'static, str> {
        Cow::Borrowed("int64")
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        match &value.data {
            Data::Null => {}
            Data::Number(literal) => {
                *self = literal
                    .parse()
                    .map_err(|_| d.mismatch(value, &format!("number {literal}"), go))?;
            }
            _ => return Err(d.mismatch(value, value.kind(), go)),
        }
        Ok(())
    }
}

impl<T: Field + Default> Field for Option<T> {
    fn go() -> Cow<'static, str> {
        T::go()
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        if value.data == Data::Null {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().decode(d, value, go)
    }
}

impl<T: Field + Default> Field for Vec<T> {
    fn go() -> Cow<'static, str> {
        Cow::Owned(format!("[]{}", T::go()))
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        let elements = match &value.data {
            Data::Null => &[][..],
            Data::Array(elements) => elements,
            _ => return Err(d.mismatch(value, value.kind(), go)),
        };
        self.clear();
        for element in elements {
            let mut item = T::default();
            item.decode(d, element, go.trim_start_matches("[]"))?;
            self.push(item);
        }
        Ok(())
    }
}

impl<T: Field + Default> Field for BTreeMap<String, T> {
    fn go() -> Cow<'static, str> {
        Cow::Owned(format!("map[string]{}", T::go()))
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        let members = match &value.data {
            Data::Null => return Ok(()),
            Data::Object(members) => members,
            _ => return Err(d.mismatch(value, value.kind(), go)),
        };
        for member in members {
            let mut item = T::default();
            item.decode(d, &member.value, &T::go())?;
            self.insert(member.key.clone(), item);
        }
        Ok(())
    }
}

/// A record that Go embeds in another: one table in the file, two records here.
#[derive(Default)]
pub(crate) struct Whole<B, K> {
    pub(crate) base: B,
    pub(crate) kind: K,
}

impl<B: Record, K: Record> Record for Whole<B, K> {
    const GO: &'static str = K::GO;

    fn keys(out: &mut Vec<&'static str>) {
        B::keys(out);
        K::keys(out);
    }

    fn set(&mut self, key: &str, value: &Value, d: &mut Decoder) -> Result<bool, DecodeError> {
        let base = unqualified(B::GO);
        Ok(d.embedded(base, |d| self.base.set(key, value, d))? || self.kind.set(key, value, d)?)
    }

    fn fill_defaults(&mut self) {
        self.base.fill_defaults();
        self.kind.fill_defaults();
    }
}

/// Sets `field` to its default where the file left it zero: Go cannot tell "0" from "absent".
pub(crate) fn fill_zero<T: Default + PartialEq>(field: &mut T, default: impl Into<T>) {
    if *field == T::default() {
        *field = default.into();
    }
}

/// Declares a record of the configuration.
///
/// Each field reads `name: Type = [KEY]`, optionally followed by `or DEFAULT`. KEY is one of
/// * `"key"`, with `in "Embedded"` where the paths of errors show an embedded struct, `as "go type"` where Go's name of the
///   type is not the usual one, or `via function` for a string that is checked while decoding;
/// * `embed "Struct"`: all keys of the field's record belong to this one;
/// * `deferred "key" as "go type"`: a list that is only checked to be one; the loader decodes it later;
/// * `hidden`: no key at all.
///
/// `secret` before a key keeps its value out of `Debug`; `always` writes it even if it is empty.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $name:ident = $go:literal {
            $( $(#[$fmeta:meta])* $field:ident: $ty:ty = [$($spec:tt)+] $(or $default:expr)?, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Default, PartialEq)]
        pub struct $name {
            $(
                #[doc = $crate::config::decode::record!(@doc $($spec)+)]
                $(#[$fmeta])*
                pub $field: $ty,
            )*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(stringify!($field), $crate::config::decode::record!(@debug self.$field, $($spec)+)) )*
                    .finish()
            }
        }

        impl $crate::config::decode::Record for $name {
            const GO: &'static str = $go;

            fn keys(out: &mut Vec<&'static str>) {
                let _ = &out;
                $( $crate::config::decode::record!(@keys out, $ty, $($spec)+); )*
            }

            fn set(
                &mut self,
                key: &str,
                value: &$crate::config::value::Value,
                d: &mut $crate::config::decode::Decoder,
            ) -> Result<bool, $crate::config::decode::DecodeError> {
                let _ = (key, value, &d);
                $( $crate::config::decode::record!(@set self.$field, key, value, d, $($spec)+); )*
                Ok(false)
            }

            fn fill_defaults(&mut self) {
                $(
                    $( $crate::config::decode::fill_zero(&mut self.$field, $default); )?
                    $crate::config::decode::record!(@fill self.$field, $($spec)+);
                )*
            }
        }

        impl $crate::config::encode::Members for $name {
            fn members<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                let _ = &map;
                $( $crate::config::decode::record!(@members self.$field, map, false, $($spec)+); )*
                Ok(())
            }
        }
    };

    (@debug $self:ident.$field:ident, secret $($rest:tt)+) => { &"***" };
    (@debug $self:ident.$field:ident, always $($rest:tt)+) => {
        $crate::config::decode::record!(@debug $self.$field, $($rest)+)
    };
    (@debug $self:ident.$field:ident, $($rest:tt)+) => { &$self.$field };

    (@doc secret $($rest:tt)+) => { $crate::config::decode::record!(@doc $($rest)+) };
    (@doc always $($rest:tt)+) => { $crate::config::decode::record!(@doc $($rest)+) };
    (@doc hidden) => { "No key." };
    (@doc embed $struct:literal) => { concat!("Keys of upstream's `", $struct, "`.") };
    (@doc deferred $key:literal $($rest:tt)*) => { concat!("Key `", $key, "`.") };
    (@doc $key:literal $($rest:tt)*) => { concat!("Key `", $key, "`.") };

    (@keys $out:ident, $ty:ty, secret $($rest:tt)+) => {
        $crate::config::decode::record!(@keys $out, $ty, $($rest)+)
    };
    (@keys $out:ident, $ty:ty, always $($rest:tt)+) => {
        $crate::config::decode::record!(@keys $out, $ty, $($rest)+)
    };
    (@keys $out:ident, $ty:ty, hidden) => {};
    (@keys $out:ident, $ty:ty, embed $struct:literal) => { <$ty as $crate::config::decode::Record>::keys($out) };
    (@keys $out:ident, $ty:ty, deferred $key:literal $($rest:tt)*) => { $out.push($key) };
    (@keys $out:ident, $ty:ty, $key:literal $($rest:tt)*) => { $out.push($key) };

    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident, secret $($rest:tt)+) => {
        $crate::config::decode::record!(@set $self.$field, $key, $value, $d, $($rest)+)
    };
    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident, always $($rest:tt)+) => {
        $crate::config::decode::record!(@set $self.$field, $key, $value, $d, $($rest)+)
    };
    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident, hidden) => {};
    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident, embed $struct:literal) => {
        if $d.embedded($struct, |d| $crate::config::decode::Record::set(&mut $self.$field, $key, $value, d))? {
            return Ok(true);
        }
    };
    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident, deferred $name:literal as $go:literal) => {
        if $key == $name {
            let key = $crate::config::decode::Key { name: $name, embed: None, go: Some($go) };
            return $d.field(&mut $crate::config::decode::Deferred, key, $value).map(|()| true);
        }
    };
    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident, $name:literal via $check:path) => {
        if $key == $name {
            let key = $crate::config::decode::Key { name: $name, embed: None, go: None };
            $d.field(&mut $self.$field, key, $value)?;
            $self.$field = $check(&$self.$field)
                .map_err(|text| $crate::config::decode::DecodeError::text($value.pos, text))?;
            return Ok(true);
        }
    };
    (@set $self:ident.$field:ident, $key:ident, $value:ident, $d:ident,
        $name:literal $(in $struct:literal)? $(as $go:literal)?) => {
        if $key == $name {
            let embed = $crate::config::decode::record!(@option $($struct)?);
            let go = $crate::config::decode::record!(@option $($go)?);
            let key = $crate::config::decode::Key { name: $name, embed, go };
            return $d.field(&mut $self.$field, key, $value).map(|()| true);
        }
    };

    (@option) => { None };
    (@option $text:literal) => { Some($text) };

    (@fill $self:ident.$field:ident, secret $($rest:tt)+) => {
        $crate::config::decode::record!(@fill $self.$field, $($rest)+)
    };
    (@fill $self:ident.$field:ident, always $($rest:tt)+) => {
        $crate::config::decode::record!(@fill $self.$field, $($rest)+)
    };
    (@fill $self:ident.$field:ident, hidden) => {};
    (@fill $self:ident.$field:ident, deferred $($rest:tt)*) => {};
    (@fill $self:ident.$field:ident, $($rest:tt)*) => { $crate::config::decode::Field::fill(&mut $self.$field) };

    (@members $self:ident.$field:ident, $map:ident, $always:literal, secret $($rest:tt)+) => {
        $crate::config::decode::record!(@members $self.$field, $map, $always, $($rest)+)
    };
    (@members $self:ident.$field:ident, $map:ident, $always:literal, always $($rest:tt)+) => {
        $crate::config::decode::record!(@members $self.$field, $map, true, $($rest)+)
    };
    (@members $self:ident.$field:ident, $map:ident, $always:literal, hidden) => {};
    (@members $self:ident.$field:ident, $map:ident, $always:literal, deferred $($rest:tt)+) => {};
    (@members $self:ident.$field:ident, $map:ident, $always:literal, embed $struct:literal) => {
        $crate::config::encode::Members::members(&$self.$field, $map)?
    };
    (@members $self:ident.$field:ident, $map:ident, $always:literal, $name:literal $($rest:tt)*) => {
        if $always || !$crate::config::encode::Encode::is_empty(&$self.$field) {
            $map.serialize_entry($name, &$crate::config::encode::Encoded(&$self.$field))?;
        }
    };
}
pub(crate) use record;

/// Stands in for a list that the loader decodes later.
#[derive(Default)]
pub(crate) struct Deferred;

impl Field for Deferred {
    fn go() -> Cow<'static, str> {
        Cow::Borrowed("[]jsonx.RawMessage")
    }

    fn decode(&mut self, d: &mut Decoder, value: &Value, go: &str) -> Result<(), DecodeError> {
        match value.data {
            Data::Null | Data::Array(_) => Ok(()),
            _ => Err(d.mismatch(value, value.kind(), go)),
        }
    }
}
