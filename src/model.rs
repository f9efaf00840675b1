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

/// A SHA-256 digest, in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a SHA-256 digest (64 hexadecimal digits)";
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 64 || !text.bytes().all(is_digit) {
            return Err(Invalid::new(text, EXPECTED));
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| Invalid::new(text, EXPECTED))?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| Invalid::new(text, EXPECTED))?;
        }
        Ok(Digest(digest))
    }
}

serde_as_text!(Digest);

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

/// Names a chain and its full backup: the start of the backup in UTC and eight random hexadecimal digits,
/// `20261120T101530Z-9f3c4a1b`. Orders by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(String);

impl ChainId {
    /// The chain that starts at `now` (whole seconds are kept), told from others of the same second by `random`.
    pub fn new(now: jiff::Timestamp, random: u32) -> Self {
        let utc = now.to_zoned(jiff::tz::TimeZone::UTC);
        ChainId(format!("{}-{random:08x}", utc.strftime("%Y%m%dT%H%M%SZ")))
    }

    /// The name as text; safe as one component of a path and as a systemd instance name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The eight random digits.
    pub fn suffix(&self) -> &str {
        self.0.rsplit('-').next().unwrap_or_default()
    }

    /// When the chain was begun, by the clock of the host that began it.
    pub fn started_at(&self) -> jiff::Timestamp {
        let (time, _) = self.0.split_once('-').unwrap_or_default();
        parse_compact_utc(time).expect("checked by the constructor")
    }
}

fn parse_compact_utc(text: &str) -> Option<jiff::Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChainId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts = text.split_once('-').filter(|(time, suffix)| {
            time.len() == 16
                && suffix.len() == 8
                && suffix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                && parse_compact_utc(time).is_some()
        });
        match parts {
            Some(_) => Ok(ChainId(text.to_owned())),
            None => Err(Invalid::new(text, "a backup id (such as 20261120T101530Z-9f3c4a1b)")),
        }
    }
}

serde_as_text!(ChainId);

/// Names one history of a cluster: the cluster id and the random digits of the history's first chain,
/// `cdf818194e3a8c32-9f3c4a1b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageId(String);

impl LineageId {
    /// The lineage that `first` opens.
    pub fn opened_by(cluster: ClusterId, first: &ChainId) -> Self {
        LineageId(format!("{cluster}-{}", first.suffix()))
    }

    /// Whether `chain` is its first.
    pub fn is_opened_by(&self, chain: &ChainId) -> bool {
        self.0.ends_with(chain.suffix())
    }
}

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LineageId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let valid = text.split_once('-').is_some_and(|(cluster, suffix)| {
            cluster.parse::<ClusterId>().is_ok()
                && suffix.len() == 8
                && suffix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        if !valid {
            return Err(Invalid::new(text, "a lineage id (such as cdf818194e3a8c32-9f3c4a1b)"));
        }
        Ok(LineageId(text.to_owned()))
    }
}

serde_as_text!(LineageId);

/// A number of bytes. Parses `512`-less text only with a unit (`64 MiB`, `1.5 GB`, `10 B`); prints with three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = BYTE_UNITS[..4]
            .iter()
            .find(|(_, size)| self.0 >= *size)
            .unwrap_or(&BYTE_UNITS[8]);
        if *size == 1 {
            return f.pad(&format!("{} B", self.0));
        }
        let value = self.0 as f64 / *size as f64;
        let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.decimals$} {unit}"))
    }
}

impl FromStr for ByteSize {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a size with a unit (such as \"64 MiB\" or \"1.5 GB\")";
        let invalid = || Invalid::new(text, EXPECTED);
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let (number, unit) = trimmed.split_at(split);
        let (_, size) = BYTE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
            .ok_or_else(invalid)?;
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let bytes = number * *size as f64;
        if !(0.0..9.0e18).contains(&bytes) {
            return Err(invalid());
        }
        Ok(ByteSize(bytes.round() as u64))
    }
}

/// HashKV as a member reports it: two are comparable only when revision and compact revision are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKv {
    /// The revision that was hashed.
    pub revision: Revision,
    /// The store's compacted revision at that time; -1 for a store that was never compacted.
    pub compact_revision: i64,
    /// CRC-32C over the entries of the key space.
    pub hash: u32,
}

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
    fn ids_print_as_they_parse() {
        for text in ["0", "afc1e72027c1b84", "ffffffffffffffff"] {
            assert_eq!(text.parse::<MemberId>().unwrap().to_string(), text);
        }
        for text in ["", "0x1", "AB", "11111111111111111", "g"] {
            assert!(text.parse::<ClusterId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_chain_is_named_by_second_and_random() {
        let now: jiff::Timestamp = "2026-11-20T10:15:30.9Z".parse().unwrap();
        let chain = ChainId::new(now, 0x9f3c_4a1b);
        assert_eq!(chain.to_string(), "20261120T101530Z-9f3c4a1b");
        assert_eq!(chain.to_string().parse::<ChainId>().unwrap(), chain);
        assert_eq!(chain.started_at().to_string(), "2026-11-20T10:15:30Z");
        for text in [
            "",
            "latest",
            "20261320T101530Z-9f3c4a1b",
            "20261120T101530Z-9F3C4A1B",
            "../20261120T1Z-9f3c4a1b",
        ] {
            assert!(text.parse::<ChainId>().is_err(), "{text}");
        }
    }

    #[test]
    fn cluster_names_are_one_safe_path_component() {
        assert!("prod-1.eu_west".parse::<ClusterName>().is_ok());
        for text in ["", ".", "..", "-x", "Prod", "a/b", "a b", &"x".repeat(64)] {
            assert!(text.parse::<ClusterName>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!("64 MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("1.5GB".parse(), Ok(ByteSize(1_500_000_000)));
        assert!("64".parse::<ByteSize>().is_err());
        assert!("MiB".parse::<ByteSize>().is_err());
        assert_eq!(ByteSize(0).to_string(), "0 B");
        assert_eq!(ByteSize(1_364_000_000).to_string(), "1.27 GiB");
        assert_eq!(ByteSize(33_000_000).to_string(), "31.5 MiB");
    }

    #[test]
    fn revisions_are_not_negative() {
        assert!(Revision::new(-1).is_err());
        assert_eq!(Revision::new(7).unwrap().padded(), "00000000000000000007");
        assert!("+7".parse::<Revision>().is_err());
    }

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
