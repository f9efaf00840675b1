//! Revisions of etcd's key space.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A revision of etcd's key space (the main half of an MVCC revision). Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// A revision; negative numbers are none.
    pub fn new(revision: i64) -> Result<Self, Invalid> {
        if revision < 0 {
            return Err(Invalid::new(&revision.to_string(), "a revision (0 or more)"));
        }
        Ok(Revision(revision))
    }

    /// The number that etcd's API uses.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The one behind it; the highest that there can be is followed by itself.
    pub fn next(self) -> Self {
        Revision(self.0.saturating_add(1))
    }

    /// As it stands in object names: 20 digits, so that a listing is in order.
    pub fn padded(self) -> String {
        format!("{:020}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a revision (digits)";
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Invalid::new(text, EXPECTED));
        }
        text.parse().map(Revision).map_err(|_| Invalid::new(text, EXPECTED))
    }
}

impl Serialize for Revision {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Revision::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_not_negative() {
        assert!(Revision::new(-1).is_err());
        assert_eq!(Revision::new(7).unwrap().padded(), "00000000000000000007");
        assert!("+7".parse::<Revision>().is_err());
    }
}
