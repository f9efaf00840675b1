//! The names of backups and their chains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
