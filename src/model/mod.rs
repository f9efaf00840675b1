//! The words everything else is written in: ids, revisions, digests, sizes.
//!
//! Invariant: a value of a type in here is valid; each is made by one fallible constructor and prints as it parses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The user of the agent. Where it exists, root writes as this user what the agent is to find: see `process`.
pub const AGENTS_USER: &str = "lifeboat";

/// Text that is not a value of the type it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct Invalid {
    /// What was read.
    pub text: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl Invalid {
    /// An error for `text`, of which only the first 120 characters are kept.
    pub fn new(text: &str, expected: &'static str) -> Self {
        Invalid {
            text: text.chars().take(120).collect(),
            expected,
        }
    }
}

/// Serializes a type by its `Display` and reads it back by its `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

mod byte_size;
mod chain_id;
mod digest;
mod hash_kv;
mod lineage_id;
mod revision;
mod unit_name;

pub use byte_size::ByteSize;
pub use chain_id::ChainId;
pub use digest::Digest;
pub use hash_kv::HashKv;
pub use lineage_id::LineageId;
pub use revision::Revision;
pub use unit_name::UnitName;

/// A 64-bit id that etcd prints in hexadecimal without padding.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                let canonical = !text.is_empty()
                    && text.len() <= 16
                    && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if !canonical {
                    return Err(Invalid::new(text, $expected));
                }
                u64::from_str_radix(text, 16)
                    .map($name)
                    .map_err(|_| Invalid::new(text, $expected))
            }
        }
        serde_as_text!($name);
    };
}

hex_id!(
    /// The id of an etcd cluster, derived from its members and its token.
    ClusterId,
    "a cluster id (up to 16 hexadecimal digits)"
);
hex_id!(
    /// The id of an etcd member, derived from its peer URLs and the cluster's token.
    MemberId,
    "a member id (up to 16 hexadecimal digits)"
);

/// A name that is one safe component of a path: `[a-z0-9][a-z0-9._-]{0,62}`.
macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text; safe as one component of a path.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let valid = text.len() <= 63
                    && text.bytes().next().is_some_and(plain)
                    && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'));
                if !valid {
                    return Err(Invalid::new(text, $expected));
                }
                Ok($name(text.into()))
            }
        }

        serde_as_text!($name);
    };
}

plain_name!(
    /// The name a cluster has in the configuration and in every store: `[a-z0-9][a-z0-9._-]{0,62}`.
    ClusterName,
    "a cluster name (a-z and 0-9, then also `.`, `_`, `-`; at most 63 characters)"
);

plain_name!(
    /// The name of a schedule: `[a-z0-9][a-z0-9._-]{0,62}`.
    ScheduleName,
    "a schedule's name (a-z and 0-9, then also `.`, `_`, `-`; at most 63 characters)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse() {
        for text in ["0", "afc1e72027c1b84", "ffffffffffffffff"] {
            assert_eq!(text.parse::<MemberId>().unwrap().to_string(), text);
        }
        for text in ["", "0x1", "AB", "11111111111111111", "g"] {
            assert!(text.parse::<ClusterId>().is_err(), "{text}");
        }
    }

    #[test]
    fn cluster_names_are_one_safe_path_component() {
        assert!("prod-1.eu_west".parse::<ClusterName>().is_ok());
        for text in ["", ".", "..", "-x", "Prod", "a/b", "a b", &"x".repeat(64)] {
            assert!(text.parse::<ClusterName>().is_err(), "{text}");
        }
    }
}
