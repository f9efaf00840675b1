//! The keys of bucket `key`: revisions, and whether the entry deletes.
//!
//! ```text
//! offset  0        8    9        17
//!         main i64 0x5F sub i64  ['t']      big-endian, both halves 0 or more; the last byte only on a tombstone
//! ```
//!
//! Invariant: keys order bytewise as (main, sub) do.
//!
//! Source of the format: etcd 3.4 `mvcc/util.go` and `mvcc/kvstore.go`, the same up to 3.7.

use crate::model::{Invalid, Revision};

/// Length of a key that puts; a tombstone is one byte longer.
pub const REVISION_LEN: usize = 17;

/// What an entry of the log does to its user key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// It gives the key a value.
    Put,
    /// It deletes the key.
    Tombstone,
}

/// A key of bucket `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionKey {
    main: Revision,
    sub: i64,
    kind: EntryKind,
}

impl RevisionKey {
    /// The key of the `sub`-th change (from 0) of revision `main`; a negative `sub` is none.
    pub fn new(main: Revision, sub: i64, kind: EntryKind) -> Result<Self, Invalid> {
        if sub < 0 {
            return Err(Invalid::new(
                &sub.to_string(),
                "a position inside a revision (0 or more)",
            ));
        }
        Ok(RevisionKey { main, sub, kind })
    }

    /// The first put of revision `main`.
    pub fn first_put(main: Revision) -> Self {
        RevisionKey {
            main,
            sub: 0,
            kind: EntryKind::Put,
        }
    }

    /// Reads a key of bucket `key`; other lengths, separators and negative halves are refused.
    #[inline]
    pub fn decode(key: &[u8]) -> Result<Self, Invalid> {
        let (revision, mark) = key.split_first_chunk::<REVISION_LEN>().ok_or_else(|| invalid(key))?;
        let kind = match mark {
            [] => EntryKind::Put,
            [b't'] => EntryKind::Tombstone,
            _ => return Err(invalid(key)),
        };
        let [m0, m1, m2, m3, m4, m5, m6, m7, b'_', s0, s1, s2, s3, s4, s5, s6, s7] = *revision else {
            return Err(invalid(key));
        };
        let main = i64::from_be_bytes([m0, m1, m2, m3, m4, m5, m6, m7]);
        let sub = i64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        RevisionKey::new(Revision::new(main)?, sub, kind)
    }

    /// The key's bytes: 17, or 18 for a tombstone.
    pub fn encode(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(REVISION_LEN + 1);
        self.encode_into(&mut key);
        key
    }

    /// Appends the key's bytes to `key`.
    pub fn encode_into(self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.main.get().to_be_bytes());
        key.push(b'_');
        key.extend_from_slice(&self.sub.to_be_bytes());
        if self.kind == EntryKind::Tombstone {
            key.push(b't');
        }
    }

    /// The revision the entry belongs to.
    pub fn main(self) -> Revision {
        self.main
    }

    /// The entry's position inside its revision, from 0.
    pub fn sub(self) -> i64 {
        self.sub
    }

    /// Whether the entry puts or deletes.
    pub fn kind(self) -> EntryKind {
        self.kind
    }
}

#[cold]
fn invalid(key: &[u8]) -> Invalid {
    Invalid::new(
        &super::printable(key),
        "a revision key (17 bytes, or 18 with a final `t`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn keys_of_a_real_store_decode() {
        let put = RevisionKey::decode(&hex("00000000000000025f0000000000000000")).unwrap();
        assert_eq!((put.main().get(), put.sub(), put.kind()), (2, 0, EntryKind::Put));
        let deleted = RevisionKey::decode(&hex("00000000000000055f000000000000000074")).unwrap();
        assert_eq!(
            (deleted.main().get(), deleted.sub(), deleted.kind()),
            (5, 0, EntryKind::Tombstone)
        );
    }

    #[test]
    fn other_bytes_are_refused() {
        for text in [
            "",
            "00000000000000025f00000000000000",
            "00000000000000025f000000000000000073",
            "00000000000000025f00000000000000007474",
            "00000000000000025e0000000000000000",
            "80000000000000025f0000000000000000",
            "00000000000000025f8000000000000000",
        ] {
            assert!(RevisionKey::decode(&hex(text)).is_err(), "{text}");
        }
    }

    fn any_key() -> impl Strategy<Value = RevisionKey> {
        let half = prop_oneof![0i64..4, 0..=i64::MAX];
        (half.clone(), half, any::<bool>()).prop_map(|(main, sub, deletes)| {
            let kind = if deletes { EntryKind::Tombstone } else { EntryKind::Put };
            RevisionKey::new(Revision::new(main).unwrap(), sub, kind).unwrap()
        })
    }

    proptest! {
        #[test]
        fn keys_read_back_as_written(key in any_key()) {
            prop_assert_eq!(RevisionKey::decode(&key.encode()), Ok(key));
        }

        #[test]
        fn bytes_order_as_main_and_sub_do(a in any_key(), b in any_key()) {
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }
    }
}
