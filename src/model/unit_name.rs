//! The names of systemd's units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The name of a systemd unit with its suffix: `etcd.service`, `etcd@m1.service`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitName(String);

impl UnitName {
    /// What a unit's name may end in, for the kinds of units that have to do with etcd.
    const SUFFIXES: [&str; 6] = [".service", ".target", ".mount", ".timer", ".slice", ".scope"];
    /// `UNIT_NAME_MAX` of systemd.
    const LONGEST: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = Invalid;

    /// A name without a suffix is that of a service. Templates (`etcd@.service`) are none: nothing runs as them.
    fn from_str(text: &str) -> Result<UnitName, Invalid> {
        let suffixed = Self::SUFFIXES.iter().find(|suffix| text.ends_with(*suffix));
        let (stem, suffix) = match suffixed {
            Some(suffix) => (&text[..text.len() - suffix.len()], *suffix),
            None => (text, Self::SUFFIXES[0]),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let is_name = !stem.is_empty() && stem.bytes().all(is_plain) && stem.len() + suffix.len() <= Self::LONGEST;
        if !is_name || stem.starts_with('@') || stem.ends_with('@') {
            return Err(Invalid::new(text, "the name of a unit, such as `etcd.service`"));
        }
        Ok(UnitName(format!("{stem}{suffix}")))
    }
}

serde_as_text!(UnitName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_name_without_a_suffix_is_that_of_a_service() {
        for (text, name) in [
            ("etcd", "etcd.service"),
            ("etcd.service", "etcd.service"),
            ("etcd@m1", "etcd@m1.service"),
            (r"etcd@a\x2fb.service", r"etcd@a\x2fb.service"),
            ("etcd-3.5", "etcd-3.5.service"),
            ("multi-user.target", "multi-user.target"),
        ] {
            assert_eq!(text.parse::<UnitName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(UnitName::LONGEST);
        for text in [
            "",
            ".service",
            "@.service",
            "etcd@",
            "a b",
            "../etcd",
            "etcd\n",
            "é",
            &long,
        ] {
            assert!(text.parse::<UnitName>().is_err(), "{text:?}");
        }
    }
}
