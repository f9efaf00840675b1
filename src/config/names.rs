//! The names of members and destinations.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::model::Invalid;

/// The name of a member: etcd's own `--name`, which is any text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(String);

/// The name of a destination: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationName(String);

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(MemberName);
text!(DestinationName);

impl FromStr for MemberName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(Invalid::new(text, "a member's name (etcd's own `--name`)"));
        }
        Ok(MemberName(text.to_owned()))
    }
}

impl FromStr for DestinationName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = text.len() <= 63
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'));
        if !valid {
            return Err(Invalid::new(
                text,
                "a destination's name (a-z and 0-9, then also `.`, `_`, `-`; at most 63 characters)",
            ));
        }
        Ok(DestinationName(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_destinations_are_plain_and_names_of_members_are_free() {
        for name in ["local", "s3", "a.b_c-d", "0"] {
            assert_eq!(name.parse::<DestinationName>().unwrap().as_str(), name);
        }
        for name in ["", "Local", "-a", ".", "a/b", "a b", &"a".repeat(64)] {
            assert!(name.parse::<DestinationName>().is_err(), "{name}");
        }
        for name in ["m1", "Etcd 1", "m1.example.com", "etcd-ü"] {
            assert_eq!(name.parse::<MemberName>().unwrap().as_str(), name);
        }
        for name in ["", " ", "a\nb"] {
            assert!(name.parse::<MemberName>().is_err(), "{name}");
        }
    }
}
