//! A JSON object whose keys and values are kept exactly, in their order.

use std::fmt;

use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON object as text. Numbers keep their digits, and depth does not matter.
///
/// The values are parts of the text that was read, not copies: a body has up to 512 MiB.
#[derive(Clone)]
pub(crate) struct RawObject {
    keys: Vec<(String, Bytes)>,
}

impl RawObject {
    /// Reads one JSON object.
    pub(crate) fn read(text: &Bytes) -> Result<Self, serde_json::Error> {
        let Borrowed(keys) = serde_json::from_slice(text)?;
        let part = |value: &RawValue| text.slice_ref(value.get().as_bytes());
        let keys = keys.into_iter().map(|(name, value)| (name, part(value)));
        Ok(Self {
            keys: keys.collect(),
        })
    }

    /// The value of `key` as JSON text, if the object has the key and it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self.keys.iter().find(|(name, _)| name == key)?;
        Some(&**value).filter(|text| *text != b"null")
    }

    /// The value of `key` as a part of the text that was read.
    pub(crate) fn part(&self, key: &str) -> Option<Bytes> {
        let (_, value) = self.keys.iter().find(|(name, _)| name == key)?;
        Some(value.clone())
    }

    /// The object with another value of `key`, as JSON text, if it has the key.
    pub(crate) fn replace(mut self, key: &str, json: Bytes) -> Self {
        if let Some((_, value)) = self.keys.iter_mut().find(|(name, _)| name == key) {
            *value = json;
        }
        self
    }

    /// The names of the keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(name, _)| name.as_str())
    }

    /// The object as JSON with the keys in `changes`: in place if it has the key, else at the end.
    pub(crate) fn with(&self, changes: &[(&str, Value)]) -> Bytes {
        let change = |name: &str| changes.iter().find(|(key, _)| *key == name);
        let mut json = Vec::new();
        for (name, value) in &self.keys {
            begin(&mut json, name);
            match change(name) {
                Some((_, value)) => write(&mut json, value),
                None => json.extend_from_slice(value),
            }
        }
        for (name, value) in changes {
            if !self.names().any(|known| known == *name) {
                begin(&mut json, name);
                write(&mut json, value);
            }
        }
        if json.is_empty() {
            json.push(b'{');
        }
        json.push(b'}');
        json.shrink_to_fit();
        json.into()
    }
}

/// Begins the entry of `name`.
fn begin(json: &mut Vec<u8>, name: &str) {
    json.push(if json.is_empty() { b'{' } else { b',' });
    write(json, name);
    json.push(b':');
}

fn write(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("JSON values can be written to memory");
}

/// The keys of an object, and its values as parts of the text.
struct Borrowed<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Borrowed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Borrowed<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    // The last of several equal keys counts, as in Python.
                    match keys.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = value,
                        None => keys.push((name, value)),
                    }
                }
                Ok(Borrowed(keys))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parts_of_the_text() {
        let text = Bytes::from_static(br#"{"a": "large", "b":[1, 2]}"#);
        let object = RawObject::read(&text).unwrap();
        let value = object.get("a").unwrap();
        assert_eq!(value, b"\"large\"");
        assert!(text.as_ptr_range().contains(&value.as_ptr()), "not a copy");
    }

    #[test]
    fn changes_replace_values_and_are_appended() {
        let cases = [
            (r#"{"a":1, "b":2}"#, r#"{"a":1,"b":null,"c":"x"}"#),
            ("{}", r#"{"b":null,"c":"x"}"#),
        ];
        for (text, expected) in cases {
            let object = RawObject::read(&Bytes::from_static(text.as_bytes())).unwrap();
            let changed = object.with(&[("b", Value::Null), ("c", "x".into())]);
            assert_eq!(std::str::from_utf8(&changed).unwrap(), expected);
        }
        let empty = RawObject::read(&Bytes::from_static(b"{}")).unwrap();
        assert_eq!(&*empty.with(&[]), b"{}");
    }
}
