//! The values of bucket `key`: `mvccpb.KeyValue`.
//!
//! A tombstone's value has the key and nothing else; the entry that a revision bump leaves has no field at all.
//!
//! Invariant: a record that etcd wrote encodes to the bytes it was decoded from (fields ascending, zeros left out).
//!
//! Source of the format: etcd `api/mvccpb/kv.proto`, unchanged from 3.4 to 3.7.

use super::lease::LeaseId;
use super::wire::{self, Fields, WireError};

/// One put or deletion as the log holds it; borrows the key and the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyValue<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// Revision of the first put of this life of the key.
    pub create_revision: i64,
    /// Revision of this put.
    pub mod_revision: i64,
    /// How many puts this life of the key has seen.
    pub version: i64,
    /// The user's value.
    pub value: &'a [u8],
    /// The lease the key hangs on, 0 for none.
    pub lease: i64,
}

impl<'a> KeyValue<'a> {
    /// What a tombstone of `key` holds.
    pub fn tombstone(key: &'a [u8]) -> Self {
        KeyValue {
            key,
            ..KeyValue::default()
        }
    }

    /// Reads a record; unknown fields are passed over.
    #[inline]
    pub fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let mut record = KeyValue::default();
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => record.key = field.bytes()?,
                2 => record.create_revision = field.int64()?,
                3 => record.mod_revision = field.int64()?,
                4 => record.version = field.int64()?,
                5 => record.value = field.bytes()?,
                6 => record.lease = field.int64()?,
                _ => {}
            }
        }
        Ok(record)
    }

    /// Appends the record's bytes to `message`.
    pub fn encode_into(&self, message: &mut Vec<u8>) {
        // Two tags and lengths of at most 6 bytes, four numbers of at most 11.
        message.reserve(self.key.len() + self.value.len() + 56);
        if !self.key.is_empty() {
            wire::put_bytes(message, 1, self.key);
        }
        for (number, value) in [(2, self.create_revision), (3, self.mod_revision), (4, self.version)] {
            if value != 0 {
                wire::put_int64(message, number, value);
            }
        }
        if !self.value.is_empty() {
            wire::put_bytes(message, 5, self.value);
        }
        if self.lease != 0 {
            wire::put_int64(message, 6, self.lease);
        }
    }

    /// The lease the key hangs on.
    #[inline]
    pub fn lease(&self) -> Option<LeaseId> {
        (self.lease != 0).then_some(LeaseId(self.lease))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(record: &KeyValue<'_>) -> Vec<u8> {
        let mut message = Vec::new();
        record.encode_into(&mut message);
        message
    }

    #[test]
    fn records_of_a_real_store_decode_and_encode() {
        let second = KeyValue {
            key: b"a",
            create_revision: 2,
            mod_revision: 4,
            version: 2,
            value: b"3",
            lease: 0,
        };
        let bytes = b"\x0a\x01\x61\x10\x02\x18\x04\x20\x02\x2a\x01\x33";
        assert_eq!(KeyValue::decode(bytes), Ok(second));
        assert_eq!(encoded(&second), bytes);
        assert_eq!(encoded(&KeyValue::tombstone(b"b")), b"\x0a\x01\x62");
        assert_eq!(KeyValue::decode(b""), Ok(KeyValue::tombstone(b"")));
    }

    #[test]
    fn a_field_of_the_wrong_type_is_refused_and_an_unknown_one_is_not() {
        assert_eq!(KeyValue::decode(&[0x08, 1]), Err(WireError::WrongType(1)));
        assert_eq!(KeyValue::decode(&[0x12, 0]), Err(WireError::WrongType(2)));
        assert_eq!(KeyValue::decode(&[0x38, 1]), Ok(KeyValue::default()));
    }

    proptest! {
        #[test]
        fn records_read_back_as_written(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            numbers: [i64; 3],
            lease: i64,
        ) {
            let [create_revision, mod_revision, version] = numbers;
            let record = KeyValue { key: &key, create_revision, mod_revision, version, value: &value, lease };
            let message = encoded(&record);
            prop_assert_eq!(KeyValue::decode(&message), Ok(record));
        }

        #[test]
        fn hostile_bytes_decode_or_err(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(record) = KeyValue::decode(&bytes) {
                prop_assert!(record.key.len() + record.value.len() <= bytes.len());
            }
        }
    }
}
