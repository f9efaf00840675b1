//! The names of histories.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ChainId, ClusterId, Invalid};

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
