//! A hash over the parts of a message, for telling messages apart. Pure.

use xxhash_rust::xxh3::Xxh3;

use super::{HeaderValue, Properties};

/// Feeds the parts of a message to XXH3, 128 bits.
///
/// Every part is preceded by its length or its kind, so that neither boundaries nor types can be confused. Numbers are
/// hashed by value: a broker may carry a small number as a wider type.
pub(crate) struct ContentHash(Xxh3);

impl ContentHash {
    /// A hash that starts from `seed`.
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self(Xxh3::with_seed(seed))
    }

    /// The hash of everything added so far.
    pub(crate) fn finish(&self) -> u128 {
        self.0.digest128()
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.number(u64::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    /// Adds the properties that neither the broker nor a copy changes: all but `delivery_mode`, `expiration` and
    /// `timestamp`, and not the headers.
    pub(crate) fn stable_properties(&mut self, properties: &Properties) {
        for text in [
            &properties.content_type,
            &properties.content_encoding,
            &properties.correlation_id,
            &properties.reply_to,
            &properties.message_id,
            &properties.kind,
            &properties.user_id,
            &properties.app_id,
            &properties.cluster_id,
        ] {
            self.optional_text(text.as_deref());
        }
        self.number(properties.priority.map_or(256, u64::from));
    }

    /// Adds one header.
    pub(crate) fn header(&mut self, name: &str, value: &HeaderValue) {
        self.text(name);
        self.value(value);
    }

    fn value(&mut self, value: &HeaderValue) {
        match value {
            HeaderValue::Bool(value) => self.kind_and_number(0, (*value).into()),
            HeaderValue::U8(value) => self.kind_and_number(1, (*value).into()),
            HeaderValue::U16(value) => self.kind_and_number(1, (*value).into()),
            HeaderValue::U32(value) => self.kind_and_number(1, (*value).into()),
            HeaderValue::I8(_)
            | HeaderValue::I16(_)
            | HeaderValue::I32(_)
            | HeaderValue::I64(_) => {
                let value = value.as_i64().expect("these are whole numbers");
                self.kind_and_number(1, value.cast_unsigned());
            }
            HeaderValue::F32(value) => self.kind_and_number(2, f64::from(*value).to_bits()),
            HeaderValue::F64(value) => self.kind_and_number(2, value.to_bits()),
            HeaderValue::Decimal { scale, value } => {
                self.kind_and_number(3, (*scale).into());
                self.number((*value).into());
            }
            HeaderValue::Text(value) => self.kind_and_bytes(4, value.as_bytes()),
            HeaderValue::LongString(value) => self.kind_and_bytes(4, value),
            HeaderValue::Bytes(value) => self.kind_and_bytes(5, value),
            HeaderValue::Timestamp(value) => self.kind_and_number(6, *value),
            HeaderValue::List(values) => {
                self.kind_and_number(7, values.len() as u64);
                for value in values {
                    self.value(value);
                }
            }
            HeaderValue::Table(values) => {
                self.kind_and_number(8, values.len() as u64);
                for (name, value) in values {
                    self.header(name, value);
                }
            }
            HeaderValue::Void => self.number(9),
        }
    }

    fn kind_and_number(&mut self, kind: u64, number: u64) {
        self.number(kind);
        self.number(number);
    }

    fn kind_and_bytes(&mut self, kind: u64, bytes: &[u8]) {
        self.number(kind);
        self.bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &HeaderValue) -> u128 {
        let mut hash = ContentHash::with_seed(0);
        hash.header("h", value);
        hash.finish()
    }

    #[test]
    fn a_number_is_the_same_in_every_width_and_differs_from_text_and_truth() {
        let five = of(&HeaderValue::I64(5));
        for same in [
            HeaderValue::I8(5),
            HeaderValue::U8(5),
            HeaderValue::U16(5),
            HeaderValue::I32(5),
            HeaderValue::U32(5),
        ] {
            assert_eq!(of(&same), five, "{same:?}");
        }
        for other in [
            HeaderValue::I64(6),
            HeaderValue::Text("5".into()),
            HeaderValue::F64(5.0),
            HeaderValue::Timestamp(5),
            HeaderValue::Void,
        ] {
            assert_ne!(of(&other), five, "{other:?}");
        }
        assert_eq!(of(&HeaderValue::F32(1.5)), of(&HeaderValue::F64(1.5)));
        assert_ne!(of(&HeaderValue::Bool(true)), of(&HeaderValue::I64(1)));
    }

    #[test]
    fn a_boundary_between_two_texts_counts() {
        let list = |texts: [&str; 2]| HeaderValue::List(texts.map(HeaderValue::from).into());
        assert_ne!(of(&list(["ab", "c"])), of(&list(["a", "bc"])));
    }
}
