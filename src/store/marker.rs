//! `store.json`: tells one store from another, and a store from a mount point with nothing mounted.
//!
//! ```text
//! {"format":1,"store_id":"0123456789abcdef0123456789abcdef","created_at":"2026-11-20T10:15:30Z"}
//! ```
//!
//! Invariant: a store gets its marker once, before its first object; one that has lost it gets another by the operator's word
//! alone (`adopt`).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de};

use super::Error;
use crate::durable;
use crate::layout::instant;
use crate::model::Invalid;

const FORMAT: u64 = 1;
const ID_DIGITS: usize = 32;

/// Tells one store from another: 32 random hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreId(String);

impl StoreId {
    fn random(at: &str) -> Result<StoreId, Error> {
        let random = durable::random().map_err(|source| Error::at("get random digits for", at.to_owned(), source))?;
        Ok(StoreId(format!("{:032x}", u128::from_le_bytes(random))))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StoreId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != ID_DIGITS || !text.bytes().all(is_digit) {
            return Err(Invalid::new(text, "a store id (32 hexadecimal digits)"));
        }
        Ok(StoreId(text.to_owned()))
    }
}

impl Serialize for StoreId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The content of `store.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    format: u64,
    pub(super) store_id: StoreId,
    #[serde(with = "instant")]
    created_at: Timestamp,
}

impl Marker {
    /// A marker for the store that is made at `now` and whose marker will be at `at`.
    pub(super) fn new(at: &str, now: Timestamp) -> Result<Marker, Error> {
        Ok(Marker {
            format: FORMAT,
            store_id: StoreId::random(at)?,
            created_at: now,
        })
    }

    /// The marker of a store whose id is known, written again at `now`.
    pub(super) fn of(store_id: StoreId, now: Timestamp) -> Marker {
        Marker {
            format: FORMAT,
            store_id,
            created_at: now,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a marker has only text keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the marker that is at `at`.
    pub(super) fn from_bytes(bytes: &[u8], at: &str) -> Result<Marker, Error> {
        let damaged = |detail: String| Error::MarkerDamaged {
            at: at.to_owned(),
            detail,
        };
        let marker: Marker = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if marker.format != FORMAT {
            return Err(damaged(format!("format {} is of a newer lifeboat", marker.format)));
        }
        Ok(marker)
    }
}
