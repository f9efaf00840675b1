//! Versions as etcd stores them, and the release lines that a database can be meant for.

use std::fmt;
use std::str::FromStr;

use crate::model::Invalid;

/// A release line of etcd that we write data directories for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EtcdLine {
    /// 3.4.x.
    V3_4,
    /// 3.5.x.
    V3_5,
    /// 3.6.x.
    V3_6,
    /// 3.7.x.
    V3_7,
}

impl EtcdLine {
    /// Every line, oldest first.
    pub const ALL: [EtcdLine; 4] = [EtcdLine::V3_4, EtcdLine::V3_5, EtcdLine::V3_6, EtcdLine::V3_7];

    fn major_minor(self) -> (u64, u64) {
        match self {
            EtcdLine::V3_4 => (3, 4),
            EtcdLine::V3_5 => (3, 5),
            EtcdLine::V3_6 => (3, 6),
            EtcdLine::V3_7 => (3, 7),
        }
    }
}

impl fmt::Display for EtcdLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.major_minor();
        write!(f, "{major}.{minor}")
    }
}

impl FromStr for EtcdLine {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        EtcdLine::ALL
            .into_iter()
            .find(|line| line.to_string() == text)
            .ok_or_else(|| Invalid::new(text, "a release line of etcd (3.4, 3.5, 3.6 or 3.7)"))
    }
}

/// A version in a bucket: `3.6.0`, possibly with a pre-release or build after the third number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    major_minor: (u64, u64),
    text: String,
}

impl Version {
    /// Reads a version of at most 64 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a version (such as 3.6.0)";
        let invalid = || Invalid::new(&super::printable(bytes), EXPECTED);
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.len() <= 64)
            .ok_or_else(invalid)?;
        let number = |part: Option<&str>| {
            part.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?
                .parse()
                .ok()
        };
        let mut parts = text.splitn(3, '.');
        let (major, minor) = number(parts.next()).zip(number(parts.next())).ok_or_else(invalid)?;
        let patch = parts.next().and_then(|rest| rest.split(['-', '+']).next());
        number(patch).ok_or_else(invalid)?;
        Ok(Version {
            major_minor: (major, minor),
            text: text.to_owned(),
        })
    }

    /// Whether a server of `line` knows this version.
    pub fn is_known_to(&self, line: EtcdLine) -> bool {
        self.major_minor <= line.major_minor()
    }

    /// Whether it is of a line before that of another.
    pub fn is_before_line_of(&self, other: &Version) -> bool {
        self.major_minor < other.major_minor
    }

    /// Whether the version belongs to `line`.
    pub fn is_of(&self, line: EtcdLine) -> bool {
        self.major_minor == line.major_minor()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_print_as_they_parse() {
        for line in EtcdLine::ALL {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        for text in ["", "3", "3.8", "v3.5", "3.5.1"] {
            assert!(text.parse::<EtcdLine>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_line() {
        let version = Version::decode(b"3.6.0").unwrap();
        assert!(version.is_of(EtcdLine::V3_6));
        assert!(version.is_known_to(EtcdLine::V3_7));
        assert!(!version.is_known_to(EtcdLine::V3_5));
        for (other, expected) in [("3.6.15", false), ("3.5.34", false), ("3.10.0", true), ("4.0.0", true)] {
            let other = Version::decode(other.as_bytes()).unwrap();
            assert_eq!(version.is_before_line_of(&other), expected, "{other}");
        }
        assert_eq!(Version::decode(b"3.6.0-alpha.0").unwrap().to_string(), "3.6.0-alpha.0");
        for bytes in [
            &b""[..],
            b"3.6",
            b"3.6.x",
            b"3..0",
            b"v3.6.0",
            b"\xff.1.2",
            b"3.99999999999999999999.0",
        ] {
            assert!(Version::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
