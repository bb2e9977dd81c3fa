//! A JSON object whose keys and values are kept exactly, in their order.

use std::fmt;

use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serializer as _};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON object as text. Numbers keep their digits, and depth does not matter.
#[derive(Clone)]
pub(crate) struct RawObject {
    keys: Vec<(String, Box<RawValue>)>,
}

impl RawObject {
    /// Reads one JSON object.
    pub(crate) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The value of `key` as JSON text, if the object has the key and it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.keys.iter().find(|(name, _)| name == key)?;
        Some(value.get()).filter(|text| *text != "null")
    }

    /// The names of the keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(name, _)| name.as_str())
    }

    /// The object as JSON with the keys in `changes`: in place if it has the key, else at the end.
    pub(crate) fn with(&self, changes: &[(&str, Value)]) -> Bytes {
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut json);
        let change = |name: &str| changes.iter().find(|(key, _)| *key == name);
        let written = (|| {
            let mut map = serializer.serialize_map(None)?;
            for (name, value) in &self.keys {
                match change(name) {
                    Some((_, value)) => map.serialize_entry(name, value)?,
                    None => map.serialize_entry(name, value)?,
                }
            }
            for (name, value) in changes {
                if !self.names().any(|known| known == *name) {
                    map.serialize_entry(name, value)?;
                }
            }
            map.end()
        })();
        written.expect("JSON values can be written to memory");
        json.into()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut keys: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    // The last of several equal keys counts, as in Python.
                    match keys.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = value,
                        None => keys.push((name, value)),
                    }
                }
                Ok(RawObject { keys })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only the names: the values may be large and confidential.
        f.debug_set().entries(self.names()).finish()
    }
}
