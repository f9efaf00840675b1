//! Names of units.

use std::fmt;
use std::str::FromStr;

/// What a unit's name may end in, for the kinds of units that have to do with etcd.
const SUFFIXES: [&str; 5] = [".service", ".target", ".mount", ".timer", ".slice"];
/// The longest name, `UNIT_NAME_MAX` of systemd.
const LONGEST: usize = 255;

/// The name of a unit, with its suffix: `etcd.service`, `etcd@m1.service`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitName(String);

/// A text that is no name of a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a unit: expected letters, digits and `:-_.\\@`, such as etcd.service")]
pub struct UnitNameError(String);

impl UnitName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = UnitNameError;

    /// A name without a suffix is that of a service.
    fn from_str(text: &str) -> Result<UnitName, UnitNameError> {
        let suffixed = SUFFIXES.iter().find(|suffix| text.ends_with(*suffix));
        let name = match suffixed {
            Some(_) => text.to_owned(),
            None => format!("{text}.service"),
        };
        let suffix = suffixed.unwrap_or(&SUFFIXES[0]);
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let stem = &name[..name.len() - suffix.len()];
        if stem.is_empty() || stem.starts_with('@') || name.len() > LONGEST || !stem.chars().all(plain) {
            return Err(UnitNameError(text.to_owned()));
        }
        Ok(UnitName(name))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_suffix_is_that_of_a_service() {
        for (text, name) in [
            ("etcd", "etcd.service"),
            ("etcd.service", "etcd.service"),
            ("etcd@m1", "etcd@m1.service"),
            ("etcd@a\\x2fb.service", "etcd@a\\x2fb.service"),
            ("etcd-3.5", "etcd-3.5.service"),
            ("multi-user.target", "multi-user.target"),
        ] {
            assert_eq!(text.parse::<UnitName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(LONGEST);
        for text in ["", ".service", "@.service", "a b", "../etcd", "etcd\n", "é", &long] {
            assert!(text.parse::<UnitName>().is_err(), "{text:?}");
        }
    }
}
