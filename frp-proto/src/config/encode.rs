//! From the raw records to JSON, by the rules of Go's `encoding/json`: members in the order of the records, empty values left
//! out unless the record says otherwise, tables never.
//!
//! What is written is what was configured, secrets included: it is for the store and for the admin API.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A value of a key.
pub(crate) trait Encode {
    /// Whether Go leaves it out where it is marked `omitempty`.
    fn is_empty(&self) -> bool;

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A table with known keys.
pub(crate) trait Members {
    /// Writes the members into a table that may get others, too.
    fn members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// A value, for serde.
pub(crate) struct Encoded<'a, T>(pub(crate) &'a T);

impl<T: Encode> Serialize for Encoded<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.encode(serializer)
    }
}

impl<R: Members> Encode for R {
    fn is_empty(&self) -> bool {
        false
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.members(&mut map)?;
        map.end()
    }
}

impl Encode for String {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl Encode for bool {
    fn is_empty(&self) -> bool {
        !self
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self)
    }
}

impl Encode for i64 {
    fn is_empty(&self) -> bool {
        *self == 0
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(*self)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn is_empty(&self) -> bool {
        self.is_none()
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.encode(serializer),
            None => serializer.serialize_unit(),
        }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Encoded))
    }
}

impl<T: Encode> Encode for BTreeMap<String, T> {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (key, Encoded(value))))
    }
}
